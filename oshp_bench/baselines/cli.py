"""oshp-predict: runs a method on a manifest's pairs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oshp_bench.baselines.methods import METHODS, find_method
from oshp_bench.baselines.registry import LEARNERS
from oshp_bench.console import DIRECTORY, Command, progress
from oshp_bench.errors import OshpError

if TYPE_CHECKING:
    from oshp_bench.manifest import Pairs

_NAMED = [(each.name, each.summary) for each in METHODS.values()] + [
    (each.name, each.summary) for each in LEARNERS.values()
]
_HELP = "\b\nMethods:\n" + "\n".join(f"  {name:20} {summary}" for name, summary in _NAMED)


@click.command(cls=Command, epilog=_HELP)
@click.argument("method", metavar="METHOD|CHECKPOINT")
@click.option("--manifest", help="A manifest's file, or the name of a shipped one; else the checkpoint's own.")
@click.option("--root", type=DIRECTORY, help="The dataset's folder; else OSHP_<DATASET>_ROOT or OSHP_DATA.")
@click.option("-o", "--out", "folder", type=DIRECTORY, required=True, help="The folder of the predictions.")
@click.option(
    "--way", type=click.Choice(["k", "1", "both"]), default="both", show_default=True, help="As far as METHOD can."
)
@click.option("--device", help="Of a network, such as cpu or cuda:1; else a GPU where there is one.")
@click.option("--no-screening", is_flag=True, help="Of a network with a coarse space: let it not screen the classes.")
@click.option(
    "--set",
    "texts",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a setting of a network that only matters at test, such as layout=0.",
)
@click.option(
    "--side", type=click.IntRange(32, 8192), help="Of a network: the longer side of photos; else as in validation."
)
@click.option(
    "--workers",
    type=click.IntRange(0, 64),
    default=1,
    show_default=True,
    help="Threads that read photos ahead for a network; predictions are the same for any number.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def main(
    method: str,
    manifest: str | None,
    root: Path | None,
    folder: Path,
    way: str,
    device: str | None,
    no_screening: bool,
    texts: tuple[str, ...],
    side: int | None,
    workers: int,
    as_json: bool,
) -> None:
    """Predict a manifest's test pairs into FOLDER/kway and FOLDER/1way.

    METHOD is one of those below, or a CHECKPOINT of oshp-train or of EOP-Net's authors; what has to be trained needs
    one. Predictions that are there already are kept, so a run that was stopped goes on with the same command.
    """
    recipe = find_method(method, device, not no_screening, texts, side)
    manifest = manifest or recipe.manifest
    if manifest is None:
        raise OshpError(f"{method} is bound to no shipped manifest; give --manifest")

    from oshp_bench.datasets.sources import find_source
    from oshp_bench.episodes.episodes import Episodes
    from oshp_bench.episodes.reading_ahead import ReadingCache
    from oshp_bench.episodes.writer import PredictionWriter
    from oshp_bench.manifest import load_manifest

    ways = [each for each in recipe.ways if way in (each, "both")]
    if not ways:
        raise OshpError(f"{method} parses {' and '.join(recipe.ways)}-way alone; leave --way away")
    contract = load_manifest(manifest)
    recipe.check(contract)
    source = find_source(contract.dataset, root)
    images = ReadingCache(source)
    writers = {each: PredictionWriter(folder, contract, recipe.name, each, recipe.about) for each in ways}
    todo = {
        each: Episodes(contract.pairs, images, each, _by_query(contract.pairs, writer.missing()))
        for each, writer in writers.items()
    }
    for episodes in todo.values():
        episodes.check_files()
    if any(map(len, todo.values())):
        predict = recipe.build(contract, source)
        for each, episodes in todo.items():
            coming = images.ahead(episodes, workers if recipe.about else 0)
            for episode in progress(coming, f"{each}-way", len(episodes)):
                writers[each].write(episode, predict(episode))

    score = ["oshp-score", str(folder), "--manifest", manifest, *(("--root", str(root)) if root else ())]
    total = len(contract.pairs)
    if as_json:
        result = {
            "method": recipe.name,
            **({"network": recipe.about} if recipe.about else {}),
            "manifest": contract.name,
            "test_digest": contract.test_digest,
            "folder": str(folder),
            "predictions": {
                f"{each}way": {"written": len(episodes), "kept": total - len(episodes)}
                for each, episodes in todo.items()
            },
            "next": score,
        }
        click.echo(json.dumps(result))
        return
    for each, episodes in todo.items():
        kept = f" ({total - len(episodes)} of them were there)" if len(episodes) < total else ""
        click.echo(f"{writers[each].folder}: {total} {each}-way predictions of {recipe.name}{kept}")
    if recipe.about:
        click.echo(described(recipe.about))
    click.echo(f"Score them: {shlex.join(score)}")


def described(network: Mapping[str, Any]) -> str:
    """What `Checkpoint.about` says, in a line for people."""
    digest, screening, side = network["digest"], network["screening"], network["photo_side"]
    changed = network.get("changed")
    parts = (
        f"{network['checkpoint']} ({digest[:19]})" if digest else "no checkpoint",
        f"epoch {network['epoch']} on {network['trained_on']}" if network["trained_on"] else None,
        f"{network['backbone']}, {network['parameters']:,} parameters",
        f"parsed by {network['head']}" if network["head"] else None,
        None if screening is None else f"coarse screening {'on' if screening else 'off'}",
        f"changed: {', '.join(f'{name}={json.dumps(value)}' for name, value in changed.items())}" if changed else None,
        f"photos at {f'{side} pixels' if side else 'native size'}, predictions at native size",
    )
    return "; ".join(part for part in parts if part)


def _by_query(pairs: Pairs, indices: tuple[int, ...]) -> list[int]:
    """The pairs of one query after each other, so that it is encoded once; else in the order of the list."""
    place = {query: number for number, query in enumerate(pairs.queries)}
    return sorted(indices, key=lambda index: place[pairs.query[index]])
