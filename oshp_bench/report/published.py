"""The figures that the paper prints (its Tables 2 to 4), to stand beside our own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from oshp_bench.files import read_toml
from oshp_bench.manifest import Manifest

_FILE = Path(__file__).with_name("published.toml")


@dataclass(frozen=True)
class PublishedFigure:
    """A printed figure, in fractions 0..1; the paper prints them to a tenth of a percent and without intervals.

    Attributes:
        folds: fold -> figure; empty where the paper prints one number for both folds (accuracy, Bi-mIoU).
        average: over the folds; the true mean where the printed one is not that of its two folds.
        printed_average: as printed.
    """

    folds: Mapping[int, float]
    average: float
    printed_average: float

    @property
    def corrected(self) -> bool:
        """Whether the printed average is wrong."""
        return self.average != self.printed_average

    def of_fold(self, fold: int) -> float | None:
        """The figure of a fold; None where the paper prints one for both."""
        return self.folds.get(fold)


@dataclass(frozen=True)
class PublishedMethod:
    """A row of a table: name of a figure ("kway/novel_miou") -> what is printed; nothing for a dash."""

    name: str
    figures: Mapping[str, PublishedFigure]


@dataclass(frozen=True)
class PublishedTable:
    """A table of the paper.

    Attributes:
        number: of the table in the paper.
        title: such as "ATR-OS".
        dataset: its name in manifests.
        novel: fold -> names of its novel classes.
        paper, address: what to cite.
    """

    number: int
    title: str
    dataset: str
    novel: Mapping[int, frozenset[str]]
    methods: tuple[PublishedMethod, ...]
    paper: str
    address: str

    def fits(self, manifest: Manifest) -> bool:
        """Whether the table is about a manifest's dataset, rule and fold, so that it may stand beside its results."""
        novel = frozenset(each.name for each in manifest.classes if each.role == "novel")
        return (
            manifest.dataset.name == self.dataset
            and manifest.protocol.get("name") == "official"
            and self.novel.get(manifest.fold) == novel
        )


@cache
def published_tables() -> tuple[PublishedTable, ...]:
    """Tables 2, 3 and 4."""
    return tuple(_tables(read_toml(_FILE)))


def published_table(manifest: Manifest) -> PublishedTable | None:
    """The table that may stand beside a manifest's results, if there is one."""
    return next((table for table in published_tables() if table.fits(manifest)), None)


def _tables(content: Mapping[str, Any]) -> Iterator[PublishedTable]:
    for table in content["table"]:
        means = {(method, column): mean for method, column, mean in table["wrong_averages"]}
        methods = []
        for name, *cells in table["rows"]:
            printed = zip(content["columns"], cells, strict=True)
            figures = {column: _figure(cell, means.get((name, column))) for column, cell in printed if cell != []}
            methods.append(PublishedMethod(name, figures))
        yield PublishedTable(
            number=table["number"],
            title=table["title"],
            dataset=table["dataset"],
            novel={int(fold): frozenset(names) for fold, names in table["novel"].items()},
            methods=tuple(methods),
            paper=content["paper"],
            address=content["address"],
        )


def _figure(cell: float | list[float], mean: float | None) -> PublishedFigure:
    *folds, average = cell if isinstance(cell, list) else [cell]
    by_fold = {fold: value / 100 for fold, value in enumerate(folds, 1)}
    return PublishedFigure(by_fold, (average if mean is None else mean) / 100, average / 100)
