"""Draws query-support pairs: the official rule, the balanced protocol, and the pairs of validation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle, zip_longest
from math import lcm

from oshp_bench.datasets.labels import OfficialRule
from oshp_bench.errors import raise_problems
from oshp_bench.manifest.rules import PAIRS_PER_CLASS
from oshp_bench.randomness import Stream
from oshp_bench.tailor.presence import Classes

Pair = tuple[str, str, int]
"""Query, support, and the class that they were drawn for."""
Pool = Mapping[str, Classes]
"""Image id -> the classes that it holds; ids in sorted order."""


def official_pairs(rule: OfficialRule, names: Mapping[int, str], queries: Pool, supports: Pool) -> list[Pair]:
    """Draws pairs by the official rule (spec section 3): no random numbers, classes in the rule's order.

    For every class, the first images of the query pool that hold it and are not yet a query; each is paired with the
    next images of the support pool that hold the class: with `unused` supports those that are not yet a support, with
    `cyclic` ones the whole list again and again.

    Args:
        names: class id -> name, for the errors.

    Returns:
        Pairs class by class, query by query.

    Raises:
        OshpError: every class of which a pool does not hold enough images.
    """
    pairs: list[Pair] = []
    problems: list[str] = []
    # Images of either pool: no image stands in both.
    used: set[str] = set()
    total = rule.queries_per_class * rule.supports_per_query
    for target in rule.order:
        mine = [image for image in _holders(queries, target) if image not in used][: rule.queries_per_class]
        theirs = [image for image in _holders(supports, target) if image not in used][
            : total if rule.supports == "unused" else None
        ]
        needed = total if rule.supports == "unused" else rule.supports_per_query
        for pool, found, least in (("query", len(mine), rule.queries_per_class), ("support", len(theirs), needed)):
            if found < least:
                problems.append(
                    f"{names[target]}: the official rule needs {least} unused images of the {pool} pool that hold it"
                    f" and finds {found}; --protocol balanced needs fewer"
                )
        used.update(mine)
        if rule.supports == "unused":
            used.update(theirs)
        repeated = (query for query in mine for _ in range(rule.supports_per_query))
        pairs.extend((query, support, target) for query, support in zip(repeated, cycle(theirs), strict=False))
    raise_problems(problems)
    return pairs


def halves(images: Pool, order: Sequence[int], source_of: Callable[[str], str], stream: Stream) -> tuple[Pool, Pool]:
    """Splits images into two halves that are alike in their sources and in their classes, the rare ones above all.

    Images are sorted by source, then by which classes they hold, the rarest class deciding first, equal ones in random
    order. Neighbours in that row are twins; a coin sends one to either half. A class is split unevenly only where twins
    differ in it, which for the rarest are at most two pairs of twins a source.

    Args:
        order: class ids, rarest first.
    """
    row = sorted(
        stream.shuffled(sorted(images)),
        key=lambda image: (source_of(image), [target not in images[image] for target in order]),
    )
    coins = stream.integers(2, -(-len(row) // 2))
    sides: tuple[list[str], list[str]] = ([], [])
    for index, image in enumerate(row):
        sides[(int(coins[index // 2]) + index) % 2].append(image)
    first, second = ({image: images[image] for image in sorted(side)} for side in sides)
    return first, second


def balanced_pairs(
    targets: Iterable[int],
    names: Mapping[int, str],
    queries: Pool,
    supports: Pool,
    source_of: Callable[[str], str],
    key: tuple[str | int, ...],
) -> list[Pair]:
    """Draws 150 different pairs a class with as many distinct queries as there are, up to 150, all used alike.

    What is balanced, where the official rule is not:
    - queries: up to 150 distinct ones a class instead of 10, so that a figure rests on many people;
    - use: images of a class are used equally often, give or take one, as queries and as supports;
    - sources: queries and supports are drawn evenly from the sources as long as these last, and all combinations of
      sources come equally often, so that every class is scored on the same mix of pairs within and across sources;
    - classes: an image that holds a class is drawn for it whatever other classes have drawn, so that no class is left
      with what the others did not want.

    Args:
        names: class id -> name, for the errors and the random streams.
        key: the name of the random streams; a class's pairs depend on it, on the class's name and on the pools alone.

    Raises:
        OshpError: every class of which the pools give fewer than 150 different pairs.
    """
    pairs: list[Pair] = []
    problems: list[str] = []
    for target in targets:
        mine = even_pairs(target, queries, supports, PAIRS_PER_CLASS, source_of, (*key, names[target]))
        if len(mine) < PAIRS_PER_CLASS:
            problems.append(
                f"{names[target]}: {len(_holders(queries, target))} queries and {len(_holders(supports, target))}"
                f" supports hold it, which gives {len(mine)} different pairs; {PAIRS_PER_CLASS} are needed"
            )
        pairs.extend(mine)
    raise_problems(problems)
    return pairs


def even_pairs(
    target: int,
    queries: Pool,
    supports: Pool,
    most: int,
    source_of: Callable[[str], str],
    key: tuple[str | int, ...],
) -> list[Pair]:
    """Draws different pairs of a class, the images of either side used equally often, give or take one.

    Returns:
        As many pairs as asked for, or all there are, query by query.
    """
    mine = _evenly(_holders(queries, target), source_of, Stream(*key, "queries"), turn=0)[:most]
    # The supports' sources turn against the queries', so that all combinations of sources come equally often.
    theirs = _evenly(_holders(supports, target), source_of, Stream(*key, "supports"), turn=1)[:most]
    # Both lists go round; when their rounds meet again, one is shifted by a place, so no pair comes twice.
    rounds = lcm(len(mine), len(theirs))
    drawn = [
        (index % len(mine), (index + index // rounds) % len(theirs))
        for index in range(min(most, len(mine) * len(theirs)))
    ]
    return [(mine[query], theirs[support], target) for query, support in sorted(drawn, key=lambda pair: pair[0])]


def _holders(pool: Pool, target: int) -> list[str]:
    return [image for image, classes in pool.items() if target in classes]


def _evenly(images: Iterable[str], source_of: Callable[[str], str], stream: Stream, turn: int) -> list[str]:
    """Puts images in a random order of which every beginning is drawn evenly from their sources.

    Args:
        turn: by how many places a round starts later than the round before it.
    """
    groups: dict[str, list[str]] = {}
    for image in stream.shuffled(sorted(images)):
        groups.setdefault(source_of(image), []).append(image)
    row: list[str] = []
    for number, taken in enumerate(zip_longest(*groups.values())):
        # A round takes one image of every source that still has some.
        found = [image for image in taken if image]
        start = number * turn % len(found)
        row += found[start:] + found[:start]
    return row
