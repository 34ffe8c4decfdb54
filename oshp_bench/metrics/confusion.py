"""Joint counts of a query's truth and a prediction: the only place where metrics look at pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oshp_bench.datasets.images import IGNORE, Mask
from oshp_bench.datasets.runs import label_counts, packed_changes, run_lengths, run_starts

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class PreparedTruth:
    """A query's truth, prepared once for all predictions of that query.

    Attributes:
        mask: uint8 [H, W] of class ids; 255 = ignore.
        changes: one bit a pixel, set where a run starts (datasets.runs).
        offsets: uint16 [256], 256 times the position of a label in class_ids; 255 has the position after the last.
        row_counts: the pixels of every class, int64 [classes].
    """

    mask: Mask
    changes: NDArray[np.uint8]
    offsets: NDArray[np.uint16]
    row_counts: Counts

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.mask.shape
        return height, width

    def joint_counts(self, prediction: Mask) -> Counts:
        """Counts pixels by truth and predicted number: int64 [classes + 1, 256]; the last row is ignored pixels.

        Args:
            prediction: uint8 [H, W] of the truth's shape.
        """
        truth, flat = self.mask.reshape(-1), prediction.reshape(-1)
        rows = len(self.row_counts) + 1
        starts = run_starts(packed_changes(flat) | self.changes)
        if starts is None:
            counts = np.bincount(self.offsets.take(truth) + flat, minlength=rows << 8)
        else:
            keys = self.offsets.take(truth.take(starts))
            keys += flat.take(starts)
            # The weights are whole numbers below 2^53, so their float64 sums are exact.
            counts = np.bincount(keys, run_lengths(starts, len(flat)), rows << 8).astype(np.int64)
        return counts.reshape(rows, 256)


def prepare_truth(mask: Mask, class_ids: Sequence[int]) -> PreparedTruth:
    """Prepares a query's truth.

    Args:
        mask: uint8 [H, W] of class ids; 255 = ignore.
        class_ids: all class ids, background first.

    Raises:
        ValueError: not uint8 [H, W], or the mask holds a number that is no class id and not 255.
    """
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise ValueError(f"the truth is {mask.dtype} {list(mask.shape)}, not uint8 [H, W]")
    changes = packed_changes(mask.reshape(-1))
    labels = [*class_ids, IGNORE]
    counts = label_counts(mask, changes)
    strange = sorted(set(counts.nonzero()[0].tolist()) - set(labels))
    if strange:
        raise ValueError(f"the truth holds {strange[:5]}, which are no class ids")
    offsets = np.zeros(256, np.uint16)
    offsets[labels] = np.arange(len(labels)) << 8
    return PreparedTruth(mask, changes, offsets, counts[list(class_ids)])
