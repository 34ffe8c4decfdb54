"""Checkpoints of small networks with drawn weights, for tests of what is done with networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from oshp_bench.baselines.card import Card, TrainedOn
from oshp_bench.baselines.checkpoints import build, save_checkpoint
from oshp_bench.baselines.eopnet.network import EOPNet
from oshp_bench.baselines.pieces.prototypes import MomentumPrototypes
from oshp_bench.episodes.episodes import Way
from oshp_bench.manifest import Manifest

WIDTH = 8


def card_of(manifest: Manifest, way: Way = "k", **changes: Any) -> Card:
    """The card of an EOP-Net for a manifest's classes."""
    card = Card(
        method="eopnet",
        way=way,
        backbone="efficientnet-lite0",
        width=WIDTH,
        count=max(len(manifest.dataset.labels), max(manifest.class_ids) + 1),
        model={"parts": {"contrast": False}},
        manifest=TrainedOn.of(manifest),
        training={"epoch": 3},
    )
    return replace(card, **changes)


def save_drawn(path: Path, card: Card, seed: int = 1) -> Path:
    """Writes a checkpoint whose weights are drawn, the same for a seed; what it remembers are features of noise."""
    torch.manual_seed(seed)
    network = build(card).eval()
    assert isinstance(network, EOPNet)
    learned = [each.id for each in card.manifest.classes if each.role == "base"] if card.manifest else []
    with torch.no_grad():
        features = network.encode(torch.rand(1, 3, 64, 64))
    _remember(network.memory, learned, features.fine)
    if network.coarse is not None:
        _remember(network.coarse.memory, [0, 1], features.coarse)
    save_checkpoint(path, card, network)
    return path


def _remember(memory: nn.Module, rows: list[int], features: Tensor | None) -> None:
    if isinstance(memory, MomentumPrototypes) and features is not None:
        cells = features[0].flatten(1).T
        memory.rows[rows] = cells[torch.randperm(len(cells))[: len(rows)]]
