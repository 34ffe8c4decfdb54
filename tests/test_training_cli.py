"""oshp-train as a user meets it: what it prints, what it refuses, TensorBoard, and every command of its page."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from test_readme import ROOT, examples
from training_cases import SMALL_OPTIONS, rows

from oshp_bench.baselines.checkpoints import load_checkpoint
from oshp_bench.manifest import Manifest
from oshp_bench.training.board import Board
from oshp_bench.training.cli import main
from oshp_bench.training.settings import read_changes, resolved


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def refused(*arguments: object) -> list[str]:
    """The lines on stderr of a command that fails, without "error: "."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    lines = result.stderr.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    return [line.removeprefix("error: ") for line in lines]


@pytest.mark.slow
def test_it_says_where_to_look_and_what_comes_next(manifest_file: Path, tiny_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a run"
    arguments = ("--manifest", manifest_file, "--root", tiny_root, *SMALL_OPTIONS, "-o", folder)
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    first, second, third = result.stdout.splitlines()
    figure = (folder / "validation.csv").read_text().splitlines()[1].split(",")[2]
    assert first == (
        f"{folder}/best.safetensors: eopnet, k-way, epoch 2, C_base mIoU {100 * float(figure):.2f} % on the validation"
        " list"
    )
    assert second == f"Look into {folder}: metrics.csv, validation.csv, curves.png, sheets/"
    # Off a terminal every epoch is a line; the last has been validated.
    begin, *lines = result.stderr.splitlines()
    assert re.match(r"trains with torch \S+, threads \d+, processes 1, device cpu; with others", begin)
    assert len(lines) == 2
    assert re.fullmatch(r"epoch 1/2: loss [\d.]+, agm [\d.]+, .*; 0:\d\d min left", lines[0])
    assert lines[1].endswith(f", C_base mIoU {100 * float(figure):.2f} % on the validation list; 0:00 min left")
    preds = shlex.quote(str(folder / "preds"))
    best = shlex.quote(str(folder / "best.safetensors"))
    assert third == f"Predict: oshp-predict {best} --manifest {manifest_file} --root {tiny_root} -o {preds}"
    told = json.loads(run(*arguments, "--json").stdout)
    assert told.pop("seconds") >= 0
    assert round(told.pop("validation"), 6) == float(figure)
    assert told == {
        "checkpoint": f"{folder}/best.safetensors",
        "epoch": 2,
        "next": shlex.split(third.removeprefix("Predict: ")),
    }


@pytest.mark.slow
def test_without_a_manifest_it_trains_on_the_embedded_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    short = ("epochs=1", "episodes=2", "validation_pairs=1", "augmentation.crop=32", "test_side=64", "workers=0")
    result = run("--way", "1", *(f"--set={each}" for each in short))
    assert result.exit_code == 0, result.output
    folder = Path("runs", "demo_fold1-eopnet-1way")
    assert result.stdout.splitlines()[-1] == (
        f"Predict: oshp-predict {folder}/best.safetensors --manifest demo_fold1 -o {folder}/preds"
    )
    card = load_checkpoint(folder / "best.safetensors").card
    assert (card.backbone, card.width, card.way) == ("efficientnet-lite0", 32, "1")


def test_the_release_s_reading_is_a_preset(manifest_file: Path, tiny_root: Path, tmp_path: Path) -> None:
    where = ("--manifest", manifest_file, "--root", tiny_root, "-o", tmp_path / "run", "--device", "cpu")
    small = [each for each in SMALL_OPTIONS if each.startswith("--set")]
    result = run(*where, "--reading", "release", *small, "--set=backbone=efficientnet-lite0", "--set=validate_every=0")
    assert result.exit_code == 0, result.output
    text = (tmp_path / "run" / "settings.toml").read_text()
    for line in ('reading = "release"', 'schedule = "staircase"', "redraw = false", 'fit = "native"', "warm_up = 26"):
        assert line in text.splitlines()
    assert refused(*where, "--reading", "release", "--preset", "cpu") == [
        "--reading release means --preset release; remove --preset cpu"
    ]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--device", "abacus"], "--device abacus: cannot be used here"),
        (["--device", "meta"], "--device meta: cannot be used here"),
        (["--pack", "missing.h5"], "missing.h5: not a readable pack; write it again with oshp-tailor --pack"),
        (["--manifest", "nowhere.json"], "nowhere.json: cannot be read (No such file or directory); check the path"),
        (["--config", "nowhere.toml"], "nowhere.toml: cannot be read (No such file or directory); check the path"),
        (["--manifest", "cihp_fold1"], "cihp_fold1: does not know which classes the images of query_train hold; tail"),
        (["--method", "alchemy"], "the command line: method is 'alchemy'; known: prototype-matching"),
        (["--set", "weights=no.pth"], "no.pth: cannot be read (No such file or directory); check the path"),
    ],
)
def test_bad_usage_is_one_line(
    manifest_file: Path, tiny_root: Path, tmp_path: Path, arguments: list[str], problem: str
) -> None:
    folder = tmp_path / "run"
    where = ("--manifest", manifest_file, "--root", tiny_root, *SMALL_OPTIONS, "--set=pretrained=true", "-o", folder)
    (line,) = refused(*where, *arguments)
    assert line.startswith(problem)
    assert not folder.exists()


def test_missing_files_are_all_told_before_training(
    manifest_file: Path, tiny_root: Path, manifest: Manifest, tmp_path: Path
) -> None:
    shutil.copytree(tiny_root, tmp_path / "data")
    query, support = (next(iter(manifest.pools[pool])) for pool in ("query_train", "support_train"))
    gone = [tmp_path / "data" / "photos" / f"{query}.jpg", tmp_path / "data" / "masks" / f"{support}.png"]
    for path in gone:
        path.unlink()
    assert refused(
        "--manifest", manifest_file, "--root", tmp_path / "data", *SMALL_OPTIONS, "-o", tmp_path / "run"
    ) == [f"{gone[0]}: does not exist", f"{gone[1]}: does not exist; the mask of the training image {support}"]
    assert not (tmp_path / "run").exists()


def test_help_lists_presets_and_methods_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from oshp_bench.training.cli import main; main()"
    told = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True).stdout
    for word in ("paper|release|cpu|quick", "eopnet-fg ", "ours: EOP-Net with a foreground gate", "--tensorboard"):
        assert word in told
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: training needs torch: run pip install '.[train]' in a clone of oshp-bench\n"
    # A way that a method cannot be trained for is told without torch, too.
    wrong = [sys.executable, "-c", code, "--method", "pfenet", "--way", "k"]
    done = subprocess.run(wrong, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: the command line: way is k; pfenet can only be trained 1-way\n"


def test_the_listed_settings_are_a_file_to_train_by(tmp_path: Path) -> None:
    result = run("--list-settings", "--preset", "cpu", "--method", "eopnet-fg", "--set", "lr=0.5", "--set", "clip=none")
    assert (result.exit_code, result.stderr) == (0, "")
    path = tmp_path / "own.toml"
    path.write_text(result.stdout)
    wanted = read_changes(None, ["lr=0.5", "clip=none", "method=eopnet-fg"], {})
    assert resolved("quick", read_changes(path, [], {})) == resolved("cpu", wanted)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: [(each.step, each.value) for each in events.Scalars(name)] for name in events.Tags()["scalars"]}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_shows_the_tables(manifest_file: Path, tiny_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    result = run(
        *("--manifest", manifest_file, "--root", tiny_root, *SMALL_OPTIONS, "--tensorboard", "-o", tmp_path / "run")
    )
    assert result.exit_code == 0, result.output
    shown = scalars(tmp_path / "run" / "tensorboard" / "metrics")
    table = rows(tmp_path / "run")
    assert shown.keys() == {*table[0], "steps_per_second", "peak_memory_mib"} - {"stage", "epoch", "at_epoch", "step"}
    for name in ("loss", "lr", "beta"):
        assert [step for step, _ in shown[name]] == [int(row["step"]) for row in table]
        assert [value for _, value in shown[name]] == pytest.approx([float(row[name]) for row in table])
    validation = scalars(tmp_path / "run" / "tensorboard" / "validation")
    assert [step for step, _ in validation["kway/base_miou"]] == [2]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_forgets_what_a_stopped_run_repeats(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    first = Board(tmp_path)
    for step in range(1, 6):
        first.add("metrics", {"epoch": 1, "step": step, "loss": 1.0})
    again = Board(tmp_path)
    for step in range(4, 7):
        again.add("metrics", {"epoch": 1, "step": step, "loss": 2.0})
    expected = [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0), (6, 2.0)]
    assert scalars(tmp_path / "metrics") == {"loss": expected}


def test_without_tensorboard_its_option_is_refused_in_one_line(
    manifest_file: Path, tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    options = ("--manifest", manifest_file, "--root", tiny_root, *SMALL_OPTIONS, "-o", tmp_path / "run")
    assert refused(*options, "--tensorboard") == [
        "--tensorboard needs tensorboard: run pip install '.[tensorboard]' in a clone of oshp-bench"
    ]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_page_s_commands_print_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, as a new one would import torch for every command."""
    monkeypatch.chdir(tmp_path)
    ran: list[str] = []
    shell: dict[str, Callable[[list[str]], str]] = {
        "oshp-train": lambda arguments: run(*arguments, "--device", "cpu").stdout,
        "printf": lambda arguments: str(Path(arguments[-1]).write_text(arguments[0].replace("\\n", "\n"))),
    }
    for command, shown in examples(ROOT / "docs" / "training.md"):
        name, *arguments = shlex.split(command)
        printed = shell[name](arguments).splitlines()
        missing = [line for line in shown if line not in printed]
        assert not missing, f"{command} did not print {missing}; it printed {printed}"
        ran.append(name)
    assert ran == ["oshp-train", "printf", "oshp-train", "oshp-train", "oshp-train"]
    assert json.loads("".join(printed))["checkpoint"] == "first/best.safetensors"
