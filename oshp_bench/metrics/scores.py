"""Computes figures from per-pair matrices.

Every figure is a ratio of sums over pairs, or a mean of such ratios. So each pair is first turned into additive
statistics. The same functions then compute exact figures from sums of fractions, and the figures of ten thousand
resamples from sums of floats.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oshp_bench.errors import OshpError
from oshp_bench.manifest import Manifest, Pairs
from oshp_bench.metrics.confusion import Counts
from oshp_bench.metrics.counting import OFFICIAL_2023
from oshp_bench.metrics.figures import FIGURES, full_name, parse_figure
from oshp_bench.metrics.matrices import Matrices
from oshp_bench.metrics.measures import (
    Floats,
    Measure,
    NamedMeasure,
    Roles,
    first_column,
    mean_of_columns,
    one_column,
    ratio,
)
from oshp_bench.metrics.shape_scores import shape_columns, shape_figures
from oshp_bench.metrics.shapes import PLAIN, Shapes

# The official-2023 convention computes Bi-mIoU from every tenth pair in list order.
_OFFICIAL_BI_STEP = 10
_GROUP_MEANS = (
    "human_miou",
    "novel_miou",
    "base_miou",
    "base_miou_with_background",
    "human_miou_without_background",
)


@dataclass(frozen=True)
class Statistics:
    """Additive statistics of pairs or queries.

    Attributes:
        way: "k" or "1".
        values: float64 [pairs or queries, columns]. Counts are whole numbers below 2^53.
        columns: name -> its columns.
        shapes: what was counted beside confusion matrices.
    """

    way: str
    roles: Roles
    values: Floats
    columns: Mapping[str, slice]
    shapes: Shapes = PLAIN

    def by_query(self, query: NDArray[np.intp]) -> Statistics:
        """Sums over the pairs of every query: values [queries, columns].

        Args:
            query: intp [pairs], the index of every pair's query.
        """
        summed = np.zeros((int(query.max(initial=-1)) + 1, self.values.shape[1]))
        np.add.at(summed, query, self.values)
        return Statistics(self.way, self.roles, summed, self.columns, self.shapes)

    def queries_behind(self, figure: str) -> int:
        """The number of rows (queries) that hold a pixel of the classes that a figure is about.

        Args:
            figure: its full name, for example "kway/iou/16".
        """
        held = self.areas()[0] > 0
        _, kind, class_id = parse_figure(figure)
        # The background IoU of 1-way comes from every class, so figures that include it rest on all queries.
        columns = self.roles.positions(kind.classes if kind.classes in ("novel", "base") else "all")
        if class_id:
            columns = (self.roles.ids.index(class_id),)
        return int(held[:, list(columns)].any(axis=1).sum())

    def areas(self) -> tuple[Floats, Floats, Floats]:
        """Pixels of every class in the truth, in the prediction, and in both: float64 [rows, C] of whole numbers."""
        hit = self._of("hit")
        if self.way == "k":
            return self._of("row"), self._of("predicted"), hit
        return hit + self._of("missed"), hit + self._of("wrong"), hit

    @property
    def episode_columns(self) -> dict[str, slice]:
        """The per-episode figures: name -> two columns, the value and whether the pair has one."""
        return {name: columns for name, columns in self.columns.items() if name in FIGURES}

    def _of(self, name: str) -> Floats:
        return self.values[:, self.columns[name]]

    def figures(self) -> dict[str, float | None]:
        """The figures of all pairs together, exact and then rounded once; None for 0/0."""
        totals = np.array([[Fraction(math.fsum(column)) for column in self.values.T]], dtype=object)
        return {
            name: float(measure.value[0]) if measure.valid[0] else None
            for name, measure in figures_of_sums(self, totals).items()
        }


def statistics(matrices: Matrices, manifest: Manifest, pairs: Pairs, convention: str) -> Iterator[Statistics]:
    """The per-pair statistics of every way that was counted."""
    roles = Roles.of(manifest)
    if matrices.kway is not None:
        shown = _in_support(matrices, manifest, pairs, convention)
        yield kway_statistics(_fold(matrices.kway, shown), roles, shape_columns(matrices, "k", shown), matrices.shapes)
    if matrices.oneway is not None:
        target = np.array([roles.ids.index(class_id) for class_id in pairs.target], np.intp)
        step = _OFFICIAL_BI_STEP if convention == OFFICIAL_2023 else 1
        beside = shape_columns(matrices, "1", np.arange(len(roles.ids)) == target[:, None])
        yield oneway_statistics(matrices.oneway, target, roles, beside, matrices.shapes, bi_step=step)


def figures_of_sums(layout: Statistics, sums: NDArray[Any]) -> dict[str, Measure]:
    """All figures of summed statistics, by name ("kway/human_miou").

    Args:
        layout: statistics with the same columns.
        sums: [sums, columns] of float64, or of fractions for exact figures.
    """
    of = {name: sums[:, columns] for name, columns in layout.columns.items()}
    figures = _kway_figures(of, layout.roles) if layout.way == "k" else _oneway_figures(of, layout.roles)
    truth = of["row"] if layout.way == "k" else of["hit"] + of["missed"]
    figures = chain(figures, shape_figures(of, truth, layout.roles, layout.shapes))
    return {full_name(layout.way, name, class_id): measure for name, class_id, measure in figures}


def folded(matrices: Matrices, manifest: Manifest, pairs: Pairs, convention: str) -> Counts:
    """K-way matrices with the truth of the episode: int64 [pairs, C, C + 1].

    In this truth every class outside the pair's C_s is background.
    """
    assert matrices.kway is not None
    return _fold(matrices.kway, _in_support(matrices, manifest, pairs, convention))


def _in_support(matrices: Matrices, manifest: Manifest, pairs: Pairs, convention: str) -> NDArray[np.bool_]:
    """Whether a class is background or in the pair's C_s: bool [pairs, C]."""
    place = {class_id: index for index, class_id in enumerate(manifest.class_ids)}
    shown = np.zeros((len(pairs), len(place)), np.bool_)
    shown[:, 0] = True
    for pair, classes in enumerate(_support_classes(matrices, pairs, convention)):
        shown[pair, [place[class_id] for class_id in classes if class_id in place]] = True
    return shown


def _fold(kway: Counts, shown: NDArray[np.bool_]) -> Counts:
    counts = np.where(shown[..., None], kway, 0)
    counts[:, 0] += (kway - counts).sum(axis=1)
    return counts


def _support_classes(matrices: Matrices, pairs: Pairs, convention: str) -> Iterable[Sequence[int]]:
    if convention != OFFICIAL_2023:
        return pairs.support_classes
    lacking = sorted(set(pairs.support) - matrices.stride4_classes.keys())
    if lacking:
        raise OshpError(
            f"{OFFICIAL_2023}: the matrices lack the stride-4 classes of {len(lacking)} supports, for example"
            f" {lacking[0]}; count the predictions again"
        )
    return (matrices.stride4_classes[support] for support in pairs.support)


def kway_statistics(
    counts: Counts, roles: Roles, beside: Mapping[str, NDArray[Any]] | None = None, shapes: Shapes = PLAIN
) -> Statistics:
    """The statistics of k-way pairs.

    Args:
        counts: int64 [pairs, C, C + 1] with the truth of the episode; see folded.
        beside: columns of bands and parts; see shape_scores.shape_columns.
        shapes: what was counted beside confusion matrices.
    """
    size = len(roles.ids)
    hit = np.einsum("pcc->pc", counts[:, :, :size])
    row = counts.sum(axis=2)
    predicted = counts[:, :, :size].sum(axis=1)
    iou = ratio(hit.astype(np.float64), row + predicted - hit)
    accuracy = ratio(hit.sum(axis=1, keepdims=True).astype(np.float64), row.sum(axis=1, keepdims=True))
    return _joined(
        "k",
        roles,
        {
            "hit": hit,
            "row": row,
            "predicted": predicted,
            **{
                name: _episode(mean_of_columns(iou, roles.positions(FIGURES[name].classes)))
                for name in ("episode_human_miou", "episode_human_miou_without_background", "episode_novel_miou")
            },
            "episode_accuracy": _episode(Measure(accuracy.value[:, 0], accuracy.valid[:, 0])),
            **(beside or {}),
        },
        shapes,
    )


def _kway_figures(of: Mapping[str, NDArray[Any]], roles: Roles) -> Iterator[NamedMeasure]:
    iou = ratio(of["hit"], of["row"] + of["predicted"] - of["hit"])
    accuracy = ratio(of["hit"], of["row"])
    yield from _group_means(iou, roles)
    yield "overall_accuracy", None, first_column(ratio(_total(of["hit"]), _total(of["row"])))
    yield "mean_accuracy", None, mean_of_columns(accuracy, range(len(roles.ids)))
    yield from _episode_means(of)
    yield from _by_class("iou", iou, roles)
    yield from _by_class("accuracy", accuracy, roles)


def oneway_statistics(
    counts: Counts,
    target: NDArray[np.intp],
    roles: Roles,
    beside: Mapping[str, NDArray[Any]] | None = None,
    shapes: Shapes = PLAIN,
    *,
    bi_step: int,
) -> Statistics:
    """The statistics of 1-way pairs.

    Args:
        counts: int64 [pairs, C, 2].
        target: intp [pairs], the position of every pair's class in roles.ids.
        beside, shapes: as in kway_statistics.
        bi_step: Bi-mIoU uses every bi_step-th pair.
    """
    pair = np.arange(len(target))
    missed, hit = counts[pair, target, 0], counts[pair, target, 1]
    left, wrong = counts[:, :, 0].sum(axis=1) - missed, counts[:, :, 1].sum(axis=1) - hit
    cells = {"hit": hit, "missed": missed, "wrong": wrong, "left": left}
    one_hot = (np.arange(len(roles.ids)) == target[:, None]).astype(np.int64)
    in_bi = pair % bi_step == 0
    foreground = ratio(hit.astype(np.float64), hit + missed + wrong)
    background = ratio(left.astype(np.float64), left + missed + wrong)
    both = Measure(
        np.stack([background.value, foreground.value], axis=1), np.stack([background.valid, foreground.valid], axis=1)
    )
    return _joined(
        "1",
        roles,
        {
            **{name: one_hot * cell[:, None] for name, cell in cells.items()},
            **{f"bi_{name}": (cell * in_bi)[:, None] for name, cell in cells.items()},
            "episode_bi_miou": _episode(mean_of_columns(both, range(2))),
            "episode_iou": _episode(foreground),
            **(beside or {}),
        },
        shapes,
    )


def _oneway_figures(of: Mapping[str, NDArray[Any]], roles: Roles) -> Iterator[NamedMeasure]:
    error = of["missed"] + of["wrong"]
    foreground = ratio(of["hit"], of["hit"] + error)
    background = mean_of_columns(ratio(of["left"], of["left"] + error), roles.positions("foreground"))
    # The background entry takes the place of class 0.
    iou = Measure(
        np.concatenate([background.value[:, None], foreground.value[:, 1:]], axis=1),
        np.concatenate([background.valid[:, None], foreground.valid[:, 1:]], axis=1),
    )
    yield from _group_means(iou, roles)
    bi_error = of["bi_missed"] + of["bi_wrong"]
    left, hit = (ratio(of[name], of[name] + bi_error) for name in ("bi_left", "bi_hit"))
    both = Measure(np.concatenate([left.value, hit.value], axis=1), np.concatenate([left.valid, hit.valid], axis=1))
    yield "bi_miou", None, mean_of_columns(both, range(2))
    right = _total(of["hit"]) + _total(of["left"])
    yield "overall_accuracy", None, first_column(ratio(right, right + _total(error)))
    yield from _episode_means(of)
    yield from _by_class("iou", iou, roles)


def _by_class(name: str, measure: Measure, roles: Roles) -> Iterator[NamedMeasure]:
    for index, class_id in enumerate(roles.ids):
        yield name, class_id, one_column(measure, index)


def _group_means(iou: Measure, roles: Roles) -> Iterator[NamedMeasure]:
    for name in _GROUP_MEANS:
        yield name, None, mean_of_columns(iou, roles.positions(FIGURES[name].classes))


def _episode_means(of: Mapping[str, NDArray[Any]]) -> Iterator[NamedMeasure]:
    for name, columns in of.items():
        if name in FIGURES:
            yield name, None, first_column(ratio(columns[:, :1], columns[:, 1:]))


def _joined(way: str, roles: Roles, parts: Mapping[str, NDArray[Any]], shapes: Shapes) -> Statistics:
    columns, start = {}, 0
    for name, part in parts.items():
        columns[name] = slice(start, start + part.shape[1])
        start += part.shape[1]
    return Statistics(way, roles, np.concatenate(list(parts.values()), axis=1).astype(np.float64), columns, shapes)


def _episode(measure: Measure) -> Floats:
    """A pair's value and whether it has one, so that their sums over pairs give the mean."""
    return np.stack([np.where(measure.valid, measure.value, 0), measure.valid], axis=1).astype(np.float64)


def _total(columns: NDArray[Any]) -> NDArray[Any]:
    total: NDArray[Any] = columns.sum(axis=1, keepdims=True)
    return total
