"""What Pillow does not notice in a PNG: wrong checksums, a missing end, pixels that its data do not reach."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHUNK, _CRC, _HEADER = struct.Struct(">I4s"), struct.Struct(">I"), struct.Struct(">IIBB")
# Samples of a pixel by colour type: grey, RGB, palette, grey and alpha, RGBA.
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# First row, first column, row step, column step of the seven passes of an interlaced picture.
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
# No label is 254, so rows of it in a decoded picture are rows that were not written. White where there is one bit.
_UNWRITTEN: dict[str, int | tuple[int, ...]] = {
    "1": 255,
    "L": 254,
    "P": 254,
    "LA": (254,) * 2,
    "RGB": (254,) * 3,
    "RGBA": (254,) * 4,
}


def problem_of(data: bytes, most_pixels: int) -> str | None:
    """Says why a PNG is refused: cut off, a wrong checksum, too large, 16 bits, animated; None if it is not."""
    start, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        length, kind = _CHUNK.unpack_from(data, start) if start + 12 <= len(data) else (len(data), b"")
        end = start + 8 + length
        if end + 4 > len(data):
            return "truncated: the PNG's end is missing"
        if zlib.crc32(data[start + 4 : end]) != _CRC.unpack_from(data, end)[0]:
            return "damaged: a checksum of the PNG does not fit"
        if kind == b"IHDR" and length == 13:
            width, height, bits, _ = _HEADER.unpack_from(data, start + 8)
            if width * height > most_pixels:
                return f"{width}x{height} pixels are more than we read"
            if bits == 16:
                return "16 bits a channel; 8 are needed"
        elif kind == b"acTL":
            return "animated; a single picture is needed"
        start = end + 4
    return None


def load_whole(image: Image.Image, data: bytes) -> bool:
    """Loads the pixels of an opened PNG; False if its data end before its last row.

    Pillow leaves such rows black, which is a label. So the rows are first filled with a number that no label has; only
    a picture whose last row still has it is inflated a second time, to count its bytes.

    Args:
        data: the file's content, checked by `problem_of`.
    """
    interlaced = bool(image.info.get("interlace"))
    if interlaced or image.mode not in _UNWRITTEN:
        image.load()
    else:
        image.im = Image.new(image.mode, image.size, _UNWRITTEN[image.mode]).im
        image.load()
        last = np.asarray(image.crop((0, image.height - 1, image.width, image.height)))
        if (last != (1 if image.mode == "1" else 254)).any():
            return True
    return _inflates_to(data, _expected_bytes(data, interlaced))


def _expected_bytes(data: bytes, interlaced: bool) -> int:
    width, height, bits, colour = _HEADER.unpack_from(data, len(SIGNATURE) + 8)
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    total = 0
    for top, left, down, right in passes:
        rows, columns = -(-max(0, height - top) // down), -(-max(0, width - left) // right)
        if columns:
            total += rows * (1 + (columns * bits * _SAMPLES[colour] + 7) // 8)
    return total


def _inflates_to(data: bytes, wanted: int) -> bool:
    """Whether a PNG's pixel data inflate to at least so many bytes."""
    inflater, found = zlib.decompressobj(), 0
    for part in _pixel_data(data):
        found += len(inflater.decompress(part, wanted - found + 1))
        if found >= wanted:
            return True
    return False


def _pixel_data(data: bytes) -> Iterator[bytes]:
    start = len(SIGNATURE)
    while start + 12 <= len(data):
        length, kind = _CHUNK.unpack_from(data, start)
        if kind == b"IDAT":
            yield data[start + 8 : start + 8 + length]
        start += 12 + length
