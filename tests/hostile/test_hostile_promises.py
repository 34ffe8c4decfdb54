"""Every promise of docs/security.md names files and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "security.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and "`" in line
]


def test_there_are_promises() -> None:
    assert len(ROWS) >= 12


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_a_promise_is_kept_by_tests_that_exist(row: list[str]) -> None:
    _, code, tests = row
    for name in re.findall(r"`([^`]+)`", code):
        assert (ROOT / "oshp_bench" / name).is_file(), name
    named = re.findall(r"`([^`]+)`", tests)
    assert named
    for test in named:
        file, _, function = test.partition("::")
        assert f"\ndef {function}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), test
