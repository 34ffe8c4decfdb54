"""Datasets as data: label tables, merges, folds, pools and layouts, from `specs/*.toml` or a user's TOML file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oshp_bench.datasets.images import IGNORE
from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.files import read_toml
from oshp_bench.untrusted import Reader

# Bounds on numbers in a spec: of test pairs, queries and supports, of pixels in a photo, of images in a list.
MOST_PAIRS, _MOST_EACH, _MOST_PIXELS, _MOST_IMAGES = 100_000, 10_000, 64_000_000, 10_000_000
_MOST_LABELS, _MOST_CORRECTED = 254, 100_000
_FORMAT = "oshp-dataset/1"
_SPECS = Path(__file__).with_name("specs")
POOLS = ("query_train", "support_train", "query_test", "support_test")
BACKGROUND = "background"
ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
VERSION_PATTERN = re.compile(r"[0-9]{1,6}\.[0-9]{1,6}\.[0-9]{1,6}")
# In a lookup table of labels: this number is no label of the dataset.
UNKNOWN = 254


@dataclass(frozen=True)
class ClassSpec:
    """A class after the merge: its id and the source labels merged into it."""

    id: int
    name: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """The paths of the images of one id list under a layout's root; `{id}` stands for the image id.

    Attributes:
        ids: a text file of ids; None if every mask in the folder counts.
        variable: the MATLAB variable, for `.mat` masks.
        presence: a table of the labels present in every image, used where there are no masks.
        drawn: the number of images in the embedded dataset, which is drawn and has no files.
    """

    list: str
    photo: str | None = None
    mask: str | None = None
    ids: str | None = None
    variable: str | None = None
    presence: str | None = None
    drawn: int | None = None


@dataclass(frozen=True)
class Layout:
    """One arrangement of a dataset's files."""

    name: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Correction:
    """Replaces one source label by another in all pixels of some images, before the merge."""

    source: str
    target: str
    ids: frozenset[str]


@dataclass(frozen=True)
class Dataset:
    """What the numbers in a dataset's masks mean and where its files lie.

    Attributes:
        labels: the source labels; a label's index is its number in the masks.
        classes: the classes after the merge, background first, then by id.
        exclude: images to leave out -> the reason.
        source_separator: an image id up to this names its source (ATR `2500_12` -> `2500`); "" = one source.
        get: where people get the dataset.
        tree: its folders, for people.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    classes: tuple[ClassSpec, ...]
    exclude: Mapping[str, str] = field(default_factory=dict)
    corrections: tuple[Correction, ...] = ()
    source_separator: str = ""
    get: str = ""
    tree: str = ""
    layouts: tuple[Layout, ...] = ()

    @property
    def names(self) -> dict[int, str]:
        """Class id -> name, background first, ascending."""
        return {spec.id: spec.name for spec in self.classes}

    @cached_property
    def merge(self) -> NDArray[np.uint8]:
        """The class id of every number in a mask: uint8 [256]; 255 = ignore, 254 = no label."""
        table = np.full(256, UNKNOWN, np.uint8)
        table[IGNORE] = IGNORE
        number = {name: index for index, name in enumerate(self.labels)}
        for spec in self.classes:
            table[[number[label] for label in spec.labels]] = spec.id
        return table

    @cached_property
    def removed_labels(self) -> frozenset[int]:
        """The source labels whose numbers are no class ids after the merge."""
        return frozenset(range(len(self.labels))) - {spec.id for spec in self.classes}

    def source_of(self, image_id: str) -> str:
        """The source of an image: its id up to the separator."""
        return image_id.split(self.source_separator, 1)[0] if self.source_separator else ""

    def corrections_of(self, image_id: str) -> NDArray[np.uint8] | None:
        """The corrected label of every source label in an image: uint8 [256], or None without corrections."""
        corrections = [correction for correction in self.corrections if image_id in correction.ids]
        if not corrections:
            return None
        table = np.arange(256, dtype=np.uint8)
        for correction in corrections:
            table[self.labels.index(correction.source)] = self.labels.index(correction.target)
        return table


@dataclass(frozen=True)
class OfficialRule:
    """The parameters of the official rule that draws test pairs.

    Attributes:
        order: class ids in sampling order, rarest first.
        supports: "unused" (an image is a support once) or "cyclic" (supports are used again).
        min_pixels: an image holds a class if it has at least this many pixels.
    """

    order: tuple[int, ...]
    queries_per_class: int
    supports_per_query: int
    supports: str
    min_pixels: int


@dataclass(frozen=True)
class Spec:
    """A dataset and how it is tailored to OSHP.

    Attributes:
        version: the semantic version of the manifests made from this spec.
        balanced_version: that of its manifests of the protocol "balanced".
        folds: fold -> novel class ids.
        lists: id list -> the list that it is cut out of, and ranges of that list's sorted ids.
        counts: id list -> the number of ids that it must have.
        pools: pool -> (list, start, stop) in the list's sorted ids; stop None = to the end.
    """

    dataset: Dataset
    version: str
    balanced_version: str
    folds: Mapping[int, tuple[int, ...]]
    lists: Mapping[str, tuple[str, tuple[tuple[int, int], ...]]]
    counts: Mapping[str, int]
    pools: Mapping[str, tuple[str, int, int | None]]
    official: OfficialRule


def builtin_specs() -> dict[str, Path]:
    """The TOML files of the datasets that come with the package, by name."""
    return {path.stem: path for path in sorted(_SPECS.glob("*.toml"))}


def load_spec(name_or_path: str) -> Spec:
    """Loads a dataset spec by name, or a user's own by path.

    Raises:
        OshpError: no such spec, or all mistakes in it.
    """
    known = builtin_specs()
    path = known.get(name_or_path, Path(name_or_path))
    if path.suffix != ".toml":
        raise OshpError(f"{name_or_path}: no dataset of that name; give {', '.join(known)}, or a .toml file")
    return parse_spec(read_toml(path), str(path))


def parse_spec(content: Mapping[str, Any], origin: str) -> Spec:
    """Builds a spec from the members of its TOML file (docs/own_dataset.md lists them).

    Raises:
        OshpError: all mistakes in it.
    """
    reader = Reader(content, origin)
    reader.wrong_if(reader.text("format") != _FORMAT, f'format is not "{_FORMAT}"')
    dataset = parse_dataset(reader)
    ids = {spec.name: spec.id for spec in dataset.classes}

    def class_ids(names: tuple[str, ...], where: str) -> tuple[int, ...]:
        for name, times in Counter(names).items():
            if name not in ids or name == BACKGROUND:
                reader.wrong(f"{where} names {name!r}, which is not a class")
            elif times > 1:
                reader.wrong(f"{where} names {name!r} twice")
        return tuple(ids[name] for name in names if name in ids and name != BACKGROUND)

    folds: dict[int, tuple[int, ...]] = {}
    for fold, names in reader.table("folds").lists_of_text():
        if not re.fullmatch(r"[1-9][0-9]?", fold):
            reader.wrong(f"fold {fold!r} is not a number from 1 to 99")
            continue
        folds[int(fold)] = class_ids(names, f"fold {fold}")
        if not names or len(set(names)) >= len(dataset.classes) - 1:
            reader.wrong(f"fold {fold} needs at least one novel class and one base class")
    reader.wrong_if(not folds, "folds is empty")
    official = _official(reader.table("official"), class_ids)
    absent = {spec.id for spec in dataset.classes} - set(official.order) - {0}
    reader.wrong_if(absent, f"official.order lacks {', '.join(s.name for s in dataset.classes if s.id in absent)}")
    given = {part.list for layout in dataset.layouts for part in layout.parts}
    lists = dict(_lists(reader.table("lists", optional=True), given))
    pools = dict(_pools(reader.table("pools"), given | set(lists)))
    counted = reader.table("counts", optional=True)
    counts = {name: counted.integer(name, least=1, most=_MOST_IMAGES) for name in counted}
    for name in counts.keys() - given - lists.keys():
        reader.wrong(f"counts names the list {name!r}, which neither layouts nor lists define")
    version = reader.text("version")
    balanced_version = reader.text("balanced_version", optional=True) or version
    for key, said in (("version", version), ("balanced_version", balanced_version)):
        reader.wrong_if(not VERSION_PATTERN.fullmatch(said), f"{key} {said!r} is not like 1.0.0")
    reader.unknown_members()
    raise_problems(reader.problems)
    return Spec(dataset, version, balanced_version, folds, lists, counts, pools, official)


def parse_dataset(reader: Reader) -> Dataset:
    """Reads the members of a dataset; mistakes are noted in the reader."""
    name = reader.text("name")
    reader.wrong_if(not NAME_PATTERN.fullmatch(name), f"name {name!r} is not lower-case letters, digits, - and _")
    labels = reader.texts("labels")
    reader.wrong_if(not 2 <= len(labels) <= _MOST_LABELS, f"labels must be 2 to {_MOST_LABELS} names")
    labels = labels[:_MOST_LABELS]
    for label, times in Counter(labels).items():
        reader.wrong_if(times > 1, f"label {label!r} is in labels twice")
        reader.wrong_if(not _is_name(label), f"label {label!r} is not 1 to 64 printable characters")
    classes = sorted(_classes(reader, labels), key=lambda spec: spec.id)
    corrections = tuple(
        Correction(entry.text("from"), entry.text("to"), frozenset(entry.texts("ids")))
        for entry in reader.tables("corrections", optional=True)
    )
    if sum(len(correction.ids) for correction in corrections) > _MOST_CORRECTED:
        reader.wrong(f"corrections change more than {_MOST_CORRECTED:,} images")
        corrections = ()
    for correction in corrections:
        for label in (correction.source, correction.target):
            reader.wrong_if(label not in labels, f"corrections name {label!r}, which is not a label")
    changed = Counter((correction.source, image) for correction in corrections for image in correction.ids)
    for (label, image), times in changed.items():
        reader.wrong_if(times > 1, f"corrections change {label!r} of image {image!r} twice")
    exclude = reader.table("exclude", optional=True)
    return Dataset(
        name=name,
        title=reader.text("title", optional=True) or name,
        labels=labels,
        classes=tuple(classes),
        exclude={image: exclude.text(image) for image in exclude},
        corrections=corrections,
        source_separator=reader.text("source_separator", optional=True),
        get=reader.text("get", optional=True),
        tree=reader.text("tree", optional=True),
        layouts=tuple(_layout(entry) for entry in reader.tables("layouts", optional=True)),
    )


def _classes(reader: Reader, labels: tuple[str, ...]) -> Iterator[ClassSpec]:
    removed, known = reader.texts("removed", optional=True), frozenset(labels[1:])
    owner = {label: f"removed ({label})" for label in removed}
    seen_ids: dict[int, str] = {0: BACKGROUND}
    yield ClassSpec(0, BACKGROUND, (*labels[:1], *(label for label in labels if label in owner)))
    for label in removed:
        reader.wrong_if(label not in known, f"removed names {label!r}, which is not a label (or is background)")
    table = reader.table("classes")
    for name in table:
        entry = table.table(name)
        class_id = entry.integer("id", least=1, most=253)
        mine = entry.texts("labels")
        reader.wrong_if(name == BACKGROUND, "classes must not list background, which is label 0 and the removed labels")
        reader.wrong_if(not _is_name(name), f"class {name!r} is not 1 to 64 printable characters")
        reader.wrong_if(not mine, f"class {name!r} has no labels")
        if class_id in seen_ids:
            reader.wrong(f"class {name!r} has the id {class_id} of {seen_ids[class_id]!r}")
        seen_ids[class_id] = name
        for label in mine:
            if label not in known:
                reader.wrong(f"class {name!r} merges {label!r}, which is not a label (or is background)")
            elif label in owner:
                reader.wrong(f"label {label!r} is merged twice: into {owner[label]!r} and {name!r}")
            owner[label] = name
        if name != BACKGROUND:
            yield ClassSpec(class_id, name, tuple(label for label in mine if label in known))
    left = [label for label in labels[1:] if label not in owner]
    reader.wrong_if(left, f"labels in no class and not removed: {', '.join(left)}")


def _is_name(text: str) -> bool:
    return 0 < len(text) <= 64 and text.isprintable()


def _official(table: Reader, class_ids: Any) -> OfficialRule:
    supports = table.text("supports")
    table.wrong_if(supports not in ("unused", "cyclic"), 'supports must be "unused" or "cyclic"')
    rule = OfficialRule(
        order=class_ids(table.texts("order"), "official.order"),
        queries_per_class=table.integer("queries_per_class", least=1, most=_MOST_EACH),
        supports_per_query=table.integer("supports_per_query", least=1, most=_MOST_EACH),
        supports=supports,
        min_pixels=table.integer("min_pixels", least=1, most=_MOST_PIXELS),
    )
    pairs = len(rule.order) * rule.queries_per_class * rule.supports_per_query
    table.wrong_if(pairs > MOST_PAIRS, f"queries_per_class and supports_per_query give {pairs} pairs, not {MOST_PAIRS}")
    return rule


def _lists(table: Reader, given: set[str]) -> Iterator[tuple[str, tuple[str, tuple[tuple[int, int], ...]]]]:
    for name in table:
        entry = table.table(name)
        source = entry.text("of")
        entry.wrong_if(source not in given, f"cut out of the list {source!r}, which no layout defines")
        ranges = entry.ranges("ranges")
        yield name, (source, ranges)


def _pools(table: Reader, lists: set[str]) -> Iterator[tuple[str, tuple[str, int, int | None]]]:
    for pool in POOLS:
        entry = table.table(pool)
        source = entry.text("list")
        entry.wrong_if(source not in lists, f"taken from the list {source!r}, which neither layouts nor lists define")
        start = entry.integer("start", least=0, most=_MOST_IMAGES, default=0)
        stop = entry.integer("stop", least=start + 1, most=_MOST_IMAGES + 1) if "stop" in entry else None
        yield pool, (source, start, stop)


def _layout(table: Reader) -> Layout:
    parts = []
    for entry in table.tables("parts"):
        part = Part(
            list=entry.text("list"),
            photo=entry.pattern("photo"),
            mask=entry.pattern("mask"),
            ids=entry.relative_path("ids"),
            variable=entry.text("variable", optional=True) or None,
            presence=entry.relative_path("presence"),
            drawn=entry.integer("drawn", least=1, most=100_000) if "drawn" in entry else None,
        )
        entry.wrong_if(not (part.ids or part.drawn or (part.photo and part.mask)), "needs ids, or photo and mask")
        parts.append(part)
    table.wrong_if(not parts, "has no parts")
    return Layout(table.text("name"), tuple(parts))
