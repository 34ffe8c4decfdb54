"""Finds the classes present in every image: from the masks, or from tables where there are no masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from oshp_bench.datasets.images import IGNORE
from oshp_bench.datasets.labels import Dataset
from oshp_bench.datasets.sources import Source
from oshp_bench.errors import OshpError, shortened

Classes = tuple[int, ...]


@dataclass(frozen=True)
class Presence:
    """Image id -> its classes after the merge, ascending, without background; None where they are unknown.

    Attributes:
        held: classes with at least `min_pixels` pixels; pairs are drawn by these.
        shown: classes with at least one pixel; for a support, these are C_s.
    """

    held: Mapping[str, Classes | None]
    shown: Mapping[str, Classes | None]


def find_presence(source: Source, image_ids: Iterable[str], min_pixels: int) -> Presence:
    """Finds the classes of images.

    Where the source has masks, photos are checked too: that they exist, have an end, and are of their mask's size.

    Raises:
        OshpError: all images that cannot be used.
    """
    return _scan(source, image_ids, min_pixels) if source.has_masks else _look_up(source, image_ids, min_pixels)


def _scan(source: Source, image_ids: Iterable[str], min_pixels: int) -> Presence:
    held: dict[str, Classes | None] = {}
    shown: dict[str, Classes | None] = {}
    problems: list[str] = []
    broken = 0
    for image_id in image_ids:
        before = len(problems)
        mask = None
        try:
            mask = source.mask(image_id)
            counts = source.class_counts(image_id, mask)
            found = [label for label in counts.nonzero()[0].tolist() if label not in (0, IGNORE)]
            shown[image_id] = tuple(found)
            held[image_id] = tuple(label for label in found if counts[label] >= min_pixels)
        except OshpError as error:
            problems.extend(error.problems)
        try:
            size = source.photo_size(image_id)
            if mask is not None:
                source.check_size(image_id, mask, size)
        except OshpError as error:
            problems.extend(error.problems)
        broken += len(problems) > before
    if broken:
        hint = f"{broken} images of {source.dataset.name} cannot be used: get fresh copies of their files"
        raise OshpError(*shortened(problems, rest="more"), hint)
    return Presence(held, shown)


def _look_up(source: Source, image_ids: Iterable[str], min_pixels: int) -> Presence:
    if min_pixels > 1:
        raise OshpError(
            f"{source.root}: tables of the labels present do not say how many pixels, but {source.dataset.name} counts"
            f" a class only from {min_pixels} pixels on; give the folder of the masks"
        )
    present = {image_id: _merged(source.dataset, image_id, source.presence.get(image_id)) for image_id in image_ids}
    return Presence(present, present)


def _merged(dataset: Dataset, image_id: str, labels: frozenset[int] | None) -> Classes | None:
    if labels is None:
        return None
    numbers = np.array(sorted(labels), np.uint8)
    correction = dataset.corrections_of(image_id)
    merged = dataset.merge[numbers if correction is None else correction[numbers]]
    return tuple(label for label in np.unique(merged).tolist() if label)
