"""Texts and names of unknown origin never steer a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from oshp_bench.console import echo
from oshp_bench.errors import OshpError, printable


def test_what_cannot_be_printed_is_escaped() -> None:
    assert printable("a\x1b]0;x\x07\n\x7f\x9b\u202e\udcff") == "a\\x1b]0;x\\x07\\n\\u007f\\u009b\\u202e\\udcff"
    assert printable("Größe, 衣服\n", "\n") == "Größe, 衣服\n"
    assert OshpError("a\nb").problems == ("a\\nb",)


def test_escaped_json_is_the_same_json(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"name": "\x1b[2J \x7f \x9b \u202e \U000e0001 é"}
    echo(json.dumps(value, ensure_ascii=False))
    printed = capsys.readouterr().out
    assert printed.strip().isprintable() and json.loads(printed) == value


@pytest.mark.parametrize("arguments", [("bad\udcff.toml", "--fold", "1"), ("--frog\x1b]0;",), ("demo", "\x1b[2J")])
def test_names_from_the_command_line_are_escaped(arguments: tuple[str, ...]) -> None:
    code = "from oshp_bench.tailor.cli import main; main()"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    command: list[str | bytes] = [sys.executable, "-c", code, *map(os.fsencode, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2 and done.stderr.replace("\n", "").isprintable() and "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_help_on_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        code = "from oshp_bench.tailor.cli import main; main()"
        done = subprocess.run([sys.executable, "-c", code, "--help"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
