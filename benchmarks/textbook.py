"""The way many evaluation scripts score: read everything, merge labels on pixels, keep every prediction, then count.

It stands here as the peer that the scorer is measured against; it gives the same matrices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Labels = NDArray[np.int64]


def read(path: Path) -> NDArray[np.uint8]:
    """A mask as it is stored."""
    return np.asarray(Image.open(path))


def merge_on_pixels(labels: NDArray[np.uint8], merge: Mapping[int, int]) -> Labels:
    """Replaces labels one after the other."""
    merged = labels.astype(np.int64)
    for label, class_id in merge.items():
        merged = np.where(labels == label, class_id, merged)
    return merged


def kway_matrix(
    predictions: Path, queries: Iterator[tuple[Path, Path]], merge: Mapping[int, int], size: int
) -> NDArray[np.int64]:
    """One confusion matrix over all pairs: int64 [size, size].

    Args:
        queries: for each pair the source masks of query and support.
        merge: source label -> class id.
    """
    kept: list[tuple[Labels, Labels]] = []
    for number, (query, support) in enumerate(queries):
        truth = merge_on_pixels(read(query), merge)
        shown = np.unique(merge_on_pixels(read(support), merge))
        for class_id in np.unique(truth):
            if class_id not in shown:
                truth = np.where(truth == class_id, 0, truth)
        kept.append((truth, read(predictions / f"{number:04d}.png").astype(np.int64)))
    matrix = np.zeros((size, size), np.int64)
    for truth, prediction in kept:
        matrix += np.bincount((size * truth + prediction).ravel(), minlength=size**2).reshape(size, size)
    return matrix


def oneway_matrices(
    predictions: Path, queries: Iterator[tuple[Path, int]], merge: Mapping[int, int]
) -> dict[int, NDArray[Any]]:
    """A binary confusion matrix a class.

    Args:
        queries: for each pair the source mask of the query and the pair's class.
    """
    kept: list[tuple[int, Labels, Labels]] = []
    for number, (query, target) in enumerate(queries):
        truth = np.where(merge_on_pixels(read(query), merge) == target, 1, 0)
        prediction = np.where(read(predictions / f"{number:04d}.png").astype(np.int64) > 0, 1, 0)
        kept.append((target, truth, prediction))
    matrices: dict[int, NDArray[Any]] = {}
    for target, truth, prediction in kept:
        counts = np.bincount((2 * truth + prediction).ravel(), minlength=4).reshape(2, 2)
        matrices[target] = matrices.get(target, 0) + counts
    return matrices
