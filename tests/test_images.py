"""Photos and masks: what is stored is what is read, and what is not clearly a mask is refused with the reason."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from png import GREY, GREY_ALPHA, PALETTE, RGB, RGBA, SIGNATURE, chunk, png, with_checksums
from scipy.io import loadmat, savemat

from oshp_bench.datasets import images
from oshp_bench.datasets.images import ImageProblem, Mask
from oshp_bench.datasets.matlab import read_matrix
from oshp_bench.datasets.palette import palette_bytes
from oshp_bench.datasets.runs import label_counts

PLTE = chunk(b"PLTE", bytes(range(48)))
# Makes palette entry 0 transparent and entry 1 half so; neither changes an index.
TRNS = chunk(b"tRNS", b"\x00\x80")
CASES = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def mask_of(tmp_path: Path, content: bytes) -> Mask:
    return images.read_mask(written(tmp_path / "mask.png", content))


def why_refused(tmp_path: Path, content: bytes) -> str:
    with pytest.raises(ImageProblem) as refused:
        mask_of(tmp_path, content)
    text = str(refused.value)
    assert "\n" not in text
    return text


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height: int = 24, width: int = 31) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 18, (height, width), np.uint8)


@pytest.mark.parametrize(
    ("name", "content", "labels"),
    [
        # 0xa5 = 1010 0101; 0b00011011 = 0, 1, 2, 3 in two bits; 0x0f, 0x37 = 0, 15, 3, 7 in four.
        ("grey, 1 bit", png(8, 1, 1, GREY, [b"\xa5"]), [1, 0, 1, 0, 0, 1, 0, 1]),
        ("grey, 2 bits", png(4, 1, 2, GREY, [b"\x1b"]), [0, 1, 2, 3]),
        ("grey, 2 bits, tRNS", png(4, 1, 2, GREY, [b"\x1b"], chunk(b"tRNS", b"\x00\x01")), [0, 1, 2, 3]),
        ("grey, 4 bits", png(4, 1, 4, GREY, [b"\x0f\x37"]), [0, 15, 3, 7]),
        ("grey, 8 bits", png(4, 1, 8, GREY, [bytes([0, 1, 17, 255])]), [0, 1, 17, 255]),
        ("palette, 1 bit", png(8, 1, 1, PALETTE, [b"\xa5"], PLTE), [1, 0, 1, 0, 0, 1, 0, 1]),
        ("palette, 2 bits", png(4, 1, 2, PALETTE, [b"\x1b"], PLTE + TRNS), [0, 1, 2, 3]),
        ("palette, 4 bits", png(4, 1, 4, PALETTE, [b"\x0f\x37"], PLTE + TRNS), [0, 15, 3, 7]),
        ("palette, index beyond it", png(3, 1, 8, PALETTE, [bytes([0, 17, 255])], PLTE), [0, 17, 255]),
        ("grey and alpha", png(2, 1, 8, GREY_ALPHA, [bytes([3, 255, 5, 0])]), [3, 5]),
        ("RGB, equal channels", png(2, 1, 8, RGB, [bytes([3, 3, 3, 5, 5, 5])]), [3, 5]),
        ("RGBA, equal channels", png(2, 1, 8, RGBA, [bytes([3, 3, 3, 9, 5, 5, 5, 0])]), [3, 5]),
    ],
)
def test_a_mask_is_read_as_it_is_stored(tmp_path: Path, name: str, content: bytes, labels: list[int]) -> None:
    mask = mask_of(tmp_path, content)
    assert mask.dtype == np.uint8, name
    assert mask.tolist() == [labels]


def test_interlaced_masks_and_other_filters_are_read(tmp_path: Path) -> None:
    # Adam7 of 2x2: pass 1 holds pixel (0,0), pass 6 pixel (0,1), pass 7 row 1; the others are empty.
    rows = zlib.compress(b"\0\x01" + b"\0\x02" + b"\0\x03\x04")
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, GREY, 0, 0, 1))
    content = SIGNATURE + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    assert mask_of(tmp_path, content).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (SIGNATURE, "truncated"),
        (png(4, 1, 8, GREY, [bytes(4)])[:-13], "truncated"),
        (png(4, 1, 8, GREY, [bytes(4)])[:-1], "truncated"),
        (png(2, 1, 16, GREY, [bytes(4)]), "16 bits"),
        (png(2, 1, 16, RGB, [bytes([0, 3] * 6)]), "16 bits"),
        (png(2, 1, 16, GREY_ALPHA, [bytes([0, 3] * 4)]), "16 bits"),
        (png(60_000, 60_000, 8, GREY, []), "60000x60000"),
        (png(10_000, 10_000, 8, GREY, []), "10000x10000"),
        (png(0, 5, 8, GREY, []), "damaged"),
        (png(2, 1, 8, RGB, [bytes([3, 3, 4, 5, 5, 5])]), "colour picture"),
        (png(2, 1, 8, RGBA, [bytes([3, 3, 4, 0, 5, 5, 5, 0])]), "colour picture"),
        (b"GIF89a" + bytes(40), "not a PNG"),
    ],
)
def test_what_is_no_mask_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    assert reason in why_refused(tmp_path, content)


def test_an_animation_and_a_renamed_jpeg_are_refused(tmp_path: Path) -> None:
    picture = Image.fromarray(noise())
    animated = saved(picture, "PNG", save_all=True, append_images=[Image.fromarray(noise() // 2)])
    assert "animated" in why_refused(tmp_path, animated)
    assert "a JPEG, not a PNG" in why_refused(tmp_path, saved(picture, "JPEG"))


def test_a_missing_mask_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageProblem, match="does not exist"):
        images.read_mask(tmp_path / "none.png")
    with pytest.raises(ImageProblem, match="cannot be read"):
        images.read_mask(tmp_path)


def test_no_single_changed_bit_changes_a_label_silently(tmp_path: Path) -> None:
    content = saved(Image.fromarray(noise(9, 9)), "PNG")
    for position in range(len(SIGNATURE), len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        with pytest.raises(ImageProblem):
            mask_of(tmp_path, bytes(changed))


MODES = [
    saved(Image.fromarray(noise()).convert("1"), "PNG"),
    saved(Image.fromarray(noise()), "PNG"),
    saved(Image.fromarray(noise()).convert("P"), "PNG", transparency=bytes(20)),
    *(saved(Image.fromarray(noise()).convert(mode), "PNG") for mode in ("LA", "RGB", "RGBA")),
    png(4, 1, 2, GREY, [b"\x1b"], chunk(b"gAMA", bytes(4)) + chunk(b"zTXt", b"a\0\0" + zlib.compress(b"text"))),
    png(4, 1, 8, GREY, [bytes(4)], chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(50))) + chunk(b"eXIf", b"II*\0")),
]
PHOTOS = [saved(Image.fromarray(noise()).convert(mode), "JPEG") for mode in ("L", "RGB", "CMYK")]


@st.composite
def damaged(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    content = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(0, 4))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.sampled_from([len(content), draw(st.integers(0, len(content)))]))])


@CASES
@given(damaged(MODES), st.booleans())
def test_a_damaged_png_is_read_or_refused(tmp_path: Path, content: bytes, repaired: bool) -> None:
    # With checksums that fit, the damage gets through to the decoder.
    path = written(tmp_path / "any.png", with_checksums(content) if repaired else content)
    for read in (images.read_mask, images.read_photo):
        try:
            assert read(path).dtype == np.uint8
        except ImageProblem as problem:
            assert "\n" not in str(problem)


@CASES
@given(damaged(PHOTOS))
def test_a_damaged_jpeg_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path / "any.jpg", content)
    try:
        assert images.read_photo(path).shape[2] == 3
        height, width = images.photo_size(path)
        assert height * width > 0
    except ImageProblem as problem:
        assert "\n" not in str(problem)


def test_grey_photos_become_rgb(tmp_path: Path) -> None:
    for kind in ("JPEG", "PNG"):
        path = written(tmp_path / "grey", saved(Image.fromarray(noise()), kind))
        photo = images.read_photo(path)
        assert photo.shape == (24, 31, 3)
        assert (photo[..., 0] == photo[..., 1]).all()
        assert (photo[..., 0] == photo[..., 2]).all()
        assert images.photo_size(path) == (24, 31)


def test_palette_photos_with_transparency_are_read(tmp_path: Path) -> None:
    photo = images.read_photo(written(tmp_path / "p.png", png(4, 1, 2, PALETTE, [b"\x1b"], PLTE + TRNS)))
    assert photo.tolist() == [[[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]]


def test_photos_of_several_frames_give_the_first(tmp_path: Path) -> None:
    content = saved(Image.fromarray(noise()), "MPO", save_all=True, append_images=[Image.fromarray(noise() // 2)])
    assert images.read_photo(written(tmp_path / "mpo.jpg", content)).shape == (24, 31, 3)


@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_truncated_photos_are_refused(tmp_path: Path, part: float) -> None:
    for kind in ("JPEG", "PNG"):
        content = saved(Image.fromarray(np.random.default_rng(1).integers(0, 255, (90, 90, 3), np.uint8)), kind)
        path = written(tmp_path / "photo", content[: int(len(content) * part)])
        for read in (images.read_photo, images.photo_size):
            with pytest.raises(ImageProblem):
                read(path)


def test_padding_behind_a_photo_is_no_truncation(tmp_path: Path) -> None:
    path = written(tmp_path / "photo.jpg", saved(Image.fromarray(noise()), "JPEG") + bytes(16))
    assert images.photo_size(path) == (24, 31)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"comment": b"c" * 300}, {"exif": b"Exif\0\0" + bytes(9000)}]
)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_the_size_of_a_photo_is_that_of_its_pixels(tmp_path: Path, mode: str, options: dict[str, Any]) -> None:
    path = written(tmp_path / "photo.jpg", saved(Image.fromarray(noise()).convert(mode), "JPEG", **options))
    assert images.photo_size(path) == images.read_photo(path).shape[:2] == (24, 31)


@pytest.mark.parametrize(
    ("at", "strange"), [(4, b"\x0c"), (5, b"\0\0"), (9, b"\2")], ids=["12 bits", "no height", "two channels"]
)
def test_a_strange_jpeg_head_is_not_taken_for_a_size(tmp_path: Path, at: int, strange: bytes) -> None:
    content = saved(Image.fromarray(noise()), "JPEG")
    at += content.index(b"\xff\xc0")
    path = written(tmp_path / "photo.jpg", content[:at] + strange + content[at + len(strange) :])
    with pytest.raises(ImageProblem):
        images.photo_size(path)


def matlab(variables: dict[str, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, variables, **options)
    return buffer.getvalue()


GRID = np.arange(12).reshape(3, 4)


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int32, np.int64, np.float32, np.float64, np.bool_])
@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_masks_of_every_number_type_are_read(tmp_path: Path, kind: type, compressed: bool) -> None:
    variables = {"first": "text", "groundtruth": GRID.astype(kind), "last": np.zeros((2, 2))}
    mask = images.read_mat_mask(
        written(tmp_path / "m.mat", matlab(variables, do_compression=compressed)), "groundtruth"
    )
    assert mask.tolist() == GRID.astype(kind).astype(int).tolist()
    assert mask.flags.c_contiguous


def test_matlab_masks_of_big_endian_machines_are_read(tmp_path: Path) -> None:
    matrix = (
        struct.pack(">IIII", 6, 8, 9, 0) + struct.pack(">IIii", 5, 8, 2, 1) + struct.pack(">HH4s", 1, 1, b"g\0\0\0")
    )
    # The name and the pixels are small elements: size and type share the tag's first word, the size on top.
    element = struct.pack(">II", 14, len(matrix) + 8) + matrix + struct.pack(">HH4s", 2, 2, b"\x07\x09\0\0")
    path = written(tmp_path / "m.mat", b"made by hand".ljust(124) + b"\x01\x00MI" + element)
    assert images.read_mat_mask(path, "g").tolist() == [[7], [9]]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.array([[1.0, np.nan]]), "0..255"),
        (np.array([[1.0, np.inf]]), "0..255"),
        (np.array([[1.0, 0.5]]), "0..255"),
        (np.array([[1, -1]]), "0..255"),
        (np.array([[1, 256]]), "0..255"),
        (np.array([[1, 1j]]), "not a matrix"),
        (np.zeros((2, 2, 2)), "not a matrix"),
        (np.zeros((0, 0)), "0 rows"),
        (np.array([[1, "a"]], object), "not a matrix"),
        ({"field": 1}, "not a matrix"),
        ("text", "not a matrix"),
    ],
)
def test_matlab_variables_that_are_no_masks_are_refused(tmp_path: Path, value: object, reason: str) -> None:
    path = written(tmp_path / "m.mat", matlab({"groundtruth": value}))
    with pytest.raises(ImageProblem, match=reason):
        images.read_mat_mask(path, "groundtruth")


def test_other_matlab_files_are_refused(tmp_path: Path) -> None:
    good = matlab({"groundtruth": GRID})
    at = good.index(struct.pack("<II", 5, 8)) + 8
    huge = good[:at] + struct.pack("<ii", 2**31 - 1, 2**31 - 1) + good[at + 8 :]
    negative = good[:at] + struct.pack("<ii", -3, -4) + good[at + 8 :]
    with h5py.File(tmp_path / "h5.mat", "w", userblock_size=512) as file:
        file["groundtruth"] = GRID
    seven = b"MATLAB 7.3".ljust(124) + b"\x00\x02IM" + (tmp_path / "h5.mat").read_bytes()[128:]
    for content, reason in [
        (b"", "version 5"),
        (SIGNATURE + bytes(300), "version 5"),
        (matlab({"groundtruth": GRID.astype(float)}, format="4"), "version 5"),
        (seven, "version 7.3"),
        (good[:-30], "cut off"),
        (matlab({"groundtruth": GRID}, do_compression=True)[:-10], "cut off"),
        (huge, "2147483647 rows"),
        (negative, "-3 rows"),
        (matlab({"other": GRID}), "no variable"),
    ]:
        with pytest.raises(ImageProblem, match=reason):
            images.read_mat_mask(written(tmp_path / "m.mat", content), "groundtruth")


def test_matlab_matrices_are_bounded() -> None:
    small, large = matlab({"g": GRID}, do_compression=True), matlab({"g": np.zeros((99, 99))}, do_compression=True)
    assert read_matrix(small, "g", most=12) is not None
    with pytest.raises(ValueError, match="3 rows and 4 columns, none or more than we read"):
        read_matrix(small, "g", most=11)
    # Its size is known from its head; the rest is not inflated.
    with pytest.raises(ValueError, match="99 rows and 99 columns, none or more than we read"):
        read_matrix(large, "g", most=11)


@CASES
@given(damaged([matlab({"g": GRID}), matlab({"a": "x", "g": GRID}, do_compression=True), matlab({"g": {"a": 1}})]))
def test_a_damaged_matlab_file_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    try:
        assert images.read_mat_mask(written(tmp_path / "any.mat", content), "g").dtype == np.uint8
    except ImageProblem as problem:
        assert "\n" not in str(problem)


def test_matlab_masks_are_those_that_scipy_reads(test_data: Path) -> None:
    files = sorted((test_data / "ccp" / "annotations" / "pixel-level").glob("*.mat"))
    assert len(files) == 1004
    for path in files[::40]:
        assert np.array_equal(images.read_mat_mask(path, "groundtruth"), loadmat(path)["groundtruth"])


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_a_written_mask_reads_back(height: int, width: int, seed: int) -> None:
    mask = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    content = images.mask_png(mask, palette_bytes({1: "hat"}))
    assert np.array_equal(images.decode(images.open_image(content, ("PNG",))), mask)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=60, deadline=None)
def test_runs_count_as_pixels_do(height: int, width: int, seed: int, noisy: bool) -> None:
    generator = np.random.default_rng(seed)
    mask = generator.integers(0, 256, (height, width), np.uint8)
    if not noisy:
        mask = np.repeat(mask[:1, :1] % 7, height * width).reshape(height, width)
        mask[: height // 2] = 255
    assert np.array_equal(label_counts(mask), np.bincount(mask.ravel(), minlength=256))


def test_resizing_takes_the_pixels_that_the_docstring_names() -> None:
    mask = np.arange(5 * 7, dtype=np.uint8).reshape(5, 7)
    # Rows 0, 5//2 -> 0, 2; columns 0, 7//3, 14//3 -> 0, 2, 4.
    assert images.resize_nearest(mask, 2, 3).tolist() == [[0, 2, 4], [14, 16, 18]]


def test_digests_tell_shapes_apart() -> None:
    flat = np.zeros(12, np.uint8)
    shapes = [(3, 4), (4, 3), (1, 12), (12, 1)]
    assert len({images.pixel_digest(flat.reshape(shape)) for shape in shapes}) == len(shapes)
