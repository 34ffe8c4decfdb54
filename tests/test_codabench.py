"""The Codabench bundle is complete, and its scoring program gives oshp-score's figures where Codabench runs it."""

from __future__ import annotations

import io
import json
import math
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from metrics_cases import Bench, make_bench
from PIL import Image
from submission_cases import packed

from oshp_bench.datasets.labels import Spec
from oshp_bench.leaderboard import codabench
from oshp_bench.leaderboard.board_cli import main
from oshp_bench.manifest import save_manifest
from oshp_bench.metrics import score

PROGRAM = Path(codabench.__file__).parent / "competition" / "score.py"
KEYS = [
    "kway/novel_miou",
    "kway/human_miou",
    "kway/overall_accuracy",
    "1way/novel_miou",
    "1way/human_miou",
    "1way/bi_miou",
]


@pytest.fixture(scope="module")
def bench(tiny_spec: Spec, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tiny_spec, tiny_root, tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def predictions(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bench.write(tmp_path_factory.mktemp("predictions") / "set", seed=1)


@pytest.fixture(scope="module")
def bundle(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "bundle.zip"
    run("--manifest", bench.manifest_file, "--truth", bench.truth_file, "-o", path)
    return path


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["codabench", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def competition(bundle: Path) -> dict[str, Any]:
    with zipfile.ZipFile(bundle) as archive:
        content: dict[str, Any] = yaml.load(archive.read("competition.yaml"), yaml.FullLoader)
    return content


def app(bundle: Path, folder: Path) -> Path:
    """Lays a task out as Codabench does: program, input/ref, input/res, output."""
    with zipfile.ZipFile(bundle) as archive:
        (task,) = competition(bundle)["tasks"]
        for name, place in ((task["scoring_program"], "program"), (task["reference_data"], "input/ref")):
            zipfile.ZipFile(io.BytesIO(archive.read(name))).extractall(folder / place)
    (folder / "input" / "res").mkdir()
    (folder / "output").mkdir()
    return folder


def scored(folder: Path, *python: str, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Runs the command of metadata.yaml as a process of its own; its exit code and what it says on stderr."""
    command = yaml.safe_load((folder / "program" / "metadata.yaml").read_text())["command"].split(" ")
    assert command[0] == "python3"
    places = [part.replace("/app", str(folder)) for part in command[1:]]
    done = subprocess.run(
        [sys.executable, *python, *places],
        cwd=folder / "program",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr


def test_the_bundle_is_a_complete_version_2_competition(bundle: Path, bench: Bench) -> None:
    about = competition(bundle)
    assert about["version"] == 2
    with zipfile.ZipFile(bundle) as archive:
        names = set(archive.namelist())
        (phase,), (board,), (task,) = about["phases"], about["leaderboards"], about["tasks"]
        used = [about["image"], about["terms"], task["scoring_program"], task["reference_data"], phase["public_data"]]
        used += [page["file"] for page in about["pages"]]
        assert names == {"competition.yaml", *used}
        # A page that is empty makes the upload fail.
        assert all(archive.read(name).strip() for name in names)
        assert all("honour system" in archive.read(name).decode() for name in ("overview.md", "terms.md"))
        page = archive.read("submitting.md").decode()
        assert "Where software and photos come from" in page and "    Ask the organisers of this competition." in page
        public = zipfile.ZipFile(io.BytesIO(archive.read(phase["public_data"])))
        logo = Image.open(io.BytesIO(archive.read(about["image"])))
    assert public.read("tiny_fold1.json") == bench.manifest_file.read_bytes()
    assert (logo.format, logo.width) == ("PNG", logo.height)
    assert about["title"] == f"One-shot human parsing: {bench.manifest.dataset.title}"
    assert {page["title"] for page in about["pages"]} >= {"Overview", "Evaluation", "Terms"}
    assert (task["index"], phase["tasks"], bool(task["name"])) == (0, [0], True)
    assert phase["start"] < phase["end"]
    assert about["docker_image"] == "codalab/codalab-legacy:py312"
    columns = board["columns"]
    assert [column["key"] for column in columns] == KEYS
    assert [column["index"] for column in columns] == list(range(6))
    assert {column["sorting"] for column in columns} == {"desc"}
    # Codabench refuses longer ones.
    assert max(len(column[name]) for column in columns for name in ("key", "title")) <= 36
    for key, question in about["fact_sheet"].items():
        assert question["key"] == key
        assert question["is_required"] in ("true", "false")
        assert question["is_on_leaderboard"] in ("true", "false")


def test_the_zips_in_it_arrive_as_they_are(bundle: Path) -> None:
    """Workers move the content of the first folder in a zip upwards: only the scoring program may have folders."""
    with zipfile.ZipFile(bundle) as archive:
        for name in archive.namelist():
            if name.endswith(".zip"):
                members = zipfile.ZipFile(io.BytesIO(archive.read(name))).namelist()
                assert name == "scoring_program.zip" or not [member for member in members if "/" in member]
                assert not [member for member in members if "/" in member and Path(member).name.startswith("metadata")]


def test_the_same_input_gives_the_same_bytes(bundle: Path, bench: Bench, tmp_path: Path) -> None:
    run("--manifest", bench.manifest_file, "-o", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == bundle.read_bytes()


@pytest.mark.slow
def test_a_good_submission_gets_the_figures_of_the_scorer(
    bundle: Path, bench: Bench, predictions: Path, tmp_path: Path
) -> None:
    """As it is sent: the zip of oshp-submit in a zip, and what the platform lays beside it."""
    folder = app(bundle, tmp_path / "app")
    sent = packed([bench], [predictions], folder / "input" / "res" / "submission.zip")
    sent.with_suffix(".toml").unlink()
    (folder / "input" / "res" / "metadata").write_text("exitCode: 0\n")
    code, said = scored(folder)
    assert (code, said) == (0, "")
    scores = json.loads((folder / "output" / "scores.json").read_text())
    figures = score(bench.manifest, predictions, bench.truth_file).figures
    assert list(scores) == [column["key"] for column in competition(bundle)["leaderboards"][0]["columns"]]
    assert all(type(value) is float and math.isfinite(value) for value in scores.values())
    assert scores == {key: 100 * (figures[key].value or 0.0) for key in KEYS}
    page = (folder / "output" / "detailed_results.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "tiny_fold1" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert sorted(path.name for path in (folder / "output").iterdir()) == ["detailed_results.html", "scores.json"]


@pytest.mark.slow
def test_a_broken_submission_fails_and_says_why(bundle: Path, predictions: Path, tmp_path: Path) -> None:
    folder = app(bundle, tmp_path / "app")
    shutil.copytree(predictions, folder / "input" / "res", dirs_exist_ok=True)
    (folder / "input" / "res" / "metadata").write_text("exitCode: 0\n")
    (folder / "input" / "res" / "kway" / "0007.png").unlink()
    (folder / "input" / "res" / "1way" / "0003.png").write_bytes(b"not a picture")
    code, said = scored(folder)
    assert code == 1
    lines = said.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("kway: 0007.png is missing")
    assert "1way/0003.png" in lines[1]
    assert list((folder / "output").iterdir()) == []


@pytest.mark.slow
def test_packages_come_along_in_wheels(bench: Bench, predictions: Path, tmp_path: Path) -> None:
    """On an image that has numpy and scipy alone; the report needs more and becomes its tables."""
    site = Path(sysconfig.get_paths()["purelib"])
    (tmp_path / "image").mkdir()
    for package in ("numpy", "numpy.libs", "scipy", "scipy.libs"):
        if (site / package).exists():
            (tmp_path / "image" / package).symlink_to(site / package)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for module, extra, name in (
        ("click", "", "click-9-py3-none-any.whl"),
        ("PIL", "pillow.libs", "pillow-99-cp312-cp312-manylinux_2_28_x86_64.whl"),
    ):
        with zipfile.ZipFile(wheels / name, "w") as wheel:
            for path in [*(site / module).rglob("*"), *(site / extra).rglob("*" if extra else "")]:
                if path.is_file() and "__pycache__" not in path.parts:
                    wheel.write(path, path.relative_to(site))
    run("--manifest", bench.manifest_file, "-o", tmp_path / "bundle.zip", "--wheels", wheels)
    folder = app(tmp_path / "bundle.zip", tmp_path / "app")
    shutil.copytree(predictions, folder / "input" / "res", dirs_exist_ok=True)
    code, said = scored(folder, "-S", environment={"PYTHONPATH": str(tmp_path / "image")})
    assert code == 0
    assert "note: this image lacks jinja2 or matplotlib" in said
    assert json.loads((folder / "output" / "scores.json").read_text()).keys() == {*KEYS}
    assert "C_novel mIoU" in (folder / "output" / "detailed_results.html").read_text()
    shutil.rmtree(folder / "program" / "packages")
    code, said = scored(folder, "-S", environment={"PYTHONPATH": str(tmp_path / "image")})
    assert code == 3
    assert "error: this image lacks PIL, click" in said


@pytest.fixture(scope="module")
def program() -> Any:
    """The scoring program as a module."""
    spec = spec_from_file_location("score", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["sub.zip"], "sub.zip"),
        (["sub.zip", "metadata", "__MACOSX/x", ".DS_Store"], "sub.zip"),
        (["kway/0000.png", "1way/0000.png"], "."),
        (["submission.json", "a_fold1/kway/0000.png"], "."),
        (["preds/submission.json", "preds/a_fold1/kway/0000.png"], "preds"),
        (["kway/0000.png", "1way/0000.png", "metadata"], "a copy"),
    ],
)
def test_where_a_submission_lies(program: Any, files: list[str], found: str, tmp_path: Path) -> None:
    sent = tmp_path / "res"
    for name in files:
        (sent / name).parent.mkdir(parents=True, exist_ok=True)
        (sent / name).touch()
    place = program.predictions_in(sent, tmp_path / "scratch")
    if found == "a copy":
        assert sorted(path.name for path in place.iterdir()) == ["1way", "kway"]
        assert place.parent == tmp_path / "scratch"
    else:
        assert place == sent / found


@pytest.mark.parametrize(
    "files",
    [
        [],
        ["metadata"],
        ["0000.png", "1way/0000.png"],
        ["a.zip", "b.zip"],
        ["a.zip", "kway/x"],
        ["submission.json", "kway/x"],
    ],
)
def test_what_the_platform_mixed_up_is_refused_with_a_way_out(program: Any, files: list[str], tmp_path: Path) -> None:
    sent = tmp_path / "res"
    sent.mkdir()
    for name in files:
        (sent / name).parent.mkdir(exist_ok=True)
        (sent / name).touch()
    with pytest.raises(program.Refused, match="send a zip with one file, the zip of oshp-submit pack"):
        program.predictions_in(sent, tmp_path / "scratch")


def test_a_column_without_a_number_is_refused(program: Any, bench: Bench, predictions: Path) -> None:
    result = score(bench.manifest, predictions, bench.truth_file, way="k")
    with pytest.raises(program.Refused, match=r"has no value for 1way/novel_miou, 1way/human_miou, 1way/bi_miou;"):
        program.scores_of(result, KEYS)
    assert list(program.scores_of(result, KEYS[:3])) == KEYS[:3]


def test_one_way_can_be_asked_for(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "bundle.zip"
    run("--manifest", bench.manifest_file, "-o", path, "--way", "1", "--private-labels", "--title", "Mine *and* <b>")
    about = competition(path)
    assert [column["key"] for column in about["leaderboards"][0]["columns"]] == KEYS[3:]
    assert about["title"] == "Mine *and* <b>"
    with zipfile.ZipFile(path) as archive:
        overview, submitting = archive.read("overview.md").decode(), archive.read("submitting.md").decode()
        reference = zipfile.ZipFile(io.BytesIO(archive.read("reference_tiny_fold1.zip")))
    assert overview.startswith(r"# Mine \*and\* \<b\>")
    assert "honour system" not in overview
    assert "--way 1" in submitting
    assert json.loads(reference.read("task.json"))["columns"] == KEYS[3:]


def test_manifests_and_truths_have_to_fit(bench: Bench, tmp_path: Path) -> None:
    other = tmp_path / "tiny_other.json"
    shutil.copy(bench.manifest_file, other)
    shutil.copy(bench.truth_file, tmp_path / "tiny_other.truth.zip")
    first, out = ("--manifest", bench.manifest_file), ("-o", tmp_path / "b.zip")
    twice = run(*first, "--manifest", other, *out, code=2)
    assert twice.stderr == f"error: {other}: tiny_fold1 is given twice; give it once\n"
    uneven = run(*first, "--manifest", "gone", "--truth", tmp_path / "x", *out, code=2)
    assert uneven.stderr == "error: 2 manifests but 1 truths; give one --truth for every --manifest\n"
    # What is wrong with either of them is said.
    wrong = run(*first, "--truth", tmp_path / "no.zip", "--manifest", "gone.json", "--truth", other, *out, code=2)
    assert [line.split(":")[1].split("/")[-1].strip() for line in wrong.stderr.splitlines()] == ["no.zip", "gone.json"]
    assert not (tmp_path / "b.zip").exists()


def test_every_manifest_is_a_task(bench: Bench, tmp_path: Path) -> None:
    manifest = replace(bench.manifest, name="tiny_fold2", fold=2)
    save_manifest(manifest, tmp_path / "tiny_fold2.json")
    shutil.copy(bench.truth_file, tmp_path / "tiny_fold2.truth.zip")
    run("--manifest", bench.manifest_file, "--manifest", tmp_path / "tiny_fold2.json", "-o", tmp_path / "b.zip")
    about = competition(tmp_path / "b.zip")
    assert [(task["index"], task["reference_data"]) for task in about["tasks"]] == [
        (0, "reference_tiny_fold1.zip"),
        (1, "reference_tiny_fold2.zip"),
    ]
    assert about["phases"][0]["tasks"] == [0, 1]
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        assert set(archive.namelist()) >= {task["reference_data"] for task in about["tasks"]}


def test_wheels_that_do_not_fit_are_refused(bench: Bench, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    given = ("--manifest", bench.manifest_file, "-o", tmp_path / "b.zip", "--wheels", wheels)
    wheels.mkdir()
    assert "contains no wheel" in run(*given, code=2).stderr
    for name in (
        "pillow-1-cp311-cp311-manylinux_2_28_x86_64.whl",
        "numpy-2.4-cp312-cp312-manylinux_2_28_x86_64.whl",
        "x.whl",
    ):
        (wheels / name).touch()
    (wheels / "click-9-py3-none-any.whl").write_bytes(b"PK")
    with zipfile.ZipFile(wheels / "evil-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("../evil.py", "")
    lines = run(*given, code=2).stderr.splitlines()
    assert [line.split(": ")[2][:20] for line in lines[:-1]] == [
        "not a readable wheel",
        "'../evil.py' is no p",
        "not a wheel for Pyth",
        "not a wheel for Pyth",
        "not a wheel for Pyth",
    ]
    assert lines[-1].startswith(f"error: fill the folder with pip download -d {wheels} --no-deps")
    assert not (tmp_path / "b.zip").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("--start", "tomorrow"), ("--end", "2020-01-01"), ("--docker-image", "an image; rm"), ("--way", "2")],
)
def test_wrong_usage_is_told(bench: Bench, tmp_path: Path, option: str, value: str) -> None:
    given = ("--manifest", bench.manifest_file, "-o", tmp_path / "b.zip", option, value)
    assert "Usage:" in run(*given, code=2).stderr
