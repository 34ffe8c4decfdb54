"""Photos and masks for training, from files or a pack: what does not fit the manifest is refused in lines."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from tiny import manifest_of

from oshp_bench.datasets.labels import Spec
from oshp_bench.datasets.sources import Source, find_source
from oshp_bench.episodes.training_photos import Files, TrainingPhotos, open_photos
from oshp_bench.errors import OshpError
from oshp_bench.manifest import Manifest, load_manifest
from oshp_bench.manifest.pack import Pack, write_pack


@pytest.fixture(scope="module")
def pack(manifest: Manifest, source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packs") / "tiny.h5"
    write_pack(manifest, source, path)
    return path


def refusal(photos: TrainingPhotos, image: str) -> str:
    with pytest.raises(OshpError) as raised:
        photos.read(image)
    (problem,) = raised.value.problems
    return problem


@pytest.fixture
def copy(tiny_root: Path, tmp_path: Path) -> Path:
    """The dataset, to be damaged."""
    return shutil.copytree(tiny_root, tmp_path / "data")


def test_files_that_do_not_fit_the_manifest_are_refused(tiny_spec: Spec, manifest: Manifest, copy: Path) -> None:
    files = Files(find_source(tiny_spec.dataset, copy), manifest)
    path = copy / "masks" / "090.png"
    mask = np.array(Image.open(path))
    Image.fromarray(mask[:-1]).save(path)
    height, width = mask.shape
    assert refusal(files, "090") == (
        f"{path}: {width}x{height - 1} pixels, but its photo has {width}x{height}; take both from one copy of the"
        " dataset"
    )
    Image.fromarray(np.where(mask == 0, 9, mask).astype(np.uint8)).save(path)
    assert refusal(files, "090").startswith(f"{path}: holds 9, but tiny has the labels 0..7")
    present = manifest.pools["query_train"]["090"]
    assert present
    Image.fromarray(np.where(np.isin(mask, (1, 2)), 0, mask).astype(np.uint8)).save(path)
    absent = ", ".join(str(each) for each in present if each in (1, 2))
    assert absent
    assert refusal(files, "090") == (
        f"{path}: holds no class {absent}, but the manifest says so; other masks than it was made from? Check with"
        " oshp-manifest verify"
    )
    path.write_bytes(path.read_bytes()[:-20])
    assert refusal(files, "090") == f"{path}: truncated: the PNG's end is missing"


def test_all_missing_files_are_named_before_training(manifest: Manifest, copy: Path) -> None:
    (copy / "photos" / "081.jpg").unlink()
    whole = (copy / "photos" / "082.jpg").read_bytes()
    (copy / "photos" / "082.jpg").write_bytes(whole[: len(whole) // 2])
    (copy / "masks" / "083.png").unlink()
    open_photos(manifest, ["080", "084"], False, copy, None)
    with pytest.raises(OshpError) as raised:
        open_photos(manifest, ["080", "081", "082", "083"], False, copy, None)
    assert raised.value.problems == (
        f"{copy / 'photos' / '081.jpg'}: does not exist",
        f"{copy / 'photos' / '082.jpg'}: truncated: the JPEG's end is missing",
        f"{copy / 'masks' / '083.png'}: does not exist; the mask of the training image 083",
    )


@pytest.mark.slow
def test_lists_without_photos_cannot_be_trained_on(test_data: Path) -> None:
    with pytest.raises(OshpError, match="holds lists of classes, but no photos and masks"):
        open_photos(load_manifest("atr_fold1"), [], False, test_data / "lists", None)


def damaged(pack: Path, path: Path, part: str) -> Path:
    path.write_bytes(pack.read_bytes())
    with h5py.File(path, "r+") as file:
        if part in file.attrs:
            file.attrs[part] = "other"
        elif part in ("masks", "start"):
            file[part][...] = 200
        else:
            del file[part]
    return path


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ("format", 'not a pack (its "format" is not "oshp-pack/1")'),
        ("dataset", "its labels do not mean those of tiny_fold1; pack this manifest's dataset"),
        ("sizes", "not a readable pack; write it again with oshp-tailor --pack"),
        ("ids", "not a readable pack; write it again with oshp-tailor --pack"),
    ],
)
def test_what_is_no_pack_is_refused(manifest: Manifest, pack: Path, tmp_path: Path, part: str, why: str) -> None:
    path = damaged(pack, tmp_path / "bad.h5", part)
    with pytest.raises(OshpError) as raised:
        Pack(path, manifest)
    assert raised.value.problems == (f"{path}: {why}",)


def test_a_damaged_pack_is_refused(manifest: Manifest, pack: Path, tmp_path: Path) -> None:
    for part in ("masks", "start"):
        path = damaged(pack, tmp_path / f"{part}.h5", part)
        assert refusal(Pack(path, manifest), "090") == (
            f"{path}: 090 is damaged in it; write it again with oshp-tailor --pack"
        )
    for content in (b"", b"no pack", pack.read_bytes()[:3000]):
        path.write_bytes(content)
        with pytest.raises(OshpError) as raised:
            Pack(path, manifest)
        assert raised.value.problems == (f"{path}: not a readable pack; write it again with oshp-tailor --pack",)
    path = tmp_path / "shorter.h5"
    path.write_bytes(pack.read_bytes())
    with h5py.File(path, "r+") as file:
        shorter = file["photos"][:-1]
        del file["photos"]
        file["photos"] = shorter
    with pytest.raises(OshpError, match="its parts do not fit each other"):
        Pack(path, manifest)


def test_a_pack_serves_every_fold_and_lacks_nothing(
    tiny_spec: Spec, tiny_root: Path, manifest: Manifest, pack: Path
) -> None:
    other = manifest_of(tiny_spec, tiny_root, fold=2)
    photo, mask = Pack(pack, other).read("100")
    assert photo.shape == (*mask.shape, 3)
    pools = {**manifest.pools, "query_train": {**manifest.pools["query_train"], "007": (1,), "008": (1,)}}
    with pytest.raises(OshpError) as raised:
        Pack(pack, replace(manifest, pools=pools))
    assert raised.value.problems == tuple(
        f"{pack}: lacks the training image {each} of tiny_fold1" for each in ("007", "008")
    )
