"""Every figure by hand, and against the slow scorer, which shares no code with the fast one."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metrics_cases import fast_result, mask_of, small_manifest, values
from slow_scorer import SlowPair, slow_score

from oshp_bench.datasets.images import ImageProblem, Mask
from oshp_bench.episodes.episodes import WAYS
from oshp_bench.errors import OshpError
from oshp_bench.metrics import Accumulator, Resampling, score_matrices
from oshp_bench.metrics.figures import FIGURES, SHAPE_FIGURES, parse_figure

CONVENTIONS = pytest.mark.parametrize("convention", ["default", "official-2023"])


def pair(query: str, target: int, support: set[int], stride4: set[int] | None = None) -> SlowPair:
    return SlowPair(query, target, frozenset(support), frozenset(support if stride4 is None else stride4))


def floats(expected: dict[str, str | None]) -> dict[str, float | None]:
    """Exact fractions as the floats nearest to them."""
    return {name: None if value is None else float(Fraction(value)) for name, value in expected.items()}


@CONVENTIONS
def test_kway_by_hand_with_classes_outside_the_support_and_ignored_pixels(convention: str) -> None:
    # a: classes 1 and 5 are in C_s, so the 2 is background: truth [0 1 1][0 5 -].
    #    H: 00 = 2, 11 = 1, 12 = 1, 51 = 1; the ignored pixel is in no cell.
    # b: classes 2 and 5 are in C_s. H: 00 = 1, 55 = 1, 50 = 1, 22 = 1.
    # IoU 0 = 3 / (3 + 4 - 3), 1 = 1 / (2 + 2 - 1), 2 = 1 / (1 + 2 - 1), 5 = 1 / (3 + 1 - 1).
    # human (3/4 + 1/3 + 1/2 + 1/3) / 4, base (1/3 + 1/2) / 2, with background (3/4 + 1/3 + 1/2) / 3;
    # 6 of 9 pixels are right; accuracies 3/3, 1/2, 1/1, 1/3 of mean 17/24.
    # Episode a: IoU 1, 1/3, 0, 0, 3 of 5 pixels; episode b: 1/2, none, 1, 1/2, 3 of 4 pixels.
    pairs = [pair("a", 5, {1, 5}), pair("b", 2, {2, 5})]
    roles = {0: "background", 1: "base", 2: "base", 5: "novel"}
    truth = {"a": mask_of("0 1 1, 2 5 255"), "b": mask_of("0 5, 5 2")}
    kway = [mask_of("0 1 2, 0 1 5"), mask_of("0 5, 0 2")]
    assert values(fast_result(pairs, roles, 6, truth, kway, None, convention)) == floats(
        {
            "kway/human_miou": "23/48",
            "kway/novel_miou": "1/3",
            "kway/base_miou": "5/12",
            "kway/base_miou_with_background": "19/36",
            "kway/human_miou_without_background": "7/18",
            "kway/overall_accuracy": "6/9",
            "kway/mean_accuracy": "17/24",
            "kway/episode_human_miou": "1/2",
            "kway/episode_human_miou_without_background": "31/72",
            "kway/episode_novel_miou": "1/4",
            "kway/episode_accuracy": "27/40",
            "kway/iou/0": "3/4",
            "kway/iou/1": "1/3",
            "kway/iou/2": "1/2",
            "kway/iou/5": "1/3",
            "kway/accuracy/0": "1",
            "kway/accuracy/1": "1/2",
            "kway/accuracy/2": "1",
            "kway/accuracy/5": "1/3",
        }
    )


def stride4_case(prediction: str, convention: str, labels: int = 9) -> dict[str, float | None]:
    """One query 0 1 1 2; the support holds 1 and 2, of which its stride-4 grid keeps 1; label 8 was removed."""
    roles = {0: "background", 1: "base", 2: "base", 3: "novel"}
    result = fast_result(
        [pair("q", 1, {1, 2}, {1})], roles, labels, {"q": mask_of("0 1 1 2")}, [mask_of(prediction)], None, convention
    )
    return values(result)


def test_kway_by_hand_in_the_official_convention() -> None:
    # Class 2 is not in the stride-4 C_s: truth 0 1 1 0. H: 00 = 1, 11 = 1, 18 = 1, 02 = 1; the removed label 8 stays
    # in row 1 and in the sum. IoU 0 = 1/2, 1 = 1 / (2 + 1 - 1) = 1/2, 2 = 0 / 1, 3 occurs nowhere.
    figures = stride4_case("0 1 8 2", "official-2023")
    assert figures == floats(
        {
            "kway/human_miou": "1/3",
            "kway/novel_miou": None,
            "kway/base_miou": "1/4",
            "kway/base_miou_with_background": "1/3",
            "kway/human_miou_without_background": "1/4",
            "kway/overall_accuracy": "1/2",
            "kway/mean_accuracy": "1/2",
            "kway/episode_human_miou": "1/3",
            "kway/episode_human_miou_without_background": "1/4",
            "kway/episode_novel_miou": None,
            "kway/episode_accuracy": "1/2",
            "kway/iou/0": "1/2",
            "kway/iou/1": "1/2",
            "kway/iou/2": "0",
            "kway/iou/3": None,
            "kway/accuracy/0": "1/2",
            "kway/accuracy/1": "1/2",
            "kway/accuracy/2": None,
            "kway/accuracy/3": None,
        }
    )


def test_kway_by_hand_in_the_default_convention() -> None:
    # Class 2 is in C_s. H: 00 = 1, 11 = 1, 10 = 1, 22 = 1. IoU 0 = 1/2, 1 = 1/2, 2 = 1; accuracies 1, 1/2, 1.
    figures = stride4_case("0 1 0 2", "default")
    expected = {"human_miou": "2/3", "novel_miou": None, "base_miou": "3/4", "base_miou_with_background": "2/3"}
    expected |= {"human_miou_without_background": "3/4", "overall_accuracy": "3/4", "mean_accuracy": "5/6"}
    expected |= {"iou/0": "1/2", "iou/1": "1/2", "iou/2": "1", "iou/3": None}
    expected |= {"episode_human_miou": "2/3", "episode_novel_miou": None, "episode_accuracy": "3/4"}
    expected |= {"episode_human_miou_without_background": "3/4", "accuracy/3": None, "accuracy/1": "1/2"}
    assert {name: figures[f"kway/{name}"] for name in expected} == floats(expected)


@pytest.mark.parametrize(
    ("prediction", "convention", "labels", "problem"),
    [
        ("0 1 8 2", "default", 9, "holds 8, which are not class ids; looks like unmerged labels"),
        ("0 1 8 2", "official-2023", 4, "holds 8"),
        ("0 1 9 2", "official-2023", 9, "holds 9"),
        ("0 1, 1 2", "default", 9, r"the prediction is uint8 \(2, 2\), not uint8 \(1, 4\) like the truth"),
        ("0 1 1 2 0", "official-2023", 9, r"not uint8 \(1, 4\) like the truth"),
    ],
)
def test_kway_refuses(prediction: str, convention: str, labels: int, problem: str) -> None:
    with pytest.raises(ImageProblem, match=problem):
        stride4_case(prediction, convention, labels)


def test_oneway_by_hand() -> None:
    # Query x: 1 1 2 0 255. Pair 0 (class 1) predicts 7 0 0 0 7: 1 hit, 1 missed, 0 wrong, 2 left.
    # Pairs 1-9 (class 1) predict 1 1 1 0 0: 2, 0, 1, 1 each. Pair 10 (class 2) predicts 2 2 2 0 0: 1, 0, 2, 1.
    # Class 1: 19, 1, 9, 11: foreground 19/29, background 11/21. Class 2: 1/3 and 1/3. Class 3 has no pairs.
    # Background entry (11/21 + 1/3) / 2 = 3/7; human (3/7 + 19/29 + 1/3) / 3.
    # All: 20, 1, 11, 12: accuracy 32/44, Bi (20/32 + 12/24) / 2; official (pairs 0, 10): 2, 1, 2, 3: (2/5 + 3/6) / 2.
    # Episode IoU: (1/2 + 9 * 2/3 + 1/3) / 11; episode Bi: ((1/2 + 2/3) / 2 + 9 (2/3 + 1/2) / 2 + 1/3) / 11.
    roles = {0: "background", 1: "base", 2: "novel", 3: "novel"}
    pairs = [*(pair("x", 1, {1}) for _ in range(10)), pair("x", 2, {2})]
    oneway = [mask_of("7 0 0 0 7"), *(mask_of("1 1 1 0 0") for _ in range(9)), mask_of("2 2 2 0 0")]
    truth = {"x": mask_of("1 1 2 0 255")}
    expected: dict[str, str | None] = {
        "1way/human_miou": "863/1827",
        "1way/novel_miou": "1/3",
        "1way/base_miou": "19/29",
        "1way/base_miou_with_background": "110/203",
        "1way/human_miou_without_background": "43/87",
        "1way/bi_miou": "9/16",
        "1way/overall_accuracy": "8/11",
        "1way/episode_bi_miou": "37/66",
        "1way/episode_iou": "41/66",
        "1way/iou/0": "3/7",
        "1way/iou/1": "19/29",
        "1way/iou/2": "1/3",
        "1way/iou/3": None,
    }
    assert values(fast_result(pairs, roles, 4, truth, None, oneway)) == floats(expected)
    expected["1way/bi_miou"] = "9/20"
    assert values(fast_result(pairs, roles, 4, truth, None, oneway, "official-2023")) == floats(expected)


@CONVENTIONS
@pytest.mark.parametrize("pairs", [[pair("x", 1, {1})], []], ids=["all-ignored", "no-pairs"])
def test_nothing_to_count_gives_no_figure(convention: str, pairs: list[SlowPair]) -> None:
    roles = {0: "background", 1: "base", 2: "novel"}
    truth = {"x": mask_of("255 255")}
    predictions = [mask_of("1 0") for _ in pairs]
    result = fast_result(pairs, roles, 3, truth, predictions, predictions, convention, Resampling(20))
    slow = slow_score(pairs, roles, frozenset(), truth, predictions, predictions, convention)
    if pairs:
        assert values(result) == slow
    assert all(figure.value is figure.low is figure.high is None for figure in result.figures.values())


class Case:
    """Random masks, pairs and predictions: labels 0..8 of which some are classes, 255 among the truth."""

    def __init__(self, seed: int, convention: str) -> None:
        generator = np.random.default_rng(seed)
        self.labels = 9
        foreground = np.sort(generator.permutation(np.arange(1, 9))[: generator.integers(2, 7)]).tolist()
        novel = foreground[:: int(generator.integers(1, 3)) + 1]
        self.roles = {0: "background", **{each: "novel" if each in novel else "base" for each in foreground}}
        self.removed = frozenset(range(9)) - self.roles.keys()
        self.convention = convention
        legal = [*self.roles, *(sorted(self.removed) if convention == "official-2023" else ())]
        # Few of the classes in use, so that some are absent everywhere.
        in_use = [0, *foreground[: generator.integers(1, len(foreground) + 1)]]
        self.truth: dict[str, Mask] = {}
        for number in range(generator.integers(1, 5)):
            shape = generator.integers(1, 9, 2)
            self.truth[f"q{number}"] = generator.choice([*in_use, *in_use, 255], shape).astype(np.uint8)
        self.pairs: list[SlowPair] = []
        self.kway: list[Mask] = []
        self.oneway: list[Mask] = []
        for _ in range(generator.integers(1, 24)):
            query = f"q{generator.integers(len(self.truth))}"
            support = frozenset(each for each in foreground if generator.random() < 0.6)
            stride4 = frozenset(each for each in support if generator.random() < 0.8)
            self.pairs.append(SlowPair(query, int(generator.choice(foreground)), support, stride4))
            mask = self.truth[query]
            noise = generator.choice(legal, mask.shape)
            right = (generator.random(mask.shape) < generator.random()) & (mask != 255)
            self.kway.append(np.where(right, mask, noise).astype(np.uint8))
            foreground_value = np.uint8(generator.integers(1, 256))
            self.oneway.append(np.where(generator.random(mask.shape) < 0.5, foreground_value, np.uint8(0)))

    def slow(self) -> dict[str, float | None]:
        return slow_score(self.pairs, self.roles, self.removed, self.truth, self.kway, self.oneway, self.convention)

    def fast(self) -> dict[str, float | None]:
        result = fast_result(self.pairs, self.roles, self.labels, self.truth, self.kway, self.oneway, self.convention)
        return values(result)


def assert_equal_figures(fast: dict[str, float | None], slow: dict[str, float | None]) -> None:
    """Pooled figures are equal; means over episodes are sums of rounded values and may differ in the last digit."""
    assert fast.keys() == slow.keys()
    for name, value in slow.items():
        if "/episode_" in name and value is not None:
            assert fast[name] == pytest.approx(value, rel=1e-15, abs=0), name
        else:
            assert fast[name] == value, name


@pytest.mark.slow
@given(seed=st.integers(0, 2**32), convention=st.sampled_from(["default", "official-2023"]))
def test_fast_and_slow_scorer_agree(seed: int, convention: str) -> None:
    case = Case(seed, convention)
    assert_equal_figures(case.fast(), case.slow())


@pytest.mark.slow
@given(seed=st.integers(0, 2**32))
def test_the_order_of_pairs_changes_nothing(seed: int) -> None:
    case = Case(seed, "default")
    before = case.fast()
    order = np.random.default_rng(seed).permutation(len(case.pairs)).tolist()
    case.pairs, case.kway, case.oneway = (
        [each[index] for index in order] for each in (case.pairs, case.kway, case.oneway)
    )
    assert case.fast() == before


@pytest.mark.slow
@given(seed=st.integers(0, 2**32), convention=st.sampled_from(["default", "official-2023"]))
def test_a_perfect_prediction_scores_one(seed: int, convention: str) -> None:
    case = Case(seed, convention)
    for index, each in enumerate(case.pairs):
        mask = case.truth[each.query]
        support = each.stride4_classes if convention == "official-2023" else each.support_classes
        case.kway[index] = np.where(np.isin(mask, sorted(support)), mask, 0).astype(np.uint8)
        case.oneway[index] = (mask == each.target).astype(np.uint8)
    assert set(case.fast().values()) <= {1.0, None}
    # Only what the truth does not hold has no figure.
    assert (case.fast()["kway/overall_accuracy"] is None) == all(
        (case.truth[each.query] == 255).all() for each in case.pairs
    )


def test_the_accumulator_wants_every_pair_of_a_way() -> None:
    manifest = small_manifest({0: "background", 1: "base", 2: "novel"}, 3, [pair("x", 1, {1}), pair("x", 2, {2})])
    accumulator = Accumulator(manifest, manifest.pairs)
    accumulator.add("1", 1, mask_of("0 1"), mask_of("0 0"))
    with pytest.raises(OshpError, match="1way: 1 of 2 pairs were counted"):
        accumulator.matrices()


@pytest.mark.parametrize(
    "truth", [mask_of("0 3"), mask_of("0 254"), np.array([[0, -1]]), np.zeros((1, 2, 1), np.uint8)]
)
def test_the_accumulator_refuses_what_is_no_truth(truth: Mask) -> None:
    manifest = small_manifest({0: "background", 1: "base", 2: "novel"}, 3, [pair("x", 1, {1})])
    with pytest.raises(ValueError, match="the truth"):
        Accumulator(manifest, manifest.pairs).add("k", 0, truth, mask_of("0 0"))


def test_the_official_convention_needs_the_supports_stride4_classes() -> None:
    manifest = small_manifest({0: "background", 1: "base", 2: "novel"}, 3, [pair("x", 1, {1})])
    accumulator = Accumulator(manifest, manifest.pairs, "official-2023")
    accumulator.add("k", 0, mask_of("0 1"), mask_of("0 1"))
    with pytest.raises(OshpError, match="stride-4 classes of 1 supports, for example s0"):
        score_matrices(manifest, accumulator.matrices(), convention="official-2023", resampling=Resampling(0))


def test_an_unknown_convention_is_named() -> None:
    manifest = small_manifest({0: "background", 1: "base", 2: "novel"}, 3, [pair("x", 1, {1})])
    with pytest.raises(OshpError, match="unknown convention 'strict'; choose one of default, official-2023"):
        Accumulator(manifest, manifest.pairs, "strict")


def test_the_page_defines_every_figure_as_the_table_does() -> None:
    page = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = [
        f"| `{kind.full_name(way)}{'/ID' if kind.per_class else ''}` | {kind.label} | {kind.formula} |"
        for way in WAYS
        for kind in FIGURES.values()
        if way in kind.ways
    ]
    assert [line for line in page.splitlines() if line.startswith(("| `kway/", "| `1way/"))] == rows
    shapes = [
        f"| `WAY/{kind.name}@{kind.setting}{'/ID' if kind.per_class else ''}` | {kind.label} | {kind.formula} |"
        for kind in SHAPE_FIGURES.values()
    ]
    assert [line for line in page.splitlines() if line.startswith("| `WAY/")] == shapes


def test_results_hold_the_figures_of_the_table_in_its_order() -> None:
    case = Case(1, "default")
    ids = small_manifest(case.roles, case.labels, case.pairs).class_ids
    assert list(case.fast()) == [
        kind.full_name(way, class_id)
        for way in WAYS
        for kind in FIGURES.values()
        if way in kind.ways
        for class_id in (ids if kind.per_class else (None,))
    ]


def test_full_names_are_split_as_they_are_made() -> None:
    for way in WAYS:
        for kind in FIGURES.values():
            if way in kind.ways:
                class_id = 16 if kind.per_class else None
                assert parse_figure(kind.full_name(way, class_id)) == (way, kind, class_id)


def test_names_with_a_setting_are_split_as_they_are_made() -> None:
    for kind in SHAPE_FIGURES.values():
        named = kind.at({"RATIO": "0.005", "N": "25"}[kind.setting])
        class_id = 16 if kind.per_class else None
        for way in WAYS:
            assert parse_figure(named.full_name(way, class_id)) == (way, named, class_id)


@pytest.mark.parametrize(
    "name",
    ["", "iou", "kway", "kway/", "kway/iou", "kway/iou/", "kway/iou/a", "kway/iou/-1", "kway/iou/\u0663", "2way/iou/1",
     "kway/bi_miou", "1way/accuracy/1", "kway/human_miou/1", "kway/unknown", "kway/iou@0.005/1", "kway/boundary_iou/1",
     "kway/boundary_iou@/1", "kway/boundary_iou@1.5/1", "kway/boundary_iou@0.0050/1", "kway/boundary_iou@25/1",
     "kway/found_parts@0", "kway/found_parts@025", "kway/found_parts@0.005", "kway/found_parts@\u0663"],
)  # fmt: skip
def test_what_is_no_figure_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no figure is called"):
        parse_figure(name)
