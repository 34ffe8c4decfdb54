"""oshp-train as a process that is killed, out of memory or disk, or one of two: one line, and nothing that is lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tiny import manifest_of
from training_cases import SMALL_OPTIONS, rows, weights

from oshp_bench.datasets.labels import Spec
from oshp_bench.manifest import save_manifest
from oshp_bench.training.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")]

TESTS = str(Path(__file__).parent)
# Six steps an epoch, each a row of metrics.csv.
LONGER = ("--set=epochs=3", "--set=episodes=12")
LIMITED = """
import resource, signal, sys
import torch
from oshp_bench.training.cli import main
import oshp_bench.training.loop, oshp_bench.training.curves, matplotlib.figure, matplotlib.backends.backend_agg
torch.set_num_threads(1)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
kind, most = sys.argv.pop(1), int(sys.argv.pop(1))
if kind == "AS":
    with open("/proc/self/statm") as file:
        most += int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(getattr(resource, "RLIMIT_" + kind), (most, most))
main()
"""
# Trains like oshp-train, and leaves the network of every process beside the run's folder.
EVERY_RANK = """
import os, sys
import torch
torch.set_num_threads(1)
from oshp_bench.baselines.registry import METHODS, KnownMethod
from oshp_bench.training.cli import main
built = []
class Keeping(METHODS["eopnet"].load()):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        built.append(self)
KnownMethod.load = lambda known: Keeping
out = sys.argv.pop(1)
try:
    main()
finally:
    torch.save(built[0].state_dict(), f"{out}{os.environ['RANK']}.pt")
"""


@pytest.fixture(scope="module")
def options(tiny_spec: Spec, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    path = tmp_path_factory.mktemp("manifests") / "tiny_fold1.json"
    save_manifest(manifest_of(tiny_spec, tiny_root), path)
    return ("--manifest", str(path), "--root", str(tiny_root), *SMALL_OPTIONS)


def here(*arguments: str) -> list[str]:
    """Runs the command in this process; what it says on stderr."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.stderr.splitlines()


def process(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, timeout=600, env=environment
    )


@pytest.fixture(scope="module")
def whole(options: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    here(*options, *LONGER, "-o", str(folder))
    return folder


@pytest.fixture(scope="module")
def killed(options: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same run, killed in the middle of its second epoch."""
    folder = tmp_path_factory.mktemp("runs") / "killed"
    code = "import torch; torch.set_num_threads(1); from oshp_bench.training.cli import main; main()"
    command = [sys.executable, "-c", code, *options, *LONGER, "--set=workers=1", "-o", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        while running.poll() is None:
            if (folder / "metrics.csv").exists() and len(rows(folder)) >= 8:
                running.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        assert running.wait(120) == -signal.SIGKILL, running.stderr and running.stderr.read()
    assert 8 <= len(rows(folder)) < 12
    assert torch.load(folder / "last.pt", weights_only=True)["epoch"] == 1
    return folder


def assert_same_run(first: Path, second: Path) -> None:
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert rows(first) == rows(second) and len(rows(first)) == 18
    assert (first / "validation.csv").read_bytes() == (second / "validation.csv").read_bytes()


def test_a_killed_run_goes_on_to_the_same_bits(
    options: tuple[str, ...], whole: Path, killed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(killed, folder)
    _, first, *epochs = here(*options, *LONGER, "-o", str(folder))
    assert first == "goes on after epoch 1"
    assert [line.split(":")[0] for line in epochs] == ["epoch 2/3", "epoch 3/3"]
    assert_same_run(folder, whole)
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in whole.iterdir())


def test_a_full_disk_keeps_the_last_state(options: tuple[str, ...], whole: Path, killed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(killed, folder)
    state = (folder / "last.pt").read_bytes()
    done = process("-c", LIMITED, "FSIZE", str(len(state) // 2), *options, *LONGER, "-o", str(folder))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[1:] == [
        "goes on after epoch 1",
        f"error: {folder / 'last.pt'}: File too large; check space and permissions",
    ]
    assert (folder / "last.pt").read_bytes() == state
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".last")]
    here(*options, *LONGER, "-o", str(folder))
    assert_same_run(folder, whole)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much memory a process has")
def test_out_of_memory_says_what_lowers_it(options: tuple[str, ...], tmp_path: Path) -> None:
    large = ("--set=augmentation.crop=1024", "--set=augmentation.side=1024", "-o", str(tmp_path / "run"))
    done = process("-c", LIMITED, "AS", str(400 << 20), *options, *large)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.partition("\n")[2] == (
        "error: out of memory; lower augmentation.crop (now 1024), raise accumulate (now 1, of a batch of 2), set"
        " precision=bfloat16, lower test_side (now 32) if it was validation\n"
    )


def test_two_processes_train_as_one(options: tuple[str, ...], tmp_path: Path) -> None:
    """Batch norm stands still, as each process would see its half of the batch alone.

    The prototypes of both are the same to the bit: each computes them of everybody's. They equal a single process's to
    rounding, as convolutions of one sample and of two add up in another order.
    """
    script = tmp_path / "every_rank.py"
    script.write_text(EVERY_RANK)
    frozen = ("--set=freeze_batch_norm=true", "--set=lr=1e-3", "--set=optimiser=sgd")
    here(*options, *frozen, "-o", str(tmp_path / "one"))
    run = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script), str(tmp_path / "rank"))
    done = process(*run, *options, *frozen, "-o", str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("best.safetensors: eopnet, k-way, epoch 2") == 1
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for rank in (0, 1):
        state = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        assert all(torch.equal(state[name], two[name]) for name in two)
    for name in ("memory.rows", "coarse.memory.rows"):
        assert (two[name] != 0).any(1).sum() >= 2
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert {name: float(value) for name, value in theirs.items()} == pytest.approx(
            {name: float(value) for name, value in ours.items()}, rel=1e-5, abs=1e-6
        )
