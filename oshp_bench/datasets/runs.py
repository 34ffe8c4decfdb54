"""Counts labels by runs down the columns: people are upright, so masks change least from one row to the next.

A column whose label changes after rows r1 < r2 < ... has r1 + 1 pixels of its first label, r2 - r1 of its second, and
so on. So a change after row r adds r + 1 pixels to the label above it and subtracts as many from the label below, and
the last row adds the height. These weights are whole numbers, and their sums stay below 2^53 for every picture that we
read, so float64 sums are exact in any order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from oshp_bench.datasets.images import Mask

# Above this share of 8-pixel groups that hold a change (noise, not a mask), counting pixel by pixel is faster.
_NOISE = 1 / 4


def column_changes(mask: Mask) -> NDArray[np.intp] | None:
    """The pixels that differ from the pixel below: intp [changes], positions in the flat mask, ascending.

    None if there are so many that counting pixel by pixel is faster.
    """
    flat, width = np.ascontiguousarray(mask).reshape(-1), mask.shape[1]
    above, below = flat[: max(0, len(flat) - width)], flat[width:]
    whole = len(above) // 8 * 8
    # Eight pixels are one number, and most groups of eight hold no change.
    held = (above[:whole].view(np.uint64) != below[:whole].view(np.uint64)).nonzero()[0]
    if len(held) > _NOISE * (whole // 8):
        return None
    upper, lower = (pixels[:whole].reshape(-1, 8).take(held, axis=0) for pixels in (above, below))
    found = (upper != lower).reshape(-1).nonzero()[0]
    changes = (held << 3).take(found >> 3)
    changes += found & 7
    rest = (above[whole:] != below[whole:]).nonzero()[0]
    rest += whole
    return np.concatenate((changes, rest))


def change_weights(changes: NDArray[np.intp], width: int) -> NDArray[np.float64]:
    """What every change adds to the label above and subtracts from the label below: float64 [changes], its row + 1."""
    return (changes // width + 1).astype(np.float64)


def weighted_pixels(shape: tuple[int, int], changes: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """A few weighted pixels to count instead of all: positions in the flat mask, intp [n], and weights, float64 [n].

    They are the last row, the pixels above changes and the pixels below, in this order. The weights of a label's pixels
    among them add up to the number of its pixels in the mask.

    Args:
        shape: height and width of the mask.
        changes: its column_changes.
    """
    height, width = shape
    weights = change_weights(changes, width)
    last_row = np.arange(max(0, height - 1) * width, height * width)
    return (
        np.concatenate((last_row, changes, changes + width)),
        np.concatenate((np.full(len(last_row), float(height)), weights, -weights)),
    )


def label_counts(mask: Mask) -> NDArray[np.int64]:
    """The number of pixels of every label: int64 [256], for uint8 [H, W]."""
    changes = column_changes(mask)
    if changes is None:
        return np.bincount(mask.reshape(-1), minlength=256)
    height, width = mask.shape
    positions, weights = weighted_pixels((height, width), changes)
    return np.bincount(mask.reshape(-1).take(positions), weights, 256).astype(np.int64)


def class_counts(mask: Mask, merge: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The number of pixels of every class in a mask of source labels: int64 [256].

    Args:
        mask: uint8 [H, W].
        merge: the class of every label, uint8 [256].
    """
    # The merge is applied to 256 counts, not to half a million pixels; sums below 2^53 are exact in float64.
    return np.bincount(merge, weights=label_counts(mask), minlength=256).astype(np.int64)
