"""Tables hold any name that a manifest may hold, in any form."""

from __future__ import annotations

import pytest
from metrics_cases import fast_result, mask_of
from slow_scorer import SlowPair

from oshp_bench.metrics import Difference
from oshp_bench.report.tables import Table, as_latex, as_markdown, as_text, comparison_table

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


def test_p_values_are_corrected_and_those_that_contradict_their_interval_are_marked() -> None:
    """Holm of 0.03, 0.04 and 0.06: 3 x 0.03 = 0.09; 2 x 0.04 = 0.08 and 1 x 0.06 are not below the one before."""
    mask = mask_of("0 1, 1 2")
    pair = SlowPair("q", 1, frozenset({1, 2}), frozenset({1, 2}))
    result = fast_result([pair], {0: "background", 1: "base", 2: "novel"}, 3, {"q": mask}, [mask], None)
    table = comparison_table(
        ("a", "b"),
        (result, result),
        {
            "kway/human_miou": Difference(0.1, 0.01, 0.2, 0.03),
            # The interval excludes 0, the test does not.
            "kway/novel_miou": Difference(0.1, 0.01, 0.2, 0.06),
            # The test does, the interval holds 0.
            "kway/base_miou": Difference(-0.1, -0.2, 0.01, 0.04),
            "kway/overall_accuracy": Difference(None, None, None, None),
        },
    )
    assert table.title.endswith("over 1 queries; p, Holm: corrected for 3 tests")
    assert [row[5:] for row in table.rows] == [
        ("0.0300", "0.0900"),
        ("0.0600†", "0.0900"),
        ("0.0400†", "0.0900"),
        ("-", "-"),
    ]
    for render in (as_text, as_markdown, as_latex):
        assert "† interval and p disagree about 0" in render(table)
    alone = comparison_table(("a", "b"), (result, result), {"kway/human_miou": Difference(0.1, 0.01, 0.2, 0.03)})
    assert alone.note == ""
