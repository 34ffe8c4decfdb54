"""Cuts the id lists of a dataset into the four pools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from oshp_bench.datasets.labels import POOLS, Spec
from oshp_bench.datasets.sources import Source
from oshp_bench.errors import raise_problems
from oshp_bench.manifest import Manifest

PoolIds = Mapping[str, tuple[str, ...]]
_MOST_SHOWN = 5


def pool_ids(spec: Spec, source: Source, shipped: Manifest | None) -> PoolIds:
    """The image ids of the four pools, sorted as strings.

    A list that the layout does not give is cut out of one that it gives; a pool is a slice of a list.

    Args:
        shipped: the shipped manifest of this name, to name the images that are missing or too many.

    Raises:
        OshpError: a list with another number of ids than expected, a missing list, or an empty pool.
    """
    given = dict(source.lists)
    lists = dict(given)
    for name, (of, ranges) in spec.lists.items():
        if name not in given and of in given:
            lists[name] = tuple(image_id for start, stop in ranges for image_id in given[of][start:stop])
    raise_problems(_wrong_counts(spec, source, lists, shipped))
    needed = sorted({spec.pools[pool][0] for pool in POOLS} - lists.keys())
    raise_problems(f"{source.root}: the layout {source.layout.name!r} gives no list {name!r}" for name in needed)
    pools = {pool: tuple(sorted(lists[name][start:stop])) for pool, (name, start, stop) in spec.pools.items()}
    raise_problems(
        f"{source.root}: the pool {pool} is empty: it starts at image {spec.pools[pool][1]} of the list"
        f" {spec.pools[pool][0]!r}, which has {len(lists[spec.pools[pool][0]])}"
        for pool in POOLS
        if not pools[pool]
    )
    return pools


def _wrong_counts(
    spec: Spec, source: Source, lists: Mapping[str, tuple[str, ...]], shipped: Manifest | None
) -> Iterator[str]:
    wrong = False
    for name, expected in spec.counts.items():
        found = len(lists.get(name, ()))
        if name in lists and found != expected:
            wrong = True
            off = f"{expected - found} missing" if found < expected else f"{found - expected} too many"
            yield f"{source.root}: the list {name!r} has {found} images, not {expected}: {off}"
    if wrong and shipped is not None:
        here = {image_id for ids in source.lists.values() for image_id in ids}
        there = {image_id for pool in POOLS for image_id in shipped.pools[pool]}
        for what, ids in (("lacks", there - here), ("does not have", here - there)):
            if ids:
                holder = "this folder" if what == "lacks" else f"the shipped {shipped.name}"
                more = f" and {len(ids) - _MOST_SHOWN} more" if len(ids) > _MOST_SHOWN else ""
                yield f"{source.root}: {holder} {what} {', '.join(sorted(ids)[:_MOST_SHOWN])}{more}"
