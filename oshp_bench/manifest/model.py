"""What a manifest says, as frozen dataclasses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oshp_bench.datasets.labels import POOLS, Dataset
from oshp_bench.files import content_digest

FORMAT = "oshp-manifest/1"
ROLES = ("background", "base", "novel")

Pools = Mapping[str, Mapping[str, tuple[int, ...] | None]]
"""Pool -> image id -> class ids present in it (background left out), None where nobody has looked."""


@dataclass(frozen=True)
class OshpClass:
    """A class of a manifest: role "background", "base" or "novel"."""

    id: int
    name: str
    role: str


@dataclass(frozen=True)
class Pairs:
    """Query-support pairs as columns of equal length.

    Attributes:
        query, support: image ids.
        target: the class a pair was drawn for, the one that 1-way parses.
        support_classes: C_s without background, ascending: classes with at least one pixel in the support mask.
    """

    query: tuple[str, ...]
    support: tuple[str, ...]
    target: tuple[int, ...]
    support_classes: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.query)

    def name(self, index: int) -> str:
        """The name of a pair, and of its prediction's file: "0000", "0001", ..."""
        return f"{index:0{max(4, len(str(len(self) - 1)))}d}"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of all pairs in order."""
        return tuple(self.name(index) for index in range(len(self)))

    @cached_property
    def queries(self) -> tuple[str, ...]:
        """The distinct query images in order of first use."""
        return tuple(dict.fromkeys(self.query))


@dataclass(frozen=True)
class Manifest:
    """A versioned list of test pairs with everything needed to audit, repeat and score it.

    Attributes:
        name: such as "atr_fold1".
        version: semantic version; what a name and version stand for never changes.
        protocol: the sampling rule's name and all its parameters.
        classes: background first, then by id.
        pools: the images of query_train, support_train, query_test, support_test with their present classes.
        validation: pairs of training images over base classes, for choosing checkpoints; None where the classes of
            the training images are not known.
        made_by: the tool's version; not part of a digest.
    """

    name: str
    version: str
    dataset: Dataset
    fold: int
    protocol: Mapping[str, Any]
    classes: tuple[OshpClass, ...]
    pools: Pools
    pairs: Pairs
    validation: Pairs | None
    made_by: str = ""

    @cached_property
    def class_ids(self) -> tuple[int, ...]:
        """All class ids, background 0 first, ascending."""
        return tuple(each.id for each in self.classes)

    def ids_of(self, role: str) -> tuple[int, ...]:
        """The class ids of a role."""
        return tuple(each.id for each in self.classes if each.role == role)

    @cached_property
    def training_classes(self) -> NDArray[np.uint8]:
        """The class of each source label in training: uint8 [256], the merge with novel classes as background."""
        merge = self.dataset.merge
        return np.where(np.isin(merge, self.ids_of("novel")), 0, merge).astype(np.uint8)

    @cached_property
    def coverage(self) -> tuple[Mapping[str, Any], ...]:
        """A row a class: its pairs, distinct pairs, queries and supports, and in how many pairs both images hold it."""
        rows = []
        present = self.pools["query_test"]
        for each in self.classes[1:]:
            mine = [i for i, target in enumerate(self.pairs.target) if target == each.id]
            rows.append(
                {
                    "class": each.name,
                    "role": each.role,
                    "pairs": len(mine),
                    "distinct_pairs": len({(self.pairs.query[i], self.pairs.support[i]) for i in mine}),
                    "queries": len({self.pairs.query[i] for i in mine}),
                    "supports": len({self.pairs.support[i] for i in mine}),
                    "pairs_with_class_in_both": sum(
                        each.id in support and each.id in (present.get(query) or ())
                        for query, support in zip(self.pairs.query, self.pairs.support_classes, strict=True)
                    ),
                    "most_uses_of_a_support": max(Counter(self.pairs.support[i] for i in mine).values(), default=0),
                }
            )
        return tuple(rows)

    @cached_property
    def content(self) -> dict[str, Any]:
        """The members that the digest is taken of."""
        return {
            "format": FORMAT,
            "name": self.name,
            "version": self.version,
            "fold": self.fold,
            "protocol": dict(self.protocol),
            "classes": [{"id": each.id, "name": each.name, "role": each.role} for each in self.classes],
            "coverage": [dict(row) for row in self.coverage],
            "pairs": pairs_json(self.pairs),
            "validation": None if self.validation is None else pairs_json(self.validation),
            "dataset": meaning_json(self.dataset),
            "pools": {
                pool: {image: None if present is None else list(present) for image, present in self.pools[pool].items()}
                for pool in POOLS
            },
        }

    @cached_property
    def digest(self) -> str:
        """The digest of all content: "sha256:..."."""
        return content_digest(self.content)

    @cached_property
    def test_digest(self) -> str:
        """The digest of what decides a score: labels and merge, classes with roles, test pairs.

        Two manifests of equal test digest give comparable figures even where one knows more of the training images.
        """
        return content_digest({key: self.content[key] for key in ("dataset", "classes", "pairs")})


def pairs_json(pairs: Pairs) -> dict[str, Any]:
    """Pairs as JSON columns."""
    return {
        "query": list(pairs.query),
        "support": list(pairs.support),
        "class": list(pairs.target),
        "support_classes": [list(present) for present in pairs.support_classes],
    }


def meaning_json(dataset: Dataset) -> dict[str, Any]:
    """The part of a dataset's spec that says what mask numbers mean, in the spec's own members."""
    return {
        "name": dataset.name,
        "labels": list(dataset.labels),
        "removed": list(dataset.classes[0].labels[1:]),
        "classes": {each.name: {"id": each.id, "labels": list(each.labels)} for each in dataset.classes[1:]},
        "exclude": dict(dataset.exclude),
        "corrections": [
            {"from": each.source, "to": each.target, "ids": sorted(each.ids)} for each in dataset.corrections
        ],
        "source_separator": dataset.source_separator,
    }


def files_json(dataset: Dataset) -> dict[str, Any]:
    """The part of a dataset's spec that says how it is called and where its files are found; no digest covers it."""
    layouts = []
    for layout in dataset.layouts:
        parts = []
        for part in layout.parts:
            keys = ("list", "photo", "mask", "ids", "variable", "presence", "drawn")
            members = {key: value for key in keys if (value := getattr(part, key))}
            parts.append(members)
        layouts.append({"name": layout.name, "parts": parts})
    return {"title": dataset.title, "get": dataset.get, "tree": dataset.tree, "layouts": layouts}
