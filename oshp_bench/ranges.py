"""Ranges of the numbers in frozen dataclasses, in their annotations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_type_hints


@dataclass(frozen=True)
class Range:
    """The least and the greatest value of a number, in its annotation."""

    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.least:.15g} to {self.most:.15g}"


def outside(settings: Any) -> list[str]:
    """The settings that are outside their Range, a line each; None never is."""
    return [
        f"{name} is {value}; it must be {limit}"
        for name, hint in get_type_hints(type(settings), include_extras=True).items()
        for limit in getattr(hint, "__metadata__", ())
        if (value := getattr(settings, name)) is not None and not limit.least <= value <= limit.most
    ]
