"""Predictions in a zip: good ones score as their folder does, hostile ones are refused within bounds."""

from __future__ import annotations

import resource
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from metrics_cases import Bench, make_bench, problems, scored

from oshp_bench.datasets.labels import Spec
from oshp_bench.errors import OshpError


@pytest.fixture(scope="module")
def bench(tiny_spec: Spec, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tiny_spec, tiny_root, tmp_path_factory.mktemp("bench"), 4)


@pytest.fixture(scope="module")
def folder(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bench.write(tmp_path_factory.mktemp("predictions") / "preds", seed=1)


def packed(folder: Path, path: Path, top: str = "", method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Packs the predictions of a folder."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, top + file.relative_to(folder).as_posix())
    return path


@pytest.mark.parametrize("top", ["", "my method/", "kway-and-1way/"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_scores_as_its_folder(bench: Bench, folder: Path, tmp_path: Path, top: str, method: int) -> None:
    expected = scored(bench, folder).to_json()
    path = packed(folder, tmp_path / "preds.zip", top, method)
    assert scored(bench, path).to_json() == expected
    # What systems put beside the files is no prediction and no problem.
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/kway/._0000.png", b"\0")
        archive.writestr(f"{top}.DS_Store", b"\0")
        archive.mkdir(f"{top}more")
    assert scored(bench, path).to_json() == expected


def test_a_flat_zip_needs_the_way(bench: Bench, folder: Path, tmp_path: Path) -> None:
    path = packed(folder / "kway", tmp_path / "kway.zip")
    assert scored(bench, path, "k").figures == scored(bench, folder, "k").figures
    assert "give --way k or --way 1" in problems(bench, path)[0]


def test_a_zip_of_zips_holds_no_predictions(bench: Bench, folder: Path, tmp_path: Path) -> None:
    inner = packed(folder, tmp_path / "inner.zip")
    path = tmp_path / "outer.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(inner, "preds/inner.zip")
    assert problems(bench, path) == ["holds no kway/*.png and no 1way/*.png"]


def member(name: str, mode: int = 0, method: int = zipfile.ZIP_STORED) -> Callable[[zipfile.ZipFile], None]:
    """Adds a member with an unusual name, mode or method."""
    info = zipfile.ZipInfo("placeholder")
    info.filename, info.external_attr, info.compress_type = name, mode << 16, method
    return lambda archive: archive.writestr(info, b"../../../etc/hostname")


ATTACKS = {
    "up": (member("kway/../../0000.png"), "'kway/../../0000.png': the path leads out of the zip; pack it again"),
    "absolute": (member("/kway/0000.png"), "'/kway/0000.png': the path leads out of the zip; pack it again"),
    "backslash": (member("kway\\0009.png"), r"'kway\\0009.png': the path leads out of the zip; pack it again"),
    "drive": (member("C:/kway/0009.png"), "'C:/kway/0009.png': the path leads out of the zip; pack it again"),
    "no-name": (member(""), "'': the path leads out of the zip; pack it again"),
    "line-break": (
        member("kway/a\nb.png"),
        r"'kway/a\nb.png': the name has characters that cannot be printed; rename it",
    ),
    "terminal-codes": (
        member("kway/\x1b[2J.png"),
        r"'kway/\x1b[2J.png': the name has characters that cannot be printed; rename it",
    ),
    "zero-byte": (
        member("kway/0009.png\0.exe"),
        r"'kway/0009.png\x00.exe': the name has characters that cannot be printed; rename it",
    ),
    "link": (member("kway/0009.png", stat.S_IFLNK | 0o777), "kway/0009.png: a link; put the file itself there"),
    "pipe": (member("kway/0009.png", stat.S_IFIFO | 0o644), "kway/0009.png: neither a file nor a folder; remove it"),
    "bzip2": (
        member("kway/0009.png", method=zipfile.ZIP_BZIP2),
        "kway/0009.png: unusual compression; pack it with deflate",
    ),
    "lzma": (
        member("predictions.json", method=zipfile.ZIP_LZMA),
        "predictions.json: unusual compression; pack it with deflate",
    ),
}


@pytest.mark.parametrize(("add", "problem"), ATTACKS.values(), ids=ATTACKS)
def test_a_hostile_member(
    bench: Bench, folder: Path, tmp_path: Path, add: Callable[[zipfile.ZipFile], None], problem: str
) -> None:
    path = packed(folder, tmp_path / "preds.zip")
    with zipfile.ZipFile(path, "a") as archive:
        add(archive)
    assert problems(bench, path) == [problem]


@pytest.mark.parametrize("name", ["kway/0001.png", "KWAY/0001.PNG", "./kway/0001.png", "kway//0001.png"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_stand_there_twice(bench: Bench, folder: Path, tmp_path: Path, name: str) -> None:
    path = packed(folder, tmp_path / "preds.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"")
    twice = "the name occurs twice, or another differs only in case; pack it again"
    assert sorted(problems(bench, path)) == sorted([f"kway/0001.png: {twice}", f"{name}: {twice}"])


@pytest.mark.parametrize("flag", [1, 1 << 6, 1 << 13], ids=["encrypted", "strongly", "with its directory"])
def test_an_encrypted_member(bench: Bench, folder: Path, tmp_path: Path, flag: int) -> None:
    path = packed(folder, tmp_path / "preds.zip")
    data = bytearray(path.read_bytes())
    # The flags stand 8 bytes into an entry of the directory.
    place = data.index(b"PK\1\2") + 8
    data[place : place + 2] = (int.from_bytes(data[place : place + 2], "little") | flag).to_bytes(2, "little")
    path.write_bytes(data)
    assert problems(bench, path) == ["1way/0000.png: encrypted; pack it without a password"]


def test_a_member_that_inflates_to_far_more_than_a_mask(bench: Bench, folder: Path, tmp_path: Path) -> None:
    path = packed(folder, tmp_path / "preds.zip")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("kway/0004.png", "w") as entry:
        for _ in range(50):
            entry.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    assert problems(bench, path) == ["kway/0004.png: tiny_fold1 has no pair of this name; remove it"]
    bomb = tmp_path / "bomb.zip"
    data = path.read_bytes().replace(b"kway/0000.png", b"kway/9999.png").replace(b"kway/0004.png", b"kway/0000.png")
    bomb.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = problems(bench, bomb)
    assert any(line.startswith("kway/0000.png: the file is larger than ") for line in found)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


@pytest.mark.slow
def test_a_zip_that_inflates_to_far_more_than_its_size(bench: Bench, folder: Path, tmp_path: Path) -> None:
    path = packed(folder, tmp_path / "preds.zip")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for number in range(4, 104):
            archive.writestr(f"kway/{number:04d}.png", bytes(2 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert problems(bench, path) == ["inflates to 200 MiB, more than 200 times its size; pack it again"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 << 10


def test_members_that_share_their_bytes(bench: Bench, folder: Path, tmp_path: Path) -> None:
    path = packed(folder, tmp_path / "preds.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("kway/9999.png", bytes(1 << 20))
    data = path.read_bytes()
    start = data.index(b"PK\1\2")
    entry = data[data.rindex(b"PK\1\2") : data.rindex(b"PK\5\6")]
    copies = b"".join(entry.replace(b"9999", b"%04d" % (1000 + number)) for number in range(20))
    end = bytearray(data[data.rindex(b"PK\5\6") :])
    count, size = struct.unpack_from("<HL", end, 10)
    struct.pack_into("<HHL", end, 8, count + 20, count + 20, size + len(copies))
    path.write_bytes(data[: start + size] + copies + end)
    assert problems(bench, path) == ["its members overlap; pack it again"]


@pytest.mark.parametrize("wide", [False, True], ids=["32-bit", "64-bit"])
def test_a_directory_of_half_a_million_members_is_not_read(bench: Bench, tmp_path: Path, wide: bool) -> None:
    count = 500_000
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, *(0,) * 7, 30, *(0,) * 6) + b"kway/" + b"0" * 21 + b".png"
    size = len(entry) * count
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, 0)
    end64 += struct.pack("<4sLQL", b"PK\6\7", 0, size, 1)
    short = (0xFFFFFFFF, 0xFFFFFFFF) if wide else (size, 0)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, *short, 0)
    path = tmp_path / "preds.zip"
    path.write_bytes(entry * count + (end64 if wide else b"") + end)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (problem,) = problems(bench, path)
    assert "lists far more members than a set of predictions has" in problem
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 << 10


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_a_truncated_zip(bench: Bench, folder: Path, tmp_path: Path, keep: float) -> None:
    path = packed(folder, tmp_path / "preds.zip")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    assert problems(bench, path) == ["neither a folder nor a readable zip (File is not a zip file); pack it again"]


def test_a_member_whose_data_are_damaged(bench: Bench, folder: Path, tmp_path: Path) -> None:
    path = packed(folder, tmp_path / "preds.zip", method=zipfile.ZIP_STORED)
    data = path.read_bytes()
    path.write_bytes(data.replace((folder / "kway" / "0001.png").read_bytes()[40:60], bytes(20), 1))
    (found,) = problems(bench, path)
    assert "cannot be read (Bad CRC-32 for file" in found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8), data=st.data())
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_random_bytes_in_a_zip(
    bench: Bench, folder: Path, tmp_path: Path, changes: list[tuple[float, int]], data: st.DataObject
) -> None:
    path = packed(folder, tmp_path / "preds.zip")
    content = bytearray(path.read_bytes())
    # Half of the time in the directory, where zipfile believes most.
    start = content.index(b"PK\1\2") if data.draw(st.booleans()) else 0
    for place, value in changes:
        content[start + int(place * (len(content) - 1 - start))] = value
    path.write_bytes(content)
    try:
        result = scored(bench, path)
    except OshpError as error:
        assert all(line.isprintable() for line in error.problems)
    else:
        # An entry of the directory may have swallowed those of one way as its comment.
        assert None not in [figure.value for name, figure in result.figures.items() if name.endswith("/human_miou")]
