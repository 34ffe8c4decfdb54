"""oshp-tailor as a user runs it: outputs, resuming, bad input, sudden death."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import TINY
from PIL import Image

from oshp_bench.datasets.sources import find_source
from oshp_bench.manifest import load_manifest
from oshp_bench.manifest.truth import load_truth, truth_path
from oshp_bench.tailor.cli import main

SHRINK = 105
# Five classes need 50 queries of their own.
SPEC: dict[str, Any] = {
    **TINY,
    "pools": {
        "query_test": {"list": "all", "stop": 60},
        "support_test": {"list": "all", "start": 60, "stop": 90},
        "query_train": {"list": "all", "start": 90, "stop": 105},
        "support_train": {"list": "all", "start": 105},
    },
}


def toml(value: Any) -> str:
    """A TOML value; JSON's texts, numbers and lists are TOML's."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def write_spec(folder: Path, **changed: Any) -> str:
    path = folder / "tiny.toml"
    path.write_text("".join(f"{key} = {toml(value)}\n" for key, value in {**SPEC, **changed}.items()))
    return str(path)


def tailor(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def errors(result: Result) -> list[str]:
    assert result.exit_code == 2, result.output
    return [line.removeprefix("error: ") for line in result.output.splitlines()]


@pytest.fixture
def spec(tmp_path: Path) -> str:
    return write_spec(tmp_path)


@pytest.fixture
def root(tmp_path: Path, tiny_root: Path) -> Path:
    """The tiny dataset in a folder that may be broken, drawn 4 times as large, one image 32 times."""
    for kind in ("photos", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for path in sorted((tiny_root / "masks").iterdir()):
        factor = 32 if int(path.stem) == SHRINK else 4
        mask = np.kron(np.asarray(Image.open(path)), np.ones((factor, factor), np.uint8))
        Image.fromarray(mask).save(tmp_path / "data" / "masks" / path.name)
        photo = np.repeat(mask[..., None] * np.uint8(30) + np.uint8(20), 3, axis=2)
        Image.fromarray(photo).save(tmp_path / "data" / "photos" / f"{path.stem}.jpg")
    return tmp_path / "data"


def listed_spec(folder: Path, root: Path) -> str:
    """The tiny dataset with a list of its ids, so that a list may name files that are not there."""
    (root / "ids.txt").write_text("\n".join(f"{index:03d}" for index in range(120)))
    part = {"list": "all", "ids": "ids.txt", "photo": "photos/{id}.jpg", "mask": "masks/{id}.png"}
    return write_spec(folder, layouts=[{"name": "listed", "parts": [part]}])


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


def test_every_broken_file_is_told_at_once(root: Path, tmp_path: Path) -> None:
    spec = listed_spec(tmp_path, root)
    (root / "photos" / "001.jpg").unlink()
    (root / "masks" / "002.png").unlink()
    Image.new("RGB", (9, 9)).save(root / "photos" / "003.jpg")
    photo = root / "photos" / "004.jpg"
    photo.write_bytes(photo.read_bytes()[:-200])
    colour = np.zeros((80, 64, 3), np.uint8)
    colour[..., 1] = 7
    Image.fromarray(colour).save(root / "masks" / "005.png")
    Image.fromarray(np.full((104, 88), 99, np.uint8)).save(root / "masks" / "006.png")
    (root / "masks" / "007.png").write_bytes(b"")
    Image.new("L", (9, 9)).save(root / "masks" / "008.png", "JPEG")
    mask = root / "masks" / "009.png"
    mask.write_bytes(mask.read_bytes()[:-40])
    out = tmp_path / "out"
    lines = errors(tailor(spec, "--fold", 1, "--root", root, "--out", out))
    expected = [
        ("photos/001.jpg", "does not exist"),
        ("masks/002.png", "does not exist"),
        ("masks/003.png", "its photo has 9x9"),
        ("photos/004.jpg", "truncated"),
        ("masks/005.png", "colour picture"),
        ("masks/006.png", "holds 99"),
        ("masks/007.png", "empty"),
        ("masks/008.png", "JPEG"),
        ("masks/009.png", "truncated"),
    ]
    assert len(lines) == len(expected) + 1
    for line, (name, why) in zip(lines, expected, strict=False):
        assert name in line and why in line
    assert lines[-1].startswith("9 images of tiny cannot be used")
    assert list(out.iterdir()) == []


def test_long_lists_of_problems_are_cut(root: Path, tmp_path: Path) -> None:
    spec = listed_spec(tmp_path, root)
    for path in sorted((root / "photos").iterdir())[:70]:
        path.unlink()
    lines = errors(tailor(spec, "--fold", 1, "--root", root, "--out", tmp_path))
    assert len(lines) == 52
    assert lines[50:] == ["... and 20 more", "70 images of tiny cannot be used: get fresh copies of their files"]


def test_wrong_counts_are_told(spec: str, root: Path, tmp_path: Path) -> None:
    (root / "masks" / "017.png").unlink()
    assert errors(tailor(spec, "--fold", 1, "--root", root, "--out", tmp_path)) == [
        f"{root}: the list 'all' has 119 images, not 120: 1 missing"
    ]


def test_missing_images_are_named_where_a_manifest_is_shipped(test_data: Path, tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    for path in (test_data / "lists").glob("atr_*"):
        lines = path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith("2500_100") or "meta_test" not in path.name]
        (lists / path.name).write_text("".join(kept))
    first, second = errors(tailor("atr", "--fold", 1, "--root", lists, "--out", tmp_path))
    assert "the list 'test' has" in first and "missing" in first
    assert "this folder lacks 2500_100, " in second


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


def test_empty_class_is_named(root: Path, tmp_path: Path) -> None:
    spec = write_spec(
        tmp_path,
        labels=[*SPEC["labels"], "cape"],
        classes={**SPEC["classes"], "cape": {"id": 8, "labels": ["cape"]}},
        official={**SPEC["official"], "order": ["cape", "hat", "dress", "bag", "shoes", "hair"]},
    )
    for protocol in ("official", "balanced"):
        lines = errors(tailor(spec, "--fold", 1, "--root", root, "--out", tmp_path, "--protocol", protocol))
        assert [line.partition(" holds it")[0] for line in lines] == [
            f"cape: no image of the pool {pool}"
            for pool in ("query_train", "support_train", "query_test", "support_test")
        ]


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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fold", 3], "tiny has no fold 3; it has 1, 2"),
        (["--fold", 1, "--seed", 4], "a seed goes with --protocol balanced"),
        (["--fold", 1, "--no-corrections"], "tiny has no corrections to leave out"),
    ],
)
def test_impossible_wishes(spec: str, root: Path, tmp_path: Path, arguments: list[object], said: str) -> None:
    (line,) = errors(tailor(spec, *arguments, "--root", root, "--out", tmp_path))
    assert said in line


def test_folder_without_the_dataset(spec: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    lines = errors(tailor(spec, "--fold", 1, "--root", tmp_path / "elsewhere", "--out", tmp_path))
    assert "holds no known layout" in lines[0]


def test_tables_have_no_masks_to_export(test_data: Path, tmp_path: Path) -> None:
    (line,) = errors(
        tailor("atr", "--fold", 1, "--root", test_data / "lists", "--out", tmp_path, "--masks", tmp_path / "masks")
    )
    assert "has no masks, only tables" in line


def test_tables_do_not_tell_pixels(root: Path, tmp_path: Path) -> None:
    (root / "present.csv").write_text("id,present_labels\n000,1 2\n")
    (root / "ids.txt").write_text("\n".join(f"{index:03d}" for index in range(120)))
    layouts = [{"name": "table", "parts": [{"list": "all", "ids": "ids.txt", "presence": "present.csv"}]}]
    spec = write_spec(tmp_path, layouts=layouts)
    (line,) = errors(tailor(spec, "--fold", 1, "--root", root, "--out", tmp_path))
    assert "the tables lack 59 images of the pool query_test, such as 001" in line
    spec = write_spec(tmp_path, layouts=layouts, official={**SPEC["official"], "min_pixels": 9})
    (line,) = errors(tailor(spec, "--fold", 1, "--root", root, "--out", tmp_path))
    assert "do not say how many pixels" in line


def test_out_below_a_file(spec: str, root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (line,) = errors(tailor(spec, "--fold", 1, "--root", root, "--out", tmp_path / "file" / "out"))
    assert "Not a directory" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to read-only folders")
def test_read_only_out(spec: str, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir(mode=0o500)
    (line,) = errors(tailor(spec, "--fold", 1, "--root", root, "--out", out))
    assert "cannot be written to" in line


@pytest.mark.parametrize(
    "moment",
    [
        lambda out: (out / ".tiny_fold1.truth.zip.part").exists(),
        lambda out: (out / "masks" / "coarse").exists(),
        lambda out: (out / ".tiny.h5.part").exists(),
    ],
    ids=["truth", "masks", "pack"],
)
def test_sudden_death_leaves_nothing_half(
    spec: str, root: Path, tmp_path: Path, moment: Callable[[Path], bool]
) -> None:
    def options(out: Path) -> list[object]:
        return [spec, "--fold", 1, "--root", root, "--out", out, "--masks", out / "masks", "--pack", out / "tiny.h5"]

    def files(out: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(out)): path.read_bytes()
            for path in out.rglob("*")
            if path.is_file() and not path.name.endswith(".part")
        }

    whole = tmp_path / "whole"
    assert tailor(*options(whole)).exit_code == 0
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", "from oshp_bench.tailor.cli import main; main()", *map(str, options(out))],
        stdout=subprocess.DEVNULL,
    )
    while process.poll() is None and not moment(out):
        time.sleep(0)
    process.kill()
    process.wait()
    assert files(out).items() <= files(whole).items()
    assert tailor(*options(out)).exit_code == 0
    assert files(out) == files(whole)
    assert list(out.rglob("*.part")) == []


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
