"""Counts pixels by truth and prediction. No other module of the metrics looks at predicted pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from oshp_bench.datasets.images import IGNORE, Mask
from oshp_bench.datasets.runs import change_weights, column_changes, label_counts, weighted_pixels

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Tally:
    """Weighted pairs of a true and a predicted label. The weights of one pair add up to its number of pixels.

    Attributes:
        rows: uint16 [n], position of the true label in class_ids; len(class_ids) for ignored pixels.
        numbers: uint8 [n], predicted labels: exactly those that occur in the prediction.
        weights: float64 [n], whole numbers, some negative.
    """

    rows: NDArray[np.uint16]
    numbers: NDArray[np.uint8]
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class TruthPixels:
    """The weighted pixels (datasets.runs) that depend only on the truth.

    From one pixel to the one below, truth and prediction change from (t, q) to (t', q'). This is counted in two steps:
    (t, q) to (t', q) to (t', q'). The first step occurs only where the truth changes, and all of it but q is known
    before any prediction is.

    Attributes:
        rows: uint16 [n], rows of the truth: of the last row of pixels, above its changes, below its changes.
        positions: intp [n], which pixels of the prediction to read: the last row of pixels, those above changes, the
            same once more.
        weights: float64 [n].
    """

    rows: NDArray[np.uint16]
    positions: NDArray[np.intp]
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class PreparedTruth:
    """A query's truth, prepared once for all predictions of that query.

    Attributes:
        mask: uint8 [H, W] of class ids; 255 = ignore.
        row_of: uint16 [256], position of a label in class_ids; len(class_ids) for 255.
        row_counts: pixels per class, int64 [classes].
        pixels: its weighted pixels; None if it is so noisy that counting every pixel is faster.
    """

    mask: Mask
    row_of: NDArray[np.uint16]
    row_counts: Counts
    pixels: TruthPixels | None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.mask.shape
        return height, width

    def tally(self, prediction: Mask) -> Tally:
        """Counts pixels by truth and prediction.

        Args:
            prediction: uint8 [H, W], in the truth's shape.
        """
        flat, width = prediction.reshape(-1), prediction.shape[1]
        changes = column_changes(prediction) if self.pixels else None
        if self.pixels is None or changes is None:
            joint = np.bincount(self._pixel_keys + flat)
            keys = joint.nonzero()[0].astype(np.uint16)
            return Tally(keys >> np.uint16(8), keys.astype(np.uint8), joint.take(keys).astype(np.float64))
        below = changes + width
        rows = self.row_of.take(self.mask.reshape(-1).take(below))
        weights = change_weights(changes, width)
        return Tally(
            np.concatenate((self.pixels.rows, rows, rows)),
            flat.take(np.concatenate((self.pixels.positions, changes, below))),
            np.concatenate((self.pixels.weights, weights, -weights)),
        )

    @cached_property
    def _pixel_keys(self) -> NDArray[np.uint16]:
        """The row of every pixel times 256: uint16 [H * W]."""
        return (self.row_of << np.uint16(8)).take(self.mask.reshape(-1))


def prepare_truth(mask: Mask, class_ids: Sequence[int]) -> PreparedTruth:
    """Prepares a query's truth.

    Args:
        mask: uint8 [H, W] of class ids; 255 = ignore.
        class_ids: all class ids, background first.

    Raises:
        ValueError: the mask is not uint8 [H, W], or holds a number that is neither a class id nor 255.
    """
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise ValueError(f"the truth is {mask.dtype} {list(mask.shape)}, not uint8 [H, W]")
    labels = [*class_ids, IGNORE]
    row_of = np.zeros(256, np.uint16)
    row_of[labels] = np.arange(len(labels))
    changes, pixels = column_changes(mask), None
    if changes is None:
        counts = label_counts(mask)
    else:
        height, width = mask.shape
        positions, weights = weighted_pixels((height, width), changes)
        found = mask.reshape(-1).take(positions)
        counts = np.bincount(found, weights, 256).astype(np.int64)
        above = positions[: len(positions) - len(changes)]
        pixels = TruthPixels(row_of.take(found), np.concatenate((above, changes)), weights)
    strange = sorted(set(counts.nonzero()[0].tolist()) - set(labels))
    if strange:
        raise ValueError(f"the truth holds {strange[:5]}, which are not class ids")
    return PreparedTruth(mask, row_of, counts[list(class_ids)], pixels)
