"""Processes that train together under torchrun: one that is killed or hangs ends the run in a line, and none stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")]
pytest.importorskip("torch")

# Two processes add numbers until rank 1 stops as it was told to; `patience` minutes become so many seconds.
RANK = """
import os, signal, sys, time
import torch
from datetime import timedelta
from pathlib import Path
from oshp_bench.console import Command
from oshp_bench.training import parallel
import click
parallel.timedelta = lambda minutes: timedelta(seconds=minutes)
@click.command(cls=Command)
def main():
    with parallel.processes("cpu", 3) as mine:
        Path(sys.argv[2], f"{mine.rank}").write_text(str(os.getpid()))
        for step in range(1000):
            mine.mean({"a": 1.0})
            if not mine.first and step == 3:
                if sys.argv[1] == "kill":
                    os.kill(os.getpid(), 9)
                if sys.argv[1] == "hang":
                    time.sleep(99)
            time.sleep(0.05)
main([])
"""


def started(folder: Path, how: str) -> list[subprocess.Popen[str]]:
    """Both processes, as torchrun starts them, but without torchrun, whose own words would hide theirs."""
    (folder / "rank.py").write_text(RANK)
    common = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(20_000 + os.getpid() % 20_000)}
    common |= {"WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(folder / "rank.py"), how, str(folder)]
    return [
        subprocess.Popen(command, env={**common, "RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE, text=True)
        for rank in "01"
    ]


@pytest.mark.parametrize("how", ["kill", "hang"])
def test_a_rank_that_is_killed_or_hangs_ends_the_run_in_a_line(tmp_path: Path, how: str) -> None:
    first, second = started(tmp_path, how)
    try:
        _, said = first.communicate(timeout=60)
    finally:
        second.kill()
        second.communicate()
    assert first.returncode == 2
    (line,) = said.splitlines()
    assert line.startswith("error: another process of this run ended, or hung for 3 minutes; ")


def test_ranks_end_with_their_launcher(tmp_path: Path) -> None:
    (tmp_path / "rank.py").write_text(RANK)
    run = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(tmp_path / "rank.py"))
    command = [sys.executable, *run, "live", str(tmp_path)]
    with (tmp_path / "said").open("w") as said:
        launcher = subprocess.Popen(command, stderr=said, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        ends = time.monotonic() + 60
        while not all((tmp_path / rank).exists() and (tmp_path / rank).read_text() for rank in "01"):
            assert time.monotonic() < ends and launcher.poll() is None, (tmp_path / "said").read_text()
            time.sleep(0.1)
    finally:
        launcher.kill()
        launcher.wait()
    ranks = [int((tmp_path / rank).read_text()) for rank in "01"]
    ends = time.monotonic() + 30
    while any(Path(f"/proc/{rank}/status").exists() and not _is_zombie(rank) for rank in ranks):
        assert time.monotonic() < ends, "a process goes on without its launcher"
        time.sleep(0.1)
    assert "torchrun has ended" in (tmp_path / "said").read_text()


def _is_zombie(process: int) -> bool:
    """Whether it has ended and nobody has asked how."""
    return "State:\tZ" in Path(f"/proc/{process}/status").read_text()
