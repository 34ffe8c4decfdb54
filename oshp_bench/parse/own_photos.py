"""Parses a person's own photos by one annotated example, whatever its classes are called and numbered."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from oshp_bench.baselines.checkpoints import Checkpoint
from oshp_bench.baselines.inference import NetworkMethod
from oshp_bench.datasets.images import IGNORE, ImageProblem, Mask, Photo, at_path, read_mask, read_photo, resize_nearest
from oshp_bench.datasets.runs import label_counts
from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.files import read_json, read_toml
from oshp_bench.untrusted import shown

_LONGEST_NAME = 40
_MOST_PIXELS = 4_000_000


@dataclass(frozen=True)
class Example:
    """A support of a person's own.

    Attributes:
        photo: uint8 [H, W, 3] RGB, upright.
        mask: uint8 [H, W] of any numbers; 0 background, 255 not annotated.
    """

    photo: Photo
    mask: Mask

    @property
    def numbers(self) -> tuple[int, ...]:
        """The classes in the mask, ascending."""
        return tuple(number for number in np.flatnonzero(label_counts(self.mask)).tolist() if number not in (0, IGNORE))


@dataclass(frozen=True)
class OwnClass:
    """A class of an example's mask.

    Attributes:
        number: stands for it in the example's mask and in those that are written.
        row: the class id that the network is asked for.
        learned: whether the network met the class in training.
    """

    number: int
    name: str
    row: int
    learned: bool


def read_upright(path: Path) -> Photo:
    """A photo, turned as its EXIF orientation says: uint8 [H, W, 3].

    Raises:
        OshpError: what is wrong with it.
    """
    try:
        return read_photo(path, upright=True)
    except ImageProblem as problem:
        raise at_path(path, problem) from problem


def read_example(photo_path: Path, mask_path: Path) -> Example:
    """Reads a support's photo and its mask.

    Raises:
        OshpError: what is wrong with either, different sizes, or a mask without a class.
    """
    photo = read_upright(photo_path)
    try:
        mask = read_mask(mask_path)
    except ImageProblem as problem:
        raise at_path(mask_path, problem) from problem
    if mask.shape != photo.shape[:2]:
        raise OshpError(
            f"{mask_path}: {mask.shape[1]}x{mask.shape[0]} pixels, but {photo_path} has"
            f" {photo.shape[1]}x{photo.shape[0]} when it is upright; annotate the upright photo at its own size"
        )
    return example_of(photo, mask, mask_path)


def example_of(photo: Photo, mask: Mask, origin: Path) -> Example:
    """An example; both pictures are shrunk where they have more pixels than anything is computed for.

    Args:
        origin: the mask's file, for the error.

    Raises:
        OshpError: a mask without a class.
    """
    height, width = computed_size(mask.shape[0], mask.shape[1])
    if (height, width) != mask.shape:
        photo = np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR))
        mask = resize_nearest(mask, height, width)
    example = Example(photo, mask)
    if not example.numbers:
        raise OshpError(f"{origin}: holds no class (numbers from 1 to 254)")
    return example


def computed_size(height: int, width: int) -> tuple[int, int]:
    """The size that a photo of this size is parsed at; a larger one only gets larger pixels.

    Scores of 20 classes take 80 bytes a pixel.
    """
    factor = min(1.0, math.sqrt(_MOST_PIXELS / (height * width)))
    return max(1, round(height * factor)), max(1, round(width * factor))


def read_names(text: str) -> dict[int, str]:
    """Names by number, from a text such as "5=cape,7=boots" or from a TOML or JSON file of such members.

    Raises:
        OshpError: everything that is wrong with them.
    """
    path = Path(text)
    if path.suffix in (".toml", ".json"):
        table: Any = read_toml(path) if path.suffix == ".toml" else read_json(path)
        if not isinstance(table, dict):
            raise OshpError(f'{path}: no table of names; write members such as "5" = "cape"')
        members, origin = list(table.items()), str(path)
    else:
        parts = (member.partition("=") for member in text.split(","))
        members, origin = [(number.strip(), name.strip()) for number, _, name in parts], "--names"
    problems = [f"{origin}: {problem}" for member in members for problem in _name_problems(*member)]
    raise_problems(problems)
    names = {int(number): name for number, name in members}
    for what, values in (("number", [int(number) for number, _ in members]), ("name", list(names.values()))):
        twice = sorted({str(value) for value in values if values.count(value) > 1})
        raise_problems(f"{origin}: the {what} {value} stands there twice" for value in twice)
    return names


def _name_problems(number: str, name: object) -> Iterable[str]:
    # isdecimal alone takes digits of other scripts, too.
    if not (number.isascii() and number.isdecimal() and 0 < int(number[:4]) < IGNORE):
        yield f"{shown(number)} is no class number; write 1 to 254, such as 5=cape"
    if problem := class_name_problem(name):
        yield f"{problem}, such as 5=cape"


def class_name_problem(name: object) -> str | None:
    """Why something is no name of a class; None if it is one."""
    if isinstance(name, str) and name and name.isprintable() and len(name) <= _LONGEST_NAME:
        return None
    return f"{shown(name)} is no name of 1 to {_LONGEST_NAME} printable characters"


def own_classes(numbers: Sequence[int], names: Mapping[int, str], checkpoint: Checkpoint) -> tuple[OwnClass, ...]:
    """Tells which classes of an example the network met in training, and finds a row of the network for the others.

    A class is one that the network learned if its name is; a number without a name has that of the checkpoint's
    class id. The authors' checkpoints know no names: there a class id below their count means itself.

    Args:
        numbers: of the mask.
        names: by number, those that the user gave.

    Raises:
        OshpError: two numbers mean one learned class, or more classes are new than the network has rows for.
    """
    trained_on, learned, count = checkpoint.card.manifest, checkpoint.learned, checkpoint.card.count
    known = {trained.id: trained.name for trained in trained_on.classes} if trained_on else {}
    row_of = {known[row]: row for row in learned if row in known}
    called = {number: names.get(number) or known.get(number) or f"class {number}" for number in numbers}
    rows = {
        number: row_of.get(name, number)
        for number, name in called.items()
        if name in row_of or (not known and number in learned)
    }
    twice = sorted({called[number] for number, row in rows.items() if list(rows.values()).count(row) > 1})
    raise_problems(f"two numbers of the mask mean {name}; give one of them another name with --names" for name in twice)
    free = [row for row in range(1, count) if row not in learned]
    new = [number for number in numbers if number not in rows]
    if len(new) > len(free):
        raise OshpError(
            f"{len(new)} classes of the mask are new to the network, which has room for {len(free)}; choose some of"
            " them with --class"
        )
    kept = {number for number in new if number in free}
    rest = iter(row for row in free if row not in kept)
    placed = rows | {number: number if number in kept else next(rest) for number in new}
    return tuple(OwnClass(number, called[number], placed[number], number in rows) for number in numbers)


class ExampleParser:
    """Parses photos by examples: uint8 [H, W] of the classes' own numbers, 0 for background.

    A k-way network parses all classes of an example at once, a 1-way network one after the other. A pixel that several
    answers claim goes to one class, see `claimed`.

    Args:
        examples: each of them shows one of the classes or more.
        side: the longer side that photos are resized to, in pixels; None for native size.
    """

    def __init__(
        self, checkpoint: Checkpoint, examples: Sequence[Example], classes: Sequence[OwnClass], side: int | None
    ) -> None:
        self._method = NetworkMethod(checkpoint.network, side)
        self._together = "k" in checkpoint.network.ways
        self._examples = examples
        self._classes = sorted(classes, key=lambda own: own.row)
        self._rows = np.zeros(256, np.uint8)
        self._rows[[own.number for own in classes]] = [own.row for own in classes]
        self._rows[IGNORE] = IGNORE

    def __call__(self, name: str, photo: Photo) -> Mask:
        """Parses a photo, uint8 [H, W, 3]; its name tells it from others.

        Raises:
            OshpError: memory is too small.
        """
        asked = [episode for example in range(len(self._examples)) for episode in self._episodes(name, photo, example)]
        if len(asked) == 1 and len(asked[0].classes) == len(self._classes):
            best = self._method.scores(asked[0]).max(0).indices
        else:
            places = [own.row for own in self._classes]
            best = claimed(
                (([places.index(row) for row in episode.classes], self._method.scores(episode)) for episode in asked),
                len(places),
            )
        numbers = np.array([0, *(own.number for own in self._classes)], np.uint8)
        return resize_nearest(numbers.take(best.cpu().numpy()), photo.shape[0], photo.shape[1])

    def _episodes(self, name: str, photo: Photo, number: int) -> list[_Shown]:
        """What a network is asked about a photo, by one example."""
        example = self._examples[number]
        mask = self._rows.take(example.mask)
        human = np.where(example.mask == IGNORE, IGNORE, example.mask > 0).astype(np.uint8)
        shown = tuple(own.row for own in self._classes if own.number in example.numbers)
        episodes = []
        for rows in [shown] if self._together else [(row,) for row in shown]:
            wanted = np.where(np.isin(mask, (*rows, IGNORE)), mask, 0).astype(np.uint8)
            pictures = (photo, example.photo, wanted, mask, human)
            episodes.append(_Shown(f"query {name}", f"support {number}", rows, *pictures))
        return [episode for episode in episodes if episode.classes]


def claimed(answers: Iterable[tuple[Sequence[int], Tensor]], count: int) -> Tensor:
    """Which class wins each pixel: int64 [H, W], 0 for background, i for the class at place i - 1.

    The winner is the furthest above the background of its answer; where background is impossible for all, the highest.

    Args:
        answers: the places of some classes, and scores [1 + their number, H, W], background first.
        count: the number of places.
    """
    claims: dict[int, Tensor] = {}
    for places, scores in answers:
        # In double precision, as a method may put what is out of the question very far away.
        background, classes = scores[:1].double(), scores[1:].double()
        for place, claim in zip(places, torch.where(background.isneginf(), classes, classes - background), strict=True):
            claims[place] = torch.maximum(claims[place], claim) if place in claims else claim
    nothing = torch.zeros_like(next(iter(claims.values())))
    return torch.stack([nothing, *(claims[place] for place in range(count))]).max(0).indices


@dataclass(frozen=True)
class _Shown:
    """See inference.Pictures."""

    query_id: str
    support_id: str
    classes: tuple[int, ...]
    query_photo: Photo
    support_photo: Photo
    support_mask: Mask
    support_whole: Mask
    support_human: Mask

    @property
    def query_size(self) -> tuple[int, int]:
        return computed_size(self.query_photo.shape[0], self.query_photo.shape[1])
