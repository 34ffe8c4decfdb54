"""Figures of boundaries and parts: by hand, against a slow reference, from files, and refused where they do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from metrics_cases import Bench, make_bench, small_manifest, values
from slow_scorer import SlowPair
from slow_shapes import ShapeRules, slow_shapes

from oshp_bench.datasets.images import Mask, read_mask
from oshp_bench.datasets.labels import Spec
from oshp_bench.datasets.sources import find_source
from oshp_bench.errors import OshpError
from oshp_bench.manifest import Pairs, load_manifest
from oshp_bench.metrics import (
    Accumulator,
    Resampling,
    Result,
    Shapes,
    load_matrices,
    parts,
    score_matrices,
)
from oshp_bench.metrics.boundary import band_width, banded
from oshp_bench.metrics.parts import count_parts, parts_of
from oshp_bench.metrics.result_file import load_result
from oshp_bench.report.cli import main

pytest.importorskip("skimage", reason="scikit-image is not installed (extra parts)")

ROLES = {0: "background", 1: "base", 2: "base", 3: "novel"}


def result_of(
    pairs: list[SlowPair],
    truth: dict[str, Mask],
    kway: list[Mask],
    oneway: list[Mask],
    shapes: Shapes | None,
    resampling: Resampling | None = None,
) -> Result:
    """Scores arrays as a training loop would."""
    manifest = small_manifest(ROLES, 4, pairs)
    counted = Accumulator(manifest, manifest.pairs, shapes=shapes)
    for index, pair in enumerate(pairs):
        counted.add("k", index, truth[pair.query], kway[index])
        counted.add("1", index, truth[pair.query], oneway[index])
    return score_matrices(manifest, counted.matrices(), resampling=resampling or Resampling(0))


def shape_values(result: Result) -> dict[str, float | None]:
    return {name: value for name, value in values(result).items() if "@" in name}


def of_class(*rectangles: tuple[int, int, int, int], shape: tuple[int, int], label: int = 1) -> Mask:
    """A mask with rectangles: top, left, height, width."""
    mask = np.zeros(shape, np.uint8)
    for top, left, height, width in rectangles:
        mask[top : top + height, left : left + width] = label
    return mask


def test_a_moved_square_by_hand() -> None:
    """A square of 5 x 5 pixels, and the prediction one pixel to the right, in bands of one pixel: 0.1 * 9.9 is 1.

    Each band is the rim of 16 of 25 pixels. The rims share four pixels of the first row and four of the last, so
    boundary IoU is 8 / (16 + 16 - 8) = 1/3; IoU is 20 / 30.
    """
    truth, moved = of_class((1, 1, 5, 5), shape=(7, 7)), of_class((1, 2, 5, 5), shape=(7, 7))
    pairs = [SlowPair("q", 1, frozenset({1}), frozenset({1}))]
    figures = values(result_of(pairs, {"q": truth}, [moved], [moved], Shapes(boundary=0.1)))
    for way in ("kway", "1way"):
        assert figures[f"{way}/boundary_iou@0.1/1"] == 1 / 3
        assert figures[f"{way}/iou/1"] == 20 / 30
        assert figures[f"{way}/band_share@0.1/1"] == 16 / 25
        assert figures[f"{way}/base_boundary_miou@0.1"] == 1 / 3
        assert figures[f"{way}/novel_boundary_miou@0.1"] is None


def test_parts_by_hand() -> None:
    """A picture of 2,000 pixels: parts are small below 2 pixels and large from 20 on.

    Truth: 5 x 5, 2 x 3 and 1 x 1. Prediction: 20 of the 25 pixels (IoU 0.8), 2 x 3 moved by two (2 / 10), the single
    pixel, and 5 x 6 where nothing is. Found are 2 of 3 parts; spurious 2 of 4. Parts of 6 pixels and more: the single
    pixel is no part, so found are 1 of 2, spurious 2 of 3.
    """
    shape = (40, 50)
    truth = of_class((2, 2, 5, 5), (12, 2, 2, 3), (20, 2, 1, 1), shape=shape)
    said = of_class((2, 2, 5, 4), (12, 4, 2, 3), (20, 2, 1, 1), (20, 20, 5, 6), shape=shape)
    pairs = [SlowPair("q", 1, frozenset({1}), frozenset({1}))]
    one = values(result_of(pairs, {"q": truth}, [said], [said], Shapes(parts=1)))
    six = values(result_of(pairs, {"q": truth}, [said], [said], Shapes(parts=6)))
    for way in ("kway", "1way"):
        shares = {
            f"{size}{kind}": one[f"{way}/{size}{kind}_parts@1"]
            for kind in ("found", "spurious")
            for size in ("", "small_", "medium_", "large_")
        }
        assert shares == {
            **{"found": 2 / 3, "small_found": 1.0, "medium_found": 0.0, "large_found": 1.0},
            **{"spurious": 2 / 4, "small_spurious": 0.0, "medium_spurious": 1.0, "large_spurious": 1 / 2},
        }
        assert six[f"{way}/class_found_parts@6/1"] == 1 / 2
        assert six[f"{way}/class_spurious_parts@6/1"] == 2 / 3
        assert six[f"{way}/small_found_parts@6"] is None


def test_pixels_that_touch_at_a_corner_are_two_parts_and_classes_never_share_one() -> None:
    mask = np.array([[1, 0, 2, 2], [0, 1, 1, 2]], np.uint8)
    found = parts_of(mask, [0, 1, 2])
    assert sorted(zip(found.classes[1:].tolist(), found.areas[1:].tolist(), strict=True)) == [(1, 1), (1, 2), (2, 3)]


def test_a_class_that_the_support_lacks_is_spurious_wherever_it_is_predicted() -> None:
    """The truth of class 2 is background in this episode; the prediction of it is right pixel by pixel, and wrong."""
    mask = of_class((1, 1, 3, 3), shape=(8, 8), label=2)
    pairs = [SlowPair("q", 1, frozenset({1}), frozenset({1}))]
    figures = values(result_of(pairs, {"q": mask}, [mask], [mask * 0], Shapes(0.1, 1)))
    assert figures["kway/class_found_parts@1/2"] is None
    assert figures["kway/class_spurious_parts@1/2"] == 1.0
    assert figures["kway/boundary_iou@0.1/2"] == 0.0
    assert figures["kway/band_share@0.1/2"] is None


def test_a_perfect_prediction_beside_ignored_pixels_is_perfect() -> None:
    truth = of_class((2, 2, 6, 6), shape=(12, 12))
    truth[4:7, 5:9] = 255
    said = of_class((2, 2, 6, 6), shape=(12, 12))
    pairs = [SlowPair("q", 1, frozenset({1}), frozenset({1}))]
    figures = values(result_of(pairs, {"q": truth}, [said], [said], Shapes(0.05, 1)))
    for way in ("kway", "1way"):
        assert figures[f"{way}/boundary_iou@0.05/1"] == figures[f"{way}/found_parts@1"] == 1.0
        assert figures[f"{way}/spurious_parts@1"] == 0.0


@st.composite
def cases(draw: Callable[..., Any]) -> tuple[list[SlowPair], dict[str, Mask], list[Mask], list[Mask], ShapeRules]:
    """One to four pairs on two queries; masks of blocks, or of noise."""
    truth: dict[str, Mask] = {}
    for query in ("p", "q"):
        shape = draw(st.tuples(st.integers(1, 14), st.integers(1, 14)))
        truth[query] = draw(masks(shape, (0, 1, 2, 3, 255)))
    pairs, kway, oneway = [], [], []
    for _ in range(draw(st.integers(1, 4))):
        support = draw(st.frozensets(st.sampled_from((1, 2, 3)), min_size=1))
        query, target = draw(st.sampled_from(("p", "q"))), draw(st.sampled_from(sorted(support)))
        pairs.append(SlowPair(query, target, support, support))
        kway.append(draw(masks(truth[query].shape, (0, 1, 2, 3))))
        oneway.append((draw(masks(truth[query].shape, (0, 1))) * draw(st.sampled_from((target, 255)))).astype(np.uint8))
    ratio = draw(st.sampled_from((0.005, 0.1, 0.25)))
    return pairs, truth, kway, oneway, ShapeRules(ratio, draw(st.integers(1, 5)))


def masks(shape: tuple[int, ...], labels: tuple[int, ...]) -> st.SearchStrategy[Mask]:
    small = tuple(-(-side // 3) for side in shape)
    blocks = arrays(np.uint8, small, elements=st.sampled_from(labels))
    enlarged = blocks.map(lambda mask: np.kron(mask, np.ones((3, 3), np.uint8))[: shape[0], : shape[1]])
    return st.one_of(enlarged, arrays(np.uint8, shape, elements=st.sampled_from(labels)))


@pytest.mark.slow
@settings(max_examples=60)
@given(cases())
def test_they_are_those_of_the_slow_reference(
    case: tuple[list[SlowPair], dict[str, Mask], list[Mask], list[Mask], ShapeRules],
) -> None:
    pairs, truth, kway, oneway, rules = case
    result = result_of(pairs, truth, kway, oneway, Shapes(rules.ratio, rules.least))
    assert shape_values(result) == slow_shapes(pairs, ROLES, truth, kway, oneway, rules)
    # Plain figures are as without them.
    plain = values(result_of(pairs, truth, kway, oneway, None))
    assert {name: value for name, value in values(result).items() if "@" not in name} == plain


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20)), elements=st.integers(1, 2)),
    st.sampled_from((0.05, 0.1, 0.2)),
)
def test_a_band_is_where_squares_are_not_uniform(mask: Mask, ratio: float) -> None:
    distance = band_width(mask.shape, ratio)
    edge = np.pad(mask, distance)
    for y, x in np.ndindex(mask.shape):
        square = edge[y : y + 2 * distance + 1, x : x + 2 * distance + 1]
        assert bool(banded(mask, ratio)[y, x]) == bool((square != mask[y, x]).any())


@pytest.mark.parametrize("way", ["k", "1"])
def test_many_parts_are_counted_like_few(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    truth, said = (random.integers(0, 3, (24, 24)).astype(np.uint8) for _ in range(2))
    said[:, :12] = truth[:, :12]
    counts = [count_parts(parts_of(truth, [0, 1, 2]), said, way, 1, [0, 1, 2])]
    monkeypatch.setattr(parts, "_MOST", 0)
    counts.append(count_parts(parts_of(truth, [0, 1, 2]), said, way, 1, [0, 1, 2]))
    assert (counts[0] == counts[1]).all()
    assert counts[0][1:, :, 1].sum() > 20


@pytest.mark.slow
def test_real_masks_give_the_figures_of_the_slow_reference(test_data: Path) -> None:
    """Masks of CCP, predictions that are moved and coarser, both options at their defaults."""
    manifest = load_manifest("ccp_fold1")
    source = find_source(manifest.dataset, test_data)
    chosen = [0, 700, 1400]
    pairs, kway, oneway, truth = [], [], [], {}
    for index in chosen:
        query, target = manifest.pairs.query[index], manifest.pairs.target[index]
        truth[query] = source.merged_mask(query)
        coarse = np.roll(truth[query], (3, -5), axis=(0, 1))[::4, ::4]
        said = np.kron(coarse, np.ones((4, 4), np.uint8))[: truth[query].shape[0], : truth[query].shape[1]]
        support = frozenset(manifest.pairs.support_classes[index])
        pairs.append(SlowPair(query, target, support, support))
        kway.append(said)
        oneway.append((said == target).astype(np.uint8))
    classes = {each.id: each.role for each in manifest.classes}
    targets = tuple(pair.target for pair in pairs)
    supports = tuple(manifest.pairs.support[index] for index in chosen)
    shown = tuple(manifest.pairs.support_classes[index] for index in chosen)
    few = replace(manifest, pairs=Pairs(tuple(truth), supports, targets, shown))
    counted = Accumulator(few, few.pairs, shapes=Shapes(0.005, 25))
    for index, pair in enumerate(pairs):
        counted.add("k", index, truth[pair.query], kway[index])
        counted.add("1", index, truth[pair.query], oneway[index])
    result = score_matrices(few, counted.matrices(), resampling=Resampling(0))
    wanted = slow_shapes(pairs, classes, truth, kway, oneway, ShapeRules(0.005, 25))
    assert shape_values(result) == wanted
    assert sum(value not in (None, 0.0, 1.0) for value in wanted.values()) > 20


@pytest.fixture(scope="module")
def bench(tiny_spec: Spec, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tiny_spec, tiny_root, tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def scored(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A prediction set that lacks one picture of each way, and what oshp-score --out writes about it."""
    folder = tmp_path_factory.mktemp("scored")
    preds = bench.write(folder / "preds", seed=1)
    for way in ("kway", "1way"):
        (preds / way / "0007.png").unlink()
    run(bench, preds, "--allow-missing", "--boundary", "--parts", "4", "--out", folder / "out")
    return preds, folder / "out"


def run(bench: Bench, *arguments: object, code: int = 0) -> str:
    words = [*map(str, arguments), "--manifest", str(bench.manifest_file), "--resamples=20"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


@pytest.mark.slow
def test_files_give_the_figures_of_the_slow_reference(bench: Bench, scored: tuple[Path, Path]) -> None:
    preds, out = scored
    pairs: list[SlowPair] = []
    kway: list[Mask] = []
    oneway: list[Mask] = []
    truth = {query: bench.truth.mask(query) for query in bench.manifest.pairs.queries}
    for index, query in enumerate(bench.manifest.pairs.query):
        support = frozenset(bench.manifest.pairs.support_classes[index])
        pairs.append(SlowPair(query, bench.manifest.pairs.target[index], support, support))
        for way, said in (("kway", kway), ("1way", oneway)):
            path = preds / way / f"{index:04d}.png"
            said.append(read_mask(path) if path.exists() else np.zeros_like(truth[query]))
    classes = {each.id: each.role for each in bench.manifest.classes}
    figures = json.loads((out / "result.json").read_text())["figures"]
    wanted = slow_shapes(pairs, classes, truth, kway, oneway, ShapeRules(0.005, 4))
    assert {name: figure["value"] for name, figure in figures.items() if "@" in name} == wanted
    held = [figures[name] for name in wanted if figures[name]["low"] is not None]
    assert len(held) > 30
    assert all(figure["low"] <= figure["value"] <= figure["high"] for figure in held)


@pytest.mark.slow
def test_matrices_keep_them_and_jobs_do_not_change_them(
    bench: Bench, scored: tuple[Path, Path], tmp_path: Path
) -> None:
    preds, out = scored
    run(bench, "--from-matrices", out / "matrices.npz", "--out", tmp_path / "again")
    run(bench, preds, "--allow-missing", "--boundary", "--parts=4", "--jobs=2", "--out", tmp_path / "jobs")
    first = json.loads((out / "result.json").read_text())
    assert first["options"]["boundary"] == 0.005 and first["options"]["parts"] == 4
    assert "|boundary:0.005|parts:4|oshp-bench-" in first["signature"]
    for name in ("again", "jobs"):
        assert (tmp_path / name / "matrices.npz").read_bytes() == (out / "matrices.npz").read_bytes()
        assert json.loads((tmp_path / name / "result.json").read_text())["digest"] == first["digest"]
        assert load_result(tmp_path / name / "result.json").figures["kway/found_parts@4"].queries > 0
    # Other options than those of the file need the pictures.
    told = run(bench, "--from-matrices", out / "matrices.npz", "--parts", "5", code=2)
    assert "holds other boundaries or parts (|boundary:0.005|parts:4); score the predictions again" in told


@pytest.mark.slow
def test_without_them_nothing_changes(bench: Bench, scored: tuple[Path, Path], tmp_path: Path) -> None:
    preds, out = scored
    run(bench, preds, "--allow-missing", "--out", tmp_path)
    plain, with_both = (json.loads((folder / "result.json").read_text()) for folder in (tmp_path, out))
    assert plain["figures"] == {name: one for name, one in with_both["figures"].items() if "@" not in name}
    assert plain["options"].keys() == with_both["options"].keys() - {"boundary", "parts"}
    with np.load(tmp_path / "matrices.npz") as matrices, np.load(out / "matrices.npz") as more:
        assert set(matrices) == {"about", "kway", "1way"}
        assert set(more) == {
            *matrices,
            *(f"{way}_{kind}" for way in ("kway", "1way") for kind in ("boundary", "parts")),
        }
        assert (matrices["kway"] == more["kway"]).all()
    # Results are compared only if the same was counted.
    files = ["--from-matrices", tmp_path / "matrices.npz", "--from-matrices", out / "matrices.npz"]
    assert "different boundaries or parts were counted" in run(bench, *files, code=2)


@pytest.mark.slow
def test_tables_show_them_with_the_share_that_bands_cover(bench: Bench, scored: tuple[Path, Path]) -> None:
    _, out = scored
    lines = run(bench, "--from-matrices", out / "matrices.npz").splitlines()
    figures = json.loads((out / "result.json").read_text())["figures"]
    (first,) = (
        at for at, line in enumerate(lines) if line.startswith("Boundary IoU in bands of 0.5 % of the diagonal")
    )
    row = next(line for line in lines[first:] if line.startswith("hat "))
    for name in ("kway/boundary_iou@0.005/1", "kway/band_share@0.005/1", "1way/boundary_iou@0.005/1"):
        assert f" {100 * figures[name]['value']:.2f}" in row
    (second,) = (at for at, line in enumerate(lines) if line.startswith("Parts of at least 4 pixels"))
    row = next(line for line in lines[second:] if line.startswith("all classes "))
    for name in ("kway/found_parts@4", "kway/spurious_parts@4", "1way/found_parts@4"):
        assert f" {100 * figures[name]['value']:.2f}" in row
    compared = run(bench, *["--from-matrices", out / "matrices.npz"] * 2)
    assert "k-way C_novel boundary mIoU @0.005" in compared


@pytest.mark.slow
def test_a_report_has_them(bench: Bench, scored: tuple[Path, Path], tmp_path: Path) -> None:
    _, out = scored
    run(bench, "--from-matrices", out / "matrices.npz", "--report", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    section = page.partition('<section id="shapes"')[2].partition("</section>")[0]
    assert 'href="#shapes"' in page and "hat" in section
    share = json.loads((out / "result.json").read_text())["figures"]["kway/band_share@0.005/1"]["value"]
    assert f"<td>{100 * share:.2f}</td>" in section


@pytest.mark.parametrize(
    ("member", "change", "told"),
    [
        ("kway_boundary", lambda counts: counts[:-1], "kway_boundary is not int64"),
        ("1way_boundary", lambda counts: counts[..., :1] * 0 - 1, "1way_boundary is not int64"),
        ("kway_boundary", lambda counts: counts + 1000, "different numbers of true pixels or parts"),
        ("kway_parts", lambda counts: counts + np.array([0, 9999, 0, 0]), "more parts are found than there are"),
        ("kway_parts", lambda counts: counts.astype(float), "kway_parts is not int64"),
        ("kway_parts", None, "kway_parts"),
    ],
)
@pytest.mark.slow
def test_damaged_counts_are_refused(
    bench: Bench, scored: tuple[Path, Path], tmp_path: Path, member: str, change: Callable[..., Any] | None, told: str
) -> None:
    with np.load(scored[1] / "matrices.npz") as held:
        members = dict(held)
    if change:
        members[member] = change(members[member])
    else:
        del members[member]
    np.savez(tmp_path / "m.npz", allow_pickle=False, **members)
    with pytest.raises(OshpError, match="not a readable matrices file") as caught:
        load_matrices(tmp_path / "m.npz", bench.manifest)
    assert told in caught.value.problems[0]


@pytest.mark.parametrize("shapes", [{"boundary": 0.0}, {"boundary": 0.6}, {"boundary": 0.12345678}, {"parts": 0}])
def test_settings_out_of_range_are_refused(shapes: dict[str, Any]) -> None:
    with pytest.raises(OshpError, match="give a"):
        Shapes(**shapes)


def test_options_may_have_a_number(bench: Bench) -> None:
    assert "'preds' is no number; give the width of bands" in run(bench, "--boundary", "preds", code=2)
    assert "is not in the range 1<=x<=100000000" in run(bench, "preds", "--parts", "0", code=2)


def test_parts_name_the_package_that_they_need(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oshp_bench.metrics.shapes.find_spec", lambda _: None)
    with pytest.raises(OshpError, match=r"--parts needs scikit-image: run pip install '\.\[parts\]'"):
        Accumulator(bench.manifest, bench.manifest.pairs, shapes=Shapes(parts=25))
