"""Losses that methods share, by hand; and which methods weigh the foreground, in which way."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from eopnet_cases import COUNT, Strided, batch

from oshp_bench.baselines.contract import Labels, LearnedMethod, Progress
from oshp_bench.baselines.pieces.losses import cross_entropy
from oshp_bench.baselines.popnet import POPNet, POPNetSettings
from oshp_bench.baselines.sg_one import SGOne, SGOneSettings
from oshp_bench.datasets.images import IGNORE
from oshp_bench.episodes.episodes import WAYS, Way

SECOND = Progress(10, 50, 0, 100, stage=1)


def test_foreground_counts_as_often_as_it_is_told() -> None:
    # Equal logits cost log 2 a pixel. Of three counted pixels one is foreground: (1 + 1 + 5) log 2 / 3.
    logits, truth = torch.zeros(1, 2, 2, 2), torch.tensor([[[0, 0], [1, IGNORE]]])
    assert cross_entropy(logits, truth).item() == pytest.approx(math.log(2))
    assert cross_entropy(logits, truth, 5.0).item() == pytest.approx(7 / 3 * math.log(2))
    assert cross_entropy(logits, torch.full_like(truth, IGNORE), 5.0).item() == 0


@pytest.mark.parametrize(("method", "settings"), [(SGOne, SGOneSettings), (POPNet, POPNetSettings)])
@pytest.mark.parametrize("way", WAYS)
def test_only_one_way_weighs_the_foreground(method: type[LearnedMethod], settings: Any, way: Way) -> None:
    losses = []
    for factor in (1.0, 3.0):
        torch.manual_seed(1)
        made = method.build(Strided(), Labels(COUNT), way, replace(settings(), foreground=factor))
        losses.append(sum(value.item() for value in made(batch(way), SECOND).values()))
    assert (losses[1] > losses[0]) == (way == "1")
    assert way == "1" or losses[0] == losses[1]


def test_popnet_may_start_as_the_eopnet_paper_does() -> None:
    drawn, sharp = (
        POPNet(Strided(), Labels(COUNT), "1", POPNetSettings(drawn=value)).npm.state_dict() for value in (True, False)
    )
    assert {name: tensor.item() for name, tensor in sharp.items()} == {
        "foreground.weight": 10.0,
        "foreground.bias": 0.0,
        "background.weight": 10.0,
        "background.bias": 0.0,
    }
    assert drawn["scaler"].item() == 10.0
