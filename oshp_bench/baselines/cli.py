"""oshp-predict: runs a method on a manifest's pairs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from oshp_bench.baselines.registry import named
from oshp_bench.baselines.use import Use, find_method
from oshp_bench.console import (
    Command,
    check_outputs,
    device_option,
    echo,
    json_option,
    listed,
    manifest_option,
    out_option,
    progress,
    root_option,
    set_option,
    side_option,
    version_option,
    way_option,
)
from oshp_bench.errors import OshpError

if TYPE_CHECKING:
    from oshp_bench.manifest import Pairs

_HELP = "\n\n".join(
    listed(title, [(known.name, known.summary) for known in named(*kinds).values()])
    for title, kinds in (("Methods", ("rule", "frozen")), ("Methods that need a CHECKPOINT", ("trained",)))
)


@click.command(cls=Command, epilog=_HELP)
@click.argument("method", metavar="METHOD|CHECKPOINT")
@manifest_option("  [default: the checkpoint's]")
@root_option
@out_option("Folder of the predictions.", required=True)
@way_option("Predict one way only; some methods can parse only one.  [default: both]")
@device_option
@set_option("Change a setting of a network that only matters at test, such as screening=false.")
@side_option("as in the network's validation")
@click.option(
    "--workers",
    type=click.IntRange(0, 64),
    default=1,
    show_default=True,
    help="Threads that read photos ahead for a network; they do not change the predictions.",
)
@json_option
@version_option
def main(
    method: str,
    manifest: str | None,
    root: Path | None,
    out: Path,
    way: str | None,
    device: str | None,
    changes: tuple[str, ...],
    side: int | None,
    workers: int,
    as_json: bool,
) -> None:
    """Predict a manifest's test pairs into OUT/kway and OUT/1way.

    METHOD is a method from the list below, or one whose weights come with the package. CHECKPOINT is a file written by
    oshp-train or published by EOP-Net's authors. Predictions that exist are kept: run the same command again to
    continue after an interruption.
    """
    predictor = find_method(method, Use(device, changes, side), manifest)
    manifest = manifest or predictor.manifest
    if manifest is None:
        raise OshpError(f"{method} belongs to no shipped manifest; give --manifest")

    from oshp_bench.datasets.sources import find_source
    from oshp_bench.episodes.episodes import Episodes
    from oshp_bench.episodes.reading_ahead import ReadingCache
    from oshp_bench.episodes.writer import CARD, PredictionWriter
    from oshp_bench.files import reserved
    from oshp_bench.manifest import load_manifest, manifest_path

    ways = [known for known in predictor.ways if way in (known, None)]
    if not ways:
        raise OshpError(f"{method} parses {' and '.join(predictor.ways)}-way only; remove --way {way}")
    contract = load_manifest(manifest)
    check_outputs([out / CARD], [Path(method), manifest_path(manifest)])
    predictor.check(contract)
    source = find_source(contract.dataset, root)
    images = ReadingCache(source)
    writers = {way: PredictionWriter(out, contract, predictor.name, way, predictor.about) for way in ways}
    todo = {
        way: Episodes(contract.pairs, images, way, _by_query(contract.pairs, writer.missing()))
        for way, writer in writers.items()
    }
    for episodes in todo.values():
        episodes.check_files()
    if any(map(len, todo.values())):
        click.get_current_context().with_resource(reserved(out))
        predict = predictor.build(contract, source)
        for asked, episodes in todo.items():
            coming = images.ahead(episodes, workers if predictor.about else 0)
            for episode in progress(coming, f"{asked}-way", len(episodes)):
                writers[asked].write(episode, predict(episode))
    for writer in writers.values():
        writer.finish()

    score = ["oshp-score", str(out), "--manifest", manifest, *(("--root", str(root)) if root else ())]
    total = len(contract.pairs)
    if as_json:
        result = {
            "method": predictor.name,
            **({"network": predictor.about} if predictor.about else {}),
            "manifest": contract.name,
            "test_digest": contract.test_digest,
            "folder": str(out),
            "predictions": {
                f"{way}way": {"written": len(episodes), "kept": total - len(episodes)} for way, episodes in todo.items()
            },
            "next": score,
        }
        echo(json.dumps(result))
        return
    for asked, episodes in todo.items():
        kept = f" ({total - len(episodes)} of them were there)" if len(episodes) < total else ""
        echo(f"{writers[asked].folder}: {total} {asked}-way predictions of {predictor.name}{kept}")
    if predictor.summary:
        echo(predictor.summary)
    echo(f"Score them: {shlex.join(score)}")


def _by_query(pairs: Pairs, indices: tuple[int, ...]) -> list[int]:
    """Pairs ordered by query, so that each query is encoded once; queries and their pairs stay in the list's order."""
    place = {query: number for number, query in enumerate(pairs.queries)}
    return sorted(indices, key=lambda index: place[pairs.query[index]])
