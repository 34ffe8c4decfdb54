"""Writes a table of the paper with our figures beside it: Markdown, LaTeX, CSV and a page.

Run: python experiments/table.py NAME CONFIG.json

The workflow runs this. Figures, intervals, tests and their correction are the package's (docs/metrics.md).
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import fmean, stdev

from config import Row, Table
from plan import Plan, read_plan

from oshp_bench.episodes.episodes import way_name
from oshp_bench.files import read_json, write_text
from oshp_bench.leaderboard.significance import compare_rows
from oshp_bench.manifest import load_manifest
from oshp_bench.metrics.escapes import csv_cell, latex, latex_start, markdown
from oshp_bench.metrics.figures import HEADLINE, full_name, parse_figure
from oshp_bench.metrics.intervals import Difference
from oshp_bench.metrics.matrices import load_matrices
from oshp_bench.metrics.result import Result, score_matrices
from oshp_bench.metrics.runs import holm, over_runs
from oshp_bench.report.published import published_tables

_HERE = Path(__file__).parent
_AVERAGE = "Ave"


@dataclass(frozen=True)
class Value:
    """One of our figures as a fraction 0..1, beside the paper's in percent; each may be missing."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    spread: float | None = None
    runs: int = 0
    paper: float | None = None


@dataclass(frozen=True)
class Tested:
    """A row against its reference in one column."""

    row: str
    against: str
    figure: str
    fold: int
    difference: Difference
    holm: float | None = None


@dataclass(frozen=True)
class Grid:
    """A table as texts: `header` and `rows` have the same number of cells."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Contents:
    """A finished table.

    Attributes:
        numbers: the same as one line for each row, figure and fold, for spreadsheets.
    """

    title: str
    grids: tuple[Grid, ...]
    notes: tuple[str, ...]
    numbers: tuple[dict[str, object], ...]


def contents(plan: Plan, table: Table) -> Contents:
    """Everything that a table says."""
    return _complexity(plan, table) if table.kind == "complexity" else _Scores(plan, table).contents()


class _Scores:
    """A table of scores, way by way."""

    def __init__(self, plan: Plan, table: Table) -> None:
        self._plan, self._table = plan, table
        self._manifests = {fold: load_manifest(str(plan.manifest(plan.dataset(table), fold))) for fold in table.folds}
        self._results: dict[tuple[str, int, str], tuple[Result, ...]] = {}

    def contents(self) -> Contents:
        grids: list[Grid] = []
        numbers: list[dict[str, object]] = []
        tests: dict[str, list[Tested]] = {way: list(self._tests(way)) for way in self._table.ways}
        corrected = iter(holm([test.difference.p_value or 0.0 for of_way in tests.values() for test in of_way]))
        for way in self._table.ways:
            of_way = [replace(test, holm=next(corrected)) for test in tests[way]]
            rows = [row for row in self._table.rows if self._has(row, way)]
            grids.append(self._grid(way, rows))
            if of_way:
                grids.append(_differences_grid(way, of_way, len(self._table.folds) > 1))
            numbers += self._numbers(way, rows, of_way)
        return Contents(self._title, tuple(grids), tuple(self._notes(bool(any(tests.values())))), tuple(numbers))

    @property
    def _title(self) -> str:
        table = self._table
        title = self._manifests[table.folds[0]].dataset.title
        folds = " and ".join(map(str, table.folds))
        return f"{table.title}: {table.paper} beside ours on {title}, fold {folds}, scale {self._plan.scale_name}"

    def _has(self, row: Row, way: str) -> bool:
        return any(value.value is not None or value.paper is not None for value in self._values(row, way).values())

    def _figures(self, way: str) -> tuple[str, ...]:
        return tuple(full_name(way, name) for name in self._table.figures) or HEADLINE["1" if way == "1" else "k"]

    def _columns(self, way: str) -> Iterator[tuple[str, int | None]]:
        folds = self._table.folds
        yield from product(self._figures(way), (*folds, None) if len(folds) > 1 else folds)

    def _scored(self, row: Row, fold: int, way: str) -> tuple[Result, ...]:
        """A row's results in a fold, one for each seed, with the figures of this table alone."""
        key = (row.name, fold, way)
        if key not in self._results:
            self._results[key] = tuple(self._score(row, fold, way))
        return self._results[key]

    def _score(self, row: Row, fold: int, way: str) -> Iterator[Result]:
        manifest = self._manifests[fold]
        for cell in self._plan.runs(self._table, row, fold, way):
            matrices, convention = load_matrices(self._plan.result(cell).with_name("matrices.npz"), manifest)
            result = score_matrices(manifest, matrices, convention=convention)
            yield replace(result, figures={name: result.figures[name] for name in self._figures(way)})

    def _values(self, row: Row, way: str) -> dict[tuple[str, int | None], Value]:
        return {(name, fold): self._value(row, way, name, fold) for name, fold in self._columns(way)}

    def _value(self, row: Row, way: str, name: str, fold: int | None) -> Value:
        paper = self._paper(row, name, fold)
        if fold is None:
            folds = [self._value(row, way, name, each).value for each in self._table.folds]
            known = [value for value in folds if value is not None]
            return Value(fmean(known) if len(known) == len(folds) else None, paper=paper)
        results = self._scored(row, fold, way)
        values = [value for result in results if (value := result.figures[name].value) is not None]
        if not results or len(values) < len(results):
            return Value(paper=paper)
        if len(results) > 1:
            figure = over_runs(results, [name], results[0].resampling.level)[name]
            return Value(figure.value, figure.low, figure.high, stdev(values), len(values), paper)
        figure = results[0].figures[name]
        return Value(figure.value, figure.low, figure.high, None, 1, paper)

    def _paper(self, row: Row, name: str, fold: int | None) -> float | None:
        if self._table.published is None:
            return row.paper.get(name.partition("/")[2])
        table = next(table for table in published_tables() if table.number == self._table.published)
        method = next((method for method in table.methods if method.name == row.name), None)
        figure = method.figures.get(name) if method else None
        printed = None if figure is None else figure.printed_average if fold is None else figure.of_fold(fold)
        return None if printed is None else round(100 * printed, 2)

    def _tests(self, way: str) -> Iterator[Tested]:
        for row, fold in product(self._table.rows, self._table.folds):
            reference = self._table.reference(row)
            mine = self._scored(row, fold, way)
            other = self._scored(reference, fold, way) if reference else ()
            if not reference or not mine or not other:
                continue
            found = compare_rows(other, mine, self._figures(way))
            for name in self._figures(way):
                if name in found and found[name].p_value is not None:
                    yield Tested(row.name, reference.name, name, fold, found[name])

    def _grid(self, way: str, rows: Sequence[Row]) -> Grid:
        columns = list(self._columns(way))
        several = len(self._table.folds) > 1
        header = [""]
        for name, fold in columns:
            label = parse_figure(name).kind.label + (f", {_fold(fold)}" if several else "")
            header += [label, "paper"]
        lines = []
        for row in rows:
            values = self._values(row, way)
            cells = [text for column in columns for text in (_ours(values[column]), _percent(values[column].paper))]
            lines.append((row.name, *cells))
        return Grid(f"{way_name('1' if way == '1' else 'k')}, in percent", tuple(header), tuple(lines))

    def _numbers(self, way: str, rows: Sequence[Row], tests: Sequence[Tested]) -> Iterator[dict[str, object]]:
        by_place = {(test.row, test.figure, test.fold): test for test in tests}
        for row in rows:
            for (name, fold), value in self._values(row, way).items():
                test = by_place.get((row.name, name, fold if fold is not None else 0))
                found = test.difference if test else None
                yield {
                    "row": row.name,
                    "figure": name,
                    "fold": _AVERAGE if fold is None else fold,
                    "value": value.value,
                    "low": value.low,
                    "high": value.high,
                    "spread": value.spread,
                    "runs": value.runs or None,
                    "paper": None if value.paper is None else value.paper / 100,
                    "against": test.against if test else None,
                    "difference": found.value if found else None,
                    "difference low": found.low if found else None,
                    "difference high": found.high if found else None,
                    "p": found.p_value if found else None,
                    "p Holm": test.holm if test else None,
                }

    def _notes(self, tested: bool) -> Iterator[str]:
        table, plan = self._table, self._plan
        seeds = len(plan.scale.seeds)
        yield f"Ours: percent with 95 % intervals; paper: as printed in {table.paper}, on its dataset."
        if seeds > 1:
            yield (
                f"Trained rows: mean ± standard deviation over {seeds} training seeds; intervals and p cover queries"
                " and training."
            )
        else:
            yield (
                "One training seed: intervals and p cover queries only, and training with another seed may change more."
            )
        if tested:
            yield (
                "Differences are paired, on the same queries; p is two-sided, and corrected by Holm for all tests of"
                " this table."
            )
        sets = {row.name: row.set for row in table.rows if row.set}
        yield f"All rows: preset {plan.scale.preset}{''.join(f', {text}' for text in plan.scale.set)}."
        yield from (f"{name}: {', '.join(texts)}" for name, texts in sets.items())
        used = {row.method for row in table.rows} & plan.scale.methods.keys()
        yield from (f"method {name}: {', '.join(plan.scale.methods[name])}" for name in sorted(used))


def _differences_grid(way: str, tests: Sequence[Tested], several: bool) -> Grid:
    header = ("", "against", "figure", *(("fold",) if several else ()), "difference", "p", "p, Holm")
    rows = []
    for test in tests:
        found = test.difference
        assert found.value is not None
        assert found.p_value is not None
        ends = "" if found.low is None or found.high is None else f" [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"
        fold = (str(test.fold),) if several else ()
        numbers = (f"{100 * found.value:+.2f}{ends}", f"{found.p_value:.4f}", f"{test.holm:.4f}")
        rows.append((test.row, test.against, parse_figure(test.figure).kind.label, *fold, *numbers))
    return Grid(f"{way_name('1' if way == '1' else 'k')}, paired differences in points", header, tuple(rows))


def _fold(fold: int | None) -> str:
    return _AVERAGE if fold is None else f"fold {fold}"


def _ours(value: Value) -> str:
    if value.value is None:
        return "-"
    spread = "" if value.spread is None else f" ± {100 * value.spread:.2f}"
    ends = "" if value.low is None or value.high is None else f" [{100 * value.low:.2f}, {100 * value.high:.2f}]"
    return f"{100 * value.value:.2f}{spread}{ends}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _complexity(plan: Plan, table: Table) -> Contents:
    """Table 8: what a frame costs, as benchmarks/complexity.py measures it."""
    columns = (("macs_g", "MACs (G)"), ("parameters_m", "parameters (M)"), ("fps", "FPS"))
    lines, numbers = [], []
    for row in table.rows:
        document = read_json(plan.measured(row.method))
        (said,) = document["methods"]
        ours = {name: said[name] for name, _ in columns}
        cells = [text for name, _ in columns for text in (f"{ours[name]:g}", _percent(row.paper.get(name)))]
        lines.append((row.name, cells[0], f"{said['macs_g_support_a_class']:g}", *cells[1:]))
        numbers += [
            {"row": row.name, "figure": name, "value": ours[name], "paper": row.paper.get(name)} for name, _ in columns
        ]
    size, classes = document["size"], document["classes"]
    header = [
        "",
        "MACs (G)",
        "with k support photos",
        "paper",
        *("parameters (M)", "paper", "FPS, one core", "paper, GPU"),
    ]
    caption = f"{size} x {size} pixels, k = {classes}"
    notes = (
        "No figure has an interval: MACs and parameters are counted, and FPS is the best of a few frames.",
        "The paper counts k support photos for methods that take one for each class.",
        "benchmarks/complexity.py says how it is measured. FPS of one CPU core and of the paper's GPU do not compare.",
    )
    return Contents(
        f"{table.title}: {table.paper} beside ours",
        (Grid(caption, tuple(header), tuple(lines)),),
        notes,
        tuple(numbers),
    )


def as_markdown(said: Contents) -> str:
    """The table in GitHub's Markdown."""
    lines = [f"# {markdown(said.title)}", ""]
    for grid in said.grids:
        lines += [f"**{markdown(grid.caption)}**", ""]
        lines.append("| " + " | ".join(map(markdown, grid.header)) + " |")
        lines.append("|---|" + "---:|" * (len(grid.header) - 1))
        lines += ["| " + " | ".join(map(markdown, row)) + " |" for row in grid.rows]
        lines.append("")
    return "\n".join([*lines, *(f"- {markdown(note)}" for note in said.notes), ""])


def as_latex(said: Contents) -> str:
    """The table for LaTeX; it needs the package booktabs."""
    lines = [f"% {said.title}"]
    for grid in said.grids:
        lines += [f"% {grid.caption}", rf"\begin{{tabular}}{{l{'r' * (len(grid.header) - 1)}}}", r"\toprule"]
        lines += [" & ".join(map(latex, grid.header)) + r" \\", r"\midrule"]
        lines += [" & ".join((latex_start(row[0]), *map(_latex, row[1:]))) + r" \\" for row in grid.rows]
        lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*lines, *(f"% {note}" for note in said.notes), ""])


def _latex(text: str) -> str:
    return latex(text).replace("±", r"$\pm$")


def as_csv(said: Contents) -> str:
    """One line for each row, figure and fold; fractions with full precision."""
    buffer = io.StringIO()
    columns = list(dict.fromkeys(name for line in said.numbers for name in line))
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for line in said.numbers:
        cells = [line.get(name) for name in columns]
        writer.writerow([csv_cell(cell) if isinstance(cell, str) else cell for cell in cells])
    return buffer.getvalue()


def as_page(said: Contents, links: Iterable[str]) -> str:
    """The table as a page in the style of reports and boards."""
    from oshp_bench.report.templates import filled

    return filled(_HERE / "table.html.j2", said=said, links=list(links))


def write(said: Contents, folder: Path) -> None:
    """Writes all formats; the page comes last, as the workflow waits for it."""
    texts = {"table.md": as_markdown(said), "table.tex": as_latex(said), "table.csv": as_csv(said)}
    for name, text in texts.items():
        write_text(folder / name, text)
    write_text(folder / "index.html", as_page(said, texts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("config", type=Path, help="what the workflow was configured by, as JSON")
    options = parser.parse_args()
    plan = read_plan(json.loads(options.config.read_text(encoding="utf-8")))
    table = plan.table(options.name)
    write(contents(plan, table), plan.page(table).parent)


if __name__ == "__main__":
    main()
