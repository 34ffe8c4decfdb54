"""The rules that every manifest must keep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from oshp_bench.datasets.labels import POOLS
from oshp_bench.manifest.model import Manifest, Pairs

PAIRS_PER_CLASS = 150
_MOST_SHOWN = 5


def broken_rules(manifest: Manifest) -> list[str]:
    """Every rule that a manifest breaks, as one line."""
    return [*_classes(manifest), *_pools(manifest), *_test_pairs(manifest), *_validation_pairs(manifest)]


def _classes(manifest: Manifest) -> Iterator[str]:
    merged = [(spec.id, spec.name) for spec in manifest.dataset.classes]
    if [(spec.id, spec.name) for spec in manifest.classes] != merged:
        yield "classes are not those of the merge table, background first, then by id"
    if any((spec.role == "background") != (spec.id == 0) for spec in manifest.classes):
        yield "class 0, and no other, has the role background"
    for role in ("base", "novel"):
        if not manifest.ids_of(role):
            yield f"no class has the role {role}"


def _pools(manifest: Manifest) -> Iterator[str]:
    pools_of = Counter(image for pool in POOLS for image in manifest.pools[pool])
    yield from _some("an image stands in more than one pool", [image for image, n in pools_of.items() if n > 1])
    foreground = set(manifest.class_ids) - {0}
    for pool in POOLS:
        images = manifest.pools[pool]
        if not images:
            yield f"the pool {pool} is empty"
        if list(images) != sorted(images):
            yield f"the pool {pool} is not sorted"
        strange = [image for image, present in images.items() if present and not foreground.issuperset(present)]
        yield from _some(f"the pool {pool} lists classes that do not exist", strange)


def _test_pairs(manifest: Manifest) -> Iterator[str]:
    pairs = manifest.pairs
    yield from _pairs(manifest, pairs, "pairs", "query_test", "support_test", set(manifest.class_ids) - {0})
    distinct = Counter(target for _, _, target in {*zip(pairs.query, pairs.support, pairs.target, strict=True)})
    for spec in manifest.classes[1:]:
        if distinct[spec.id] < PAIRS_PER_CLASS:
            yield f"{spec.name} has {distinct[spec.id]} different pairs; every class needs {PAIRS_PER_CLASS}"


def _validation_pairs(manifest: Manifest) -> Iterator[str]:
    if manifest.validation is not None:
        base = set(manifest.ids_of("base"))
        yield from _pairs(manifest, manifest.validation, "validation", "query_train", "support_train", base)


def _pairs(
    manifest: Manifest, pairs: Pairs, what: str, query_pool: str, support_pool: str, allowed: set[int]
) -> Iterator[str]:
    queries, supports = manifest.pools[query_pool], manifest.pools[support_pool]
    problems: dict[str, list[str]] = {}
    seen: set[tuple[str, str, int]] = set()
    columns = zip(pairs.query, pairs.support, pairs.target, pairs.support_classes, strict=True)
    for index, (query, support, target, support_classes) in enumerate(columns):
        query_classes, known_support_classes = queries.get(query), supports.get(support)
        for broken, rule in (
            (query not in queries, f"query is not in the pool {query_pool}"),
            (support not in supports, f"support is not in the pool {support_pool}"),
            ((query, support, target) in seen, "pair is listed twice"),
            (target not in allowed, "class is not allowed here"),
            (not allowed.issuperset(support_classes), "support_classes hold a class that is not allowed here"),
            (sorted(set(support_classes)) != list(support_classes), "support_classes are not ascending"),
            (target not in support_classes, "class is not in support_classes"),
            (query_classes is not None and target not in query_classes, "query does not hold the class"),
            (
                known_support_classes is not None
                and not set(support_classes).issuperset(allowed.intersection(known_support_classes)),
                "support_classes lack a class that the pool lists for the support",
            ),
        ):
            if broken:
                problems.setdefault(rule, []).append(pairs.name(index))
        seen.add((query, support, target))
    for rule, names in problems.items():
        yield from _some(f"{what}: {rule}", names)


def _some(rule: str, items: list[str]) -> Iterator[str]:
    if items:
        more = f" and {len(items) - _MOST_SHOWN} more" if len(items) > _MOST_SHOWN else ""
        yield f"{rule}: {', '.join(items[:_MOST_SHOWN])}{more}"
