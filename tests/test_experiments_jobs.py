"""A step of a cell ends in its file or in one line; GPUs are given out one by one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from experiment_cases import EXPERIMENTS, environment
from gpu_slot import taken, visible
from job import WORKFLOW

pytestmark = pytest.mark.slow


def words(out: Path, *commands: Sequence[str], options: Sequence[str] = ()) -> list[str]:
    """job.py for a step of cell c."""
    then = [word for command in commands for word in ("--then", *command)]
    about = ["--out", str(out), "--cell", "c", "--step", "train", "--for", "table5: AGM", *options]
    return [sys.executable, str(EXPERIMENTS / "job.py"), *about, *then]


def step(
    out: Path, *commands: Sequence[str], options: Sequence[str] = (), **more: str
) -> subprocess.CompletedProcess[str]:
    """Runs a step."""
    where = {name: value for name, value in environment(**more).items() if not name.startswith("OSHP_") or name in more}
    return subprocess.run(
        words(out, *commands, options=options), env=where, capture_output=True, text=True, check=False
    )


def test_the_last_command_writes_the_file_of_the_step(tmp_path: Path) -> None:
    done = tmp_path / "cells" / "c" / "trained.json"
    commands = (["sh", "-c", "echo first; echo said >&2"], ["echo", "last"])
    finished = step(tmp_path, *commands, options=["--done", str(done)])
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")
    assert done.read_text() == "last\n"
    log = (tmp_path / "logs" / "c" / "train.log").read_text()
    assert log == "$ sh -c echo first; echo said >&2\nfirst\nsaid\n$ echo last\n"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["sh", "-c", "echo 'error: it is broken'; echo more; exit 3"], "it is broken"),
        (["sh", "-c", "exit 3"], "exit status 3"),
        (["sh", "-c", "kill -9 $$"], "killed by SIGKILL"),
        (["no-such-command"], "no-such-command: no such command; install the package in this environment"),
        (["sh", "-c", "exec cat /proc/version > /dev/full"], "cat: write error: No space left on device"),
        (["oshp-tailor", "ccp", "--fold", "1"], "give --root, or set OSHP_CCP_ROOT"),
    ],
    ids=["error", "silent", "killed", "missing command", "full disk", "missing dataset"],
)
def test_a_failure_is_one_line(tmp_path: Path, command: list[str], reason: str) -> None:
    done = tmp_path / "trained.json"
    failed = step(tmp_path, command, ["echo", "never"], options=["--done", str(done)])
    (line,) = failed.stderr.splitlines()
    assert failed.returncode == 1
    assert line.startswith("error: cell c (table5: AGM) failed at train: ") and reason in line
    assert f"; log: {tmp_path}/logs/c/train.log; mend it and run the same command again" in line
    assert not done.exists()
    assert (tmp_path / "failed" / "c-train.txt").read_text() == failed.stderr


def test_an_error_of_an_earlier_attempt_is_not_told_again(tmp_path: Path) -> None:
    step(tmp_path, ["sh", "-c", "echo 'error: earlier'; exit 1"])
    assert "train: exit status 1; log" in step(tmp_path, ["sh", "-c", "exit 1"]).stderr


def test_jobs_end_with_their_workflow(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "600"]) as workflow:
        where = {**environment(), WORKFLOW: f"{socket.gethostname()}:{workflow.pid}"}
        commands = words(tmp_path, ["sh", "-c", "echo begun; exec sleep 600"], options=["--done", str(tmp_path / "d")])
        with subprocess.Popen(commands, env=where, stderr=subprocess.PIPE, text=True) as job:
            part = tmp_path / ".d.part"
            while not (part.exists() and part.read_text()):
                assert job.poll() is None
            workflow.kill()
            _, said = job.communicate(timeout=60)
    assert job.returncode == 1
    assert "killed by SIGKILL" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_step_is_told_in_a_line_and_its_command_ends(tmp_path: Path, number: signal.Signals) -> None:
    commands = words(tmp_path, ["sh", "-c", "echo $$; exec sleep 600"], options=["--done", str(tmp_path / "d")])
    with subprocess.Popen(commands, env=environment(), stderr=subprocess.PIPE, text=True) as job:
        part = tmp_path / ".d.part"
        while not (part.exists() and part.read_text().endswith("\n")):
            assert job.poll() is None
        job.send_signal(number)
        _, said = job.communicate(timeout=60)
    assert job.returncode == 1
    (line,) = said.splitlines()
    assert f"failed at train: stopped by {number.name}; log: " in line
    assert not (tmp_path / "d").exists()
    child = int(part.read_text())
    end = time.monotonic() + 60
    while Path(f"/proc/{child}").exists() and "State:\tZ" not in Path(f"/proc/{child}/status").read_text():
        assert time.monotonic() < end


def test_gpus_are_given_out_one_by_one(tmp_path: Path) -> None:
    third: list[str] = []

    def wait() -> None:
        with taken(1, ["0", "1", "2"], tmp_path, wait=0.01) as mine:
            third.extend(mine)

    with taken(2, ["0", "1", "2"], tmp_path) as first:
        assert first == ["0", "1"]
        with taken(1, ["0", "1", "2"], tmp_path) as second:
            assert second == ["2"]
            waiting = threading.Thread(target=wait)
            waiting.start()
            waiting.join(0.2)
            assert waiting.is_alive()
            assert not third
        waiting.join(60)
    assert third == ["2"]
    with (
        pytest.raises(ValueError, match="3 GPUs are asked for, but this machine shows 2: 0, 1"),
        taken(3, ["0", "1"], tmp_path),
    ):
        pass


def test_gpus_that_a_process_may_use(tmp_path: Path) -> None:
    assert visible({"CUDA_VISIBLE_DEVICES": "3,GPU-5"}, tmp_path) == ["3", "GPU-5"]
    assert visible({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == []
    assert visible({}, tmp_path / "none") == []
    for name in ("0000:01", "0000:02"):
        (tmp_path / name).mkdir()
    assert visible({}, tmp_path) == ["0", "1"]


def test_a_command_sees_its_gpus_alone(tmp_path: Path) -> None:
    command = [sys.executable, str(EXPERIMENTS / "gpu_slot.py"), "1", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES; exit 7"]
    where = {**os.environ, "CUDA_VISIBLE_DEVICES": "4,5", "TMPDIR": str(tmp_path)}
    where.pop("SLURM_JOB_ID", None)
    done = subprocess.run(command, env=where, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (7, "4\n")
