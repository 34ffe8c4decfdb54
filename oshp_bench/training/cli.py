"""oshp-train: manifest and training images in, checkpoint out."""

from __future__ import annotations

import json
import shlex
from contextlib import nullcontext
from pathlib import Path

import click

from oshp_bench.baselines.backbones import BACKBONES, HUB, HUB_SUMMARY
from oshp_bench.baselines.registry import REFERENCE, named
from oshp_bench.baselines.settings import as_toml
from oshp_bench.console import (
    FILE,
    Command,
    check_outputs,
    device_option,
    echo,
    json_option,
    listed,
    manifest_option,
    out_option,
    root_option,
    set_option,
    version_option,
    way_option,
)
from oshp_bench.errors import MissingPackage, OshpError
from oshp_bench.training.settings import PRESETS, read_changes, resolved

_EMBEDDED = "demo_fold1"
_BACKBONES = [*((name, recipe.summary) for name, recipe in BACKBONES.items()), (f"{HUB}NAME", HUB_SUMMARY)]
_HELP = "\n\n".join(
    (
        listed("Methods", [(name, known.summary) for name, known in named("frozen", "trained").items()]),
        listed("Backbones (--set backbone=NAME)", _BACKBONES),
    )
)


@click.command(cls=Command, epilog=_HELP)
@manifest_option(f"  [default: {_EMBEDDED}, which needs no data]")
@root_option
@click.option("--pack", type=FILE, help="Read training images from this file, written by oshp-tailor --pack.")
@click.option(
    "--all-classes",
    is_flag=True,
    help="Train on novel classes too, for oshp-parse; oshp-predict then refuses the checkpoint.",
)
@way_option("Train for k-way or 1-way parsing.  [default: the method's usual way]", both=False)
@click.option("--method", help=f"What to train; see below.  [default: {REFERENCE}]")
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="Settings to begin with.  [default: quick without --manifest, else paper on a GPU, cpu without]",
)
@click.option("--reading", type=click.Choice(["paper", "release"]), help="Another name for --preset paper or release.")
@click.option("--config", type=FILE, help="TOML file of settings, such as the settings.toml of a run.")
@set_option("Change a setting, such as lr=0.01.")
@click.option("--list-settings", is_flag=True, help="Print all settings with their meaning as TOML for --config; exit.")
@out_option("Folder of the run; a run that was stopped continues.  [default: runs/...]")
@device_option
@click.option(
    "--patience",
    type=click.IntRange(1, 10_000),
    default=60,
    show_default=True,
    help="Minutes until a process of torchrun that hangs ends the run; validation must be faster.",
)
@click.option("--tensorboard", is_flag=True, help="Also write for TensorBoard, into the folder of the run.")
@json_option
@version_option
def main(
    manifest: str | None,
    root: Path | None,
    pack: Path | None,
    all_classes: bool,
    way: str | None,
    method: str | None,
    preset: str | None,
    reading: str | None,
    config: Path | None,
    changes: tuple[str, ...],
    list_settings: bool,
    out: Path | None,
    device: str | None,
    patience: int,
    tensorboard: bool,
    as_json: bool,
) -> None:
    """Train a method on a manifest's training images.

    Settings come from a preset, then --config, then --set, then the options here. Several processes train together
    under torchrun: torchrun --nproc-per-node 2 -m oshp_bench.training.cli ...
    """
    if preset and reading and preset != reading:
        raise OshpError(f"--reading {reading} means --preset {reading}; remove --preset {preset}")
    given = {name: value for name, value in (("way", way), ("method", method)) if value is not None}
    changed = read_changes(config, changes, given)
    try:
        import torch
    except ImportError as error:
        raise MissingPackage("training", "torch", "train") from error

    from oshp_bench.episodes.training_photos import open_photos
    from oshp_bench.files import reserved
    from oshp_bench.manifest import load_manifest, manifest_path
    from oshp_bench.training.loop import Run, train
    from oshp_bench.training.parallel import processes
    from oshp_bench.training.run_folder import RunFolder
    from oshp_bench.training.samples import draws_of

    preset = preset or reading
    if preset is None:
        gpu = torch.cuda.is_available() and not (device or "").startswith("cpu")
        preset = "quick" if manifest is None else "paper" if gpu else "cpu"
    settings = resolved(preset, changed)
    if list_settings:
        echo(as_toml(settings, commented=True), nl=False)
        return
    contract = load_manifest(manifest or _EMBEDDED)
    if all_classes:
        contract = contract.all_base()
    folder = out or Path("runs", f"{contract.name}-{settings.method}-{settings.way}way")
    inputs = [manifest_path(manifest or _EMBEDDED), pack, Path(settings.weights) if settings.weights else None]
    # A run that goes on may read its own settings.
    check_outputs(RunFolder.files(folder), [*inputs, None if (folder / "run.json").exists() else config])
    run_folder = RunFolder(folder, settings, contract, tensorboard)
    draws = draws_of(contract, settings)
    photos, source = open_photos(contract, draws.images, settings.validate_every > 0, root, pack)
    with processes(device, patience) as mine, reserved(folder) if mine.first else nullcontext():
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
    after = ["oshp-predict", str(outcome.checkpoint), *options]
    if all_classes:
        example = ["--support", "s.jpg", "--mask", "s.png", "-o", str(folder / "parsed"), "photo.jpg"]
        after = ["oshp-parse", "--checkpoint", str(outcome.checkpoint), *example]
    if as_json:
        result = {
            "checkpoint": str(outcome.checkpoint),
            "epoch": outcome.epoch,
            "validation": outcome.figure,
            "seconds": round(outcome.seconds, 1),
            "next": after,
        }
        echo(json.dumps(result))
        return
    figure = "" if outcome.figure is None else f", C_base mIoU {100 * outcome.figure:.2f} % on the validation list"
    echo(f"{outcome.checkpoint}: {settings.method}, {settings.way}-way, epoch {outcome.epoch}{figure}")
    more = "" if outcome.figure is None else ", validation.csv, curves.png, sheets/"
    echo(f"Look into {folder}: metrics.csv{more}")
    echo(f"{'Parse' if all_classes else 'Predict'}: {shlex.join(after)}")


if __name__ == "__main__":
    main()
