"""The table of all figures: names, labels, the classes that a figure is about, and how it is computed.

Scores, result tables, reports, boards and Codabench take names and labels from here, and a test compares the tables of
docs/metrics.md with it. A figure of a result has a full name: "kway/novel_miou", or "kway/iou/16" for one class.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from oshp_bench.episodes.episodes import WAYS, Way, way_key

ClassGroup = Literal["all", "foreground", "novel", "base", "base and background"]


def full_name(way: str, name: str, class_id: int | None = None) -> str:
    """A figure's name in a result, from way and name: "kway/novel_miou", or "kway/iou/16" for one class."""
    return "/".join([way_key(way), name, *([] if class_id is None else [str(class_id)])])


@dataclass(frozen=True)
class FigureKind:
    """What a figure is.

    Attributes:
        name: without way and class: "novel_miou".
        label: as tables print it.
        formula: how it is computed, as docs/metrics.md prints it.
        classes: which classes it is about.
        ways: the ways that have it.
        per_class: whether a result has one for every class; its full name ends with the class id.
        short: the label where space is scarce; "" if it never stands there.
        setting: what a result adds to the name after "@", a name of SETTINGS; "" if nothing.
    """

    name: str
    label: str
    formula: str
    classes: ClassGroup = "all"
    ways: tuple[Way, ...] = WAYS
    per_class: bool = False
    short: str = ""
    setting: str = ""

    def full_name(self, way: str, class_id: int | None = None) -> str:
        """Its name in a result: "kway/novel_miou", or "kway/iou/16"."""
        return full_name(way, self.name, class_id)

    def at(self, setting: str) -> FigureKind:
        """The figure with its setting: "novel_boundary_miou@0.005"."""
        return replace(self, name=f"{self.name}@{setting}", label=f"{self.label} @{setting}", setting="")


class FigureName(NamedTuple):
    """The parts of a figure's full name; class_id is None if it is not about one class."""

    way: Way
    kind: FigureKind
    class_id: int | None


def _per_episode(name: str, way: Way, label: str, of_pair: str, classes: ClassGroup = "all") -> FigureKind:
    formula = f"{of_pair} of each pair alone, averaged over the pairs that have one"
    return FigureKind(name, label, formula, classes, (way,))


_KINDS = (
    FigureKind("human_miou", "C_human mIoU", "mean IoU of all classes, background included", short="human"),
    FigureKind("novel_miou", "C_novel mIoU", "mean IoU of the novel classes", "novel", short="novel"),
    FigureKind("base_miou", "C_base mIoU", "mean IoU of the base classes", "base"),
    FigureKind(
        "base_miou_with_background",
        "C_base mIoU, background counted",
        "mean IoU of the base classes and background",
        "base and background",
    ),
    FigureKind(
        "human_miou_without_background",
        "C_human mIoU, background left out",
        "mean IoU of all classes but background",
        "foreground",
    ),
    FigureKind(
        "bi_miou", "Bi-mIoU", "mean of foreground and background IoU of all pairs' pixels", ways=("1",), short="Bi"
    ),
    FigureKind("overall_accuracy", "overall accuracy", "correct pixels / all pixels", short="accuracy"),
    FigureKind("mean_accuracy", "mean accuracy", "mean of H_cc / row_c over all classes", ways=("k",)),
    _per_episode("episode_human_miou", "k", "per-episode C_human mIoU", "C_human mIoU"),
    _per_episode(
        "episode_human_miou_without_background",
        "k",
        "per-episode, background left out",
        "C_human mIoU without background",
        "foreground",
    ),
    _per_episode("episode_novel_miou", "k", "per-episode C_novel mIoU", "C_novel mIoU", "novel"),
    _per_episode("episode_accuracy", "k", "per-episode accuracy", "overall accuracy"),
    _per_episode("episode_bi_miou", "1", "per-episode Bi-mIoU", "Bi-mIoU"),
    _per_episode("episode_iou", "1", "per-episode IoU", "foreground IoU"),
    FigureKind("iou", "IoU", "IoU of one class", per_class=True),
    FigureKind("accuracy", "accuracy", "H_cc / row_c of one class", ways=("k",), per_class=True),
)


def _boundary(name: str, label: str, formula: str, classes: ClassGroup, *, per_class: bool = False) -> FigureKind:
    return FigureKind(name, label, formula, classes, per_class=per_class, setting="RATIO")


def _parts(kind: str, of_truth: str) -> Iterator[FigureKind]:
    formula = f"{of_truth}, of all classes but background"
    yield FigureKind(f"{kind}_parts", f"{kind} parts", formula, "foreground", setting="N")
    yield FigureKind(
        f"novel_{kind}_parts", f"{kind} parts, novel", f"{of_truth}, of novel classes", "novel", setting="N"
    )
    for size in ("small", "medium", "large"):
        label = f"{kind} parts, {size}"
        yield FigureKind(f"{size}_{kind}_parts", label, f"the same for {size} parts", "foreground", setting="N")
    yield FigureKind(f"class_{kind}_parts", f"{kind} parts", f"{of_truth}, of one class", per_class=True, setting="N")


_SHAPE_KINDS = (
    _boundary("novel_boundary_miou", "C_novel boundary mIoU", "mean boundary IoU of the novel classes", "novel"),
    _boundary("base_boundary_miou", "C_base boundary mIoU", "mean boundary IoU of the base classes", "base"),
    _boundary(
        "human_boundary_miou_without_background",
        "C_human boundary mIoU, background left out",
        "mean boundary IoU of all classes but background",
        "foreground",
    ),
    _boundary("boundary_iou", "boundary IoU", "IoU of the inner bands of one class", "all", per_class=True),
    _boundary("band_share", "covered by the band", "pixels of the truth in its band / row_c", "all", per_class=True),
    *_parts("found", "found parts / parts of the truth"),
    *_parts("spurious", "predicted parts without a match / predicted parts"),
)
# In the order of tables and result files.
FIGURES: Mapping[str, FigureKind] = {kind.name: kind for kind in _KINDS}
# Those of a result in which they were asked for. Classes but background have those of one class.
SHAPE_FIGURES: Mapping[str, FigureKind] = {kind.name: kind for kind in _SHAPE_KINDS}
# The width of bands as a share of the diagonal, and the pixels that a part needs to be counted.
SETTINGS: Mapping[str, re.Pattern[str]] = {
    "RATIO": re.compile(r"0\.[0-9]{0,5}[1-9]"),
    "N": re.compile(r"[1-9][0-9]{0,8}"),
}
IOU, CLASS_ACCURACY = FIGURES["iou"], FIGURES["accuracy"]
# The columns of the paper's Tables 2 to 4 in their order; the first one ranks.
HEADLINE: Mapping[Way, tuple[str, ...]] = {
    "k": ("kway/novel_miou", "kway/human_miou", "kway/overall_accuracy"),
    "1": ("1way/novel_miou", "1way/human_miou", "1way/bi_miou"),
}
# What single episodes are ranked by.
EPISODE_RANKING: Mapping[str, FigureKind] = {"k": FIGURES["episode_human_miou"], "1": FIGURES["episode_iou"]}
_WAY_OF = {way_key(way): way for way in WAYS}


def parse_figure(name: str) -> FigureName:
    """Splits a figure's full name.

    Raises:
        ValueError: no figure has this name.
    """
    way, _, rest = name.partition("/")
    kind_name, _, class_id = rest.partition("/")
    kind = _find(kind_name)
    known = kind and way in _WAY_OF and _WAY_OF[way] in kind.ways and kind.per_class == bool(class_id)
    if not kind or not known or (class_id and not (class_id.isascii() and class_id.isdecimal())):
        raise ValueError(f"no figure is called {name!r}")
    return FigureName(_WAY_OF[way], kind, int(class_id) if class_id else None)


def _find(name: str) -> FigureKind | None:
    base, at, setting = name.partition("@")
    if not at:
        return FIGURES.get(name)
    kind = SHAPE_FIGURES.get(base)
    return kind.at(setting) if kind and SETTINGS[kind.setting].fullmatch(setting) else None
