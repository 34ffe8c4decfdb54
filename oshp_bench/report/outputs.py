"""What oshp-score prints, and the files that it writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from oshp_bench.console import echo
from oshp_bench.files import readable_json, write_text
from oshp_bench.metrics.intervals import Difference
from oshp_bench.metrics.matrices import save_matrices
from oshp_bench.metrics.result import Result, per_pair_csv
from oshp_bench.metrics.result_file import AnyResult, save_result
from oshp_bench.report import tables

Differences = Sequence[Mapping[str, Difference]]


def print_notes(results: Sequence[Result], given: Sequence[Path]) -> None:
    """Prints what looks like a mistake in the sets, and how many predictions are missing."""
    for path, result in zip(given, results, strict=True):
        for note in result.matrices.notes:
            echo(f"note: {path}: {note}", err=True)
        for way, names in result.matrices.missing.items():
            echo(
                f"note: {path}: {len(names)} of {len(result.pairs)} {way}-way predictions are missing and count as all"
                f" background: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}",
                err=True,
            )


def folders(out: Path | None, sets: int) -> list[Path]:
    """The folders below OUT for the files of one set, of two (first, second), or of more (1, 2, 3 ...)."""
    if out is None or sets == 1:
        return [] if out is None else [out]
    return [out / name for name in (("first", "second") if sets == 2 else map(str, range(1, sets + 1)))]


def write_results(
    out: Path, results: Sequence[Result], runs: Sequence[Mapping[str, Any]], differences: Differences
) -> None:
    """Writes the files of every set, and its comparison with the first: OUT/comparison.json of two sets, else beside
    the files of each set after the first.

    Args:
        runs: timings and machine, for each set.
        differences: of each set after the first.
    """
    places = folders(out, len(results))
    for folder, result, run in zip(places, results, runs, strict=True):
        save_matrices(result.matrices, result.manifest, result.convention, folder / "matrices.npz")
        write_text(folder / "pairs.csv", per_pair_csv(result))
        write_text(folder / "figures.csv", tables.figures_csv([(run["predictions"], result)]))
        save_result(result, folder / "result.json", run)
    for place, result, compared in zip(places[1:], results[1:], differences, strict=True):
        folder = out if len(results) == 2 else place
        write_text(folder / "comparison.json", readable_json(_differences_json(results[0], result, compared)))


def _differences_json(first: Result, second: Result, differences: Mapping[str, Difference]) -> dict[str, Any]:
    return {
        "format": "oshp-comparison/1",
        "first": first.matrices.digest,
        "second": second.matrices.digest,
        "signature": first.signature,
        "test": "paired randomisation per query, two-sided; interval: expanded percentile bootstrap over queries",
        "differences": {name: asdict(difference) for name, difference in differences.items()},
    }


def print_results(
    form: str,
    sets: Sequence[tuple[str, Result]],
    floors: Sequence[tuple[str, AnyResult]],
    differences: Differences,
) -> None:
    """Prints results.

    Args:
        form: "table", "json", "csv", "latex" or "markdown".
        differences: of each set after the first.
    """
    if form == "json":
        whole: dict[str, Any] = {"results": [result.document for _, result in sets]}
        if floors:
            whole["floor"] = [result.document for _, result in floors]
        compared = [{name: asdict(difference) for name, difference in of_set.items()} for of_set in differences]
        if compared:
            whole["differences"] = compared[0] if len(sets) == 2 else compared
        echo(json.dumps(whole, indent=1))
        return
    if form == "csv":
        echo(tables.figures_csv([*sets, *floors], differences), nl=False)
        return
    render = tables.RENDERERS[form]
    shown = []
    for name, result in sets:
        if len(sets) > 1:
            shown.append(f"== {name}\n")
        shown.extend(render(table) for table in (*tables.result_tables(result), *tables.shape_tables(result)))
        if form == "table":
            shown.extend(render(table) for table in tables.diagnosis_tables(result))
    if floors:
        shown.append(render(tables.headline_table([*floors, *sets])))
    if len(sets) == 2:
        (first_name, first), (second_name, second) = sets
        shown.append(render(tables.comparison_table((first_name, second_name), (first, second), differences[0])))
    elif differences:
        shown.append(render(tables.against_first_table(sets, differences)))
    echo("\n".join(shown))
    if form == "table":
        echo("\n".join(result.signature for _, result in sets))
