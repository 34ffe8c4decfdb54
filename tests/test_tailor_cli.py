"""oshp-tailor as a user runs it: its files, what it prints, repeated runs."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from tailor_cases import SHRINK, SPEC, errors, magnified, tailor, write_spec

from oshp_bench.datasets.sources import find_source
from oshp_bench.manifest import load_manifest
from oshp_bench.manifest.truth import load_truth, truth_path


@pytest.fixture
def spec(tmp_path: Path) -> str:
    return write_spec(tmp_path)


@pytest.fixture
def root(tiny_root: Path, tmp_path: Path) -> Path:
    return magnified(tiny_root, tmp_path / "data")


def test_manifest_and_truth(spec: str, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = tailor(spec, "--fold", 1, "--root", root, "--out", out)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == ["tiny_fold1.json", "tiny_fold1.truth.zip"]
    manifest = load_manifest(out / "tiny_fold1.json")
    assert len(manifest.pairs) == 5 * 150
    assert {each.name for each in manifest.classes if each.role == "novel"} == {"dress", "bag"}
    source = find_source(manifest.dataset, root)
    truth = load_truth(truth_path(out / "tiny_fold1.json"), manifest)
    query = manifest.pairs.queries[0]
    np.testing.assert_array_equal(truth.mask(query), source.merged_mask(query))
    for pool in ("query_test", "support_train"):
        for image, classes in list(manifest.pools[pool].items())[:5]:
            assert classes == tuple(each for each in np.unique(source.merged_mask(image)).tolist() if each)
    assert manifest.validation is not None
    # 30 pairs for each of hat, shoes, hair; from 15 images a pool.
    assert len(manifest.validation) == 3 * 30
    assert {each for classes in manifest.validation.support_classes for each in classes} <= set(manifest.ids_of("base"))
    for text in (manifest.digest, manifest.test_digest, "query_test 60", "dress, bag", "tiny_fold1.truth.zip"):
        assert text in result.output
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert tailor(spec, "--fold", 1, "--root", root, "--out", out).exit_code == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_json_and_names(spec: str, root: Path, tmp_path: Path) -> None:
    told = {}
    for seed in (0, 7):
        result = tailor(
            spec, "--fold", 2, "--root", root, "--out", tmp_path, "--protocol", "balanced", "--seed", seed, "--json"
        )
        assert result.exit_code == 0, result.output
        told[seed] = json.loads(result.stdout)
    assert [each["manifest"] for each in told.values()] == ["tiny_fold2_balanced", "tiny_fold2_balanced_seed7"]
    manifest = load_manifest(tmp_path / "tiny_fold2_balanced_seed7.json")
    assert manifest.protocol["seed"] == 7
    assert told[7]["digest"] == manifest.digest
    assert told[7]["pools"] == {"query_train": 15, "support_train": 15, "query_test": 45, "support_test": 45}
    assert told[7]["shipped"] is None
    # No class has 50 images in a query pool of 45, so all are told.
    assert len([note for note in told[7]["notes"] if "fewer than 50" in note]) == 5


def test_corrections_can_be_left_out(root: Path, tmp_path: Path) -> None:
    spec = write_spec(
        tmp_path, corrections=[{"from": "dress", "to": "bag", "ids": ["000", "001"]}], exclude={"119": "cut off"},
        counts={"all": 119},
    )  # fmt: skip
    for options in ([], ["--no-corrections"]):
        result = tailor(spec, "--fold", 1, "--root", root, "--out", tmp_path, *options)
        assert result.exit_code == 0, result.output
    corrected, raw = (load_manifest(tmp_path / f"tiny_fold1{end}.json") for end in ("", "_raw"))
    assert (corrected.protocol["corrections"], raw.protocol["corrections"]) == (True, False)
    assert raw.dataset.corrections == () and raw.dataset.exclude == {"119": "cut off"}
    assert 5 not in (corrected.pools["query_test"]["000"] or ()) and 5 in (raw.pools["query_test"]["000"] or ())


@pytest.mark.slow
def test_masks_and_pack(spec: str, root: Path, tmp_path: Path) -> None:
    masks, pack = tmp_path / "masks", tmp_path / "tiny.h5"
    command = (spec, "--fold", 1, "--root", root, "--out", tmp_path, "--masks", masks, "--pack", pack)
    assert tailor(*command).exit_code == 0
    manifest = load_manifest(tmp_path / "tiny_fold1.json")
    source = find_source(manifest.dataset, root)
    training = [*manifest.pools["query_train"], *manifest.pools["support_train"]]
    for kind in ("fine", "coarse"):
        assert sorted(path.stem for path in (masks / kind).iterdir()) == training
    for image in training:
        raw = source.mask(image)
        fine, coarse = (np.asarray(Image.open(masks / kind / f"{image}.png")) for kind in ("fine", "coarse"))
        # Hat 1, hair 2, both shoes 3; dress 5 and bag 7 are novel, the belt 6 is removed.
        np.testing.assert_array_equal(fine, np.array([0, 1, 2, 3, 3, 0, 0, 0])[raw])
        np.testing.assert_array_equal(coarse, raw != 0)
    with h5py.File(pack) as file:
        assert (file.attrs["format"], file.attrs["digest"]) == ("oshp-pack/1", manifest.digest)
        assert [name.decode() for name in file["ids"]] == training
        assert file.attrs["query_train"] == 15
        for index, image in enumerate(training):
            height, width = file["sizes"][index]
            start, stop = file["start"][index : index + 2]
            photo = file["photos"][start:stop].reshape(height, width, 3)
            mask = file["masks"][start:stop].reshape(height, width)
            full = source.mask(image)
            if int(image) == SHRINK:
                # Index 105 is 26 x 16 drawn 32 times as large: 832 x 512, shrunk to 640 x 394 (393.8).
                assert (height, width) == (640, 394)
                assert set(np.unique(mask)) == set(np.unique(full))
                # Every label's photo is one grey value, so the photo fits the mask but for the blocks' rims.
                assert (np.abs(photo[..., 0] - (mask * 30.0 + 20)) < 12).mean() > 0.9
            else:
                np.testing.assert_array_equal(photo, source.photo(image))
                np.testing.assert_array_equal(mask, full)
    once = {path: path.read_bytes() for path in (pack, *masks.rglob("*.png"))}
    times = {path: path.stat().st_mtime_ns for path in masks.rglob("*.png")}
    lost = masks / "fine" / "095.png"
    lost.unlink()
    assert tailor(*command).exit_code == 0
    assert {path: path.read_bytes() for path in once} == once
    assert [path for path, when in times.items() if path.stat().st_mtime_ns != when] == [lost]
    # Another fold has other novel classes: its masks must not mix with these.
    (line,) = errors(tailor(spec, "--fold", 2, "--root", root, "--out", tmp_path, "--masks", masks))
    assert line == f"{masks}: holds masks that are not those of tiny_fold2; choose another folder"


def test_ignored_pixels_stay_ignored(spec: str, root: Path, tmp_path: Path) -> None:
    path = root / "masks" / "090.png"
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[:4] = 255
    Image.fromarray(pixels).save(path)
    result = tailor(spec, "--fold", 1, "--root", root, "--out", tmp_path, "--masks", tmp_path / "masks")
    assert result.exit_code == 0, result.output
    for kind in ("fine", "coarse"):
        mask = np.asarray(Image.open(tmp_path / "masks" / kind / "090.png"))
        np.testing.assert_array_equal(mask == 255, pixels == 255)
    classes = load_manifest(tmp_path / "tiny_fold1.json").pools["query_train"]["090"]
    assert classes is not None and 255 not in classes


@pytest.mark.slow
def test_says_whether_it_is_the_shipped_one(test_data: Path, tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    for path in (test_data / "lists").glob("atr_*"):
        (lists / path.name).write_text(path.read_text())
    assert tailor("atr", "--fold", 1, "--root", lists, "--out", tmp_path).output.endswith(
        "\nIt is the shipped atr_fold1.\n"
    )
    # The first query loses its hat, so another image becomes the first query.
    table = lists / "atr_class_presence.csv"
    row = next(line for line in table.read_text().splitlines() if line.startswith("2500_100,"))
    table.write_text(table.read_text().replace(row, row.replace(",1 ", ",")))
    result = tailor("atr", "--fold", 1, "--root", lists, "--out", tmp_path)
    assert "scores do NOT compare" in result.output
    told = json.loads(tailor("atr", "--fold", 1, "--root", lists, "--out", tmp_path, "--json").stdout)["shipped"]
    assert (told["equal"], told["comparable"]) == (False, False)
    assert told["changes"]["pools"][0].startswith("classes of 2500_100: hat, ")
    assert "only in a: 0000 2500_100 2500_1195 hat" in told["changes"]["pairs"]


def test_min_pixels_decides_what_an_image_is_drawn_for(root: Path, tmp_path: Path) -> None:
    spec = write_spec(tmp_path, official={**SPEC["official"], "min_pixels": 200})
    result = tailor(spec, "--fold", 1, "--root", root, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    manifest = load_manifest(tmp_path / "tiny_fold1.json")
    source = find_source(manifest.dataset, root)
    small = 0
    for support, classes in zip(manifest.pairs.support, manifest.pairs.support_classes, strict=True):
        counts = np.bincount(source.merged_mask(support).reshape(-1), minlength=256)
        held = manifest.pools["support_test"][support]
        assert held == tuple(each for each in (1, 2, 3, 5, 7) if counts[each] >= 200)
        assert classes == tuple(each for each in (1, 2, 3, 5, 7) if counts[each] >= 1)
        small += classes != held
    assert small


def test_manifest_says_what_its_pools_are(spec: str, root: Path, tmp_path: Path) -> None:
    assert tailor(spec, "--fold", 1, "--root", root, "--out", tmp_path).exit_code == 0
    document = json.loads((tmp_path / "tiny_fold1.json").read_text())
    assert document["protocol"] == {
        "name": "official",
        "queries_per_class": 10,
        "supports_per_query": 15,
        "supports": "cyclic",
        "pairs_per_class": 150,
        "min_pixels": 1,
        "corrections": False,
        "order": ["hat", "dress", "bag", "shoes", "hair"],
        "lists": {},
        "pools": {
            "query_train": {"list": "all", "start": 90, "stop": 105},
            "support_train": {"list": "all", "start": 105, "stop": None},
            "query_test": {"list": "all", "start": 0, "stop": 60},
            "support_test": {"list": "all", "start": 60, "stop": 90},
        },
        "validation": {"pairs_per_class": 30, "seed": 0, "generator": "shake256-counter/1"},
    }
    assert document["dataset"]["labels"] == SPEC["labels"]
