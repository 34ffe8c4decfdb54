"""Training photos and masks, from the dataset's own files or from a pack that oshp-tailor wrote."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from oshp_bench.datasets.images import Mask, Photo
from oshp_bench.datasets.sources import Source, find_source
from oshp_bench.errors import OshpError, raise_problems, shortened
from oshp_bench.manifest import Manifest
from oshp_bench.manifest.pack import Pack


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
        self._promised = {**manifest.pools["query_train"], **manifest.pools["support_train"]}

    def read(self, image_id: str) -> tuple[Photo, Mask]:
        """See TrainingPhotos.

        Raises:
            OshpError: also a mask that is not of its photo's size, or not the one that the manifest was made from.
        """
        photo, mask = self._source.photo(image_id), self._source.mask(image_id)
        self._source.check_size(image_id, mask, photo.shape[:2])
        counts = self._source.class_counts(image_id, mask)
        absent = [str(label) for label in self._promised[image_id] or () if not counts[label]]
        if absent:
            raise OshpError(
                f"{self._source.mask_name(image_id)}: holds no class {', '.join(absent)}, but the manifest says so;"
                " other masks than it was made from? Check with oshp-manifest verify"
            )
        return photo, mask
