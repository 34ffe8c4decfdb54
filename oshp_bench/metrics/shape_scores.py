"""Figures of boundaries and parts, from what was counted beside confusion matrices. Background has none.

Its contour is that of all other classes, and depends on C_s. The band of any other class does not: a pixel beside a
class that C_s lacks is beside another class in either case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oshp_bench.metrics.figures import SHAPE_FIGURES
from oshp_bench.metrics.matrices import Matrices
from oshp_bench.metrics.measures import Measure, NamedMeasure, Roles, mean_of_columns, one_column, ratio
from oshp_bench.metrics.parts import PART_COUNTS, PART_SIZES
from oshp_bench.metrics.shapes import BOUNDARY, PARTS, Shapes


def shape_columns(matrices: Matrices, way: str, shown: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """Additive columns of pairs: "band_truth", "band_predicted", "band_both" [pairs, C]; PART_COUNTS [pairs, C * 3].

    Args:
        shown: bool [pairs, C], the classes that a pair is about: background and C_s, or in 1-way its own class.
    """
    columns: dict[str, NDArray[Any]] = {}
    bands, parts = matrices.beside_of(way, BOUNDARY), matrices.beside_of(way, PARTS)
    if bands is not None:
        size = bands.shape[1]
        columns["band_truth"] = bands.sum(axis=2) * shown
        if way == "k":
            columns["band_predicted"] = bands[:, :, :size].sum(axis=1)
            columns["band_both"] = np.einsum("pcc->pc", bands[:, :, :size]) * shown
        else:
            columns["band_predicted"] = bands[:, :, 1].sum(axis=1, keepdims=True) * shown
            columns["band_both"] = bands[:, :, 1] * shown
    if parts is not None:
        for index, name in enumerate(PART_COUNTS):
            # In k-way a predicted part of a class that C_s lacks is there, and spurious.
            whole = way == "k" and name == "predicted_parts"
            counts = parts[..., index] if whole else parts[..., index] * shown[..., None]
            columns[name] = counts.reshape(len(counts), -1)
    return columns


def shape_figures(
    of: Mapping[str, NDArray[Any]], truth: NDArray[Any], roles: Roles, shapes: Shapes
) -> Iterator[NamedMeasure]:
    """The figures of boundaries and parts that were counted.

    Args:
        of: summed columns by name, [sums, columns].
        truth: pixels of every class in the truth, [sums, C].
    """
    if shapes.boundary:
        yield from _boundary_figures(of, truth, roles, f"@{shapes.ratio}")
    if shapes.parts:
        yield from _part_figures(of, roles, f"@{shapes.parts}")


def _boundary_figures(
    of: Mapping[str, NDArray[Any]], truth: NDArray[Any], roles: Roles, at: str
) -> Iterator[NamedMeasure]:
    iou = ratio(of["band_both"], of["band_truth"] + of["band_predicted"] - of["band_both"])
    for name in ("novel_boundary_miou", "base_boundary_miou", "human_boundary_miou_without_background"):
        yield f"{name}{at}", None, mean_of_columns(iou, roles.positions(SHAPE_FIGURES[name].classes))
    for name, measure in (("boundary_iou", iou), ("band_share", ratio(of["band_truth"], truth))):
        for index in roles.positions("foreground"):
            yield f"{name}{at}", roles.ids[index], one_column(measure, index)


def _part_figures(of: Mapping[str, NDArray[Any]], roles: Roles, at: str) -> Iterator[NamedMeasure]:
    wrong = of["predicted_parts"] - of["matched"]
    for kind, part, whole in (("found", of["found"], of["parts"]), ("spurious", wrong, of["predicted_parts"])):

        def share(
            positions: tuple[int, ...],
            sizes: tuple[str, ...] = PART_SIZES,
            part: NDArray[Any] = part,
            whole: NDArray[Any] = whole,
        ) -> Measure:
            cells = [len(PART_SIZES) * index + PART_SIZES.index(size) for index in positions for size in sizes]
            return ratio(part[:, cells].sum(axis=1), whole[:, cells].sum(axis=1))

        every = roles.positions("foreground")
        yield f"{kind}_parts{at}", None, share(every)
        yield f"novel_{kind}_parts{at}", None, share(roles.novel)
        for size in PART_SIZES:
            yield f"{size}_{kind}_parts{at}", None, share(every, (size,))
        for index in every:
            yield f"class_{kind}_parts{at}", roles.ids[index], share((index,))
