"""PNGs made chunk by chunk, for what Pillow would not write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int, colour: int, rows: Iterable[bytes], before: bytes = b"") -> bytes:
    """A PNG of packed rows; `before` holds chunks that stand between header and pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return SIGNATURE + header + before + pixels + chunk(b"IEND", b"")


def with_checksums(data: bytes) -> bytes:
    """The same PNG with the checksum of every chunk made to fit, as far as its lengths make sense."""
    fixed, start = data[:8], 8
    while start + 12 <= len(data):
        end = start + 8 + int.from_bytes(data[start : start + 4])
        if end + 4 > len(data):
            break
        fixed += data[start:end] + struct.pack(">I", zlib.crc32(data[start + 4 : end]))
        start = end + 4
    return fixed + data[start:]
