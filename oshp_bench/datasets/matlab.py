"""Reads a matrix out of a MATLAB file of version 5, within bounds.

SciPy's reader is not safe for files of unknown origin: a few changed bytes can crash the whole process.
Source of the format: MathWorks, "MAT-File Format", level 5.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

_HEADER_BYTES = 128
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
# Flags, sizes, name and the tag of the numbers stand in the first bytes; the largest matrix of labels in its own.
_HEAD_BYTES, _MOST_BYTES = 4096, 64 << 20
_MOST_VARIABLES = 1_000
_FIRST_NUMERIC_CLASS = 6
_NOTHING = memoryview(b"")
_COMPLEX = 0x0800


def read_matrix(content: bytes, variable: str, most: int) -> NDArray[np.generic] | None:
    """Finds a matrix of real numbers by its name: [rows, columns], or None if there is no such variable.

    Args:
        most: the most numbers a matrix may hold.

    Raises:
        ValueError, struct.error, zlib.error: not such a file, damaged, or another kind of variable.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    version = struct.unpack_from(f"{order}H", content, 124)[0] if order else 0
    if version == 0x0200:
        raise ValueError("saved as version 7.3; save it again with -v7")
    if not order or version != 0x0100:
        raise ValueError("not a MATLAB file of version 5 to 7")
    # No part of it is copied.
    for number, (kind, data) in enumerate(_elements(memoryview(content), _HEADER_BYTES, order)):
        if number == _MOST_VARIABLES:
            raise ValueError(f"holds more than {_MOST_VARIABLES} variables")
        if kind == _COMPRESSED:
            inflater = zlib.decompressobj()
            head = inflater.decompress(data, _HEAD_BYTES)
            if not inflater.eof and _name(head, order) != variable.encode():
                continue
            inflated = head + inflater.decompress(inflater.unconsumed_tail, _MOST_BYTES)
            if not inflater.eof:
                raise ValueError("cut off, or larger than we read")
            inner_kind, inner = next(_elements(memoryview(inflated), 0, order), (0, _NOTHING))
        else:
            inner_kind, inner = kind, data
        if inner_kind == _MATRIX:
            matrix = _matrix(inner, order, variable, most)
            if matrix is not None:
                return matrix
    return None


def _name(head: bytes, order: str) -> memoryview:
    """The name in the first bytes of a variable: behind the tag of the whole, its flags and its sizes."""
    return next(islice(_elements(memoryview(head), 8, order), 2, None), (0, _NOTHING))[1]


def _matrix(data: memoryview, order: str, variable: str, most: int) -> NDArray[np.generic] | None:
    parts = _elements(data, 0, order)
    flags, sizes, name = (next(parts, (0, _NOTHING))[1] for _ in range(3))
    if name != variable.encode():
        return None
    flag = struct.unpack_from(f"{order}I", flags)[0]
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes)
    kind, numbers = next(parts, (0, _NOTHING))
    if flag & 0xFF < _FIRST_NUMERIC_CLASS or flag & _COMPLEX or kind not in _NUMBERS or len(shape) != 2:
        raise ValueError(f"{variable!r} is not a matrix of real numbers")
    if min(shape) < 1 or math.prod(shape) > most:
        raise ValueError(f"{variable!r} has {shape[0]} rows and {shape[1]} columns, none or more than we read")
    return np.frombuffer(numbers, order + _NUMBERS[kind]).reshape(shape, order="F")


def _elements(data: memoryview, start: int, order: str) -> Iterator[tuple[int, memoryview]]:
    while start + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, start)
        small = kind >> 16
        if small:
            # A value of up to 4 bytes is stored in its tag.
            kind, size, begin, end = kind & 0xFFFF, small, start + 4, start + 8
        else:
            begin = start + 8
            # Elements are padded to 8 bytes, except compressed ones.
            end = begin + size + (-size % 8 if kind != _COMPRESSED else 0)
        if begin + size > min(end, len(data)):
            raise ValueError("cut off")
        yield kind, data[begin : begin + size]
        start = end
