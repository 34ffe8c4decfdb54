"""Results as tables for the terminal, LaTeX, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from oshp_bench.episodes.episodes import WAYS, way_key, way_name
from oshp_bench.metrics.diagnosis import TERCILES
from oshp_bench.metrics.escapes import csv_cell, latex, latex_start, markdown
from oshp_bench.metrics.figures import CLASS_ACCURACY, FIGURES, HEADLINE, IOU, SHAPE_FIGURES, full_name, parse_figure
from oshp_bench.metrics.intervals import Difference
from oshp_bench.metrics.parts import PART_SIZES
from oshp_bench.metrics.result import Figure, Result
from oshp_bench.metrics.result_file import AnyResult
from oshp_bench.metrics.runs import holm

# Marks a p-value that says otherwise than its interval.
_DISAGREE = "†"


@dataclass(frozen=True)
class Table:
    """A table of text. The first column is left-aligned, the others right-aligned; the note stands below."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def result_tables(result: Result) -> Iterator[Table]:
    """The tables of a result: figures, then IoU by class, in percent with intervals."""
    figures = result.figures
    ways = [way for way in WAYS if FIGURES["human_miou"].full_name(way) in figures]
    header = tuple(cell for way in ways for cell in (way_name(way), _level(result)))
    rows = [
        (kind.label, *(cell for way in ways for cell in _cells(figures.get(kind.full_name(way)))))
        for kind in FIGURES.values()
        if any(kind.full_name(way) in figures for way in ways)
    ]
    yield Table(_title(result), ("%", *header), tuple(rows))
    rows = [
        (
            oshp_class.name,
            oshp_class.role,
            *(cell for way in ways for cell in _cells(figures.get(IOU.full_name(way, oshp_class.id)))),
        )
        for oshp_class in result.manifest.classes
    ]
    yield Table("IoU by class", ("%", "role", *header), tuple(rows))


def shape_tables(result: Result) -> Iterator[Table]:
    """The tables of boundaries and parts, if they were counted: means, then classes, in percent with intervals."""
    shapes = result.matrices.shapes
    classes = [(each.name, each.role, each.id) for each in result.manifest.classes if each.role != "background"]
    if shapes.boundary:
        title = (
            f"Boundary IoU in bands of {100 * shapes.boundary:g} % of the diagonal, and the share of a class that its"
            " band covers"
        )
        of_class = ("boundary_iou", "band_share")
        means = [kind for kind in SHAPE_FIGURES.values() if kind.name.endswith("_miou") or "_miou_" in kind.name]
        rows = [(kind.label.replace(" boundary", ""), "", None, (kind.name, "")) for kind in means]
        yield _shape_table(
            result, title, shapes.ratio, ("IoU", "covered"), [*rows, *((*about, of_class) for about in classes)]
        )
    if shapes.parts:
        title = f"Parts of at least {shapes.parts:,} pixels: found ones of the truth, spurious ones of the prediction"
        groups = {"all classes": "", "novel classes": "novel_", **{f"{size} parts": f"{size}_" for size in PART_SIZES}}
        rows = [(label, "", None, (f"{of}found_parts", f"{of}spurious_parts")) for label, of in groups.items()]
        of_class = ("class_found_parts", "class_spurious_parts")
        yield _shape_table(
            result, title, str(shapes.parts), ("found", "spurious"), [*rows, *((*about, of_class) for about in classes)]
        )


def _shape_table(
    result: Result,
    title: str,
    setting: str,
    columns: tuple[str, str],
    rows: Sequence[tuple[str, str, int | None, tuple[str, str]]],
) -> Table:
    """A table of figures with a setting.

    Args:
        rows: label, role, class id (None for several classes), and the names of both columns' figures.
    """
    ways = [way for way in WAYS if result.matrices.of(way) is not None]
    header = (cell for way in ways for column in columns for cell in (f"{way_name(way)} {column}", _level(result)))
    return Table(
        title,
        ("%", "role", *header),
        tuple(
            (
                label,
                role,
                *(
                    cell
                    for way in ways
                    for name in names
                    for cell in _cells(result.figures.get(full_name(way, f"{name}@{setting}", class_id)))
                ),
            )
            for label, role, class_id, names in rows
        ),
    )


def diagnosis_tables(result: Result) -> Iterator[Table]:
    """The tables of a result's diagnosis."""
    found = result.diagnosis
    if "kway" in found:
        yield bias_table(result)
    yield from (size_table(result, way) for way in WAYS if way_key(way) in found)
    if "kway" in found and found["kway"]["similar_parts"]:
        yield similar_table(result)
    if "1way" in found:
        yield foreground_table(result)


def bias_table(result: Result) -> Table:
    """What pixels of novel and base classes are predicted as in k-way."""
    bias = result.diagnosis["kway"]["testing_bias"]
    parts = ("right", "other", "base or novel", "background", "removed label")
    rows = tuple(
        (f"{role} pixels", *(_percent(share) for share in bias[role]["shares"].values())) for role in ("novel", "base")
    )
    return Table("Testing bias, k-way: where pixels go", ("%", *parts), rows)


def size_table(result: Result, way: str) -> Table:
    """IoU by terciles of the class's area; way is "k" or "1"."""
    sizes = result.diagnosis[way_key(way)]["sizes"]
    rows = (
        ("mean of classes", *(_percent(sizes["mean"][size]) for size in TERCILES)),
        *((row["class"], *(_percent(row[size]) for size in TERCILES)) for row in sizes["classes"]),
    )
    return Table(f"IoU by the class's area in the query, {way_name(way)}", ("%", *TERCILES), rows)


def similar_table(result: Result) -> Table:
    """The classes that are confused most in k-way."""
    parts = result.diagnosis["kway"]["similar_parts"]
    rows = tuple((" / ".join(row["classes"]), _percent(row["share"])) for row in parts)
    return Table("Most confused parts, k-way: pixels of the two that are swapped", ("%", "swapped"), rows)


def foreground_table(result: Result) -> Table:
    """How much of the predicted foreground is wrong in 1-way, and which classes it covers."""
    rows = tuple(
        (
            row["class"],
            _percent(row["share_of_predicted"]),
            ", ".join(f"{name} {_percent(share)}" for name, share in row["lies_on"].items()),
        )
        for row in result.diagnosis["1way"]["false_positives"]
    )
    return Table("Wrong foreground, 1-way", ("%", "of predicted", "lies on"), rows)


def headline_table(results: Sequence[tuple[str, AnyResult]]) -> Table:
    """One row per result, in the form of the paper's Tables 2 to 4, for one fold."""
    figures = [figure for names in HEADLINE.values() for figure in names]
    header = [f"{way} {kind.short}" for way, kind, _ in map(parse_figure, figures)]
    rows = tuple((name, *(_percent(_value(result, figure)) for figure in figures)) for name, result in results)
    return Table("Beside the floor", ("%", *header), rows)


def comparison_table(
    names: tuple[str, str],
    results: tuple[Result, Result],
    differences: Mapping[str, Difference],
) -> Table:
    """Two results and their paired differences with interval, p-value, and the same corrected for many tests."""
    classes = {oshp_class.id: oshp_class.name for oshp_class in results[0].manifest.classes}
    shown = {name: found for name, found in differences.items() if parse_figure(name).kind is not CLASS_ACCURACY}
    p_cells, corrected, note = _tested(list(shown.values()), results[0])
    rows = []
    for (figure, difference), tested in zip(shown.items(), p_cells, strict=True):
        way, kind, class_id = parse_figure(figure)
        label = kind.label if class_id is None else f"{kind.label} {classes[class_id]}"
        rows.append(
            (
                f"{way_name(way)} {label}",
                *(_percent(_value(result, figure)) for result in results),
                _percent(difference.value, sign=True),
                _interval(difference.low, difference.high, sign=True),
                *tested,
            )
        )
    header = ("%", *names, "difference", _level(results[0]), "p", "p, Holm")
    title = f"Paired difference, second minus first, over {len(results[0].pairs.queries)} queries; {corrected}"
    return Table(title, header, tuple(rows), note)


def _tested(differences: Sequence[Difference], result: Result) -> tuple[list[tuple[str, str]], str, str]:
    """The p-value of every difference of a table, and the same corrected by Holm; words for its title, and its note."""
    p_values = [found.p_value for found in differences if found.p_value is not None]
    corrected = iter(holm(p_values))
    marks = [_DISAGREE * disagrees(found, result.resampling.level) for found in differences]
    cells = [
        ("-", "-") if found.p_value is None else (f"{found.p_value:.4f}{mark}", f"{next(corrected):.4f}")
        for found, mark in zip(differences, marks, strict=True)
    ]
    note = (
        f"{_DISAGREE} interval and p disagree about 0: one resamples queries, the other swaps the two answers to a"
        " query; read such a difference as undecided"
    )
    return cells, f"p, Holm: corrected for {len(p_values)} tests", note if any(marks) else ""


def disagrees(difference: Difference, level: float) -> bool:
    """Whether the interval excludes 0 although the p-value is too large for its level, or the reverse."""
    if difference.low is None or difference.high is None or difference.p_value is None:
        return False
    excluded = difference.low > 0 or difference.high < 0
    return excluded != (difference.p_value < 1 - level)


def against_first_table(sets: Sequence[tuple[str, Result]], differences: Sequence[Mapping[str, Difference]]) -> Table:
    """The headline figures of more than two results, with their differences to the first.

    Args:
        differences: of each result after the first.
    """
    (_, first), *others = sets
    shown = [name for names in HEADLINE.values() for name in names if any(name in of_set for of_set in differences)]
    found = [of_set[name] for name in shown for of_set in differences if name in of_set]
    p_cells, corrected, note = _tested(found, first)
    tested = iter(p_cells)
    rows = []
    for figure in shown:
        way, kind, _ = parse_figure(figure)
        rows.append((f"{way_name(way)} {kind.label}", sets[0][0], _percent(_value(first, figure)), "", "", "", ""))
        for (name, result), of_set in zip(others, differences, strict=True):
            if figure in of_set:
                change = of_set[figure]
                ends = _interval(change.low, change.high, sign=True)
                value, moved = _percent(_value(result, figure)), _percent(change.value, sign=True)
                rows.append(("", name, value, moved, ends, *next(tested)))
    header = ("%", "set", "value", "difference", _level(first), "p", "p, Holm")
    title = f"Paired differences to the first, over {len(first.pairs.queries)} queries; {corrected}"
    return Table(title, header, tuple(rows), note)


def as_text(table: Table) -> str:
    """A table for a terminal."""
    widths = [max(map(len, column)) for column in zip(table.header, *table.rows, strict=True)]
    lines = [table.title]
    for row in (table.header, *table.rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    lines.insert(2, "-" * max(map(len, lines[1:])))
    return "\n".join([*lines, *filter(None, (table.note,))]) + "\n"


def as_markdown(table: Table) -> str:
    """A table in GitHub's Markdown."""
    lines = ["| " + " | ".join(map(markdown, row)) + " |" for row in (table.header, *table.rows)]
    lines.insert(1, "|---|" + "---:|" * (len(table.header) - 1))
    note = f"\n{markdown(table.note)}\n" if table.note else ""
    return f"**{markdown(table.title)}**\n\n" + "\n".join(lines) + "\n" + note


def as_latex(table: Table) -> str:
    """A table for LaTeX. It needs the package booktabs."""
    rows = [" & ".join((latex_start(row[0]), *map(latex, row[1:]))) + r" \\" for row in (table.header, *table.rows)]
    body = [rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}", r"\toprule", rows[0], r"\midrule", *rows[1:]]
    notes = [f"% {text}" for text in (table.title, table.note) if text]
    return "\n".join([*notes, *body, r"\bottomrule", r"\end{tabular}"]) + "\n"


RENDERERS: dict[str, Callable[[Table], str]] = {"table": as_text, "markdown": as_markdown, "latex": as_latex}


def figures_csv(results: Sequence[tuple[str, AnyResult]], differences: Sequence[Mapping[str, Difference]] = ()) -> str:
    """CSV with one row per figure of every result, fractions with full precision, for spreadsheets and pandas.

    Args:
        differences: of the second result to the first, the third to the first and so on. They are rows, too, with a
            last column p_value.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = ("predictions", "manifest", "version", "convention", "figure", "class", "role", "value", "low", "high")
    writer.writerow((*columns, "p_value") if differences else columns)
    shown: list[tuple[str, AnyResult, Mapping[str, Figure | Difference]]]
    shown = [(name, result, result.figures) for name, result in results]
    for (name, result), of_set in zip(results[1:], differences, strict=False):
        shown.append((f"{name} minus {results[0][0]}", result, of_set))
    for name, result, figures in shown:
        about = {
            str(oshp_class.id): (csv_cell(oshp_class.name), oshp_class.role) for oshp_class in result.manifest.classes
        }
        head = (csv_cell(name), result.manifest.name, result.manifest.version, result.convention)
        for figure_name, figure in figures.items():
            class_id = str(parse_figure(figure_name).class_id)
            numbers = [figure.value, figure.low, figure.high]
            if differences:
                numbers.append(figure.p_value if isinstance(figure, Difference) else None)
            values = ("" if number is None else repr(number) for number in numbers)
            writer.writerow((*head, figure_name, *about.get(class_id, ("", "")), *values))
    return buffer.getvalue()


def _title(result: Result) -> str:
    return (
        f"{result.manifest.name} {result.manifest.version}: {len(result.pairs)} pairs, {len(result.pairs.queries)}"
        f" queries, convention {result.convention}"
    )


def _level(result: Result) -> str:
    return f"{100 * result.resampling.level:g} % interval"


def _value(result: AnyResult, full_name: str) -> float | None:
    figure = result.figures.get(full_name)
    return figure.value if figure else None


def _cells(figure: Figure | None) -> tuple[str, str]:
    return (_percent(figure.value), _interval(figure.low, figure.high)) if figure else ("", "")


def _percent(value: float | None, *, sign: bool = False) -> str:
    return "-" if value is None else f"{100 * value:+.2f}" if sign else f"{100 * value:.2f}"


def _interval(low: float | None, high: float | None, *, sign: bool = False) -> str:
    return "" if low is None or high is None else f"[{_percent(low, sign=sign)}, {_percent(high, sign=sign)}]"
