"""One colour per class, the same in every dataset, so that pictures of different tools and people compare."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

# Neighbours on a body differ in lightness as well as in hue.
_COLOURS = {
    "background": (24, 26, 32),
    "hat": (238, 108, 77),
    "hair": (122, 78, 52),
    "face": (250, 205, 170),
    "skin": (250, 205, 170),
    "arms": (242, 170, 120),
    "legs": (222, 140, 96),
    "torso-skin": (232, 184, 150),
    "upper-clothes": (62, 124, 200),
    "coat": (32, 68, 132),
    "dress": (214, 72, 142),
    "jumpsuits": (160, 60, 180),
    "skirt": (246, 190, 60),
    "pants": (56, 158, 116),
    "legwear": (120, 200, 190),
    "socks": (120, 200, 190),
    "shoes": (200, 50, 56),
    "bag": (150, 130, 220),
    "scarf": (190, 220, 90),
    "belt": (110, 110, 40),
    "sunglasses": (90, 90, 100),
    "glove": (180, 160, 90),
}


def colour_of(class_name: str) -> tuple[int, int, int]:
    """The colour of a class: red, green, blue 0..255; a name that is not listed gets a colour from its digest."""
    chosen = _COLOURS.get(class_name)
    if chosen:
        return chosen
    red, green, blue = hashlib.sha256(class_name.encode()).digest()[:3]
    return 64 + red % 176, 64 + green % 176, 64 + blue % 176


def palette_bytes(names: Mapping[int, str]) -> bytes:
    """A PNG palette for class ids, given their names: 768 bytes. Other indices are white, so that they stand out."""
    palette = bytearray(b"\xff" * 768)
    for class_id, name in names.items():
        palette[3 * class_id : 3 * class_id + 3] = bytes(colour_of(name))
    return bytes(palette)
