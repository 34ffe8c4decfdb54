"""Finds a dataset's photos and masks in every known layout; a Source gives them by image id."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oshp_bench.datasets import images
from oshp_bench.datasets.labels import ID_PATTERN, UNKNOWN, Dataset, Layout, Part
from oshp_bench.datasets.runs import class_counts
from oshp_bench.errors import OshpError
from oshp_bench.files import read_bounded

_SEARCH_DEPTH = 3
_MOST_FOLDERS = 2_000
_MAX_LIST_BYTES = 64 << 20
_YES_NO = {"0": False, "1": True}


@dataclass(frozen=True)
class Source:
    """A dataset on this machine.

    Attributes:
        root: the folder that the layout's paths start from.
    """

    dataset: Dataset
    layout: Layout
    root: Path

    @cached_property
    def lists(self) -> Mapping[str, tuple[str, ...]]:
        """The image ids of every list that the layout gives, sorted as strings, without excluded images.

        Raises:
            OshpError: a list that cannot be read, or an id with other characters than letters, digits, - and _.
        """
        found: dict[str, tuple[str, ...]] = {}
        for part in self.layout.parts:
            ids, origin = self._ids(part)
            strange = [image_id for image_id in ids if not ID_PATTERN.fullmatch(image_id)]
            if strange:
                raise OshpError(f"{origin}: {strange[0][:80]!r} is no image id (letters, digits, - and _)")
            kept = sorted(set(ids) - self.dataset.exclude.keys())
            found[part.list] = tuple(sorted({*found.get(part.list, ()), *kept}))
        return found

    @property
    def has_masks(self) -> bool:
        """Whether masks are at hand, not only tables of the labels present."""
        return all(part.mask or part.drawn for part in self.layout.parts)

    @cached_property
    def presence(self) -> Mapping[str, frozenset[int]]:
        """Image id -> source labels present in it, from the layout's tables.

        Raises:
            OshpError: a table that cannot be read.
        """
        tables = {part.presence for part in self.layout.parts if part.presence}
        return {
            image: labels for table in tables for image, labels in read_presence(self.root / table, self.dataset.labels)
        }

    def file_problems(self, photos: Iterable[str], masks: Iterable[str], kind: str) -> list[str]:
        """Every photo that is missing or cut off and every mask that is missing; no pixel is decoded.

        Args:
            photos, masks: the images whose photos, and whose masks, will be read.
            kind: what errors call such an image.

        Raises:
            OshpError: the source has no masks at all.
        """
        if not self.has_masks:
            raise OshpError(
                f"{self.root}: holds lists of classes, but no photos and masks (layout {self.layout.name!r}); give the"
                f" folder of {self.dataset.title} itself"
            )
        problems: list[str] = []
        for image_id in photos:
            # A drawn photo has no file that could be missing.
            if self.photo_path(image_id) is not None:
                try:
                    self.photo_size(image_id)
                except OshpError as error:
                    problems.extend(error.problems)
        for image_id in masks:
            path = self.mask_path(image_id)
            if path is not None and not path.is_file():
                problems.append(f"{path}: does not exist; the mask of the {kind} {image_id}")
        return problems

    def photo_path(self, image_id: str) -> Path | None:
        """The path of an image's photo; None in an embedded dataset."""
        return self._path(self._part(image_id).photo, image_id)

    def mask_path(self, image_id: str) -> Path | None:
        """The path of an image's mask; None in an embedded dataset."""
        return self._path(self._part(image_id).mask, image_id)

    def mask_name(self, image_id: str) -> str:
        """What errors call an image's mask: its path, or the image id in an embedded dataset."""
        return str(self.mask_path(image_id) or image_id)

    def files_among(self, paths: Iterable[Path | None]) -> list[Path]:
        """Those of some paths that are the dataset's own photos, masks, lists or tables."""
        own = [
            re.escape(os.path.realpath(self.root / pattern)).replace(r"\{id\}", ".+")
            for part in self.layout.parts
            for pattern in (part.photo, part.mask, part.ids, part.presence)
            if pattern
        ]
        found = []
        for path in filter(None, paths):
            place = f"{os.path.realpath(path.parent)}/{path.name}"
            if any(re.fullmatch(pattern, place) for pattern in own):
                found.append(path)
        return found

    def photo(self, image_id: str) -> images.Photo:
        """Reads a photo: uint8 [H, W, 3] RGB.

        Raises:
            OshpError: missing, truncated or not a photo.
        """
        part = self._part(image_id)
        if part.drawn:
            return _draw(part.drawn, image_id)[0]
        with self._file(part.photo, image_id, "photo") as path:
            return images.read_photo(path)

    def mask(self, image_id: str) -> images.Mask:
        """Reads a mask of source labels, corrections applied: uint8 [H, W]; 255 = ignore.

        Raises:
            OshpError: missing, damaged or a colour picture.
        """
        part = self._part(image_id)
        if part.drawn:
            return _draw(part.drawn, image_id)[1]
        with self._file(part.mask, image_id, "mask") as path:
            mask = images.read_mat_mask(path, part.variable) if part.variable else images.read_mask(path)
        correction = self.dataset.corrections_of(image_id)
        return mask if correction is None else correction.take(mask)

    def merged_mask(self, image_id: str) -> images.Mask:
        """Reads a mask after the merge: uint8 [H, W] of class ids; 255 = ignore.

        Raises:
            OshpError: as mask(), or numbers that are no labels.
        """
        mask = self.mask(image_id)
        merged = self.dataset.merge.take(mask)
        if (merged == UNKNOWN).any():
            raise self._unknown_labels(image_id, mask[merged == UNKNOWN])
        return merged

    def class_counts(self, image_id: str, mask: images.Mask) -> NDArray[np.int64]:
        """Counts the pixels of every class in an image's mask of source labels: int64 [256].

        Raises:
            OshpError: the mask holds numbers that are no labels.
        """
        counts = class_counts(mask, self.dataset.merge)
        if counts[UNKNOWN]:
            raise self._unknown_labels(image_id, mask[self.dataset.merge[mask] == UNKNOWN])
        return counts

    def photo_size(self, image_id: str) -> tuple[int, int]:
        """Height and width of a photo, from its header where there is a file.

        Raises:
            OshpError: missing, cut off or not a photo.
        """
        part = self._part(image_id)
        if part.drawn:
            height, width = _draw(part.drawn, image_id)[1].shape
            return height, width
        with self._file(part.photo, image_id, "photo") as path:
            return images.photo_size(path)

    def check_size(self, image_id: str, mask: images.Mask, photo_size: tuple[int, ...]) -> None:
        """Compares a mask with its photo's height and width.

        Raises:
            OshpError: they differ.
        """
        if mask.shape != photo_size:
            raise OshpError(
                f"{self.mask_name(image_id)}: {mask.shape[1]}x{mask.shape[0]} pixels, but its photo has"
                f" {photo_size[1]}x{photo_size[0]}; take both from one copy of the dataset"
            )

    def _ids(self, part: Part) -> tuple[Sequence[str], str]:
        if part.drawn:
            return _drawn_ids(part.drawn), self.dataset.name
        if part.ids:
            path = self.root / part.ids
            try:
                return read_bounded(path, _MAX_LIST_BYTES).decode("utf-8-sig").split(), str(path)
            except UnicodeDecodeError as error:
                raise OshpError(f"{path}: not a text file of image ids") from error
        pattern = self.root / (part.mask or "")
        before, _, after = pattern.name.partition("{id}")
        names = [entry.name for entry in os.scandir(pattern.parent)]
        return [
            name.removeprefix(before).removesuffix(after)
            for name in names
            if name.startswith(before) and name.endswith(after) and not name.startswith(".")
        ], str(pattern.parent)

    @cached_property
    def _part_of(self) -> Mapping[str, Part]:
        if len(self.layout.parts) == 1:
            return {}
        return {image_id: part for part in self.layout.parts for image_id in self._ids(part)[0]}

    def _part(self, image_id: str) -> Part:
        return self._part_of.get(image_id, self.layout.parts[0])

    def _path(self, pattern: str | None, image_id: str) -> Path | None:
        return None if pattern is None else self.root / pattern.replace("{id}", image_id)

    @contextmanager
    def _file(self, pattern: str | None, image_id: str, kind: str) -> Iterator[Path]:
        """The path of a photo or mask; a problem with the picture gets it in front."""
        path = self._path(pattern, image_id)
        if path is None:
            raise OshpError(f"{self.root}: the layout {self.layout.name!r} has no {kind}s (wanted for {image_id})")
        try:
            yield path
        except images.ImageProblem as problem:
            raise images.at_path(path, problem) from problem

    def _unknown_labels(self, image_id: str, numbers: NDArray[np.uint8]) -> OshpError:
        return OshpError(
            f"{self.mask_name(image_id)}: holds {', '.join(map(str, np.unique(numbers)[:5]))}, but {self.dataset.name}"
            f" has the labels 0..{len(self.dataset.labels) - 1} (and 255 = ignore); is this another dataset's mask, or"
            " a colour picture?"
        )


def find_source(dataset: Dataset, root: Path | None = None) -> Source:
    """Finds the dataset under a folder, or where the environment says.

    Args:
        root: the folder to search; None takes the variables OSHP_<NAME>_ROOT, then OSHP_DATA.

    Raises:
        OshpError: no folder given, or no known layout in it; says where to get the dataset and what it looks like.
    """
    embedded = [layout for layout in dataset.layouts if all(part.drawn for part in layout.parts)]
    if embedded:
        return Source(dataset, embedded[0], Path())
    own_variable = f"OSHP_{dataset.name.upper().replace('-', '_')}_ROOT"
    if root is None:
        given = os.environ.get(own_variable) or os.environ.get("OSHP_DATA")
        if not given:
            line = f"{dataset.title}: give --root, or set {own_variable} or OSHP_DATA"
            raise OshpError(line, advice=_what_to_get(dataset))
        root = Path(given)
    if not root.is_dir():
        raise OshpError(f"{root}: no such folder", advice=_what_to_get(dataset))
    nearest, most = "", 0
    for folder in _folders(root):
        for layout in dataset.layouts:
            wanted = _places(layout, folder)
            lacking = [place for place, there in wanted.items() if not there]
            if not lacking:
                return Source(dataset, layout, folder)
            # The folder itself is there in any case.
            found = sum(there and place != folder for place, there in wanted.items())
            if found > most:
                lacks = ", ".join(map(str, lacking))
                nearest, most = f"; {folder} looks like {layout.name!r}, but lacks {lacks}", found
    line = f"{root}: holds no known layout of {dataset.title}{nearest}"
    raise OshpError(line, advice=_what_to_get(dataset))


def read_presence(path: Path, labels: tuple[str, ...]) -> Iterator[tuple[str, frozenset[int]]]:
    """Reads a CSV table of the labels present in every image.

    A column `image_id` or `id` names the image. Then there is either a column `present_labels` with label numbers
    separated by spaces, or a column of 0 and 1 for every label, under its name.

    Raises:
        OshpError: other columns or cells.
    """
    try:
        rows = csv.DictReader(io.StringIO(read_bounded(path, _MAX_LIST_BYTES).decode("utf-8-sig")))
        columns = rows.fieldnames or ()
        key = next((name for name in ("image_id", "id") if name in columns), None)
        named = {name: labels.index(name) for name in columns if name in labels}
        if key is None or not (named or "present_labels" in columns):
            raise OshpError(f"{path}: needs a column id, and either a column present_labels or one for every label")
        seen: set[str] = set()
        for row in rows:
            if "present_labels" in row:
                present = frozenset(int(number) for number in row["present_labels"].split())
            else:
                present = frozenset(index for name, index in named.items() if _YES_NO[row[name]])
            if not all(0 <= number < len(labels) for number in present):
                raise OshpError(f"{path}: line {rows.line_num}: a label that the dataset does not have")
            image_id = row[key] or ""
            if not ID_PATTERN.fullmatch(image_id) or image_id in seen:
                why = "is listed twice" if image_id in seen else "is no image id (letters, digits, - and _)"
                raise OshpError(f"{path}: line {rows.line_num}: {image_id[:80]!r} {why}")
            seen.add(image_id)
            yield image_id, present
    except (ValueError, csv.Error, AttributeError, KeyError) as error:
        raise OshpError(f"{path}: not a table of the labels present ({error or type(error).__name__})") from error


def _drawn_ids(count: int) -> list[str]:
    return [f"{index:04d}" for index in range(count)]


# Drawing takes ten times as long as reading a file. All pictures of the embedded dataset together take 60 MB.
@lru_cache(maxsize=512)
def _draw(count: int, image_id: str) -> tuple[images.Photo, images.Mask]:
    from oshp_bench.datasets import demo

    if image_id not in _drawn_ids(count):
        raise OshpError(f"{image_id[:80]!r}: no image of the embedded dataset, which has {count}")
    photo, mask = demo.draw(int(image_id))
    for pixels in (photo, mask):
        pixels.setflags(write=False)
    return photo, mask


def _places(layout: Layout, root: Path) -> dict[Path, bool]:
    """The files and folders that a layout needs, and whether they are there."""
    files = {root / name for part in layout.parts for name in (part.ids, part.presence) if name}
    patterns = (pattern for part in layout.parts for pattern in (part.photo, part.mask) if pattern)
    folders = {(root / pattern).parent for pattern in patterns}
    return {place: place.is_file() for place in sorted(files)} | {place: place.is_dir() for place in sorted(folders)}


def _folders(root: Path) -> Iterator[Path]:
    """The folder and a bounded number of folders below it, nearest first; links are not followed."""
    level, seen = [root], 0
    for _ in range(_SEARCH_DEPTH + 1):
        yield from level
        seen += len(level)
        if seen > _MOST_FOLDERS:
            return
        level = [
            Path(entry.path)
            for folder in level
            for entry in sorted(_entries(folder), key=lambda entry: entry.name)
            if entry.is_dir(follow_symlinks=False)
        ]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except PermissionError:
        return []


def _what_to_get(dataset: Dataset) -> str:
    patterns = (
        f"{layout.name}: {', '.join(filter(None, (part.ids, part.presence, part.photo, part.mask)))}"
        for layout in dataset.layouts
        for part in layout.parts
    )
    tree = dataset.tree.rstrip() or "\n".join(patterns)
    return f"{dataset.get.strip()}\nExpected, in any of its known layouts, for example:\n{tree}".strip()
