"""The table of all figures: names, labels, the classes that a figure is about, and how it is computed.

Scores, result tables, reports, boards and Codabench take names and labels from here, and a test compares the tables of
docs/metrics.md with it. A figure of a result has a full name: "kway/novel_miou", or "kway/iou/16" for one class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from oshp_bench.episodes.episodes import WAYS, Way, way_key

ClassGroup = Literal["all", "foreground", "novel", "base", "base and background"]


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
    """

    name: str
    label: str
    formula: str
    classes: ClassGroup = "all"
    ways: tuple[Way, ...] = WAYS
    per_class: bool = False
    short: str = ""

    def full_name(self, way: str, class_id: int | None = None) -> str:
        """Its name in a result: "kway/novel_miou", or "kway/iou/16"."""
        return "/".join([way_key(way), self.name, *([] if class_id is None else [str(class_id)])])


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
# In the order of tables and result files.
FIGURES: Mapping[str, FigureKind] = {kind.name: kind for kind in _KINDS}
IOU, CLASS_ACCURACY = FIGURES["iou"], FIGURES["accuracy"]
# The columns of the paper's Tables 2 to 4 in their order; the first one ranks.
HEADLINE: Mapping[Way, tuple[str, ...]] = {
    "k": ("kway/novel_miou", "kway/human_miou", "kway/overall_accuracy"),
    "1": ("1way/novel_miou", "1way/human_miou", "1way/bi_miou"),
}
# What single episodes are ranked by.
EPISODE_RANKING: Mapping[str, FigureKind] = {"k": FIGURES["episode_human_miou"], "1": FIGURES["episode_iou"]}
_WAY_OF = {way_key(way): way for way in WAYS}


def parse_figure(full_name: str) -> FigureName:
    """Splits a figure's full name.

    Raises:
        ValueError: no figure has this name.
    """
    way, _, rest = full_name.partition("/")
    name, _, class_id = rest.partition("/")
    kind = FIGURES.get(name)
    known = kind and way in _WAY_OF and _WAY_OF[way] in kind.ways and kind.per_class == bool(class_id)
    if not kind or not known or (class_id and not (class_id.isascii() and class_id.isdecimal())):
        raise ValueError(f"no figure is called {full_name!r}")
    return FigureName(_WAY_OF[way], kind, int(class_id) if class_id else None)
