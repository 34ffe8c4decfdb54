"""oshp-train: manifest and training images in, checkpoint out."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from oshp_bench.baselines.registry import named
from oshp_bench.console import DIRECTORY, FILE, Command, listed
from oshp_bench.errors import OshpError
from oshp_bench.training.settings import PRESETS, resolved

_EMBEDDED = "demo_fold1"
_METHODS = listed("Methods", [(known.name, known.summary) for known in named("frozen", "trained").values()])


@click.command(cls=Command, epilog=_METHODS)
@click.option(
    "--manifest", help=f"A manifest's file, or the name of a shipped one; else {_EMBEDDED}, which needs no data."
)
@click.option("--root", type=DIRECTORY, help="The dataset's folder; else OSHP_<DATASET>_ROOT or OSHP_DATA.")
@click.option("--pack", type=FILE, help="Read training images from this pack (oshp-tailor --pack).")
@click.option("--way", type=click.Choice(["k", "1"]), help="k-way (as the presets say) or 1-way.")
@click.option("--method", help="What to train; see below.")
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="The settings to begin with; else paper on a GPU, cpu without, quick without a manifest.",
)
@click.option("--reading", type=click.Choice(["paper", "release"]), help="Short for the preset of that name.")
@click.option("--config", type=FILE, help="A TOML file of settings, such as the settings.toml of a run.")
@click.option("--set", "texts", multiple=True, metavar="NAME=VALUE", help="One setting, such as lr=0.01.")
@click.option("-o", "--out", type=DIRECTORY, help="The run's folder; one that was stopped goes on.")
@click.option("--device", help="Such as cpu or cuda:1; else a GPU where there is one.")
@click.option("--tensorboard", is_flag=True, help="Write for TensorBoard, too, into the run's folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def main(
    manifest: str | None,
    root: Path | None,
    pack: Path | None,
    way: str | None,
    method: str | None,
    preset: str | None,
    reading: str | None,
    config: Path | None,
    texts: tuple[str, ...],
    out: Path | None,
    device: str | None,
    tensorboard: bool,
    as_json: bool,
) -> None:
    """Train a method on a manifest's training images.

    Settings come from a preset, then --config, then --set, then the options here. Several processes train together
    under torchrun: torchrun --nproc-per-node 2 -m oshp_bench.training.cli ...
    """
    if preset and reading and preset != reading:
        raise OshpError(f"--reading {reading} is short for --preset {reading}; leave --preset {preset} away")
    try:
        import torch
    except ImportError as error:
        raise OshpError("training needs torch: pip install 'oshp-bench[train]'") from error

    from oshp_bench.manifest import load_manifest
    from oshp_bench.training.draws import Draws
    from oshp_bench.training.loop import Run, train
    from oshp_bench.training.parallel import processes
    from oshp_bench.training.photos import open_photos
    from oshp_bench.training.run_folder import RunFolder

    preset = preset or reading
    if preset is None:
        gpu = torch.cuda.is_available() and not (device or "").startswith("cpu")
        preset = "quick" if manifest is None else "paper" if gpu else "cpu"
    given = {name: value for name, value in (("way", way), ("method", method)) if value is not None}
    settings = resolved(preset, config, texts, given)
    contract = load_manifest(manifest or _EMBEDDED)
    folder = out or Path("runs", f"{contract.name}-{settings.method}-{settings.way}way")
    run_folder = RunFolder(folder, settings, contract, tensorboard)
    draws = Draws(contract, settings)
    photos, source = open_photos(contract, draws.images, settings.validate_every > 0, root, pack)
    with processes(device) as mine:
        outcome = train(Run(settings, contract, draws, photos, source, run_folder, mine))
    if not mine.first:
        return
    options = [
        "--manifest",
        manifest or _EMBEDDED,
        *(("--root", str(root)) if root else ()),
        "-o",
        str(folder / "preds"),
    ]
    predict = ["oshp-predict", str(outcome.checkpoint), *options]
    if as_json:
        result = {
            "checkpoint": str(outcome.checkpoint),
            "epoch": outcome.epoch,
            "validation": outcome.figure,
            "seconds": round(outcome.seconds, 1),
            "next": predict,
        }
        click.echo(json.dumps(result))
        return
    figure = "" if outcome.figure is None else f", C_base mIoU {100 * outcome.figure:.2f} % on the validation list"
    click.echo(f"{outcome.checkpoint}: {settings.method}, {settings.way}-way, epoch {outcome.epoch}{figure}")
    more = "" if outcome.figure is None else ", validation.csv, curves.png, sheets/"
    click.echo(f"Look into {folder}: metrics.csv{more}")
    click.echo(f"Predict: {shlex.join(predict)}")


if __name__ == "__main__":
    main()
