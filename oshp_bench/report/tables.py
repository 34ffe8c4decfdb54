"""Results as tables: for people, LaTeX, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oshp_bench.episodes.episodes import WAYS, way_key, way_name
from oshp_bench.metrics.figures import CLASS_ACCURACY, FIGURES, HEADLINE, IOU, parse_figure
from oshp_bench.metrics.intervals import Difference

_LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "_%&#${}"}
    | {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
)


@dataclass(frozen=True)
class Table:
    """A table of text; the first column is left-aligned, the others right-aligned."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def result_tables(document: Mapping[str, Any]) -> Iterator[Table]:
    """The tables of a result (its JSON document): figures, then IoU by class, in percent with intervals."""
    figures: Mapping[str, Mapping[str, Any]] = document["figures"]
    ways = [way for way in WAYS if FIGURES["human_miou"].full_name(way) in figures]
    header = tuple(cell for way in ways for cell in (way_name(way), _level(document)))
    rows = [
        (kind.label, *(cell for way in ways for cell in _cells(figures.get(kind.full_name(way)))))
        for kind in FIGURES.values()
        if any(kind.full_name(way) in figures for way in ways)
    ]
    yield Table(_title(document), ("%", *header), tuple(rows))
    rows = [
        (
            each["name"],
            each["role"],
            *(cell for way in ways for cell in _cells(figures.get(IOU.full_name(way, each["id"])))),
        )
        for each in document["classes"]
    ]
    yield Table("IoU by class", ("%", "role", *header), tuple(rows))


def diagnosis_tables(document: Mapping[str, Any]) -> Iterator[Table]:
    """The tables of a result's diagnosis."""
    found = document["diagnosis"]
    if "kway" in found:
        yield bias_table(document)
    yield from (size_table(document, way) for way in WAYS if way_key(way) in found)
    if "kway" in found and found["kway"]["similar_parts"]:
        yield similar_table(document)
    if "1way" in found:
        yield foreground_table(document)


def bias_table(document: Mapping[str, Any]) -> Table:
    """Where the pixels of novel and base classes go, k-way."""
    bias = document["diagnosis"]["kway"]["testing_bias"]
    parts = ("right", "other", "base or novel", "background", "removed label")
    rows = tuple(
        (f"{role} pixels", *(_percent(share) for share in bias[role]["shares"].values())) for role in ("novel", "base")
    )
    return Table("Testing bias, k-way: where pixels go", ("%", *parts), rows)


def size_table(document: Mapping[str, Any], way: str) -> Table:
    """IoU by terciles of the class's area; way is "k" or "1"."""
    sizes = document["diagnosis"][way_key(way)]["sizes"]
    terciles = ("small", "medium", "large")
    rows = (
        ("mean of classes", *(_percent(sizes["mean"][each]) for each in terciles)),
        *((row["class"], *(_percent(row[each]) for each in terciles)) for row in sizes["classes"]),
    )
    return Table(f"IoU by the class's area in the query, {way_name(way)}", ("%", *terciles), rows)


def similar_table(document: Mapping[str, Any]) -> Table:
    """The classes most often taken for each other, k-way."""
    parts = document["diagnosis"]["kway"]["similar_parts"]
    rows = tuple((" / ".join(row["classes"]), _percent(row["share"])) for row in parts)
    return Table("Most confused parts, k-way: pixels of the two that are swapped", ("%", "swapped"), rows)


def foreground_table(document: Mapping[str, Any]) -> Table:
    """How much of the predicted foreground is wrong and where it lies, 1-way."""
    rows = tuple(
        (
            row["class"],
            _percent(row["share_of_predicted"]),
            ", ".join(f"{name} {_percent(share)}" for name, share in row["lies_on"].items()),
        )
        for row in document["diagnosis"]["1way"]["false_positives"]
    )
    return Table("Wrong foreground, 1-way", ("%", "of predicted", "lies on"), rows)


def headline_table(documents: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    """A row a result in the form of the paper's Tables 2-4, one fold."""
    figures = [figure for names in HEADLINE.values() for figure in names]
    header = [f"{way} {kind.short}" for way, kind, _ in map(parse_figure, figures)]
    rows = tuple((name, *(_percent(_value(each, figure)) for figure in figures)) for name, each in documents)
    return Table("Beside the floor", ("%", *header), rows)


def comparison_table(
    names: tuple[str, str],
    documents: tuple[Mapping[str, Any], Mapping[str, Any]],
    differences: Mapping[str, Difference],
) -> Table:
    """Two results and their paired differences with interval and p-value."""
    classes = {each["id"]: each["name"] for each in documents[0]["classes"]}
    rows = []
    for figure, difference in differences.items():
        way, kind, class_id = parse_figure(figure)
        if kind is CLASS_ACCURACY:
            continue
        label = kind.label if class_id is None else f"{kind.label} {classes[class_id]}"
        rows.append(
            (
                f"{way_name(way)} {label}",
                *(_percent(_value(document, figure)) for document in documents),
                _percent(difference.value, sign=True),
                _interval(difference.low, difference.high, sign=True),
                "-" if difference.p_value is None else f"{difference.p_value:.4f}",
            )
        )
    header = ("%", *names, "difference", _level(documents[0]), "p")
    return Table(
        f"Paired difference, second minus first, over {documents[0]['manifest']['queries']} queries",
        header,
        tuple(rows),
    )


def as_text(table: Table) -> str:
    """A table for a terminal."""
    widths = [max(map(len, column)) for column in zip(table.header, *table.rows, strict=True)]
    lines = [table.title]
    for row in (table.header, *table.rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    lines.insert(2, "-" * max(map(len, lines[1:])))
    return "\n".join(lines) + "\n"


def as_markdown(table: Table) -> str:
    """A table in GitHub's Markdown."""
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in (table.header, *table.rows)]
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    lines.insert(1, "|---|" + "---:|" * (len(table.header) - 1))
    return f"**{table.title}**\n\n" + "\n".join(lines) + "\n"


def as_latex(table: Table) -> str:
    """A table for LaTeX with the package booktabs."""
    rows = [" & ".join(latex_text(cell) for cell in row) + r" \\" for row in (table.header, *table.rows)]
    body = [rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}", r"\toprule", rows[0], r"\midrule", *rows[1:]]
    return f"% {table.title}\n" + "\n".join([*body, r"\bottomrule", r"\end{tabular}"]) + "\n"


def latex_text(text: str) -> str:
    """A text as LaTeX prints it."""
    return text.translate(_LATEX)


RENDERERS: dict[str, Callable[[Table], str]] = {"table": as_text, "markdown": as_markdown, "latex": as_latex}


def figures_csv(documents: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """A row a figure of every result, fractions with full precision, for spreadsheets and pandas."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ("predictions", "manifest", "version", "convention", "figure", "class", "role", "value", "low", "high")
    )
    for name, document in documents:
        classes = {str(each["id"]): each for each in document["classes"]}
        for figure, cells in document["figures"].items():
            about = classes.get(figure.rpartition("/")[2], {})
            head = (document["manifest"]["name"], document["manifest"]["version"], document["options"]["convention"])
            values = ("" if cells[key] is None else repr(cells[key]) for key in ("value", "low", "high"))
            writer.writerow((name, *head, figure, about.get("name", ""), about.get("role", ""), *values))
    return buffer.getvalue()


def _title(document: Mapping[str, Any]) -> str:
    manifest, options = document["manifest"], document["options"]
    return (
        f"{manifest['name']} {manifest['version']}: {manifest['pairs']} pairs, {manifest['queries']} queries,"
        f" convention {options['convention']}"
    )


def _level(document: Mapping[str, Any]) -> str:
    return f"{100 * document['options']['level']:g} % interval"


def _value(document: Mapping[str, Any], figure: str) -> float | None:
    value: float | None = document["figures"].get(figure, {}).get("value")
    return value


def _cells(figure: Mapping[str, Any] | None) -> tuple[str, str]:
    if figure is None:
        return "", ""
    return _percent(figure["value"]), _interval(figure["low"], figure["high"])


def _percent(value: float | None, *, sign: bool = False) -> str:
    return "-" if value is None else f"{100 * value:+.2f}" if sign else f"{100 * value:.2f}"


def _interval(low: float | None, high: float | None, *, sign: bool = False) -> str:
    return "" if low is None or high is None else f"[{_percent(low, sign=sign)}, {_percent(high, sign=sign)}]"
