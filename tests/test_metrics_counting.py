"""Joint counts and run lengths against counting one pixel after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metrics_cases import mask_of

from oshp_bench.datasets.images import Mask
from oshp_bench.datasets.runs import label_counts, packed_changes, run_lengths, run_starts
from oshp_bench.metrics.confusion import prepare_truth

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


@given(seed=st.integers(0, 2**32), shape=SIZES, noisy=st.booleans())
def test_joint_counts_are_those_of_single_pixels(seed: int, shape: tuple[int, int], noisy: bool) -> None:
    truth, prediction = drawn(seed, shape, noisy)
    prepared = prepare_truth(truth, CLASS_IDS)
    counts = prepared.joint_counts(prediction)
    assert counts.dtype == np.int64
    assert counts.tolist() == counted_one_by_one(truth, prediction)
    assert prepared.row_counts.tolist() == [int((truth == each).sum()) for each in CLASS_IDS]


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
        part = prepare_truth(truth.reshape(1, -1)[:, mine], CLASS_IDS)
        total += part.joint_counts(prediction.reshape(1, -1)[:, mine])
    assert (total == prepare_truth(truth, CLASS_IDS).joint_counts(prediction)).all()


@given(seed=st.integers(0, 2**32), shape=SIZES, noisy=st.booleans())
def test_label_counts_are_those_of_single_pixels(seed: int, shape: tuple[int, int], noisy: bool) -> None:
    for mask in drawn(seed, shape, noisy):
        assert label_counts(mask).tolist() == np.bincount(mask.reshape(-1), minlength=256).tolist()


@pytest.mark.parametrize("size", [1, 7, 8, 9, 64, 1001])
def test_run_starts_and_lengths_of_masks_that_are_one_run_or_two(size: int) -> None:
    # All equal: one run. The last pixel differs: runs of size - 1 and 1. (A single group of eight is always "noise".)
    same = np.full(size, 9, np.uint8)
    last = same.copy()
    last[-1] = 4
    for flat, expected in ((same, [0]), (last, [0, size - 1] if size > 1 else [0])):
        starts = run_starts(packed_changes(flat))
        if size > 64:
            assert starts is not None
            assert starts.tolist() == expected
            assert run_lengths(starts, size).tolist() == np.diff([*expected, size]).tolist()
        assert label_counts(flat.reshape(1, -1)).tolist() == np.bincount(flat, minlength=256).tolist()


def test_noise_and_masks_take_their_own_ways() -> None:
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 3, 1003).astype(np.uint8)
    assert run_starts(packed_changes(noise)) is None
    mask = np.repeat(generator.integers(0, 3, 17), 59).astype(np.uint8)
    starts = run_starts(packed_changes(mask))
    assert starts is not None
    assert starts.tolist() == [0, *(np.flatnonzero(mask[1:] != mask[:-1]) + 1)]


def test_views_and_columns_are_counted_as_they_are_seen() -> None:
    truth = prepare_truth(mask_of("0 2, 3 7"), CLASS_IDS)
    flipped = np.asfortranarray(mask_of("0 1, 1 1"))[:, ::-1]
    counts = truth.joint_counts(flipped)
    assert counts[0, 1] == counts[1, 0] == counts[2, 1] == counts[3, 1] == 1
    assert counts.sum() == 4
