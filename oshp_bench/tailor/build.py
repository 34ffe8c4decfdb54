"""Builds a manifest: presence, pools, pairs, and the record of how they were made."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from oshp_bench.console import progress
from oshp_bench.datasets.labels import POOLS, Spec
from oshp_bench.datasets.sources import Source
from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.manifest import Manifest, OshpClass, Pairs
from oshp_bench.manifest.rules import PAIRS_PER_CLASS, broken_rules
from oshp_bench.randomness import GENERATOR, Stream
from oshp_bench.tailor.pairs import Pair, Pool, balanced_pairs, even_pairs, halves, official_pairs
from oshp_bench.tailor.pools import pool_ids
from oshp_bench.tailor.presence import Classes, Presence, find_presence
from oshp_bench.version import __version__

PROTOCOLS = ("official", "balanced")
_VALIDATION_PAIRS = 30
_VALIDATION_SEED = 0
_TRAIN_POOLS, _TEST_POOLS = POOLS[:2], POOLS[2:]


@dataclass(frozen=True)
class Recipe:
    """A dataset's spec with everything that a user chooses.

    Attributes:
        seed: of the protocol "balanced"; "official" draws no random numbers.
        raw: leaves out the spec's corrections of labels, but not its exclusions.

    Raises:
        OshpError: the dataset has no such fold, protocol or option.
    """

    spec: Spec
    fold: int
    protocol: str = "official"
    seed: int = 0
    raw: bool = False

    def __post_init__(self) -> None:
        name, folds = self.spec.dataset.name, ", ".join(map(str, sorted(self.spec.folds)))
        if self.fold not in self.spec.folds:
            raise OshpError(f"{name} has no fold {self.fold}; it has {folds}")
        if self.protocol not in PROTOCOLS:
            raise OshpError(f"no protocol {self.protocol!r}; known: {', '.join(PROTOCOLS)}")
        if self.raw and not self.spec.dataset.corrections:
            raise OshpError(f"{name} has no corrections to leave out")
        if self.seed and self.protocol == "official":
            raise OshpError("the official rule draws no random numbers; a seed goes with --protocol balanced")

    @property
    def name(self) -> str:
        """The manifest's name."""
        balanced = "" if self.protocol == "official" else "_balanced" + (f"_seed{self.seed}" if self.seed else "")
        return f"{self.spec.dataset.name}_fold{self.fold}{balanced}{'_raw' if self.raw else ''}"

    @property
    def tailored_spec(self) -> Spec:
        """The spec, without corrections if these are left out."""
        return replace(self.spec, dataset=replace(self.spec.dataset, corrections=())) if self.raw else self.spec


def build_manifest(recipe: Recipe, source: Source, shipped: Manifest | None = None) -> Manifest:
    """Tailors a dataset: finds the classes of its images, cuts the pools, draws the pairs.

    The test pairs and the validation pairs of a class do not depend on the fold.

    Args:
        source: where the dataset of the recipe's tailored spec lies.
        shipped: the shipped manifest of this name; errors then say which images are missing.

    Raises:
        OshpError: all problems with the files, pools or pairs, or a manifest that would break the rules.
    """
    spec = recipe.tailored_spec
    names = spec.dataset.names
    ids = pool_ids(spec, source, shipped)
    images = sorted({image for pool in POOLS for image in ids[pool]})
    presence = find_presence(source, progress(images, "reading masks"), spec.official.min_pixels)
    pools = {pool: {image: presence.held[image] for image in ids[pool]} for pool in POOLS}
    queries, supports = (_known(pools[pool], pool, source) for pool in _TEST_POOLS)
    key = (spec.dataset.name, "balanced", recipe.seed)
    if recipe.protocol == "balanced":
        every = {**queries, **supports}
        queries, supports = halves(every, spec.official.order, spec.dataset.source_of, Stream(*key, "halves"))
        pools |= {"query_test": dict(queries), "support_test": dict(supports)}
    raise_problems(_empty_classes(recipe, pools, names))
    if recipe.protocol == "balanced":
        drawn = balanced_pairs(spec.official.order, names, queries, supports, spec.dataset.source_of, key)
    else:
        drawn = official_pairs(spec.official, names, queries, supports)
    novel = spec.folds[recipe.fold]
    base = [target for target in spec.official.order if target not in novel]
    validation = _validation_pairs(spec, base, names, pools)
    manifest = Manifest(
        name=recipe.name,
        version=spec.balanced_version if recipe.protocol == "balanced" else spec.version,
        dataset=spec.dataset,
        fold=recipe.fold,
        protocol=_protocol(recipe, validation is not None),
        classes=tuple(OshpClass(number, name, _role(number, novel)) for number, name in names.items()),
        pools=pools,
        pairs=_columns(drawn, presence, spec.official.order),
        validation=None if validation is None else _columns(validation, presence, base),
        made_by=f"oshp-bench {__version__}",
    )
    raise_problems(f"{manifest.name}: {problem}" for problem in broken_rules(manifest))
    return manifest


def _protocol(recipe: Recipe, validated: bool) -> dict[str, Any]:
    """Everything needed to draw the same pairs again."""
    spec, rule = recipe.spec, recipe.spec.official
    if recipe.protocol == "official":
        own = {
            "queries_per_class": rule.queries_per_class,
            "supports_per_query": rule.supports_per_query,
            "supports": rule.supports,
        }
    else:
        own = {"seed": recipe.seed, "generator": GENERATOR, "test_pools": "halves of all test images"}
    seeded = {"pairs_per_class": _VALIDATION_PAIRS, "seed": _VALIDATION_SEED, "generator": GENERATOR}
    return {
        "name": recipe.protocol,
        **own,
        "pairs_per_class": PAIRS_PER_CLASS,
        "min_pixels": rule.min_pixels,
        "corrections": bool(recipe.tailored_spec.dataset.corrections),
        "order": [spec.dataset.names[target] for target in rule.order],
        "lists": {name: {"of": of, "ranges": [*map(list, ranges)]} for name, (of, ranges) in spec.lists.items()},
        "pools": {pool: {"list": of, "start": start, "stop": stop} for pool, (of, start, stop) in spec.pools.items()},
        "validation": seeded if validated else None,
    }


def _known(pool: Mapping[str, Classes | None], name: str, source: Source) -> Pool:
    unknown = [image for image, classes in pool.items() if classes is None]
    if unknown:
        raise OshpError(
            f"{source.root}: the tables lack {len(unknown)} images of the pool {name}, such as {unknown[0]}"
        )
    return {image: classes for image, classes in pool.items() if classes is not None}


def _empty_classes(
    recipe: Recipe, pools: Mapping[str, Mapping[str, Classes | None]], names: Mapping[int, str]
) -> Iterator[str]:
    for pool in POOLS:
        found: set[int] = set()
        for classes in pools[pool].values():
            # Unknown classes may be any.
            found.update(names if classes is None else classes)
        for target in recipe.spec.official.order:
            # Training never sees a novel class, so its images need not show it.
            if target not in found and not (pool in _TRAIN_POOLS and target in recipe.spec.folds[recipe.fold]):
                yield (
                    f"{names[target]}: no image of the pool {pool} holds it with at least"
                    f" {recipe.spec.official.min_pixels} pixels; choose other pools or leave the class out of the spec"
                )


def _role(target: int, novel: Collection[int]) -> str:
    return "background" if target == 0 else "novel" if target in novel else "base"


def _columns(pairs: list[Pair], presence: Presence, allowed: Collection[int]) -> Pairs:
    shown = {support: presence.shown[support] or () for _, support, _ in pairs}
    return Pairs(
        query=tuple(query for query, _, _ in pairs),
        support=tuple(support for _, support, _ in pairs),
        target=tuple(target for _, _, target in pairs),
        support_classes=tuple(tuple(label for label in shown[support] if label in allowed) for _, support, _ in pairs),
    )


def _validation_pairs(
    spec: Spec, base: list[int], names: Mapping[int, str], pools: Mapping[str, Mapping[str, Classes | None]]
) -> list[Pair] | None:
    """Up to 30 pairs of training images for every base class; None where the classes of some images are unknown."""
    if any(classes is None for pool in _TRAIN_POOLS for classes in pools[pool].values()):
        return None
    queries, supports = ({image: classes or () for image, classes in pools[pool].items()} for pool in _TRAIN_POOLS)
    key = (spec.dataset.name, "validation", _VALIDATION_SEED)
    return [
        pair
        for target in base
        for pair in even_pairs(
            target, queries, supports, _VALIDATION_PAIRS, spec.dataset.source_of, (*key, names[target])
        )
    ]
