"""Counts parts: connected components (4 neighbours) of one class in truth and prediction. They need scikit-image.

A part of the truth and one of the prediction, both of one class, match if their IoU is above 0.5. So a part matches at
most one other. Parts of fewer pixels than asked for are not counted, but a part may match them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oshp_bench.datasets.images import Mask
from oshp_bench.metrics.confusion import PreparedTruth, prepare_truth

# A part is small below a thousandth of the picture's pixels, and large from a hundredth on.
PART_SIZES = ("small", "medium", "large")
# What is counted for every class and size.
PART_COUNTS = ("parts", "found", "predicted_parts", "matched")
# More parts do not fit into a mask, whose overlaps are counted like classes.
_MOST = 255
_Box = tuple[slice, slice]


@dataclass(frozen=True)
class TrueParts:
    """The parts of a truth.

    Attributes:
        numbers: intp [H, W], the part of every pixel; 0 = none.
        areas: int64 [1 + parts], pixels; areas[0] are the pixels of no part.
        classes: intp [1 + parts], positions in class_ids.
        prepared: the numbers as a mask; None if they are too many.
    """

    numbers: NDArray[np.intp]
    areas: NDArray[np.int64]
    classes: NDArray[np.intp]
    prepared: PreparedTruth | None


def parts_of(mask: Mask, class_ids: Sequence[int]) -> TrueParts:
    """The parts of a mask.

    Args:
        mask: uint8 [H, W] of class ids; 0 is no part.
        class_ids: all class ids, background first.
    """
    box, cut, classes = _labelled(mask, class_ids)
    numbers = np.zeros(mask.shape, np.intp)
    numbers[box] = cut
    few = len(classes) <= _MOST
    prepared = prepare_truth(numbers.astype(np.uint8), range(len(classes))) if few else None
    return TrueParts(numbers, np.bincount(numbers.reshape(-1), minlength=1), classes, prepared)


def count_parts(
    truth: TrueParts, prediction: Mask, way: str, least: int, class_ids: Sequence[int]
) -> NDArray[np.int64]:
    """Counts the parts of a pair: int64 [C, 3, 4], by class, PART_SIZES and PART_COUNTS.

    Args:
        prediction: uint8 [H, W] of class ids; in 1-way {0, v}, where every part is a part of every class.
        way: "k" or "1".
        least: pixels that a part needs to be counted.
        class_ids: all class ids, background first.
    """
    box, numbers, classes = _labelled(prediction, class_ids)
    first, second, pixels = _overlaps(truth, box, numbers, len(classes))
    areas = np.bincount(second, pixels, len(classes)).astype(np.int64)
    matched = 2 * pixels > truth.areas[first] + areas[second] - pixels
    matched &= (first > 0) & (second > 0)
    if way == "k":
        matched &= truth.classes[first] == classes[second]
    first, second = first[matched], second[matched]
    counts = np.zeros((len(class_ids), len(PART_SIZES), len(PART_COUNTS)), np.int64)
    for column, area, of_class in (
        (0, truth.areas[1:], truth.classes[1:]),
        (1, truth.areas[first], truth.classes[first]),
        (2, areas[1:], classes[1:]),
        (3, areas[second], truth.classes[first]),
    ):
        size = (1000 * area >= prediction.size).astype(np.intp) + (100 * area >= prediction.size)
        kept = area >= least
        if column == 2 and way == "1":
            counts[:, :, column] += np.bincount(size[kept], minlength=len(PART_SIZES))
        else:
            # Labels that the merge removed are no classes.
            kept &= of_class >= 0
            np.add.at(counts[:, :, column], (of_class[kept], size[kept]), 1)
    return counts


def _overlaps(
    truth: TrueParts, box: _Box, numbers: NDArray[np.integer[Any]], width: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int64]]:
    """The parts of truth and prediction that share pixels, in the box at least, and their pixels: each [overlaps].

    Args:
        numbers: those of the predicted parts, in the box.
        width: 1 + predicted parts.
    """
    if truth.prepared and width <= _MOST:
        mask = np.zeros(truth.numbers.shape, np.uint8)
        mask[box] = numbers
        tally = truth.prepared.tally(mask)
        keys = tally.rows.astype(np.intp) * width + tally.numbers
        table = np.bincount(keys, tally.weights).astype(np.int64)
        found = table.nonzero()[0]
        pixels = table[found]
    else:
        found, pixels = np.unique(truth.numbers[box] * width + numbers, return_counts=True)
    first, second = np.divmod(found, width)
    return first, second, pixels


def _labelled(
    mask: Mask, class_ids: Sequence[int]
) -> tuple[tuple[slice, slice], NDArray[np.integer[Any]], NDArray[np.intp]]:
    """The box of a picture that holds parts, the numbers of its pixels from 1 on, and the classes of all numbers.

    The class of a label that is none is -1.
    """
    # Few commands need parts, and the import takes a second.
    from skimage.measure import label

    rows, columns = (mask.max(axis=axis, initial=0).nonzero()[0] for axis in (1, 0))
    box = (slice(0, 0), slice(0, 0))
    if len(rows):
        box = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
    cut = np.ascontiguousarray(mask[box])
    numbers, count = label(cut, background=0, connectivity=1, return_num=True)
    if count < _MOST:
        numbers = numbers.astype(np.uint8)
    flat = numbers.reshape(-1)
    # Every part has a pixel that differs from the one before, or is the first.
    starts = np.concatenate(([0], 1 + (flat[1:] != flat[:-1]).nonzero()[0])) if len(flat) else np.zeros(0, np.intp)
    found = flat.take(starts)
    labels = np.zeros(count + 1, np.uint8)
    labels[found] = cut.reshape(-1).take(starts)
    place = np.full(256, -1, np.intp)
    place[list(class_ids)] = np.arange(len(class_ids))
    return box, numbers, place[labels]
