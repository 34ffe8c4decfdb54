"""A board's tables as text for papers and spreadsheets. Text from result files is escaped in every format."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence

from oshp_bench.episodes.episodes import way_name
from oshp_bench.leaderboard.standings import Cell, PairedTest, Row, Standing
from oshp_bench.metrics.escapes import csv_cell, latex, markdown, one_line
from oshp_bench.metrics.figures import parse_figure

MARK = "†"
KINDS = {"entry": "", "floor": "floor", "published": "published", "missing": "not run"}
_NONE = "-"
Content = str | float | None
TEST_COLUMNS = ("dataset", "protocol", "version", "convention", "way")
_ABOUT = ("authors", "backbone", "pretraining", "parameters", "extra_data", "date", "paper", "code")


def caption(table: Standing) -> str:
    """What a table is about, in one line."""
    return f"{table.title}, {way_name(table.way)}: {test_name(table)}"


def test_name(table: Standing) -> str:
    """The test of a table, with all that distinguishes it from other tables of the dataset."""
    if not table.tests:
        return "as published"
    pairs = " and ".join(f"{pairs:,}" for pairs in sorted({pairs for _, pairs, _ in table.tests.values()}))
    digests = ", ".join(
        digest[7:19] + (f" with truth {truth[7:19]}" if truth else "") for digest, _, truth in table.tests.values()
    )
    return (
        f"{table.protocol or 'unnamed'} pairs, version {table.version}{f' (test {digests})' if table.apart else ''},"
        f" convention {table.convention}, {pairs} pairs a fold"
    )


def column_label(figure: str) -> str:
    """The label of a figure above its columns."""
    return parse_figure(figure).kind.label


def fold_name(fold: int | None) -> str:
    """The label of a column below its figure's."""
    return "Ave" if fold is None else f"fold {fold}"


def value_text(row: Row, cell: Cell | None) -> str:
    """A figure in percent: ours with two decimals and the standard deviation over training runs, the paper's as
    printed, corrected averages with a mark."""
    if cell is None:
        return _NONE
    if row.kind != "published":
        return f"{100 * cell.value:.2f}" + ("" if cell.spread is None else f" ± {100 * cell.spread:.2f}")
    return f"{100 * cell.value:.1f}" if cell.printed is None else f"{100 * cell.value:.2f}".rstrip("0") + MARK


def interval_text(cell: Cell | None) -> str:
    """A figure's interval in percent, "" if it has none."""
    return (
        ""
        if cell is None or cell.low is None or cell.high is None
        else f"[{100 * cell.low:.2f}, {100 * cell.high:.2f}]"
    )


def p_text(test: PairedTest | None) -> str:
    """A p-value, and the same corrected by Holm; "not tested" without matrices, "" without a row above."""
    p, corrected = _p_texts(test)
    return f"{p} ({corrected})" if corrected else p


def _p_texts(test: PairedTest | None) -> tuple[str, str]:
    if test is None:
        return "", ""
    if test.difference is None or test.difference.p_value is None or test.holm is None:
        return "not tested", ""
    return f"{test.difference.p_value:.4f}", f"{test.holm:.4f}"


def notes(table: Standing) -> Iterator[str]:
    """The notes below a table."""
    if table.published:
        yield (
            f"published: as printed in {table.published.paper}, Table {table.published.number},"
            f" {table.published.address}; made with the authors' own code, nearest to the convention official-2023"
        )
        yield from _corrections(table)
    if any(row.kind == "floor" for row in table.rows):
        yield "floor: learns nothing; a method that learns has to stand above it"
    if _anything_tested(table):
        yield (
            f"p: {column_label(table.figures[0])} against the next row above that is not published, paired"
            " randomisation test over queries, two-sided; in brackets corrected for the number of tests in the table"
            " (Holm)"
        )
        runs = {row.runs > 1 for row in table.rows if row.kind == "entry"}
        if True in runs:
            yield (
                "± is the standard deviation over training runs; intervals of such rows, and their p, which is then no"
                " randomisation test, cover queries and training"
            )
        if False in runs:
            yield (
                "a row without ± is one training run: its interval and p are about this trained network, and training"
                " with another seed may change more"
            )
    if not table.known:
        yield "no manifest at hand here has these test pairs and this truth, so they could not be checked"
    yield from (f"{row.name}: {remark}" for row in table.rows for remark in row.remarks)


def _corrections(table: Standing) -> Iterator[str]:
    for row in table.rows:
        for (figure, _), cell in row.cells.items():
            if cell.printed is not None:
                mean = value_text(row, cell).removesuffix(MARK)
                yield (
                    f"{MARK} {row.name}, {column_label(figure)}: the paper prints {100 * cell.printed:.1f},"
                    f" the mean of its folds is {mean}"
                )


def markdown_tables(tables: Sequence[Standing], *, intervals: bool = True) -> str:
    """Tables in GitHub's Markdown."""
    return "\n".join(_markdown_table(table, intervals) for table in tables)


def latex_tables(tables: Sequence[Standing], *, intervals: bool = True) -> str:
    """Tables for LaTeX. They need the package booktabs."""
    return "\n".join(_latex_table(table, intervals) for table in tables)


def csv_table(tables: Sequence[Standing], *, intervals: bool = True) -> str:
    """CSV with one row per method of all tables, fractions with full precision. Columns a table lacks are empty."""
    columns, rows = wide_rows(tables, intervals=intervals, p_values=_p_texts)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([csv_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return buffer.getvalue()


def wide_rows(
    tables: Sequence[Standing], *, intervals: bool, p_values: Callable[[PairedTest | None], tuple[Content, Content]]
) -> tuple[tuple[str, ...], list[tuple[Content, ...]]]:
    """The names of columns, and one row per method of all tables. Values are fractions.

    Args:
        p_values: what stands in the columns of a test: its p, and p corrected by Holm.
    """
    columns = list(
        dict.fromkeys((parse_figure(figure).kind.name, fold) for table in tables for figure, fold in table.columns)
    )
    folds = sorted({fold for table in tables for fold in table.folds})
    parts = ("value", "low", "high", "spread") if intervals else ("value",)
    names = (f"{figure} {fold_name(fold)}" for figure, fold in columns)
    ends = [name if part == "value" else f"{name} {part}" for name in names for part in parts]
    p_names = (f"p fold {fold}{end}" for fold in folds for end in ("", " Holm"))
    rows = []
    for standing, row in ((table, row) for table in tables for row in table.rows):
        cells = {(parse_figure(figure).kind.name, fold): cell for (figure, fold), cell in row.cells.items()}
        tests = {test.fold: test for test in row.tests}
        printed = (f"{name} {cell.printed!r}" for (name, _), cell in cells.items() if cell.printed is not None)
        numbers = (getattr(cells.get(column), part, None) for column in columns for part in parts)
        p_cells = (cell for fold in folds for cell in p_values(tests.get(fold)))
        about = (
            *test_cells(standing),
            row.kind,
            row.name,
            *_about(row),
            "; ".join(filter(None, (row.about_runs, *row.remarks))),
        )
        rows.append((*about, *numbers, *p_cells, "; ".join(printed)))
    return (*TEST_COLUMNS, "kind", "method", *_ABOUT, "remarks", *ends, *p_names, "printed"), rows


BOARD_FORMATS: dict[str, Callable[..., str]] = {
    "markdown": markdown_tables,
    "latex": latex_tables,
    "csv": csv_table,
}


def _markdown_table(table: Standing, intervals: bool) -> str:
    header = ["%", *(f"{column_label(figure)}, {fold_name(fold)}" for figure, fold in table.columns), *_p_header(table)]
    lines = [f"**{markdown(caption(table))}**", "", "| " + " | ".join(map(markdown, header)) + " |"]
    lines.append("|---|" + "---:|" * (len(header) - 1))
    for row in table.rows:
        cells = [" ".join(filter(None, pair)) for pair in _figures(table, row, intervals)]
        lines.append("| " + " | ".join((markdown(_label(row)), *cells, *_p_cells(table, row))) + " |")
    return "\n".join([*lines, "", *(f"- {markdown(note)}" for note in notes(table)), ""])


def _latex_table(table: Standing, intervals: bool) -> str:
    width, extra = len(table.folds) + 1, _p_header(table)
    groups = [rf"\multicolumn{{{width}}}{{c}}{{{latex(column_label(figure))}}}" for figure in table.figures]
    rules = [rf"\cmidrule(lr){{{2 + width * i}-{1 + width * (i + 1)}}}" for i in range(len(table.figures))]
    rows = []
    for row in table.rows:
        cells = [
            latex(value).replace(MARK, r"$^\dagger$") + (rf" {{\tiny {ends}}}" if ends else "")
            for value, ends in _figures(table, row, intervals)
        ]
        # LaTeX would read a bracket or star at the start of a row as an option of the line break before it.
        rows.append(" & ".join(("{}" + latex(_label(row)), *cells, *_p_cells(table, row))) + r" \\")
    return "\n".join(
        [
            f"% {one_line(caption(table))}",
            rf"\begin{{tabular}}{{l{'r' * (width * len(groups) + len(extra))}}}",
            r"\toprule",
            " & ".join(["", *groups, *[""] * len(extra)]) + r" \\",
            " ".join(rules),
            " & ".join([r"\%", *(fold_name(fold) for _, fold in table.columns), *extra]) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            *(f"% {one_line(note)}" for note in notes(table)),
            "",
        ]
    )


def _figures(table: Standing, row: Row, intervals: bool) -> Iterator[tuple[str, str]]:
    for column in table.columns:
        cell = row.cells.get(column)
        yield value_text(row, cell), interval_text(cell) if intervals else ""


def _anything_tested(table: Standing) -> bool:
    return any(test.difference for row in table.rows for test in row.tests)


def _p_header(table: Standing) -> list[str]:
    return [f"p, {fold_name(fold)}" for fold in table.folds] if _anything_tested(table) else []


def _p_cells(table: Standing, row: Row) -> list[str]:
    tests = {test.fold: test for test in row.tests}
    return [p_text(tests.get(fold)) for fold in table.folds] if _p_header(table) else []


def _label(row: Row) -> str:
    return f"{row.name} ({KINDS[row.kind]})" if KINDS[row.kind] else row.name


def _about(row: Row) -> Iterable[str]:
    card = row.entry.card if row.entry else None
    return ("" if card is None or getattr(card, key) is None else str(getattr(card, key)) for key in _ABOUT)


def test_cells(table: Standing) -> tuple[str, ...]:
    """What stands in TEST_COLUMNS."""
    return (table.dataset, table.protocol, table.version, table.convention, way_name(table.way))
