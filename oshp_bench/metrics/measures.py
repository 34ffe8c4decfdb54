"""Classes by role, and ratios of sums, for floats and fractions alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oshp_bench.manifest import Manifest
from oshp_bench.metrics.figures import ClassGroup

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Roles:
    """The class ids of a manifest, and the positions of base and novel classes among them."""

    ids: tuple[int, ...]
    base: tuple[int, ...]
    novel: tuple[int, ...]

    @classmethod
    def of(cls, manifest: Manifest) -> Roles:
        """The roles of a manifest's classes."""
        place = {class_id: index for index, class_id in enumerate(manifest.class_ids)}
        base, novel = (tuple(place[class_id] for class_id in manifest.ids_of(role)) for role in ("base", "novel"))
        return cls(manifest.class_ids, base, novel)

    def positions(self, group: ClassGroup) -> tuple[int, ...]:
        """The positions of a group of classes."""
        every = tuple(range(len(self.ids)))
        groups: dict[ClassGroup, tuple[int, ...]] = {
            "all": every,
            "foreground": every[1:],
            "novel": self.novel,
            "base": self.base,
            "base and background": (0, *self.base),
        }
        return groups[group]


@dataclass(frozen=True)
class Measure:
    """The values [sums] of a figure, floats or fractions, and where they are valid (not 0/0)."""

    value: NDArray[Any]
    valid: NDArray[np.bool_]

    def floats(self) -> Floats:
        """The values as floats: float64 [sums], NaN where they are not valid."""
        return np.where(self.valid, self.value, np.nan).astype(np.float64)


# A figure's name without way and class, its class id (None if it is not about one class), and its values.
NamedMeasure = tuple[str, int | None, Measure]


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> Measure:
    """part / whole, valid where whole is not 0."""
    valid = np.asarray(whole != 0, np.bool_)
    return Measure(part / np.where(valid, whole, 1), valid)


def mean_of_columns(measure: Measure, columns: Iterable[int]) -> Measure:
    """The mean over valid columns. They are added in order, so that every machine gives the same sum."""
    total, count = measure.value[:, 0] * 0, measure.value[:, 0] * 0
    for column in columns:
        valid = measure.valid[:, column]
        total = total + np.where(valid, measure.value[:, column], 0)
        count = count + valid
    return ratio(total, count)


def one_column(measure: Measure, index: int) -> Measure:
    """The values of a column of [sums, columns]."""
    return Measure(measure.value[:, index], measure.valid[:, index])


def first_column(measure: Measure) -> Measure:
    """The values of the first column of [sums, columns]."""
    return one_column(measure, 0)
