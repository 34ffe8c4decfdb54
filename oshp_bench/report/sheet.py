"""A contact sheet of episodes from best to worst."""

from __future__ import annotations

from pathlib import Path

from oshp_bench.datasets.sources import Source
from oshp_bench.episodes.pictures import Tile, contact_sheet
from oshp_bench.errors import OshpError
from oshp_bench.files import written_whole
from oshp_bench.manifest.truth import Truth
from oshp_bench.metrics.predictions import open_predictions
from oshp_bench.metrics.result import Result
from oshp_bench.report.examples import Gallery, Ranking, episode_values


def write_sheet(result: Result, predictions: Path, truth: Truth, source: Source, path: Path, rows: int = 5) -> None:
    """Draws k-way episodes from the best to the worst per-episode IoU, in even steps of rank.

    Raises:
        OshpError: no k-way predictions, or photos that cannot be read.
    """
    if result.matrices.kway is None:
        raise OshpError(f"{predictions}: holds no k-way predictions, which a sheet shows")
    gallery = Gallery(truth, (open_predictions(predictions, "k", result.manifest),), source)
    scores = episode_values(result, "k")
    drawn = []
    for pair in Ranking(scores, result.pairs.query).in_even_steps(rows):
        shown = gallery.episode(result, "k", pair)
        tiles = (
            (shown.support_photo, f"support {shown.support}"),
            (shown.support_mask, "its mask"),
            (shown.query_photo, f"query {shown.query}"),
            (shown.truth, "truth"),
            (shown.predictions[0], f"prediction: mIoU {100 * scores[pair]:.1f}"),
        )
        drawn.append([Tile(picture, caption) for picture, caption in tiles if picture is not None])
    with written_whole(path) as file:
        contact_sheet(drawn, result.manifest).save(file, "PNG", optimize=True)
