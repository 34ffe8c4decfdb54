"""Inner bands of boundaries, for Boundary IoU (Cheng et al., Boundary IoU: Improving Object-Centric Image Segmentation
Evaluation, CVPR 2021, section 4).

The inner band of a class is those of its pixels that are at most d pixels from its contour: the pixels whose square of
2d + 1 pixels leaves the picture or holds another class. So one band of a mask, where its squares are not uniform, holds
the bands of all classes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from oshp_bench.datasets.images import Mask


def band_width(shape: tuple[int, int], ratio: float) -> int:
    """The width d of bands in pixels, at least 1.

    Args:
        shape: height and width of the picture.
        ratio: d as a share of the picture's diagonal.
    """
    return max(1, round(ratio * math.hypot(*shape)))


def banded(mask: Mask, ratio: float) -> Mask:
    """The mask where it is in a band, and 0 elsewhere: uint8 [H, W].

    Args:
        mask: uint8 [H, W].
        ratio: width of the band, as a share of the diagonal.
    """
    height, width = mask.shape
    distance = band_width((height, width), ratio)
    if min(height, width) <= 2 * distance:
        return mask
    kept = np.ones((height, width), np.bool_)
    inside = _not_uniform(np.ascontiguousarray(mask).reshape(-1), width, distance)
    first = distance * (width + 1)
    kept.reshape(-1)[first : first + len(inside)] = inside
    # Rows end where the next begin, so squares beside the left and right border are wrong, but they leave the picture.
    kept[:, :distance] = kept[:, width - distance :] = True
    return mask * kept


def _not_uniform(flat: Mask, width: int, distance: int) -> NDArray[np.bool_]:
    """Whether the squares around pixels are not uniform: bool [n], from the first pixel whose square has all rows.

    A square is uniform if all its rows are, and its middle column.
    """
    rows = _running_or(flat[1:] != flat[:-1], 2 * distance, 1)
    below = flat[width:] != flat[:-width]
    # rows[i] is about the row around pixel i + distance.
    both = rows[: len(rows) - width] | below[distance : distance + len(rows) - width]
    both = _running_or(both, 2 * distance, width)
    both |= rows[2 * distance * width :]
    return both


def _running_or(flags: NDArray[np.bool_], count: int, step: int) -> NDArray[np.bool_]:
    """The or of `count` flags that are `step` apart, from every flag on; shorter by (count - 1) * step."""
    span = 1
    while span < count:
        shift = min(span, count - span) * step
        flags = flags[:-shift] | flags[shift:]
        span *= 2
    return flags
