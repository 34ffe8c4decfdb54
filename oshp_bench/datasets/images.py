"""Reads and writes photos and label masks strictly: an ambiguous file is refused with a hint."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import warnings
import zlib
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from oshp_bench.datasets import png
from oshp_bench.datasets.matlab import read_matrix
from oshp_bench.errors import OshpError
from oshp_bench.files import open_to_read, read_at_most, write_bytes

Mask = NDArray[np.uint8]
Photo = NDArray[np.uint8]

IGNORE = 255
# The coarse label of each source label: 1 (human) for every label but background; 255 stays.
COARSE = np.ones(256, np.uint8)
COARSE[[0, IGNORE]] = 0, IGNORE
COARSE.flags.writeable = False
MAX_PIXELS = 64_000_000
MAX_FILE_BYTES = 256 << 20
# A colour picture is held twice, at 4 bytes a pixel, before it turns out to be no label mask.
_MAX_COLOUR_PIXELS = MAX_PIXELS // 2
_MAX_MATLAB_BYTES = 80 << 20
_TOO_LARGE = f"more than {MAX_PIXELS // 10**6} million pixels"
_JPEG = b"\xff\xd8"
# The start of a frame's segment in a JPEG, and its kinds: baseline, extended, progressive.
_FRAME, _FRAMES = struct.Struct(">BBHBHHB"), (0xC0, 0xC1, 0xC2)
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
# Pillow multiplies the numbers of grey PNGs by this; in a label mask the stored number is the label.
_GREY_SCALE = {"1": 255, "L;2": 85, "L;4": 17}
# EXIF orientation -> the operation that turns the photo upright.
_TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageProblem(Exception):
    """A picture that cannot be used; the message says why, and the caller adds the file."""


def open_image(data: bytes | Path, formats: tuple[str, ...]) -> Image.Image:
    """Opens a picture without decoding its pixels. Unlike Pillow, it verifies the checksums of a PNG.

    Raises:
        ImageProblem: not a whole picture of these formats, animated, 16 bits, or of more than 64 million pixels.
    """
    if isinstance(data, Path):
        data = _content(data)
    if data.startswith(png.SIGNATURE) and "PNG" in formats:
        problem = png.problem_of(data, MAX_PIXELS)
        if problem:
            raise ImageProblem(problem)
    try:
        # Warnings are about damaged metadata, which we do not read. A checked PNG gives none.
        with nullcontext() if data.startswith(png.SIGNATURE) else warnings.catch_warnings(action="ignore"):
            image = Image.open(io.BytesIO(data), formats=formats)
    except Image.DecompressionBombError as error:
        raise ImageProblem(_TOO_LARGE) from error
    except _BROKEN as error:
        raise ImageProblem(_why_unreadable(data, formats)) from error
    if image.width * image.height > MAX_PIXELS:
        raise ImageProblem(_TOO_LARGE)
    return image


def decode(image: Image.Image) -> NDArray[np.uint8]:
    """Decodes an opened picture as it is stored: uint8 [H, W] or [H, W, channels].

    Raises:
        ImageProblem: truncated or damaged data.
    """
    tile = getattr(image, "tile", None)
    rawmode = str(tile[0][3]) if tile else ""
    _load(image)
    pixels = np.asarray(image)
    # The view is for pictures of 1 bit: bytes of 0 and 255 with the dtype bool.
    return pixels.view(np.uint8) // np.uint8(_GREY_SCALE[rawmode]) if rawmode in _GREY_SCALE else pixels


def read_mask(path: Path) -> Mask:
    """Reads a label mask: uint8 [H, W], the stored numbers.

    Palette and grey masks of 1 to 8 bits are accepted, and colour pictures whose channels are all equal.

    Raises:
        ImageProblem: not a PNG, damaged, 16 bits, or a colour picture.
    """
    image = open_image(path, ("PNG",))
    if image.mode in ("1", "L", "P"):
        return decode(image)
    if image.mode not in ("LA", "RGB", "RGBA"):
        raise ImageProblem(f"mode {image.mode}; a label mask has 8 bits, grey or palette")
    if image.width * image.height > _MAX_COLOUR_PIXELS:
        raise ImageProblem("a colour picture of many pixels; save the label mask as grey, or with a palette")
    pixels = decode(image)
    labels = pixels[..., 0]
    colours = pixels.shape[2] - (image.mode in ("LA", "RGBA"))
    if any((pixels[..., channel] != labels).any() for channel in range(1, colours)):
        raise ImageProblem("a colour picture, not a label mask; give the folder of PNGs that hold label numbers")
    return np.ascontiguousarray(labels)


def read_photo(path: Path, *, upright: bool = False) -> Photo:
    """Reads a photo: uint8 [H, W, 3] RGB; grey photos get three equal channels.

    Args:
        upright: turns the photo by its EXIF orientation. Masks of datasets fit photos as stored, without turning.

    Raises:
        ImageProblem: not a JPEG or PNG, truncated or damaged.
    """
    image = open_image(path, ("JPEG", "PNG"))
    turn = _TURNS.get(_orientation(image)) if upright else None
    _load(image)
    try:
        # Through RGBA, because Pillow warns about palettes with transparency.
        colours = image.convert("RGBA") if image.mode == "P" else image
        colours = colours if colours.mode == "RGB" else colours.convert("RGB")
        return np.asarray(colours if turn is None else colours.transpose(turn))
    except _BROKEN as error:
        raise ImageProblem(f"truncated or damaged ({error})") from error


def _load(image: Image.Image) -> None:
    """Decodes an opened picture in place, and refuses one whose data end before its last row."""
    file = getattr(image, "fp", None)
    try:
        if image.format != "PNG" or not isinstance(file, io.BytesIO):
            image.load()
        elif not png.load_whole(image, file.getvalue()):
            raise ImageProblem("damaged: it has fewer rows than its header says")
    except _BROKEN as error:
        raise ImageProblem(f"truncated or damaged ({error})") from error


def _orientation(image: Image.Image) -> object:
    """The EXIF orientation, 1 to 8; None without EXIF data or with damaged ones."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return image.getexif().get(ExifTags.Base.Orientation)
    except _BROKEN:
        return None


def photo_size(path: Path) -> tuple[int, int]:
    """Height and width from a photo's header; a truncated file is refused.

    Raises:
        ImageProblem: not a JPEG or PNG, or cut off.
    """
    head, tail = _ends(path)
    if not head.startswith(_JPEG):
        # Opening a PNG checks its end.
        image = open_image(path, ("JPEG", "PNG"))
        return image.height, image.width
    # Some cameras pad files, so the end mark need not be the last two bytes.
    if b"\xff\xd9" not in tail:
        raise ImageProblem("truncated: the JPEG's end is missing")
    size = _plain_jpeg_size(head)
    if size is not None:
        return size
    try:
        image = open_image(head, ("JPEG",))
    except ImageProblem:
        # A long preview or colour profile comes before the size.
        image = open_image(path, ("JPEG",))
    return image.height, image.width


def read_mat_mask(path: Path, variable: str) -> Mask:
    """Reads a label mask from a MATLAB file (version 5 to 7): uint8 [H, W].

    Raises:
        ImageProblem: not such a file, no such variable, not a matrix of labels 0..255.
    """
    try:
        matrix = read_matrix(_content(path, _MAX_MATLAB_BYTES), variable, MAX_PIXELS)
    except (ValueError, struct.error, zlib.error) as error:
        raise ImageProblem(f"not a readable MATLAB file ({error})") from error
    if matrix is None:
        raise ImageProblem(f"holds no variable {variable!r}")
    with np.errstate(invalid="ignore"):
        labels = np.ascontiguousarray(matrix, dtype=np.uint8)
    if matrix.dtype != np.uint8 and (labels != matrix).any():
        raise ImageProblem(f"{variable!r} holds numbers other than 0..255")
    return labels


def mask_png(mask: Mask, palette: bytes) -> bytes:
    """Encodes a mask as a palette PNG.

    Args:
        mask: uint8 [H, W]; the numbers become palette indices.
        palette: 768 bytes: red, green, blue of every index.
    """
    image = Image.fromarray(mask)
    image.putpalette(palette)
    buffer = io.BytesIO()
    # Labels lie in runs: for them run lengths alone make smaller files than a search for repeats, in half the time.
    image.save(buffer, "PNG", compress_type=zlib.Z_RLE)
    return buffer.getvalue()


def write_mask(path: Path, mask: Mask, palette: bytes) -> None:
    """Writes a mask as a palette PNG, completely or not at all; see mask_png."""
    write_bytes(path, mask_png(mask, palette))


def pixel_digest(mask: Mask) -> str:
    """The digest of a mask's size and pixels, which does not depend on the encoder: "sha256:" and 64 digits."""
    digest = hashlib.sha256(f"{mask.shape[0]}x{mask.shape[1]}:".encode())
    digest.update(np.ascontiguousarray(mask).data)
    return "sha256:" + digest.hexdigest()


def resize_nearest(mask: Mask, height: int, width: int) -> Mask:
    """Resizes by nearest neighbour: row i of the result is row (i * H) // height of the mask, columns likewise."""
    rows = np.arange(height) * mask.shape[0] // height
    columns = np.arange(width) * mask.shape[1] // width
    resized: Mask = mask.take(rows, axis=0).take(columns, axis=1)
    return resized


def at_path(path: Path, problem: ImageProblem) -> OshpError:
    """The error of a picture that lies at this path."""
    return OshpError(f"{path}: {problem}")


def _ends(path: Path) -> tuple[bytes, bytes]:
    """A file's first 8,192 and last 64 bytes: a scan needs no more of a photo, and reading large files takes time."""
    try:
        with open_to_read(path) as file:
            head = file.read(8192)
            file.seek(max(0, os.fstat(file.fileno()).st_size - 64))
            return head, file.read()
    except FileNotFoundError as error:
        raise ImageProblem("does not exist") from error
    except OSError as error:
        raise ImageProblem(f"cannot be read ({error.strerror})") from error


def _plain_jpeg_size(head: bytes) -> tuple[int, int] | None:
    """Height and width of a JPEG as cameras write it; None for any other JPEG, which Pillow must read.

    A scan needs the size of every photo, and Pillow needs half as long for it as the scan needs to count a mask.
    """
    start = len(_JPEG)
    while start + _FRAME.size <= len(head):
        mark, kind, length, bits, height, width, channels = _FRAME.unpack_from(head, start)
        if mark != 0xFF or not (0xC0 <= kind <= 0xCF or 0xDB <= kind <= 0xFE):
            return None
        if kind in _FRAMES:
            plain = bits == 8 and channels in (1, 3, 4) and 0 < height * width <= MAX_PIXELS
            return (height, width) if plain else None
        start += 2 + length
    return None


def _content(path: Path, most: int = MAX_FILE_BYTES) -> bytes:
    try:
        data = read_at_most(path, most)
    except FileNotFoundError as error:
        raise ImageProblem("does not exist") from error
    except OSError as error:
        raise ImageProblem(f"cannot be read ({error.strerror})") from error
    if len(data) > most:
        raise ImageProblem(f"larger than {most >> 20} MiB")
    return data


def _why_unreadable(data: bytes, formats: tuple[str, ...]) -> str:
    wanted = " or ".join(formats)
    if not data:
        return "an empty file"
    if data.startswith(_JPEG):
        if "JPEG" in formats:
            return "a JPEG that is truncated or damaged"
        return f"a JPEG, not a {wanted}; JPEG changes numbers, so it cannot store labels"
    return f"not a {wanted}, or damaged"
