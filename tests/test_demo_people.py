"""The embedded dataset: the same on every machine, people of a piece, every label as often as it should be."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from oshp_bench.datasets import demo
from oshp_bench.datasets.demo import draw

pytestmark = pytest.mark.slow

Picture = tuple[NDArray[np.uint8], NDArray[np.uint8]]

GOLDEN = "e97ed40b80fab62edada0aabc9b06c1e85a3912a3f0699f6911ec01bdef19774"

# The labels of a kind, and the least and greatest share of pictures that hold 30 pixels of one of them.
SHARES = {
    "hat": ((1,), 0.25, 0.35),
    "hair": ((2,), 0.95, 1.0),
    "sunglasses": ((3,), 0.1, 0.2),
    "upper-clothes": ((4,), 0.6, 0.7),
    "skirt": ((5,), 0.25, 0.35),
    "pants": ((6,), 0.3, 0.4),
    "dress": ((7,), 0.25, 0.35),
    "belt": ((8,), 0.1, 0.2),
    "shoes": ((9, 10), 0.95, 1.0),
    "face": ((11,), 0.99, 1.0),
    "legs": ((12, 13), 0.6, 0.8),
    "arms": ((14, 15), 0.85, 1.0),
    "bag": ((16,), 0.4, 0.5),
    "scarf": ((17,), 0.08, 0.15),
}

# What rounds the same everywhere; numpy's sines, powers and float sums need not.
EXACT = {
    "add", "arange", "array", "bincount", "bool_", "clip", "concatenate", "cumsum", "empty", "float64", "floor",
    "int16", "int32", "int64", "int8", "maximum", "minimum", "ogrid", "pad", "repeat", "sqrt", "stack", "tile",
    "uint16", "uint8", "where", "zeros",
}  # fmt: skip


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return [draw(index) for index in range(400)]


@pytest.fixture(scope="module")
def counts(pictures: list[Picture]) -> NDArray[np.int64]:
    """How many pixels of each label each picture holds: int64 [400, 18]."""
    return np.stack([np.bincount(mask.ravel(), minlength=18) for _, mask in pictures])


def test_a_picture_is_a_photo_and_a_mask_of_one_size(pictures: list[Picture]) -> None:
    for photo, mask in pictures:
        height, width = mask.shape
        assert photo.shape == (height, width, 3)
        assert photo.dtype == mask.dtype == np.uint8
        assert 224 <= height <= 256
        assert 144 <= width <= 176
        assert mask.max() <= 17
    assert len({mask.shape for _, mask in pictures}) > 100


def test_an_index_always_gives_the_same_picture(pictures: list[Picture]) -> None:
    for index in (399, 7, 40, 7):
        photo, mask = draw(index)
        assert np.array_equal(photo, pictures[index][0])
        assert np.array_equal(mask, pictures[index][1])
        photo[:] = 0
        mask[:] = 0


def test_different_indices_give_different_pictures(pictures: list[Picture]) -> None:
    assert len({photo.tobytes() for photo, _ in pictures}) == 400
    assert len({mask.tobytes() for _, mask in pictures}) == 400


def test_the_first_pictures_are_the_published_ones(pictures: list[Picture]) -> None:
    digest = hashlib.sha256()
    for photo, mask in pictures[:20]:
        for array in (photo, mask):
            digest.update(repr(array.shape).encode() + array.tobytes())
    assert digest.hexdigest() == GOLDEN


def test_the_drawing_uses_only_arithmetic_that_rounds_the_same_everywhere() -> None:
    for path in sorted(Path(demo.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "np":
                assert node.attr in EXACT, f"{path.name}:{node.lineno}: np.{node.attr}"
            assert not isinstance(node, ast.Pow | ast.MatMult), path.name
            if isinstance(node, ast.Import):
                assert [name.name for name in node.names] == ["numpy"], path.name


@pytest.mark.parametrize("kind", SHARES)
def test_a_label_is_as_frequent_as_it_should_be(kind: str, counts: NDArray[np.int64]) -> None:
    labels, least, most = SHARES[kind]
    held: NDArray[np.bool_] = np.any(counts[:, labels] >= 30, axis=1)
    assert least <= held.mean() <= most
    for start in range(0, 400, 80):
        assert least - 0.07 <= held[start : start + 80].mean() <= most + 0.07


def test_everyone_wears_one_of_dress_skirt_and_pants_and_a_dress_alone(counts: NDArray[np.int64]) -> None:
    worn = counts > 0
    assert (np.sum(worn[:, 5:8], axis=1) == 1).all()
    assert np.array_equal(worn[:, 4], ~worn[:, 7])


def test_what_is_worn_is_large_enough_to_see(counts: NDArray[np.int64]) -> None:
    for label, pixels in ((1, 80), (3, 60), (4, 400), (6, 300), (7, 1000), (8, 80), (16, 150), (17, 300)):
        worn = counts[:, label]
        assert worn[worn > 0].min() >= pixels, label


@pytest.mark.parametrize(("left", "share"), [(9, 0.8), (12, 0.95), (14, 0.95)])
def test_the_left_side_is_on_the_right_of_the_picture(
    left: int, share: float, pictures: list[Picture], counts: NDArray[np.int64]
) -> None:
    """Legs may cross, so feet may change places; hands hardly ever do."""
    both = [mask for (_, mask), count in zip(pictures, counts, strict=True) if count[[left, left + 1]].min() >= 30]
    apart = [np.nonzero(mask == left)[1].mean() - np.nonzero(mask == left + 1)[1].mean() for mask in both]
    assert len(apart) > 200
    assert np.mean(np.array(apart) > 0) >= share


def test_the_body_is_in_order_from_top_to_bottom(pictures: list[Picture], counts: NDArray[np.int64]) -> None:
    for (_, mask), count in zip(pictures, counts, strict=True):
        rows = [np.nonzero(np.isin(mask, labels))[0] for labels in ((1,), (11,), (4, 7), (5, 6), (9, 10))]
        means = [row.mean() for row in rows if len(row)]
        assert means == sorted(means), count


def test_a_person_is_one_piece_and_fills_the_height(pictures: list[Picture]) -> None:
    for _, mask in pictures:
        pieces, _ = ndimage.label(mask > 0, np.ones((3, 3)))
        sizes = np.bincount(pieces.ravel())[1:]
        assert sizes.max() >= 0.99 * sizes.sum()
        rows = np.nonzero(mask.any(axis=1))[0]
        assert np.ptp(rows) >= 0.8 * len(mask)


def test_the_outline_can_be_seen(pictures: list[Picture]) -> None:
    """Most neighbours across the silhouette differ plainly in colour."""
    for photo, mask in pictures:
        person, colours = mask > 0, photo.astype(np.int64)
        border = person[:, 2:] != person[:, :-2]
        step = np.abs(colours[:, 2:] - colours[:, :-2]).sum(axis=2)
        assert np.mean(step[border] > 60) >= 0.65


def test_clothes_cannot_be_told_by_their_colour(pictures: list[Picture]) -> None:
    """Within each garment label, mean colours spread far wider than between the labels."""
    means = {label: [photo[mask == label].mean(axis=0) for photo, mask in pictures if (mask == label).any()]
             for label in (4, 5, 6, 7)}  # fmt: skip
    within = min(np.std(colours, axis=0).min() for colours in means.values())
    centres = np.array([np.mean(colours, axis=0) for colours in means.values()])
    assert np.ptp(centres, axis=0).max() < within
