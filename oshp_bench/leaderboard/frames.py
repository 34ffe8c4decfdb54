"""A board's tables as data frames. They need pandas, the extra `frames`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from oshp_bench.errors import OshpError
from oshp_bench.leaderboard.entries import load_entries
from oshp_bench.leaderboard.significance import with_tests
from oshp_bench.leaderboard.standings import PairedTest, Standing, known_manifests, standings
from oshp_bench.leaderboard.tables import TEST_COLUMNS, Content, test_cells, wide_rows
from oshp_bench.metrics.figures import parse_figure
from oshp_bench.metrics.frames import frame

if TYPE_CHECKING:
    from pandas import DataFrame

_LONG_NUMBERS = ("value", "low", "high", "spread", "difference", "p", "p_holm")
LONG_COLUMNS = (*TEST_COLUMNS, "kind", "method", "figure", "fold", "against", *_LONG_NUMBERS)


def board_frame(
    *results: Path | str,
    format: Literal["wide", "long"] = "wide",
    manifests: Sequence[str] = (),
    published: bool = False,
) -> DataFrame:
    """The tables that `oshp-board` makes of result files, or of folders with such files.

    "wide" has one row per method, with the columns of `oshp-board table --format csv`. "long" has one row per method,
    figure and fold, in LONG_COLUMNS; `fold` is missing for averages. The figure that ranks also has the row above it
    (`against`), the difference to that row, its p-value, and the same corrected by Holm. Values are fractions 0..1.

    Args:
        manifests: of results on your own tailoring.
        published: adds the rows of the paper's Tables 2 to 4.

    Raises:
        OshpError: pandas is not installed, an unknown format, or every problem of every file, one per line.
    """
    if format not in ("wide", "long"):
        raise OshpError(f"unknown format {format!r}; choose wide or long")
    entries, _ = load_entries([Path(path) for path in results])
    known = known_manifests(entries, manifests)
    tables = with_tests(standings(entries, known, published=published), known)
    if format == "long":
        return frame(LONG_COLUMNS, _long_rows(tables), _LONG_NUMBERS)
    columns, rows = wide_rows(tables, intervals=True, p_values=_p_values)
    # The names of figures and p-values tell the fold, too.
    return frame(columns, rows, [name for name in columns if " " in name])


def _p_values(test: PairedTest | None) -> tuple[float | None, float | None]:
    return (test.difference.p_value, test.holm) if test and test.difference else (None, None)


def _long_rows(tables: Sequence[Standing]) -> Iterator[tuple[Content, ...]]:
    for standing, row in ((table, row) for table in tables for row in table.rows):
        tests = {(standing.figures[0], test.fold): test for test in row.tests}
        for (figure, fold), cell in row.cells.items():
            test = tests.get((figure, fold or 0))
            against, difference = (test.against, test.difference.value) if test and test.difference else (None, None)
            about = (*test_cells(standing), row.kind, row.name, parse_figure(figure).kind.name, fold, against)
            yield (*about, cell.value, cell.low, cell.high, cell.spread, difference, *_p_values(test))
