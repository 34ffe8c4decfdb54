"""What a report says, as plain data: everything but its looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from oshp_bench.datasets.palette import colour_of
from oshp_bench.episodes.episodes import WAYS, Way
from oshp_bench.errors import OshpError
from oshp_bench.manifest import Manifest, OshpClass
from oshp_bench.metrics.confusion import Counts
from oshp_bench.metrics.diagnosis import pixel_destinations
from oshp_bench.metrics.figures import HEADLINE
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
        """The k-way matrix of all pairs, the truth being that of the episodes: int64 [C, C + 1]; None without k-way."""
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
        for_both_folds: figures that the paper prints for both folds together.
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
        published: the paper's table of the same dataset and rule.
        differences: of two sets, second minus first; empty for one.
        command: what was typed, "" if nothing was.
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
        return tuple(each for role in _ROLE_ORDER for each in self.manifest.classes if each.role == role)

    @cached_property
    def rows(self) -> tuple[HeadlineRow, ...]:
        """The headline table: the sets, the floor, the published methods."""
        rows = [HeadlineRow(each.name, "set", each.result.figures) for each in self.sets]
        rows.extend(HeadlineRow(name, "floor", floor.figures) for name, floor in self.floors)
        if self.published:
            rows.extend(_published_rows(self.published, self.manifest.fold))
        return tuple(rows)

    @cached_property
    def headline(self) -> tuple[str, ...]:
        """The paper's figures, as far as a set has them."""
        return tuple(name for way in self.ways for name in HEADLINE[way])

    @cached_property
    def ways(self) -> tuple[Way, ...]:
        """The ways that a set has: "k", "1" or both."""
        return tuple(way for way in WAYS if self.sets_of(way))

    def sets_of(self, way: str) -> tuple[ScoredSet, ...]:
        """The sets that were scored in a way."""
        return tuple(each for each in self.sets if each.result.matrices.of(way) is not None)


@dataclass(frozen=True)
class ConfusionRow:
    """Where the pixels of a class go: its share of each class in the report's order, then of removed labels.

    Attributes:
        shares: None where the truth has no pixel of the class.
    """

    name: str
    role: str
    colour: str
    shares: tuple[float, ...] | None


@dataclass(frozen=True)
class Confusion:
    """A k-way confusion matrix; `removed` says whether its last column is labels that the merge removed."""

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
    """Puts a report together.

    Raises:
        OshpError: results that cannot be compared, or a floor of other pairs or another convention.
    """
    if len(results) not in (1, 2) or len(names) != len(results):
        raise OshpError("a report shows one result, or two that are compared, with a name each")
    for name, floor in floors:
        if not same_test(floor, results[0]):
            raise OshpError(f"{shown(name)}: of other pairs or another convention than {results[0].signature}")
    if len(results) == 2 and differences is None:
        differences = compare(*results)
    sets = tuple(ScoredSet(name, result) for name, result in zip(names, results, strict=True))
    return Report(sets, tuple(floors), published, differences or {}, command)


def confusion(each: ScoredSet, classes: Sequence[OshpClass]) -> Confusion:
    """The k-way confusion matrix in shares of the truth, rows and columns in the order of `classes`.

    The last column, removed labels, stands there only if it holds a pixel (convention official-2023).
    """
    assert each.pooled is not None
    ids = each.result.manifest.class_ids
    order = [ids.index(one.id) for one in classes]
    removed = bool(each.pooled[:, -1].any())
    columns = [*order, -1] if removed else order
    rows = []
    for one, index in zip(classes, order, strict=True):
        whole = int(each.pooled[index].sum())
        shares = tuple(int(each.pooled[index, column]) / whole for column in columns) if whole else None
        rows.append(ConfusionRow(one.name, one.role, class_colour(one.name), shares))
    return Confusion(tuple(rows), removed)


def destinations(scored: ScoredSet, classes: Sequence[OshpClass]) -> dict[str, float]:
    """What the pixels of these classes, all of one role, are predicted as: shares of 1, by pixel_destinations' keys.

    Empty without pixels.
    """
    assert scored.pooled is not None
    pixels = pixel_destinations(scored.pooled, scored.result.manifest, [known.id for known in classes])
    whole = sum(pixels.values())
    return {name: count / whole for name, count in pixels.items()} if whole else {}


def swaps(each: ScoredSet) -> list[tuple[tuple[str, float], tuple[str, float]]]:
    """The classes most often taken for each other: each with the share of both's pixels that is taken from it."""
    assert each.pooled is not None
    names = [one.name for one in each.result.manifest.classes]
    found = []
    for row in each.result.diagnosis["kway"]["similar_parts"]:
        first, second = (names.index(name) for name in row["classes"])
        both = int(each.pooled[first].sum() + each.pooled[second].sum())
        taken = (int(each.pooled[first, second]) / both, int(each.pooled[second, first]) / both)
        found.append(((names[first], taken[0]), (names[second], taken[1])))
    return found


def class_colour(name: str) -> str:
    """A class's colour as "#rrggbb", the same in every picture and plot."""
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
