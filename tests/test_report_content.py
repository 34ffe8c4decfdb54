"""What a report says, computed by hand; and how names of unknown origin are shown."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metrics_cases import Bench, fast_result, make_bench, mask_of, scored
from PIL import Image
from slow_scorer import SlowPair

from oshp_bench.datasets.labels import Spec
from oshp_bench.datasets.palette import colour_of
from oshp_bench.datasets.sources import find_source
from oshp_bench.errors import OshpError
from oshp_bench.metrics import Resampling, Result
from oshp_bench.metrics.predictions import open_predictions
from oshp_bench.metrics.result import Figure
from oshp_bench.report import words
from oshp_bench.report.content import Report, ScoredSet, confusion, destinations, report_of, swaps
from oshp_bench.report.examples import Gallery, Ranking, episode_values
from oshp_bench.report.pictures import ERRORS, episodes, errors

ROLES = {0: "background", 1: "base", 2: "novel", 3: "novel", 4: "base"}
TRUTH = mask_of("0 0 1 1, 2 2 2 2, 3 3 4 4")
PREDICTION = mask_of("0 1 1 2, 2 2 1 3, 3 0 4 2")
PAIR = SlowPair("q", 2, frozenset({1, 2, 3, 4}), frozenset({1, 2, 3, 4}))


def result_of(prediction: str = "", convention: str = "default", labels: int = 5) -> Result:
    kway = [mask_of(prediction) if prediction else PREDICTION]
    return fast_result([PAIR], ROLES, labels, {"q": TRUTH}, kway, None, convention)


def report(*results: Result) -> Report:
    return report_of(results, [f"set {number}" for number in range(len(results))], (), None, None, "")


def test_where_pixels_go() -> None:
    content = report(result_of())
    (scored_set,) = content.sets
    classes = {each.id: each for each in content.classes}
    # Class 2 has four pixels: two right, one taken for 3 (the other novel class), one for 1 (a base class).
    assert destinations(scored_set, [classes[2]]) == {
        "right": 0.5,
        "same": 0.25,
        "other": 0.25,
        "void": 0,
        "removed": 0,
    }
    # Classes 2 and 3 have six: three right, one for the other novel class, one for base, one for background.
    sixth = 1 / 6
    novel = destinations(scored_set, [classes[2], classes[3]])
    assert novel == pytest.approx({"right": 3 * sixth, "same": sixth, "other": sixth, "void": sixth, "removed": 0})
    assert list(novel.values()) == list(scored_set.result.diagnosis["kway"]["testing_bias"]["novel"]["shares"].values())


def test_the_confusion_matrix_has_novel_classes_first() -> None:
    content = report(result_of())
    rows = confusion(content.sets[0], content.classes).rows
    assert [(row.name, row.role) for row in rows] == [
        ("c2", "novel"), ("c3", "novel"), ("c1", "base"), ("c4", "base"), ("background", "background"),
    ]  # fmt: skip
    assert [row.shares for row in rows] == [
        (0.5, 0.25, 0.25, 0, 0),
        (0, 0.5, 0, 0, 0.5),
        (0.5, 0, 0.5, 0, 0),
        (0.5, 0, 0, 0.5, 0),
        (0, 0, 0.5, 0, 0.5),
    ]
    assert rows[0].colour == "#" + bytes(colour_of("c2")).hex()


def test_a_class_without_a_pixel_has_no_shares() -> None:
    pair = SlowPair("q", 2, frozenset({1, 2}), frozenset({1, 2}))
    result = fast_result([pair], ROLES, 5, {"q": TRUTH}, [PREDICTION], None)
    rows = {row.name: row.shares for row in confusion(report(result).sets[0], report(result).classes).rows}
    assert rows["c3"] is None
    assert rows["c4"] is None
    assert destinations(report(result).sets[0], [each for each in report(result).classes if each.id == 3]) == {}


def test_removed_labels_have_a_column_where_they_occur() -> None:
    official = report(result_of("5 1 1 2, 2 2 1 3, 3 0 4 2", "official-2023", labels=6))
    matrix = confusion(official.sets[0], official.classes)
    assert matrix.removed
    assert [row.shares and row.shares[-1] for row in matrix.rows] == [0, 0, 0, 0, 0.5]
    assert not confusion(report(result_of()).sets[0], official.classes).removed


def test_swapped_pixels_by_the_class_they_belong_to() -> None:
    (scored_set,) = report(result_of()).sets
    found = {(first[0], second[0]): (first[1], second[1]) for first, second in swaps(scored_set)}
    # Of the six pixels of 1 and 2, one of 1 became 2 and one of 2 became 1.
    assert found["c1", "c2"] == (1 / 6, 1 / 6)
    assert found["c2", "c4"] == (0, 1 / 6)
    shares = [row["share"] for row in scored_set.result.diagnosis["kway"]["similar_parts"]]
    assert [first[1] + second[1] for first, second in swaps(scored_set)] == pytest.approx(shares)


def test_a_report_is_on_one_result_or_two() -> None:
    for results in ((), (result_of(),) * 3):
        with pytest.raises(OshpError, match="one result or compares two"):
            report(*results)


def test_a_floor_is_of_the_same_pairs_and_convention() -> None:
    official = result_of(convention="official-2023")
    with pytest.raises(OshpError, match="'floor': has other pairs, another truth or another convention"):
        report_of([result_of()], ["set"], [("floor", official)], None, None, "")


def test_two_results_are_compared() -> None:
    assert report(result_of()).differences == {}
    perfect = result_of("0 0 1 1, 2 2 2 2, 3 3 4 4")
    differences = report(result_of(), perfect).differences
    assert differences["kway/iou/2"].value == pytest.approx(1 - 2 / 6)


def test_episodes_are_ranked_and_those_of_a_kind_are_of_different_queries() -> None:
    values = np.array([0.5, np.nan, 0.9, 0.9, 0.1, 0.3, 0.8])
    ranking = Ranking(values, ["a", "b", "c", "c", "d", "e", "f"])
    assert ranking.order == (2, 3, 6, 0, 5, 4)
    assert ranking.extremes(1) == ((2,), (0,), (4,))
    assert ranking.extremes(2) == ((2, 6), (0, 3), (4, 5))
    assert ranking.in_even_steps(3) == (2, 6, 4)
    assert ranking.in_even_steps(99) == ranking.order
    nothing = Ranking(np.array([np.nan]), ["a"])
    assert nothing.extremes(2) == ((), (), ())
    assert nothing.in_even_steps(3) == ()


@pytest.fixture(scope="module")
def bench(tiny_spec: Spec, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tiny_spec, tiny_root, tmp_path_factory.mktemp("bench"), pairs=40)


def test_pictures_of_an_episode(bench: Bench, tiny_spec: Spec, tiny_root: Path, tmp_path: Path) -> None:
    found = open_predictions(bench.write(tmp_path, seed=3), None, bench.manifest)
    source = find_source(tiny_spec.dataset, tiny_root)
    result = scored(bench, tmp_path)
    gallery = Gallery(bench.truth, (found,), source)
    pairs = bench.manifest.pairs
    pair = 17
    kway = gallery.episode(result, "k", pair)
    assert (kway.query, kway.support) == (pairs.query[pair], pairs.support[pair])
    assert kway.query_photo is not None and (kway.query_photo == source.photo(kway.query)).all()
    assert kway.support_mask is not None
    assert set(np.unique(kway.support_mask)) - {0} == set(pairs.support_classes[pair])
    assert (kway.truth == bench.kway(pair)).all()
    oneway = gallery.episode(result, "1", pair)
    target = pairs.target[pair]
    assert (oneway.truth == np.where(bench.truth.mask(kway.query) == target, target, 0)).all()
    assert set(np.unique(oneway.predictions[0])) <= {0, target}
    assert ((oneway.predictions[0] == target).sum() * 1.0) == np.asarray(
        Image.open(tmp_path / "1way" / f"{pairs.name(pair)}.png")
    ).astype(bool).sum()
    alone = Gallery(bench.truth, (found,), None).episode(result, "k", pair)
    assert (alone.query_photo, alone.support_photo, alone.support_mask) == (None, None, None)


def test_the_episodes_shown_are_those_of_the_ranking(bench: Bench, tmp_path: Path) -> None:
    result = scored(bench, bench.write(tmp_path, seed=3))
    gallery = Gallery(bench.truth, (open_predictions(tmp_path, None, bench.manifest),), None)
    kinds = list(episodes(report(result), gallery))
    assert [(kind.way, kind.title) for kind in kinds] == [
        (way, title) for way in ("k", "1") for title in ("Best", "Median", "Worst")
    ]
    for best, way in ((0, "k"), (3, "1")):
        values = episode_values(result, way)
        assert kinds[best].episodes[0].values == (np.nanmax(values),)
        assert kinds[best + 2].episodes[0].values == (np.nanmin(values),)
    for kind in kinds[:3]:
        assert len({episode.query for episode in kind.episodes}) == 2
    (tile, *_) = kinds[0].episodes[0].tiles
    picture = Image.open(io.BytesIO(base64.b64decode(tile.address.partition(",")[2])))
    assert picture.size == (tile.width, tile.height)
    assert tile.alt.startswith("truth: ")


def test_a_set_against_another_shows_where_it_gains_and_loses(bench: Bench, tmp_path: Path) -> None:
    first, second = (bench.write(tmp_path / str(seed), seed=seed) for seed in (3, 4))
    results = [scored(bench, path) for path in (first, second)]
    sets = tuple(open_predictions(path, None, bench.manifest) for path in (first, second))
    kinds = list(episodes(report(*results), Gallery(bench.truth, sets, None)))
    change = episode_values(results[1], "k") - episode_values(results[0], "k")
    gained, lost = kinds[0].episodes[0].values, kinds[2].episodes[0].values
    assert gained[1] - gained[0] == change.max() > 0
    assert lost[1] - lost[0] == change.min() < 0
    assert [tile.set_index for tile in kinds[0].episodes[0].tiles] == [None, 0, 0, 1, 1]


def test_errors_are_right_missed_or_of_a_wrong_class() -> None:
    truth = np.array([[0, 0, 3, 3], [3, 255, 255, 4]], np.uint8)
    predicted = np.array([[0, 4, 3, 0], [4, 3, 0, 4]], np.uint8)
    # Background as background, background as a class, right, missed; another class, ignored twice, right.
    assert errors(truth, predicted).tolist() == [[0, 3, 1, 2], [3, 255, 255, 1]]
    assert list(ERRORS) == ["background", "right", "missed", "wrong class"]


@pytest.mark.parametrize(("own", "copied", "said"), [(0.20, 0.21, True), (0.21, 0.21, False), (0.22, 0.21, False)])
def test_a_method_below_copied_supports_is_named(own: float, copied: float, said: bool) -> None:
    name = "kway/human_miou"

    def of(method: str, value: float) -> Result:
        result = result_of()
        matrices = replace(result.matrices, method=method)
        return replace(result, matrices=matrices, figures={**result.figures, name: Figure(value)})

    def named(result: Result, floor: Result) -> tuple[str, ...]:
        return Report((ScoredSet("a", result),), (("b", floor),), None, {}, "").below_copy_support

    assert named(of("mine", own), of("copy-support", copied)) == (("a",) if said else ())
    # The floor itself is named nowhere, and only copies are the mark.
    assert named(of("background", 0.0), of("copy-support", copied)) == ()
    assert named(of("mine", own), of("class-prior", 1.0)) == ()


def test_resamples_are_not_needed() -> None:
    assert result_of().resampling == Resampling(0)
    assert words.from_to(result_of().figures["kway/human_miou"]) == ""


def test_numbers() -> None:
    assert words.percent(0.123456) == "12.35"
    assert words.percent(-0.05, 1, sign=True) == "\N{MINUS SIGN}5.0"
    assert words.percent(0.05, 1, sign=True) == "+5.0"
    assert words.percent(None) == "\N{EN DASH}"
    assert words.from_to(Figure(0.5, 0.25, 0.75)) == "25.00 to 75.00"
    assert words.from_to(Figure(0.5)) == ""
    assert words.label_html("kway/novel_miou") == "C<sub>novel</sub> mIoU"
    assert words.way_of("1way/bi_miou") == "1-way"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("EOP-Net", "EOP-Net"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a\u202eb\u0000c\nd\u200f", "a�b�c�d�"),
        ("x" * 10_000, "x" * 59 + "…"),
        ("\u5b57" * 31, "\u5b57" * 29 + "…"),
        ("\ud800", "�"),
    ],
)
def test_names_of_unknown_origin(text: str, shown: str) -> None:
    assert words.called(text) == f"<bdi>{shown}</bdi>"


@given(st.text(max_size=200), st.integers(2, 80))
def test_a_shortened_text_is_one_printable_line_that_fits(text: str, columns: int) -> None:
    shown = words.safe_line(text, columns)
    assert shown.isprintable()
    assert len(shown) <= columns
    assert shown == text or len(text) > columns or not text.isprintable() or not text.isascii()
