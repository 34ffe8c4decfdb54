"""Draws query-support pairs: the official rule, the balanced protocol, and the pairs of validation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from itertools import cycle, zip_longest
from math import lcm

from oshp_bench.datasets.labels import OfficialRule
from oshp_bench.errors import raise_problems
from oshp_bench.manifest.rules import PAIRS_PER_CLASS
from oshp_bench.randomness import Stream
from oshp_bench.tailor.presence import Classes

Pair = tuple[str, str, int]
"""Query, support, and the class that they are drawn for."""
Pool = Mapping[str, Classes]
"""Image id -> its classes; ids in sorted order."""


def official_pairs(rule: OfficialRule, names: Mapping[int, str], queries: Pool, supports: Pool) -> list[Pair]:
    """Draws pairs by the official rule: no random numbers, classes in the rule's order.

    The queries of a class are the first images of the query pool that hold it and are not yet a query. A query is
    paired with the next images of the support pool that hold the class. With supports "unused", these are images that
    are not yet a support; with "cyclic", the whole list is used again and again.

    Source: He et al., TPAMI 2023, as the authors' release carries it out.

    Args:
        names: class id -> name, for the errors.

    Returns:
        Pairs class by class, query by query.

    Raises:
        OshpError: every class with too few images in a pool.
    """
    pairs: list[Pair] = []
    problems: list[str] = []
    # One set for both pools, as no image is in both.
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
                again = ', or supports = "cyclic" in the spec, which uses them again' * (
                    pool == "support" and needed == total
                )
                problems.append(
                    f"{names[target]}: the official rule needs {least} unused images with it in the {pool} pool and"
                    f" finds {found}; take --protocol balanced, which needs fewer{again}"
                )
        used.update(mine)
        if rule.supports == "unused":
            used.update(theirs)
        repeated = (query for query in mine for _ in range(rule.supports_per_query))
        pairs.extend((query, support, target) for query, support in zip(repeated, cycle(theirs), strict=False))
    raise_problems(problems)
    return pairs


def halves(images: Pool, order: Sequence[int], source_of: Callable[[str], str], stream: Stream) -> tuple[Pool, Pool]:
    """Splits images into two halves with like sources and like classes, above all like rare classes.

    Images are sorted by source, then by their classes, the rarest class first; equal images are in random order.
    Neighbours in this order are twins, and a coin decides which of them goes to which half. A class is split unevenly
    only where twins differ in it: for the rarest class, in at most two pairs of twins per source.

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
    """Draws 150 different pairs per class, with up to 150 distinct queries that are used alike.

    Unlike the official rule, it balances
    - queries: up to 150 distinct ones per class instead of 10, so that a figure rests on many people;
    - use: all images of a class are used equally often, up to a difference of one, as queries and as supports;
    - sources: queries and supports are drawn evenly from the sources until a source is used up, and all combinations
      of sources are equally frequent, so that every class has the same mix of pairs within and across sources;
    - classes: the images of a class do not depend on what was drawn for other classes. Where a query would meet a
      support that it has met for an earlier class, supports of the class are exchanged: the pair would count twice in
      k-way.

    Args:
        names: class id -> name, for the errors and the random streams.
        key: the name of the random streams; the images of a class depend only on it, on the class's name and on the
            pools.

    Raises:
        OshpError: every class for which the pools give fewer than 150 different pairs.
    """
    pairs: list[Pair] = []
    met: set[tuple[str, str]] = set()
    problems: list[str] = []
    for target in targets:
        mine = even_pairs(target, queries, supports, PAIRS_PER_CLASS, source_of, (*key, names[target]))
        if len(mine) < PAIRS_PER_CLASS:
            problems.append(
                f"{names[target]}: {len(_holders(queries, target))} queries and {len(_holders(supports, target))}"
                f" supports hold it, which gives {len(mine)} different pairs; {PAIRS_PER_CLASS} are needed"
            )
        mine = exchanged(mine, met, source_of)
        met.update((query, support) for query, support, _ in mine)
        pairs.extend(mine)
    raise_problems(problems)
    return pairs


def exchanged(pairs: Sequence[Pair], met: Set[tuple[str, str]], source_of: Callable[[str], str]) -> list[Pair]:
    """Exchanges the supports of a class's pairs so that none is in `met`; a pair that no exchange can free stays.

    Each exchange takes the next possible pair, one with a support of the same source if there is one.
    """
    found = list(pairs)
    taken = {*met, *((query, support) for query, support, _ in found)}
    for place, (query, support, target) in enumerate(found):
        if (query, support) not in met:
            continue
        others = [*range(place + 1, len(found)), *range(place)]
        others.sort(key=lambda other: source_of(found[other][1]) != source_of(support))
        for other in others:
            its_query, its_support, _ = found[other]
            if not taken & {(query, its_support), (its_query, support)}:
                taken.remove((its_query, its_support))
                taken |= {(query, its_support), (its_query, support)}
                found[place], found[other] = (query, its_support, target), (its_query, support, target)
                break
    return found


def even_pairs(
    target: int,
    queries: Pool,
    supports: Pool,
    most: int,
    source_of: Callable[[str], str],
    key: tuple[str | int, ...],
) -> list[Pair]:
    """Draws different pairs of a class; queries, and supports, are used equally often up to a difference of one.

    Returns:
        `most` pairs, or all possible ones if there are fewer, query by query.
    """
    mine = _evenly(_holders(queries, target), source_of, Stream(*key, "queries"), turn=0)[:most]
    # The sources of supports rotate relative to those of queries, so that all combinations are equally frequent.
    theirs = _evenly(_holders(supports, target), source_of, Stream(*key, "supports"), turn=1)[:most]
    # Both lists are cycled through. When they start together again, one is shifted by one, so that no pair repeats.
    rounds = lcm(len(mine), len(theirs))
    drawn = [
        (index % len(mine), (index + index // rounds) % len(theirs))
        for index in range(min(most, len(mine) * len(theirs)))
    ]
    return [(mine[query], theirs[support], target) for query, support in sorted(drawn, key=lambda pair: pair[0])]


def _holders(pool: Pool, target: int) -> list[str]:
    return [image for image, classes in pool.items() if target in classes]


def _evenly(images: Iterable[str], source_of: Callable[[str], str], stream: Stream, turn: int) -> list[str]:
    """Puts images in a random order whose first n images, for any n, come evenly from their sources.

    Args:
        turn: by how many places every round through the sources starts later than the one before.
    """
    groups: dict[str, list[str]] = {}
    for image in stream.shuffled(sorted(images)):
        groups.setdefault(source_of(image), []).append(image)
    row: list[str] = []
    for number, taken in enumerate(zip_longest(*groups.values())):
        # One image from every source that has images left.
        found = [image for image in taken if image]
        start = number * turn % len(found)
        row += found[start:] + found[:start]
    return row
