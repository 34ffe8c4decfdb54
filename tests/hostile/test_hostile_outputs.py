"""An output that is also an input is refused by every command before anything is written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from metrics_cases import make_bench
from submission_cases import card_file
from tailor_cases import write_spec

from oshp_bench.baselines.cli import main as predict
from oshp_bench.datasets.labels import Spec
from oshp_bench.leaderboard.board_cli import main as board
from oshp_bench.leaderboard.submit_cli import main as submit
from oshp_bench.parse.cli import main as parse
from oshp_bench.report.cli import main as score
from oshp_bench.tailor.cli import main as tailor

MANIFEST = "tiny_fold1.json"


@pytest.fixture(scope="module")
def original(tiny_spec: Spec, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/, manifest, truth and preds/."""
    folder = tmp_path_factory.mktemp("original")
    shutil.copytree(tiny_root, folder / "data")
    make_bench(tiny_spec, folder / "data", folder).write(folder / "preds", ways=("kway",))
    return folder


@pytest.fixture
def here(original: Path, tmp_path: Path) -> Path:
    """A copy of that folder."""
    return shutil.copytree(original, tmp_path / "here")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(folder: Path, command: click.Command, line: str) -> str:
    """The errors of a command line in this folder; no file in it may have changed."""
    before = contents(folder)
    there = Path.cwd()
    os.chdir(folder)
    try:
        result = CliRunner().invoke(command, line.split())
    finally:
        os.chdir(there)
    assert result.exit_code == 2, result.output
    assert contents(folder) == before
    assert all(error.startswith(("error: ", "note: ")) for error in result.stderr.splitlines())
    return result.stderr


@pytest.mark.parametrize("option", ["--report", "--sheet"])
@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("tiny_fold1.json", "would be overwritten"),
        ("tiny_fold1.truth.zip", "would be overwritten"),
        ("floor.json", "would be overwritten"),
        ("preds/kway/0000.png", "lies in preds"),
        ("preds/new.html", "lies in preds"),
        ("link/new.html", "lies in preds"),
        ("data/photos/000.jpg", "would be overwritten"),
        ("data/masks/000.png", "would be overwritten"),
    ],
)
def test_what_scoring_reads_is_not_written_over(here: Path, option: str, place: str, why: str) -> None:
    (here / "link").symlink_to("preds")
    (here / "floor.json").write_text("{}")
    line = f"preds --manifest {MANIFEST} --root data --floor floor.json {option} {place}"
    assert f"error: {place}: {why}" in refused(here, score, line)


def test_results_are_not_written_into_predictions_or_over_a_floor(here: Path) -> None:
    common = f"--manifest {MANIFEST} --resamples 0"
    assert "lies in preds" in refused(here, score, f"preds {common} -o preds/out")
    assert "lies in preds" in refused(here, score, f"preds {common} -o preds")
    assert "two outputs" in refused(here, score, f"preds {common} --sheet a.png --report ./a.png")
    arguments = f"{here}/preds --manifest {here}/{MANIFEST} --resamples 0 -o {here}/out".split()
    # The same command may be given again.
    for _ in range(2):
        assert CliRunner().invoke(score, arguments).exit_code == 0
    again = f"{common} --from-matrices out/matrices.npz -o out"
    assert "error: out/matrices.npz: would be overwritten" in refused(here, score, again)
    floor = f"preds {common} --floor out/result.json -o out"
    assert "error: out/result.json: would be overwritten" in refused(here, score, floor)


@pytest.mark.parametrize("place", ["tiny_fold1.json", "tiny_fold1.truth.zip", "method.toml", "preds/kway/0000.png"])
def test_a_submission_is_not_written_over_what_it_is_made_of(here: Path, place: str) -> None:
    card_file(here / "method.toml")
    line = f"pack preds --manifest {MANIFEST} --method method.toml -o {place}"
    assert f"error: {place}: " in refused(here, submit, line)


def test_a_board_is_not_written_over_its_results(here: Path) -> None:
    common = f"--manifest {here}/{MANIFEST}"
    arguments = f"{here}/preds {common} --resamples 0 -o {here}/out".split()
    assert CliRunner().invoke(score, arguments).exit_code == 0
    (here / "index.html").write_bytes((here / "out" / "result.json").read_bytes())
    line = f"build index.html out {common} -o ."
    assert "error: index.html: would be overwritten" in refused(here, board, line)
    line = f"codabench {common} -o tiny_fold1.truth.zip"
    assert "tiny_fold1.truth.zip: would be overwritten" in refused(here, board, line)


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ("--pack tiny.toml", "tiny.toml"),
        ("--pack data/photos/000.jpg", "data/photos/000.jpg"),
        ("--pack data/masks/000.png", "data/masks/000.png"),
        ("--pack tiny_fold1.json", "tiny_fold1.json"),
    ],
)
def test_tailoring_does_not_write_over_a_dataset(here: Path, options: str, place: str) -> None:
    write_spec(here)
    (here / MANIFEST).unlink()
    assert f"error: {place}: " in refused(here, tailor, f"tiny.toml --fold 1 --root data {options}")


def test_predictions_are_not_written_over_their_manifest(here: Path) -> None:
    (here / MANIFEST).rename(here / "predictions.json")
    line = "background --manifest predictions.json --root data -o ."
    assert "error: predictions.json: would be overwritten" in refused(here, predict, line)


def test_a_run_is_not_written_over_its_settings_or_weights(here: Path) -> None:
    pytest.importorskip("torch")
    from oshp_bench.training.cli import main as train

    (here / "settings.toml").write_text("")
    common = f"--manifest {MANIFEST} --root data --preset quick -o ."
    assert "settings.toml: would be" in refused(here, train, f"{common} --config settings.toml")
    assert "best.safetensors: would be" in refused(here, train, f"{common} --set weights=best.safetensors")


def test_parsing_does_not_write_over_photos_or_weights(here: Path) -> None:
    shutil.copy(here / "data" / "photos" / "001.jpg", here / "1.jpg")
    shutil.copy(here / "data" / "masks" / "000.png", here / "1_mask.png")
    line = "1.jpg --support data/photos/000.jpg --mask 1_mask.png -o ."
    assert "error: 1_mask.png: would be overwritten" in refused(here, parse, line)
    line = "1.jpg --support data/photos/000.jpg --mask data/masks/000.png --checkpoint 1_overlay.png -o ."
    assert "error: 1_overlay.png: would be overwritten" in refused(here, parse, line)
