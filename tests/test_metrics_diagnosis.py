"""Testing bias, sizes and similar parts by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from metrics_cases import fast_result, mask_of
from slow_scorer import SlowPair

from oshp_bench.datasets.images import Mask

ROLES = {0: "background", 1: "base", 2: "base", 3: "novel", 4: "novel"}


def pair(query: str, target: int, *support: int) -> SlowPair:
    return SlowPair(query, target, frozenset(support), frozenset(support))


def kway(
    pairs: list[SlowPair], truth: dict[str, Mask], predictions: list[Mask], convention: str = "default"
) -> dict[str, Any]:
    found: dict[str, Any] = fast_result(pairs, ROLES, 6, truth, predictions, None, convention).diagnosis["kway"]
    return found


def oneway(pairs: list[SlowPair], truth: dict[str, Mask], predictions: list[Mask]) -> dict[str, Any]:
    found: dict[str, Any] = fast_result(pairs, ROLES, 6, truth, None, predictions).diagnosis["1way"]
    return found


def test_testing_bias_says_where_the_pixels_of_a_role_go() -> None:
    # Novel pixels: 3 3 3 4 4, predicted 3 4 1 0 4: right 2, other novel 1, base 1, background 1.
    # Base pixels: 1 1 2, predicted 1 2 3: right 1, other base 1, novel 1. The ignored pixel is nobody's.
    truth = {"a": mask_of("3 3 3 4 4 1 1 2 0 255")}
    bias = kway([pair("a", 3, 1, 2, 3, 4)], truth, [mask_of("3 4 1 0 4 1 2 3 3 3")])["testing_bias"]
    assert bias == {
        "novel": {
            "pixels": 5,
            "shares": {"right": 2 / 5, "other novel": 1 / 5, "base": 1 / 5, "background": 1 / 5, "removed label": 0},
        },
        "base": {
            "pixels": 3,
            "shares": {"right": 1 / 3, "other base": 1 / 3, "novel": 1 / 3, "background": 0, "removed label": 0},
        },
    }


def test_testing_bias_knows_the_episodes_truth_and_removed_labels() -> None:
    # The support has no 4, so that class is background in the truth: one novel pixel, predicted 5, which was removed.
    bias = kway([pair("a", 3, 3)], {"a": mask_of("3 4 4 1")}, [mask_of("5 4 4 1")], "official-2023")["testing_bias"]
    assert bias["novel"] == {
        "pixels": 1,
        "shares": {"right": 0, "other novel": 0, "base": 0, "background": 0, "removed label": 1},
    }
    assert bias["base"]["pixels"] == 0
    assert set(bias["base"]["shares"].values()) == {None}


def test_similar_parts_are_the_classes_most_often_swapped() -> None:
    # 1 and 2: 1 + 2 pixels swapped of 4 + 4; 3 and 4: 1 of 2 + 1; 1 and 3: 1 of 4 + 2.
    truth = {"a": mask_of("1 1 1 1 2 2 2 2 3 3 4 0")}
    parts = kway([pair("a", 1, 1, 2, 3, 4)], truth, [mask_of("1 1 2 3 1 1 2 2 3 4 4 4")])["similar_parts"]
    assert parts == [
        {"classes": ["c1", "c2"], "pixels": 3, "share": 3 / 8},
        {"classes": ["c3", "c4"], "pixels": 1, "share": 1 / 3},
        {"classes": ["c1", "c3"], "pixels": 1, "share": 1 / 6},
    ]


def sizes_of(rows: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in rows["classes"] if row["class"] == name)


def test_sizes_are_terciles_of_queries_by_the_share_of_the_class() -> None:
    # Class 1 covers 1..6 of 12 pixels in queries f, b, c, d, e, a: terciles (f b), (c d), (e a).
    # Query b stands in two pairs, which stay together. Class 1 predicted right but for one pixel of f, d and a each
    # (background instead), and one background pixel of e called 1.
    area = {"f": 1, "b": 2, "c": 3, "d": 4, "e": 5, "a": 6}
    truth, perfect = {}, {}
    for query, pixels in area.items():
        truth[query] = np.array([[1] * pixels + [0] * (12 - pixels)], np.uint8)
        perfect[query] = truth[query].copy()
    for query in ("f", "d", "a"):
        perfect[query][0, 0] = 0
    perfect["e"][0, 11] = 1
    order = ["a", "b", "c", "d", "e", "f", "b"]
    pairs = [pair(query, 1, 1) for query in order]
    row = sizes_of(kway(pairs, truth, [perfect[query] for query in order])["sizes"], "c1")
    # Small: f 0 of 1, b 2 of 2, twice: 4 / 5. Medium: c 3 of 3, d 3 of 4. Large: e 5 of 6, a 5 of 6.
    assert row == {
        "class": "c1",
        "small": 4 / 5,
        "small_up_to": 2 / 12,
        "small_pairs": 3,
        "medium": 6 / 7,
        "medium_up_to": 4 / 12,
        "medium_pairs": 2,
        "large": 10 / 12,
        "large_up_to": 6 / 12,
        "large_pairs": 2,
    }
    # In 1-way the same counts, as every pair was drawn for class 1.
    assert sizes_of(oneway(pairs, truth, [perfect[query] for query in order])["sizes"], "c1") == row


def test_sizes_leave_out_pairs_whose_support_lacks_the_class_and_ignored_pixels() -> None:
    # Pair 1's support lacks class 1. Of q's 8 counted pixels 2 are of class 1 (the ignored two are no part of a share).
    truth = {"q": mask_of("1 1 0 0 0 0 0 0 255 255"), "r": mask_of("1 0 0 0")}
    pairs = [pair("q", 1, 1), pair("r", 2, 2)]
    predictions = [mask_of("1 0 1 0 0 0 0 0 1 1"), mask_of("1 0 0 0")]
    sizes = kway(pairs, truth, predictions)["sizes"]
    row = sizes_of(sizes, "c1")
    # One query cannot be cut in three: it is the largest. Hit 1, missed 1, wrong 1.
    assert [row[f"{each}_pairs"] for each in ("small", "medium", "large")] == [0, 0, 1]
    assert row["large"] == 1 / 3
    assert row["large_up_to"] == 2 / 8
    assert row["small"] is row["small_up_to"] is None
    assert sizes["mean"] == {"small": None, "medium": None, "large": 1 / 3}


def test_the_mean_of_sizes_is_that_of_the_classes_that_have_one() -> None:
    truth = {"q": mask_of("1 1 3 3")}
    sizes = kway([pair("q", 1, 1, 2, 3)], truth, [mask_of("1 1 3 0")])["sizes"]
    assert sizes["mean"]["large"] == (1 + 1 / 2) / 2
    assert [row["class"] for row in sizes["classes"]] == ["c1", "c2", "c3", "c4"]


def test_false_positives_of_oneway_by_the_class_that_they_lie_on() -> None:
    # Class 3, pair 0: 3 3 1 2 0 4 0 with all but the first called foreground: wrong on 1, 2, 0, 4, 0; right once.
    # Class 3, pair 1: 3 1, both called foreground: wrong on 1. Wrong 6 of 8 predicted: 0 and 1 twice, 2, 4 once.
    truth = {"a": mask_of("3 3 1 2 0 4 0 255"), "b": mask_of("3 1")}
    pairs = [pair("a", 3, 3), pair("b", 3, 3), pair("b", 1, 1)]
    found = oneway(pairs, truth, [mask_of("0 1 1 1 1 1 1 1"), mask_of("9 9"), mask_of("0 0")])["false_positives"]
    rows = {row["class"]: row for row in found}
    assert rows["c3"] == {
        "class": "c3",
        "wrong_pixels": 6,
        "share_of_predicted": 6 / 8,
        "lies_on": {"background": 2 / 6, "c1": 2 / 6, "c2": 1 / 6},
    }
    # Nothing was called class 1, and no pair was drawn for class 2.
    for name in ("c1", "c2"):
        assert rows[name] == {"class": name, "wrong_pixels": 0, "share_of_predicted": None, "lies_on": {}}


@pytest.mark.parametrize("convention", ["default", "official-2023"])
def test_a_perfect_prediction_has_nothing_to_diagnose(convention: str) -> None:
    truth = {"q": mask_of("0 1 2 3 4")}
    pairs = [pair("q", 3, 1, 2, 3, 4)]
    found = kway(pairs, truth, [truth["q"]], convention)
    assert found["similar_parts"] == []
    assert found["testing_bias"]["novel"]["shares"]["right"] == 1
    assert set(found["sizes"]["mean"].values()) == {None, 1}
