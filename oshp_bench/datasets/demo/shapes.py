"""Shapes as directed edges, and their rasterisation.

Only + - * / sqrt and floor touch floats, one rounding each, so every machine finds the same pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
Points = NDArray[np.float64]
Shape = NDArray[np.float64]
"""float64 [edges, 2 ends, (x, y)]: closed contours, all turning the same way, so that concatenation is union."""

Cover = tuple[slice, slice, NDArray[np.bool_]]
"""A box as rows and columns, and the pixels in it that a shape covers: bool [rows, columns]."""


def _unit_circle(per_quarter: int) -> Points:
    half_tangent = np.arange(per_quarter) / per_quarter
    over = 1 + half_tangent * half_tangent
    x, y = (1 - half_tangent * half_tangent) / over, 2 * half_tangent / over
    return np.concatenate([np.stack(turned, axis=1) for turned in ((x, y), (-y, x), (-x, -y), (y, -x))])


CIRCLE = _unit_circle(4)


def points(*pairs: Point) -> Points:
    """Returns the pairs as float64 [n, 2]."""
    return np.array(pairs, np.float64)


def blend(start: Point, end: Point, share: float) -> Point:
    """Returns the point a share of the way from start to end."""
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share


def smooth(path: Points, closed: bool = True, steps: int = 5) -> Points:
    """Threads a Catmull-Rom curve through a path [n, k]; a point given twice in a row is a corner."""
    around = (path[-1:], path, path[:2]) if closed else (path[:1], path, path[-1:])
    ring = np.concatenate(around)
    a, b, c, d = ring[:-3], ring[1:-2], ring[2:-1], ring[3:]
    t = (np.arange(steps) / steps)[:, None, None]
    curve = b + t * 0.5 * ((c - a) + t * ((2 * a - 5 * b + 4 * c - d) + t * (3 * (b - c) + d - a)))
    curve = curve.transpose(1, 0, 2).reshape(-1, path.shape[1])
    return curve if closed else np.concatenate([curve, path[-1:]])


def _closed(rings: Points) -> Shape:
    """Joins each ring's corners, [rings, corners, 2], to the next."""
    edges = np.empty((*rings.shape[:2], 2, 2))
    edges[:, :, 0] = rings
    edges[:, :-1, 1] = rings[:, 1:]
    edges[:, -1, 1] = rings[:, 0]
    return edges.reshape(-1, 2, 2)


def polygon(contour: Points) -> Shape:
    """Fills one contour [n, 2], clockwise or not."""
    shape = _closed(contour[None])
    (xa, ya), (xb, yb) = shape[:, 0].T, shape[:, 1].T
    # A running sum has one order; a plain reduction may have several.
    return shape if np.cumsum(xa * yb - xb * ya)[-1] > 0 else shape[:, ::-1]


def blob(*pairs: Point) -> Shape:
    """Fills the smooth closed curve through the points."""
    return polygon(smooth(points(*pairs)))


def mirrored(*right: Point) -> Shape:
    """Fills the smooth closed curve through points from top to bottom on the right and their mirror images."""
    return blob(*right, *((-x, y) for x, y in reversed(right) if x))


def ellipse(centre: Point, across: float, down: float) -> Shape:
    """Fills an ellipse given by its half axes."""
    return _closed((np.array(centre) + CIRCLE * np.array((across, down)))[None])


def limb(joints: Sequence[Point], radii: Sequence[float], flat_end: bool = False) -> Shape:
    """Fills a smooth tapered tube through the joints, with round ends (the last may be cut flat)."""
    track = np.array([(x, y, radius) for (x, y), radius in zip(joints, radii, strict=True)], np.float64)
    steps = 4 if len(track) > 2 else 1
    if steps > 1:
        track = smooth(track, closed=False, steps=steps)
    along = np.concatenate([track[1:2] - track[:1], track[2:] - track[:-2], track[-1:] - track[-2:-1]])
    length = np.sqrt(along[:, 0] * along[:, 0] + along[:, 1] * along[:, 1]) + 1e-9
    side = np.stack([-along[:, 1], along[:, 0]], axis=1) / length[:, None] * track[:, 2:]
    right, left = track[:, :2] - side, track[:, :2] + side
    quads = np.stack([right[:-1], right[1:], left[1:], left[:-1]], axis=1)
    knobs = track[::steps][: -1 if flat_end else None]
    return np.concatenate([_closed(quads), _closed(knobs[:, None, :2] + CIRCLE * knobs[:, None, 2:])])


def union(*shapes: Shape) -> Shape:
    """Fills what any of the shapes fills."""
    return np.concatenate(shapes)


def box(left: float, top: float, right: float, bottom: float) -> Shape:
    """Fills an upright rectangle."""
    return _closed(points((left, top), (right, top), (right, bottom), (left, bottom))[None])


def part_of(joints: Sequence[Point], bones: float) -> list[Point]:
    """Cuts a chain of joints after a number of bones: 1.5 keeps the first bone and half of the second."""
    whole = min(int(bones), len(joints) - 2)
    return [*joints[: whole + 1], blend(joints[whole], joints[whole + 1], bones - whole)]


def cover(shape: Shape, height: int, width: int) -> Cover | None:
    """Finds the pixels whose centres lie in a shape given in pixels, or None if the canvas holds none of them."""
    left, right = max(0, int(np.floor(shape[..., 0].min()))), min(width, int(np.floor(shape[..., 0].max())) + 1)
    (xa, ya), (xb, yb) = shape[:, 0].T, shape[:, 1].T
    first = np.clip(np.floor(np.minimum(ya, yb) + 0.5), 0, height).astype(np.int64)
    stop = np.clip(np.floor(np.maximum(ya, yb) + 0.5), 0, height).astype(np.int64)
    top, bottom = int(first.min()), int(stop.max())
    if left >= right or top >= bottom:
        return None
    count = stop - first
    edge = np.repeat(np.arange(len(shape)), count)
    row = np.arange(len(edge)) + np.repeat(first - np.cumsum(count) + count, count)
    slope = (xb - xa) / np.where(ya == yb, 1.0, yb - ya)
    crossing = xa[edge] + (row + 0.5 - ya[edge]) * slope[edge]
    column = np.clip(np.floor(crossing + 0.5), left, right).astype(np.int64) - left
    # Sums of -1 and +1 are exact in any order.
    turns = np.bincount(
        (row - top) * (right - left + 1) + column,
        np.where(yb > ya, 1.0, -1.0)[edge],
        (bottom - top) * (right - left + 1),
    )
    winding = np.cumsum(turns.astype(np.int8).reshape(bottom - top, -1), axis=1, dtype=np.int8)
    return slice(top, bottom), slice(left, right), winding[:, :-1] != 0
