"""Writes a manifest's training images for trainers: tailored masks as PNGs, or photos and masks in one HDF5 file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from oshp_bench.console import progress
from oshp_bench.datasets.images import COARSE, Mask, Photo, write_mask
from oshp_bench.datasets.palette import palette_bytes
from oshp_bench.datasets.sources import Source
from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.files import canonical_json, readable_json, write_text, written_whole
from oshp_bench.manifest import Manifest
from oshp_bench.manifest.model import meaning_json

MASKS_FORMAT = "oshp-masks/1"
MASKS_INDEX = "masks.json"
PACK_FORMAT = "oshp-pack/1"
LONGEST_SIDE = 640
_COARSE_NAMES = ((0, "background"), (1, "human"))


def _training_ids(manifest: Manifest) -> list[str]:
    """The images of Q_train, then those of S_train."""
    return [*manifest.pools["query_train"], *manifest.pools["support_train"]]


def write_training_masks(manifest: Manifest, source: Source, folder: Path) -> int:
    """Writes the tailored masks of the training images as palette PNGs at native size.

    - `fine/ID.png`: the classes after the merge, novel classes as background; 255 = ignore.
    - `coarse/ID.png`: 1 where the source mask has any label but background, before merge and removal; 255 = ignore.
    - `masks.json`: what the numbers mean. Masks that a previous run has left are kept, so this file must be the same.

    Returns:
        How many images were written; the others were there.

    Raises:
        OshpError: the folder holds masks of another fold or dataset, or every mask that cannot be read.
    """
    index = readable_json(
        {
            "format": MASKS_FORMAT,
            "fold": manifest.fold,
            "classes": manifest.content["classes"],
            "dataset": meaning_json(manifest.dataset),
        }
    )
    marker = folder / MASKS_INDEX
    if (folder / "fine").exists() and not (marker.is_file() and marker.read_bytes() == index.encode()):
        raise OshpError(f"{folder}: holds masks that are not those of {manifest.name}; choose another folder")
    write_text(marker, index)
    outputs = (
        ("fine", manifest.training_classes, palette_bytes((each.id, each.name) for each in manifest.classes)),
        ("coarse", COARSE, palette_bytes(_COARSE_NAMES)),
    )
    written = 0
    problems: list[str] = []
    for image in progress(_training_ids(manifest), "writing masks"):
        wanted = [
            (path, table, palette)
            for kind, table, palette in outputs
            if not (path := folder / kind / f"{image}.png").exists()
        ]
        written += bool(wanted)
        try:
            mask = source.mask(image) if wanted else None
        except OshpError as error:
            problems.extend(error.problems)
            continue
        for path, table, palette in wanted:
            write_mask(path, table[mask], palette)
    raise_problems(problems)
    return written


def write_pack(manifest: Manifest, source: Source, path: Path) -> None:
    """Packs the training photos and masks into one HDF5 file that gives any of them in one short read.

    Photos and masks are shrunk, never enlarged, until their longer side has 640 pixels, photos with an antialiasing
    filter, masks by nearest neighbour. Nothing is compressed: a training sample costs a read and a crop. The images
    of Q_train come first, then those of S_train; image i fills the pixels `start[i]` to `start[i + 1]`, row by row:

    - `ids`: text [n]
    - `sizes`: int32 [n, 2], height and width
    - `start`: int64 [n + 1]
    - `photos`: uint8 [pixels, 3], RGB
    - `masks`: uint8 [pixels], SOURCE labels before the merge, so that a pack serves every fold; 255 = ignore
    - attributes `format` "oshp-pack/1", `manifest`, `digest` (the manifest's), `query_train` (how many images of
      it), `longest_side`, `dataset` (JSON: what the labels mean)

    The same files, Pillow and HDF5 give the same bytes.

    Raises:
        OshpError: every photo or mask that cannot be read.
    """
    import h5py

    images = _training_ids(manifest)
    sizes = np.array([_shrunk(*source.photo_size(image)) for image in images], np.int32)
    start = np.concatenate([[0], np.cumsum(sizes.astype(np.int64).prod(axis=1))])
    problems: list[str] = []
    # HDF5 wants a name, not a file; both lead to the same temporary file.
    with written_whole(path) as file, h5py.File(file.name, "w") as pack:
        attributes = {
            "format": PACK_FORMAT,
            "manifest": manifest.name,
            "digest": manifest.digest,
            "query_train": len(manifest.pools["query_train"]),
            "longest_side": LONGEST_SIDE,
            "dataset": canonical_json(meaning_json(manifest.dataset)).decode(),
        }
        for name, value in attributes.items():
            pack.attrs[name] = value
        for name, values in (("ids", np.array(images, "S")), ("sizes", sizes), ("start", start)):
            pack.create_dataset(name, data=values, track_times=False)
        photos = pack.create_dataset("photos", (start[-1], 3), np.uint8, track_times=False)
        masks = pack.create_dataset("masks", (start[-1],), np.uint8, track_times=False)
        for index, image in enumerate(progress(images, "packing")):
            height, width = sizes[index]
            try:
                photo, mask = source.photo(image), source.mask(image)
            except OshpError as error:
                problems.extend(error.problems)
                continue
            photos[start[index] : start[index + 1]] = _resized(photo, height, width).reshape(-1, 3)
            masks[start[index] : start[index + 1]] = _resized(mask, height, width).reshape(-1)
        raise_problems(problems)


def _shrunk(height: int, width: int) -> tuple[int, int]:
    """The size of an image of this size in a pack."""
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _resized(pixels: Photo | Mask, height: int, width: int) -> Photo | Mask:
    if pixels.shape[:2] == (height, width):
        return pixels
    image = Image.fromarray(pixels)
    how = Image.Resampling.BICUBIC if pixels.ndim == 3 else Image.Resampling.NEAREST
    return np.asarray(image.resize((width, height), how))
