"""oshp-score with broken files around it: one line or the list, the exit code, and nothing lost."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from metrics_cases import Bench, make_bench, mask_of, png

from oshp_bench.datasets.images import MAX_PIXELS, pixel_digest
from oshp_bench.datasets.labels import Spec
from oshp_bench.errors import OshpError
from oshp_bench.files import content_digest
from oshp_bench.manifest import save_manifest
from oshp_bench.metrics import Matrices, load_matrices, save_matrices
from oshp_bench.report.cli import main


@pytest.fixture(scope="module")
def bench(tiny_spec: Spec, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tiny_spec, tiny_root, tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def kway(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bench.write(tmp_path_factory.mktemp("sets") / "preds", seed=1, ways=("kway",))


@pytest.fixture(scope="module")
def out(bench: Bench, kway: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a good run."""
    folder = tmp_path_factory.mktemp("out")
    errors(bench.manifest_file, kway, "--out", folder, code=0)
    return folder


def errors(manifest: Path, *arguments: object, code: int = 2) -> list[str]:
    """Runs the command and gives its error lines; it must not print a result."""
    command = [*map(str, arguments), "--manifest", str(manifest), "--resamples=20"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == code, result.output
    assert bool(result.stdout) == (code == 0)
    lines = result.stderr.splitlines()
    assert all(line.startswith("error: ") and line.isprintable() for line in lines)
    return [line.removeprefix("error: ") for line in lines]


@pytest.fixture
def alone(bench: Bench, tmp_path: Path) -> Path:
    """A copy of the manifest with no truth beside it."""
    return Path(shutil.copy(bench.manifest_file, tmp_path / "tiny_fold1.json"))


@pytest.mark.slow
def test_the_truth_is_given_or_built_or_wanted(
    bench: Bench, kway: Path, alone: Path, tiny_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OSHP_TINY_ROOT", "OSHP_DATA"):
        monkeypatch.delenv(variable, raising=False)
    result = CliRunner().invoke(main, [str(kway), "--manifest", str(alone)])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: tiny: give --root, or set OSHP_TINY_ROOT or OSHP_DATA")
    assert errors(alone, kway, "--truth", bench.truth_file, code=0) == []
    assert errors(alone, kway, "--root", tiny_root, code=0) == []
    # What was built is kept, and is what the tailor writes.
    assert alone.with_suffix(".truth.zip").read_bytes() == bench.truth_file.read_bytes()
    assert errors(alone, kway, code=0) == []


def test_a_truth_that_does_not_exist(bench: Bench, kway: Path, tmp_path: Path) -> None:
    (problem,) = errors(bench.manifest_file, kway, "--truth", tmp_path / "nowhere.zip")
    assert problem.startswith(f"{tmp_path / 'nowhere.zip'}: does not exist")


def test_a_truth_of_another_manifest(bench: Bench, kway: Path, alone: Path) -> None:
    # Another version with the same classes and pairs may use the truth, other roles may not.
    save_manifest(replace(bench.manifest, version="1.0.1"), alone)
    assert errors(alone, kway, "--truth", bench.truth_file, code=0) == []
    classes = tuple(replace(each, role="novel" if each.id == 3 else each.role) for each in bench.manifest.classes)
    save_manifest(replace(bench.manifest, classes=classes, validation=None, version="2.0.0"), alone)
    (problem,) = errors(alone, kway, "--truth", bench.truth_file)
    assert "the truth of 'tiny_fold1' '1.0.0', not of tiny_fold1 2.0.0" in problem


def rewritten(source: Path, path: Path, changes: dict[str, bytes | None]) -> Path:
    """A zip with some members replaced or (None) left out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = changes.get(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return path


def test_a_damaged_truth(bench: Bench, kway: Path, tmp_path: Path) -> None:
    query = bench.manifest.pairs.query[0]
    name = f"masks/{query}.png"
    mask = bench.truth.mask(query).copy()
    height, width = mask.shape
    mask[0, 0] = 7 - mask[0, 0]
    with zipfile.ZipFile(bench.truth_file) as archive:
        index = json.loads(archive.read("truth.json"))
    unknown = mask_of("9").repeat(height, axis=0).repeat(width, axis=1)
    cases: list[tuple[dict[str, bytes | None], str]] = [
        ({name: png(mask)}, f"{name}: the pixels do not fit the digest in truth.json; tailor the truth again"),
        ({name: png(mask[1:])}, f"{name}: size or mode differ from the index; tailor the truth again"),
        ({name: png(unknown)}, f"{name}: the pixels do not fit the digest"),
        ({name: b""}, f"{name}: an empty file; tailor the truth again"),
        ({name: None}, f"{name}: \"There is no item named 'masks/{query}.png' in the archive\""),
        ({"truth.json": None}, "not a readable truth file"),
        ({"truth.json": b"{}"}, 'not a truth file (its "format" is not "oshp-truth/1")'),
        ({"truth.json": b'{"format": NaN}'}, "truth.json: not valid JSON (NaN is not a JSON number)"),
        ({"truth.json": json.dumps({**index, "queries": {}}).encode()}, "lacks "),
        ({"truth.json": json.dumps({**index, "queries": {query: {"size": [1, -1]}}}).encode()}, "size is not"),
    ]
    for number, (changes, expected) in enumerate(cases):
        found = errors(
            bench.manifest_file, kway, "--truth", rewritten(bench.truth_file, tmp_path / f"{number}.zip", changes)
        )
        assert any(expected in line for line in found), (expected, found)
        assert all(str(tmp_path / f"{number}.zip") in line for line in found)
    cut = tmp_path / "cut.zip"
    cut.write_bytes(bench.truth_file.read_bytes()[:-30])
    (problem,) = errors(bench.manifest_file, kway, "--truth", cut)
    assert "not a readable truth file (File is not a zip file); tailor it again" in problem


@pytest.mark.slow
def test_a_truth_of_labels_that_are_no_classes(bench: Bench, kway: Path, tmp_path: Path) -> None:
    # A truth whose digests fit but whose masks were not merged.
    query = bench.manifest.pairs.query[0]
    mask = bench.truth.mask(query).copy()
    mask[:2] = 6
    with zipfile.ZipFile(bench.truth_file) as archive:
        index = json.loads(archive.read("truth.json"))
    index["queries"][query]["digest"] = pixel_digest(mask)
    changes = {f"masks/{query}.png": png(mask), "truth.json": json.dumps(index).encode()}
    for jobs in (1, 2):
        truth = rewritten(bench.truth_file, tmp_path / "truth.zip", dict(changes))
        (problem,) = errors(bench.manifest_file, kway, "--truth", truth, "--jobs", jobs)
        assert (
            problem
            == f"{truth}: {query}: the truth holds [6], which are not class ids; make the truth again with oshp-tailor"
        )


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"fold": 1', '"fold": 2', "digest does not fit the content"),
        ('"fold": 1', '"fold": NaN', "NaN is not a JSON number"),
        ('"fold": 1', '"fold": 1' + "0" * 40, "does not fit 64 bits"),
        ('"fold": 1', '"fold": 1, "fold": 1', "the key 'fold' stands there twice"),
        ('"fold": 1', '"fold": "one", "extra": 1', "fold is 'one', not a whole number"),
        ('"fold": 1', '"fold": ' + "[" * 1_000_000, "holds more values than any file of ours"),
        ('"fold": 1', '"fold": ' + "[" * 10_000, "nested too deeply"),
        ("oshp-manifest/1", "oshp-manifest/9", 'its "format" is not "oshp-manifest/1"'),
        ("{", "", "not valid JSON"),
    ],
    ids=["edited", "nan", "huge", "twice", "schema", "many", "deep", "format", "cut"],
)
def test_a_broken_manifest(kway: Path, alone: Path, old: str, new: str, problem: str) -> None:
    alone.write_text(alone.read_text().replace(old, new, 1))
    found = errors(alone, kway)
    assert problem in found[0]
    assert all(line.startswith(str(alone)) for line in found)


def test_a_manifest_that_breaks_a_rule(bench: Bench, kway: Path, alone: Path) -> None:
    pairs = bench.manifest.pairs
    twice = replace(
        pairs,
        support=(pairs.support[1], *pairs.support[1:]),
        support_classes=(pairs.support_classes[1], *pairs.support_classes[1:]),
    )
    save_manifest(replace(bench.manifest, pairs=twice), alone)
    assert errors(alone, kway) == [
        f"{alone}: pairs: pair is listed twice: 0001",
        f"{alone}: hat has 149 different pairs; every class needs 150",
    ]


def changed(document: dict[str, Any], path: Path, **members: Any) -> Path:
    """A result file with other members and a digest that fits."""
    content = {key: value for key, value in {**document, **members}.items() if key not in ("digest", "run")}
    path.write_text(json.dumps({"digest": content_digest(content), **content}))
    return path


@pytest.mark.slow
def test_a_floor_that_is_no_result(bench: Bench, kway: Path, out: Path, tmp_path: Path) -> None:
    document = json.loads((out / "result.json").read_text())
    figures, path = document["figures"], tmp_path / "floor.json"
    human = "kway/human_miou"

    def refused(floor: Path) -> list[str]:
        return [line.removeprefix(f"{floor}: ") for line in errors(bench.manifest_file, kway, "--floor", floor)]

    assert errors(bench.manifest_file, kway, "--floor", changed(document, path), code=0) == []
    for value in (1.5, -0.1, True, "0.5", [1]):
        with_value = {**figures, human: {**figures[human], "value": value}}
        assert refused(changed(document, path, figures=with_value)) == [
            f"figures.{human}: value is {value!r}, not a fraction from 0 to 1"
        ]
    assert refused(changed(document, path, figures={human: {"value": 0.5}})) == [
        f"figures.{human}: low is 'missing', not a fraction from 0 to 1",
        f"figures.{human}: high is 'missing', not a fraction from 0 to 1",
    ]
    assert refused(changed(document, path, figures=[], classes=5, manifest={}, options=None)) == [
        "options is None, not a table",
        "options: convention is missing",
        "options: level is None, not between 0 and 1",
        "manifest: dataset is missing",
        "manifest: name is missing",
        "manifest: version is missing",
        "manifest: test_digest is missing",
        "manifest: fold is missing",
        "manifest: pairs is missing",
        "manifest: queries is missing",
        "classes is 5, not a list of tables",
        "figures is [], not a table",
    ]
    text = (out / "result.json").read_text()
    value = json.dumps(figures[human]["value"])
    for damaged, problem in (
        (text.replace(value, "NaN"), "not valid JSON (NaN is not a JSON number)"),
        (text.replace(value, "1e999"), "not valid JSON (the number 1e999 is too large)"),
        (text.replace(value, "0.5"), "the digest does not match the content"),
        (text.replace("oshp-result/1", "oshp-result/0"), 'not a result (its "format" is not "oshp-result/1")'),
        ("[]", "not a result"),
        (text[:-9], "not valid JSON"),
    ):
        path.write_text(damaged)
        assert refused(path)[0].startswith(problem)


def test_a_floor_of_another_manifest_or_convention(bench: Bench, kway: Path, out: Path, tmp_path: Path) -> None:
    document = json.loads((out / "result.json").read_text())
    path = tmp_path / "floor.json"
    for members in (
        {"manifest": {**document["manifest"], "test_digest": "sha256:" + "0" * 64}},
        {"options": {**document["options"], "convention": "official-2023"}},
    ):
        (found,) = errors(bench.manifest_file, kway, "--floor", changed(document, path, **members))
        assert "it cannot be compared with results on tiny_fold1 1.0.0, convention default" in found


def npz(path: Path, about: dict[str, Any], **arrays: Any) -> Path:
    np.savez(path, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)
    return path


def with_header(path: Path, good: Path, header: str) -> Path:
    """A matrices file whose kway array has this header and few bytes of data."""
    content = io.BytesIO()
    text = header.ljust(118) + "\n"
    content.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(64))
    return rewritten(good, path, {"kway.npy": content.getvalue()})


def test_broken_matrices(bench: Bench, out: Path, tmp_path: Path) -> None:
    good, path = out / "matrices.npz", tmp_path / "m.npz"
    with np.load(good) as content:
        about, kway = json.loads(bytes(content["about"])), content["kway"]
    pairs, classes = kway.shape[:2]

    def refused(matrices: Path) -> str:
        (line,) = errors(bench.manifest_file, "--from-matrices", matrices)
        assert line.startswith(f"{matrices}: ")
        return line.removeprefix(f"{matrices}: ")

    negative, many = kway.copy(), kway.copy()
    negative[3, 0, 0], many[3, 0, 0] = -1, MAX_PIXELS + 1
    shape = f"kway is not int64 ({pairs}, {classes}, {classes + 1}) of pixel counts"
    arrays: list[Any] = [kway[1:], kway.astype(np.float64), kway.astype(np.int32), kway[..., 1:], negative, many]
    for array in [*arrays, np.array(3), np.zeros(0, np.int64)]:
        assert shape in refused(npz(path, about, kway=array))
    assert "Object arrays cannot be loaded" in refused(npz(path, about, kway=np.array([{}, []], dtype=object)))
    assert "about is not" in refused(rewritten(good, path, {"about.npy": None})).replace("'", "")
    for header in (
        "{'descr': '<i8', 'fortran_order': False, 'shape': (10000000000000000,), }",
        "{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000, 1000000000, 1000000000), }",
        "{'descr': '|V99999999999', 'fortran_order': False, 'shape': (99,), }",
        "{'descr': '<i8', 'fortran_order': False, 'shape': (-5,), }",
        "(" * 5_000,
        "__import__('os').abort()",
    ):
        assert refused(with_header(path, good, header)).startswith("not a readable matrices file (")
    for members, problem in (
        ({"format": "oshp-matrices/9"}, 'its "format" is not "oshp-matrices/1"'),
        ({"test_digest": "sha256:0", "manifest": "other_fold1"}, "matrices of 'other_fold1', not of tiny_fold1 1.0.0"),
        ({"convention": "mine\n"}, r"unknown convention 'mine\n'"),
        ({"convention": "official-2023"}, "counted in the convention official-2023; give --convention official-2023"),
        ({"missing": {"k": ["0000", "99999"]}}, "the names of missing predictions are not names of pairs"),
        ({"missing": {"z": []}}, "the names of missing predictions are not names of pairs"),
        ({"missing": 3}, "not a readable matrices file"),
        ({"stride4_classes": {"052": ["x"]}}, "not a readable matrices file"),
        ({"stride4_classes": []}, "not a readable matrices file"),
    ):
        assert problem in refused(npz(path, {**about, **members}, kway=kway))
    for member in ("predictions", "method", "convention", "format"):
        assert "not a readable matrices file" in refused(
            npz(path, {key: value for key, value in about.items() if key != member}, kway=kway)
        )
    np.savez(path, about=np.frombuffer(b'{"format": NaN}', np.uint8))
    assert "not valid JSON" in refused(path)
    np.save(tmp_path / "plain.npy", kway)
    (tmp_path / "plain.npy").rename(tmp_path / "plain.npz")
    assert "File is not a zip file" in refused(tmp_path / "plain.npz")
    path.write_bytes(good.read_bytes()[:-40])
    assert "File is not a zip file" in refused(path)
    assert "No such file" in refused(tmp_path / "nowhere.npz")


def test_matrices_that_inflate_without_end(bench: Bench, out: Path, tmp_path: Path) -> None:
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        path = tmp_path / f"{method}.npz"
        with zipfile.ZipFile(path, "w", method) as archive, archive.open("kway.npy", "w") as member:
            for _ in range(80 if method == zipfile.ZIP_DEFLATED else 1):
                member.write(bytes(1 << 20))
        (problem,) = errors(bench.manifest_file, "--from-matrices", path)
        assert problem == f"{path}: larger than the matrices of tiny_fold1 can be; score the predictions again"
    assert load_matrices(out / "matrices.npz", bench.manifest)[1] == "default"


def test_official_matrices_without_the_supports_classes(bench: Bench, kway: Path, tmp_path: Path) -> None:
    chosen = "--convention=official-2023"
    errors(bench.manifest_file, kway, chosen, "--out", tmp_path / "out", code=0)
    matrices, convention = load_matrices(tmp_path / "out" / "matrices.npz", bench.manifest)
    first = sorted(matrices.stride4_classes)[0]
    stride4 = {support: each for support, each in matrices.stride4_classes.items() if support != first}
    save_matrices(replace(matrices, stride4_classes=stride4), bench.manifest, convention, tmp_path / "m.npz")
    (problem,) = errors(bench.manifest_file, "--from-matrices", tmp_path / "m.npz", chosen)
    assert problem == (
        f"official-2023: the matrices lack the stride-4 classes of 1 supports, for example {first};"
        " count the predictions again"
    )


def spoilt(content: bytes, changes: list[tuple[float, int]]) -> bytes:
    """Bytes with some of them replaced; places are shares of the length."""
    result = bytearray(content)
    for place, value in changes:
        result[int(place * (len(result) - 1))] = value
    return bytes(result)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
    part=st.sampled_from(["head", "directory", "anywhere"]),
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_random_bytes_in_matrices(
    bench: Bench, out: Path, tmp_path: Path, changes: list[tuple[float, int]], part: str
) -> None:
    good, path = out / "matrices.npz", tmp_path / "m.npz"
    if part == "head":  # of an array, with a checksum that fits
        with zipfile.ZipFile(good) as archive:
            array = archive.read("kway.npy")
        rewritten(good, path, {"kway.npy": spoilt(array[:128], changes) + array[128:]})
    else:
        content = good.read_bytes()
        start = content.index(b"PK\1\2") if part == "directory" else 0
        path.write_bytes(content[:start] + spoilt(content[start:], changes))
    try:
        matrices, _ = load_matrices(path, bench.manifest)
    except OshpError as error:
        assert all(line.isprintable() for line in error.problems)
    else:
        assert isinstance(matrices, Matrices)


SABOTAGE: dict[str, Callable[[Path], Path]] = {
    "a-file-in-the-way": lambda folder: folder / "file" / "out",
    "a-file-itself": lambda folder: folder / "file",
}


@pytest.mark.parametrize("place", SABOTAGE.values(), ids=SABOTAGE)
def test_an_out_that_is_no_folder(bench: Bench, kway: Path, tmp_path: Path, place: Callable[[Path], Path]) -> None:
    (tmp_path / "file").write_text("mine")
    command = [str(kway), "--manifest", str(bench.manifest_file), "--resamples=5", "--out", str(place(tmp_path))]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert str(tmp_path / "file") in result.stderr
    assert (tmp_path / "file").read_text() == "mine"
