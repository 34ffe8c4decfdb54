"""oshp-score as a process that is interrupted, killed or out of disk: whole files or none, and no traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from metrics_cases import Bench, make_bench

from oshp_bench.datasets.labels import Spec
from oshp_bench.metrics import load_matrices

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="signals and file limits of POSIX")]

# A file may grow to `limit` bytes; what happens then is an error (as on a full disk) or death in the middle of a write.
LIMITED = """
import resource, signal, sys
limit, deadly = int(sys.argv.pop(1)), sys.argv.pop(1) == "deadly"
signal.signal(signal.SIGXFSZ, signal.SIG_DFL if deadly else signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from oshp_bench.report.cli import main
main()
"""


# A shell's background jobs, such as this test may be one of, hand down that Ctrl-C is to be ignored.
PLAIN = (
    "-c",
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    " from oshp_bench.report.cli import main; main()",
)

# Tells, before everything else, when the manifest is opened.
TOLD = """
import sys
def hook(event, arguments):
    if event == "open" and str(arguments[0]) == sys.argv[sys.argv.index("--manifest") + 1]:
        print("opened", flush=True)
sys.addaudithook(hook)
"""


@pytest.fixture(scope="module")
def bench(tiny_spec: Spec, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tiny_spec, tiny_root, tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def sets(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("sets")
    return tuple(bench.write(folder / name, seed, ways=("kway",)) for seed, name in enumerate(("first", "second")))  # type: ignore[return-value]


def command(bench: Bench, predictions: Path, out: Path, *options: object) -> list[str]:
    """The arguments of oshp-score."""
    return [*map(str, (predictions, "--manifest", bench.manifest_file, "--out", out, "--resamples=20", *options))]


def score(*arguments: str, before: tuple[str, ...] = PLAIN) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *before, *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder but for unfinished ones, whose names start with a dot."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_a_full_disk_leaves_what_was_there(bench: Bench, sets: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    runner = ("-c", LIMITED)
    assert score(*command(bench, sets[0], out), before=(*runner, str(1 << 30), "error")).returncode == 0
    before = contents(out)
    assert score(*command(bench, sets[1], tmp_path / "whole")).returncode == 0
    # Room for nothing; then not for the matrices, which are written first and the largest file of a real test.
    for limit in (0, len(contents(tmp_path / "whole")["matrices.npz"]) - 1):
        result = score(*command(bench, sets[1], out), before=(*runner, str(limit), "error"))
        assert result.returncode == 2
        assert result.stdout == ""
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ")
        assert line.endswith("; check space and permissions")
        assert contents(out) == before
        assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_death_in_the_middle_of_a_write_leaves_no_half_file(
    bench: Bench, sets: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    runner = ("-c", LIMITED)
    assert score(*command(bench, sets[0], out), before=(*runner, str(1 << 30), "error")).returncode == 0
    before = contents(out)
    result = score(*command(bench, sets[1], out), before=(*runner, "5000", "deadly"))
    assert result.returncode == -signal.SIGXFSZ
    assert contents(out) == before
    # The next run writes over what the dead one left.
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == [".matrices.npz.part"]
    assert score(*command(bench, sets[1], out), before=(*runner, str(1 << 30), "error")).returncode == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(before)
    assert contents(out)["matrices.npz"] != before["matrices.npz"]


class Running:
    """A run that has opened its manifest and is at work."""

    def __init__(self, bench: Bench, tmp_path: Path, predictions: Path, *options: object) -> None:
        self.out = tmp_path / "out"
        self.process = subprocess.Popen(
            [sys.executable, "-c", TOLD + PLAIN[1], *command(bench, predictions, self.out, *options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "opened\n"

    def stop(self, after: float, number: signal.Signals) -> str:
        """Signals the process or, as a terminal does, its group; gives what was printed on stderr.

        Workers hold stderr open, so its end comes when the last of them has ended.
        """
        time.sleep(after)
        assert self.process.poll() is None
        if number == signal.SIGINT:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)
        _, stderr = self.process.communicate(timeout=30)
        return stderr


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_ends_without_a_traceback(bench: Bench, sets: tuple[Path, Path], tmp_path: Path, jobs: int) -> None:
    # While workers start, while they count, and in the resampling.
    for after in (0.2, 0.6, 1.5):
        running = Running(bench, tmp_path, sets[0], f"--jobs={jobs}", "--resamples=1000000")
        assert running.stop(after, signal.SIGINT).splitlines() == ["stopped"]
        assert running.process.returncode == 130
        assert not running.out.exists()


def test_a_killed_run_leaves_the_files_of_the_one_before(bench: Bench, sets: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert score(*command(bench, sets[0], out)).returncode == 0
    before = contents(out)
    for after in (0.2, 0.8):
        running = Running(bench, tmp_path, sets[1], "--resamples=1000000", "--jobs=2")
        running.stop(after, signal.SIGKILL)
        assert running.process.returncode == -signal.SIGKILL
        assert contents(out) == before
    assert load_matrices(out / "matrices.npz", bench.manifest)[1] == "default"
    assert json.loads(before["result.json"])["format"] == "oshp-result/1"


def test_a_reader_that_stops_early_is_no_error(bench: Bench, sets: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = command(bench, sets[0], tmp_path / "out", "--format=csv")
    process = subprocess.Popen(
        [sys.executable, *PLAIN, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait(60)
    assert (tmp_path / "out" / "result.json").exists()
