"""What compares stands together, nothing else does; averages and order are those that a reader computes by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from board_cases import CARD, document, entries_of, on, write
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oshp_bench.episodes.episodes import WAYS
from oshp_bench.errors import OshpError
from oshp_bench.leaderboard.board_cli import main
from oshp_bench.leaderboard.entries import Entry, load_entries
from oshp_bench.leaderboard.not_run import load_not_run
from oshp_bench.leaderboard.standings import Standing, known_manifests, standings
from oshp_bench.leaderboard.tables import markdown_tables

NOVEL = "kway/novel_miou"


def tables_of(entries: tuple[Entry, ...], *, published: bool = False) -> tuple[Standing, ...]:
    return standings(entries, known_manifests(entries, ()), published=published)


def kway(entries: tuple[Entry, ...]) -> Standing:
    (table,) = (table for table in tables_of(entries) if table.way == "k")
    return table


def test_the_average_is_the_mean_of_all_folds_and_only_that(tmp_path: Path) -> None:
    # Two folds are on the table, so a method with one of them has no average.
    both = [document(CARD, fold=1, figure=0.2), document(CARD, fold=2, figure=0.5)]
    one, two = kway(entries_of(tmp_path, *both, document("one", fold=1, figure=0.9))).rows
    assert (one.name, two.name) == ("by hand", "one")
    assert one.cells[NOVEL, None].value == pytest.approx(0.35)
    assert (one.cells[NOVEL, 1].value, one.cells[NOVEL, 2].value) == (0.2, 0.5)
    assert one.cells[NOVEL, 1].low == pytest.approx(0.19)
    assert one.cells[NOVEL, 1].high == pytest.approx(0.21)
    assert (one.cells[NOVEL, None].low, one.cells[NOVEL, None].high) == (None, None)
    assert (NOVEL, None) not in two.cells


def test_a_known_dataset_keeps_the_folds_that_nobody_has_scored(tmp_path: Path) -> None:
    table = kway(entries_of(tmp_path, document(manifest=on("ccp_fold1"))))
    (row,) = table.rows
    assert table.folds == (1, 2)
    assert [fold for name, fold in row.cells if name == NOVEL] == [1]


def test_rows_are_in_order_of_the_average_then_of_folds(tmp_path: Path) -> None:
    figures = {"a": (0.1, 0.5), "b": (0.4, 0.3), "c": (0.9, None), "d": (None, 0.95), "e": (0.8, None)}
    documents = [
        document(name, fold=fold, figure=value)
        for name, values in figures.items()
        for fold, value in enumerate(values, 1)
        if value is not None
    ]
    assert [row.name for row in kway(entries_of(tmp_path, *documents)).rows] == ["b", "a", "c", "e", "d"]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(12)))
def test_the_order_of_the_files_does_not_matter(tmp_path: Path, order: list[int]) -> None:
    variants: list[dict[str, Any]] = [
        document(name, fold=fold, manifest={"version": version})
        for name in ("a", "b", "c")
        for fold in (1, 2)
        for version in ("1.0.0", "1.0.1")
    ]
    entries = entries_of(tmp_path / "same", *variants)
    assert tables_of(tuple(entries[i] for i in order)) == tables_of(entries)


@pytest.mark.parametrize(
    "other",
    [
        {"manifest": {"version": "1.1.0"}},
        {"manifest": {"test_digest": "sha256:" + "f" * 64}},
        {"manifest": {"pairs": 29}},
        {"manifest": {"protocol": "balanced"}},
        {"manifest": {"dataset": "other"}},
        {"options": {"convention": "official-2023"}},
    ],
)
def test_what_does_not_compare_stands_apart(tmp_path: Path, other: dict[str, Any]) -> None:
    tables = tables_of(entries_of(tmp_path, document("here"), document("there", **other)))
    assert sorted(([row.name for row in table.rows], table.way) for table in tables) == [
        (["here"], "1"),
        (["here"], "k"),
        (["there"], "1"),
        (["there"], "k"),
    ]
    assert len({table.key for table in tables}) == 4


def test_the_shipped_test_pairs_have_the_name_and_others_stand_apart(tmp_path: Path) -> None:
    changed = {**on("ccp_fold1"), "test_digest": "sha256:" + "a" * 64}
    entries = entries_of(tmp_path, document("forged", manifest=changed), document("true", manifest=on("ccp_fold1")))
    true, forged = (table for table in tables_of(entries) if table.way == "k")
    assert [(table.rows[0].name, table.known, table.apart) for table in (true, forged)] == [
        ("true", True, False),
        ("forged", False, True),
    ]


@pytest.mark.parametrize("member", [{"pairs": 240}, {"protocol": "balanced"}, {"fold": 2}, {"version": "1.0.1"}])
def test_a_score_that_is_not_what_it_says_is_on_no_known_test(tmp_path: Path, member: dict[str, Any]) -> None:
    """Such as one of the validation pairs: the test digest is the manifest's all the same."""
    table, _ = tables_of(entries_of(tmp_path, document(manifest={**on("ccp_fold1"), **member})))
    assert not table.known


def test_of_two_unknown_tests_of_one_name_the_busier_one_keeps_its_folds_together(tmp_path: Path) -> None:
    rare = {"test_digest": "sha256:" + "b" * 64}
    documents = [document(name, fold=fold) for name in ("a", "b") for fold in (1, 2)]
    tables = tables_of(entries_of(tmp_path, *documents, *(document("c", fold=f, manifest=rare) for f in (1, 2))))
    shown = [([row.name for row in table.rows], sorted(table.tests)) for table in tables if table.way == "k"]
    assert sorted(shown) == [(["a", "b"], [1, 2]), (["c"], [1]), (["c"], [2])]


def test_a_way_that_was_not_scored_has_no_table(tmp_path: Path) -> None:
    values = {"kway/novel_miou": 0.1, "kway/human_miou": 0.2, "kway/overall_accuracy": 0.3}
    (table,) = tables_of(entries_of(tmp_path, document("a", values)))
    assert table.way == "k"


def test_a_figure_without_anything_to_count_is_no_zero(tmp_path: Path) -> None:
    (row,) = kway(entries_of(tmp_path, document("a", {NOVEL: None, "kway/human_miou": 0.2}))).rows
    assert list(row.cells) == [("kway/human_miou", 1)]


def test_two_results_of_one_method_on_one_fold_are_both_shown_and_said(tmp_path: Path) -> None:
    documents = [document("a", fold=1, figure=value) for value in (0.3, 0.4)]
    rows = kway(entries_of(tmp_path, *documents, document("a", fold=2, figure=0.9))).rows
    # Nobody knows which of the two goes with fold 2, so there is no average.
    assert len(rows) == 3
    assert all((NOVEL, None) not in row.cells for row in rows)
    assert all(row.remarks == ("one of 3 rows of this name",) for row in rows)


def test_methods_of_one_name_with_different_cards_are_not_mixed(tmp_path: Path) -> None:
    other = {**CARD, "authors": "Somebody Else"}
    rows = kway(entries_of(tmp_path, document(CARD, fold=1), document(other, fold=2))).rows
    assert [sorted(row.entries) for row in rows] == [[1], [2]]
    assert [row.namesakes for row in rows] == [2, 2]


def test_two_peoples_methods_of_one_name_share_no_average_without_cards(tmp_path: Path) -> None:
    results = (
        ("ada/fold1/result.json", "eopnet", 1),
        ("ada/fold2/result.json", "eopnet", 2),
        ("ben/fold1/result.json", "mine", 1),
        ("cleo/fold2/result.json", "mine", 2),
        ("dora/floor1.json", "class-prior", 1),
        ("emil/floor2.json", "class-prior", 2),
        ("emil/a.json", "theirs", 1),
        ("emil/b.json", "theirs", 2),
        ("floor/c.json", "theirs", 2),
    )
    for number, (path, method, fold) in enumerate(results):
        write(tmp_path / path, document(method, fold=fold, figure=number / 10))
    rows = kway(load_entries([tmp_path])[0]).rows
    assert sorted((row.name, sorted(row.entries), (NOVEL, None) in row.cells) for row in rows) == [
        ("class-prior", [1, 2], True),
        ("eopnet", [1, 2], True),
        ("mine", [1], False),
        ("mine", [2], False),
        ("theirs", [1, 2], True),
        ("theirs", [2], False),
    ]


def test_one_fold_of_an_own_dataset_has_no_average(tmp_path: Path) -> None:
    (row,) = kway(entries_of(tmp_path, document(CARD, fold=1))).rows
    assert (NOVEL, 1) in row.cells and (NOVEL, None) not in row.cells


def test_what_a_reader_has_to_know_is_said(tmp_path: Path) -> None:
    copied = {"digest": "sha256:" + "c" * 64}
    first = document("a", predictions={**copied, "missing": {"k": ["0001", "0002"]}}, options={"level": 0.9})
    one, two = kway(entries_of(tmp_path, first, document("b", predictions=copied))).rows
    assert one.remarks == (
        "2 predictions are missing and count as background",
        "intervals of 90 %",
        "the same predictions as b",
    )
    assert two.remarks == ("the same predictions as a",)


@pytest.mark.slow
def test_the_paper_stands_beside_results_on_its_test_alone(tmp_path: Path) -> None:
    entries = entries_of(
        tmp_path,
        document("official", manifest=on("atr_fold1")),
        document("balanced", manifest=on("atr_fold1_balanced")),
        document("unknown", manifest={**on("cihp_fold1"), "test_digest": "sha256:" + "d" * 64}),
    )
    tables = tables_of(entries, published=True)
    published = {
        (table.dataset, table.protocol, table.known, table.way): [
            row.name for row in table.rows if row.kind == "published"
        ]
        for table in tables
    }
    nine = sorted(["Fine-tuning", "PerSAM", "PANet", "PPNet", "SG-One", "AMP", "PFENet", "POPNet", "EOP-Net"])
    # Four methods have no k-way figure in the paper.
    only_1way = {"Fine-tuning", "PerSAM", "PPNet", "PFENet"}
    for way in WAYS:
        for dataset in ("atr", "lip", "cihp"):
            assert sorted(published[dataset, "official", True, way]) == (
                nine if way == "1" else sorted({*nine} - only_1way)
            )
        assert published["atr", "balanced", True, way] == []
        assert published["cihp", "official", False, way] == []
    assert [table.dataset for table in tables][::2] == ["atr", "atr", "lip", "cihp", "cihp"]


def test_published_figures_are_the_papers_and_five_averages_are_corrected() -> None:
    tables = {(table.dataset, table.way): table for table in standings((), {})}
    assert set(tables) == {(dataset, way) for dataset in ("atr", "lip", "cihp") for way in ("k", "1")}
    corrected = {
        (dataset, row.name, figure): (cell.printed, cell.value)
        for (dataset, _), table in tables.items()
        for row in table.rows
        for (figure, _), cell in row.cells.items()
        if cell.printed is not None
    }
    assert corrected == {
        ("atr", "PerSAM", "1way/novel_miou"): (0.042, 0.0635),
        ("atr", "POPNet", "1way/novel_miou"): (0.319, 0.335),
        ("atr", "POPNet", "1way/human_miou"): (0.623, 0.6265),
        ("cihp", "Fine-tuning", "1way/human_miou"): (0.093, 0.0715),
        ("cihp", "POPNet", "1way/human_miou"): (0.577, 0.5745),
    }
    best = tables["lip", "k"].rows[0]
    assert (best.name, [cell.value for cell in best.cells.values()]) == (
        "EOP-Net",
        [0.257, 0.304, 0.281, 0.43, 0.457, 0.444, 0.809],
    )


NOT_RUN = {"format": "oshp-not-run/1", "method": "PerSAM", "dataset": "ccp", "protocol": "official", "ways": ["1"]}
NOT_RUN |= {"reason": "no weights at hand"}


def test_a_method_that_was_not_run_is_named_with_the_reason(tmp_path: Path) -> None:
    write(tmp_path / "a.json", document(manifest=on("ccp_fold1")))
    (tmp_path / "not-run.json").write_text(json.dumps(NOT_RUN))
    entries, _ = load_entries([tmp_path])
    missing = load_not_run([tmp_path])
    kway, oneway = standings(entries, known_manifests(entries, ()), published=False, not_run=missing)
    assert [row.name for row in kway.rows] == ["by hand"]
    last = oneway.rows[-1]
    assert (last.name, last.kind, dict(last.cells)) == ("PerSAM", "missing", {})
    text = markdown_tables([oneway])
    assert "| PerSAM (not run) | - | - | - |" in text
    assert "- PerSAM: not run: no weights at hand" in text
    done = CliRunner().invoke(main, ["build", str(tmp_path), "-o", str(tmp_path / "site"), "--no-published"])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "site" / "index.html").read_text()
    assert '<span class="kind">not run</span>' in page and "not run: no weights at hand" in page


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": "oshp-not-run/2"}, 'its "format" is not "oshp-not-run/1"'),
        ({"ways": ["2"]}, "ways holds something other than k, 1"),
        ({"reason": "x" * 201}, "reason is longer than 200 characters"),
        ({"method": "a\u001b"}, "method holds U+001B"),
        ({"more": 1}, "unknown member 'more'"),
    ],
)
def test_a_wrong_list_of_what_was_not_run_is_refused(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    (tmp_path / "not-run.json").write_text(json.dumps({**NOT_RUN, **change}))
    with pytest.raises(OshpError) as refused:
        load_not_run([tmp_path])
    assert any(line.startswith(f"{tmp_path / 'not-run.json'}: {problem}") for line in refused.value.problems)
