"""Class names that are commands in Markdown, LaTeX, CSV or on a Codabench page stay names there."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from metrics_cases import matrices_of, small_manifest
from slow_scorer import SlowPair

from oshp_bench.leaderboard.codabench import Competition, _pages
from oshp_bench.manifest import OshpClass
from oshp_bench.metrics import Resampling, Result, score_matrices
from oshp_bench.metrics.escapes import csv_cell, latex, latex_start, markdown
from oshp_bench.metrics.result import per_pair_csv
from oshp_bench.report.tables import RENDERERS, figures_csv, result_tables

NAMES = ("=1+1", "[1cm]", "*", "a|b_c", "-cmd", "@SUM", "+x", "<img src=x>", "[a](javascript:x)", r"\input{x}")


@pytest.fixture(scope="module")
def result() -> Result:
    roles = {0: "background"} | dict.fromkeys(range(1, len(NAMES) + 1), "novel")
    pairs = [SlowPair("q", number, frozenset(roles) - {0}, frozenset()) for number in roles if number]
    manifest = small_manifest(roles, len(roles), pairs)
    classes = tuple(OshpClass(number, name, "novel") for number, name in enumerate(NAMES, 1))
    manifest = replace(manifest, classes=(manifest.classes[0], *classes))
    truth = np.arange(len(roles), dtype=np.uint8)[None]
    matrices = matrices_of(manifest, pairs, {"q": truth}, [truth] * len(pairs), None)
    return score_matrices(manifest, matrices, resampling=Resampling(0))


def test_csv_cells_are_no_formulas_and_numbers_stay_numbers(result: Result) -> None:
    for text in (per_pair_csv(result), figures_csv([("=preds", result)])):
        for row in csv.reader(io.StringIO(text)):
            for cell in row:
                assert not cell.startswith(("=", "+", "-", "@"))
    assert [csv_cell(text) for text in ("-0.5", "+1e-3", "1", "", "-x")] == ["-0.5", "+1e-3", "1", "", "'-x"]


def test_latex_rows_begin_with_no_option_of_the_row_before(result: Result) -> None:
    lines = "".join(map(RENDERERS["latex"], result_tables(result))).splitlines()
    assert not [line for line in lines if line.lstrip().startswith(("[", "*"))]
    assert any(line.startswith("{}[1cm] & ") for line in lines)
    assert any(line.startswith(r"\textbackslash{}input\{x\} & ") for line in lines)
    assert (latex_start("hat"), latex_start(" *"), latex("a_b")) == ("hat", "{} *", r"a\_b")


def test_markdown_shows_names_as_they_are(result: Result) -> None:
    text = "".join(map(RENDERERS["markdown"], result_tables(result)))
    assert r"| a\|b\_c |" in text
    assert r"| \<img src=x\> |" in text
    assert r"| \[a\](javascript:x) |" in text
    assert "\n| \\* |" in text
    assert [markdown(text) for text in ("12.34", "[1.00, +2.00]", "a\nb", "[x]")] == [
        "12.34",
        "[1.00, +2.00]",
        "a b",
        r"\[x\]",
    ]


def test_a_codabench_page_shows_names_as_they_are(result: Result) -> None:
    competition = Competition("title", "2026-01-01 00:00:00", "2026-12-31 00:00:00", "image")
    page = _pages(competition, [result.manifest])["overview.md"].decode()
    assert r"\<img src=x\>" in page
    assert r"\[a\](javascript:x)" in page
