"""A submission gives the figures of the predictions that were packed, or the list of what is wrong with it."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from metrics_cases import Bench, make_bench, png, scored
from submission_cases import CARD, card_file, packed, refusal

from oshp_bench.datasets.labels import Spec
from oshp_bench.errors import OshpError
from oshp_bench.files import content_digest, readable_json
from oshp_bench.leaderboard.submissions import SubmissionPart, check, pack
from oshp_bench.metrics import load_matrices, save_matrices, score_matrices
from oshp_bench.metrics.result_file import SavedResult, load_result, save_result
from oshp_bench.version import __version__

CARD_JSON = {**CARD, "code": None, "description": None}


@pytest.fixture(scope="module")
def benches(tiny_spec: Spec, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Bench]:
    """Two folds of four pairs."""
    folder = tmp_path_factory.mktemp("bench")
    return [make_bench(tiny_spec, tiny_root, folder, 4, fold) for fold in (1, 2)]


@pytest.fixture(scope="module")
def folders(benches: list[Bench], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Predictions for both folds; those of the first say by which method."""
    root = tmp_path_factory.mktemp("predictions")
    made = [bench.write(root / str(fold), seed=fold) for fold, bench in enumerate(benches, 1)]
    manifest = benches[0].manifest
    said = {"method": "my method", "manifest": manifest.name, "test_digest": manifest.test_digest}
    (made[0] / "predictions.json").write_text(json.dumps(said))
    return made


@pytest.fixture(scope="module")
def submission(benches: list[Bench], folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(benches, folders, tmp_path_factory.mktemp("submission") / "both.zip")


def tasks(benches: list[Bench], *predictions: Path) -> list[SubmissionPart]:
    return [SubmissionPart(bench.manifest, bench.truth, path) for bench, path in zip(benches, predictions, strict=True)]


def refused(given: list[SubmissionPart], card: Path, out: Path) -> list[str]:
    with pytest.raises(OshpError) as caught:
        pack(given, card, out)
    assert caught.value.exit_code == 2
    assert not list(out.parent.glob(f"*{out.name}*"))
    return list(caught.value.problems)


def test_a_submission_scores_as_what_was_packed(
    benches: list[Bench], folders: list[Path], submission: Path, tmp_path: Path
) -> None:
    check(tasks(benches, submission, submission))
    # A competition's server unpacks it.
    shutil.unpack_archive(submission, tmp_path)
    for bench, folder, name in zip(benches, folders, ("my method", None), strict=True):
        expected = scored(bench, folder).to_json()
        assert expected["method"] == {"name": name}
        for path in (submission, tmp_path):
            found = scored(bench, path).to_json()
            assert found["method"] == CARD_JSON
            assert found.pop("digest") != expected["digest"]
            assert {**found, "method": {"name": name}, "digest": expected["digest"]} == expected


def test_the_zip_is_the_same_everywhere(
    benches: list[Bench], folders: list[Path], submission: Path, tmp_path: Path
) -> None:
    # Whatever the order in which things are given, and from a submission as well as from folders.
    again = packed(benches[::-1], folders[::-1], tmp_path / "again.zip")
    assert again.read_bytes() == submission.read_bytes()
    assert packed(benches, [submission, again], tmp_path / "repacked.zip").read_bytes() == submission.read_bytes()
    pictures = [
        f"tiny_fold{fold}/{way}/000{pair}.png" for fold in (1, 2) for way in ("kway", "1way") for pair in range(4)
    ]
    with zipfile.ZipFile(submission) as archive:
        members = archive.infolist()
        index = json.loads(archive.read("submission.json"))
    assert [each.filename for each in members] == sorted([*pictures, "submission.json", "tiny_fold1/predictions.json"])
    assert {each.date_time for each in members} == {(1980, 1, 1, 0, 0, 0)}
    # Deflate gives other bytes with other builds of zlib.
    assert {each.compress_type for each in members} == {zipfile.ZIP_STORED}
    assert {(each.create_system, each.external_attr >> 16) for each in members} == {(3, 0o100644)}
    manifests = [
        {"name": each.name, "version": "1.0.0", "test_digest": each.test_digest, "ways": ["k", "1"]}
        for each in (bench.manifest for bench in benches)
    ]
    assert index == {
        "format": "oshp-submission/1",
        "method": CARD_JSON,
        "manifests": manifests,
        "made_by": f"oshp-bench {__version__}",
    }


@pytest.mark.parametrize(("way", "other"), [("k", "1"), ("1", "k")])
def test_one_way_alone(
    benches: list[Bench], folders: list[Path], submission: Path, tmp_path: Path, way: str, other: str
) -> None:
    path = packed(benches[:1], folders[:1], tmp_path / "one.zip", way)
    check(tasks(benches[:1], path))
    alone = scored(benches[0], path)
    assert alone.figures == scored(benches[0], folders[0], way).figures
    # The same way of a submission of both.
    assert scored(benches[0], submission, way).to_json() == alone.to_json()
    with pytest.raises(OshpError, match=f"one.zip: holds no tiny_fold1/{other}way/\\*.png"):
        scored(benches[0], path, other)


def test_pack_says_all_that_the_scorer_and_the_card_s_reader_say(
    benches: list[Bench], folders: list[Path], tmp_path: Path
) -> None:
    broken = [Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in folders]
    (broken[0] / "kway" / "0002.png").unlink()
    (broken[0] / "1way" / "0001.png").write_bytes((broken[0] / "kway" / "0001.png").read_bytes()[:-20])
    (broken[1] / "1way" / "notes.txt").write_text("to do")
    scorer: list[str] = []
    for bench, folder in zip(benches, broken, strict=True):
        with pytest.raises(OshpError) as caught:
            scored(bench, folder)
        scorer.extend(caught.value.problems)
    assert len(scorer) == 3
    card = card_file(tmp_path / "method.toml", name="", year=2026)
    found = refused(tasks(benches, *broken), card, tmp_path / "submission.zip")
    assert found == [f"{card}: name is empty; fill it in", f"{card}: unknown member 'year'", *scorer]


def test_labels_that_only_the_official_convention_takes(
    benches: list[Bench], folders: list[Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folders[1], tmp_path / "preds"))
    removed = benches[1].kway(0)
    removed[0, 0] = 6
    (folder / "kway" / "0000.png").write_bytes(png(removed))
    given, card, out = tasks(benches[1:], folder), card_file(tmp_path / "method.toml"), tmp_path / "submission.zip"
    assert "looks like unmerged labels" in refused(given, card, out)[0]
    pack(given, card, out, convention="official-2023")
    check(tasks(benches[1:], out), convention="official-2023")
    assert "looks like unmerged labels" in refusal(out, benches[1])[0]


def test_what_was_there_stays_if_nothing_is_packed(benches: list[Bench], folders: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "submission.zip"
    out.write_bytes(b"before")
    with pytest.raises(OshpError):
        pack(tasks(benches, *folders), tmp_path / "nowhere.toml", out)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("submission.zip", b"before")]


def test_a_manifest_given_twice(benches: list[Bench], folders: list[Path], tmp_path: Path) -> None:
    first, second = tasks(benches, *folders)
    card, out = card_file(tmp_path / "method.toml"), tmp_path / "submission.zip"
    rest = "; a submission has one prediction set per manifest; give it once"
    newer = replace(second, manifest=replace(second.manifest, name="tiny_fold1", version="2.0.0"))
    renamed = replace(first, manifest=replace(first.manifest, name="mine_fold1"))
    for given, problem in (
        ([first, first], "tiny_fold1 1.0.0: has the name or the test pairs of tiny_fold1 1.0.0"),
        ([first, newer], "tiny_fold1 2.0.0: has the name or the test pairs of tiny_fold1 1.0.0"),
        ([first, second, renamed], "mine_fold1 1.0.0: has the name or the test pairs of tiny_fold1 1.0.0"),
    ):
        assert refused(given, card, out) == [problem + rest]


def test_predictions_that_change_while_they_are_packed(
    benches: list[Bench], folders: list[Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folders[1], tmp_path / "preds"))
    (task,) = tasks(benches[1:], folder)

    class Sizes(dict[str, tuple[int, int]]):
        """Asked once a query to read its truth, then for every prediction that is packed."""

        asked = 0

        def __getitem__(self, query: str) -> tuple[int, int]:
            self.asked += 1
            if self.asked == len(task.manifest.pairs.queries) + 1:
                shutil.copy(folder / "kway" / "0000.png", folder / "kway" / "0003.png")
            return super().__getitem__(query)

    racing = replace(task, truth=replace(task.truth, sizes=Sizes(task.truth.sizes)))
    card = card_file(tmp_path / "method.toml")
    assert refused([racing], card, tmp_path / "submission.zip") == [
        f"{folder}: changed while it was being packed; pack it again"
    ]


def test_a_manifest_that_the_submission_is_not_for(
    benches: list[Bench], folders: list[Path], submission: Path, tmp_path: Path
) -> None:
    first, second = benches
    path = packed([second], [folders[1]], tmp_path / "second.zip")
    assert refusal(path, first) == ["holds no predictions for tiny_fold1, only for tiny_fold2"]
    other = replace(
        first, manifest=replace(second.manifest, name="tiny_fold1", version="2.0.0"), truth_file=second.truth_file
    )
    assert refusal(packed([first], [folders[0]], tmp_path / "first.zip"), other) == [
        "holds predictions for tiny_fold1 1.0.0, whose test pairs differ from those of tiny_fold1 2.0.0; give their own"
        " manifest"
    ]
    # A name of one's own for the same test pairs is no other manifest.
    renamed = replace(first, manifest=replace(first.manifest, name="mine_fold1"))
    assert scored(renamed, submission).figures == scored(first, submission).figures


def test_matrices_keep_the_card(benches: list[Bench], submission: Path, tmp_path: Path) -> None:
    bench = benches[0]
    result = scored(bench, submission)
    path = tmp_path / "matrices.npz"
    save_matrices(result.matrices, bench.manifest, "default", path)
    again = score_matrices(bench.manifest, load_matrices(path, bench.manifest)[0], resampling=result.resampling)
    assert again.to_json() == result.to_json()


@pytest.fixture
def document(benches: list[Bench], submission: Path, tmp_path: Path) -> dict[str, Any]:
    """A result of the submission as its file has it."""
    save_result(scored(benches[0], submission), tmp_path / "result.json", {})
    found: dict[str, Any] = json.loads((tmp_path / "result.json").read_text())
    return found


def loaded(document: dict[str, Any], path: Path) -> SavedResult:
    """What load_result gives for a document whose digest fits."""
    content = {key: value for key, value in document.items() if key not in ("digest", "run")}
    path.write_text(readable_json({**content, "digest": content_digest(content)}))
    return load_result(path)


def test_a_result_carries_the_card_under_its_digest(document: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    card = load_result(path).card
    assert card is not None
    assert card.to_json() == document["method"] == CARD_JSON
    path.write_text(path.read_text().replace("ResNet-50", "ResNet-18"))
    with pytest.raises(OshpError, match="the digest does not match the content"):
        load_result(path)


@pytest.mark.parametrize(("said", "name"), [("my method", "my method"), ("", None)])
def test_a_result_from_before_there_were_cards(document: dict[str, Any], tmp_path: Path, said: str, name: str) -> None:
    del document["method"]
    document["predictions"]["method"] = said
    old = loaded(document, tmp_path / "old.json")
    assert (old.method_name, old.card, old.document["method"]) == (name, None, {"name": name})


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        (3, "method is 3, not a table"),
        ({}, "method: name is missing"),
        ({"name": 3}, "method: name is 3, not a text"),
        ({"name": "a\u202eb"}, "method: name holds U+202E"),
        ({"name": "n" * 10_000}, "method: name has 10,000 characters"),
        ({**CARD, "paper": "javascript:0"}, "method: paper is 'javascript:0', not an address"),
        ({**CARD, "colour": "red"}, "method: unknown member 'colour'"),
        ({"name": "mine", "date": "today"}, "method: authors is missing"),
    ],
)
def test_a_result_with_a_card_that_nobody_here_wrote(
    document: dict[str, Any], tmp_path: Path, method: object, problem: str
) -> None:
    path = tmp_path / "hostile.json"
    with pytest.raises(OshpError) as caught:
        loaded({**document, "method": method}, path)
    assert caught.value.problems[0].startswith(f"{path}: {problem}")


@pytest.mark.parametrize(
    ("predictions", "problem"),
    [
        (3, "predictions is 3, not a table"),
        ({"method": "a\u202eb"}, "method: name holds U+202E"),
        ({"method": ["a"]}, "method: name is ['a'], not a text"),
    ],
)
def test_an_old_result_with_a_name_that_nobody_here_wrote(
    document: dict[str, Any], tmp_path: Path, predictions: object, problem: str
) -> None:
    del document["method"]
    path = tmp_path / "old.json"
    with pytest.raises(OshpError) as caught:
        loaded({**document, "predictions": predictions}, path)
    assert caught.value.problems[0].startswith(f"{path}: {problem}")


@pytest.mark.parametrize(
    ("method", "problem"),
    [("n" * 101, "has 101 characters; at most 100 are allowed"), ("a\nb", "holds U+000A"), (3, "is 3, not a text")],
)
def test_a_folder_whose_method_has_a_name_that_no_table_can_show(
    benches: list[Bench], folders: list[Path], tmp_path: Path, method: object, problem: str
) -> None:
    folder = Path(shutil.copytree(folders[1], tmp_path / "preds"))
    (folder / "predictions.json").write_text(json.dumps({"method": method}))
    with pytest.raises(OshpError) as caught:
        scored(benches[1], folder)
    assert caught.value.problems[0].startswith(f"{folder}/predictions.json: method {problem}")
    (folder / "predictions.json").write_text(json.dumps({"method": None}))
    assert scored(benches[1], folder).method == {"name": None}
