"""The photos and masks of a manifest's training images in one HDF5 file, to be read one by one."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oshp_bench.console import progress
from oshp_bench.datasets.images import Mask, Photo
from oshp_bench.datasets.labels import UNKNOWN
from oshp_bench.datasets.runs import class_counts
from oshp_bench.datasets.sources import Source
from oshp_bench.errors import OshpError, raise_problems, shortened
from oshp_bench.files import canonical_json, open_to_read, written_whole
from oshp_bench.manifest.model import Manifest, meaning_json

LONGEST_SIDE = 640
_FORMAT = "oshp-pack/1"
# What a pack may take before its pixels: of an attribute, and of each other part.
_MOST_TEXT, _MOST_BYTES = 1 << 16, 64 << 20
_AGAIN = "write it again with oshp-tailor --pack"
# What h5py raises for a file that is cut off, of another kind, or without the parts of a pack.
_UNREADABLE = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError)


def write_pack(manifest: Manifest, source: Source, path: Path) -> None:
    """Packs the training photos and masks into one HDF5 file.

    Photos and masks are shrunk, never enlarged, until their longer side has 640 pixels: photos with an antialiasing
    filter, masks by nearest neighbour. Nothing is compressed, so that an image costs one short read. The images of
    Q_train come first, then those of S_train; image i fills the pixels `start[i]` to `start[i + 1]`, row by row:

    - `ids`: text [n]
    - `sizes`: int32 [n, 2], height and width
    - `start`: int64 [n + 1]
    - `photos`: uint8 [pixels, 3], RGB
    - `masks`: uint8 [pixels], SOURCE labels before the merge, so that a pack serves every fold; 255 = ignore
    - attributes `format` "oshp-pack/1", `manifest`, `digest` (of the manifest), `query_train` (its number of images),
      `longest_side`, `dataset` (JSON: the meaning of the labels)

    The same files, Pillow and HDF5 give the same bytes.

    Raises:
        OshpError: every photo or mask that cannot be read.
    """
    import h5py

    images = manifest.training_images
    sizes = np.array([_shrunk(*source.photo_size(image)) for image in images], np.int32)
    start = np.concatenate([[0], np.cumsum(sizes.astype(np.int64).prod(axis=1))])
    problems: list[str] = []
    with written_whole(path) as file, _Patient(file) as patient, h5py.File(patient, "w") as pack:
        attributes = {
            "format": _FORMAT,
            "manifest": manifest.name,
            "digest": manifest.digest,
            "query_train": len(manifest.pools["query_train"]),
            "longest_side": LONGEST_SIDE,
            "dataset": _meaning(manifest),
        }
        for name, value in attributes.items():
            pack.attrs[name] = value
        for name, values in (("ids", np.array(images, "S")), ("sizes", sizes), ("start", start)):
            pack.create_dataset(name, data=values, track_times=False)
        photos = pack.create_dataset("photos", (start[-1], 3), np.uint8, track_times=False)
        masks = pack.create_dataset("masks", (start[-1],), np.uint8, track_times=False)
        for index, image in enumerate(progress(images, "packing")):
            height, width = sizes[index]
            try:
                photo, mask = source.photo(image), source.mask(image)
            except OshpError as error:
                problems.extend(error.problems)
                continue
            photos[start[index] : start[index + 1]] = _resized(photo, height, width).reshape(-1, 3)
            masks[start[index] : start[index + 1]] = _resized(mask, height, width).reshape(-1)
            patient.check()
        raise_problems(problems)


class _Patient(io.RawIOBase):
    """A file that HDF5 writes to; the first error of a full disk is kept until HDF5 has closed it.

    HDF5 itself crashes the process some time after a write that failed.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._error: OSError | None = None

    def check(self) -> None:
        """Raises the error that was kept."""
        if self._error:
            raise self._error

    def __exit__(self, *_: object) -> None:
        self.check()

    def write(self, data: Any) -> int:
        if self._error is None:
            try:
                self._file.write(data)
                self._file.flush()
            except OSError as error:
                self._error = error
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None) -> int:
        if self._error is None:
            try:
                return self._file.truncate(size)
            except OSError as error:
                self._error = error
        return size or 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        part = self._file.read(memoryview(buffer).nbytes)
        memoryview(buffer).cast("B")[: len(part)] = part
        return len(part)


class Pack:
    """A pack, read image by image. The file is opened at first use, once in every process.

    Args:
        manifest: the pack must hold its training images, with the same meaning of labels; the fold does not matter.

    Raises:
        OshpError: no pack, one of another dataset, or one that lacks training images.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._path = path
        self._merge = manifest.dataset.merge
        with _readable(path):
            # HDF5 would wait for a pipe.
            open_to_read(path).close()
            said, ids, pixels = self._contents()
        if said["format"] != _FORMAT:
            raise OshpError(f'{path}: not a pack (its "format" is not "{_FORMAT}")')
        if said["dataset"] != _meaning(manifest):
            raise OshpError(f"{path}: its labels do not mean those of {manifest.name}; pack this manifest's dataset")
        if pixels is None:
            raise OshpError(f"{path}: its parts do not fit each other; {_AGAIN}")
        self._place: Mapping[str, int] = {image: index for index, image in enumerate(ids)}
        lacking = [image for image in manifest.training_images if image not in self._place]
        raise_problems(shortened([f"{path}: lacks the training image {image} of {manifest.name}" for image in lacking]))

    def read(self, image_id: str) -> tuple[Photo, Mask]:
        """A photo, uint8 [H, W, 3] RGB, and its mask of source labels, uint8 [H, W]; 255 = ignore.

        Raises:
            OshpError: the image is damaged.
        """
        place = self._place[image_id]
        try:
            file, sizes, start = self._opened
            (height, width), (first, last) = sizes[place].tolist(), start[place : place + 2].tolist()
            if not (0 < height <= LONGEST_SIDE and 0 < width <= LONGEST_SIDE and first >= 0):
                raise ValueError
            if last != first + height * width or last > len(file["masks"]):
                raise ValueError
            photo = file["photos"][first:last].reshape(height, width, 3)
            mask = file["masks"][first:last].reshape(height, width)
            if class_counts(mask, self._merge)[UNKNOWN]:
                raise ValueError
            return photo, mask
        except _UNREADABLE as error:
            raise OshpError(f"{self._path}: {image_id} is damaged in it; {_AGAIN}") from error

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_place": self._place, "_merge": self._merge}

    def _contents(self) -> tuple[dict[str, str], list[str], int | None]:
        """Its texts, the image ids, and the number of pixels; None if its parts do not fit each other."""
        import h5py

        with h5py.File(self._path, "r") as file:
            said = {name: _text(file, name) for name in ("format", "dataset")}
            if said["format"] != _FORMAT:
                return said, [], None
            parts = {name: _plain(file, name) for name in _KINDS}
            ids = [image.decode() for image in parts["ids"][:]]
            pixels = int(parts["masks"].shape[0])
            shapes = {"ids": (len(ids),), "sizes": (len(ids), 2), "start": (len(ids) + 1,), "photos": (pixels, 3)}
            fits = all(parts[name].shape == shape for name, shape in shapes.items())
            return said, ids, pixels if fits and parts["masks"].shape == (pixels,) else None

    @cached_property
    def _opened(self) -> tuple[Any, NDArray[np.int32], NDArray[np.int64]]:
        import h5py

        file = h5py.File(self._path, "r")
        parts = {name: _plain(file, name) for name in _KINDS}
        return file, parts["sizes"][:], parts["start"][:]


# The kind of numbers of each part; "S" are texts of any length.
_KINDS = {"ids": "S", "sizes": "int32", "start": "int64", "photos": "uint8", "masks": "uint8"}


def _text(file: Any, name: str) -> str:
    """An attribute that is one short text."""
    attribute = file.attrs.get_id(name)
    if attribute.shape != () or attribute.get_storage_size() > _MOST_TEXT:
        raise ValueError
    text = file.attrs[name]
    if not isinstance(text, str):
        raise ValueError
    return text


def _plain(file: Any, name: str) -> Any:
    """A dataset whose numbers lie in this file, in one piece: not linked, virtual, external, chunked or compressed."""
    import h5py

    # A link is followed only when it is known to lead into the file.
    if type(file.get(name, getlink=True)) is not h5py.HardLink:
        raise ValueError
    part = file[name]
    kind = _KINDS[name]
    if not isinstance(part, h5py.Dataset) or part.shape is None or part.dtype.hasobject:
        raise ValueError
    created = part.id.get_create_plist()
    stored = part.nbytes == 0 or part.id.get_storage_size() == part.nbytes
    if created.get_layout() != h5py.h5d.CONTIGUOUS or part.external or not stored:
        raise ValueError
    if part.nbytes > min(
        _MOST_BYTES if name in ("ids", "sizes", "start") else 1 << 62, Path(file.filename).stat().st_size
    ):
        raise ValueError
    if part.dtype.kind != "S" if kind == "S" else part.dtype != kind:
        raise ValueError
    return part


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        raise OshpError(f"{path}: not a readable pack; {_AGAIN}") from error


def _meaning(manifest: Manifest) -> str:
    return canonical_json(meaning_json(manifest.dataset)).decode()


def _shrunk(height: int, width: int) -> tuple[int, int]:
    """The size of an image of this size in a pack."""
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _resized(pixels: Photo | Mask, height: int, width: int) -> Photo | Mask:
    if pixels.shape[:2] == (height, width):
        return pixels
    image = Image.fromarray(pixels)
    how = Image.Resampling.BICUBIC if pixels.ndim == 3 else Image.Resampling.NEAREST
    return np.asarray(image.resize((width, height), how))
