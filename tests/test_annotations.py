"""Masks that people have: palette and grey PNG, labelme's and COCO's JSON, several examples one after the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from oshp_bench.datasets.images import IGNORE
from oshp_bench.errors import OshpError
from oshp_bench.parse.annotations import _runs, read_examples
from oshp_bench.parse.own_photos import Example, computed_size

HEIGHT, WIDTH = 6, 8


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "s.png")
    return tmp_path / "s.png"


def read(photo: Path, document: Any, names: dict[int, str] | None = None) -> tuple[Example, dict[int, str]]:
    path = photo.with_name("m.json")
    path.write_text(json.dumps(document))
    examples, known = read_examples([photo], [path], names or {})
    return examples[0], known


def problems(photo: Path, document: Any) -> list[str]:
    """What is wrong with a file, without its name."""
    with pytest.raises(OshpError) as caught:
        read(photo, document)
    start = f"{photo.with_name('m.json')}: "
    assert all(problem.startswith(start) and "\n" not in problem for problem in caught.value.problems)
    return [problem.removeprefix(start) for problem in caught.value.problems]


def labelme(*shapes: tuple[str, str, list[list[float]]]) -> dict[str, Any]:
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": [
            {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}}
            for label, kind, points in shapes
        ],
        "imagePath": "s.png",
        "imageData": None,
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
    }


def coco(*segmentations: Any) -> dict[str, Any]:
    """The image of our photo, and another one; category 7 has every other annotation, 18 the rest."""
    return {
        "images": [
            {"id": 3, "file_name": "train/s.png", "height": HEIGHT, "width": WIDTH},
            {"id": 4, "file_name": "train/t.png", "height": 1, "width": 1},
        ],
        "categories": [{"id": 7, "name": "bag"}, {"id": 18, "name": "hat"}],
        "annotations": [
            {"id": 1 + number, "image_id": 3, "category_id": (7, 18)[number % 2], "segmentation": shape, "iscrowd": 0}
            for number, shape in enumerate(segmentations)
        ]
        + [{"id": 99, "image_id": 4, "category_id": 7, "segmentation": "another image's"}],
    }


def test_labelme_by_hand(photo: Path) -> None:
    document = labelme(
        ("cape", "polygon", [[0, 0], [3, 0], [3, 3], [0, 3]]),
        ("hat", "rectangle", [[2, 1], [1, 2]]),
        ("__ignore__", "rectangle", [[7, 0], [7, 5]]),
        ("ball", "circle", [[5, 4], [5, 5]]),
        ("_background_", "rectangle", [[0, 0], [0, 0]]),
    )
    example, names = read(photo, document)
    assert names == {1: "cape", 2: "hat", 3: "ball"}
    # The hat lies over the cape; the ball is a disk of radius 1 around column 5 of row 4.
    assert example.mask.tolist() == [
        [0, 1, 1, 1, 0, 0, 0, 255],
        [1, 2, 2, 1, 0, 0, 0, 255],
        [1, 2, 2, 1, 0, 0, 0, 255],
        [1, 1, 1, 1, 0, 3, 0, 255],
        [0, 0, 0, 0, 3, 3, 3, 255],
        [0, 0, 0, 0, 0, 3, 0, 255],
    ]


def test_names_of_the_user_give_numbers(photo: Path) -> None:
    squares = [(name, "rectangle", [[x, 0.0], [x, 5.0]]) for x, name in enumerate(("bag", "hat", "cape"))]
    example, names = read(photo, labelme(*squares), {1: "hat", 9: "cape", 2: "sock"})
    # 1 and 2 are taken, so the bag is 3.
    assert example.mask[0, :4].tolist() == [3, 1, 9, 0]
    assert names == {1: "hat", 9: "cape", 2: "sock", 3: "bag"}


def test_coco_by_hand(photo: Path) -> None:
    # Columns of six pixels: 6 background, 12 of the class, 30 background.
    document = coco({"size": [HEIGHT, WIDTH], "counts": [6, 12, 30]}, [[4, 1, 6, 1, 6, 2, 4, 2], [7, 5, 7, 5, 7, 5]])
    example, names = read(photo, document)
    assert names == {1: "bag", 2: "hat"}
    assert example.mask.tolist() == [
        [0, 1, 1, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 2, 2, 2, 0],
        [0, 1, 1, 0, 2, 2, 2, 0],
        [0, 1, 1, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0, 0, 2],
    ]


def test_compressed_run_lengths_by_hand() -> None:
    # "6" is 54 - 48 = 6, "7" alike. 40 = 8 + 32 * 1: 8 with the bit 32, "X", then "1". From the fourth on, runs are
    # differences to the run before the last: 35 is 5 less than 40, and -5 = 27 - 32, whose letter is 48 + 27, "K".
    assert _runs("6X17K") == [6, 40, 7, 35]
    assert _runs("") == []
    for wrong in ("X", "\x00", "ÿ", "K", "oooooooo", 5, None, [1, -1], [1.5], [True]):
        assert _runs(wrong) is None


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=HEIGHT * WIDTH, max_size=HEIGHT * WIDTH))
def test_run_lengths_are_those_of_pycocotools(pixels: list[bool]) -> None:
    mask_api = pytest.importorskip("pycocotools.mask")
    mask = np.asfortranarray(np.array(pixels, np.uint8).reshape(HEIGHT, WIDTH))
    runs = _runs(mask_api.encode(mask)["counts"].decode())
    assert runs is not None
    assert np.array_equal(np.repeat(np.arange(len(runs)) % 2, runs).reshape(HEIGHT, WIDTH, order="F"), mask)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda d: d.update(shapes=[]), "holds no class (numbers from 1 to 254)"),
        (lambda d: d.update(imageHeight=9), "8x9 pixels, but its photo has 8x6 when it is upright"),
        (lambda d: d["shapes"][0].update(label=""), "shapes 1: '' is no name of 1 to 40 printable characters"),
        (
            lambda d: d["shapes"][0].update(shape_type="line"),
            "shapes 1: a 'line'; draw polygons, rect",
        ),
        (lambda d: d["shapes"][0].update(points=[[0, 0], [1, 1]]), "shapes 1: a polygon of 2 points"),
        (lambda d: d["shapes"][0].update(points=[[0, 0], [1, 1], [1e9, 0]]), "shapes 1: points are not up to 10,000"),
        (lambda d: d["shapes"][0].update(points=[[0, 0], [1, 1], [True, 0]]), "shapes 1: points are not up to 10,000"),
        (lambda d: d["shapes"][0].update(points=[[0, 0]] * 10_001), "shapes 1: points are not up to 10,000"),
        (lambda d: d["shapes"][0].update(points="many"), "shapes 1: points are not up to 10,000"),
        (lambda d: d.update(shapes="none"), "shapes is 'none', not a list of tables"),
        (lambda d: d.pop("shapes"), "no annotation of labelme (shapes) or COCO (images, annotations, categories)"),
    ],
)
def test_what_is_wrong_with_labelme_is_a_line(
    photo: Path, change: Callable[[dict[str, Any]], None], problem: str
) -> None:
    document = labelme(("cape", "polygon", [[0, 0], [3, 0], [3, 3], [0, 3]]))
    change(document)
    assert problems(photo, document)[0].startswith(problem)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda d: d["images"].pop(0), "images 1: 1x1 pixels, but its photo has 8x6 when it is upright"),
        (lambda d: d["images"][0].update(file_name="u.png"), "has 2 images, and 2 may be s.png"),
        (lambda d: d["images"][1].update(file_name="s.png"), "has 2 images, and 2 may be s.png"),
        (lambda d: d["annotations"][0].update(category_id=5), "annotations 1: category_id 5 is none of the categories"),
        (lambda d: d["annotations"][0].update(segmentation=[[1, 1, 2]]), "annotations 1: points are not up to 10,000"),
        (
            lambda d: d["annotations"][0].update(segmentation=[[1, 1, 2, 2]]),
            "annotations 1: segmentation has a polygon",
        ),
        (lambda d: d["annotations"][0].update(segmentation=[]), "annotations 1: points are not up to 10,000"),
        (
            lambda d: d["annotations"][0].update(segmentation={"size": [6, 8], "counts": [6, 12]}),
            "annotations 1: segmentation is no run lengths of 8x6 pixels",
        ),
        (
            lambda d: d["annotations"][0].update(segmentation={"size": [8, 6], "counts": [48]}),
            "annotations 1: segmentation is no run lengths of 8x6 pixels",
        ),
        (
            lambda d: d["annotations"][0].update(segmentation={"size": [6, 8], "counts": "nonsense"}),
            "annotations 1: segmentation is no run lengths of 8x6 pixels",
        ),
    ],
)
def test_what_is_wrong_with_coco_is_a_line(photo: Path, change: Callable[[dict[str, Any]], None], problem: str) -> None:
    document = coco([[1, 1, 5, 1, 5, 5]])
    change(document)
    assert problems(photo, document)[0].startswith(problem)


def test_several_examples_share_names_and_formats_are_not_mixed(tmp_path: Path) -> None:
    for name, labels in (("a", ("hat", "bag")), ("b", ("bag", "shoe"))):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / f"{name}.png")
        shapes = [(label, "rectangle", [[x, 0.0], [x, 5.0]]) for x, label in enumerate(labels)]
        (tmp_path / f"{name}.json").write_text(json.dumps(labelme(*shapes)))
    supports, masks = ([tmp_path / f"{name}.{kind}" for name in "ab"] for kind in ("png", "json"))
    (first, second), names = read_examples(supports, masks, {})
    assert names == {1: "hat", 2: "bag", 3: "shoe"}
    assert (first.numbers, second.numbers) == ((1, 2), (2, 3))
    Image.fromarray(first.mask).save(tmp_path / "m.png")
    with pytest.raises(OshpError, match="some masks are PNGs and some are JSON; give all in one format"):
        read_examples(supports, [tmp_path / "m.png", masks[1]], {})
    with pytest.raises(OshpError, match="2 supports and 1 masks; give a --mask for every --support, in order"):
        read_examples(supports, masks[:1], {})


def test_too_many_names_are_refused(photo: Path) -> None:
    shapes = [(f"class {number}", "rectangle", [[0.0, 0.0], [1.0, 1.0]]) for number in range(255)]
    with pytest.raises(OshpError, match="the masks have 255 classes; a mask has numbers for 254"):
        read(photo, labelme(*shapes))


def test_large_examples_are_shrunk_to_what_is_computed(tmp_path: Path) -> None:
    # 4,000,000 pixels at most: a tenth of 40 million, so each side is divided by the root of 10.
    assert computed_size(5000, 8000) == (round(5000 / 10**0.5), round(8000 / 10**0.5))
    assert computed_size(2000, 2000) == (2000, 2000)
    assert computed_size(1, 64_000_000) == (1, 16_000_000)
    mask = np.zeros((3000, 2000), np.uint8)
    mask[:1500], mask[1500:] = 4, IGNORE
    Image.fromarray(mask).save(tmp_path / "m.png")
    Image.fromarray(mask).save(tmp_path / "s.png")
    ((example,), _) = read_examples([tmp_path / "s.png"], [tmp_path / "m.png"], {})
    assert example.mask.shape == example.photo.shape[:2] == (2449, 1633)
    assert (example.mask == 4).mean() == pytest.approx(0.5, abs=1e-3)
    assert set(np.unique(example.mask).tolist()) == {4, IGNORE}
