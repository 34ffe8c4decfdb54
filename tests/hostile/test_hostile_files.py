"""Files that would hang, outgrow memory or be written over: one opener and one writer refuse them."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from oshp_bench.errors import OshpError
from oshp_bench.files import parse_json, read_bounded, read_toml, reserved, write_text, written_whole

# What a refused input may take; the inputs here took a minute or several gigabytes before they were bounded.
SECONDS, BYTES = 20, 1 << 30


def bounded(code: str, *arguments: str) -> str:
    """Runs code in a process of its own, within bounds, and returns what it prints."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({BYTES}, {BYTES}))\n"
    command = [sys.executable, "-c", limit + code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS).stdout


def test_a_pipe_without_a_writer_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    code = "import sys\nfrom pathlib import Path\nfrom oshp_bench.files import *\n"
    code += "try: read_bounded(Path(sys.argv[1]), 100)\nexcept OshpError as error: print(error)"
    assert "not a regular file" in bounded(code, str(tmp_path / "pipe"))
    with pytest.raises(OshpError, match="cannot be read"):
        read_bounded(tmp_path, 100)


def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OshpError, match="not a regular file"):
        write_text(tmp_path / "pipe", "text")
    assert (tmp_path / "pipe").is_fifo()


def test_a_device_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")
    with pytest.raises(OshpError, match="not a regular file"):
        write_text(device, "text")
    assert device.is_char_device()


def test_two_writers_of_one_file_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    with written_whole(path) as first:
        first.write(b"first " * 1000)
        with written_whole(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
        first.write(b"end")
    assert path.read_bytes() == b"first " * 1000 + b"end"
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_a_rerun_writes_over_what_a_killed_run_left(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    code = "import os, sys\nfrom pathlib import Path\nfrom oshp_bench.files import written_whole\n"
    code += (
        "with written_whole(Path(sys.argv[1])) as file:\n file.write(b'x' * 99); file.flush(); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [file.name for file in tmp_path.iterdir()] == [".result.json.part"]
    write_text(path, "whole")
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_a_folder_is_free_again_when_its_run_dies(tmp_path: Path) -> None:
    code = "import sys, time\nfrom pathlib import Path\nfrom oshp_bench.files import reserved\n"
    code += "with reserved(Path(sys.argv[1])):\n print('in', flush=True); time.sleep(99)"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        run.stdout.readline()
        with pytest.raises(OshpError, match=f"process {run.pid} writes there"), reserved(tmp_path):
            pass
        run.kill()
    with reserved(tmp_path):
        pass


def test_a_key_that_stands_twice_after_many_others_is_found_in_one_pass() -> None:
    members = ",".join(f'"{number}":0' for number in range(90_000))
    with pytest.raises(OshpError, match="'x' stands there twice"):
        parse_json(f'{{"x":1,{members},"x":2}}'.encode(), "file.json")


@pytest.mark.parametrize("text", ["a." * 40_000 + "b = 1", "[" + "a . " * 40_000 + "b]", "'a'." * 40_000 + "b = 1"])
def test_a_key_of_thousands_of_parts_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(text)
    code = "import sys\nfrom pathlib import Path\nfrom oshp_bench.files import *\n"
    code += "try: read_toml(Path(sys.argv[1]))\nexcept OshpError as error: print(error)"
    assert "nested too deeply" in bounded(code, str(path))


def test_dots_in_texts_are_no_long_key(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text("a.b.c = 1\n# " + "." * 100 + "\nd = '" + "1.5, " * 100 + "'\n")
    assert read_toml(path)["a"] == {"b": {"c": 1}}
