"""Which classes every image shows: from the masks, or from tables where masks are not at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oshp_bench.datasets.images import ImageProblem
from oshp_bench.datasets.labels import UNKNOWN, Dataset
from oshp_bench.datasets.runs import label_counts
from oshp_bench.datasets.sources import Source, unknown_label_problem
from oshp_bench.errors import OshpError, shortened

Classes = tuple[int, ...]


@dataclass(frozen=True)
class Presence:
    """The classes of images after the merge, ascending, without background; None where nobody has looked.

    Attributes:
        held: image id -> classes with at least `min_pixels` pixels; these decide what an image is drawn for.
        shown: image id -> classes with at least one pixel; of a support this is C_s.
    """

    held: Mapping[str, Classes | None]
    shown: Mapping[str, Classes | None]


def find_presence(source: Source, image_ids: Iterable[str], min_pixels: int) -> Presence:
    """Finds the classes of images, from the masks where the source has them.

    With masks, every image's photo must be there too, whole as far as its header and its end tell, and of the mask's
    size.

    Raises:
        OshpError: every image that cannot be used, a line each.
    """
    return _scan(source, image_ids, min_pixels) if source.has_masks else _look_up(source, image_ids, min_pixels)


def _scan(source: Source, image_ids: Iterable[str], min_pixels: int) -> Presence:
    held: dict[str, Classes | None] = {}
    shown: dict[str, Classes | None] = {}
    problems: list[str] = []
    broken = 0
    for image_id in image_ids:
        before = len(problems)
        shape = None
        try:
            counts, shape = _class_counts(source, image_id)
            if counts[UNKNOWN]:
                problems.append(unknown_label_problem(source, image_id))
            found = [each for each in counts.nonzero()[0].tolist() if 0 < each < UNKNOWN]
            shown[image_id] = tuple(found)
            held[image_id] = tuple(each for each in found if counts[each] >= min_pixels)
        except OshpError as error:
            problems.extend(error.problems)
        problems.extend(_photo_problems(source, image_id, shape))
        broken += len(problems) > before
    if broken:
        hint = f"{broken} images of {source.dataset.name} cannot be used: get fresh copies of their files"
        raise OshpError(*shortened(problems, rest="more"), hint)
    return Presence(held, shown)


def _class_counts(source: Source, image_id: str) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    """The number of pixels of every class, [256], and the mask's height and width."""
    mask = source.mask(image_id)
    # The merge is applied to 256 counts, not to half a million pixels; sums below 2^53 are exact in float64.
    counts = np.bincount(source.dataset.merge, weights=label_counts(mask), minlength=256)
    return counts.astype(np.int64), mask.shape


def _look_up(source: Source, image_ids: Iterable[str], min_pixels: int) -> Presence:
    if min_pixels > 1:
        raise OshpError(
            f"{source.root}: tables of the classes present do not tell pixels, but {source.dataset.name} counts a class"
            f" from {min_pixels} pixels on; give the folder of the masks"
        )
    present = {image_id: _merged(source.dataset, image_id, source.presence.get(image_id)) for image_id in image_ids}
    return Presence(present, present)


def _merged(dataset: Dataset, image_id: str, labels: frozenset[int] | None) -> Classes | None:
    if labels is None:
        return None
    numbers = np.array(sorted(labels), np.uint8)
    correction = dataset.corrections_of(image_id)
    merged = dataset.merge[numbers if correction is None else correction[numbers]]
    return tuple(int(each) for each in np.unique(merged) if each)


def _photo_problems(source: Source, image_id: str, shape: tuple[int, ...] | None) -> Iterable[str]:
    try:
        size = source.photo_size(image_id)
    except ImageProblem as problem:
        yield f"{source.photo_path(image_id)}: {problem}"
        return
    if shape is not None and size != shape:
        yield (
            f"{source.photo_path(image_id)}: the photo has {size[1]}x{size[0]} pixels, its mask"
            f" {source.mask_path(image_id)} {shape[1]}x{shape[0]}"
        )
