"""A manifest made by hand, for tests that need one and do not test how it is made."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from oshp_bench.datasets.images import IGNORE
from oshp_bench.datasets.labels import Spec
from oshp_bench.datasets.sources import find_source
from oshp_bench.manifest import Manifest, OshpClass, Pairs


def manifest_of(spec: Spec, root: Path, fold: int = 1) -> Manifest:
    """For every class 10 queries with 15 supports each, supports taken in turn; 3 validation pairs a base class."""
    source = find_source(spec.dataset, root)
    novel = spec.folds[fold]
    pools = {
        pool: {
            image: tuple(int(each) for each in np.unique(source.merged_mask(image)) if each not in (0, IGNORE))
            for image in source.lists[name][start:stop]
        }
        for pool, (name, start, stop) in spec.pools.items()
    }
    rows = []
    for target in spec.official.order:
        queries = [image for image, present in pools["query_test"].items() if target in present]
        supports = [image for image, present in pools["support_test"].items() if target in present]
        for turn in range(150):
            support = supports[turn % len(supports)]
            rows.append((queries[turn // 15], support, target, pools["support_test"][support]))
    validation = []
    for target in spec.official.order:
        if target not in novel:
            queries = [image for image, present in pools["query_train"].items() if target in present]
            supports = [image for image, present in pools["support_train"].items() if target in present]
            for turn in range(3):
                base = tuple(each for each in pools["support_train"][supports[turn]] if each not in novel)
                validation.append((queries[turn], supports[turn], target, base))
    roles = {0: "background", **dict.fromkeys(novel, "novel")}
    return Manifest(
        name=f"{spec.dataset.name}_fold{fold}",
        version="1.0.0",
        dataset=spec.dataset,
        fold=fold,
        protocol={"name": "by-hand"},
        classes=tuple(OshpClass(each.id, each.name, roles.get(each.id, "base")) for each in spec.dataset.classes),
        pools=pools,
        pairs=Pairs(*(tuple(column) for column in zip(*rows, strict=True))),
        validation=Pairs(*(tuple(column) for column in zip(*validation, strict=True))),
    )
