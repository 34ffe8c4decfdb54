"""Training photos and masks, from the dataset's own files or from a pack that oshp-tailor wrote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from oshp_bench.datasets.images import Mask, Photo
from oshp_bench.datasets.labels import UNKNOWN
from oshp_bench.datasets.runs import label_counts
from oshp_bench.datasets.sources import Source, find_source, unknown_label_problem
from oshp_bench.errors import OshpError, raise_problems, shortened
from oshp_bench.files import canonical_json
from oshp_bench.manifest import Manifest
from oshp_bench.manifest.model import meaning_json
from oshp_bench.tailor.export import PACK_FORMAT

_AGAIN = "write it again with oshp-tailor --pack"
_WANTED = ("query_train", "support_train")
# What h5py raises for a file that is cut off, of another kind, or without the parts of a pack.
_UNREADABLE = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError)


class TrainingPhotos(Protocol):
    """Photos and masks by image id; they go to worker processes, so they are small and can be pickled."""

    def read(self, image_id: str) -> tuple[Photo, Mask]:
        """A photo, uint8 [H, W, 3] RGB, and its mask of source labels, before the merge: uint8 [H, W]; 255 = ignore.

        Raises:
            OshpError: missing or damaged.
        """
        ...


def open_photos(
    manifest: Manifest, drawn: Iterable[str], validated: bool, root: Path | None, pack: Path | None
) -> tuple[TrainingPhotos, Source | None]:
    """Finds the photos and masks to train with, and looks for every file that will be read.

    Args:
        drawn: the images of the training episodes.
        validated: whether the images of the validation list are read, too, which is always from the dataset's files.
        root: the dataset's folder; None takes what the environment says.
        pack: read the training images from this pack.

    Returns:
        Where training images come from, and the dataset, or None where the pack is enough.

    Raises:
        OshpError: no dataset, no pack, or every file that is missing or cut off.
    """
    packed = Pack(pack, manifest) if pack else None
    if packed and not validated:
        return packed, None
    source = find_source(manifest.dataset, root)
    needed = [] if packed else list(drawn)
    if validated and manifest.validation:
        needed += (*manifest.validation.query, *manifest.validation.support)
    needed = list(dict.fromkeys(needed))
    raise_problems(shortened(source.file_problems(needed, needed, "training image")))
    return packed or Files(source, manifest), source


class Files:
    """The photos and masks of a dataset's own files, each checked against the manifest as it is read."""

    def __init__(self, source: Source, manifest: Manifest) -> None:
        self._source = source
        self._promised = {image: present for pool in _WANTED for image, present in manifest.pools[pool].items()}

    def read(self, image_id: str) -> tuple[Photo, Mask]:
        """See TrainingPhotos.

        Raises:
            OshpError: also a mask that is not of its photo's size, or not the one that the manifest was made from.
        """
        source = self._source
        photo, mask = source.photo(image_id), source.mask(image_id)
        origin = source.mask_path(image_id) or image_id
        if mask.shape != photo.shape[:2]:
            raise OshpError(
                f"{origin}: {mask.shape[1]}x{mask.shape[0]} pixels, but its photo has"
                f" {photo.shape[1]}x{photo.shape[0]}; take both from one copy of the dataset"
            )
        held = _held(mask, source.dataset.merge)
        if UNKNOWN in held:
            raise OshpError(unknown_label_problem(source, image_id))
        absent = [str(each) for each in self._promised[image_id] or () if each not in held]
        if absent:
            raise OshpError(
                f"{origin}: holds no class {', '.join(absent)}, but the manifest says so; other masks than it was made"
                " from? Check with oshp-manifest verify"
            )
        return photo, mask


class Pack:
    """The photos and masks of a pack (`oshp-tailor --pack`), read one by one.

    The file is opened at first use, once in every process.

    Args:
        manifest: the pack must hold its training images, with the same meaning of labels; the fold does not matter.

    Raises:
        OshpError: no pack, one of another dataset, or one that lacks training images.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._path = path
        self._merge = manifest.dataset.merge
        meaning = canonical_json(meaning_json(manifest.dataset)).decode()
        try:
            attributes, ids, shapes = self._contents()
        except _UNREADABLE as error:
            raise OshpError(f"{path}: no pack that can be read; {_AGAIN}") from error
        if attributes.get("format") != PACK_FORMAT:
            raise OshpError(f'{path}: no pack (its "format" is not "{PACK_FORMAT}")')
        if attributes.get("dataset") != meaning:
            raise OshpError(f"{path}: its labels do not mean those of {manifest.name}; pack this manifest's dataset")
        self._place: Mapping[str, int] = {each: index for index, each in enumerate(ids)}
        wanted = [image for pool in _WANTED for image in manifest.pools[pool]]
        lacking = [each for each in wanted if each not in self._place]
        raise_problems(shortened([f"{path}: lacks the training image {each} of {manifest.name}" for each in lacking]))
        pixels = shapes["masks"][:1]
        if shapes != {"sizes": (len(ids), 2), "start": (len(ids) + 1,), "photos": (*pixels, 3), "masks": pixels}:
            raise OshpError(f"{path}: its parts do not fit each other; {_AGAIN}")

    def read(self, image_id: str) -> tuple[Photo, Mask]:
        """See TrainingPhotos."""
        place = self._place[image_id]
        try:
            file, sizes, start = self._opened
            (height, width), (first, last) = sizes[place].tolist(), start[place : place + 2].tolist()
            if not 0 <= first < last == first + height * width:
                raise ValueError
            photo = file["photos"][first:last].reshape(height, width, 3)
            mask = file["masks"][first:last].reshape(height, width)
            if UNKNOWN in _held(mask, self._merge):
                raise ValueError
            return photo, mask
        except _UNREADABLE as error:
            raise OshpError(f"{self._path}: {image_id} is damaged in it; {_AGAIN}") from error

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_place": self._place, "_merge": self._merge}

    def _contents(self) -> tuple[dict[str, Any], list[str], dict[str, tuple[int, ...]]]:
        import h5py

        with h5py.File(self._path) as file:
            ids = [each.decode() for each in file["ids"][:]]
            return dict(file.attrs), ids, {name: file[name].shape for name in ("sizes", "start", "photos", "masks")}

    @cached_property
    def _opened(self) -> tuple[Any, NDArray[np.int32], NDArray[np.int64]]:
        import h5py

        file = h5py.File(self._path)
        return file, file["sizes"][:], file["start"][:]


def _held(mask: Mask, merge: NDArray[np.uint8]) -> set[int]:
    """The classes in a mask of source labels, background and 255 among them, UNKNOWN for what is no label."""
    return set(merge[label_counts(mask).nonzero()[0]].tolist())
