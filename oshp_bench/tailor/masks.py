"""Writes the tailored masks of a manifest's training images as PNGs, for trainers of any kind."""

from __future__ import annotations

from pathlib import Path

from oshp_bench.console import progress
from oshp_bench.datasets.images import COARSE, write_mask
from oshp_bench.datasets.palette import palette_bytes
from oshp_bench.datasets.sources import Source
from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.files import readable_json, write_text
from oshp_bench.manifest import Manifest
from oshp_bench.manifest.model import meaning_json

_FORMAT = "oshp-masks/1"
MASKS_INDEX = "masks.json"
_COARSE_NAMES = {0: "background", 1: "human"}


def write_training_masks(manifest: Manifest, source: Source, folder: Path) -> None:
    """Writes the tailored masks of the training images as palette PNGs at native size.

    - `fine/ID.png`: the classes after the merge, novel classes as background; 255 = ignore.
    - `coarse/ID.png`: 1 where the source mask has any label but background, before merge and removal; 255 = ignore.
    - `masks.json`: what the numbers mean. Masks that a previous run has left are kept, so this file must be the same.

    Raises:
        OshpError: the folder holds masks of another fold or dataset, or every mask that cannot be read.
    """
    index = readable_json(
        {
            "format": _FORMAT,
            "fold": manifest.fold,
            "classes": manifest.content["classes"],
            "dataset": meaning_json(manifest.dataset),
        }
    )
    marker = folder / MASKS_INDEX
    if (folder / "fine").exists() and not (marker.is_file() and marker.read_bytes() == index.encode()):
        raise OshpError(f"{folder}: holds masks that are not those of {manifest.name}; choose another folder")
    write_text(marker, index)
    palettes = {"fine": palette_bytes(manifest.names), "coarse": palette_bytes(_COARSE_NAMES)}
    problems: list[str] = []
    for image in progress(manifest.training_images, "writing masks"):
        lacking = [kind for kind in palettes if not (folder / kind / f"{image}.png").exists()]
        if not lacking:
            continue
        try:
            mask = source.mask(image)
        except OshpError as error:
            problems.extend(error.problems)
            continue
        tailored = {"fine": manifest.training_classes.take(mask), "coarse": COARSE.take(mask)}
        for kind in lacking:
            write_mask(folder / kind / f"{image}.png", tailored[kind], palettes[kind])
    raise_problems(problems)
