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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oshp_bench.errors import OshpError
from oshp_bench.manifest import Manifest, Pairs
from oshp_bench.metrics.confusion import Counts
from oshp_bench.metrics.counting import OFFICIAL_2023
from oshp_bench.metrics.figures import FIGURES, ClassGroup, parse_figure
from oshp_bench.metrics.matrices import Matrices

Floats = NDArray[np.float64]
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
class Roles:
    """The class ids of a manifest, and the positions of base and novel classes among them."""

    ids: tuple[int, ...]
    base: tuple[int, ...]
    novel: tuple[int, ...]

    @classmethod
    def of(cls, manifest: Manifest) -> Roles:
        """The roles of a manifest's classes."""
        place = {class_id: index for index, class_id in enumerate(manifest.class_ids)}
        base, novel = (tuple(place[class_id] for class_id in manifest.ids_of(role)) for role in ("base", "novel"))
        return cls(manifest.class_ids, base, novel)

    def positions(self, group: ClassGroup) -> tuple[int, ...]:
        """The positions of a group of classes."""
        every = tuple(range(len(self.ids)))
        groups: dict[ClassGroup, tuple[int, ...]] = {
            "all": every,
            "foreground": every[1:],
            "novel": self.novel,
            "base": self.base,
            "base and background": (0, *self.base),
        }
        return groups[group]


@dataclass(frozen=True)
class Statistics:
    """Additive statistics of pairs or queries.

    Attributes:
        way: "k" or "1".
        values: float64 [pairs or queries, columns]. Counts are whole numbers below 2^53.
        columns: name -> its columns.
    """

    way: str
    roles: Roles
    values: Floats
    columns: Mapping[str, slice]

    def by_query(self, query: NDArray[np.intp]) -> Statistics:
        """Sums over the pairs of every query: values [queries, columns].

        Args:
            query: intp [pairs], the index of every pair's query.
        """
        summed = np.zeros((int(query.max(initial=-1)) + 1, self.values.shape[1]))
        np.add.at(summed, query, self.values)
        return Statistics(self.way, self.roles, summed, self.columns)

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


@dataclass(frozen=True)
class Measure:
    """The values [sums] of a figure, floats or fractions, and where they are valid (not 0/0)."""

    value: NDArray[Any]
    valid: NDArray[np.bool_]

    def floats(self) -> Floats:
        """The values as floats: float64 [sums], NaN where they are not valid."""
        return np.where(self.valid, self.value, np.nan).astype(np.float64)


# A figure's name in FIGURES, its class id (None if it is not about one class), and its values.
_NamedMeasure = tuple[str, int | None, Measure]


def statistics(matrices: Matrices, manifest: Manifest, pairs: Pairs, convention: str) -> Iterator[Statistics]:
    """The per-pair statistics of every way that was counted."""
    roles = Roles.of(manifest)
    if matrices.kway is not None:
        yield kway_statistics(folded(matrices, manifest, pairs, convention), roles)
    if matrices.oneway is not None:
        target = np.array([roles.ids.index(class_id) for class_id in pairs.target], np.intp)
        step = _OFFICIAL_BI_STEP if convention == OFFICIAL_2023 else 1
        yield oneway_statistics(matrices.oneway, target, roles, bi_step=step)


def figures_of_sums(layout: Statistics, sums: NDArray[Any]) -> dict[str, Measure]:
    """All figures of summed statistics, by name ("kway/human_miou").

    Args:
        layout: statistics with the same columns.
        sums: [sums, columns] of float64, or of fractions for exact figures.
    """
    of = {name: sums[:, columns] for name, columns in layout.columns.items()}
    figures = _kway_figures(of, layout.roles) if layout.way == "k" else _oneway_figures(of, layout.roles)
    return {FIGURES[name].full_name(layout.way, class_id): measure for name, class_id, measure in figures}


def folded(matrices: Matrices, manifest: Manifest, pairs: Pairs, convention: str) -> Counts:
    """K-way matrices with the truth of the episode: int64 [pairs, C, C + 1].

    In this truth every class outside the pair's C_s is background.
    """
    assert matrices.kway is not None
    place = {class_id: index for index, class_id in enumerate(manifest.class_ids)}
    in_support = np.zeros(matrices.kway.shape[:2], np.bool_)
    in_support[:, 0] = True
    for pair, classes in enumerate(_support_classes(matrices, pairs, convention)):
        in_support[pair, [place[class_id] for class_id in classes if class_id in place]] = True
    counts = np.where(in_support[..., None], matrices.kway, 0)
    counts[:, 0] += (matrices.kway - counts).sum(axis=1)
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


def kway_statistics(counts: Counts, roles: Roles) -> Statistics:
    """The statistics of k-way pairs.

    Args:
        counts: int64 [pairs, C, C + 1] with the truth of the episode; see folded.
    """
    size = len(roles.ids)
    hit = np.einsum("pcc->pc", counts[:, :, :size])
    row = counts.sum(axis=2)
    predicted = counts[:, :, :size].sum(axis=1)
    iou = _ratio(hit.astype(np.float64), row + predicted - hit)
    accuracy = _ratio(hit.sum(axis=1, keepdims=True).astype(np.float64), row.sum(axis=1, keepdims=True))
    return _joined(
        "k",
        roles,
        {
            "hit": hit,
            "row": row,
            "predicted": predicted,
            **{
                name: _episode(_mean(iou, roles.positions(FIGURES[name].classes)))
                for name in ("episode_human_miou", "episode_human_miou_without_background", "episode_novel_miou")
            },
            "episode_accuracy": _episode(Measure(accuracy.value[:, 0], accuracy.valid[:, 0])),
        },
    )


def _kway_figures(of: Mapping[str, NDArray[Any]], roles: Roles) -> Iterator[_NamedMeasure]:
    iou = _ratio(of["hit"], of["row"] + of["predicted"] - of["hit"])
    accuracy = _ratio(of["hit"], of["row"])
    yield from _group_means(iou, roles)
    yield "overall_accuracy", None, _first(_ratio(_total(of["hit"]), _total(of["row"])))
    yield "mean_accuracy", None, _mean(accuracy, range(len(roles.ids)))
    yield from _episode_means(of)
    yield from _by_class("iou", iou, roles)
    yield from _by_class("accuracy", accuracy, roles)


def oneway_statistics(counts: Counts, target: NDArray[np.intp], roles: Roles, *, bi_step: int) -> Statistics:
    """The statistics of 1-way pairs.

    Args:
        counts: int64 [pairs, C, 2].
        target: intp [pairs], the position of every pair's class in roles.ids.
        bi_step: Bi-mIoU uses every bi_step-th pair.
    """
    pair = np.arange(len(target))
    missed, hit = counts[pair, target, 0], counts[pair, target, 1]
    left, wrong = counts[:, :, 0].sum(axis=1) - missed, counts[:, :, 1].sum(axis=1) - hit
    cells = {"hit": hit, "missed": missed, "wrong": wrong, "left": left}
    one_hot = (np.arange(len(roles.ids)) == target[:, None]).astype(np.int64)
    in_bi = pair % bi_step == 0
    foreground = _ratio(hit.astype(np.float64), hit + missed + wrong)
    background = _ratio(left.astype(np.float64), left + missed + wrong)
    both = Measure(
        np.stack([background.value, foreground.value], axis=1), np.stack([background.valid, foreground.valid], axis=1)
    )
    return _joined(
        "1",
        roles,
        {
            **{name: one_hot * cell[:, None] for name, cell in cells.items()},
            **{f"bi_{name}": (cell * in_bi)[:, None] for name, cell in cells.items()},
            "episode_bi_miou": _episode(_mean(both, range(2))),
            "episode_iou": _episode(foreground),
        },
    )


def _oneway_figures(of: Mapping[str, NDArray[Any]], roles: Roles) -> Iterator[_NamedMeasure]:
    error = of["missed"] + of["wrong"]
    foreground = _ratio(of["hit"], of["hit"] + error)
    background = _mean(_ratio(of["left"], of["left"] + error), roles.positions("foreground"))
    # The background entry takes the place of class 0.
    iou = Measure(
        np.concatenate([background.value[:, None], foreground.value[:, 1:]], axis=1),
        np.concatenate([background.valid[:, None], foreground.valid[:, 1:]], axis=1),
    )
    yield from _group_means(iou, roles)
    bi_error = of["bi_missed"] + of["bi_wrong"]
    left, hit = (_ratio(of[name], of[name] + bi_error) for name in ("bi_left", "bi_hit"))
    both = Measure(np.concatenate([left.value, hit.value], axis=1), np.concatenate([left.valid, hit.valid], axis=1))
    yield "bi_miou", None, _mean(both, range(2))
    right = _total(of["hit"]) + _total(of["left"])
    yield "overall_accuracy", None, _first(_ratio(right, right + _total(error)))
    yield from _episode_means(of)
    yield from _by_class("iou", iou, roles)


def _by_class(name: str, measure: Measure, roles: Roles) -> Iterator[_NamedMeasure]:
    for index, class_id in enumerate(roles.ids):
        yield name, class_id, _column(measure, index)


def _group_means(iou: Measure, roles: Roles) -> Iterator[_NamedMeasure]:
    for name in _GROUP_MEANS:
        yield name, None, _mean(iou, roles.positions(FIGURES[name].classes))


def _episode_means(of: Mapping[str, NDArray[Any]]) -> Iterator[_NamedMeasure]:
    for name, columns in of.items():
        if name in FIGURES:
            yield name, None, _first(_ratio(columns[:, :1], columns[:, 1:]))


def _joined(way: str, roles: Roles, parts: Mapping[str, NDArray[Any]]) -> Statistics:
    columns, start = {}, 0
    for name, part in parts.items():
        columns[name] = slice(start, start + part.shape[1])
        start += part.shape[1]
    return Statistics(way, roles, np.concatenate(list(parts.values()), axis=1).astype(np.float64), columns)


def _episode(measure: Measure) -> Floats:
    """A pair's value and whether it has one, so that their sums over pairs give the mean."""
    return np.stack([np.where(measure.valid, measure.value, 0), measure.valid], axis=1).astype(np.float64)


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Measure:
    valid = np.asarray(whole != 0, np.bool_)
    return Measure(part / np.where(valid, whole, 1), valid)


def _mean(measure: Measure, columns: Iterable[int]) -> Measure:
    """The mean over valid columns. They are added in order, so that every machine gives the same sum."""
    total, count = measure.value[:, 0] * 0, measure.value[:, 0] * 0
    for column in columns:
        valid = measure.valid[:, column]
        total = total + np.where(valid, measure.value[:, column], 0)
        count = count + valid
    return _ratio(total, count)


def _total(columns: NDArray[Any]) -> NDArray[Any]:
    total: NDArray[Any] = columns.sum(axis=1, keepdims=True)
    return total


def _column(measure: Measure, index: int) -> Measure:
    return Measure(measure.value[:, index], measure.valid[:, index])


def _first(measure: Measure) -> Measure:
    return _column(measure, 0)
