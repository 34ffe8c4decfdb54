"""Counts labels by run lengths: masks are long runs of equal labels, and a run costs as much as a pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from oshp_bench.datasets.images import Mask

# Above this share of 8-pixel groups in which a run starts (noise, not a mask), counting pixel by pixel is faster.
_NOISE = 1 / 4


def packed_changes(flat: Mask) -> NDArray[np.uint8]:
    """One bit a pixel, set where a new run starts: uint8 [ceil(n/8)], for uint8 [n]; the first pixel starts one.

    Changes of two masks are united by `|`; a bit is found eight times faster than a byte.
    """
    starts = np.empty(len(flat), np.bool_)
    starts[:1] = True
    np.not_equal(flat[1:], flat[:-1], out=starts[1:])
    return np.packbits(starts)


def run_starts(packed: NDArray[np.uint8]) -> NDArray[np.intp] | None:
    """Where runs start: intp [runs], ascending; None where there are so many that runs do not pay."""
    groups = (packed != 0).nonzero()[0]
    if len(groups) > _NOISE * len(packed):
        return None
    bits = np.unpackbits(packed.take(groups)).view(np.bool_).nonzero()[0]
    starts: NDArray[np.intp] = (groups << 3).take(bits >> 3)
    starts += bits & 7
    return starts


def run_lengths(starts: NDArray[np.intp], total: int) -> NDArray[np.float64]:
    """The lengths of the runs that start at these positions: float64 [runs], whole numbers, ready to be weights."""
    lengths = np.empty(len(starts))
    np.subtract(starts[1:], starts[:-1], out=lengths[:-1], casting="unsafe")
    lengths[-1:] = total - starts[-1:]
    return lengths


def label_counts(mask: Mask, changes: NDArray[np.uint8] | None = None) -> NDArray[np.int64]:
    """The number of pixels of every label: int64 [256], for uint8 [H, W].

    Args:
        changes: packed_changes of the mask, if they are known.
    """
    flat = mask.reshape(-1)
    starts = run_starts(packed_changes(flat) if changes is None else changes)
    if starts is None:
        return np.bincount(flat, minlength=256)
    # The weights are whole numbers below 2^53, so their float64 sums are exact.
    return np.bincount(flat.take(starts), run_lengths(starts, len(flat)), 256).astype(np.int64)
