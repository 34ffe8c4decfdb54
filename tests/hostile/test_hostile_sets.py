"""Prediction sets that were stored in another way than they are scored are told in one line; weak methods are not."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from metrics_cases import Bench, make_bench, png, problems, scored
from submission_cases import packed

from oshp_bench.datasets.images import Mask
from oshp_bench.datasets.labels import Spec
from oshp_bench.errors import OshpError
from oshp_bench.metrics import load_matrices, save_matrices

PAIRS = 200


@pytest.fixture(scope="module")
def bench(tiny_spec: Spec, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Pairs of two classes."""
    return make_bench(tiny_spec, tiny_root, tmp_path_factory.mktemp("bench"), PAIRS)


def notes(bench: Bench, folder: Path, kway: list[Mask] | None = None, oneway: list[Mask] | None = None) -> list[str]:
    for way, masks in (("kway", kway), ("1way", oneway)):
        if masks is not None:
            (folder / way).mkdir(parents=True)
            for name, mask in zip(bench.manifest.pairs.names, masks, strict=True):
                (folder / way / f"{name}.png").write_bytes(png(mask.astype(np.uint8)))
    return list(scored(bench, folder).matrices.notes)


def kway(bench: Bench) -> list[Mask]:
    return [bench.kway(pair) for pair in range(PAIRS)]


def oneway(bench: Bench, value: int | None = None) -> list[Mask]:
    """Perfect 1-way pictures, of each pair's class id by default."""
    targets = bench.manifest.pairs.target
    return [bench.oneway(pair) * np.uint8(targets[pair] if value is None else value) for pair in range(PAIRS)]


def test_good_and_weak_sets_give_no_note(bench: Bench, tmp_path: Path) -> None:
    perfect, one = kway(bench), oneway(bench)
    target = bench.manifest.pairs.target[0]
    assert notes(bench, tmp_path / "perfect", perfect, one) == []
    floor = [np.zeros_like(mask) for mask in perfect]
    assert notes(bench, tmp_path / "floor", floor, floor) == []
    assert notes(bench, tmp_path / "ones", [np.full_like(mask, target) for mask in perfect]) == []
    assert notes(bench, tmp_path / "all", None, [np.ones_like(mask) for mask in one]) == []
    generator = np.random.default_rng(0)
    noise = [generator.integers(0, 2, mask.shape, np.uint8) for mask in one]
    assert notes(bench, tmp_path / "noise", [mask * np.uint8(3) for mask in noise], noise) == []
    for value in (1, 255, 7, 128):
        assert notes(bench, tmp_path / str(value), None, oneway(bench, value)) == []


def test_one_way_pictures_as_k_way_are_told(bench: Bench, tmp_path: Path) -> None:
    (note,) = notes(bench, tmp_path / "preds", oneway(bench))
    assert "are these 1-way predictions?" in note


def test_one_way_pictures_of_other_classes_are_told(bench: Bench, tmp_path: Path) -> None:
    masks = oneway(bench)
    wrong = {1: 7, 5: 3}
    shuffled = [np.where(mask > 0, wrong[int(mask.max())], 0) if mask.any() else mask for mask in masks]
    (note,) = notes(bench, tmp_path / "preds", None, shuffled)
    assert "hold the id of another class than their pair's" in note


def test_exchanged_foreground_is_told(bench: Bench, tmp_path: Path) -> None:
    (note,) = notes(bench, tmp_path / "preds", None, [1 - mask for mask in oneway(bench, 1)])
    assert "exchanged" in note


def test_an_empty_folder_is_told(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "preds" / "1way").mkdir(parents=True)
    assert notes(bench, tmp_path / "preds", kway(bench)) == ["1way/ is empty, so it is not scored"]
    (tmp_path / "preds" / "1way" / ".DS_Store").touch()
    for within in (tmp_path / "preds", tmp_path):
        zipped = shutil.make_archive(
            str(tmp_path / f"{within.name}"), "zip", within, "preds" if within == tmp_path else "."
        )
        assert scored(bench, Path(zipped)).matrices.notes == ("1way/ is empty, so it is not scored",)
        Path(zipped).unlink()


def test_matrices_of_two_truths_of_one_query_are_refused(bench: Bench, tmp_path: Path) -> None:
    bench.write(tmp_path / "preds", ways=("kway",))
    matrices = scored(bench, tmp_path / "preds").matrices
    save_matrices(matrices, bench.manifest, "default", tmp_path / "good.npz")
    load_matrices(tmp_path / "good.npz", bench.manifest)
    assert matrices.kway is not None
    matrices.kway[1, 0, 0] += 1
    save_matrices(matrices, bench.manifest, "default", tmp_path / "forged.npz")
    with pytest.raises(OshpError, match="different numbers of true pixels"):
        load_matrices(tmp_path / "forged.npz", bench.manifest)


def test_a_file_named_like_the_folder_of_a_set_is_refused(bench: Bench, tmp_path: Path) -> None:
    path = packed([bench], [bench.write(tmp_path / "preds", ways=("kway",))], tmp_path / "good.zip")
    shutil.copy(path, tmp_path / "more.zip")
    with zipfile.ZipFile(tmp_path / "more.zip", "a") as archive:
        archive.writestr(bench.manifest.name, "hidden")
    assert problems(bench, path=tmp_path / "more.zip")


@pytest.mark.parametrize("off", [-3, -1, 1, 3])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_of_another_size_than_the_zip_says_is_refused(
    bench: Bench, tmp_path: Path, method: int, off: int
) -> None:
    bench.write(tmp_path / "preds", ways=("kway",))
    with zipfile.ZipFile(tmp_path / "p.zip", "w", method) as archive:
        for file in sorted((tmp_path / "preds" / "kway").iterdir()):
            archive.write(file, f"kway/{file.name}")
    data = bytearray((tmp_path / "p.zip").read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    size = int.from_bytes(data[at : at + 4], "little")
    data[at : at + 4] = (size + off).to_bytes(4, "little")
    (tmp_path / "p.zip").write_bytes(data)
    assert len(problems(bench, tmp_path / "p.zip")) == 1


@pytest.mark.parametrize("packed_as", ["folder", "zip"])
def test_files_of_another_run_are_noticed(bench: Bench, tmp_path: Path, packed_as: str) -> None:
    folder = bench.write(tmp_path / "preds", ways=("kway",))
    files = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest()[:32] for path in folder.rglob("*.png")}
    (folder / "predictions.json").write_text(json.dumps({"files": {"kway": files, "1way": {}}}))
    score = scored(bench, folder)
    for name in list(files)[: PAIRS // 2]:
        (folder / "kway" / f"{name}.png").write_bytes(png(np.zeros_like(bench.kway(int(name)))))
    path = folder if packed_as == "folder" else Path(shutil.make_archive(str(folder), "zip", folder))
    (line,) = problems(bench, path)
    assert line.startswith(f"kway: {PAIRS // 2} of {PAIRS} files, such as ")
    for said in ("{}", '{"files": []}', '{"files": {"kway": 1}}'):
        (folder / "predictions.json").write_text(said)
        assert scored(bench, folder).figures != score.figures
