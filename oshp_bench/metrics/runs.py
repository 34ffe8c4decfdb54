"""Several training runs of one method: mean, spread, and intervals and tests that cover training noise too.

Intervals over queries say nothing of what another training seed would give. The variance of a mean over runs has two
parts: that of queries, from resamples of the mean figure, and that of training, from the spread of the runs. Two or
three runs are too few to be resampled themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from oshp_bench.metrics.figures import parse_figure
from oshp_bench.metrics.intervals import Difference, Resampling, query_indices, resampled_figures
from oshp_bench.metrics.measures import Floats
from oshp_bench.metrics.result import Figure, Result


@dataclass(frozen=True)
class VariancePart:
    """A part of the variance of a mean: its estimate, and the degrees of freedom of that."""

    variance: float
    freedom: int


def half_width(queries: VariancePart, training: Sequence[VariancePart], level: float) -> float:
    """Half of an interval of a mean whose variance has a part of queries and others of training.

    It is between Satterthwaite's interval, too short where noise of two runs is most of the variance, and the one that
    adds the squared half-widths of the parts, too long where parts are alike. The share of training in the variance
    says how near to which. docs/metrics.md has the simulated coverage.
    """
    from scipy.special import stdtrit

    parts = (queries, *training)
    total = sum(part.variance for part in parts)
    if not total:
        return 0.0
    freedom = total**2 / sum(part.variance**2 / part.freedom for part in parts)
    tail = (1 + level) / 2
    short = float(stdtrit(freedom, tail)) * math.sqrt(total)
    long = math.sqrt(sum(float(stdtrit(part.freedom, tail)) ** 2 * part.variance for part in parts))
    share = 1 - queries.variance / total
    return (1 - share) * short + share * long


def p_value(difference: float, queries: VariancePart, training: Sequence[VariancePart]) -> float:
    """The level at which the interval around a difference begins to hold 0, from 1: the two-sided p-value."""
    low, high = 0.0, 1.0
    # Each step halves what is unknown; 40 leave 1e-12.
    for _ in range(40):
        level = (low + high) / 2
        low, high = (level, high) if half_width(queries, training, level) < abs(difference) else (low, level)
    return 1 - low


def over_runs(results: Sequence[Result], names: Sequence[str], level: float) -> dict[str, Figure]:
    """The means of figures over at least two runs, with intervals over queries and training: name -> figure.

    Args:
        results: of the runs, on the same pairs.
        names: the figures; those that a run does not have are left out.
        level: of the intervals, 0..1.

    Returns:
        Figures without an interval where they rest on fewer than two queries.
    """
    spread = _spread(results, names)
    figures: dict[str, Figure] = {}
    for name, (values, resampled) in spread.items():
        mean, behind = float(np.mean(values)), results[0].figures[name].queries
        half = None if behind < 2 else half_width(_queries(resampled, behind), [_training(values)], level)
        low, high = (None, None) if half is None else (max(0.0, mean - half), min(1.0, mean + half))
        figures[name] = Figure(mean, low, high, behind)
    return figures


def compare_runs(first: Sequence[Result], second: Sequence[Result], names: Sequence[str]) -> dict[str, Difference]:
    """The differences of mean figures (second minus first), where one of the two has several runs.

    Args:
        first, second: results of the runs of two methods, on the same pairs. A single run adds no training noise, as
            there is no estimate of it.
        names: the figures; those that a run does not have are left out.
    """
    before, after = _spread(first, names), _spread(second, names)
    differences: dict[str, Difference] = {}
    for name in before.keys() & after.keys():
        (mine, resampled), (theirs, other) = before[name], after[name]
        value, behind = float(np.mean(theirs) - np.mean(mine)), first[0].figures[name].queries
        if behind < 2:
            differences[name] = Difference(value, None, None, None)
            continue
        queries = _queries(other - resampled, behind)
        training = [_training(values) for values in (mine, theirs) if len(values) > 1]
        half = half_width(queries, training, first[0].resampling.level)
        differences[name] = Difference(value, value - half, value + half, p_value(value, queries, training))
    return differences


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction of the p-values of one table: the chance of any false alarm stays below the level."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def _spread(results: Sequence[Result], names: Sequence[str]) -> Mapping[str, tuple[list[float], Floats]]:
    """The values of the runs, and their mean in every resample of queries: name -> (runs, float64 [resamples])."""
    query = query_indices(results[0].pairs.query)
    resampled: dict[str, list[Floats]] = {}
    for result in results:
        for sums in result.per_pair:
            of_way = [name for name in names if parse_figure(name).way == sums.way]
            drawn = resampled_figures(sums.by_query(query), Resampling()) if of_way else {}
            for name in of_way:
                resampled.setdefault(name, []).append(drawn[name])
    values = {name: [result.figures[name].value for result in results] for name in resampled}
    return {
        name: ([value for value in values[name] if value is not None], np.mean(resampled[name], axis=0))
        for name in resampled
        if None not in values[name]
    }


def _queries(resampled: Floats, queries: int) -> VariancePart:
    """The part of queries. Resamples of n queries vary (n - 1)/n times as much as means of n queries do."""
    return VariancePart(float(np.nanvar(resampled)) * queries / (queries - 1), queries - 1)


def _training(values: Sequence[float]) -> VariancePart:
    return VariancePart(float(np.var(values, ddof=1)) / len(values), len(values) - 1)
