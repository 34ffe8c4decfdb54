"""Validation on the manifest's own list: base classes of training images, never the test pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from oshp_bench.baselines.inference import NetworkMethod
from oshp_bench.console import progress
from oshp_bench.datasets.images import IGNORE, Mask
from oshp_bench.episodes.episodes import Episode, Episodes, ImageCache, Way
from oshp_bench.episodes.pictures import Tile
from oshp_bench.errors import OshpError
from oshp_bench.manifest import Manifest, Pairs
from oshp_bench.metrics import Accumulator, Resampling, score_matrices

_SHOWN = 4


@dataclass(frozen=True)
class Validation:
    """What a validation found.

    Attributes:
        figures: name -> value in 0..1, such as "kway/base_miou".
        chosen_by: the name of the figure that the best epoch is chosen by.
        rows: tiles of a few episodes: support, its mask, query, truth, prediction.
    """

    figures: Mapping[str, float]
    chosen_by: str
    rows: list[list[Tile]]

    @property
    def figure(self) -> float:
        return self.figures[self.chosen_by]


def validation_pairs(manifest: Manifest, most: int | None) -> Pairs:
    """The validation list, or `most` of its pairs in even steps.

    Raises:
        OshpError: the manifest has no such list.
    """
    pairs = manifest.validation
    if not pairs:
        raise OshpError(
            f"{manifest.name}: has no validation list; tailor it from your own masks, or set validate_every=0"
        )
    if most is None or most >= len(pairs):
        return pairs
    chosen = np.linspace(0, len(pairs) - 1, most).round().astype(int).tolist()
    return Pairs(*(tuple(getattr(pairs, column.name)[index] for index in chosen) for column in fields(pairs)))


def validate(method: NetworkMethod, manifest: Manifest, pairs: Pairs, images: ImageCache, way: Way) -> Validation:
    """Parses the validation pairs and scores them as oshp-score does."""
    accumulator = Accumulator(manifest, pairs)
    rows: list[list[Tile]] = []
    shown = set(np.linspace(0, len(pairs) - 1, min(_SHOWN, len(pairs))).round().astype(int).tolist())
    for episode in progress(Episodes(pairs, images, way), "validation", len(pairs)):
        prediction, truth = method(episode), images.mask(episode.query_id)
        accumulator.add(way, episode.index, truth, prediction)
        if episode.index in shown:
            rows.append(_row(episode, truth, prediction))
    result = score_matrices(manifest, accumulator.matrices(), pairs=pairs, resampling=Resampling(0))
    figures = {name: figure.value for name, figure in result.figures.items() if figure.value is not None}
    return Validation(figures, f"{way}way/base_miou", rows)


def _row(episode: Episode, truth: Mask, prediction: Mask) -> list[Tile]:
    asked: Mask = np.where(np.isin(truth, (*episode.classes, IGNORE)), truth, 0).astype(np.uint8)
    return [
        Tile(episode.support_photo, f"support {episode.support_id}"),
        Tile(episode.support_mask, "its mask"),
        Tile(episode.query_photo, f"query {episode.query_id}"),
        Tile(asked, "truth"),
        Tile(prediction, "prediction"),
    ]
