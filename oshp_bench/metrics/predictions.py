"""Finds predictions in a folder or a zip of unknown origin and reads them strictly."""

from __future__ import annotations

import os
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from oshp_bench.datasets.images import ImageProblem, Mask, decode, open_image
from oshp_bench.errors import OshpError, raise_problems, shortened
from oshp_bench.files import BOUNDED_ZIP_METHODS, BROKEN_ZIP, parse_json, read_at_most, read_bounded

WAYS = {"k": "kway", "1": "1way"}
CARD = "predictions.json"
_MAX_CARD_BYTES = 1 << 20
# Python's zipfile makes an object of every member, in twelve times the bytes.
_MAX_DIRECTORY_BYTES = 32 << 20


@dataclass(frozen=True)
class PredictionSet:
    """Predictions of one or both ways in a folder or a zip.

    Attributes:
        path: the folder or the zip.
        files: "k" or "1" -> file name without ".png" -> path within the folder or the zip.
        extra: files that are no prediction and no card, paths within.
        card: what predictions.json says, if there is one.
    """

    path: Path
    files: Mapping[str, Mapping[str, str]]
    extra: tuple[str, ...] = ()
    card: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def _archive(self) -> zipfile.ZipFile | None:
        return None if self.path.is_dir() else zipfile.ZipFile(self.path)

    def folder(self, way: str) -> Path:
        """Where the predictions of a way lie."""
        return self.path / PurePosixPath(next(iter(self.files[way].values()))).parent

    def place(self, way: str, name: str) -> str:
        """How a prediction is called in messages."""
        return str(self.path / self.files[way][name])

    def read(self, way: str, name: str, shape: tuple[int, int]) -> bytes:
        """Reads a prediction's file.

        Args:
            shape: height and width it should have; a file that is much larger than such a picture is refused.

        Raises:
            ImageProblem: cannot be read, or larger than such a picture can be.
        """
        most = 4 * shape[0] * shape[1] + (1 << 20)
        member = self.files[way][name]
        try:
            if self._archive is None:
                data = read_at_most(f"{self.path}/{member}", most)
            else:
                with self._archive.open(member) as entry:
                    data = entry.read(most + 1)
        except BROKEN_ZIP as error:
            raise ImageProblem(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
        if len(data) > most:
            raise ImageProblem(
                f"the file is larger than {most >> 10} KiB, more than a {shape[1]}x{shape[0]} mask needs"
            )
        return data


def open_predictions(path: Path, way: str | None) -> PredictionSet:
    """Finds the predictions under a path.

    `kway/` and `1way/` are looked for in the folder or zip, and in its only sub-folder; with `way`, the PNGs may lie
    there directly.

    Args:
        way: "k" or "1" to take that way alone; None for all there are.

    Raises:
        OshpError: not a folder or zip, nothing found, or paths that leave it.
    """
    if path.is_dir():
        names = list(_folder_names(path))
    elif zipfile.is_zipfile(path):
        names = list(_zip_names(path))
    else:
        raise OshpError(f"{path}: neither a folder nor a zip of predictions; check the path")
    wanted = [way] if way else list(WAYS)
    parts = {name: PurePosixPath(name).parts for name in names}
    tops = {each[0] for each in parts.values()}
    within = (len(tops) == 1 and not tops & {*WAYS.values(), CARD}) and all(len(each) > 1 for each in parts.values())
    depth = 1 if within else 0
    files: dict[str, dict[str, str]] = {}
    for each_way in wanted:
        found = {
            each[depth + 1].removesuffix(".png"): name
            for name, each in parts.items()
            if len(each) == depth + 2 and each[depth] == WAYS[each_way] and name.endswith(".png")
        }
        if not found and way:
            found = {
                each[depth].removesuffix(".png"): name
                for name, each in parts.items()
                if len(each) == depth + 1 and name.endswith(".png")
            }
        if found:
            files[each_way] = found
    if not files:
        hint = "; are these PNGs k-way or 1-way? say --way k or --way 1" if not way and _has_png(names) else ""
        raise OshpError(f"{path}: holds no {' and no '.join(WAYS[each] + '/*.png' for each in wanted)}{hint}")
    used = {name for found in files.values() for name in found.values()}
    others = {WAYS[each] for each in WAYS if each not in wanted}
    extra = [
        name
        for name, each in parts.items()
        if name not in used and each[depth:] != (CARD,) and not (len(each) > depth + 1 and each[depth] in others)
    ]
    card = next((name for name, each in parts.items() if each[depth:] == (CARD,)), None)
    opened = PredictionSet(path, files, tuple(sorted(extra)))
    return opened if card is None else PredictionSet(path, files, opened.extra, _read_card(path, card))


def read_prediction(data: bytes, shape: tuple[int, int]) -> Mask:
    """Decodes a prediction: uint8 [H, W].

    Args:
        shape: height and width of the query.

    Raises:
        ImageProblem: not an 8-bit grey or palette PNG of this size, or damaged.
    """
    image = open_image(data, ("PNG",))
    if image.mode not in ("L", "P", "1"):
        hint = {"I;16": "16 bits", "I": "16 bits"}.get(image.mode, f"mode {image.mode}, looks like a colour picture")
        raise ImageProblem(f"{hint}; a prediction is an 8-bit PNG, grey or palette, that holds class ids")
    if (image.height, image.width) != shape:
        raise ImageProblem(
            f"{image.width}x{image.height}, but the query is {shape[1]}x{shape[0]}; predict at the query's native size"
        )
    return decode(image)


def illegal_labels(used: np.ndarray[Any, Any], legal: np.ndarray[Any, Any], way: str) -> str | None:
    """Says what is wrong with the numbers of a prediction, with a hint; None if nothing is.

    Args:
        used: bool [256], the numbers that occur.
        legal: bool [256], the numbers a k-way prediction may hold.
    """
    numbers = used.nonzero()[0].tolist()
    if way == "1":
        foreground = [number for number in numbers if number]
        if len(foreground) <= 1:
            return None
        return f"holds {_shown(foreground)} beside 0, but 1-way has one foreground value; looks like a k-way prediction"
    strange = [number for number in numbers if not legal[number]]
    if not strange:
        return None
    if numbers in ([0, 255], [255]):
        hint = "values 0/255: is this 1-way?"
    elif max(strange) < 64 and len(strange) <= 24:
        hint = "looks like unmerged labels: write class ids after the merge (oshp-manifest show lists them)"
    else:
        hint = "looks like a colour or grey picture, not a label mask"
    return f"holds {_shown(strange)}, which are no class ids; {hint}"


def _shown(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:6])) + (", ..." if len(numbers) > 6 else "")


def _has_png(names: list[str]) -> bool:
    return any(name.endswith(".png") for name in names)


def _folder_names(root: Path) -> Iterator[str]:
    problems: list[str] = []
    real_root = root.resolve()
    folders = [""]
    for depth in range(4):
        below = []
        for folder in folders:
            try:
                entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
            except OSError as error:
                raise OshpError(f"{root / folder}: cannot be read ({error.strerror}); check its permissions") from error
            for entry in entries:
                name = f"{folder}{entry.name}"
                if entry.name.startswith("."):
                    continue
                if not entry.name.isprintable():
                    problems.append(f"{root / folder}: {entry.name!r}: a name that cannot be printed; rename it")
                elif entry.is_symlink() and not _leads_into(real_root, Path(entry.path)):
                    problems.append(f"{entry.path}: a link out of the folder or to nothing; put the file itself there")
                elif not entry.is_file() and not entry.is_dir():
                    problems.append(f"{entry.path}: neither a file nor a folder; remove it")
                elif entry.is_dir() and depth < 3:
                    below.append(f"{name}/")
                else:
                    yield name
        folders = below
    raise_problems(shortened(problems))


def _leads_into(root: Path, link: Path) -> bool:
    try:
        return link.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):  # to nothing, or in a circle
        return False


def _zip_names(path: Path) -> Iterator[str]:
    if _directory_bytes(path) > _MAX_DIRECTORY_BYTES:
        raise OshpError(f"{path}: lists far more members than a set of predictions has")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except BROKEN_ZIP as error:
        raise OshpError(f"{path}: not a readable zip ({error}); pack it again") from error
    problems = []
    times = Counter(member.filename.casefold() for member in members)
    for member in members:
        name = member.filename
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or ":" in name or not pure.parts:
            problems.append(f"{path}: {name[:80]!r}: a path out of the zip")
        elif not name.isprintable():
            problems.append(f"{path}: {name[:80]!r}: a name that cannot be printed; rename it")
        elif stat.S_ISLNK(member.external_attr >> 16):
            problems.append(f"{path}: {name[:80]}: a link; put the file itself there")
        elif member.flag_bits & 1:
            problems.append(f"{path}: {name[:80]}: encrypted; pack it without a password")
        elif member.compress_type not in BOUNDED_ZIP_METHODS:
            problems.append(f"{path}: {name[:80]}: compressed in an unusual way; pack it with deflate")
        elif times[name.casefold()] > 1:
            problems.append(f"{path}: {name[:80]}: a name that stands there twice (or differs in case alone)")
        elif not member.is_dir() and not pure.name.startswith(".") and pure.parts[0] != "__MACOSX":
            yield name
    raise_problems(shortened(problems))


def _directory_bytes(path: Path) -> int:
    """The size of a zip's list of members, the largest that anything at its end may be taken to say."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 17)))
        end = file.read()
    sizes = [end[found.start() + 12 : found.start() + 16] for found in re.finditer(rb"PK\x05\x06", end)]
    sizes += [end[found.start() + 40 : found.start() + 48] for found in re.finditer(rb"PK\x06\x06", end)]
    # All ones: the size stands in the 64-bit record.
    return max((int.from_bytes(size, "little") for size in sizes if size != b"\xff" * 4), default=0)


def _read_card(path: Path, name: str) -> Mapping[str, Any]:
    if path.is_dir():
        content = read_bounded(path / name, _MAX_CARD_BYTES)
    else:
        try:
            with zipfile.ZipFile(path) as archive, archive.open(name) as entry:
                content = entry.read(_MAX_CARD_BYTES)
        except BROKEN_ZIP as error:
            raise OshpError(f"{path}: {name}: cannot be read ({error})") from error
    card = parse_json(content, f"{path / name}")
    return card if isinstance(card, dict) else {}
