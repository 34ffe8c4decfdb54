"""oshp-submit from end to end: what a user types and what comes out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from metrics_cases import Bench, make_bench
from submission_cases import card_file

from oshp_bench import Episodes, PredictionWriter, find_source, load_manifest
from oshp_bench.baselines.floor import parse_by_copy
from oshp_bench.datasets.labels import Spec
from oshp_bench.leaderboard.submissions import SubmissionPart, check, pack
from oshp_bench.leaderboard.submit_cli import main
from oshp_bench.manifest import Pairs
from oshp_bench.manifest.truth import load_truth, write_truth
from oshp_bench.metrics import Resampling, score
from oshp_bench.metrics.method_card import read_method_card
from oshp_bench.report.cli import main as score_main

GUIDE = Path(__file__).parents[1] / "docs" / "submit.md"


@pytest.fixture(scope="module")
def benches(tiny_spec: Spec, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Bench]:
    """Two whole folds."""
    folder = tmp_path_factory.mktemp("bench")
    return [make_bench(tiny_spec, tiny_root, folder, fold=fold) for fold in (1, 2)]


@pytest.fixture(scope="module")
def folders(benches: list[Bench], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("predictions")
    return [bench.write(root / str(fold), seed=fold, ways=("kway",)) for fold, bench in enumerate(benches, 1)]


@pytest.fixture(scope="module")
def manifests(benches: list[Bench]) -> list[str]:
    return [option for bench in benches for option in ("--manifest", str(bench.manifest_file))]


@pytest.fixture(scope="module")
def submission(folders: list[Path], manifests: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("submission")
    run("pack", *folders, *manifests, "--method", card_file(root / "method.toml"), "-o", root / "sub.zip")
    return root / "sub.zip"


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


@pytest.mark.slow
def test_pack_check_score(
    benches: list[Bench], folders: list[Path], manifests: list[str], submission: Path, tmp_path: Path
) -> None:
    out = tmp_path / "my submission.zip"
    packing = run("pack", *folders, *manifests, "--method", card_file(tmp_path / "m.toml"), "-o", out)
    assert out.read_bytes() == submission.read_bytes()
    assert packing.stderr == ""
    lines = packing.stdout.splitlines()
    assert lines[0] == f"{out}: by hand, {out.stat().st_size / 1e6:.1f} MB"
    assert lines[1:3] == ["  tiny_fold1 1.0.0: k-way", "  tiny_fold2 1.0.0: k-way"]
    assert lines[3:] == [f"Score it: oshp-score '{out}' --manifest {bench.manifest_file}" for bench in benches]
    # In any order; the truths lie beside their manifests or are given.
    truths = [option for bench in benches[::-1] for option in ("--truth", bench.truth_file)]
    for options in (manifests, [*manifests[2:], *manifests[:2], *truths]):
        said = run("check", out, *options).stdout.splitlines()
        assert said == [f"{out}: by hand; oshp-score takes it", *lines[1:3]]
    for number, (bench, folder) in enumerate(zip(benches, folders, strict=True)):
        results = []
        for given in (out, folder):
            options = ["--manifest", str(bench.manifest_file), "--resamples=50", "--out", str(tmp_path / str(number))]
            assert CliRunner().invoke(score_main, [str(given), *options]).exit_code == 0
            results.append(json.loads((tmp_path / str(number) / "result.json").read_text()))
        assert [result["method"]["name"] for result in results] == ["by hand", None]
        for member in ("figures", "diagnosis", "predictions", "signature"):
            assert results[0][member] == results[1][member]


@pytest.mark.slow
def test_a_check_for_programs(manifests: list[str], submission: Path, tmp_path: Path) -> None:
    said = json.loads(run("check", submission, *manifests, "--json").stdout)
    assert (said["passed"], said["problems"]) == (True, [])
    assert [each["name"] for each in said["submission"]["manifests"]] == ["tiny_fold1", "tiny_fold2"]
    path = Path(shutil.copy(submission, tmp_path / "sub.zip"))
    path.write_bytes(path.read_bytes().replace(b"IHDR", b"IHDX", 2))
    result = run("check", path, *manifests, "--json", code=1)
    said = json.loads(result.stdout)
    assert (said["passed"], said["submission"]["method"]["name"]) == (False, "by hand")
    problems = said["problems"]
    assert len(problems) == 2
    # The same lines for people.
    result = run("check", path, *manifests, code=1)
    assert result.stdout == ""
    assert result.stderr.splitlines() == [f"error: {problem}" for problem in problems]
    path.write_bytes(b"PK")
    said = json.loads(run("check", path, "--json", code=1).stdout)
    assert said == {
        "passed": False,
        "problems": [f"{path}: neither a folder nor a readable zip (File is not a zip file); pack it again"],
        "submission": None,
    }


def test_a_broken_set_is_not_packed(folders: list[Path], manifests: list[str], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders[0], tmp_path / "preds"))
    (folder / "kway" / "0100.png").unlink()
    card = card_file(tmp_path / "method.toml", date="today")
    out = tmp_path / "sub.zip"
    result = run("pack", folder, *manifests[:2], "--method", card, "-o", out, code=2)
    assert result.stderr.splitlines() == [
        f"error: {card}: date is 'today', not a date like 2026-01-31",
        f"error: {folder}/kway: 0100.png is missing",
    ]
    assert result.stdout == ""
    assert not out.exists()


def test_a_set_packed_for_the_wrong_manifest(
    benches: list[Bench], folders: list[Path], manifests: list[str], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folders[0], tmp_path / "preds"))
    said = {"manifest": "tiny_fold1", "test_digest": benches[0].manifest.test_digest}
    (folder / "predictions.json").write_text(json.dumps(said))
    card = card_file(tmp_path / "method.toml")
    wrong = [folders[1], folder, *manifests, "--method", card, "-o", tmp_path / "sub.zip"]
    assert run("pack", *wrong, code=2).stderr.splitlines() == [
        f"error: {folder}/predictions.json: these are predictions for 'tiny_fold1', whose test pairs differ from"
        " those of tiny_fold2 1.0.0; give their own manifest"
    ]


def test_a_manifest_that_is_neither_given_nor_shipped(manifests: list[str], submission: Path) -> None:
    for given, missing in (([], ["tiny_fold1", "tiny_fold2"]), (manifests[:2], ["tiny_fold2"])):
        assert run("check", submission, *given, code=2).stderr.splitlines() == [
            f"error: {submission}: lists {name}, which is not a shipped manifest; give its file with --manifest"
            for name in missing
        ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["pack"],
        ["pack", "{folder}", "--method=m.toml", "-o", "s.zip"],
        ["pack", "{folder}", "{folder}", "--manifest=a", "--method=m.toml", "-o", "s.zip"],
        ["pack", "{folder}", "--manifest=a", "--manifest=b", "--method=m.toml", "-o", "s.zip"],
        ["pack", "{folder}", "--manifest=a", "--truth=a", "--truth=b", "--method=m.toml", "-o", "s.zip"],
        ["pack", "nowhere", "--manifest=a", "--method=m.toml", "-o", "s.zip"],
        ["pack", "{folder}", "--manifest=a", "--method=m.toml"],
        ["check"],
        ["check", "nowhere.zip"],
        ["check", "{folder}", "--truth=t.zip"],
    ],
)
def test_wrong_usage(folders: list[Path], arguments: list[str]) -> None:
    result = run(*(each.format(folder=folders[0]) for each in arguments), code=2)
    assert result.stderr.startswith("Usage: ")
    assert result.stdout == ""


def test_the_card_in_the_guide_is_good(tmp_path: Path) -> None:
    (card,) = GUIDE.read_text().split("```toml\n")[1:]
    (tmp_path / "method.toml").write_text(card.partition("```")[0])
    assert read_method_card(tmp_path / "method.toml").name == "copy-support"


def test_help_is_light() -> None:
    code = "import sys, oshp_bench.leaderboard.submit_cli; print('numpy' in sys.modules, 'PIL' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.slow
def test_real_photos(test_data: Path, tmp_path: Path) -> None:
    """Every 50th pair of CCP, with the copied support mask as the prediction."""
    whole = load_manifest("ccp_fold1")
    pairs, kept = whole.pairs, slice(None, None, 50)
    some = Pairs(pairs.query[kept], pairs.support[kept], pairs.target[kept], pairs.support_classes[kept])
    manifest = replace(whole, pairs=some)
    source = find_source(manifest.dataset, test_data / "ccp")
    write_truth(manifest, source, tmp_path / "truth.zip")
    for way in ("k", "1"):
        writer = PredictionWriter(tmp_path / "preds", manifest, "copy-support", way)
        for episode in Episodes(manifest.pairs, source, way):
            writer.write(episode, parse_by_copy(episode))
    truth = load_truth(tmp_path / "truth.zip", manifest)
    pack(
        [SubmissionPart(manifest, truth, tmp_path / "preds")], card_file(tmp_path / "method.toml"), tmp_path / "sub.zip"
    )
    check([SubmissionPart(manifest, truth, tmp_path / "sub.zip")])
    folder, zipped = (
        score(manifest, tmp_path / name, tmp_path / "truth.zip", resampling=Resampling(20))
        for name in ("preds", "sub.zip")
    )
    assert zipped.figures == folder.figures
    assert (zipped.matrices.digest, zipped.matrices.method) == (folder.matrices.digest, "copy-support")
    # As on all pairs, about.
    assert 0.2 < (zipped.figures["1way/human_miou"].value or 0) < 0.4
