"""Paired tests between neighbouring rows of a table, from the matrices beside the results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from oshp_bench.console import progress
from oshp_bench.episodes.episodes import Way
from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.leaderboard.entries import Entry
from oshp_bench.leaderboard.standings import PairedTest, Row, Standing
from oshp_bench.manifest import Manifest
from oshp_bench.metrics.figures import HEADLINE
from oshp_bench.metrics.intervals import Difference, Resampling
from oshp_bench.metrics.matrices import load_matrices
from oshp_bench.metrics.result import Figure, Result, compare, score_matrices


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
    """The tables with paired tests of C_novel between each row and the row above it, fold by fold.

    Published rows are skipped, as there are no predictions to compare. If one of the two rows has no matrices, the
    difference is None.

    Args:
        manifests: the available manifests, by test digest.

    Raises:
        OshpError: every matrices file that is damaged or belongs to another result.
    """
    problems: list[str] = []
    tested = [
        replace(table, rows=tuple(_tested_rows(table, manifests, problems)))
        for table in progress(tables, "tests", total=len(tables))
    ]
    raise_problems(dict.fromkeys(problems))
    return tuple(tested)


def _tested_rows(table: Standing, manifests: Mapping[str, Manifest], problems: list[str]) -> Iterator[Row]:
    above: Row | None = None
    scored_above: dict[int, Result] = {}
    for row in table.rows:
        if row.kind == "published":
            yield row
            continue
        scored: dict[int, Result] = {}
        for fold, entry in row.entries.items():
            if table.known and entry.matrices:
                try:
                    scored[fold] = _one_way(load_scored(entry, manifests[entry.manifest.test_digest]), table.way)
                except OshpError as error:
                    problems.extend(error.problems)
        tests = [
            PairedTest(fold, above.name, _difference(scored_above.get(fold), scored.get(fold)))
            for fold in row.entries
            if above and fold in above.entries
        ]
        yield replace(row, tests=tuple(tests))
        above, scored_above = row, scored


def _one_way(result: Result, way: Way) -> Result:
    """A result reduced to what the test needs: one way, one figure, and resamples."""
    ranking = HEADLINE[way][0]
    matrices = replace(result.matrices, oneway=None) if way == "k" else replace(result.matrices, kway=None)
    return replace(result, matrices=matrices, figures={ranking: result.figures[ranking]}, resampling=Resampling())


def _difference(above: Result | None, row: Result | None) -> Difference | None:
    return next(iter(compare(above, row).values())) if above and row else None
