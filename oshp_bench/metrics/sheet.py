"""A sheet of episodes from best to worst: what a figure looks like."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from oshp_bench.datasets.images import IGNORE, Mask
from oshp_bench.datasets.sources import Source
from oshp_bench.errors import OshpError
from oshp_bench.files import written_whole
from oshp_bench.metrics.predictions import open_predictions, read_prediction
from oshp_bench.metrics.result import Result
from oshp_bench.pictures import Tile, contact_sheet
from oshp_bench.truth import Truth


def write_sheet(result: Result, predictions: Path, truth: Truth, source: Source, path: Path, rows: int = 5) -> None:
    """Draws k-way episodes, from the best to the worst per-episode IoU in even steps of rank.

    Raises:
        OshpError: no k-way predictions, or photos that cannot be read.
    """
    kway = next((each for each in result.per_pair if each.way == "k"), None)
    if kway is None:
        raise OshpError(f"{predictions}: a sheet shows k-way predictions, and there are none")
    scores = kway.values[:, kway.columns["episode_human_miou"]][:, 0]
    ranked = np.argsort(-scores, kind="stable")
    chosen = ranked[np.linspace(0, len(ranked) - 1, min(rows, len(ranked))).round().astype(int)]
    found = open_predictions(predictions, None if (predictions / "kway").is_dir() else "k")
    pairs = result.pairs
    drawn = []
    for pair in chosen.tolist():
        query, support = pairs.query[pair], pairs.support[pair]
        wanted = pairs.support_classes[pair]
        mask = truth.mask(query)
        prediction = np.zeros_like(mask)
        if pairs.name(pair) in found.files["k"]:
            prediction = read_prediction(found.read("k", pairs.name(pair), mask.shape), mask.shape)
        drawn.append(
            (
                Tile(source.photo(support), f"support {support}"),
                Tile(source.merged_mask(support), "its mask"),
                Tile(source.photo(query), f"query {query}"),
                Tile(_within(mask, wanted), "truth"),
                Tile(prediction, f"prediction: IoU {100 * scores[pair]:.1f}"),
            )
        )
    with written_whole(path) as file:
        contact_sheet(drawn, result.manifest).save(file, "PNG", optimize=True)


def _within(mask: Mask, classes: tuple[int, ...]) -> Mask:
    kept: Mask = np.where(np.isin(mask, (*classes, IGNORE)), mask, 0).astype(np.uint8)
    return kept
