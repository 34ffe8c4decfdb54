"""What a manifest says, as frozen dataclasses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oshp_bench.datasets.labels import POOLS, Dataset
from oshp_bench.files import content_digest

MANIFEST_FORMAT = "oshp-manifest/1"
ROLES = ("background", "base", "novel")

Pools = Mapping[str, Mapping[str, tuple[int, ...] | None]]
"""Pool -> image id -> class ids present in it, without background; None where they are unknown."""


@dataclass(frozen=True)
class OshpClass:
    """A class of a manifest; its role is "background", "base" or "novel"."""

    id: int
    name: str
    role: str


@dataclass(frozen=True)
class Pairs:
    """Query-support pairs as columns of equal length.

    Attributes:
        query, support: image ids.
        target: the class that a pair was drawn for, and that 1-way parses.
        support_classes: C_s without background, ascending: the classes with at least one pixel in the support mask.
    """

    query: tuple[str, ...]
    support: tuple[str, ...]
    target: tuple[int, ...]
    support_classes: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.query)

    def name(self, index: int) -> str:
        """The name of a pair and of its prediction file: "0000", "0001", ..."""
        return f"{index:0{max(4, len(str(len(self) - 1)))}d}"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of all pairs in order."""
        return tuple(self.name(index) for index in range(len(self)))

    @cached_property
    def queries(self) -> tuple[str, ...]:
        """The distinct query images in order of first use."""
        return tuple(dict.fromkeys(self.query))


@dataclass(frozen=True, repr=False)
class Manifest:
    """A versioned list of test pairs with everything needed to audit, repeat and score it.

    Attributes:
        name: such as "atr_fold1".
        version: semantic version; the content under a name and version never changes.
        protocol: the sampling rule's name and all its parameters.
        classes: background first, then by id.
        pools: the images of query_train, support_train, query_test, support_test with their classes.
        validation: pairs of training images over base classes, to choose checkpoints by; None where the classes of
            the training images are unknown.
        made_by: the tool and its version; no digest covers it.
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

    def __repr__(self) -> str:
        pairs, novel = f"{len(self.pairs):,} pairs", ", ".join(self.names_of("novel"))
        return f"<Manifest {self.name} {self.version}: {pairs}, {len(self.classes) - 1} classes, novel: {novel}>"

    @cached_property
    def names(self) -> Mapping[int, str]:
        """Class id -> name, background first, ascending."""
        return {spec.id: spec.name for spec in self.classes}

    @cached_property
    def class_ids(self) -> tuple[int, ...]:
        """All class ids, background 0 first, ascending."""
        return tuple(self.names)

    def ids_of(self, role: str) -> tuple[int, ...]:
        """The class ids of a role."""
        return tuple(spec.id for spec in self.classes if spec.role == role)

    def names_of(self, role: str) -> tuple[str, ...]:
        """The class names of a role, ordered by id."""
        return tuple(self.names[class_id] for class_id in self.ids_of(role))

    @property
    def training_images(self) -> tuple[str, ...]:
        """The images of Q_train, then those of S_train."""
        return (*self.pools["query_train"], *self.pools["support_train"])

    @cached_property
    def training_classes(self) -> NDArray[np.uint8]:
        """The class of every source label in fine training masks: uint8 [256].

        It is the merge with novel classes as background; 255 stays ignore.
        """
        merge = self.dataset.merge
        return np.where(np.isin(merge, self.ids_of("novel")), 0, merge).astype(np.uint8)

    def all_base(self) -> Manifest:
        """The manifest with its novel classes as base, for networks that parse people's own photos.

        It is called after its dataset, such as "ccp_all", as what is trained on it belongs to no fold.
        """
        classes = tuple(replace(spec, role="base") if spec.role == "novel" else spec for spec in self.classes)
        return replace(self, name=f"{self.dataset.name}_all", classes=classes)

    @cached_property
    def coverage(self) -> tuple[Mapping[str, Any], ...]:
        """One row per class: its pairs, distinct pairs, queries, supports, and the pairs whose images both hold it."""
        rows = []
        present = self.pools["query_test"]
        for spec in self.classes[1:]:
            mine = [i for i, target in enumerate(self.pairs.target) if target == spec.id]
            rows.append(
                {
                    "class": spec.name,
                    "role": spec.role,
                    "pairs": len(mine),
                    "distinct_pairs": len({(self.pairs.query[i], self.pairs.support[i]) for i in mine}),
                    "queries": len({self.pairs.query[i] for i in mine}),
                    "supports": len({self.pairs.support[i] for i in mine}),
                    "pairs_with_class_in_both": sum(
                        spec.id in support and spec.id in (present.get(query) or ())
                        for query, support in zip(self.pairs.query, self.pairs.support_classes, strict=True)
                    ),
                    "most_uses_of_a_support": max(Counter(self.pairs.support[i] for i in mine).values(), default=0),
                }
            )
        return tuple(rows)

    @cached_property
    def content(self) -> dict[str, Any]:
        """The members that the digest covers."""
        return {
            "format": MANIFEST_FORMAT,
            "name": self.name,
            "version": self.version,
            "fold": self.fold,
            "protocol": dict(self.protocol),
            "classes": [{"id": spec.id, "name": spec.name, "role": spec.role} for spec in self.classes],
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

        Manifests of equal test digest give comparable figures, even if one knows more about the training images.
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
    """The members of a dataset's spec that say what the numbers in masks mean."""
    return {
        "name": dataset.name,
        "labels": list(dataset.labels),
        "removed": list(dataset.classes[0].labels[1:]),
        "classes": {spec.name: {"id": spec.id, "labels": list(spec.labels)} for spec in dataset.classes[1:]},
        "exclude": dict(dataset.exclude),
        "corrections": [
            {"from": correction.source, "to": correction.target, "ids": sorted(correction.ids)}
            for correction in dataset.corrections
        ],
        "source_separator": dataset.source_separator,
    }


def files_json(dataset: Dataset) -> dict[str, Any]:
    """The members of a dataset's spec that say what it is called and where its files lie; no digest covers them."""
    layouts = [
        {
            "name": layout.name,
            "parts": [{key: value for key, value in vars(part).items() if value} for part in layout.parts],
        }
        for layout in dataset.layouts
    ]
    return {"title": dataset.title, "get": dataset.get, "tree": dataset.tree, "layouts": layouts}
