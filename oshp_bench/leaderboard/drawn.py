"""Pictures of drawn people from the embedded dataset: an example of the task, and a logo."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from oshp_bench.datasets.images import Mask, Photo
from oshp_bench.datasets.labels import load_spec
from oshp_bench.datasets.palette import palette_bytes
from oshp_bench.datasets.sources import Source, find_source

_SUPPORT, _QUERY, _LOGO = "0007", "0014", "0000"
_COLOURS = 96


def task_pictures() -> tuple[tuple[bytes, str], ...]:
    """An episode: a support, its mask, a query, and the query parsed into the support's classes.

    Returns:
        PNGs with their descriptions.
    """
    source = _source()
    support, query = source.merged_mask(_SUPPORT), source.merged_mask(_QUERY)
    parsed = np.where(np.isin(query, np.unique(support)), query, 0).astype(np.uint8)
    return (
        (_png(source.photo(_SUPPORT)), "The support: a drawn person"),
        (_png(_coloured(source, support)), "The support's mask: each class in its colour"),
        (_png(source.photo(_QUERY)), "The query: another drawn person"),
        (_png(_coloured(source, parsed)), "The query, parsed into the classes of the support"),
    )


def logo() -> bytes:
    """A drawn person, the left half as a photo and the right half parsed: a square PNG."""
    source = _source()
    photo, mask = source.photo(_LOGO), _coloured(source, source.merged_mask(_LOGO))
    side, half = photo.shape[1], photo.shape[1] // 2
    both = np.concatenate([photo[:side, :half], mask[:side, half:]], axis=1)
    return _png(both, scale=3)


def _source() -> Source:
    return find_source(load_spec("demo").dataset, None)


def _coloured(source: Source, mask: Mask) -> Photo:
    palette = palette_bytes(source.dataset.names)
    colours: Photo = np.frombuffer(palette, np.uint8).reshape(256, 3)[mask]
    return colours


def _png(picture: Photo, scale: int = 1) -> bytes:
    image = Image.fromarray(picture)
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.quantize(_COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
