"""The board's tables as Markdown, LaTeX and CSV: the same figures, and nothing of a stranger's that does harm."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from board_cases import CARD, FIGURES, document, entries_of

from oshp_bench.leaderboard.standings import Cell, PairedTest, Row, Standing, standings
from oshp_bench.leaderboard.tables import caption, csv_table, latex_tables, markdown_tables, notes, p_text, value_text
from oshp_bench.metrics.intervals import Difference

HOSTILE = [
    '=HYPERLINK("http://example.org", "click")',
    "+1+1",
    "-2|3",
    "@SUM(A1)",
    "<script>alert(1)</script>",
    "[link](javascript:alert(1))",
    "a_b & 100% of $x$ #1 {y} ~z ^2 \\input{/etc/passwd}",
    "[10pt] *star* `code`",
    "שלום",
]


def tables_of(folder: Path, names: list[str]) -> tuple[Standing, ...]:
    documents = [
        document({**CARD, "name": name, "authors": name}, fold=fold, figure=0.1 + 0.05 * fold)
        for name in names
        for fold in (1, 2)
    ]
    return standings(entries_of(folder, *documents), {}, published=False)


def test_markdown_shows_what_was_typed_and_no_more(tmp_path: Path) -> None:
    kway, _ = tables_of(tmp_path, HOSTILE)
    lines = markdown_tables([kway]).splitlines()
    body = [line for line in lines if line.startswith("| ")][1:]
    assert len(body) == len(HOSTILE)
    # A bar that is not escaped would make another column.
    assert {line.replace("\\|", "").count("|") for line in body} == {11}
    assert {line.split(" | ")[0].removeprefix("| ") for line in body} >= {
        r"\<script\>alert(1)\</script\>",
        r"\[link\](javascript:alert(1))",
        r"-2\|3",
    }
    assert "15.00 [14.00, 16.00] | 20.00 [19.00, 21.00] | 17.50 |" in body[0]


def test_latex_prints_what_was_typed(tmp_path: Path) -> None:
    kway, _ = tables_of(tmp_path, HOSTILE)
    rows = [line for line in latex_tables([kway]).splitlines() if line.startswith("{}")]
    assert len(rows) == len(HOSTILE)
    assert all(row.endswith(r" \\") and row.count(" & ") == 9 for row in (row.replace(r" \& ", "") for row in rows))
    (hardest,) = (row.split(" & ")[0] for row in rows if "passwd" in row)
    assert r"a\_b \& 100\% of \$x\$ \#1 \{y\} \textasciitilde{}z \textasciicircum{}2 \textbackslash{}input\{" in next(
        row for row in rows if "passwd" in row
    )
    assert hardest.startswith(r"{}a\_b")
    assert any(row.startswith("{}[10pt]") for row in rows)


def test_no_cell_of_the_csv_is_a_formula(tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_table(tables_of(tmp_path, HOSTILE)))))
    assert len(rows) == 2 * len(HOSTILE)
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert {row["method"] for row in rows} >= {'\'=HYPERLINK("http://example.org", "click")', "'+1+1", "'-2|3", "שלום"}
    assert rows[0]["authors"] == rows[0]["method"]


def test_csv_holds_every_figure_with_full_precision(tmp_path: Path) -> None:
    values = {name: (number + 1) / 7 for number, name in enumerate(FIGURES)}
    documents = [document("a", values, fold=1), document("a", values, fold=2)]
    kway, oneway = csv.DictReader(
        io.StringIO(csv_table(standings(entries_of(tmp_path, *documents), {}, published=False)))
    )
    assert float(kway["novel_miou fold 1"]) == 1 / 7
    assert float(kway["overall_accuracy Ave"]) == 3 / 7
    assert float(oneway["bi_miou fold 1 high"]) == 6 / 7 + 0.01
    assert (kway["bi_miou fold 1"], oneway["overall_accuracy Ave"]) == ("", "")
    assert (kway["way"], oneway["way"], kway["kind"]) == ("k-way", "1-way", "entry")


def test_intervals_can_be_left_out(tmp_path: Path) -> None:
    tables = tables_of(tmp_path, ["a"])
    for render in (markdown_tables, latex_tables):
        assert "[" in render(tables)
        assert "[14" not in render(tables, intervals=False)
    assert "novel_miou fold 1 low" not in csv_table(tables, intervals=False)


def test_published_figures_stand_as_printed_and_corrected_ones_with_a_mark() -> None:
    (oneway,) = (table for table in standings((), {}) if (table.dataset, table.way) == ("atr", "1"))
    markdown, latex = markdown_tables([oneway]), latex_tables([oneway])
    assert "| POPNet (published) | 40.3 | 26.7 | 33.5† | 58.4 | 66.9 | 62.65† | - | - | 69.8 |" in markdown
    assert (
        r"{}POPNet (published) & 40.3 & 26.7 & 33.5$^\dagger$ & 58.4 & 66.9 & 62.65$^\dagger$ & - & - & 69.8 \\"
        in latex
    )
    assert "† PerSAM, C_novel mIoU: the paper prints 4.2, the mean of its folds is 6.35" in list(notes(oneway))
    assert "as printed in He et al., End-to-end One-shot Human Parsing, TPAMI 2023, Table 2" in markdown
    (row,) = (row for row in csv.DictReader(io.StringIO(csv_table([oneway]))) if row["method"] == "PerSAM")
    assert (row["novel_miou Ave"], row["printed"]) == ("0.0635", "novel_miou 0.042")


def test_p_values_have_columns_where_something_was_tested() -> None:
    cells: dict[tuple[str, int | None], Cell] = {("kway/novel_miou", 1): Cell(0.5)}
    tests = (PairedTest(1, "above", Difference(-0.1, -0.2, 0.0, 0.0312), 0.0624), PairedTest(2, "above", None))
    rows = (Row("above", "entry", cells), Row("below", "entry", cells, tests=tests))
    test = {1: ("sha256:" + "0" * 64, 5, "")}
    table = Standing("toy", "Toy", "official", "1.0.0", "default", "k", (1, 2), test, True, False, rows)
    line = next(line for line in markdown_tables([table]).splitlines() if line.startswith("| below"))
    assert line.endswith("| 0.0312 (0.0624) | not tested |")
    first, second = csv.DictReader(io.StringIO(csv_table([table])))
    assert first["p fold 1"] == first["p fold 1 Holm"] == ""
    assert (second["p fold 1"], second["p fold 1 Holm"]) == ("0.0312", "0.0624")
    assert any("corrected for the number of tests" in note for note in notes(table))


@pytest.mark.parametrize(
    ("kind", "cell", "text"),
    [
        ("entry", None, "-"),
        ("entry", Cell(0.12345), "12.35"),
        ("floor", Cell(0.0), "0.00"),
        ("published", Cell(0.53), "53.0"),
        ("published", Cell(0.0635, printed=0.042), "6.35†"),
    ],
)
def test_how_a_figure_is_written(kind: str, cell: Cell | None, text: str) -> None:
    assert value_text(Row("a", kind, {}), cell) == text


def test_a_caption_names_what_tells_tables_apart(tmp_path: Path) -> None:
    (kway, _) = tables_of(tmp_path, ["a"])
    assert caption(kway) == (
        "toy, k-way: official pairs, version 1.0.0 (test 000000000000, 000000000000), convention default,"
        " 30 pairs a fold"
    )
    assert p_text(None) == ""
