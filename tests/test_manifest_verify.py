"""A manifest that is not intact, or does not fit its truth or data, fails with every reason."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from oshp_bench.datasets.labels import Spec, load_spec
from oshp_bench.datasets.sources import find_source
from oshp_bench.manifest import Manifest, save_manifest
from oshp_bench.manifest.cli import main
from oshp_bench.manifest.store import manifest_text
from oshp_bench.manifest.truth import truth_path, write_truth
from oshp_bench.tailor.build import Recipe, build_manifest


@pytest.fixture
def manifest_file(manifest: Manifest, tmp_path: Path) -> Path:
    save_manifest(manifest, tmp_path / "tiny_fold1.json")
    return tmp_path / "tiny_fold1.json"


@pytest.fixture
def root(tiny_root: Path, tmp_path: Path) -> Path:
    """A copy of the dataset, to be damaged."""
    return Path(shutil.copytree(tiny_root, tmp_path / "data"))


def verify(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["verify", *map(str, arguments)])
    return result.exit_code, result.output


def problems(*arguments: object) -> list[str]:
    code, output = verify(*arguments)
    assert code == 1, output
    lines = output.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    return [line.removeprefix("error: ") for line in lines]


def test_a_sound_manifest_is_intact_and_fits(
    manifest: Manifest, manifest_file: Path, tiny_spec: Spec, tiny_root: Path
) -> None:
    write_truth(manifest, find_source(tiny_spec.dataset, tiny_root), truth_path(manifest_file))
    code, output = verify(manifest_file, "--root", tiny_root, "--photos")
    assert code == 0
    said = output.splitlines()
    assert [line.split(":")[0] for line in said] == [
        "tiny_fold1 1.0.0 is intact",
        f"fits its truth {truth_path(manifest_file)}",
        f"fits the dataset in {tiny_root}",
    ]
    shown = json.loads(verify(manifest_file, "--root", tiny_root, "--photos", "--json")[1])
    assert shown == {"verified": True, "checked": said, "problems": []}


def test_what_is_broken_fails_and_what_cannot_be_read_is_an_error(manifest: Manifest, tmp_path: Path) -> None:
    text = manifest_text(manifest)
    broken = tmp_path / "m.json"
    for content, code, reason in [
        (text.replace('"version": "1.0.0"', '"version": "1.0.1"'), 1, "digest does not fit"),
        (text.replace('"fold": 1', '"fold": "1"'), 1, "fold is '1', not a whole number"),
        ("{}", 1, "not a manifest"),
        (text[:-300], 2, "not valid JSON"),
        ("", 2, "not valid JSON"),
    ]:
        broken.write_text(content)
        assert verify(broken)[0] == code
        assert reason in verify(broken)[1]
    rule = replace(manifest, pairs=replace(manifest.pairs, target=(2, *manifest.pairs.target[1:])))
    save_manifest(rule, broken)
    assert any("hat has 149 different pairs" in each for each in problems(broken))
    failed = json.loads(verify(broken, "--json")[1])
    assert (verify(broken, "--json")[0], failed["verified"]) == (1, False)
    assert "hat has 149 different pairs" in str(failed["problems"])
    assert verify(tmp_path / "none.json")[0] == 2


def test_every_misfit_of_the_data_is_named(manifest: Manifest, manifest_file: Path, root: Path) -> None:
    photos, masks = root / "photos", root / "masks"
    support = manifest.pairs.support[0]
    (photos / "000.jpg").unlink()
    (photos / "001.jpg").write_bytes((photos / "001.jpg").read_bytes()[:200])
    (photos / "002.jpg").write_bytes((photos / "008.jpg").read_bytes())
    (masks / "003.png").unlink()
    (masks / "005.png").write_bytes((masks / "005.png").read_bytes()[:-20])
    mask = np.asarray(Image.open(masks / "007.png")).copy()
    Image.fromarray(np.where(mask == 0, 99, mask)).save(masks / "007.png")
    Image.fromarray(np.zeros((24, 18), np.uint8)).save(masks / f"{support}.png")
    Image.fromarray(np.zeros((24, 18), np.uint8)).save(photos / f"{support}.jpg")
    found = problems(manifest_file, "--root", root)
    expected = [
        f"{photos / '000.jpg'}: does not exist",
        f"{photos / '001.jpg'}: truncated: the JPEG's end is missing",
        f"{masks / '002.png'}: 18x22 pixels, but its photo has 17x28",
        f"{masks / '003.png'}: does not exist",
        f"{masks / '005.png'}: truncated: the PNG's end is missing",
        f"{masks / '007.png'}: holds 99, but tiny has the labels 0..7",
        f"{masks / support}.png: holds no class; the manifest says hat",
    ]
    assert len(found) == len(expected)
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(start), line


def test_a_photo_damaged_within_is_found_by_decoding_it(manifest_file: Path, root: Path) -> None:
    path = root / "photos" / "000.jpg"
    content = path.read_bytes()
    # More Huffman codes of length 1 than there can be: the header reads well, the pixels do not.
    table = content.index(b"\xff\xc4") + 5
    path.write_bytes(content[:table] + b"\xff" + content[table + 1 :])
    assert verify(manifest_file, "--root", root)[0] == 0
    (found,) = problems(manifest_file, "--root", root, "--photos")
    assert found.startswith(f"{path}: truncated or damaged")
    code, output = verify(manifest_file, "--photos")
    assert (code, "give --root" in output) == (2, True)


def test_validation_supports_are_checked_over_base_classes(manifest: Manifest, root: Path, tmp_path: Path) -> None:
    validation = manifest.validation
    assert validation is not None
    support = validation.support[0]
    # Nobody has looked at the pool, so that the pairs alone tell what the support shows.
    pools = {**manifest.pools, "support_train": dict.fromkeys(manifest.pools["support_train"])}
    save_manifest(replace(manifest, pools=pools), tmp_path / "m.json")
    assert verify(tmp_path / "m.json", "--root", root)[0] == 0
    mask = np.asarray(Image.open(root / "masks" / f"{support}.png")).copy()
    mask[mask == 1] = 0
    Image.fromarray(mask).save(root / "masks" / f"{support}.png")
    (found,) = problems(tmp_path / "m.json", "--root", root)
    assert f"{support}.png: as a support it shows" in found


def test_min_pixels_of_the_protocol_decide_what_an_image_holds(
    manifest: Manifest, tiny_root: Path, tmp_path: Path
) -> None:
    cases: list[tuple[dict[str, Any], int]] = [({}, 0), ({"min_pixels": "x"}, 0), ({"min_pixels": 15}, 1)]
    for protocol, code in cases:
        save_manifest(replace(manifest, protocol=protocol), tmp_path / "m.json")
        assert verify(tmp_path / "m.json", "--root", tiny_root)[0] == code


def test_many_problems_are_counted(manifest_file: Path, root: Path) -> None:
    for path in (root / "photos").iterdir():
        path.unlink()
    found = problems(manifest_file, "--root", root)
    assert len(found) == 51
    assert found[-1] == "... and 70 more problems (all with --json)"
    assert len(json.loads(verify(manifest_file, "--root", root, "--json")[1])["problems"]) == 120


@pytest.mark.parametrize("beside", [True, False])
def test_a_truth_that_does_not_fit_fails(
    manifest: Manifest, manifest_file: Path, tiny_spec: Spec, root: Path, tmp_path: Path, beside: bool
) -> None:
    path = truth_path(manifest_file) if beside else tmp_path / "t.zip"
    given = [] if beside else ["--truth", path]
    write_truth(manifest, find_source(tiny_spec.dataset, root), path)
    assert verify(manifest_file, *given)[0] == 0
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 9] ^= 1
    path.write_bytes(content)
    (found,) = problems(manifest_file, *given)
    assert "masks/" in found
    path.write_bytes(b"")
    assert "not a readable truth file" in problems(manifest_file, *given)[0]


def test_a_mask_that_changed_since_the_truth_was_made_is_found(
    manifest: Manifest, manifest_file: Path, tiny_spec: Spec, root: Path
) -> None:
    write_truth(manifest, find_source(tiny_spec.dataset, root), truth_path(manifest_file))
    path = root / "masks" / f"{manifest.pairs.query[0]}.png"
    Image.fromarray(np.asarray(Image.open(path))[:, ::-1]).save(path)
    (found,) = problems(manifest_file, "--root", root)
    assert found == f"{path}: the mask is another than the one in {truth_path(manifest_file)}"


@pytest.mark.slow
def test_a_table_of_classes_can_be_verified_too(test_data: Path, tmp_path: Path) -> None:
    spec = load_spec("atr")
    lists = test_data / "lists"
    save_manifest(build_manifest(Recipe(spec, 1), find_source(spec.dataset, lists)), tmp_path / "atr_fold1.json")
    code, output = verify(tmp_path / "atr_fold1.json", "--root", lists)
    assert (code, "fits the tables in" in output) == (0, True)
    for name in ("atr_class_presence.csv", "atr_meta_train_id.txt", "atr_meta_test_id.txt"):
        shutil.copy(lists / name, tmp_path)
    table = tmp_path / "atr_class_presence.csv"
    changed = table.read_text().replace("2500_19,meta_train,0,query,2 4 5 9 11 12 14", "2500_19,meta_train,0,query,2 4")
    table.write_text(changed)
    (found,) = problems(tmp_path / "atr_fold1.json", "--root", tmp_path)
    assert found.startswith("2500_19: the table says hair, upper-clothes; the manifest says hair, upper-clothes, skirt")


@pytest.mark.slow
def test_the_sample_of_another_tool_is_told_by_its_classes(test_data: Path, tmp_path: Path) -> None:
    """The mask that another project ships under the same name shows a skirt where the dataset shows pants."""
    atr = test_data / "samples" / "ATR"
    shutil.copytree(atr / "humanparsing" / "JPEGImages", tmp_path / "JPEGImages")
    (tmp_path / "SegmentationClassAug").mkdir()
    other = tmp_path / "SegmentationClassAug" / "2500_1899.png"
    shutil.copy(atr / "_not_ground_truth" / "2500_1899_as_in_GrapyML.png", other)
    spec = load_spec("atr")
    manifest = build_manifest(Recipe(spec, 1), find_source(spec.dataset, test_data / "lists"))
    save_manifest(manifest, tmp_path / "atr_fold1.json")
    result = CliRunner().invoke(main, ["verify", str(tmp_path / "atr_fold1.json"), "--root", str(tmp_path), "--json"])
    assert result.exit_code == 1
    (found,) = (each for each in json.loads(result.output)["problems"] if each.startswith(str(other)))
    assert "holds hair, upper-clothes, skirt, shoes" in found
    assert "the manifest says hair, upper-clothes, pants, shoes" in found


IMPORTS = (
    "import sys, oshp_bench.manifest.cli; print([m for m in ('numpy', 'PIL', 'scipy', 'tqdm') if m in sys.modules])"
)


def test_help_needs_no_heavy_import() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("damage", [lambda p: p.write_bytes(b""), lambda p: p.unlink(), lambda p: p.chmod(0o644)])
def test_verify_writes_nothing(manifest_file: Path, root: Path, damage: Callable[[Path], object]) -> None:
    damage(root / "masks" / "000.png")
    before = sorted(path for path in manifest_file.parent.rglob("*"))
    verify(manifest_file, "--root", root)
    assert sorted(path for path in manifest_file.parent.rglob("*")) == before
