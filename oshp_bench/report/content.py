"""The content of a report as plain data, without its appearance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from oshp_bench.baselines.registry import named
from oshp_bench.datasets.palette import colour_of
from oshp_bench.episodes.episodes import WAYS, Way
from oshp_bench.errors import OshpError
from oshp_bench.manifest import Manifest, OshpClass
from oshp_bench.metrics.confusion import Counts
from oshp_bench.metrics.diagnosis import pixel_destinations
from oshp_bench.metrics.figures import FIGURES, HEADLINE
from oshp_bench.metrics.intervals import Difference
from oshp_bench.metrics.result import Figure, Result, compare
from oshp_bench.metrics.result_file import AnyResult, same_test
from oshp_bench.metrics.scores import folded
from oshp_bench.report.canvas import hexadecimal
from oshp_bench.report.published import PublishedTable
from oshp_bench.untrusted import shown

_ROLE_ORDER = ("novel", "base", "background")
NOTHING = Figure(None)


@dataclass(frozen=True)
class ScoredSet:
    """A prediction set and its result."""

    name: str
    result: Result

    @cached_property
    def pooled(self) -> Counts | None:
        """The sum of the k-way matrices with the truth of the episodes: int64 [C, C + 1]; None without k-way."""
        result = self.result
        if result.matrices.kway is None:
            return None
        pooled: Counts = folded(result.matrices, result.manifest, result.pairs, result.convention).sum(axis=0)
        return pooled


@dataclass(frozen=True)
class HeadlineRow:
    """A row of the headline table.

    Attributes:
        kind: "set", "floor" or "published".
        for_both_folds: figures that the paper prints only for both folds together.
    """

    name: str
    kind: str
    figures: Mapping[str, Figure]
    for_both_folds: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Report:
    """The content of a report on one prediction set, or on two that are compared.

    Attributes:
        floors: names and results to show beside the sets.
        published: the paper's table about the same dataset, rule and fold.
        differences: second set minus first; empty for one set.
        command: the command line, "" if there was none.
    """

    sets: tuple[ScoredSet, ...]
    floors: tuple[tuple[str, AnyResult], ...]
    published: PublishedTable | None
    differences: Mapping[str, Difference]
    command: str

    @property
    def manifest(self) -> Manifest:
        """The manifest that all sets were scored on."""
        return self.sets[0].result.manifest

    @cached_property
    def classes(self) -> tuple[OshpClass, ...]:
        """Novel classes first, then base, then background: the order of all plots."""
        return tuple(
            oshp_class for role in _ROLE_ORDER for oshp_class in self.manifest.classes if oshp_class.role == role
        )

    @cached_property
    def rows(self) -> tuple[HeadlineRow, ...]:
        """The headline table: the sets, the floor, the published methods."""
        rows = [HeadlineRow(scored.name, "set", scored.result.figures) for scored in self.sets]
        rows.extend(HeadlineRow(name, "floor", floor.figures) for name, floor in self.floors)
        if self.published:
            rows.extend(_published_rows(self.published, self.manifest.fold))
        return tuple(rows)

    @cached_property
    def headline(self) -> tuple[str, ...]:
        """The headline figures of the ways that a set has."""
        return tuple(name for way in self.ways for name in HEADLINE[way])

    @cached_property
    def ways(self) -> tuple[Way, ...]:
        """The ways that at least one set has."""
        return tuple(way for way in WAYS if self.sets_of(way))

    @cached_property
    def below_copy_support(self) -> tuple[str, ...]:
        """The names of learned sets that a copied support mask, shown as a floor, exceeds in C_human of some way."""
        copied = [floor.figures for _, floor in self.floors if floor.method_name == "copy-support"]
        human = [FIGURES["human_miou"].full_name(way) for way in self.ways]
        return tuple(
            scored.name
            for scored in self.sets
            if scored.result.method_name not in named("rule")
            and any(
                name in floor and (scored.result.figures[name].value or 0) < (floor[name].value or 0)
                for floor in copied
                for name in human
                if name in scored.result.figures
            )
        )

    def sets_of(self, way: str) -> tuple[ScoredSet, ...]:
        """The sets that were scored in a way."""
        return tuple(scored for scored in self.sets if scored.result.matrices.of(way) is not None)


@dataclass(frozen=True)
class ConfusionRow:
    """What the pixels of a class are predicted as.

    Attributes:
        shares: share of each class in the report's order, then of removed labels; None if the truth has no pixel of
            the class.
    """

    name: str
    role: str
    colour: str
    shares: tuple[float, ...] | None


@dataclass(frozen=True)
class Confusion:
    """A k-way confusion matrix. `removed` says whether its last column counts labels that the merge removed."""

    rows: tuple[ConfusionRow, ...]
    removed: bool


def report_of(
    results: Sequence[Result],
    names: Sequence[str],
    floors: Sequence[tuple[str, AnyResult]],
    published: PublishedTable | None,
    differences: Mapping[str, Difference] | None,
    command: str,
) -> Report:
    """Collects the content of a report.

    Raises:
        OshpError: results that cannot be compared, or a floor with other pairs, another truth or another convention.
    """
    if len(results) not in (1, 2) or len(names) != len(results):
        raise OshpError("a report shows one result or compares two, and every result needs a name")
    for name, floor in floors:
        if not same_test(floor, results[0]):
            raise OshpError(
                f"{shown(name)}: has other pairs, another truth or another convention than {results[0].signature}"
            )
    if len(results) == 2 and differences is None:
        differences = compare(*results)
    sets = tuple(ScoredSet(name, result) for name, result in zip(names, results, strict=True))
    return Report(sets, tuple(floors), published, differences or {}, command)


def confusion(scored: ScoredSet, classes: Sequence[OshpClass]) -> Confusion:
    """The k-way confusion matrix in shares of the truth, rows and columns in the order of `classes`.

    A last column for removed labels is there only if it holds a pixel (convention official-2023).
    """
    assert scored.pooled is not None
    ids = scored.result.manifest.class_ids
    order = [ids.index(oshp_class.id) for oshp_class in classes]
    removed = bool(scored.pooled[:, -1].any())
    columns = [*order, -1] if removed else order
    rows = []
    for oshp_class, index in zip(classes, order, strict=True):
        whole = int(scored.pooled[index].sum())
        shares = tuple(int(scored.pooled[index, column]) / whole for column in columns) if whole else None
        rows.append(ConfusionRow(oshp_class.name, oshp_class.role, class_colour(oshp_class.name), shares))
    return Confusion(tuple(rows), removed)


def destinations(scored: ScoredSet, classes: Sequence[OshpClass]) -> dict[str, float]:
    """What the pixels of these classes, all of one role, are predicted as: shares of 1, by pixel_destinations' keys.

    Empty without pixels.
    """
    assert scored.pooled is not None
    pixels = pixel_destinations(scored.pooled, scored.result.manifest, [oshp_class.id for oshp_class in classes])
    whole = sum(pixels.values())
    return {name: count / whole for name, count in pixels.items()} if whole else {}


def swaps(scored: ScoredSet) -> list[tuple[tuple[str, float], tuple[str, float]]]:
    """The pairs of classes that are confused most.

    Each class of a pair comes with the pixels that it loses to the other one, as a share of both classes' pixels.
    """
    assert scored.pooled is not None
    names = [oshp_class.name for oshp_class in scored.result.manifest.classes]
    found = []
    for row in scored.result.diagnosis["kway"]["similar_parts"]:
        first, second = (names.index(name) for name in row["classes"])
        both = int(scored.pooled[first].sum() + scored.pooled[second].sum())
        taken = (int(scored.pooled[first, second]) / both, int(scored.pooled[second, first]) / both)
        found.append(((names[first], taken[0]), (names[second], taken[1])))
    return found


def class_colour(name: str) -> str:
    """The colour of a class as "#rrggbb", the same in every picture and plot."""
    return hexadecimal(colour_of(name))


def _published_rows(table: PublishedTable, fold: int) -> list[HeadlineRow]:
    rows = []
    for method in table.methods:
        of_fold = {name: figure.of_fold(fold) for name, figure in method.figures.items()}
        both = frozenset(name for name, value in of_fold.items() if value is None)
        figures = {
            name: Figure(figure.average if name in both else of_fold[name]) for name, figure in method.figures.items()
        }
        rows.append(HeadlineRow(method.name, "published", figures, both))
    return rows
