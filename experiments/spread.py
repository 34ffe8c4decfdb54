"""How much of the spread of IoU comes from the query, how much from the support: a variance decomposition over pairs.

The value of a pair is mean + query + support + combination, three random effects that do not depend on each other
(a crossed design, and unbalanced, since every query has only some of the supports). Half the mean squared difference of
two pairs is then

    same query, other support:     support + combination
    same support, other query:     query + combination
    other query, other support:    query + support + combination

which gives the three variances (Henderson's moments). Pairs are compared within a class, so that no class's difficulty
counts. Intervals resample queries and supports at once, with all their pairs (Owen, The pigeonhole bootstrap, 2007);
they are rather too wide than too narrow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oshp_bench.manifest import Pairs
from oshp_bench.randomness import Stream

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
SOURCES = ("query", "support", "combination")
_RESAMPLES = 1_000
_LEVEL = 0.95


@dataclass(frozen=True)
class Share:
    """A source's share of the variance. Estimates of shares near 0 may be below it.

    Attributes:
        low, high: a 95 % interval; None if the design is too small for one.
    """

    source: str
    share: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Spread:
    """The decomposition.

    Attributes:
        variance: of two pairs that share neither query nor support, in squared units of the value.
        shares: of SOURCES; they add up to 1.
        pairs: different pairs with a value.
    """

    variance: float
    shares: tuple[Share, ...]
    pairs: int

    def lines(self) -> Iterator[str]:
        """The decomposition as text, in percent."""
        deviation = 100 * max(self.variance, 0.0) ** 0.5
        yield f"standard deviation over pairs of a class: {deviation:.2f} points, {self.pairs:,} pairs"
        for share in self.shares:
            ends = (
                "" if share.low is None or share.high is None else f" [{100 * share.low:.1f}, {100 * share.high:.1f}]"
            )
            yield f"from the {share.source}: {100 * share.share:.1f} %{ends}"


def spread_of(values: Floats, pairs: Pairs, way: str, resamples: int = _RESAMPLES, seed: int = 0) -> Spread | None:
    """Decomposes the values of pairs.

    Args:
        values: float64 [pairs], NaN for a pair without one.
        way: "k", where a pair's value does not depend on the class that it was drawn for, or "1".

    Returns:
        None if the pairs do not hold all three kinds of comparisons, or all have one value.
    """
    classes = pairs.target if way == "1" else [0] * len(values)
    seen: dict[tuple[object, ...], int] = {}
    for index, key in enumerate(zip(classes, pairs.query, pairs.support, strict=True)):
        if not np.isnan(values[index]):
            seen.setdefault(key, index)
    kept = list(seen.values())
    if not kept:
        return None
    design = _Design(
        values[kept],
        _numbered([str(classes[index]) for index in kept]),
        _numbered([pairs.query[index] for index in kept]),
        _numbered([pairs.support[index] for index in kept]),
    )
    return decomposed(design, resamples, seed)


@dataclass(frozen=True)
class _Design:
    """Pairs by numbers: their values, and which class, query and support each has."""

    values: Floats
    classes: Places
    queries: Places
    supports: Places


def decomposed(design: _Design, resamples: int, seed: int) -> Spread | None:
    """The shares of a design, with intervals."""
    queries, supports = int(design.queries.max()) + 1, int(design.supports.max()) + 1
    found = _variances(design, np.ones(queries), np.ones(supports))
    if found is None:
        return None
    variance, shares = found
    stream = Stream("spread", seed)
    drawn = []
    for _ in range(resamples):
        weights = (
            np.bincount(stream.integers(count, count), minlength=count).astype(np.float64)
            for count in (queries, supports)
        )
        again = _variances(design, *weights)
        if again is not None:
            drawn.append(again[1])
    if len(drawn) < 0.99 * resamples or not drawn:
        ends = np.full((2, len(SOURCES)), np.nan)
    else:
        ends = np.quantile(np.array(drawn), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], axis=0)
    named = zip(SOURCES, shares.tolist(), *ends.tolist(), strict=True)
    return Spread(
        variance,
        tuple(Share(name, share, *(None if np.isnan(end) else end for end in both)) for name, share, *both in named),
        len(design.values),
    )


def _variances(design: _Design, query_weights: Floats, support_weights: Floats) -> tuple[float, Floats] | None:
    """The variance, and the shares of SOURCES, of pairs with weights query x support; None if something is missing."""
    of_query, of_support = query_weights[design.queries], support_weights[design.supports]
    in_query = design.classes * len(query_weights) + design.queries
    in_support = design.classes * len(support_weights) + design.supports
    # Two copies of one query are no two queries: within a query its weight counts once, and never squared.
    same_query = _halves(design.values, of_support, in_query, of_query)
    same_support = _halves(design.values, of_query, in_support, of_support)
    whole = _halves(design.values, of_query * of_support, design.classes)
    inside = [_halves(design.values, of_query * of_support, groups) for groups in (in_query, in_support)]
    other = whole - inside[0] - inside[1]
    if min(same_query[1], same_support[1], other[1]) <= 0:
        return None
    by_query, by_support, total = (sums[0] / sums[1] for sums in (same_query, same_support, other))
    if total <= 0:
        return None
    parts = np.array([total - by_query, total - by_support, by_query + by_support - total])
    return float(total), parts / total


def _halves(values: Floats, weights: Floats, groups: Places, times: Floats | None = None) -> Floats:
    """Half the squared differences of all two values of a group, weighted and summed, and the sum of their weights.

    The sum over two of a group of a_i a_j (y_i - y_j)^2 is (sum a)(sum a y^2) - (sum a y)^2.

    Args:
        times: further weights that are alike within a group and count once.
    """
    columns = (weights, weights * values, weights * values**2, weights**2)
    a, ay, ayy, aa = (np.bincount(groups, column).astype(np.float64) for column in columns)
    squares, count = a * ayy - ay**2, (a**2 - aa) / 2
    if times is not None:
        once = np.zeros(len(a))
        once[groups] = times
        squares, count = squares * once, count * once
    return np.array([squares.sum() / 2, count.sum()])


def _numbered(names: Sequence[str]) -> Places:
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.intp)
