"""Single episodes of a result as pictures, and their order from best to worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from oshp_bench.datasets.images import IGNORE, ImageProblem, Mask, Photo
from oshp_bench.datasets.sources import Source
from oshp_bench.errors import OshpError
from oshp_bench.manifest.truth import Truth
from oshp_bench.metrics.figures import EPISODE_RANKING
from oshp_bench.metrics.measures import Floats
from oshp_bench.metrics.predictions import PredictionSet, read_prediction
from oshp_bench.metrics.result import Result


@dataclass(frozen=True)
class PicturedEpisode:
    """An episode as pictures. Masks are uint8 [H, W] of class ids, with only the classes that the episode asks for.

    Attributes:
        pair: the pair's index.
        query_photo, support_photo, support_mask: None without the dataset.
        predictions: one per prediction set; all background for a missing prediction.
    """

    pair: int
    query: str
    support: str
    query_photo: Photo | None
    support_photo: Photo | None
    support_mask: Mask | None
    truth: Mask
    predictions: tuple[Mask, ...]


@dataclass(frozen=True)
class Gallery:
    """The source of episodes' pictures.

    Attributes:
        truth: the truth of the scored manifest.
        predictions: one set, or the two that are compared, from metrics.predictions.open_predictions.
        source: the dataset with photos and supports; None to show only masks of queries.
    """

    truth: Truth
    predictions: tuple[PredictionSet, ...]
    source: Source | None

    def episode(self, result: Result, way: str, pair: int) -> PicturedEpisode:
        """Reads one episode.

        Args:
            way: "k" or "1".
            pair: the pair's index.

        Raises:
            OshpError: an image is missing or damaged.
        """
        pairs = result.pairs
        query, support, target = pairs.query[pair], pairs.support[pair], pairs.target[pair]
        wanted = pairs.support_classes[pair] if way == "k" else (target,)
        truth = self.truth.mask(query)
        name = pairs.name(pair)
        masks = []
        for found in self.predictions:
            mask = np.zeros_like(truth)
            if name in found.files[way]:
                try:
                    mask = read_prediction(found.read(way, name, truth.shape), truth.shape)
                except ImageProblem as problem:
                    raise OshpError(f"{found.place(way, name)}: {problem}") from problem
            masks.append(mask if way == "k" else np.where(mask, target, 0).astype(np.uint8))
        source = self.source
        return PicturedEpisode(
            pair=pair,
            query=query,
            support=support,
            query_photo=source.photo(query) if source else None,
            support_photo=source.photo(support) if source else None,
            support_mask=_within(source.merged_mask(support), wanted) if source else None,
            truth=_within(truth, wanted),
            predictions=tuple(masks),
        )


@dataclass(frozen=True)
class Ranking:
    """The episodes of one way from best to worst.

    Attributes:
        values: float64 [pairs], NaN for an episode without a value.
        queries: the query of every pair.
    """

    values: Floats
    queries: Sequence[str]

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Pairs by descending value, without those that have none."""
        falling = np.argsort(-self.values, kind="stable")
        return tuple(falling[~np.isnan(self.values[falling])].tolist())

    def in_even_steps(self, count: int) -> tuple[int, ...]:
        """At most `count` pairs from the first to the last, in even steps of rank."""
        steps = np.linspace(0, len(self.order) - 1, min(count, len(self.order))).round().astype(int)
        return tuple(self.order[step] for step in steps)

    def extremes(self, count: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """At most `count` best, median and worst pairs. In each, queries differ, as pairs of one query look alike."""
        middle = len(self.order) // 2
        nearest = sorted(range(len(self.order)), key=lambda rank: (abs(rank - middle), rank))
        taken: set[int] = set()

        def first(pairs: Sequence[int]) -> tuple[int, ...]:
            found: dict[str, int] = {}
            for pair in pairs:
                if len(found) < count and pair not in taken:
                    found.setdefault(self.queries[pair], pair)
            taken.update(found.values())
            return tuple(found.values())

        best, worst = first(self.order), first(self.order[::-1])
        return best, first([self.order[rank] for rank in nearest]), worst


def episode_values(result: Result, way: str) -> Floats:
    """The ranking figure of every episode (EPISODE_RANKING): float64 [pairs], NaN where it is 0/0."""
    statistics = next(sums for sums in result.per_pair if sums.way == way)
    value, valid = statistics.values[:, statistics.columns[EPISODE_RANKING[way].name]].T
    values: NDArray[np.float64] = np.where(valid > 0, value, np.nan)
    return values


def _within(mask: Mask, classes: tuple[int, ...]) -> Mask:
    kept: Mask = np.where(np.isin(mask, (*classes, IGNORE)), mask, 0).astype(np.uint8)
    return kept
