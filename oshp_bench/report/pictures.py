"""The best, median and worst episodes as pictures embedded in the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from oshp_bench.datasets.images import IGNORE, Mask, Photo, mask_png, resize_nearest
from oshp_bench.datasets.palette import palette_bytes
from oshp_bench.manifest import Manifest
from oshp_bench.metrics.measures import Floats
from oshp_bench.report.content import Report
from oshp_bench.report.examples import Gallery, PicturedEpisode, Ranking, episode_values

# Six episodes a way with at most eight pictures in this box: four megabytes at most.
_BOX = (300, 400)
_OF_EACH_KIND = 2


# What a prediction got right and wrong, in colours that readers of any colour vision tell apart.
ERRORS = {
    "background": (24, 26, 32),
    "right": (86, 180, 233),
    "missed": (240, 228, 66),
    "wrong class": (213, 94, 0),
}


@dataclass(frozen=True)
class PagePicture:
    """A picture embedded in the page.

    Attributes:
        set_index: the set that a prediction belongs to; None for other pictures.
        address: "data:image/...".
        alt: describes the picture for screen readers.
    """

    caption: str
    set_index: int | None
    address: str
    alt: str
    width: int
    height: int


@dataclass(frozen=True)
class ShownEpisode:
    """An episode on the page.

    Attributes:
        values: its figure in every set.
        target: the class that the pair was drawn for, which 1-way parses.
    """

    pair: str
    query: str
    support: str
    target: str
    values: tuple[float, ...]
    tiles: tuple[PagePicture, ...]


@dataclass(frozen=True)
class EpisodeGroup:
    """Episodes of a way under one title, for example "Best"."""

    way: str
    title: str
    episodes: tuple[ShownEpisode, ...]


def episodes(report: Report, gallery: Gallery) -> Iterator[EpisodeGroup]:
    """The best, median and worst episodes of every way that all sets have.

    For two sets, these are the episodes with the largest gain, the median and the largest loss of the second set.
    """
    for way in report.ways:
        if len(report.sets_of(way)) == len(report.sets):
            yield from _groups(report, gallery, way)


def _groups(report: Report, gallery: Gallery, way: str) -> Iterator[EpisodeGroup]:
    values = [episode_values(scored.result, way) for scored in report.sets]
    ranking = Ranking(values[-1] if len(values) == 1 else values[1] - values[0], report.sets[0].result.pairs.query)
    best, median, worst = ranking.extremes(_OF_EACH_KIND)
    names = ("Best", "Median", "Worst") if len(values) == 1 else ("Most gained", "Median difference", "Most lost")
    for title, pairs in zip(names, (best, median, worst), strict=True):
        yield EpisodeGroup(way, title, tuple(_shown(report, gallery, way, pair, values) for pair in pairs))


def _shown(report: Report, gallery: Gallery, way: str, pair: int, values: Sequence[Floats]) -> ShownEpisode:
    result = report.sets[0].result
    example = gallery.episode(result, way, pair)
    target = result.pairs.target[pair]
    return ShownEpisode(
        pair=result.pairs.name(pair),
        query=example.query,
        support=example.support,
        target=next(oshp_class.name for oshp_class in report.manifest.classes if oshp_class.id == target),
        values=tuple(float(of_set[pair]) for of_set in values),
        tiles=tuple(tiles(example, report.manifest)),
    )


def tiles(example: PicturedEpisode, manifest: Manifest) -> Iterator[PagePicture]:
    """An episode's pictures from left to right, each within a box of 300 x 400 pixels."""
    pictures: list[tuple[str, int | None, Photo | Mask | None]] = [
        ("support", None, example.support_photo),
        ("its mask", None, example.support_mask),
        ("query", None, example.query_photo),
        ("truth", None, example.truth),
    ]
    for place, mask in enumerate(example.predictions):
        pictures += [("prediction", place, mask), ("errors", place, errors(example.truth, mask))]
    for caption, number, picture in pictures:
        if picture is None:
            continue
        height, width = _within_box(*picture.shape[:2])
        if picture.ndim == 3:
            address, alt = _photo(picture, height, width), f"photo of the {caption}"
        else:
            names = dict(enumerate(ERRORS)) if caption == "errors" else manifest.names
            palette = b"".join(map(bytes, ERRORS.values())) if caption == "errors" else palette_bytes(names)
            held = [names[value] for value in np.unique(picture).tolist() if value and value in names]
            address = _mask(picture, palette.ljust(768, b"\xff"), height, width)
            alt = f"{caption}: {', '.join(held) or 'background alone'}"
        yield PagePicture(caption, number, address, alt, width, height)


def errors(truth: Mask, predicted: Mask) -> Mask:
    """Numbers of ERRORS: 0 where both are background, then right, missed (predicted as background), and wrong class.

    255 where the truth is ignored.
    """
    kinds = np.select(
        [truth == IGNORE, predicted == truth, predicted == 0], [IGNORE, np.where(truth, 1, 0), 2], default=3
    )
    return kinds.astype(np.uint8)


def _within_box(height: int, width: int) -> tuple[int, int]:
    scale = min(1.0, _BOX[0] / width, _BOX[1] / height)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _photo(photo: Photo, height: int, width: int) -> str:
    buffer = io.BytesIO()
    Image.fromarray(photo).resize((width, height), Image.Resampling.LANCZOS).save(buffer, "WEBP", quality=70, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _mask(mask: Mask, palette: bytes, height: int, width: int) -> str:
    png = mask_png(resize_nearest(mask, height, width), palette)
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
