"""A parsed photo as a picture to look at."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image

from oshp_bench.datasets.images import Mask, Photo, resize_nearest
from oshp_bench.datasets.palette import colour_of
from oshp_bench.episodes.pictures import legend

# The legend has letters of one size: beside a larger photo, or in a narrower picture, they cannot be read.
_MOST_SIDE, _LEAST_WIDTH = 1280, 320
_OPACITY = 0.55


def overlay(photo: Photo, mask: Mask, names: Mapping[int, str]) -> Image.Image:
    """Lays a mask's colours over its photo, with outlines and a legend of the classes that were found.

    Args:
        photo: uint8 [H, W, 3].
        mask: uint8 [H, W] of class numbers; 0 shows the photo.
        names: the names of the numbers.
    """
    height, width = mask.shape
    factor = min(1.0, _MOST_SIDE / max(height, width))
    height, width = max(1, round(height * factor)), max(1, round(width * factor))
    small = np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BOX), np.float32)
    labels = resize_nearest(mask, height, width)
    colours = np.zeros((256, 3), np.float32)
    colours[list(names)] = [colour_of(name) for name in names.values()]
    outline = np.zeros(labels.shape, np.bool_)
    outline[1:] |= labels[1:] != labels[:-1]
    outline[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    shares = np.where(outline, 1.0, _OPACITY) * (labels > 0)
    mixed = small + (colours[labels] - small) * shares[..., None].astype(np.float32)
    found = [name for number, name in names.items() if (labels == number).any()]
    key = legend(found or ["background"], max(width, _LEAST_WIDTH))
    sheet = Image.new("RGB", (key.width, height + key.height), (255, 255, 255))
    sheet.paste(Image.fromarray(mixed.round().astype(np.uint8)), (0, 0))
    sheet.paste(key, (0, height))
    return sheet
