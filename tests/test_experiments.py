"""Experiments run through the real engine from an empty folder, and go on after kill -9 as if nothing had been."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from experiment_cases import FILES, command, environment, files_of, needs_snakemake, workflow, write_config

from oshp_bench.metrics.result_file import load_result

pytestmark = [pytest.mark.slow, needs_snakemake]

# What makes a cell; logs and times of a run are its own.
MADE = ("cells/{}/run/*.safetensors", "cells/{}/preds/**/*.png", "cells/{}/score/*.[cn][sp][vz]", "table5/*")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of all tables from an empty folder."""
    folder = tmp_path_factory.mktemp("unbroken")
    done = workflow(folder, write_config(folder), FILES)
    assert done.returncode == 0, done.stderr
    return folder / "out"


def test_every_table_is_made_from_an_empty_folder(unbroken: Path) -> None:
    made = {path.parent.name: {file.name for file in path.parent.iterdir()} for path in unbroken.glob("*/index.html")}
    assert {name.partition("-")[0] for name in made} == {*FILES, "board"}
    drawn = {f"kway.{ending}" for ending in ("pdf", "svg", "png", "txt")}
    written = {f"table.{ending}" for ending in ("md", "tex", "csv")}
    for name, files in made.items():
        assert files >= {"index.html", *(drawn if name.startswith("figure") else written if name != "board" else ())}
    assert not list((unbroken / "failed").glob("*"))


def test_the_same_command_again_does_nothing(unbroken: Path) -> None:
    done = workflow(unbroken.parent, unbroken.parent / "seconds.yaml", FILES)
    assert (done.returncode, "Nothing to be done" in done.stderr) == (0, True), done.stderr


def test_killed_workflows_and_jobs_go_on_to_the_same_bytes(unbroken: Path, tmp_path: Path) -> None:
    """kill -9 of the workflow in mid-training ends its training, too; kill -9 of the training ends in one line."""
    config = write_config(tmp_path)
    target = "out/table5/index.html"
    words = command(config, FILES, target)
    state = _Watch(tmp_path / "out")

    with subprocess.Popen(words, cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL) as whole:
        state.wait_for_epoch()
        whole.kill()
    _until(lambda: not list(_processes(tmp_path, "oshp-train")))
    assert not list((tmp_path / "out").glob("cells/*/trained.json"))

    assert workflow(tmp_path, config, FILES, "--unlock").returncode == 0
    with subprocess.Popen(words, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True) as broken:
        state.wait_for_epoch()
        for process in _processes(tmp_path, "oshp-train"):
            os.kill(process, signal.SIGKILL)
        _, said = broken.communicate()
    assert broken.returncode == 1
    assert not list((tmp_path / "out").glob("cells/*/trained.json"))
    last = said.splitlines()[-1]
    assert last.startswith("error: cell eopnet-few1-kway-seed0-")
    assert "(figure4: EOP-Net) failed at train: killed by SIGKILL; log: out/logs/eopnet-few1-kway" in last

    done = workflow(tmp_path, config, FILES, target)
    assert done.returncode == 0, done.stderr
    (cell,) = (tmp_path / "out" / "cells").iterdir()
    patterns = [pattern.format(cell.name) for pattern in MADE]
    assert files_of(tmp_path / "out", *patterns) == files_of(unbroken, *patterns)
    result = f"cells/{cell.name}/score/result.json"
    assert load_result(tmp_path / "out" / result).digest == load_result(unbroken / result).digest


def test_lint_finds_nothing(tmp_path: Path) -> None:
    done = workflow(tmp_path, write_config(tmp_path), FILES, "--lint")
    assert (done.returncode, "good condition" in done.stderr) == (0, True), done.stderr


class _Watch:
    """Notices that a training has ended another epoch."""

    def __init__(self, out: Path) -> None:
        self._out, self._seen = out, {0}

    def wait_for_epoch(self) -> None:
        _until(lambda: bool(self._states() - self._seen))
        self._seen |= self._states()

    def _states(self) -> set[int]:
        return {path.stat().st_mtime_ns for path in self._out.glob("cells/*/run/last.pt")}


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 600
    while not holds():
        assert time.monotonic() < end, "waited for ten minutes"
        time.sleep(0.02)


def _processes(folder: Path, name: str) -> Iterator[int]:
    """The processes of a command that work in a folder."""
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdecimal() else []
            if any(word.endswith(name.encode()) for word in words[:2]) and (entry / "cwd").readlink() == folder:
                yield int(entry.name)
        except OSError:
            continue
