"""Pictures whose data end early are refused, however well-formed their chunks are."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from bounds import within_bounds
from hypothesis import given
from hypothesis import strategies as st
from png import GREY, GREY_ALPHA, PALETTE, RGB, RGBA, SIGNATURE, chunk, png

from oshp_bench.datasets.images import ImageProblem, decode, open_image, read_mask, read_photo

SAMPLES = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
KINDS = [(GREY, 1), (GREY, 2), (GREY, 4), (GREY, 8), (PALETTE, 1), (PALETTE, 4), (PALETTE, 8)]
KINDS += [(RGB, 8), (GREY_ALPHA, 8), (RGBA, 8)]


def picture(kind: tuple[int, int], width: int, height: int, rows: int, byte: int) -> bytes:
    """A PNG that says it has `height` rows and holds `rows` of them, all bytes alike."""
    colour, bits = kind
    row = bytes([byte]) * ((width * bits * SAMPLES[colour] + 7) // 8)
    colours = chunk(b"PLTE", bytes(3 * 2**bits)) if colour == PALETTE else b""
    return png(width, height, bits, colour, [row] * rows, colours)


@given(
    kind=st.sampled_from(KINDS),
    width=st.integers(1, 40),
    height=st.integers(2, 40),
    cut=st.integers(0, 3),
    byte=st.sampled_from([0, 1, 254, 255]),
)
def test_a_picture_with_fewer_rows_than_it_says_is_refused(
    kind: tuple[int, int], width: int, height: int, cut: int, byte: int
) -> None:
    data = picture(kind, width, height, max(0, height - cut), byte)
    image = open_image(data, ("PNG",))
    if cut:
        with pytest.raises(ImageProblem, match=r"fewer rows|truncated"):
            decode(image)
    else:
        assert decode(image).shape[:2] == (height, width)


@pytest.mark.parametrize("missing", [0, 1, 36])
def test_an_interlaced_picture_is_counted_whole(missing: int) -> None:
    # 8 x 8 pixels of 8 bits, seven passes, one filter byte a row:
    # 1*(1+1) + 1*(1+1) + 1*(1+2) + 2*(1+2) + 2*(1+4) + 4*(1+4) + 4*(1+8) = 79 bytes; the last pass has 36 of them.
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, GREY, 0, 0, 1))
    pixels = chunk(b"IDAT", zlib.compress(bytes(79 - missing)))
    image = open_image(SIGNATURE + header + pixels + chunk(b"IEND", b""), ("PNG",))
    if missing:
        with pytest.raises(ImageProblem, match=r"fewer rows|truncated"):
            decode(image)
    else:
        assert not decode(image).any()


def test_a_photo_with_fewer_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(picture((RGB, 8), 5, 4, 3, 7))
    with pytest.raises(ImageProblem, match="fewer rows"):
        read_photo(tmp_path / "photo.png")
    (tmp_path / "photo.png").write_bytes(picture((RGB, 8), 5, 4, 4, 254))
    assert np.array_equal(read_photo(tmp_path / "photo.png"), np.full((4, 5, 3), 254))


def test_a_large_colour_picture_as_a_mask_costs_little(tmp_path: Path) -> None:
    # 32.5 million pixels of 4 bytes, held twice, would be 260 MB beside their file.
    (tmp_path / "mask.png").write_bytes(picture((RGBA, 8), 5700, 5700, 5700, 7))
    with within_bounds(0), pytest.raises(ImageProblem, match="a colour picture of many pixels"):
        read_mask(tmp_path / "mask.png")
