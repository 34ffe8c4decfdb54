"""Joint counts and run lengths against counting one pixel after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metrics_cases import mask_of

from oshp_bench.datasets.images import Mask
from oshp_bench.datasets.runs import column_changes, label_counts, weighted_pixels
from oshp_bench.metrics.confusion import Counts, prepare_truth

CLASS_IDS = (0, 2, 3, 7, 200)
SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def blocks(generator: np.random.Generator, shape: tuple[int, int], labels: tuple[int, ...]) -> Mask:
    """A mask of a few rectangles, long runs as in a real one."""
    mask = np.zeros(shape, np.uint8)
    for _ in range(6):
        (top, bottom), (left, right) = (sorted(generator.integers(0, size + 1, 2)) for size in shape)
        mask[top:bottom, left:right] = generator.choice(labels)
    return mask


def drawn(seed: int, shape: tuple[int, int], noisy: bool) -> tuple[Mask, Mask]:
    """A truth with ignored pixels and a prediction of any number."""
    generator = np.random.default_rng(seed)
    if noisy:
        truth = generator.choice([*CLASS_IDS, 255], shape).astype(np.uint8)
        return truth, generator.integers(0, 256, shape).astype(np.uint8)
    return blocks(generator, shape, (*CLASS_IDS, 255)), blocks(generator, shape, tuple(range(256)))


def counted_one_by_one(truth: Mask, prediction: Mask) -> list[list[int]]:
    counts = [[0] * 256 for _ in range(len(CLASS_IDS) + 1)]
    rows = {class_id: row for row, class_id in enumerate((*CLASS_IDS, 255))}
    for true, predicted in zip(truth.reshape(-1).tolist(), prediction.reshape(-1).tolist(), strict=True):
        counts[rows[true]][predicted] += 1
    return counts


def joint_counts(truth: Mask, prediction: Mask) -> Counts:
    """Pixels by truth and predicted number: [classes + 1, 256]; the last row is ignored pixels."""
    tally = prepare_truth(truth, CLASS_IDS).tally(prediction)
    assert np.unique(tally.numbers).tolist() == np.unique(prediction).tolist()
    counts = np.zeros((len(CLASS_IDS) + 1, 256))
    np.add.at(counts, (tally.rows, tally.numbers), tally.weights)
    assert (counts == counts.astype(np.int64)).all()
    return counts.astype(np.int64)


@given(seed=st.integers(0, 2**32), shape=SIZES, noisy=st.tuples(st.booleans(), st.booleans()))
def test_joint_counts_are_those_of_single_pixels(seed: int, shape: tuple[int, int], noisy: tuple[bool, bool]) -> None:
    truth, prediction = drawn(seed, shape, noisy[0])[0], drawn(seed, shape, noisy[1])[1]
    assert joint_counts(truth, prediction).tolist() == counted_one_by_one(truth, prediction)
    row_counts = prepare_truth(truth, CLASS_IDS).row_counts
    assert row_counts.dtype == np.int64
    assert row_counts.tolist() == [int((truth == each).sum()) for each in CLASS_IDS]


@given(seed=st.integers(0, 2**32), shape=SIZES, noisy=st.booleans(), pieces=st.integers(1, 7))
def test_any_partition_of_the_pixels_in_any_order_gives_the_same_counts(
    seed: int, shape: tuple[int, int], noisy: bool, pieces: int
) -> None:
    truth, prediction = drawn(seed, shape, noisy)
    generator = np.random.default_rng(seed)
    order = generator.permutation(truth.size)
    piece_of = generator.integers(0, pieces, truth.size)
    total = np.zeros((len(CLASS_IDS) + 1, 256), np.int64)
    for piece in range(pieces):
        mine = order[piece_of[order] == piece]
        # As a column and as a row: counted by runs and by the last row alone.
        for form in ((-1, 1), (1, -1)):
            total += joint_counts(truth.reshape(-1)[mine].reshape(form), prediction.reshape(-1)[mine].reshape(form))
    assert (total == 2 * joint_counts(truth, prediction)).all()


@given(seed=st.integers(0, 2**32), shape=SIZES, noisy=st.booleans())
def test_label_counts_are_those_of_single_pixels(seed: int, shape: tuple[int, int], noisy: bool) -> None:
    for mask in drawn(seed, shape, noisy):
        assert label_counts(mask).tolist() == np.bincount(mask.reshape(-1), minlength=256).tolist()


@given(seed=st.integers(0, 2**32), shape=SIZES)
def test_changes_are_where_the_pixel_below_differs(seed: int, shape: tuple[int, int]) -> None:
    mask = drawn(seed, shape, noisy=False)[0]
    changes = column_changes(mask)
    if changes is not None:
        assert changes.tolist() == np.flatnonzero(mask[:-1] != mask[1:]).tolist()


@pytest.mark.parametrize("height", [1, 2, 7, 8, 9, 64, 1001])
def test_masks_of_one_column(height: int) -> None:
    # All equal; the last pixel differs; one in the middle differs.
    for odd in ((), (height - 1,), (height // 2,)):
        mask = np.full((height, 1), 9, np.uint8)
        mask[list(odd)] = 4
        assert label_counts(mask).tolist() == np.bincount(mask.reshape(-1), minlength=256).tolist()


def test_weights_of_pixels_by_hand() -> None:
    mask = mask_of("3 3 5, 3 7 5, 3 7 3")
    # Below row 0 of the middle column 3 becomes 7, below row 1 of the last one 5 becomes 3.
    positions, weights = weighted_pixels((3, 3), np.array([1, 5]))
    assert positions.tolist() == [6, 7, 8, 1, 5, 4, 8]
    assert weights.tolist() == [3, 3, 3, 1, 2, -1, -2]
    assert [int(weights[mask.reshape(-1)[positions] == label].sum()) for label in (3, 5, 7)] == [5, 2, 2]


def test_noise_and_masks_take_their_own_ways() -> None:
    generator = np.random.default_rng(0)
    assert column_changes(generator.integers(0, 3, (59, 17)).astype(np.uint8)) is None
    mask = np.repeat(generator.integers(0, 3, (9, 17)), 59, axis=0).astype(np.uint8)
    changes = column_changes(mask)
    assert changes is not None
    assert changes.tolist() == np.flatnonzero(mask[:-1] != mask[1:]).tolist()


def test_views_are_counted_as_they_are_seen() -> None:
    for size in (1, 40):
        truth = mask_of("0 2, 3 7").repeat(size, 0)
        flipped = np.asfortranarray(mask_of("0 1, 1 1").repeat(size, 0))[:, ::-1]
        counts = joint_counts(truth[::-1, :], flipped)
        assert counts[0, 1] == counts[1, 1] == counts[2, 1] == counts[3, 0] == size
        assert counts.sum() == 4 * size
