"""Which episodes are trained on, in which order: a function of seed, epoch and index alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from oshp_bench.episodes.episodes import Way
from oshp_bench.errors import OshpError
from oshp_bench.manifest import Manifest
from oshp_bench.randomness import Stream

Supports = Literal["one", "each class"]


@dataclass(frozen=True)
class Draw:
    """A training episode.

    Attributes:
        query: an image id.
        supports: image ids.
        targets: the class that each support was drawn for; 0 for any support, which stands for all that it shows.
    """

    query: str
    supports: tuple[str, ...]
    targets: tuple[int, ...]


class Draws:
    """The training episodes of a manifest, by epoch and index.

    k-way: every query of Q_train, with any support of S_train; or, with supports "each class", with one for every base
    class that the query shows, drawn from those that hold it. 1-way: every base class with the queries that hold it,
    the first `queries_per_class` of Q_train, and any support that holds it. The order of the list is shuffled anew
    every time that it has been used up. An epoch has only whole batches and continues where the last one stopped, so
    that every episode is used once before any is used again.

    Args:
        redraw: draw new supports every time that the list has been used up; False draws them once.
        episodes: of an epoch; None for the whole list.
        batch: the number of episodes of an epoch is rounded down to a multiple of it.

    Raises:
        OshpError: the manifest does not know the classes of its training images, none of them serves, or too few to
            fill a batch.
    """

    def __init__(
        self,
        manifest: Manifest,
        way: Way = "k",
        seed: int = 0,
        *,
        supports: Supports = "one",
        queries_per_class: int = 1500,
        redraw: bool = True,
        episodes: int | None = None,
        batch: int = 1,
    ) -> None:
        queries, pool = _known_pools(manifest)
        holding = {
            target: [image for image, present in pool.items() if target in present]
            for target in manifest.ids_of("base")
        }
        # Class 0 stands for any support.
        self._supports = {0: list(pool)} | {target: images for target, images in holding.items() if images}
        if way == "1":
            self._items: list[tuple[str, tuple[int, ...]]] = [
                (query, (target,))
                for target in holding
                if target in self._supports
                for query in [image for image, present in queries.items() if target in present][:queries_per_class]
            ]
        elif supports == "one":
            self._items = [(query, (0,)) for query in queries if pool]
        else:
            shown = {
                query: tuple(target for target in holding if target in present and holding[target])
                for query, present in queries.items()
            }
            self._items = [(query, targets) for query, targets in shown.items() if targets]
        if not self._items:
            raise OshpError(f"{manifest.name}: its training pools hold no pair of images with one base class")
        wanted = episodes or len(self._items)
        if wanted < batch:
            raise OshpError(f"{manifest.name}: {wanted} episodes an epoch do not fill a batch of {batch}")
        self._episodes = wanted // batch * batch
        self._key = (seed, way)
        self._redraw = redraw
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
        asked = dict.fromkeys(target for _, targets in self._items for target in targets)
        drawn = [query for query, _ in self._items] + [image for target in asked for image in self._supports[target]]
        return tuple(dict.fromkeys(drawn))

    def _passage(self, passage: int) -> list[Draw]:
        most = sum(len(targets) for _, targets in self._items)
        words = iter(Stream("oshp-train", "supports", *self._key, passage if self._redraw else 0).words(most).tolist())
        draws = []
        for query, targets in self._items:
            holding = [self._supports[target] for target in targets]
            draws.append(Draw(query, tuple(images[next(words) % len(images)] for images in holding), targets))
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
