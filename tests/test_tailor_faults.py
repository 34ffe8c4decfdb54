"""oshp-tailor with bad input, bad options, a folder that cannot be written, and when it is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tailor_cases import SPEC, errors, listed_spec, magnified, tailor, write_spec


@pytest.fixture
def spec(tmp_path: Path) -> str:
    return write_spec(tmp_path)


@pytest.fixture
def root(tiny_root: Path, tmp_path: Path) -> Path:
    return magnified(tiny_root, tmp_path / "data")


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


def test_half_a_dataset_is_told_from_none(tmp_path: Path) -> None:
    """CIHP comes in several archives; one of them was not unpacked."""
    for folder in ("Images", "Category_ids"):
        (tmp_path / "cihp" / "Training" / folder).mkdir(parents=True)
    (tmp_path / "cihp" / "Training" / "train_id.txt").write_text("0000001")
    first, *advice = errors(tailor("cihp", "--fold", 1, "--root", tmp_path, "--out", tmp_path))
    lacking = ", ".join(f"{tmp_path}/cihp/Validation/{name}" for name in ("val_id.txt", "Category_ids", "Images"))
    assert first == (
        f"{tmp_path}: holds no known layout of CIHP-OS (Crowd Instance-level Human Parsing); {tmp_path}/cihp looks like"
        f" 'CIHP, as distributed', but lacks {lacking}"
    )
    assert "Crowd Instance-level" in " ".join(advice)


def test_a_spec_without_a_tree_shows_its_patterns(spec: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    lines = errors(tailor(spec, "--fold", 1, "--root", tmp_path / "elsewhere", "--out", tmp_path))
    assert lines[-1] == "plain: photos/{id}.jpg, masks/{id}.png"


def test_too_few_supports_name_what_needs_fewer(root: Path, tmp_path: Path) -> None:
    spec = write_spec(tmp_path, official={**SPEC["official"], "supports": "unused"})
    lines = errors(tailor(spec, "--fold", 1, "--root", root, "--out", tmp_path))
    assert lines and all(
        line.endswith('which needs fewer, or supports = "cyclic" in the spec, which uses them again') for line in lines
    )


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


@pytest.mark.slow
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
