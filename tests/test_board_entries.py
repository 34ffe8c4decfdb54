"""Result files of unknown origin are read strictly, and all that is wrong with them is said at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from board_cases import CARD, document, write

from oshp_bench.errors import OshpError
from oshp_bench.leaderboard.entries import load_entries
from oshp_bench.metrics.result_file import load_result

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def problems(*paths: Path) -> list[str]:
    with pytest.raises(OshpError) as caught:
        load_entries(paths)
    assert all(line.isprintable() for line in caught.value.problems)
    return list(caught.value.problems)


def test_the_projects_own_results_are_entries() -> None:
    entries, notes = load_entries([RESULTS / "ccp"])
    floor = [entry for entry in entries if entry.is_floor]
    assert {(entry.name, entry.manifest.name) for entry in floor} >= {
        (method, f"ccp_fold{fold}{rule}")
        for method in ("background", "class-prior", "copy-support")
        for fold in (1, 2)
        for rule in ("", "_balanced")
    }
    assert notes == ()
    (one,) = (entry for entry in floor if (entry.name, entry.manifest.name) == ("copy-support", "ccp_fold1"))
    assert one.ways == ("k", "1")
    assert one.result.figures["kway/novel_miou"].value == pytest.approx(0.2197, abs=5e-5)
    assert (one.fold, one.manifest.protocol, one.manifest.pairs, one.manifest.queries) == (1, "official", 1650, 110)
    assert not one.result.missing


def test_a_card_says_whose_a_result_is(tmp_path: Path) -> None:
    write(tmp_path / "a.json", document(CARD))
    write(tmp_path / "b.json", document("named"))
    write(tmp_path / "c.json", {**document(None), "predictions": {**document()["predictions"], "method": "old"}})
    write(tmp_path / "folder name" / "d.json", document(None, predictions={"method": ""}))
    carded, named, old, nameless = load_entries([tmp_path])[0]
    assert carded.card is not None
    assert (carded.name, carded.card.backbone) == ("by hand", "ResNet-50")
    assert (named.name, named.card) == ("named", None)
    assert old.name == "old"
    assert nameless.name == "folder name"
    assert len({entry.identity for entry in (carded, named, old, nameless)}) == 4


def test_a_floor_method_with_a_card_is_somebodys_own(tmp_path: Path) -> None:
    write(tmp_path / "a.json", document("background"))
    write(tmp_path / "b.json", document({**CARD, "name": "background"}))
    assert [entry.is_floor for entry in load_entries([tmp_path])[0]] == [True, False]


def test_only_results_are_taken_from_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "result.json", document())
    write(tmp_path / ".hidden" / "result.json", document("hidden"))
    (tmp_path / "comparison.json").write_text('{"format": "oshp-comparison/1"}')
    (tmp_path / "predictions.json").write_text('{"format": "oshp-predictions/1"}')
    (tmp_path / "matrices.npz").touch()
    (only,) = load_entries([tmp_path, tmp_path / "result.json"])[0]
    assert only.result.path == tmp_path / "result.json"
    assert only.matrices == tmp_path / "matrices.npz"


def test_matrices_lie_beside_a_result_under_its_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.json", document(name))
    (tmp_path / "b.npz").touch()
    (tmp_path / "matrices.npz").touch()
    assert [entry.matrices for entry in load_entries([tmp_path])[0]] == [None, tmp_path / "b.npz"]


def test_the_same_result_is_shown_once_and_reported(tmp_path: Path) -> None:
    first = write(tmp_path / "a.json", document())
    write(tmp_path / "b.json", document())
    entries, notes = load_entries([tmp_path])
    assert [entry.result.path for entry in entries] == [first]
    assert notes == (f"{tmp_path / 'b.json'}: the same result as {first}; it is shown once",)


def test_of_two_copies_the_one_with_matrices_is_taken(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / f"{name}.json", document())
    (tmp_path / "b.npz").touch()
    (entry,), notes = load_entries([tmp_path])
    assert entry.matrices == tmp_path / "b.npz"
    assert len(notes) == 2


def test_every_problem_of_every_file_is_said(tmp_path: Path) -> None:
    edited = write(tmp_path / "edited.json", document())
    edited.write_text(edited.read_text().replace("0.25", "0.99"))
    write(tmp_path / "future.json", {**document(), "format": "oshp-result/2"})
    write(tmp_path / "good.json", document("good"))
    write(tmp_path / "long.json", document("x" * 10_000))
    write(tmp_path / "marks.json", document("left \u202e right"))
    (tmp_path / "cut.json").write_text("{")
    (tmp_path / "other.json").write_text("[]")
    write(tmp_path / "strange.json", document(options={"convention": "mine"}, manifest={"dataset": "../etc"}))
    write(tmp_path / "nothing.json", document("nothing", {"kway/mean_accuracy": 0.5}))
    found = problems(tmp_path, tmp_path / "gone.json", tmp_path / "good.json")
    starts = [
        "cut.json: not valid JSON",
        "edited.json: the digest does not match the content",
        "future.json: is 'oshp-result/2', but this version reads oshp-result/1",
        "long.json: method: name has 10,000 characters; at most 100 are allowed",
        "marks.json: method: name holds U+202E, which cannot be printed",
        "nothing.json: has none of the figures that a board shows",
        "other.json: not a result",
        "strange.json: options: convention 'mine' is unknown to this version",
        "strange.json: manifest: dataset '../etc' is malformed",
        "gone.json: cannot be read",
    ]
    assert [line[: len(f"{tmp_path}/{start}")] for line, start in zip(found, starts, strict=True)] == [
        f"{tmp_path}/{start}" for start in starts
    ]


def test_a_folder_without_results_is_no_empty_board(tmp_path: Path) -> None:
    assert problems(tmp_path) == [
        f"{tmp_path}: contains no .json file; give result files or folders of them (oshp-score --out)"
    ]


def test_results_are_missed_where_there_are_none(tmp_path: Path) -> None:
    (tmp_path / "comparison.json").write_text('{"format": "oshp-comparison/1"}')
    assert problems(tmp_path) == [f"{tmp_path}: no results there; oshp-score --out writes result.json"]


def test_a_tool_that_is_not_ours_wrote_no_result(tmp_path: Path) -> None:
    write(tmp_path / "a.json", {**document(), "tool": "<b>mine</b>"})
    assert problems(tmp_path) == [f"{tmp_path / 'a.json'}: tool '<b>mine</b>' is malformed"]


@pytest.mark.parametrize(
    ("table", "member", "value", "what"),
    [
        ("manifest", "test_digest", "sha256:1", "test_digest 'sha256:1' is malformed"),
        ("manifest", "fold", 0, "fold is 0, not a number from 1 to 99"),
        ("manifest", "name", "<b>", "name '<b>' is malformed"),
        ("manifest", "version", "1.0", "version '1.0' is malformed"),
        ("predictions", "digest", 7, "digest is 7, not a text"),
        ("options", "level", 95, "level is 95, not between 0 and 1"),
        ("figures", "kway/later", {"value": 2, "low": None, "high": None}, "value is 2, not a fraction from 0 to 1"),
        ("predictions", "missing", {"k": "0001"}, "k is '0001', not a list of texts"),
    ],
)
def test_members_that_a_board_needs_are_checked(
    tmp_path: Path, table: str, member: str, value: object, what: str
) -> None:
    content = document()
    content[table][member] = value
    write(tmp_path / "a.json", content)
    (line,) = problems(tmp_path)
    assert line.endswith(what)


def test_numbers_of_a_result_are_those_of_its_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", document(figure=1 / 3))
    assert (
        load_entries([path])[0][0].result.figures["1way/bi_miou"].value
        == json.loads(path.read_text())["figures"]["1way/bi_miou"]["value"]
    )


def test_what_nobody_asked_for_does_no_harm(tmp_path: Path) -> None:
    content = document(None, predictions={"method": ""})
    content["figures"]["kway/novel_miou"] = {"value": 1, "low": 0, "high": 1, "note": "more"}
    content["figures"]["kway/of_a_later_version"] = {"value": 1, "low": 0, "high": 1}
    write(tmp_path / "from a friend" / "a.json", content)
    (entry,) = load_entries([tmp_path])[0]
    assert (entry.name, entry.result.figures["kway/novel_miou"].value) == ("from a friend", 1)
    assert "kway/of_a_later_version" not in load_result(entry.result.path).figures
