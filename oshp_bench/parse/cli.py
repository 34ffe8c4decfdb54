"""oshp-parse: parses a person's own photos by one annotated example."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from oshp_bench.baselines.methods import open_network
from oshp_bench.console import DIRECTORY, FILE, Command, progress
from oshp_bench.errors import OshpError, raise_problems

if TYPE_CHECKING:
    from oshp_bench.baselines.checkpoints import Checkpoint
    from oshp_bench.parse.own_photos import OwnClass

# Of the order of the benchmark's photos, where a checkpoint is bound to no size; cameras give any.
_SIDE = 512


@click.command(cls=Command)
@click.argument("photos", nargs=-1, type=FILE)
@click.option(
    "--checkpoint",
    default="prototype-matching",
    show_default=True,
    help="Of oshp-train or of EOP-Net's authors; or a method that needs no training.",
)
@click.option("--support", type=FILE, required=True, help="The example's photo.")
@click.option("--mask", type=FILE, required=True, help="Its mask: an 8-bit PNG of class numbers; 255 is not annotated.")
@click.option("--query", "queries", type=FILE, multiple=True, help="A photo to parse; more may follow it.")
@click.option("-o", "--out", "folder", type=DIRECTORY, required=True, help="The folder of masks and overlays.")
@click.option("--names", "named", help="What the numbers mean, such as 5=cape,7=boots; or a TOML or JSON file of that.")
@click.option("--class", "chosen", type=click.IntRange(1, 254), multiple=True, help="Parse this number; else all.")
@click.option("--side", type=click.IntRange(32, 8192), help=f"Longer side of photos; else as in training, or {_SIDE}.")
@click.option("--device", help="Such as cpu or cuda:1; else a GPU where there is one.")
@click.option("--no-screening", is_flag=True, help="Do not let a coarse space screen the classes.")
@click.option("--set", "texts", multiple=True, metavar="NAME=VALUE", help="Change a setting that only matters at test.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def main(
    photos: tuple[Path, ...],
    checkpoint: str,
    support: Path,
    mask: Path,
    queries: tuple[Path, ...],
    folder: Path,
    named: str | None,
    chosen: tuple[int, ...],
    side: int | None,
    device: str | None,
    no_screening: bool,
    texts: tuple[str, ...],
    as_json: bool,
) -> None:
    """Parse PHOTOS into the classes of one annotated example.

    Writes FOLDER/NAME_mask.png, the class numbers, and FOLDER/NAME_overlay.png to look at. A class that the network
    learned in training (by its name, or by its class id where --names has no name for it) is parsed as it was
    learned, in the paper's reading without looking at the example; every other class by the example alone. To have a
    class parsed by the example, give it a name of its own.
    """
    queries = (*queries, *photos)
    if not queries:
        raise OshpError("no photo to parse; give one or more, such as --query q1.jpg q2.jpg")
    outputs = _outputs(queries, folder, (support, mask, *queries))

    from oshp_bench.datasets.images import ImageProblem, photo_size

    problems = []
    for query in queries:
        try:
            photo_size(query)
        except ImageProblem as problem:
            problems.append(f"{query}: {problem}")
    raise_problems(problems)
    network = open_network(checkpoint, device, not no_screening, texts, side)

    from oshp_bench.datasets.images import at_path, read_photo, write_mask
    from oshp_bench.datasets.palette import palette_bytes
    from oshp_bench.datasets.runs import label_counts
    from oshp_bench.files import written_whole
    from oshp_bench.parse.overlay import overlay
    from oshp_bench.parse.own_photos import ExampleParser, own_classes, read_example, read_names

    names = read_names(named) if named else {}
    example = read_example(support, mask)
    lacking = ", ".join(str(each) for each in chosen if each not in example.numbers)
    if lacking:
        raise OshpError(f"{mask}: holds no class {lacking}; it has {', '.join(map(str, example.numbers))}")
    classes = own_classes(sorted(set(chosen)) or example.numbers, names, network)
    parse = ExampleParser(network, example, classes, network.card.test_side or _SIDE)
    called = {each.number: each.name for each in classes}
    palette = palette_bytes([(0, "background"), *called.items()])
    if not as_json:
        click.echo(_announced(network, classes))
    results = []
    for query, (mask_file, overlay_file) in progress(zip(queries, outputs, strict=True), "photos", len(queries)):
        try:
            photo = read_photo(query, upright=True)
        except ImageProblem as problem:
            raise at_path(query, problem) from problem
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
            click.echo(f"{click.format_filename(query)}: {', '.join(found) or 'nothing of it'}")
    if as_json:
        about = [{"number": each.number, "name": each.name, "learned": each.learned} for each in classes]
        click.echo(json.dumps({"network": network.about(), "classes": about, "photos": results}))
        return
    click.echo(f"Look at {folder}")


def _announced(network: Checkpoint, classes: Sequence[OwnClass]) -> str:
    told = (f"{each.name} ({'as learned' if each.learned else 'by the example'})" for each in classes)
    screening = network.network.screening
    screened = "" if screening is None else f"; coarse screening {'on' if screening else 'off'}"
    return f"{network.card.method} parses {', '.join(told)}{screened}"


def _outputs(queries: tuple[Path, ...], folder: Path, inputs: tuple[Path, ...]) -> list[tuple[Path, Path]]:
    """The mask and the overlay of every photo.

    Raises:
        OshpError: two photos of one name, or a file that would be written over a photo or the example's mask.
    """
    stems = [each.stem for each in queries]
    problems = [
        f"{query}: there is more than one photo called {query.stem}; rename one, or parse them into another folder"
        for query in queries
        if stems.count(query.stem) > 1
    ]
    outputs = [(folder / f"{stem}_mask.png", folder / f"{stem}_overlay.png") for stem in stems]
    taken = {each.resolve() for each in inputs}
    problems += [
        f"{path}: would be written over; choose another folder"
        for pair in outputs
        for path in pair
        if path.resolve() in taken
    ]
    raise_problems(problems)
    return outputs
