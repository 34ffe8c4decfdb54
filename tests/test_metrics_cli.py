"""oshp-score from end to end: what a user types and what comes out."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from metrics_cases import Bench, make_bench

from oshp_bench.datasets.labels import Spec
from oshp_bench.manifest import load_manifest
from oshp_bench.metrics import Resampling, score
from oshp_bench.report.cli import FORMATS, main

QUICK = "--resamples=60"


@pytest.fixture(scope="module")
def bench(tiny_spec: Spec, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tiny_spec, tiny_root, tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def sets(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two sets of predictions, of equal quality."""
    folder = tmp_path_factory.mktemp("sets")
    return bench.write(folder / "first", seed=1), bench.write(folder / "second", seed=2)


def run(bench: Bench, *arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [*map(str, arguments), "--manifest", str(bench.manifest_file)])
    assert result.exit_code == code, result.output
    return result


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def without_run(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = read(path)
    del document["run"]
    return document


@pytest.mark.slow
def test_the_table(bench: Bench, sets: tuple[Path, Path]) -> None:
    output = run(bench, sets[0], QUICK)
    assert output.stderr == ""
    lines = output.stdout.splitlines()
    queries = len(bench.manifest.pairs.queries)
    assert lines[0] == f"tiny_fold1 1.0.0: 750 pairs, {queries} queries, convention default"
    figures = score(bench.manifest, sets[0], bench.truth_file, resampling=Resampling(60)).figures
    (human,) = (line for line in lines if line.startswith("C_human mIoU "))
    for way in ("kway", "1way"):
        figure = figures[f"{way}/human_miou"]
        assert figure.value is not None
        assert figure.low is not None
        assert figure.high is not None
        assert f"{100 * figure.value:.2f}" in human
        assert f"[{100 * figure.low:.2f}, {100 * figure.high:.2f}]" in human
    roles = [line.split()[:2] for line in lines[lines.index("IoU by class") + 3 :][: len(bench.manifest.classes)]]
    assert roles == [[each.name, each.role] for each in bench.manifest.classes]
    for title in ("Testing bias", "IoU by the class's area", "Most confused parts", "Wrong foreground"):
        assert any(line.startswith(title) for line in lines), title
    assert lines[-1].startswith("tiny_fold1-1.0.0|test:")
    assert lines[-1].split("|")[2:6] == [
        f"truth:{bench.truth.digest[7:19]}",
        "ways:k+1",
        "convention:default",
        "bootstrap:60q,seed0",
    ]


@pytest.mark.slow
def test_json_on_stdout_is_the_result(bench: Bench, sets: tuple[Path, Path], tmp_path: Path) -> None:
    shown = json.loads(run(bench, sets[0], QUICK, "--format=json", "--out", tmp_path).stdout)
    assert shown == {"results": [without_run(tmp_path / "result.json")]}
    both = json.loads(run(bench, *sets, QUICK, "--format=json", "--floor", tmp_path / "result.json").stdout)
    assert both["results"][0] == shown["results"][0]
    assert both["floor"][0]["digest"] == shown["results"][0]["digest"]
    assert both["differences"].keys() == shown["results"][0]["figures"].keys()


@pytest.mark.slow
def test_csv_holds_every_figure_with_all_digits(bench: Bench, sets: tuple[Path, Path]) -> None:
    rows = list(csv.DictReader(io.StringIO(run(bench, sets[0], QUICK, "--format=csv").stdout)))
    figures = score(bench.manifest, sets[0], bench.truth_file, resampling=Resampling(60)).figures
    assert [row["figure"] for row in rows] == list(figures)
    names = {str(each.id): (each.name, each.role) for each in bench.manifest.classes}
    for row in rows:
        figure = figures[row["figure"]]
        for key in ("value", "low", "high"):
            expected = getattr(figure, key)
            assert (float(row[key]) if row[key] else None) == expected
        assert (row["class"], row["role"]) == names.get(row["figure"].rpartition("/")[2], ("", ""))
        assert (row["manifest"], row["version"], row["convention"]) == ("tiny_fold1", "1.0.0", "default")


def test_csv_of_two_sets_has_their_differences(bench: Bench, sets: tuple[Path, Path], tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run(bench, *sets, QUICK, "--format=csv", "--out", tmp_path).stdout)))
    wanted = read(tmp_path / "comparison.json")["differences"]
    found = {row["figure"]: row for row in rows if row["predictions"] == f"{sets[1]} minus {sets[0]}"}
    assert found.keys() == wanted.keys()
    for name, difference in wanted.items():
        for column in ("value", "low", "high", "p_value"):
            assert found[name][column] == ("" if difference[column] is None else repr(difference[column]))
    assert {row["p_value"] for row in rows if row["predictions"] in map(str, sets)} == {""}
    hat = next(row for row in found.values() if row["figure"] == "kway/iou/1")
    assert (hat["class"], hat["role"]) == ("hat", "base")


@pytest.mark.slow
def test_latex_and_markdown_are_whole_tables(bench: Bench, sets: tuple[Path, Path]) -> None:
    latex = run(bench, sets[0], QUICK, "--format=latex").stdout
    tables = latex.split(r"\begin{tabular}")[1:]
    assert len(tables) == latex.count(r"\end{tabular}") == 2
    for table in tables:
        columns = table.partition("\n")[0].count("l") + table.partition("\n")[0].count("r")
        rows = [line for line in table.splitlines() if line.endswith(r"\\")]
        assert rows
        assert {row.count(" & ") for row in rows} == {columns - 1}
    assert r"C\_human mIoU" in latex
    assert not [line for line in latex.splitlines() if "%" in line.replace(r"\%", "") and not line.startswith("% ")]
    blocks = [block.split("\n") for block in run(bench, sets[0], QUICK, "--format=markdown").stdout.split("\n\n")]
    for block in (block for block in blocks if block[0].startswith("|")):
        assert len({line.count("|") for line in block if line}) == 1
        assert block[1].startswith("|---|---:|")


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_shows_two_sets_and_a_floor(bench: Bench, sets: tuple[Path, Path], form: str) -> None:
    output = run(bench, *sets, QUICK, "--format", form, "--floor", sets[1]).stdout
    if form != "json":
        assert str(sets[0]) in output.replace(r"\_", "_")
    if form not in ("json", "csv"):
        assert "Paired difference, second minus first" in output
        assert "Beside the floor" in output


@pytest.mark.slow
def test_the_files_of_out(bench: Bench, sets: tuple[Path, Path], tmp_path: Path) -> None:
    run(bench, sets[0], QUICK, "--out", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("figures.csv", "matrices.npz", "pairs.csv", "result.json"),
    ]
    document = read(tmp_path / "result.json")
    result = score(bench.manifest, sets[0], bench.truth_file, resampling=Resampling(60))
    assert without_run(tmp_path / "result.json") == result.to_json()
    assert document["run"]["predictions"] == str(sets[0])
    assert document["manifest"]["digest"] == bench.manifest.digest
    figures = {row["figure"]: row for row in csv.DictReader(io.StringIO((tmp_path / "figures.csv").read_text()))}
    assert figures["kway/iou/5"]["class"] == "dress" and figures["kway/iou/5"]["role"] == "novel"
    rows = list(csv.DictReader(io.StringIO((tmp_path / "pairs.csv").read_text())))
    assert [row["pair"] for row in rows] == list(bench.manifest.pairs.names)
    assert [row["query"] for row in rows] == list(bench.manifest.pairs.query)
    # Of the first pair by hand.
    truth, said = bench.oneway(0) != 0, np.asarray(_pixels(sets[0] / "1way" / "0000.png")) != 0
    cells = [(truth & said).sum(), (~truth & said).sum(), (truth & ~said).sum(), (~truth & ~said).sum()]
    assert [int(rows[0][f"1way_{name}"]) for name in ("tp", "fp", "fn", "tn")] == cells
    assert float(rows[0]["1way_iou"]) == cells[0] / sum(cells[:3])
    right = (bench.kway(0) == _pixels(sets[0] / "kway" / "0000.png")).mean()
    assert float(rows[0]["kway_accuracy"]) == right


def _pixels(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("convention", ["default", "official-2023"])
def test_matrices_give_the_same_result(bench: Bench, sets: tuple[Path, Path], tmp_path: Path, convention: str) -> None:
    chosen = f"--convention={convention}"
    run(bench, sets[0], QUICK, chosen, "--out", tmp_path / "a")
    run(bench, QUICK, chosen, "--from-matrices", tmp_path / "a" / "matrices.npz", "--out", tmp_path / "b")
    assert without_run(tmp_path / "b" / "result.json") == without_run(tmp_path / "a" / "result.json")
    for name in ("matrices.npz", "pairs.csv"):
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "a" / name).read_bytes()


@pytest.mark.slow
def test_any_number_of_jobs_gives_the_same_bytes(bench: Bench, sets: tuple[Path, Path], tmp_path: Path) -> None:
    for jobs in (1, 2):
        run(bench, sets[0], QUICK, f"--jobs={jobs}", "--out", tmp_path / str(jobs))
    for name in ("matrices.npz", "pairs.csv"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    assert without_run(tmp_path / "1" / "result.json") == without_run(tmp_path / "2" / "result.json")


@pytest.mark.slow
def test_any_number_of_jobs_gives_the_same_problems(bench: Bench, tmp_path: Path) -> None:
    folder = bench.write(tmp_path / "preds", seed=1)
    for pair in range(0, 750, 20):
        (folder / "kway" / f"{pair:04d}.png").write_bytes(b"")
    one, two = (run(bench, folder, f"--jobs={jobs}", code=2).stderr.splitlines() for jobs in (1, 2))
    assert len(one) == 38
    assert one == two == sorted(one)


@pytest.mark.slow
def test_two_sets_are_compared(bench: Bench, sets: tuple[Path, Path], tmp_path: Path) -> None:
    run(bench, *sets, QUICK, "--out", tmp_path)
    found = read(tmp_path / "comparison.json")
    first, second = (read(tmp_path / name / "result.json") for name in ("first", "second"))
    assert (found["first"], found["second"]) == (first["predictions"]["digest"], second["predictions"]["digest"])
    for name, difference in found["differences"].items():
        assert difference["value"] == second["figures"][name]["value"] - first["figures"][name]["value"]
        assert difference["low"] <= difference["value"] <= difference["high"]
        assert 1 / 61 <= difference["p_value"] <= 1
    # The matrices give the same comparison.
    matrices = [
        option for name in ("first", "second") for option in ("--from-matrices", tmp_path / name / "matrices.npz")
    ]
    run(bench, QUICK, *matrices, "--out", tmp_path / "again")
    assert read(tmp_path / "again" / "comparison.json") == found


@pytest.mark.slow
def test_the_floor_of_a_folder_is_that_of_its_result(bench: Bench, sets: tuple[Path, Path], tmp_path: Path) -> None:
    run(bench, sets[1], QUICK, "--out", tmp_path)
    outputs = [run(bench, sets[0], QUICK, "--floor", floor).stdout for floor in (sets[1], tmp_path / "result.json")]
    rows = [
        [line.split()[1:] for line in output.partition("Beside the floor")[2].splitlines()[3:5]] for output in outputs
    ]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 2


@pytest.mark.slow
def test_more_than_two_sets_are_compared_with_the_first(bench: Bench, sets: tuple[Path, Path], tmp_path: Path) -> None:
    third = bench.write(tmp_path / "third", seed=3)
    output = run(bench, *sets, third, "--resamples=20", "--out", tmp_path / "out").stdout
    run(bench, sets[0], third, "--resamples=20", "--out", tmp_path / "two")
    alone = read(tmp_path / "two" / "comparison.json")
    assert read(tmp_path / "out" / "3" / "comparison.json") == alone
    assert not (tmp_path / "out" / "1" / "comparison.json").exists()
    rows = [line.split() for line in output.partition("Paired differences to the first")[2].splitlines()[3:]]
    (place,) = (place for place, row in enumerate(rows) if row[:3] == ["k-way", "C_novel", "mIoU"])
    assert [row[-1 if place == at else 0] for at, row in enumerate(rows[place : place + 3], place)] == [
        rows[place][-1],
        *map(str, (sets[1], third)),
    ]
    found = alone["differences"]["kway/novel_miou"]
    name, _, change, low, high, p, holm = rows[place + 2]
    assert (name, change) == (str(third), f"{100 * found['value']:+.2f}")
    assert (low, high) == (f"[{100 * found['low']:+.2f},", f"{100 * found['high']:+.2f}]")
    assert p == f"{found['p_value']:.4f}" <= holm
    # Six headline figures, two sets each.
    assert "corrected for 12 tests" in output
    shown = json.loads(run(bench, *sets, third, "--resamples=20", "--format=json").stdout)
    assert shown["differences"][1] == alone["differences"]
    table = csv.DictReader(io.StringIO(run(bench, *sets, third, "--resamples=20", "--format=csv").stdout))
    of_third = [row for row in table if row["predictions"] == f"{third} minus {sets[0]}"]
    assert {row["figure"]: row["p_value"] for row in of_third} == {
        name: "" if one["p_value"] is None else repr(one["p_value"]) for name, one in alone["differences"].items()
    }


def test_any_result_file_is_a_floor(bench: Bench, sets: tuple[Path, Path], tmp_path: Path) -> None:
    run(bench, sets[1], QUICK, "--way=k", "--out", tmp_path)
    for name in ("floor.txt", "floor"):
        (tmp_path / name).write_bytes((tmp_path / "result.json").read_bytes())
    floors = [tmp_path / name for name in ("result.json", "floor.txt", "floor", "matrices.npz")]
    output = run(bench, sets[0], QUICK, "--way=k", *(word for floor in floors for word in ("--floor", floor))).stdout
    rows = [line.split() for line in output.partition("Beside the floor")[2].splitlines()[3:7]]
    assert [row[0] for row in rows] == list(map(str, floors))
    assert len({tuple(row[1:]) for row in rows}) == 1
    (tmp_path / "notes.txt").write_text("no result")
    assert "notes.txt: " in run(bench, sets[0], QUICK, "--floor", tmp_path / "notes.txt", code=2).stderr


@pytest.mark.slow
def test_missing_predictions_are_said(bench: Bench, tmp_path: Path) -> None:
    folder = bench.write(tmp_path / "preds", seed=3)
    for pair in (3, 9):
        (folder / "kway" / f"{pair:04d}.png").unlink()
    refused = run(bench, folder, code=2)
    assert refused.stdout == ""
    assert [line.removeprefix(f"error: {folder}/") for line in refused.stderr.splitlines()] == [
        "kway: 0003.png is missing",
        "kway: 0009.png is missing",
    ]
    result = run(bench, folder, QUICK, "--allow-missing", "--out", tmp_path / "out")
    assert result.stderr == (
        f"note: {folder}: 2 of 750 k-way predictions are missing and count as all background: 0003, 0009\n"
    )
    assert read(tmp_path / "out" / "result.json")["predictions"]["missing"] == {"k": ["0003", "0009"]}
    assert "Error: Invalid value for '--allow-missing'" in run(bench, "--allow-missing", folder, code=2).stderr
    # The matrices still know.
    again = run(bench, QUICK, "--from-matrices", tmp_path / "out" / "matrices.npz")
    assert "2 of 750 k-way predictions are missing" in again.stderr


def test_more_than_a_tenth_missing_needs_the_number(bench: Bench, tmp_path: Path) -> None:
    folder = bench.write(tmp_path / "preds", seed=3, ways=("kway",))
    for pair in range(76):
        (folder / "kway" / f"{pair:04d}.png").unlink()
    why = f"error: {folder}/kway: 76 of 750 predictions are missing, more than 75; to count them as all background,"
    assert run(bench, folder, "--allow-missing", QUICK, code=2).stderr == f"{why} give --allow-missing 76\n"
    assert "more than 3;" in run(bench, folder, "--allow-missing", "3", code=2).stderr
    assert "76 of 750" in run(bench, folder, QUICK, "--allow-missing", "76").stderr


def test_one_way_alone_and_zips(bench: Bench, sets: tuple[Path, Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "kway.zip", "w") as archive:
        for file in (sets[0] / "kway").iterdir():
            archive.write(file, file.name)
    flat = run(bench, tmp_path / "kway.zip", "--way=k", QUICK, "--format=json").stdout
    assert flat == run(bench, sets[0], "--way=k", QUICK, "--format=json").stdout
    assert {name.partition("/")[0] for name in json.loads(flat)["results"][0]["figures"]} == {"kway"}


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a", "b", "c", "--report", "r.html"],
        ["a", "--from-matrices", "b.npz"],
        ["--from-matrices", "b"],
        ["a", "--way=2"],
        ["a", "--jobs=0"],
        ["a", "--resamples=-1"],
        ["a", "--convention=strict"],
    ],
)
def test_wrong_usage(bench: Bench, arguments: list[str]) -> None:
    result = run(bench, *arguments, code=2)
    assert result.stderr.startswith("Usage: ")
    assert result.stdout == ""


def test_a_result_that_is_alone_in_its_way_is_not_compared(bench: Bench, sets: tuple[Path, Path]) -> None:
    result = run(bench, sets[0] / "kway", sets[1], "--way=k", QUICK)
    assert "Paired difference" in result.stdout


@pytest.mark.slow
def test_a_folder_whose_name_is_not_utf_8(bench: Bench, sets: tuple[Path, Path], tmp_path: Path) -> None:
    strange = tmp_path / os.fsdecode(b"preds\xff")
    try:
        strange.symlink_to(sets[0])
    except OSError:
        pytest.skip("this file system takes no such name")
    output = run(bench, strange, sets[1], QUICK, "--out", tmp_path / "out").stdout
    assert f"== {tmp_path}/preds\ufffd" in output
    assert read(tmp_path / "out" / "first" / "result.json")["run"]["predictions"] == f"{tmp_path}/preds\ufffd"


def test_the_scorer_is_light() -> None:
    # Nothing of weight for --help, and never torch.
    code = (
        "import sys; import oshp_bench.report.cli; print('numpy' in sys.modules, 'click' in sys.modules);"
        "import oshp_bench.metrics as m; print('numpy' in sys.modules); [getattr(m, name) for name in m.__all__];"
        "print('numpy' in sys.modules, [n for n in ('torch', 'h5py', 'pandas', 'tqdm') if n in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["False True", "False", "True []"]


def test_scoring_by_name_of_a_shipped_manifest_says_which_there_are(sets: tuple[Path, Path]) -> None:
    result = CliRunner().invoke(main, [str(sets[0]), "--manifest", "nonsense_fold9"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: nonsense_fold9: no such file and no shipped manifest; shipped: ")


def test_the_manifest_is_read_back(bench: Bench) -> None:
    assert load_manifest(bench.manifest_file) == bench.manifest
