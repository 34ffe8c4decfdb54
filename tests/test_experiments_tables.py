"""A table of an experiment says what the package's scores, intervals and tests say of the cells' matrices."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
from plan import Plan, read_plan
from table import as_csv, as_latex, as_markdown, contents, write

from oshp_bench.datasets.sources import Source
from oshp_bench.files import write_text
from oshp_bench.manifest import Manifest, load_manifest, save_manifest
from oshp_bench.metrics.intervals import Resampling
from oshp_bench.metrics.matrices import Accumulator, Matrices, load_matrices, save_matrices
from oshp_bench.metrics.result import Result, compare, score_matrices
from oshp_bench.metrics.runs import compare_runs, holm, over_runs

pytestmark = pytest.mark.slow
FIGURES = ("kway/novel_miou", "kway/human_miou")


def plan_of(out: Path, seeds: list[int]) -> Plan:
    """A table of two trained rows and one that learns nothing."""
    rows = [
        {"name": "floor", "method": "copy-support", "paper": {"novel_miou": 12.5}},
        {"name": "A & B", "method": "eopnet", "set": ["model.alpha=0.8"], "against": "floor"},
        {"name": "C", "method": "eopnet", "against": "A & B", "paper": {"novel_miou": 31.1, "human_miou": 61.9}},
    ]
    table = {"title": "Some rows", "paper": "Table 0", "figures": ["novel_miou", "human_miou"], "rows": rows}
    scale = {"preset": "quick", "dataset": "tiny", "seeds": seeds}
    return read_plan({"scale": "s", "scales": {"s": scale}, "tables": {"some": table}, "out": str(out)})


def random_matrices(manifest: Manifest, source: Source, seed: int) -> Matrices:
    """Counts of true masks in which a block of every one has a random class; a seed makes as many mistakes."""
    generator = np.random.default_rng(seed)
    counted = Accumulator(manifest, manifest.pairs)
    for pair, query in enumerate(manifest.pairs.query):
        truth = source.merged_mask(query)
        mask = np.where(np.isin(truth, manifest.pairs.support_classes[pair]), truth, 0).astype(np.uint8)
        mask[: 4 + seed, :8] = generator.choice(manifest.class_ids)
        counted.add("k", pair, truth, mask)
    return counted.matrices()


@pytest.fixture(scope="module")
def counted(manifest: Manifest, source: Source) -> Mapping[int, Matrices]:
    """Matrices by seed."""
    return {seed: random_matrices(manifest, source, seed) for seed in (0, 2, 3, 6)}


def fill(plan: Plan, manifest: Manifest, counted: Mapping[int, Matrices]) -> dict[str, list[Result]]:
    """Writes manifest and matrices of all cells; the results of every row."""
    path = plan.manifest("tiny", 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_manifest(manifest, path)
    results: dict[str, list[Result]] = {}
    seeds = iter((6, 3, 2, 0, 0) if len(plan.scale.seeds) == 2 else (6, 3, 0))
    (table,) = plan.tables
    for row in table.rows:
        for cell in plan.runs(table, row, 1, "k"):
            file = plan.result(cell).with_name("matrices.npz")
            file.parent.mkdir(parents=True, exist_ok=True)
            save_matrices(counted[next(seeds)], manifest, "default", file)
            matrices, _ = load_matrices(file, load_manifest(str(path)))
            results.setdefault(row.name, []).append(score_matrices(manifest, matrices, resampling=Resampling()))
    return results


def lines_of(plan: Plan) -> dict[tuple[str, str], dict[str, Any]]:
    """The CSV by row and figure."""
    said = contents(plan, plan.tables[0])
    return {(line["row"], line["figure"]): line for line in csv.DictReader(io.StringIO(as_csv(said)))}


def test_one_seed_has_the_intervals_and_tests_of_the_package(
    manifest: Manifest, counted: Mapping[int, Matrices], tmp_path: Path
) -> None:
    plan = plan_of(tmp_path, [0])
    results = fill(plan, manifest, counted)
    lines = lines_of(plan)
    raw = []
    for (row, of_row), name in product(results.items(), FIGURES):
        figure, line = of_row[0].figures[name], lines[row, name]
        assert (float(line["value"]), float(line["low"]), float(line["high"])) == (
            figure.value,
            figure.low,
            figure.high,
        )
        assert (line["runs"], line["spread"]) == ("1", "")
    for row, against in (("A & B", "floor"), ("C", "A & B")):
        found = compare(results[against][0], results[row][0])
        for name in FIGURES:
            line = lines[row, name]
            assert line["against"] == against
            assert (float(line["difference"]), float(line["p"])) == (found[name].value, found[name].p_value)
            raw.append((float(line["p"]), float(line["p Holm"])))
    assert [corrected for _, corrected in raw] == holm([p for p, _ in raw])
    assert lines["floor", "kway/novel_miou"]["paper"] == "0.125"
    assert lines["A & B", "kway/novel_miou"]["paper"] == ""


def test_several_seeds_have_mean_spread_and_intervals_over_training(
    manifest: Manifest, counted: Mapping[int, Matrices], tmp_path: Path
) -> None:
    plan = plan_of(tmp_path, [0, 1])
    results = fill(plan, manifest, counted)
    lines = lines_of(plan)
    assert [len(runs) for runs in results.values()] == [1, 2, 2]
    for row, name in product(("A & B", "C"), FIGURES):
        values = [value for run in results[row] if (value := run.figures[name].value) is not None]
        expected, line = over_runs(results[row], [name], 0.95)[name], lines[row, name]
        assert (float(line["value"]), float(line["spread"])) == (fmean(values), stdev(values))
        assert (float(line["low"]), float(line["high"])) == (expected.low, expected.high)
    found = compare_runs(results["A & B"], results["C"], list(FIGURES))
    for name in FIGURES:
        assert float(lines["C", name]["p"]) == found[name].p_value


def test_the_table_in_all_formats(manifest: Manifest, counted: Mapping[int, Matrices], tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [0])
    fill(plan, manifest, counted)
    said = contents(plan, plan.tables[0])
    assert said.title == "Some rows: Table 0 beside ours on tiny, fold 1, scale s"
    text = as_markdown(said)
    assert "| C | " in text and "| 31.1 |" in text and "A \\& B" in text
    assert "One training seed" in text
    latex = as_latex(said)
    assert r"A \& B & " in latex and latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 2
    write(said, tmp_path / "page")
    page = (tmp_path / "page" / "index.html").read_text()
    assert "A &amp; B" in page and "<script" not in page and "http" not in page


def test_complexity_beside_the_papers_figures(tmp_path: Path) -> None:
    rows = [{"name": "EOP-Net", "method": "eopnet", "paper": {"macs_g": 129.3, "parameters_m": 42.5, "fps": 12.0}}]
    table = {"title": "Cost", "paper": "Table 8", "kind": "complexity", "rows": rows}
    config = {"scale": "s", "scales": {"s": {"preset": "quick"}}, "tables": {"cost": table}, "out": str(tmp_path)}
    plan = read_plan(config)
    measured = '{"macs_g": 129.0, "macs_g_support_a_class": 400.5, "parameters_m": 42.0, "fps": 0.5}'
    write_text(plan.measured("eopnet"), f'{{"size": 512, "classes": 5, "methods": [{measured}]}}')
    (grid,) = contents(plan, plan.tables[0]).grids
    assert grid.rows == (("EOP-Net", "129", "400.5", "129.3", "42", "42.5", "0.5", "12"),)
    assert len(grid.header) == len(grid.rows[0])
