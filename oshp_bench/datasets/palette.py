"""One colour per class, the same in every dataset, so that pictures of different tools and people compare."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

# Found by search: classes of one dataset differ for readers with any colour vision (tests/test_palette.py).
_COLOURS = {
    "background": (24, 26, 32),
    "hat": (246, 73, 10),
    "hair": (99, 50, 37),
    "face": (252, 233, 215),
    "skin": (252, 233, 215),
    "arms": (238, 159, 99),
    "legs": (180, 125, 126),
    "torso-skin": (197, 171, 188),
    "upper-clothes": (60, 134, 180),
    "coat": (16, 39, 128),
    "dress": (194, 59, 141),
    "jumpsuits": (146, 12, 230),
    "skirt": (255, 222, 20),
    "pants": (10, 116, 75),
    "legwear": (103, 200, 196),
    "socks": (103, 200, 196),
    "shoes": (179, 25, 10),
    "bag": (183, 165, 251),
    "scarf": (163, 250, 148),
    "belt": (120, 143, 73),
    "sunglasses": (83, 88, 94),
    "glove": (154, 190, 153),
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
