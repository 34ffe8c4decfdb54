"""Submissions from strangers: whatever is in the zip, the check and the scorer refuse it alike, within bounds."""

from __future__ import annotations

import json
import resource
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from metrics_cases import Bench, make_bench, png, scored
from submission_cases import packed, refusal, rewritten
from test_metrics_zips import ATTACKS

from oshp_bench.datasets.labels import Spec
from oshp_bench.errors import OshpError
from oshp_bench.leaderboard.submissions import SubmissionPart, check, read_submission


@pytest.fixture(scope="module")
def benches(tiny_spec: Spec, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Bench]:
    """Two folds of four pairs."""
    folder = tmp_path_factory.mktemp("bench")
    return [make_bench(tiny_spec, tiny_root, folder, 4, fold) for fold in (1, 2)]


@pytest.fixture(scope="module")
def submission(benches: list[Bench], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("submission")
    folders = [bench.write(root / str(fold), seed=fold) for fold, bench in enumerate(benches, 1)]
    return packed(benches, folders, root / "good.zip")


@pytest.fixture
def path(submission: Path, tmp_path: Path) -> Path:
    """A good submission, to be spoilt."""
    return Path(shutil.copy(submission, tmp_path / "submission.zip"))


def add(path: Path, name: str, content: bytes, method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.writestr(name, content)


@pytest.mark.parametrize(("attack", "problem"), ATTACKS.values(), ids=ATTACKS)
def test_a_hostile_member(
    benches: list[Bench], path: Path, attack: Callable[[zipfile.ZipFile], None], problem: str
) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        attack(archive)
    assert refusal(path, *benches) == [problem]


@pytest.mark.parametrize(
    "name",
    [
        *("tiny_fold1/kway/0001.png", "TINY_FOLD1/kway/0001.png", "tiny_fold1/kway/0001.PNG", "submission.json"),
        *("./submission.json", "tiny_fold1//kway/0001.png", "tiny_fold1/./kway/0001.png"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_stand_there_twice(benches: list[Bench], path: Path, name: str) -> None:
    add(path, name, b"")
    first = "submission.json" if "submission" in name else "tiny_fold1/kway/0001.png"
    twice = "the name occurs twice, or another differs only in case; pack it again"
    assert {*refusal(path, *benches)} == {f"{first}: {twice}", f"{name}: {twice}"}


@pytest.mark.parametrize(
    "name",
    [
        *("tiny_fold1/more.zip", "more.zip", "tiny_fold1/kway/inner.tar.gz", "tiny_fold3/kway/0000.png", "run.py"),
        *(
            "tiny_fold1/kway/0000.png/0000.png",
            "tiny_fold1/2way/0000.png",
            "tiny_fold1/submission.json",
            "kway/0000.png",
        ),
        *("predictions.json", "tiny_fold1/1way/predictions.json"),
    ],
)
def test_what_is_no_prediction_of_its_manifests(benches: list[Bench], path: Path, submission: Path, name: str) -> None:
    add(path, name, submission.read_bytes())
    assert refusal(path, *benches) == [f"{name}: not a prediction; remove it"]


def test_a_prediction_without_a_pair(benches: list[Bench], path: Path) -> None:
    add(path, "tiny_fold2/kway/0004.png", b"")
    assert refusal(path, *benches) == ["tiny_fold2/kway/0004.png: tiny_fold2 has no pair of this name; remove it"]
    assert scored(benches[0], path).matrices.of("k") is not None


@pytest.mark.parametrize("name", ["__MACOSX/tiny_fold1/kway/._0000.png", ".DS_Store", "tiny_fold1/.DS_Store"])
def test_what_systems_put_beside_files_is_not_read(benches: list[Bench], path: Path, name: str) -> None:
    add(path, name, b"\0")
    check([SubmissionPart(bench.manifest, bench.truth, path) for bench in benches])


def test_an_archive_in_the_place_of_a_prediction(benches: list[Bench], path: Path, submission: Path) -> None:
    name = "tiny_fold1/kway/0001.png"
    spoilt = rewritten(
        path, path.with_name("spoilt.zip"), lambda each, old: submission.read_bytes() if each == name else old
    )
    assert refusal(spoilt, *benches) == [f"{name}: not a PNG, or damaged"]


def test_predictions_that_are_broken_in_every_way(benches: list[Bench], path: Path) -> None:
    masks = {name: benches[0].kway(pair) for pair, name in enumerate(benches[0].manifest.pairs.names)}
    masks["0000"][0, 0] = 6
    pictures = {"0000": png(masks["0000"]), "0001": png(masks["0001"][1:]), "0002": b"", "0003": None}
    changes = {f"tiny_fold1/kway/{name}.png": content for name, content in pictures.items()}
    spoilt = rewritten(path, path.with_name("spoilt.zip"), changes.get)
    height, width = masks["0001"].shape
    assert refusal(spoilt, *benches) == [
        "tiny_fold1/kway: 0003.png is missing",
        "tiny_fold1/kway/0000.png: holds 6, which are not class ids; looks like unmerged labels: write class ids after"
        " the merge (oshp-manifest show lists them)",
        f"tiny_fold1/kway/0001.png: {width}x{height - 1}, but the query is {width}x{height}; predict at the query's"
        " native size",
        "tiny_fold1/kway/0002.png: an empty file",
    ]


@pytest.mark.parametrize(
    ("mebibytes", "problem"),
    [
        (50, "tiny_fold1/kway/0001.png: the file is larger than 1025 KiB, more than a 17x21 mask needs"),
        (90, "inflates to 90 MiB, more than 200 times its size; pack it again"),
    ],
)
def test_a_bomb(benches: list[Bench], path: Path, mebibytes: int, problem: str) -> None:
    name = "tiny_fold1/kway/0001.png"
    spoilt = rewritten(path, path.with_name("spoilt.zip"), lambda each, old: None if each == name else old)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with zipfile.ZipFile(spoilt, "a", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as member:
        for _ in range(mebibytes):
            member.write(bytes(1 << 20))
    assert refusal(spoilt, *benches) == [problem]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30 << 10


def test_a_size_that_lies(benches: list[Bench], path: Path) -> None:
    name = b"tiny_fold1/kway/0001.png"
    spoilt = rewritten(path, path.with_name("spoilt.zip"), lambda each, old: None if each == name.decode() else old)
    add(spoilt, name.decode(), bytes(10 << 20), zipfile.ZIP_DEFLATED)
    data = bytearray(spoilt.read_bytes())
    # The size stands 22 bytes before the name in the directory.
    struct.pack_into("<L", data, data.rindex(name) - 22, 100)
    spoilt.write_bytes(data)
    (problem,) = refusal(spoilt, *benches)
    assert problem.startswith("tiny_fold1/kway/0001.png: cannot be read (Bad CRC-32")


def test_a_zip_that_is_cut_off(benches: list[Bench], path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])
    assert refusal(path, *benches) == ["neither a folder nor a readable zip (File is not a zip file); pack it again"]


def test_a_link_in_a_submission_that_was_unpacked(benches: list[Bench], path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "unpacked"
    shutil.unpack_archive(path, folder)
    (folder / "tiny_fold1" / "kway" / "0001.png").unlink()
    (folder / "tiny_fold1" / "kway" / "0001.png").symlink_to(benches[0].manifest_file)
    assert refusal(folder, *benches) == [
        "tiny_fold1/kway/0001.png: a link that leads out of the folder or nowhere; put the file itself there"
    ]


def test_a_zip_without_an_index_is_no_submission(path: Path) -> None:
    spoilt = rewritten(path, path.with_name("spoilt.zip"), lambda name, old: None if name == "submission.json" else old)
    with pytest.raises(OshpError) as caught:
        read_submission(spoilt)
    assert caught.value.problems == (f"{spoilt}: contains no submission.json; make a submission with oshp-submit pack",)


def spoilt_index(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The submission with another index: what the change gives, else the index that it changed."""

    def spoil(name: str, old: bytes) -> bytes:
        if name != "submission.json":
            return old
        index = json.loads(old)
        content = change(index)
        return content if isinstance(content, bytes) else json.dumps(content or index).encode()

    return rewritten(path, path.with_name("spoilt.zip"), spoil)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not valid JSON ("),
        (b"{", "not valid JSON ("),
        (b"\xff{}", "not valid JSON ("),
        (b'{"format": NaN}', "not valid JSON (NaN is not a JSON number)"),
        (b'{"format": "a", "format": "b"}', "not valid JSON (the key 'format' stands there twice)"),
        (b'{"format": ' + b"[" * 100_000, "nested too deeply to be a file of ours"),
        (b" " * (2 << 20), "larger than 1 MiB; oshp-bench writes none that large"),
        (
            b"[]",
            'not the index of a submission (its "format" is not "oshp-submission/1"); a newer oshp-bench may read it',
        ),
        (
            b'{"format": "oshp-submission/2"}',
            'not the index of a submission (its "format" is not "oshp-submission/1"); a newer',
        ),
    ],
)
def test_an_index_that_is_no_index(benches: list[Bench], path: Path, content: bytes, problem: str) -> None:
    (found,) = refusal(spoilt_index(path, lambda _: content), *benches)
    assert found.startswith(f"submission.json: {problem}")


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        ((), {"method": 3}, "method is 3, not a table"),
        ((), {"manifests": []}, "lists no manifest"),
        ((), {"manifests": [7]}, "manifests 1 is not a table"),
        ((), {"run": "rm -r"}, "unknown member 'run'"),
        (
            ("method",),
            {"name": "a\u202eb"},
            "method: name holds U+202E, which cannot be printed; write one line of plain text",
        ),
        (
            ("method",),
            {"paper": "javascript:0"},
            "method: paper is 'javascript:0', not an address http://... or https://...",
        ),
        (
            ("manifests", 0),
            {"name": "../etc"},
            "manifests 1: '../etc' '1.0.0' is not the name and version of a manifest",
        ),
        (
            ("manifests", 0),
            {"version": "new"},
            "manifests 1: 'tiny_fold1' 'new' is not the name and version of a manifest",
        ),
        (("manifests", 0), {"name": "tiny_fold2"}, "two of its manifests have the same name"),
        (("manifests", 0), {"ways": []}, 'manifests 1: ways must be ["k"], ["1"] or ["k", "1"]'),
        (("manifests", 0), {"ways": ["k", "k"]}, 'manifests 1: ways must be ["k"], ["1"] or ["k", "1"]'),
        (("manifests", 0), {"ways": "k"}, "manifests 1: ways is 'k', not a list of texts"),
        (("manifests", 0), {"digest": ""}, "manifests 1: unknown member 'digest'"),
    ],
)
def test_an_index_with_a_member_that_is_wrong(
    benches: list[Bench], path: Path, place: tuple[str | int, ...], value: dict[str, object], problem: str
) -> None:
    def change(index: Any) -> None:
        for step in place:
            index = index[step]
        index.update(value)

    assert f"submission.json: {problem}" in refusal(spoilt_index(path, change), *benches)


def test_two_manifests_of_the_same_test_pairs(benches: list[Bench], path: Path) -> None:
    def change(index: Any) -> None:
        index["manifests"][1]["test_digest"] = index["manifests"][0]["test_digest"]

    assert refusal(spoilt_index(path, change), *benches) == [
        "submission.json: two of its manifests have the same test_digest"
    ]


@pytest.mark.parametrize(
    ("kept", "ways", "problem"),
    [
        (("kway", "1way"), ["k"], "holds predictions of k-way and 1-way, submission.json says of k-way"),
        (("kway",), ["k", "1"], "holds predictions of k-way, submission.json says of k-way and 1-way"),
        ((), ["k", "1"], "holds predictions of no way, submission.json says of k-way and 1-way"),
    ],
)
def test_an_index_that_does_not_fit_its_zip(
    benches: list[Bench], path: Path, kept: tuple[str, ...], ways: list[str], problem: str
) -> None:
    def change(index: Any) -> None:
        index["manifests"][0]["ways"] = ways

    def keep(name: str, old: bytes) -> bytes | None:
        folder, _, rest = name.partition("/")
        return old if folder != "tiny_fold1" or rest.partition("/")[0] in kept else None

    spoilt = rewritten(spoilt_index(path, change), path.with_name("kept.zip"), keep)
    assert refusal(spoilt, *benches) == [f"tiny_fold1/ {problem}; pack it again"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8), data=st.data())
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_random_bytes(
    benches: list[Bench], submission: Path, tmp_path: Path, changes: list[tuple[float, int]], data: st.DataObject
) -> None:
    path = tmp_path / "random.zip"
    content = bytearray(submission.read_bytes())
    index = content.rindex(b'{\n "format": "oshp-submission/1"')
    start = data.draw(st.sampled_from([0, index, content.index(b"PK\1\2")]))
    for place, value in changes:
        content[start + int(place * (len(content) - 1 - start))] = value
    path.write_bytes(content)
    tasks = [SubmissionPart(bench.manifest, bench.truth, path) for bench in benches]
    try:
        check(tasks)
    except OshpError as error:
        assert error.exit_code == 1
        assert all(line.isprintable() for line in error.problems)
        refusal(path, *benches)
    else:
        assert all(scored(bench, path).method["name"] for bench in benches)
