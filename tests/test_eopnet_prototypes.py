"""Prototypes, cosines and the momentum memory, by hand."""

from __future__ import annotations

from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from eopnet_cases import batch
from torch import Tensor, distributed

from oshp_bench.baselines.pieces.memory import MomentumPrototypes
from oshp_bench.baselines.pieces.prototypes import (
    EMPTY,
    asked_classes,
    channels,
    class_weights,
    pooled,
    present_classes,
    similarity,
    to_grid,
)
from oshp_bench.baselines.pieces.released import ReleasedMomentumPrototypes


def test_masks_come_to_the_grid_by_the_pixel_at_i_times_h_over_cells() -> None:
    # H = 5 in ceil(5 / 4) = 2 cells: rows 0 * 5 // 2 = 0 and 1 * 5 // 2 = 2; W = 4 in 1 cell: column 0.
    mask = torch.arange(20).view(1, 5, 4)
    assert to_grid(mask, (2, 1)).tolist() == [[[0], [8]]]


def test_classes_of_a_batch_are_listed_and_padded() -> None:
    masks = torch.tensor([[[0, 7, 255], [2, 7, 0]], [[0, 0, 255], [4, 0, 0]], [[0, 0, 0], [0, 0, 255]]])
    assert present_classes(masks).tolist() == [[2, 7], [4, EMPTY], [EMPTY, EMPTY]]
    assert present_classes(masks[2:]).tolist() == [[EMPTY]]


def test_the_classes_of_a_batch_are_those_drawn_for_or_those_shown() -> None:
    k_way, one_way = batch(), batch("1")
    assert asked_classes(k_way, (8, 8)).tolist() == [[1, 2, 7, EMPTY], [1, 2, 3, 7]]
    assert asked_classes(one_way, (8, 8)).tolist() == [[2], [7]]
    drawn = torch.tensor([[1, 2, 7], [2, EMPTY, EMPTY]])
    assert torch.equal(asked_classes(replace(k_way, support_targets=drawn), (8, 8)), drawn)


def test_channels_by_hand() -> None:
    masks = torch.tensor([[[0, 7, 255], [2, 7, 4]], [[0, 2, 255], [4, 4, 0]]])
    ids = torch.tensor([[7, 2], [4, EMPTY]])
    assert channels(masks, ids, ids > EMPTY).tolist() == [[[0, 1, 255], [2, 1, 0]], [[0, 0, 255], [1, 1, 0]]]
    # The first sample's support lacks class 7.
    present = torch.tensor([[False, True], [True, False]])
    assert channels(masks, ids, present).tolist() == [[[0, 0, 255], [2, 0, 0]], [[0, 0, 255], [1, 1, 0]]]


def test_a_static_prototype_is_the_mean_over_its_pixels() -> None:
    features = torch.tensor([[[[1.0, 2.0], [3.0, 10.0]], [[0.0, 4.0], [8.0, 6.0]]]])
    mask = torch.tensor([[[3, 3], [0, 255]]])
    vectors, present = pooled(features, class_weights(mask, torch.tensor([[3, 0, 5, EMPTY]])))
    # Class 3 has the first two pixels: (1 + 2) / 2 and (0 + 4) / 2; background the third; 255 belongs to nobody.
    assert vectors.tolist() == [[[1.5, 2.0], [3.0, 8.0], [0.0, 0.0], [0.0, 0.0]]]
    assert present.tolist() == [[True, True, False, False]]


def test_similarity_is_the_cosine_and_0_with_a_zero_prototype() -> None:
    features = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    vectors = torch.tensor([[[2.0, 0.0], [-3.0, -4.0], [4.0, -3.0], [0.0, 0.0]]])
    # (3 * 2 + 4 * 0) / (5 * 2) = 0.6; opposite -1; orthogonal 0; zero 0.
    assert similarity(features, vectors).flatten().tolist() == pytest.approx([0.6, -1.0, 0.0, 0.0], abs=1e-6)


def test_half_precision_features_are_pooled_in_full_precision() -> None:
    features = torch.full((1, 1, 64, 64), 1.0)
    features[0, 0, 0, 0] = 100.0
    half = features.bfloat16()
    vectors, _ = pooled(half, torch.ones(1, 1, 64, 64))
    assert vectors.dtype == torch.float32
    # 4,095 ones and a hundred; a sum in bfloat16 would stop growing at 256.
    assert vectors.item() == pytest.approx((4095 + 100) / 4096, rel=1e-6)


def memory_with(
    rows: dict[int, float], alpha: float = 0.9, kind: type[MomentumPrototypes] = MomentumPrototypes
) -> MomentumPrototypes:
    memory = kind(4, 1, alpha)
    for row, value in rows.items():
        memory.rows[row] = value
    return memory


def column(*values: float) -> Tensor:
    return torch.tensor(values)[:, None, None]


def test_memory_goes_through_the_samples_of_a_batch_in_order() -> None:
    memory = memory_with({1: 10.0})
    static, ids = column(20.0, 40.0, 7.0), torch.tensor([[1], [1], [2]])
    used, present = memory(static, torch.ones(3, 1, dtype=torch.bool), ids, False)
    # Class 1: 0.9 * 10 + 0.1 * 20 = 11, then 0.9 * 11 + 0.1 * 40 = 13.9; class 2 is new and starts with its own.
    assert used.flatten().tolist() == pytest.approx([11.0, 13.9, 7.0])
    assert memory.rows.flatten().tolist() == pytest.approx([0.0, 13.9, 7.0, 0.0])
    assert present.all()


def test_the_gradient_flows_through_the_static_part_alone() -> None:
    memory = memory_with({1: 10.0})
    static = column(20.0, 40.0).requires_grad_()
    used, _ = memory(static, torch.ones(2, 1, dtype=torch.bool), torch.tensor([[1], [1]]), False)
    torch.autograd.backward(used.sum())
    # What the second sample meets of the first is a stored number, not a function of it.
    assert static.grad is not None
    assert static.grad.flatten().tolist() == pytest.approx([0.1, 0.1])
    assert not memory.rows.requires_grad


def test_warm_up_uses_and_stores_static_prototypes() -> None:
    memory = memory_with({1: 10.0})
    used, _ = memory(column(20.0, 40.0), torch.ones(2, 1, dtype=torch.bool), torch.tensor([[1], [1]]), True)
    assert used.flatten().tolist() == [20.0, 40.0]
    assert memory.rows.flatten().tolist() == [0.0, 40.0, 0.0, 0.0]


def test_absent_and_empty_slots_are_neither_stored_nor_recalled_in_training() -> None:
    memory = memory_with({1: 10.0})
    ids = torch.tensor([[1, EMPTY]])
    vectors, _ = memory(torch.tensor([[[5.0], [6.0]]]), torch.tensor([[False, False]]), ids, False)
    assert not vectors.any()
    assert memory.rows.flatten().tolist() == [0.0, 10.0, 0.0, 0.0]


def test_a_class_without_a_row_is_static_and_never_stored() -> None:
    memory = memory_with({3: 10.0})
    static = torch.tensor([[[20.0], [5.0]], [[40.0], [7.0]]])
    used, present = memory(static, torch.tensor([[True, True], [True, False]]), torch.tensor([[3, 4], [3, 9]]), False)
    # Class 3: 0.9 * 10 + 0.1 * 20 = 11, then 0.9 * 11 + 0.1 * 40 = 13.9. There are rows below 4 alone.
    assert used.flatten().tolist() == pytest.approx([11.0, 5.0, 13.9, 0.0])
    assert present.tolist() == [[True, True], [True, False]]
    assert memory.rows.flatten().tolist() == pytest.approx([0.0, 0.0, 0.0, 13.9])


def test_at_test_a_stored_prototype_stands_for_its_class_and_a_novel_class_is_static() -> None:
    memory = memory_with({1: 10.0, 3: 30.0}).eval()
    ids = torch.tensor([[1, 2, 3, EMPTY]])
    static, present = torch.tensor([[[20.0], [5.0], [0.0], [0.0]]]), torch.tensor([[True, True, False, False]])
    used, known = memory(static, present, ids, False)
    assert used.flatten().tolist() == [10.0, 5.0, 30.0, 0.0]
    assert known.tolist() == [[True, True, True, False]]
    assert memory.rows.flatten().tolist() == [0.0, 10.0, 0.0, 30.0]


def test_the_release_mixes_at_test_and_drops_what_the_support_lacks() -> None:
    memory = memory_with({1: 10.0, 3: 30.0}, kind=ReleasedMomentumPrototypes).eval()
    static, present = torch.tensor([[[20.0], [5.0], [0.0]]]), torch.tensor([[True, True, False]])
    used, known = memory(static, present, torch.tensor([[1, 2, 3]]), False)
    assert used.flatten().tolist() == pytest.approx([11.0, 5.0, 0.0])
    assert torch.equal(known, present)


def episodes(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    ids = torch.stack([torch.randperm(3, generator=generator)[:2] + 1 for _ in range(4)])
    return torch.rand(4, 2, 5, generator=generator), torch.rand(4, 2, generator=generator) < 0.8, ids


def _one_of_two(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    memory, generator, mine = (
        MomentumPrototypes(4, 5, 0.9),
        torch.Generator().manual_seed(3),
        slice(2 * rank, 2 * rank + 2),
    )
    used = [memory(*(each[mine] for each in episodes(generator)), step == 0)[0] for step in range(3)]
    torch.save((memory.rows, used), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_remember_what_one_does(tmp_path: Path) -> None:
    started = [get_context("spawn").Process(target=_one_of_two, args=(rank, str(tmp_path))) for rank in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join()
        assert process.exitcode == 0
    memory, generator = MomentumPrototypes(4, 5, 0.9), torch.Generator().manual_seed(3)
    used = [memory(*episodes(generator), step == 0)[0] for step in range(3)]
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for rows, _ in parts:
        assert torch.equal(rows, memory.rows)
    for step, whole in enumerate(used):
        assert torch.equal(torch.cat([part[1][step] for part in parts]), whole)
