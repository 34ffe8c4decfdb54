"""Draws episodes: photos and masks side by side, with a legend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from oshp_bench.datasets.images import IGNORE, Mask, Photo
from oshp_bench.datasets.palette import colour_of
from oshp_bench.manifest import Manifest

_INK, _PAPER, _VOID = (30, 32, 38), (255, 255, 255), (255, 0, 255)
_GAP, _LINE = 8, 18


@dataclass(frozen=True)
class Tile:
    """A photo (uint8 [H, W, 3]) or a mask (uint8 [H, W] of class ids) with a caption above it."""

    picture: Photo | Mask
    caption: str


def contact_sheet(rows: Sequence[Sequence[Tile]], manifest: Manifest, height: int = 240) -> Image.Image:
    """Draws rows of tiles and a legend of the classes in them.

    Args:
        height: of every tile in pixels; widths keep the aspect ratio.
    """
    colours = np.array([_VOID] * 256, np.uint8)
    colours[[*manifest.names]] = [*map(colour_of, manifest.names.values())]
    colours[IGNORE] = (128, 128, 128)
    pictures = [[_scaled(tile.picture, colours, height) for tile in row] for row in rows]
    held = np.unique(np.concatenate([np.unique(t.picture) for row in rows for t in row if t.picture.ndim == 2]))
    font = ImageFont.load_default(13)
    widths = [
        max(*(picture.width for picture in column), *(int(font.getlength(row[place].caption)) for row in rows))
        for place, column in enumerate(zip(*pictures, strict=True))
    ]
    row_height = _LINE + height + _GAP
    width = sum(widths) + _GAP * (len(widths) + 1)
    key = legend([name for class_id, name in manifest.names.items() if class_id in held], width)
    sheet = Image.new("RGB", (width, len(rows) * row_height + key.height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, (row, drawn) in enumerate(zip(rows, pictures, strict=True)):
        left = _GAP
        for tile, picture, wide in zip(row, drawn, widths, strict=True):
            pen.text((left, number * row_height + 2), tile.caption, _INK, font)
            sheet.paste(picture, (left, number * row_height + _LINE))
            left += wide + _GAP
    sheet.paste(key, (0, len(rows) * row_height))
    return sheet


def legend(names: Sequence[str], width: int) -> Image.Image:
    """Draws names of classes beside their colours, on as many lines as they need."""
    font = ImageFont.load_default(13)
    lines = list(_lines(names, font, width - 2 * _GAP))
    drawn = Image.new("RGB", (width, (_LINE + 4) * len(lines) + _GAP), _PAPER)
    pen = ImageDraw.Draw(drawn)
    for number, line in enumerate(lines):
        top = number * (_LINE + 4)
        left = _GAP
        for name in line:
            pen.rectangle((left, top + 2, left + 14, top + 16), colour_of(name), _INK)
            pen.text((left + 20, top + 1), name, _INK, font)
            left += _entry_width(name, font)
    return drawn


def _scaled(picture: Photo | Mask, colours: Photo, height: int) -> Image.Image:
    image = Image.fromarray(picture if picture.ndim == 3 else colours[picture])
    width = max(1, round(image.width * height / image.height))
    return image.resize((width, height), Image.Resampling.LANCZOS if picture.ndim == 3 else Image.Resampling.NEAREST)


def _entry_width(name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    return int(font.getlength(name)) + 38


def _lines(names: Iterable[str], font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> Iterable[list[str]]:
    line: list[str] = []
    used = 0
    for name in names:
        if line and used + _entry_width(name, font) > width:
            yield line
            line, used = [], 0
        line.append(name)
        used += _entry_width(name, font)
    if line:
        yield line
