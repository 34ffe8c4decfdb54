"""oshp-parse: parses a person's own photos by one annotated example."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from oshp_bench.baselines.registry import named
from oshp_bench.baselines.shipped import FOR_PHOTOS, shipped_checkpoints
from oshp_bench.baselines.use import Use, open_network
from oshp_bench.console import (
    FILE,
    Command,
    check_outputs,
    device_option,
    echo,
    json_option,
    listed,
    out_option,
    progress,
    set_option,
    side_option,
    version_option,
)
from oshp_bench.errors import OshpError, raise_problems

if TYPE_CHECKING:
    from oshp_bench.baselines.checkpoints import Checkpoint
    from oshp_bench.parse.own_photos import OwnClass

# Of the order of the benchmark's photos, where a checkpoint is bound to no size; cameras give any.
_SIDE = 512


@click.command(
    cls=Command,
    epilog=listed("Methods for --checkpoint", [(known.name, known.summary) for known in named("frozen").values()]),
)
@click.argument("photos", nargs=-1, type=FILE)
@click.option(
    "--checkpoint",
    help="A file written by oshp-train or published by EOP-Net's authors, or a method that needs no training."
    "  [default: the weights that come with the package, else prototype-matching]",
)
@click.option(
    "--support",
    "supports",
    type=FILE,
    multiple=True,
    required=True,
    help="Photo of an annotated example; repeat it with its --mask for more.",
)
@click.option(
    "--mask",
    "masks",
    type=FILE,
    multiple=True,
    required=True,
    help="Its mask: a PNG of class numbers, 255 not annotated; or the JSON of labelme or COCO.",
)
@click.option("--query", "queries", type=FILE, multiple=True, help="A photo to parse; more photos may follow.")
@out_option("Folder of the masks and overlays.", required=True)
@click.option("--names", "names_text", help="Names of the numbers: 5=cape,7=boots, or a TOML or JSON file.")
@click.option(
    "--class", "chosen", type=click.IntRange(1, 254), multiple=True, help="Number of a class to parse.  [default: all]"
)
@side_option(f"as in the network's validation, else {_SIDE}")
@device_option
@set_option("Change a setting of the network that only matters at test, such as screening=false.")
@json_option
@version_option
def main(
    photos: tuple[Path, ...],
    checkpoint: str | None,
    supports: tuple[Path, ...],
    masks: tuple[Path, ...],
    queries: tuple[Path, ...],
    out: Path,
    names_text: str | None,
    chosen: tuple[int, ...],
    side: int | None,
    device: str | None,
    changes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Parse PHOTOS into the classes of one annotated example, or of several.

    For every photo it writes OUT/NAME_mask.png with the class numbers, and OUT/NAME_overlay.png to look at.

    A class that the network learned in training is parsed as it was learned; in the paper's reading the example is then
    not looked at. A class is known by its name: in a JSON mask, by --names, or with --checkpoint by its class id. Every
    other class is parsed by the example alone; to parse a learned class by the example, give it a name of its own.
    """
    by_id = checkpoint is not None
    checkpoint = checkpoint or (FOR_PHOTOS if FOR_PHOTOS in shipped_checkpoints() else "prototype-matching")
    queries = (*queries, *photos)
    if not queries:
        raise OshpError("no photo to parse; give one or more, such as --query q1.jpg q2.jpg")
    outputs = _outputs(queries, out)
    check_outputs(chain(*outputs), (*supports, *masks, *queries, *map(Path, filter(None, (checkpoint, names_text)))))

    _check_readable(queries)
    network = open_network(checkpoint, Use(device, changes, side))

    from oshp_bench.datasets.images import write_mask
    from oshp_bench.datasets.palette import palette_bytes
    from oshp_bench.datasets.runs import label_counts
    from oshp_bench.files import written_whole
    from oshp_bench.parse.annotations import read_examples
    from oshp_bench.parse.overlay import overlay
    from oshp_bench.parse.own_photos import ExampleParser, own_classes, read_names, read_upright

    names = read_names(names_text) if names_text else {}
    examples, names = read_examples(supports, masks, names)
    shown = sorted({number for example in examples for number in example.numbers})
    lacking = ", ".join(str(number) for number in chosen if number not in shown)
    if lacking:
        raise OshpError(f"{', '.join(map(str, masks))}: holds no class {lacking}; it has {', '.join(map(str, shown))}")
    if not by_id:
        # Nobody who names no checkpoint knows its class ids.
        names = {number: f"class {number}" for number in shown} | names
    classes = own_classes(sorted(set(chosen)) or shown, names, network)
    parse = ExampleParser(network, examples, classes, network.card.test_side or _SIDE)
    called = {own.number: own.name for own in classes}
    palette = palette_bytes({0: "background", **called})
    if not as_json:
        echo(_announced(network, classes))
    results = []
    for query, (mask_file, overlay_file) in progress(zip(queries, outputs, strict=True), "photos", len(queries)):
        photo = read_upright(query)
        parsed = parse(str(query), photo)
        write_mask(mask_file, parsed, palette)
        with written_whole(overlay_file) as file:
            overlay(photo, parsed, called).save(file, "PNG")
        shares = label_counts(parsed) / parsed.size
        results.append(
            {
                "query": str(query),
                "mask": str(mask_file),
                "overlay": str(overlay_file),
                "shares": {str(number): round(float(shares[number]), 6) for number in (0, *called)},
            }
        )
        if not as_json:
            found = [f"{name} {100 * shares[number]:.1f} %" for number, name in called.items() if shares[number]]
            echo(f"{click.format_filename(query)}: {', '.join(found) or 'nothing of it'}")
    if as_json:
        about = [{"number": own.number, "name": own.name, "learned": own.learned} for own in classes]
        echo(json.dumps({"network": network.about(), "classes": about, "photos": results}))
        return
    echo(f"Look at {out}")


def _check_readable(photos: Sequence[Path]) -> None:
    """Looks at every photo's size, before anything is computed.

    Raises:
        OshpError: every photo that cannot be read.
    """
    from oshp_bench.datasets.images import ImageProblem, photo_size

    problems = []
    for photo in photos:
        try:
            photo_size(photo)
        except ImageProblem as problem:
            problems.append(f"{photo}: {problem}")
    raise_problems(problems)


def _announced(network: Checkpoint, classes: Sequence[OwnClass]) -> str:
    told = (f"{own.name} ({'as learned' if own.learned else 'by the example'})" for own in classes)
    return "; ".join((f"{network.card.method} parses {', '.join(told)}", *network.network.described()))


def _outputs(queries: tuple[Path, ...], folder: Path) -> list[tuple[Path, Path]]:
    """The paths of the mask and the overlay of every photo.

    Raises:
        OshpError: two photos of one name.
    """
    stems = [query.stem for query in queries]
    raise_problems(
        f"{query}: there is more than one photo called {query.stem}; rename one, or parse them into another folder"
        for query in queries
        if stems.count(query.stem) > 1
    )
    return [(folder / f"{stem}_mask.png", folder / f"{stem}_overlay.png") for stem in stems]
