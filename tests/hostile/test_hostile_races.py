"""Two whole commands into one place at once: one of the two outputs, whole, or an error that says who writes there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from metrics_cases import Bench, make_bench

from oshp_bench.datasets.labels import Spec

pytestmark = pytest.mark.slow

# Both have imported everything before either begins.
RACER = """
import importlib, sys
command = importlib.import_module(sys.argv[1])
import oshp_bench.metrics.result, oshp_bench.metrics.matrices, oshp_bench.baselines.floor, oshp_bench.report.tables
import oshp_bench.tailor.build
print("ready", flush=True)
sys.stdin.readline()
sys.argv[:2] = ["command"]
command.main()
"""


def race(*lines: list[object]) -> list[subprocess.CompletedProcess[str]]:
    """Runs commands at once."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, *map(str, line)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in lines
    ]
    for run in runs:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
    for run in runs:
        assert run.stdin is not None
        run.stdin.write("go\n")
        run.stdin.flush()
    ended = []
    for run in runs:
        out, err = run.communicate(timeout=120)
        ended.append(subprocess.CompletedProcess(run.args, run.returncode, out, err))
    return ended


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def bench(tiny_spec: Spec, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tiny_spec, tiny_root, tmp_path_factory.mktemp("bench"))


def test_two_predictions_into_one_folder(bench: Bench, tiny_root: Path, tmp_path: Path) -> None:
    common = ["--manifest", bench.manifest_file, "--root", tiny_root, "--way", "k", "-o"]
    methods = ("background", "copy-support")
    alone = {}
    for method in methods:
        (done,) = race(["oshp_bench.baselines.cli", method, *common, tmp_path / method])
        assert done.returncode == 0, done.stderr
        alone[method] = contents(tmp_path / method)
    ended = race(*(["oshp_bench.baselines.cli", method, *common, tmp_path / "both"] for method in methods))
    won = [method for method, done in zip(methods, ended, strict=True) if done.returncode == 0]
    assert len(won) == 1, [done.stderr for done in ended]
    (lost,) = (done for done in ended if done.returncode)
    assert lost.returncode == 2
    (line,) = lost.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path / 'both'}") and ("writes there" in line or "another folder" in line)
    assert contents(tmp_path / "both") == alone[won[0]]


def test_two_scores_into_one_folder(bench: Bench, tmp_path: Path) -> None:
    for seed in (1, 2):
        bench.write(tmp_path / f"preds{seed}", seed=seed, ways=("kway",))
    ended = race(
        *(
            [
                "oshp_bench.report.cli",
                tmp_path / f"preds{seed}",
                "--manifest",
                bench.manifest_file,
                "--resamples",
                0,
                "-o",
                tmp_path / "out",
            ]
            for seed in (1, 2)
        )
    )
    assert [done.returncode for done in ended] == [0, 0], [done.stderr for done in ended]
    assert sorted(contents(tmp_path / "out")) == ["figures.csv", "matrices.npz", "pairs.csv", "result.json"]
    # Each file is whole and one run's; which, only the order of the writes decides.
    for seed in (1, 2):
        (done,) = race(["oshp_bench.report.cli", *ended[seed - 1].args[4:-1], tmp_path / f"out{seed}"])
        assert done.returncode == 0
    for name, content in contents(tmp_path / "out").items():
        if name == "result.json":
            digests = [json.loads((tmp_path / f"out{seed}" / name).read_text())["digest"] for seed in (1, 2)]
            assert json.loads(content)["digest"] in digests
        else:
            assert content in [(tmp_path / f"out{seed}" / name).read_bytes() for seed in (1, 2)], name


def test_two_tailorings_of_one_dataset(tiny_root: Path, tmp_path: Path) -> None:
    from tailor_cases import write_spec

    shutil.copytree(tiny_root, tmp_path / "data")
    line = ["oshp_bench.tailor.cli", write_spec(tmp_path), "--fold", 1, "--root", tmp_path / "data", "-o"]
    (alone,) = race([*line, tmp_path / "alone"])
    assert alone.returncode == 0, alone.stderr
    ended = race([*line, tmp_path / "out"], [*line, tmp_path / "out"])
    assert [done.returncode for done in ended] == [0, 0], [done.stderr for done in ended]
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")
