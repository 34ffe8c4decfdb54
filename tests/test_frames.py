"""Data frames of results, pairs and boards hold the figures of their sources; the examples of docs/frames.md run."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from board_cases import CARD, document, write
from metrics_cases import Bench, make_bench
from slow_scorer import SlowPair

from oshp_bench.datasets.labels import Spec
from oshp_bench.errors import OshpError
from oshp_bench.leaderboard import board_frame
from oshp_bench.metrics import Matrices, Resampling, Result, pairs_frame, read_results, save_matrices, score_matrices
from oshp_bench.metrics.figures import parse_figure
from oshp_bench.metrics.method_card import MethodCard
from oshp_bench.metrics.result_file import save_result

ROOT = Path(__file__).parents[1]
EXAMPLES = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "frames.md").read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def bench(tiny_spec: Spec, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tiny_spec, tiny_root, tmp_path_factory.mktemp("bench"))


def result_of(bench: Bench, name: str, seed: int) -> Result:
    """A result of random matrices whose method has a card."""
    random, pairs, size = np.random.default_rng(seed), len(bench.manifest.pairs), len(bench.manifest.class_ids)
    first_of: dict[str, int] = {}
    first = [first_of.setdefault(query, pair) for pair, query in enumerate(bench.manifest.pairs.query)]
    kway, oneway = random.integers(0, 9, (pairs, size, size + 1)), random.integers(0, 9, (pairs, size, 2))
    kway[..., -1] = 0
    # Pairs of one query have the same truth, in both ways.
    truth = np.random.default_rng(0).integers(100, 200, (pairs, size))[first]
    kway[:, range(size), range(size)] += truth - kway.sum(2)
    oneway[:, :, 0] += truth - oneway.sum(2)
    card = MethodCard(**{**CARD, "name": name, "seed": seed})  # type: ignore[arg-type]
    matrices = Matrices(kway, oneway, {}, {}, f"sha256:{seed:064x}", name, card)
    return score_matrices(bench.manifest, matrices, resampling=Resampling(50))


def test_a_result_as_a_frame(bench: Bench) -> None:
    result = result_of(bench, "a", 3)
    frame = result.to_dataframe()
    assert len(frame) == len(result.figures)
    names = {oshp_class.id: (oshp_class.name, oshp_class.role) for oshp_class in bench.manifest.classes}
    for row, (full_name, figure) in zip(frame.to_dict("records"), result.figures.items(), strict=True):
        way, kind, class_id = parse_figure(full_name)
        about = ("tiny_fold1", 1, way, "a", 3, kind.name)
        assert tuple(row[name] for name in ("manifest", "fold", "way", "method", "seed", "figure")) == about
        if class_id is None:
            assert pd.isna(row["class"]) and pd.isna(row["role"])
        else:
            assert (row["class"], row["role"]) == names[class_id]
        for name, value in asdict(figure).items():
            assert row[name] == value or (value is None and pd.isna(row[name]))
    assert (frame.dtypes[["value", "low", "high"]] == "float64").all()
    assert frame.dtypes["seed"] == "Int64"
    nameless = replace(result, matrices=replace(result.matrices, card=None, method="")).to_dataframe()
    assert nameless["method"].isna().all() and nameless["seed"].isna().all()


def test_pairs_of_one_query_by_hand() -> None:
    """Truth 1 1 2 0 and prediction 1 2 2 1; the support lacks class 2, so its pixel is background.

    Class 1: truth 2, predicted 2, both 1, so 1/3. Class 2: truth 0, predicted 2. Background: truth 2, predicted 0.
    In 1-way: truth 2, predicted 3 (prediction 1 1 1 0), both 2, so 2/3.
    """
    from metrics_cases import fast_result, mask_of

    pairs = [SlowPair("q", 1, frozenset({1}), frozenset({1}))]
    roles = {0: "background", 1: "base", 2: "novel"}
    truth = {"q": mask_of("1 1 2 0")}
    result = fast_result(pairs, roles, 3, truth, [mask_of("1 2 2 1")], [mask_of("1 1 1 0")])
    rows = pairs_frame(result).replace({np.nan: None})[["way", "class", "truth", "predicted", "both", "iou"]]
    assert rows.values.tolist() == [
        ["k", "background", 2, 0, 0, 0.0],
        ["k", "c1", 2, 2, 1, 1 / 3],
        ["k", "c2", 0, 2, 0, 0.0],
        ["1", "c1", 2, 3, 2, 2 / 3],
    ]


def test_pooled_pairs_give_the_figures(bench: Bench) -> None:
    result = result_of(bench, "a", 4)
    frame = pairs_frame(result)
    pooled = frame.groupby(["way", "class"])[["truth", "predicted", "both"]].sum()
    iou = pooled.both / (pooled.truth + pooled.predicted - pooled.both)
    shown = result.to_dataframe().query("figure == 'iou'").set_index(["way", "class"]).value
    for place, value in iou.items():
        assert value == shown[place]
    assert set(frame["pair"]) == set(bench.manifest.pairs.names)


def test_a_folder_of_results(tmp_path: Path, bench: Bench) -> None:
    results = {name: result_of(bench, name, seed) for seed, name in enumerate(("a", "b"))}
    for name, result in results.items():
        save_result(result, tmp_path / name / "result.json", {})
    (tmp_path / "other.json").write_text('{"format": "oshp-comparison/1"}')
    frame = read_results(tmp_path)
    assert frame["file"].unique().tolist() == ["a/result.json", "b/result.json"]
    expected = pd.concat([result.to_dataframe() for result in results.values()], ignore_index=True)
    pd.testing.assert_frame_equal(frame.drop(columns="file"), expected)


def test_problems_of_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(OshpError, match="no results there; oshp-score"):
        read_results(tmp_path)
    for name in ("a", "b"):
        path = write(tmp_path / f"{name}.json", document(name))
        path.write_text(path.read_text().replace('"fold": 1', '"fold": 2'))
    with pytest.raises(OshpError) as caught:
        read_results(tmp_path)
    assert [line.partition(": ")[0] for line in caught.value.problems] == [f"{tmp_path}/{n}.json" for n in "ab"]


def test_a_board_as_frames(tmp_path: Path, bench: Bench) -> None:
    for seed, name in enumerate(("a", "b")):
        result = result_of(bench, name, seed)
        save_result(result, tmp_path / name / "result.json", {})
        save_matrices(result.matrices, bench.manifest, "default", tmp_path / name / "matrices.npz")
    manifests = [str(bench.manifest_file)]
    wide, long = (board_frame(tmp_path, format=form, manifests=manifests) for form in ("wide", "long"))
    assert len(wide) == 4  # two methods, two ways
    assert len(long) == 4 * 3  # three figures
    for row in wide.to_dict("records"):
        of_row = long[(long.method == row["method"]) & (long.way == row["way"])].set_index("figure")
        assert (of_row.fold == 1).all()
        for part in ("value", "low", "high"):
            name = "novel_miou fold 1" if part == "value" else f"novel_miou fold 1 {part}"
            assert row[name] == of_row[part]["novel_miou"]
        p, holm, against = (of_row[name]["novel_miou"] for name in ("p", "p_holm", "against"))
        assert (np.isnan(p) and np.isnan(row["p fold 1"])) or (p, holm) == (row["p fold 1"], row["p fold 1 Holm"])
        assert pd.isna(against) == np.isnan(p)
        assert of_row.p.drop("novel_miou").isna().all()
    assert long.p.notna().sum() == 2
    with pytest.raises(OshpError, match="choose wide or long"):
        board_frame(tmp_path, format="tall")  # type: ignore[arg-type]


def test_without_pandas_it_says_what_to_install(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(OshpError, match=r"a data frame needs pandas: run pip install '\.\[frames\]'"):
        result_of(bench, "a", 0).to_dataframe()


@pytest.mark.slow
def test_the_examples_of_the_page_run(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write(tmp_path / "copy-support", seed=1)
    shutil.copy(bench.manifest_file, tmp_path / "demo_fold1.json")
    shutil.copy(bench.truth_file, tmp_path / "demo_fold1.truth.zip")
    shutil.copytree(ROOT / "docs" / "results", tmp_path / "docs" / "results")
    monkeypatch.chdir(tmp_path)
    assert len(EXAMPLES) == 3
    for code in EXAMPLES:
        exec(code, {})
