"""The README and the results page tell the truth: their commands run, and print what stands below them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from click.testing import CliRunner

from oshp_bench.metrics.result_file import load_result

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
def test_commands_print_what_the_page_shows(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one process, so that the people of the embedded dataset are drawn once and not by every command."""
    data = os.environ.get("OSHP_TEST_DATA")
    monkeypatch.chdir(tmp_path)
    for command, shown in examples(ROOT / page):
        if command.startswith(("make", "git clone")) or (PLACEHOLDER in command and not data):
            continue
        name, *arguments = shlex.split(command.replace(PLACEHOLDER, str(Path(data or "", "ccp"))))
        (point,) = entry_points(group="console_scripts", name=name)
        done = CliRunner().invoke(point.load(), arguments)
        assert done.exit_code == 0, f"{command}\n{done.output}"
        printed = [line.rstrip() for line in done.output.splitlines()]
        missing = [line for line in shown if line not in printed]
        assert not missing, f"{command} did not print {missing}; it printed\n" + "\n".join(printed)


def test_the_table_shows_the_committed_results() -> None:
    columns = ("kway/novel_miou", "kway/human_miou", "kway/overall_accuracy", "1way/novel_miou", "1way/bi_miou")
    names = {"all background": "background", "EOP-Net": "eopnet"}
    rows = [line.strip("| ").split(" | ") for line in (ROOT / "README.md").read_text().splitlines() if "/" in line]
    rows = [row for row in rows if len(row) == 1 + len(columns)][1:]
    assert len(rows) == 5
    for title, *cells in rows:
        method = names.get(title, title.split(":")[0].split(" ")[0])
        folds = [load_result(ROOT / f"docs/results/ccp/ccp_fold{fold}-{method}.json") for fold in (1, 2)]
        shown = [" / ".join(f"{100 * (result.figures[name].value or 0):.1f}" for result in folds) for name in columns]
        assert [cell.replace("**", "") for cell in cells] == shown
