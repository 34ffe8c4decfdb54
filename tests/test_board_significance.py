"""Rows are tested against the row above from matrices that are the results' own."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from board_cases import document, write
from click.testing import CliRunner
from metrics_cases import Bench, make_bench

from oshp_bench.datasets.labels import Spec
from oshp_bench.errors import OshpError
from oshp_bench.files import read_json
from oshp_bench.leaderboard.board_cli import main
from oshp_bench.leaderboard.entries import load_entries
from oshp_bench.leaderboard.significance import with_tests
from oshp_bench.leaderboard.standings import Row, known_manifests, standings
from oshp_bench.metrics import Matrices, Resampling, Result, compare, save_matrices, score_matrices
from oshp_bench.metrics.method_card import MethodCard
from oshp_bench.metrics.result_file import save_result

NAMES = ("good", "middling", "poor")


@pytest.fixture(scope="module")
def bench(tiny_spec: Spec, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tiny_spec, tiny_root, tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def results(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Result]]:
    """Three methods with matrices, each worse than the one before; made from arrays."""
    folder = tmp_path_factory.mktemp("results")
    generator = np.random.default_rng(3)
    pairs, size = len(bench.manifest.pairs), len(bench.manifest.class_ids)
    target = np.array([bench.manifest.class_ids.index(each) for each in bench.manifest.pairs.target])
    made = {}
    for number, name in enumerate(NAMES):
        kway = generator.integers(0, 20 * (number + 1), (pairs, size, size + 1))
        kway[..., -1] = 0
        # Every class has 2,000 true pixels in every query.
        kway[:, range(size), range(size)] += 2_000 - kway.sum(2)
        oneway = generator.integers(0, 20 * (number + 1), (pairs, size, 2))
        oneway[:, :, 0] += 2_000 - oneway.sum(2)
        oneway[np.arange(pairs), target] = oneway[np.arange(pairs), target, ::-1]
        base = score_matrices(
            bench.manifest, Matrices(kway, oneway, {}, {}, f"sha256:{number:064x}", name), resampling=Resampling(100)
        )
        save_matrices(base.matrices, bench.manifest, "default", folder / name / "matrices.npz")
        save_result(base, folder / name / "result.json", {})
        made[name] = replace(base, resampling=Resampling())
    return folder, made


def rows_of(bench: Bench, folder: Path, way: str = "k") -> tuple[Row, ...]:
    entries, _ = load_entries([folder])
    manifests = known_manifests(entries, [str(bench.manifest_file)])
    tables = with_tests(standings(entries, manifests, published=False), manifests)
    (table,) = (each for each in tables if each.known and each.way == way)
    return table.rows


@pytest.mark.parametrize(("way", "figure"), [("k", "kway/novel_miou"), ("1", "1way/novel_miou")])
def test_the_difference_is_that_of_the_two_results(
    bench: Bench, results: tuple[Path, dict[str, Result]], way: str, figure: str
) -> None:
    folder, made = results
    rows = rows_of(bench, folder, way)
    assert [row.name for row in rows] == list(NAMES)
    assert rows[0].tests == ()
    for above, row in pairwise(rows):
        (test,) = row.tests
        assert (test.fold, test.against) == (1, above.name)
        assert test.difference == compare(made[above.name], made[row.name])[figure]
        assert test.difference is not None
        assert test.difference.value is not None
        assert test.difference.value < 0


def test_training_runs_of_one_card_are_one_row(
    bench: Bench, results: tuple[Path, dict[str, Result]], tmp_path: Path
) -> None:
    """Its value is the mean, its spread that of two numbers, |a - b| / sqrt(2); its interval covers both."""
    folder = shutil.copytree(results[0], tmp_path / "copy")
    card = MethodCard(
        name="learned",
        authors="Ada Example",
        backbone="none",
        pretraining="none",
        parameters=1,
        extra_data="none",
        date="2026-01-31",
    )
    for seed, name in enumerate(("good", "poor")):
        made = results[1][name]
        again = replace(
            made, matrices=replace(made.matrices, card=replace(card, seed=seed)), resampling=Resampling(100)
        )
        save_matrices(again.matrices, bench.manifest, "default", folder / name / "matrices.npz")
        save_result(again, folder / name / "result.json", {})
    first, second = (results[1][name].figures["kway/novel_miou"].value for name in ("good", "poor"))
    assert first is not None and second is not None
    rows = {row.name: row for row in rows_of(bench, folder)}
    row, cell = rows["learned"], rows["learned"].cells["kway/novel_miou", 1]
    assert (len(rows), row.runs, len(row.results)) == (2, 2, 2)
    assert cell.value == pytest.approx((first + second) / 2)
    assert cell.spread == pytest.approx(abs(first - second) / 2**0.5)
    assert cell.low is not None and cell.high is not None
    # Twice 12.7 standard errors of training alone would leave 0..1; half of it is the least that two runs say.
    assert cell.low < min(first, second) and cell.high > max(first, second)
    assert (row.about_runs, row.remarks) == ("mean and standard deviation of 2 training runs", ())
    (test,) = row.tests or rows["middling"].tests
    assert test.difference is not None and test.difference.p_value is not None
    assert test.holm == test.difference.p_value > 0.5


@pytest.mark.slow
def test_results_with_matrices_have_reports(
    bench: Bench, results: tuple[Path, dict[str, Result]], tmp_path: Path
) -> None:
    folder = shutil.copytree(results[0], tmp_path / "copy")
    (folder / "poor" / "matrices.npz").unlink()
    arguments = ["build", str(folder), "-o", str(tmp_path / "site"), "--manifest", str(bench.manifest_file)]
    done = CliRunner().invoke(main, [*arguments, "--no-published"])
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith(f"{tmp_path / 'site' / 'reports'}: 2 reports\n")
    page = (tmp_path / "site" / "index.html").read_text()
    links = set(re.findall(r'href="(reports/[^"]*)"', page))
    assert {f"reports/{path.name}" for path in (tmp_path / "site" / "reports").iterdir()} == links
    heads = {
        name: [(tmp_path / "site" / link).read_text().count(name) for link in links] for name in ("good", "middling")
    }
    assert all(max(counts) > 1 for counts in heads.values())
    assert page.count("not tested") == 2


def test_without_matrices_nothing_is_tested(
    bench: Bench, results: tuple[Path, dict[str, Result]], tmp_path: Path
) -> None:
    folder = shutil.copytree(results[0], tmp_path / "copy")
    (folder / "middling" / "matrices.npz").unlink()
    good, middling, poor = rows_of(bench, folder)
    assert good.tests == ()
    assert [test.difference for row in (middling, poor) for test in row.tests] == [None, None]


def test_a_method_on_another_fold_is_not_compared(
    bench: Bench, results: tuple[Path, dict[str, Result]], tmp_path: Path
) -> None:
    content = document("second fold", manifest={"dataset": "tiny", "name": "tiny_fold2"}, fold=2)
    folder = shutil.copytree(results[0], tmp_path / "copy")
    write(folder / "other.json", content)
    assert len(rows_of(bench, folder)) == 3


def test_matrices_that_are_not_the_results_own_are_refused(
    bench: Bench, results: tuple[Path, dict[str, Result]], tmp_path: Path
) -> None:
    folder = shutil.copytree(results[0], tmp_path / "copy")
    # The figures were raised, and the digest made to fit again.
    raised = read_json(folder / "poor" / "result.json")
    raised["figures"]["kway/novel_miou"]["value"] = 0.99
    write(
        folder / "poor" / "result.json", {key: value for key, value in raised.items() if key not in ("digest", "run")}
    )
    shutil.copy(folder / "good" / "matrices.npz", folder / "middling" / "matrices.npz")
    (folder / "good" / "matrices.npz").write_bytes(b"PK")
    with pytest.raises(OshpError) as caught:
        rows_of(bench, folder)
    said = [line.removeprefix(f"{folder}/") for line in caught.value.problems]
    assert [line.split(":")[0] for line in said] == ["poor/result.json", "good/matrices.npz", "middling/matrices.npz"]
    assert said[0].startswith("poor/result.json: kway/novel_miou is 0.99, but its matrices give 0.")
    assert "not a readable matrices file" in said[1]
    assert "not the matrices of" in said[2]


def test_matrices_and_result_say_the_same_truth(
    bench: Bench, results: tuple[Path, dict[str, Result]], tmp_path: Path
) -> None:
    folder = shutil.copytree(results[0], tmp_path / "copy")
    with_truth = replace(results[1]["good"], matrices=replace(results[1]["good"].matrices, truth=f"sha256:{9:064x}"))
    save_result(with_truth, folder / "good" / "result.json", {})
    with pytest.raises(OshpError, match="not the matrices of"):
        rows_of(bench, folder / "good")
