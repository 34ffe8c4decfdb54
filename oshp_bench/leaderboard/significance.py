"""Paired tests between neighbouring rows of a table, from the matrices beside the results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from oshp_bench.console import progress
from oshp_bench.episodes.episodes import Way
from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.leaderboard.entries import Entry
from oshp_bench.leaderboard.standings import Cell, PairedTest, Row, Standing
from oshp_bench.manifest import Manifest
from oshp_bench.metrics.figures import HEADLINE
from oshp_bench.metrics.intervals import Difference, Resampling
from oshp_bench.metrics.matrices import load_matrices
from oshp_bench.metrics.result import Figure, Result, compare, score_matrices
from oshp_bench.metrics.runs import compare_runs, holm, over_runs
from oshp_bench.metrics.shapes import PLAIN


def load_scored(entry: Entry, manifest: Manifest) -> Result:
    """Scores the matrices beside a result again, without resamples, and checks that they belong to the result.

    Raises:
        OshpError: the matrices cannot be read, are of other predictions, or give other figures than the result.
    """
    assert entry.matrices is not None
    matrices, convention = load_matrices(entry.matrices, manifest)
    said = entry.result
    if (matrices.digest, matrices.truth, convention) != (said.predictions, said.truth, said.convention):
        raise OshpError(
            f"{entry.matrices}: not the matrices of {entry.result.path}; score the predictions again with --out"
        )
    result = score_matrices(manifest, matrices, convention=convention, resampling=Resampling(0))
    for name, figure in entry.result.figures.items():
        found = result.figures.get(name, Figure(None)).value
        if found != figure.value:
            raise OshpError(
                f"{entry.result.path}: {name} is {figure.value}, but its matrices give {found}; score the predictions"
                " again"
            )
    return result


def with_tests(tables: Sequence[Standing], manifests: Mapping[str, Manifest]) -> tuple[Standing, ...]:
    """The tables with paired tests of C_novel between each row and the row above it, fold by fold, and intervals of
    means over training runs.

    Published rows are skipped, as there are no predictions to compare. If one of the two rows has no matrices, the
    difference is None.

    Args:
        manifests: the available manifests, by test digest.

    Raises:
        OshpError: every matrices file that is damaged or belongs to another result.
    """
    problems: list[str] = []
    tested = [
        replace(table, rows=_corrected(tuple(_tested_rows(table, manifests, problems))))
        for table in progress(tables, "tests", total=len(tables))
    ]
    raise_problems(dict.fromkeys(problems))
    return tuple(tested)


def _tested_rows(table: Standing, manifests: Mapping[str, Manifest], problems: list[str]) -> Iterator[Row]:
    above: Row | None = None
    scored_above: dict[int, list[Result]] = {}
    for row in table.rows:
        if row.kind in ("published", "missing"):
            yield row
            continue
        scored: dict[int, list[Result]] = {}
        for fold, entries in row.entries.items():
            if table.known and all(entry.matrices for entry in entries):
                try:
                    scored[fold] = [
                        _one_way(load_scored(entry, manifests[entry.manifest.test_digest]), table.way)
                        for entry in entries
                    ]
                except OshpError as error:
                    problems.extend(error.problems)
        tests = [
            PairedTest(fold, above.name, _difference(scored_above.get(fold), scored.get(fold), table.figures[0]))
            for fold in row.entries
            if above and fold in above.entries
        ]
        yield replace(row, tests=tuple(tests), cells={**row.cells, **_cells_of_runs(row, scored, table.figures)})
        above, scored_above = row, scored


def _one_way(result: Result, way: Way) -> Result:
    """A result reduced to what the tests need: one way, its figures, and resamples."""
    matrices = replace(result.matrices, shapes=PLAIN, beside={})
    matrices = replace(matrices, oneway=None) if way == "k" else replace(matrices, kway=None)
    figures = {name: result.figures[name] for name in HEADLINE[way]}
    return replace(result, matrices=matrices, figures=figures, resampling=Resampling())


def _difference(above: list[Result] | None, row: list[Result] | None, ranking: str) -> Difference | None:
    return compare_rows(above, row, [ranking]).get(ranking) if above and row else None


def compare_rows(first: Sequence[Result], second: Sequence[Result], names: Sequence[str]) -> dict[str, Difference]:
    """The differences of two rows (second minus first): figure -> difference.

    Args:
        first, second: the results of the training runs of two methods, on the same pairs; one or several of either.
        names: the figures.
    """
    if len(first) > 1 or len(second) > 1:
        return compare_runs(first, second, names)
    before, after = (
        replace(result, figures={name: result.figures[name] for name in names}) for result in (first[0], second[0])
    )
    return compare(before, after)


def _cells_of_runs(
    row: Row, scored: Mapping[int, list[Result]], names: Sequence[str]
) -> dict[tuple[str, int | None], Cell]:
    """The cells of means over training runs, with their intervals."""
    return {
        (name, fold): replace(row.cells[name, fold], low=figure.low, high=figure.high)
        for fold, results in scored.items()
        if len(results) > 1
        for name, figure in over_runs(results, names, row.entries[fold][0].result.level).items()
        if (name, fold) in row.cells
    }


def _corrected(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows with p-values corrected for the number of tests."""
    found = [test.difference.p_value for row in rows for test in row.tests if test.difference]
    corrected = iter(holm([p for p in found if p is not None]))
    return tuple(
        replace(
            row,
            tests=tuple(
                replace(test, holm=next(corrected)) if test.difference and test.difference.p_value is not None else test
                for test in row.tests
            ),
        )
        for row in rows
    )
