"""The README and the results page tell the truth: their commands run, and print what stands below them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PLACEHOLDER = "path/to/clothing-co-parsing"


def examples(page: Path) -> Iterator[tuple[str, list[str]]]:
    """The commands of a page's console blocks, each with the lines shown below it."""
    for block in page.read_text().split("```console\n")[1:]:
        for example in block.split("```")[0].split("$ ")[1:]:
            command, *shown = example.rstrip().split("\n")
            while command.endswith("\\"):
                command, *shown = [command[:-1] + shown[0].strip(), *shown[1:]]
            yield command, [line.rstrip() for line in shown if line.strip() not in ("", "...")]


NEEDS_DATA = pytest.mark.skipif("OSHP_TEST_DATA" not in os.environ, reason="its commands need OSHP_TEST_DATA")


@pytest.mark.parametrize("page", ["README.md", pytest.param("docs/results/ccp.md", marks=NEEDS_DATA)])
def test_commands_print_what_the_page_shows(page: str, tmp_path: Path) -> None:
    data = os.environ.get("OSHP_TEST_DATA")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for command, shown in examples(ROOT / page):
        if command.startswith(("make", "git clone")) or (PLACEHOLDER in command and not data):
            continue
        real = command.replace(PLACEHOLDER, str(Path(data or "", "ccp")))
        done = subprocess.run(
            real, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        printed = [line.rstrip() for line in (done.stdout + done.stderr).splitlines()]
        missing = [line for line in shown if line not in printed]
        assert not missing, f"{command} did not print {missing}; it printed\n" + "\n".join(printed)
