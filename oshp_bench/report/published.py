"""The figures that the paper prints in its Tables 2 to 4, to be shown beside our own."""

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
    """A printed figure, as a fraction 0..1. The paper prints one decimal of a percent and no intervals.

    Attributes:
        folds: fold -> figure; empty if the paper prints one number for both folds (accuracy, Bi-mIoU).
        average: mean over the folds: the printed one, or the true one if the printed one is wrong.
        printed_average: as printed.
    """

    folds: Mapping[int, float]
    average: float
    printed_average: float

    @property
    def corrected(self) -> bool:
        """Whether the printed average is wrong and `average` is the true mean."""
        return self.average != self.printed_average

    def of_fold(self, fold: int) -> float | None:
        """The figure of a fold; None if the paper prints one number for both folds."""
        return self.folds.get(fold)


@dataclass(frozen=True)
class PublishedMethod:
    """A row of a table: full name of a figure -> what is printed. A printed dash has no entry."""

    name: str
    figures: Mapping[str, PublishedFigure]


@dataclass(frozen=True)
class PublishedTable:
    """A table of the paper.

    Attributes:
        number: number of the table in the paper.
        title: for example "ATR-OS".
        dataset: name of the dataset in manifests.
        novel: fold -> names of its novel classes.
        paper, address: the paper to cite.
    """

    number: int
    title: str
    dataset: str
    novel: Mapping[int, frozenset[str]]
    methods: tuple[PublishedMethod, ...]
    paper: str
    address: str

    def fits(self, manifest: Manifest) -> bool:
        """Whether the table and a manifest have the same dataset, rule and fold, so that they can be shown together."""
        novel = frozenset(oshp_class.name for oshp_class in manifest.classes if oshp_class.role == "novel")
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
    """The table that can be shown beside results on a manifest, if there is one."""
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
