"""Datasets are found in every layout that is in use, and what is not one is named."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY
from PIL import Image

from oshp_bench.datasets.labels import Spec, load_spec, parse_spec
from oshp_bench.datasets.sources import Source, find_source, read_presence
from oshp_bench.errors import OshpError

# Where the real samples lie, in original layout: (photos, masks, id list) of train and test.
LIP = (
    "LIP/TrainVal_images/TrainVal_images/{0}_images",
    ("LIP/TrainVal_parsing_annotations/TrainVal_parsing_annotations/{0}_segmentations"),
)
CIHP = "CIHP/Training/Images", "CIHP/Training/Category_ids"


@pytest.fixture
def samples(test_data: Path) -> Path:
    return test_data / "samples"


def put(folder: Path, *files: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, folder)


def listed(file: Path, *files: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{each.stem}\n" for each in files))


def check(source: Source, layout: str, root: Path, lists: dict[str, list[str]]) -> None:
    assert (source.layout.name, source.root) == (layout, root)
    assert {name: list(ids) for name, ids in source.lists.items()} == lists
    for image in (image for ids in lists.values() for image in ids):
        mask = source.merged_mask(image)
        assert source.photo_size(image) == mask.shape == source.photo(image).shape[:2]
        assert set(np.unique(mask).tolist()) <= {each.id for each in source.dataset.classes}
        assert mask.any()


def test_the_samples_are_found_where_they_lie(samples: Path) -> None:
    check(
        find_source(load_spec("atr").dataset, samples),
        "humanparsing, as distributed",
        samples / "ATR" / "humanparsing",
        {"all": ["2500_1899"]},
    )
    lip = find_source(load_spec("lip").dataset, samples)
    check(lip, "LIP, as distributed", samples / "LIP", {"train": ["684_2150041"], "test": ["86_185913"]})


def test_reversed_masks_and_pictures_of_other_tools_are_left_alone(samples: Path) -> None:
    source = find_source(load_spec("atr").dataset, samples)
    assert source.mask_path("2500_1899") == source.root / "SegmentationClassAug" / "2500_1899.png"
    # Another tool's mask of the same photo is a well-formed mask, so it is told by what it shows: a skirt for pants.
    other = samples / "ATR" / "_not_ground_truth" / "2500_1899_as_in_GrapyML.png"
    theirs = source.dataset.merge[np.asarray(Image.open(other))]
    ours = source.merged_mask("2500_1899")
    assert (5 in theirs, 6 in theirs) == (True, False)
    assert (5 in ours, 6 in ours) == (False, True)


def test_the_grey_photo_of_lip_is_read_as_rgb(samples: Path) -> None:
    photo = find_source(load_spec("lip").dataset, samples).photo("86_185913")
    assert photo.shape == (377, 130, 3)
    assert (photo[..., :1] == photo).all()


@pytest.mark.parametrize(
    ("layout", "photos", "masks", "ids"),
    [
        (
            "LIP, as distributed, folders not doubled",
            "TrainVal_images/{}_images",
            "TrainVal_parsing_annotations/{}_segmentations",
            "TrainVal_images/{}_id.txt",
        ),
        ("flat folders", "{}_images", "{}_segmentations", "{}_id.txt"),
        ("image and gt folders", "{}/image", "{}/gt", "{}/id.txt"),
        ("LIP_OS, as released with EOP-Net", "LIP_OS/trainval_images", "LIP_OS/trainval_classes", "LIP_OS/list/{}"),
        ("inside LIP_OS, as released with EOP-Net", "trainval_images", "trainval_classes", "list/{}"),
    ],
)
def test_every_layout_of_lip_is_found(
    samples: Path, tmp_path: Path, layout: str, photos: str, masks: str, ids: str
) -> None:
    for split, release in (("train", "meta_train_id.txt"), ("val", "meta_test_id.txt")):
        (photo,) = (samples / LIP[0].format(split)).iterdir()
        (mask,) = (samples / LIP[1].format(split)).iterdir()
        put(tmp_path / photos.format(split), photo)
        put(tmp_path / masks.format(split), mask)
        listed(tmp_path / ids.format(release if ids.endswith("list/{}") else split), photo)
    # The reversed masks that some archives hold are not needed, nor are the photos without masks.
    put(tmp_path / "TrainVal_parsing_annotations" / "train_segmentations_reversed", mask)
    put(tmp_path / "test_images", photo)
    source = find_source(load_spec("lip").dataset, tmp_path)
    check(source, layout, tmp_path, {"train": ["684_2150041"], "test": ["86_185913"]})


@pytest.mark.parametrize(
    ("layout", "train", "test", "names"),
    [
        ("CIHP, as distributed", "Training", "Validation", ("Images", "Category_ids", "train_id.txt", "val_id.txt")),
        ("one folder with lists", ".", ".", ("Images", "Category_ids", "lists/train_id.txt", "lists/val_id.txt")),
        (
            "inside CIHP_OS, as released with EOP-Net",
            ".",
            ".",
            ("trainval_images", "trainval_classes", "list/meta_train_id.txt", "list/meta_test_id.txt"),
        ),
    ],
)
def test_every_layout_of_cihp_is_found(
    samples: Path, tmp_path: Path, layout: str, train: str, test: str, names: tuple[str, str, str, str]
) -> None:
    root = tmp_path / "downloads" / "instance-level_human_parsing"
    photos = sorted((samples / CIHP[0]).iterdir())
    for folder, chosen, ids in ((train, photos[:3], names[2]), (test, photos[3:], names[3])):
        put(root / folder / names[0], *chosen)
        put(root / folder / names[1], *(samples / CIHP[1] / f"{photo.stem}.png" for photo in chosen))
        put(root / folder / "Category_rev_ids", *(samples / CIHP[1] / f"{photo.stem}.png" for photo in chosen))
        listed(root / folder / ids, *chosen)
    stems = [photo.stem for photo in photos]
    check(find_source(load_spec("cihp").dataset, tmp_path), layout, root, {"train": stems[:3], "test": stems[3:]})


def test_the_release_layout_is_found_among_others(samples: Path, tmp_path: Path) -> None:
    for name, part in (("ATR_OS", "train"), ("LIP_OS", "train"), ("CIHP_OS", "test")):
        photo, mask = samples / CIHP[0] / "0002190.jpg", samples / CIHP[1] / "0002190.png"
        put(tmp_path / "data" / name / "trainval_images", photo)
        put(tmp_path / "data" / name / "trainval_classes", mask)
        listed(tmp_path / "data" / name / "list" / "meta_train_id.txt", *[photo] * (part == "train"))
        listed(tmp_path / "data" / name / "list" / "meta_test_id.txt", *[photo] * (part == "test"))
    for name in ("atr", "lip", "cihp"):
        source = find_source(load_spec(name).dataset, tmp_path)
        assert source.root == tmp_path / "data"
        assert source.photo_path("0002190") == source.root / f"{name.upper()}_OS" / "trainval_images" / "0002190.jpg"
    # Pointed at one of them, the same files are found from inside.
    source = find_source(load_spec("lip").dataset, tmp_path / "data" / "LIP_OS")
    assert source.layout.name == "inside LIP_OS, as released with EOP-Net"


def test_one_folder_of_several_datasets_serves_all(samples: Path, test_data: Path) -> None:
    # The folder holds samples, CCP, and tables; each dataset finds its own.
    assert find_source(load_spec("ccp").dataset, test_data).root == test_data / "ccp"
    assert find_source(load_spec("lip").dataset, test_data).root == samples / "LIP"
    table = find_source(load_spec("cihp").dataset, test_data)
    assert (table.root, table.has_masks) == (test_data / "lists", False)


def test_ccp_is_found_and_corrected(test_data: Path) -> None:
    source = find_source(load_spec("ccp").dataset, test_data / "ccp")
    assert len(source.lists["all"]) == 989
    assert "0078" not in source.lists["all"]
    skirt, dress = (source.dataset.labels.index(label) for label in ("skirt", "dress"))
    mask = source.mask("0002")
    assert (skirt in mask, dress in mask) == (True, False)
    assert mask.shape == source.photo_size("0002")


def test_presence_tables_of_both_kinds_are_read(test_data: Path) -> None:
    atr, cihp = load_spec("atr").dataset, load_spec("cihp").dataset
    table = dict(read_presence(test_data / "lists" / "atr_class_presence.csv", atr.labels))
    assert len(table) == 17_706
    assert table["2500_19"] == {2, 4, 5, 9, 11, 12, 14}
    table = dict(read_presence(test_data / "lists" / "cihp_val_class_presence.csv", cihp.labels))
    assert len(table) == 5_000
    assert {cihp.labels[label] for label in table["0000001"]} == {
        *("hair", "upper-clothes", "dress", "coat", "socks", "pants", "torso-skin", "face"),
        *("left-arm", "right-arm", "right-leg"),
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "needs a column id"),
        ("name,hat\n1,1\n", "needs a column id"),
        ("id,colour\n1,1\n", "needs a column id"),
        ("id,hat\n1,2\n", "not a table"),
        ("id,hat\n1\n", "not a table"),
        ("id,hat\n1,yes\n", "not a table"),
        ("id,present_labels\n1,1 x\n", "not a table"),
        ("id,present_labels\n1,99\n", "line 2: a label that the dataset does not have"),
        ("id,present_labels\n1,-1\n", "line 2: a label that the dataset does not have"),
        ("id,present_labels\n1,1\n1,2\n", "line 3: '1' is listed twice"),
        ("id,present_labels\n../1,1\n", "line 2: '../1' is no image id"),
        ("hat,id\n1\n", "line 2: '' is no image id"),
        ("id,present_labels\n1," + "9" * 200_000, "not a table"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(OshpError, match=reason) as error:
        list(read_presence(path, ("background", "hat", "hair")))
    assert error.value.problems[0].isprintable()


def test_a_table_from_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes("\ufeffid,hat,hair\r\n7,0,1\r\n".encode())
    assert dict(read_presence(path, ("background", "hat", "hair"))) == {"7": {2}}


def test_a_tiny_dataset_is_read(tiny_spec: Spec, tiny_root: Path) -> None:
    source = find_source(tiny_spec.dataset, tiny_root)
    assert source.lists == {"all": tuple(f"{index:03d}" for index in range(120))}
    mask, merged = source.mask("007"), source.merged_mask("007")
    # 3 and 4 are left and right shoe of class 3, 6 is the removed belt.
    for label, class_id in enumerate([0, 1, 2, 3, 3, 5, 0, 7]):
        assert (merged[mask == label] == class_id).all()


def own(root: Path, **part: Any) -> Source:
    content = copy.deepcopy(TINY)
    content["layouts"] = [{"name": "own", "parts": [{"list": "all", **part}]}]
    return find_source(parse_spec(content, "own.toml").dataset, root)


def test_names_around_the_id_are_cut_off(tmp_path: Path) -> None:
    put(tmp_path)
    for name in ("a_7_mask.png", "a_8_mask.png", "b_9_mask.png", "a_7_photo.png", ".a_6_mask.png"):
        Image.fromarray(np.ones((3, 4), np.uint8)).save(tmp_path / name)
    source = own(tmp_path, photo="a_{id}_photo.png", mask="a_{id}_mask.png")
    assert source.lists["all"] == ("7", "8")
    assert source.mask("7").shape == source.photo_size("7") == (3, 4)


def test_strange_ids_and_lists_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("001\n../002\n")
    for content, reason in [
        (b"001\n../002\n", r"'\.\./002' is no image id"),
        (b"/etc/passwd", "is no image id"),
        (b"a\0b", "is no image id"),
        (b"\xff\xfe1\0", "not a text file"),
    ]:
        (tmp_path / "ids.txt").write_bytes(content)
        with pytest.raises(OshpError, match=reason):
            _ = own(tmp_path, ids="ids.txt", mask="{id}.png").lists
    (tmp_path / "ids.txt").write_bytes("\ufeff001\r\n002\r\n".encode())
    assert own(tmp_path, ids="ids.txt", mask="{id}.png").lists["all"] == ("001", "002")


def test_missing_and_strange_files_are_named(tmp_path: Path) -> None:
    listed(tmp_path / "ids.txt", Path("1.x"), Path("2.x"), Path("3.x"))
    Image.fromarray(np.full((3, 4), 77, np.uint8)).save(tmp_path / "2.png")
    Image.fromarray(np.full((3, 4, 3), (200, 30, 40), np.uint8)).save(tmp_path / "3.png")
    source = own(tmp_path, ids="ids.txt", mask="{id}.png")
    for image, reason in [
        ("1", r"1\.png: does not exist"),
        ("2", r"2\.png: holds 77, but tiny has the labels 0\.\.7"),
        ("3", r"3\.png: a colour picture, not a label mask; give the folder"),
    ]:
        with pytest.raises(OshpError, match=reason):
            source.merged_mask(image)
    with pytest.raises(OshpError, match="has no photos"):
        source.photo("2")
    with pytest.raises(OshpError, match="has no photos"):
        source.photo_size("2")


def test_the_error_of_a_missing_dataset_says_what_to_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = load_spec("lip").dataset
    for variable in ("OSHP_LIP_ROOT", "OSHP_DATA"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(OshpError, match="OSHP_LIP_ROOT or OSHP_DATA") as error:
        find_source(dataset, None)
    assert len(error.value.problems) == 1 and len(error.value.advice.splitlines()) > 3
    assert "TrainVal_images.zip" in str(error.value)
    assert "TrainVal_parsing_annotations/" in str(error.value)
    with pytest.raises(OshpError, match="no known layout"):
        find_source(dataset, tmp_path)
    with pytest.raises(OshpError, match="no such folder"):
        find_source(dataset, tmp_path / "none")


def test_the_environment_names_the_folder(tiny_spec: Spec, tiny_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSHP_DATA", str(tiny_root))
    assert find_source(tiny_spec.dataset, None).root == tiny_root
    monkeypatch.setenv("OSHP_TINY_ROOT", str(tiny_root))
    monkeypatch.setenv("OSHP_DATA", "/nowhere")
    assert find_source(tiny_spec.dataset, None).root == tiny_root


def test_the_embedded_dataset_has_its_images_and_no_others() -> None:
    source = find_source(load_spec("demo").dataset, None)
    assert len(source.lists["all"]) == 400
    assert source.photo("0003").shape[:2] == source.mask("0003").shape == source.photo_size("0003")
    for strange in ("0400", "3", "hat", "9" * 90):
        with pytest.raises(OshpError, match="no image of the embedded dataset"):
            source.mask(strange)


def test_folders_that_turn_in_circles_are_searched_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    with pytest.raises(OshpError, match="no known layout"):
        find_source(load_spec("ccp").dataset, tmp_path)
