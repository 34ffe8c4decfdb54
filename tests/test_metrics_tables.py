"""Tables hold any name that a manifest may hold, in any form."""

from __future__ import annotations

import pytest

from oshp_bench.report.tables import Table, as_latex, as_markdown, as_text

NAMES = Table("Names", ("%", "value"), (("left_arm & 50% {x}", "1.00"), ("a|b", "-"), (r"\input~^#$", "22.50")))


def test_text_is_aligned() -> None:
    assert as_text(NAMES).splitlines() == [
        "Names",
        "%                   value",
        "-------------------------",
        "left_arm & 50% {x}   1.00",
        "a|b                     -",
        r"\input~^#$          22.50",
    ]


def test_latex_is_escaped() -> None:
    assert as_latex(NAMES).splitlines()[4:8] == [
        r"\midrule",
        r"left\_arm \& 50\% \{x\} & 1.00 \\",
        r"a|b & - \\",
        r"\textbackslash{}input\textasciitilde{}\textasciicircum{}\#\$ & 22.50 \\",
    ]


def test_markdown_is_escaped() -> None:
    assert r"| a\|b | - |" in as_markdown(NAMES).splitlines()


@pytest.mark.parametrize("render", [as_text, as_latex, as_markdown])
def test_a_table_without_rows_is_a_header(render: object) -> None:
    assert callable(render)
    assert "value" in render(Table("Empty", ("%", "value"), ()))
