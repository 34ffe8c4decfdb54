"""Which episodes are trained on, in which order: a function of seed, epoch and index alone."""

from __future__ import annotations

from dataclasses import dataclass

from oshp_bench.errors import OshpError
from oshp_bench.manifest import Manifest
from oshp_bench.randomness import Stream
from oshp_bench.training.settings import TrainSettings


@dataclass(frozen=True)
class Draw:
    """A training episode: `target` is the class of a 1-way episode, 0 for k-way."""

    query: str
    support: str
    target: int


class Draws:
    """The training episodes of a manifest, by epoch and index.

    k-way: every query of Q_train with any support of S_train. 1-way: every base class with the queries that hold it,
    the first `queries_per_class` of Q_train, each with any support that holds it. The list is gone through in an
    order that is shuffled anew at every passage. An epoch has whole batches alone, and goes on where the last one
    stopped, so no episode is left out of a passage.

    Raises:
        OshpError: the manifest does not know the classes of its training images, none of them serves, or too few to
            fill a batch.
    """

    def __init__(self, manifest: Manifest, settings: TrainSettings) -> None:
        queries, supports = _known_pools(manifest)
        # Class 0 stands for "any": a k-way episode has no target.
        targets = (0,) if settings.way == "k" else manifest.ids_of("base")
        self._supports = {
            target: [image for image, present in supports.items() if target in (0, *present)] for target in targets
        }
        most = None if settings.way == "k" else settings.queries_per_class
        self._items = [
            (query, target)
            for target in targets
            if self._supports[target]
            for query in [image for image, present in queries.items() if target in (0, *present)][:most]
        ]
        if not self._items:
            raise OshpError(f"{manifest.name}: its training pools hold no pair of images with one base class")
        episodes = settings.episodes or len(self._items)
        if episodes < settings.batch:
            raise OshpError(f"{manifest.name}: {episodes} episodes an epoch do not fill a batch of {settings.batch}")
        self._episodes = episodes // settings.batch * settings.batch
        self._key = (settings.seed, settings.way)
        self._redraw = settings.redraw
        self._passages: dict[int, list[Draw]] = {}

    def __len__(self) -> int:
        """The episodes of an epoch: a multiple of the batch."""
        return self._episodes

    def draw(self, epoch: int, index: int) -> Draw:
        """The episode of an epoch and index, both counted from 0."""
        passage, position = divmod(epoch * self._episodes + index, len(self._items))
        if passage not in self._passages:
            # Batches go forward: only the passage that ends and the one that begins are asked for.
            self._passages = {kept: draws for kept, draws in self._passages.items() if kept == passage - 1}
            self._passages[passage] = self._passage(passage)
        return self._passages[passage][position]

    @property
    def images(self) -> tuple[str, ...]:
        """Every image that may be drawn, queries first."""
        drawn = [query for query, _ in self._items] + [each for images in self._supports.values() for each in images]
        return tuple(dict.fromkeys(drawn))

    def _passage(self, passage: int) -> list[Draw]:
        words = Stream("oshp-train", "supports", *self._key, passage if self._redraw else 0).words(len(self._items))
        draws = []
        for (query, target), word in zip(self._items, words.tolist(), strict=True):
            supports = self._supports[target]
            draws.append(Draw(query, supports[word % len(supports)], target))
        return Stream("oshp-train", "order", *self._key, passage).shuffled(draws)


def _known_pools(manifest: Manifest) -> list[dict[str, tuple[int, ...]]]:
    pools = []
    for name in ("query_train", "support_train"):
        known = {image: present for image, present in manifest.pools[name].items() if present is not None}
        if len(known) < len(manifest.pools[name]):
            raise OshpError(
                f"{manifest.name}: does not know which classes the images of {name} hold; tailor it from your own"
                " masks with oshp-tailor, and train on that manifest"
            )
        pools.append(known)
    return pools
