"""Measured figures beside their bars: rows of a Markdown table."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

ROUNDS = 7


@dataclass(frozen=True)
class Row:
    """A measured figure and its bar."""

    what: str
    measured: float
    bar: float
    unit: str
    at_least: bool = False

    @property
    def holds(self) -> bool:
        return self.measured >= self.bar if self.at_least else self.measured <= self.bar

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        verdict = "holds" if self.holds else "MISSED"
        return f"| {self.what} | {self.measured:.2f} {self.unit} | {sign} {self.bar:g} {self.unit} | {verdict} |"


def print_rows(about: str, *parts: Iterable[Row]) -> None:
    """Prints rows as they are measured, and ends with exit code 1 if a bar is missed."""
    print(f"{about}\n\n| what | measured | bar | |\n|---|---:|---:|---|", flush=True)
    missed = 0
    for part in parts:
        for row in part:
            print(row, flush=True)
            missed += not row.holds
    sys.exit(missed > 0)


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    work()
    return clock() - start


def ratio(
    ours: Callable[[], object],
    other: Callable[[], object],
    clock: Callable[[], float] = time.process_time,
    rounds: int = ROUNDS,
) -> float:
    """Our least time over the other's, the two taking turns.

    Args:
        clock: processor time of this process, which a busy machine stretches least; time.perf_counter where other
            processes do part of the work.
    """
    for run in (ours, other):
        run()
    times = [(seconds(ours, clock), seconds(other, clock)) for _ in range(rounds)]
    return min(mine for mine, _ in times) / min(theirs for _, theirs in times)
