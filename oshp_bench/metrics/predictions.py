"""Finds predictions in a folder or a zip of unknown origin and reads them strictly."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from oshp_bench.datasets.images import ImageProblem, Mask, decode, open_image
from oshp_bench.episodes.episodes import WAYS, way_key, way_name
from oshp_bench.episodes.writer import CARD
from oshp_bench.errors import OshpError
from oshp_bench.files import BROKEN_ZIP, MAX_JSON_BYTES, open_zip, parse_json, read_at_most
from oshp_bench.manifest import Manifest
from oshp_bench.metrics.listing import file_names, read_document
from oshp_bench.metrics.method_card import MethodCard
from oshp_bench.metrics.submission import SUBMISSION_FILE, read_index


@dataclass(frozen=True)
class PredictionSet:
    """Predictions of one or both ways in a folder or a zip.

    Attributes:
        path: the folder or the zip.
        files: "k" or "1" -> file name without ".png" -> path within the folder or the zip.
        extra: other files, as paths within, that are neither a prediction nor predictions.json.
        card: the content of predictions.json; empty if there is none.
        card_place: the path of predictions.json in messages.
        method: the submission's method card, None if these predictions are not part of a submission.
    """

    path: Path
    files: Mapping[str, Mapping[str, str]]
    extra: tuple[str, ...] = ()
    card: Mapping[str, Any] = field(default_factory=dict)
    card_place: str = CARD
    method: MethodCard | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Folders of a way without any prediction, which are not scored."""
        tops = [self.folder(way).parent for way in self.files if self.folder(way).name == way_key(way)]
        empty = (top / way_key(way) for top in tops[:1] for way in WAYS if way not in self.files)
        return tuple(f"{folder.name}/ is empty, so it is not scored" for folder in empty if self._is_empty(folder))

    def _is_empty(self, folder: Path) -> bool:
        """Whether a folder is there and holds nothing that can be seen."""
        if self._archive is None:
            return folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir())
        within = f"{folder.relative_to(self.path).as_posix()}/"
        members = [name for name in self._archive.namelist() if name.startswith(within)]
        return bool(members) and all(name.endswith("/") or "/." in name for name in members)

    @cached_property
    def _archive(self) -> zipfile.ZipFile | None:
        return None if self.path.is_dir() else open_zip(self.path)

    def folder(self, way: str) -> Path:
        """The folder of a way's predictions."""
        return self.path / PurePosixPath(next(iter(self.files[way].values()))).parent

    def place(self, way: str, name: str) -> str:
        """The path of a prediction in messages."""
        return str(self.path / self.files[way][name])

    def read(self, way: str, name: str, shape: tuple[int, int]) -> bytes:
        """Reads a prediction's file.

        Args:
            shape: height and width that it should have.

        Raises:
            ImageProblem: cannot be read, or much larger than a mask of this shape can be.
        """
        most = 4 * shape[0] * shape[1] + (1 << 20)
        member = self.files[way][name]
        try:
            if self._archive is None:
                data = read_at_most(f"{self.path}/{member}", most)
            else:
                with self._archive.open(member) as entry:
                    data = entry.read(most + 1)
                if len(data) != min(self._archive.getinfo(member).file_size, most + 1):
                    raise ImageProblem("the zip gives another size than it holds; pack it again")
        except BROKEN_ZIP as error:
            raise ImageProblem(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
        if len(data) > most:
            raise ImageProblem(
                f"the file is larger than {most >> 10} KiB, more than a {shape[1]}x{shape[0]} mask needs"
            )
        return data


def open_predictions(path: Path, way: str | None, manifest: Manifest) -> PredictionSet:
    """Finds the predictions for a manifest under a path.

    `kway/` and `1way/` may be in the folder or zip itself, or in its only sub-folder. With `way`, the PNGs may also be
    there directly. In a submission they are in the manifest's folder.

    Args:
        way: "k" or "1" to take only that way; None for every way that is there.

    Raises:
        OshpError: not a folder or zip, hostile names, no predictions, or a submission that contradicts its index.
    """
    names = file_names(path)
    if SUBMISSION_FILE in names:
        return _submitted(path, names, way, manifest)
    parts = [_parts(name) for name in names]
    tops = {split[0] for split in parts}
    within = len(tops) == 1 and not tops & {*map(way_key, WAYS), CARD} and all(len(split) > 1 for split in parts)
    found = _predictions_in(path, names, 1 if within else 0, way)
    if not found.files:
        wanted = [way] if way else WAYS
        undecided = not way and any(name.endswith(".png") for name in names)
        hint = "; its PNGs may be k-way or 1-way: give --way k or --way 1" if undecided else ""
        raise OshpError(f"{path}: holds no {' and no '.join(f'{way_key(missing)}/*.png' for missing in wanted)}{hint}")
    return found


def _submitted(path: Path, names: Sequence[str], way: str | None, manifest: Manifest) -> PredictionSet:
    submission = read_index(path)
    said = submission.set_of(manifest, path)
    mine = [name for name in names if name.startswith(f"{said.manifest}/")]
    found = _predictions_in(path, mine, 1, None)
    if found.files.keys() != set(said.ways):
        raise OshpError(
            f"{path}: {said.manifest}/ holds predictions of {_named(found.files)}, {SUBMISSION_FILE} says of"
            f" {_named(said.ways)}; pack it again"
        )
    if way and way not in found.files:
        raise OshpError(f"{path}: holds no {said.manifest}/{way_key(way)}/*.png")
    folders = {submitted.manifest for submitted in submission.sets}
    strange = (
        name for name in names if name != SUBMISSION_FILE and not (name.partition("/")[0] in folders and "/" in name)
    )
    files = {way: found.files[way]} if way else found.files
    return replace(found, files=files, extra=tuple(sorted((*found.extra, *strange))), method=submission.method)


def _parts(name: str) -> tuple[str, ...]:
    """The parts of a path within. Thousands of PurePosixPaths would take longer than listing the files."""
    return tuple(part for part in name.split("/") if part not in ("", "."))


def _named(ways: Collection[str]) -> str:
    return " and ".join(way_name(way) for way in WAYS if way in ways) or "no way"


def _predictions_in(path: Path, names: Sequence[str], depth: int, way: str | None) -> PredictionSet:
    """Sorts the files of one set.

    Args:
        names: paths within.
        depth: number of folders above kway/ and 1way/.
    """
    wanted = [way] if way else list(WAYS)
    parts = {name: _parts(name) for name in names}
    files: dict[str, dict[str, str]] = {}
    for wanted_way in wanted:
        found = {
            split[depth + 1].removesuffix(".png"): name
            for name, split in parts.items()
            if len(split) == depth + 2 and split[depth] == way_key(wanted_way) and name.endswith(".png")
        }
        if not found and way:
            found = {
                split[depth].removesuffix(".png"): name
                for name, split in parts.items()
                if len(split) == depth + 1 and name.endswith(".png")
            }
        if found:
            files[wanted_way] = found
    used = {name for found in files.values() for name in found.values()}
    others = {way_key(other) for other in WAYS if other not in wanted}
    extra = [
        name
        for name, split in parts.items()
        if name not in used and split[depth:] != (CARD,) and not (len(split) > depth + 1 and split[depth] in others)
    ]
    card = next((name for name, split in parts.items() if split[depth:] == (CARD,)), None)
    if card is None:
        return PredictionSet(path, files, tuple(sorted(extra)))
    said = parse_json(read_document(path, card, MAX_JSON_BYTES), str(path / card))
    return PredictionSet(path, files, tuple(sorted(extra)), said if isinstance(said, dict) else {}, str(path / card))


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
        raise ImageProblem(f"{hint}; save class ids as an 8-bit PNG, grey or palette")
    if (image.height, image.width) != shape:
        raise ImageProblem(
            f"{image.width}x{image.height}, but the query is {shape[1]}x{shape[0]}; predict at the query's native size"
        )
    return decode(image)


def illegal_labels(used: np.ndarray[Any, Any], legal: np.ndarray[Any, Any], way: str) -> str | None:
    """What is wrong with the labels of a prediction, with a hint; None if nothing is.

    Args:
        used: bool [256], the labels that occur.
        legal: bool [256], the labels that a k-way prediction may hold.
    """
    numbers = used.nonzero()[0].tolist()
    if way == "1":
        foreground = [number for number in numbers if number]
        if len(foreground) <= 1:
            return None
        return f"holds {_shown(foreground)} besides 0, but 1-way has one foreground value; is this a k-way prediction?"
    strange = [number for number in numbers if not legal[number]]
    if not strange:
        return None
    if numbers in ([0, 255], [255]):
        hint = "with 0 and 255 only, is this 1-way?"
    elif max(strange) < 64 and len(strange) <= 24:
        hint = "looks like unmerged labels: write class ids after the merge (oshp-manifest show lists them)"
    else:
        hint = "looks like a colour or grey picture, not a label mask"
    return f"holds {_shown(strange)}, which are not class ids; {hint}"


def _shown(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:6])) + (", ..." if len(numbers) > 6 else "")
