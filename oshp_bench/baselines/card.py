"""What a checkpoint says of itself: its card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oshp_bench.baselines.contract import Labels
from oshp_bench.datasets.labels import ID_PATTERN
from oshp_bench.episodes.episodes import Way
from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.manifest import Manifest, OshpClass, load_manifest, shipped_manifests
from oshp_bench.manifest.model import ROLES
from oshp_bench.untrusted import Reader, shown

CARD_FORMAT = "oshp-checkpoint/1"
# Wider networks would not fit the memory that reading a small file may take.
_MOST_WIDTH = 1024


@dataclass(frozen=True)
class TrainedOn:
    """The manifest that a checkpoint was trained on.

    Attributes:
        classes: with their roles; novel ones were background in training.
        dataset: its name; "" in checkpoints of versions before 0.2.
        images: the training images; empty in checkpoints of versions before 0.2.
    """

    name: str
    version: str
    digest: str
    test_digest: str
    classes: tuple[OshpClass, ...]
    dataset: str = ""
    images: tuple[str, ...] = ()

    @classmethod
    def of(cls, manifest: Manifest) -> TrainedOn:
        """What a card keeps of a manifest."""
        return cls(
            manifest.name,
            manifest.version,
            manifest.digest,
            manifest.test_digest,
            manifest.classes,
            manifest.dataset.name,
            tuple(sorted(manifest.training_images)),
        )

    def tested_on(self, manifest: Manifest) -> list[str]:
        """The training images that are test images of a manifest, as far as is known.

        A checkpoint of a version before 0.2 does not list its images; they are known if it was trained on a shipped
        manifest.
        """
        shipped = shipped_manifests().get(self.name)
        if self.images:
            dataset, images = self.dataset, self.images
        elif shipped and (known := load_manifest(shipped)).digest == self.digest:
            dataset, images = known.dataset.name, known.training_images
        else:
            return []
        test = {*manifest.pools["query_test"], *manifest.pools["support_test"]}
        return sorted(test.intersection(images)) if dataset == manifest.dataset.name else []

    def ids_of(self, role: str) -> tuple[int, ...]:
        """The class ids of a role."""
        return tuple(known.id for known in self.classes if known.role == role)


@dataclass(frozen=True)
class Card:
    """A checkpoint's card.

    Attributes:
        method: the method's name; only methods with a network have checkpoints.
        model: the method's own settings, as a table.
        count: one more than the largest class id.
        test_side: the longer side of photos at test, in pixels; None for native size.
        manifest: what it was trained on; None for the authors' checkpoints and methods that need no training.
        training: the settings of its training as a table, and what was measured; for people.
        architecture: see Backbone.architecture.
    """

    method: str
    way: Way
    backbone: str
    width: int
    count: int
    model: Mapping[str, Any]
    test_side: int | None = None
    manifest: TrainedOn | None = None
    training: Mapping[str, Any] | None = None
    architecture: Mapping[str, Any] | None = None

    @property
    def labels(self) -> Labels:
        """What its method is told of the classes."""
        return Labels(self.count, tuple(sorted(self.manifest.ids_of("base"))) if self.manifest else ())


def read_card(document: Any, origin: str) -> Card:
    """A card from its JSON, which may be anything.

    Raises:
        OshpError: everything that is wrong with it.
    """
    if not isinstance(document, dict) or document.get("format") != CARD_FORMAT:
        raise OshpError(f'{origin}: no checkpoint (its "format" is not "{CARD_FORMAT}")')
    reader = Reader(document, origin)
    way = reader.text("way")
    reader.wrong_if(way not in ("k", "1"), f"way {shown(way)} is neither k nor 1")
    card = Card(
        method=reader.text("method"),
        way="1" if way == "1" else "k",
        backbone=reader.text("backbone"),
        width=reader.integer("width", least=1, most=_MOST_WIDTH),
        count=reader.integer("count", least=2, most=255),
        model=reader.table("model").everything(),
        test_side=None if reader.absent("test_side") else reader.integer("test_side", least=32, most=8192),
        manifest=None if reader.absent("manifest") else _trained_on(reader.table("manifest")),
        training=None if reader.absent("training") else reader.table("training").everything(),
        architecture=None if reader.absent("architecture") else reader.table("architecture").everything(),
    )
    raise_problems(reader.problems)
    return card


def _trained_on(reader: Reader) -> TrainedOn:
    name, version, digest, test_digest = (reader.text(key) for key in ("name", "version", "digest", "test_digest"))
    classes = []
    for entry in reader.tables("classes"):
        classes.append(OshpClass(entry.integer("id", least=0, most=253), entry.text("name"), entry.text("role")))
        entry.wrong_if(classes[-1].role not in ROLES, f"role {shown(classes[-1].role)} is none of {', '.join(ROLES)}")
    images = reader.texts("images", optional=True)
    reader.wrong_if(
        any(not ID_PATTERN.fullmatch(image) for image in images), "images holds something else than image ids"
    )
    dataset = reader.text("dataset", optional=True)
    return TrainedOn(name, version, digest, test_digest, tuple(classes), dataset, images)
