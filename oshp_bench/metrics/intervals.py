"""Intervals and paired tests. They resample queries, since the pairs of one query are not independent."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oshp_bench.metrics.measures import Floats
from oshp_bench.metrics.scores import Statistics, figures_of_sums
from oshp_bench.randomness import Stream

_BLOCK = 1_000
# Per-episode values are rounded to multiples of this, so that their sums are exact and the same on every machine.
_TICK = 2.0**-40


@dataclass(frozen=True)
class Resampling:
    """How intervals are made: number of resamples, seed, and level of the interval (0..1)."""

    resamples: int = 10_000
    seed: int = 0
    level: float = 0.95


@dataclass(frozen=True)
class Difference:
    """A paired difference (second minus first) with its interval and two-sided p-value.

    Interval and p-value are None without resamples.
    """

    value: float | None
    low: float | None
    high: float | None
    p_value: float | None


def query_indices(queries: tuple[str, ...]) -> NDArray[np.intp]:
    """The index of every pair's query among the distinct queries, sorted by name: intp [pairs]."""
    return np.unique(np.array(queries), return_inverse=True)[1].astype(np.intp)


def resampled_figures(by_query: Statistics, resampling: Resampling) -> dict[str, Floats]:
    """The figures of bootstrap resamples: name -> float64 [resamples], NaN where a figure is 0/0.

    Args:
        by_query: statistics summed over the pairs of each query.
    """
    values = _exact(by_query)
    blocks = [figures_of_sums(by_query, weights @ values) for weights in _bootstrap_weights(len(values), resampling)]
    return {name: np.concatenate([block[name].floats() for block in blocks]) for name in blocks[0]}


def percentile_interval(values: Floats, level: float, queries: int) -> tuple[float | None, float | None]:
    """The expanded percentile interval of resampled values.

    Percentile intervals of few queries are too narrow. Their ends are moved outwards as far as a t interval is wider
    than a normal one (Hesterberg, What Teachers Should Know About the Bootstrap, 2015, section 5.3).

    Args:
        values: float64 [resamples].
        level: of the interval, 0..1.
        queries: number of queries that the figure rests on.

    Returns:
        Both ends; (None, None) for fewer than two queries, or if more than 1 % of the values are NaN.
    """
    from scipy.special import ndtr, stdtrit

    valid = np.sort(values[~np.isnan(values)])
    if queries < 2 or len(valid) == 0 or len(valid) < 0.99 * len(values):
        return None, None
    tail = float(ndtr(math.sqrt(queries / (queries - 1)) * stdtrit(queries - 1, (1 - level) / 2)))
    # Order statistics, since the last digit of numpy's interpolated quantiles may change between versions.
    low, high = int(np.floor(tail * (len(valid) - 1))), int(np.ceil((1 - tail) * (len(valid) - 1)))
    return float(valid[low]), float(valid[high])


def paired_differences(
    observed: Mapping[str, tuple[float | None, float | None]],
    first: Statistics,
    second: Statistics,
    resampling: Resampling,
) -> dict[str, Difference]:
    """Compares two prediction sets on the same queries, figure by figure.

    The interval comes from bootstrap resamples of queries. The p-value comes from a randomisation test: if the sets do
    not differ, they may be swapped within each query.

    Args:
        observed: name -> the figures of the two sets.
        first, second: statistics of the two sets, summed over the pairs of each query, in the same order.
    """
    if not resampling.resamples:
        return {
            name: Difference(None if a is None or b is None else b - a, None, None, None)
            for name, (a, b) in observed.items()
        }
    a, b = _exact(first), _exact(second)
    spread: dict[str, list[Floats]] = {name: [] for name in observed}
    swapped: dict[str, list[Floats]] = {name: [] for name in observed}
    for weights in _bootstrap_weights(len(a), resampling):
        _extend(spread, first, weights @ a, weights @ b)
    for swaps in _random_swaps(len(a), resampling):
        moved = swaps @ (b - a)
        _extend(swapped, first, a.sum(axis=0) + moved, b.sum(axis=0) - moved)
    return {
        name: _difference(
            *values,
            percentile_interval(np.concatenate(spread[name]), resampling.level, first.queries_behind(name)),
            np.concatenate(swapped[name]),
        )
        for name, values in observed.items()
    }


def _difference(
    first: float | None, second: float | None, ends: tuple[float | None, float | None], swapped: Floats
) -> Difference:
    if first is None or second is None:
        return Difference(None, None, None, None)
    value = second - first
    # A swap that changes nothing counts as a tie, whatever the last digit of the two sums. A swap that gives NaN counts
    # as a larger difference, so that p is never too small.
    nearer = np.count_nonzero(np.abs(swapped) < abs(value) - 1e-12)
    return Difference(value, *ends, (1 + len(swapped) - int(nearer)) / (1 + len(swapped)))


def _extend(into: dict[str, list[Floats]], layout: Statistics, a: Floats, b: Floats) -> None:
    first, second = figures_of_sums(layout, a), figures_of_sums(layout, b)
    for name, values in into.items():
        values.append(second[name].floats() - first[name].floats())


def _exact(statistics: Statistics) -> Floats:
    """The statistics with per-episode values rounded to whole ticks, so that every sum is exact in float64."""
    values = statistics.values.copy()
    for columns in statistics.episode_columns.values():
        values[:, columns] = np.round(values[:, columns] / _TICK) * _TICK
    return values


def _bootstrap_weights(queries: int, resampling: Resampling) -> Iterator[Floats]:
    """How often each query is drawn in each resample: float64 [up to 1,000 resamples, queries]."""
    stream = Stream("bootstrap", resampling.seed)
    for start in range(0, resampling.resamples, _BLOCK):
        rows = min(_BLOCK, resampling.resamples - start)
        draws = stream.integers(queries, rows * queries).reshape(rows, queries)
        cells = draws + queries * np.arange(rows)[:, None]
        yield np.bincount(cells.reshape(-1), minlength=rows * queries).reshape(rows, queries).astype(np.float64)


def _random_swaps(queries: int, resampling: Resampling) -> Iterator[Floats]:
    """Which queries are swapped in each randomisation: float64 [up to 1,000, queries] of 0 and 1."""
    stream = Stream("randomisation", resampling.seed)
    for start in range(0, resampling.resamples, _BLOCK):
        rows = min(_BLOCK, resampling.resamples - start)
        yield stream.integers(2, rows * queries).reshape(rows, queries).astype(np.float64)
