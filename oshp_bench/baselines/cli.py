"""oshp-predict: runs a method on a manifest's pairs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from oshp_bench.baselines.methods import METHODS, find_method
from oshp_bench.console import DIRECTORY, Command, progress

_HELP = "\b\nMethods:\n" + "\n".join(f"  {recipe.name:13} {recipe.summary}" for recipe in METHODS.values())


@click.command(cls=Command, epilog=_HELP)
@click.argument("method")
@click.option("--manifest", required=True, help="A manifest's file, or the name of a shipped one.")
@click.option("--root", type=DIRECTORY, help="The dataset's folder; else OSHP_<DATASET>_ROOT or OSHP_DATA.")
@click.option("-o", "--out", "folder", type=DIRECTORY, required=True, help="The folder of the predictions.")
@click.option("--way", type=click.Choice(["k", "1", "both"]), default="both", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def main(method: str, manifest: str, root: Path | None, folder: Path, way: str, as_json: bool) -> None:
    """Predict a manifest's test pairs with METHOD, into FOLDER/kway and FOLDER/1way.

    Predictions that are there already are kept, so a run that was stopped goes on with the same command.
    """
    recipe = find_method(method)

    from oshp_bench.baselines.episodes import WAYS, Episodes, ImageCache
    from oshp_bench.baselines.writer import PredictionWriter
    from oshp_bench.datasets.sources import find_source
    from oshp_bench.manifest import load_manifest

    contract = load_manifest(manifest)
    source = find_source(contract.dataset, root)
    images = ImageCache(source)
    writers = {each: PredictionWriter(folder, contract, recipe.name, each) for each in WAYS if way in (each, "both")}
    todo = {each: Episodes(contract.pairs, images, each, writer.missing()) for each, writer in writers.items()}
    for episodes in todo.values():
        episodes.check_files()
    if any(map(len, todo.values())):
        predict = recipe.build(contract, source)
        for each, episodes in todo.items():
            for episode in progress(episodes, f"{each}-way", len(episodes)):
                writers[each].write(episode, predict(episode))

    score = ["oshp-score", str(folder), "--manifest", manifest, *(("--root", str(root)) if root else ())]
    total = len(contract.pairs)
    if as_json:
        result = {
            "method": recipe.name,
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
    click.echo(f"Score them: {shlex.join(score)}")
