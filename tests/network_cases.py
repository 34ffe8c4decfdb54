"""Checkpoints of small networks with drawn weights, for tests of what is done with networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor, nn

from oshp_bench import Episodes, PredictionWriter, find_source
from oshp_bench.baselines.card import Card, TrainedOn
from oshp_bench.baselines.checkpoints import build_network, load_checkpoint, save_checkpoint
from oshp_bench.baselines.cli import main
from oshp_bench.baselines.eopnet.network import EOPNet
from oshp_bench.baselines.pieces.memory import MomentumPrototypes
from oshp_bench.baselines.use import Use, find_method
from oshp_bench.episodes.episodes import Way
from oshp_bench.errors import OshpError
from oshp_bench.manifest import Manifest, save_manifest

WIDTH = 8
# Enough pairs of several queries and classes; the others are made to look done.
TODO = tuple(range(0, 750, 19))


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
    network = build_network(card).eval()
    assert isinstance(network, EOPNet)
    learned = [each.id for each in card.manifest.classes if each.role == "base"] if card.manifest else []
    with torch.no_grad():
        features = network.encode(torch.rand(1, 3, 64, 64))
    _remember(network.memory, learned, features.fine)
    if network.coarse is not None:
        _remember(network.coarse.memory, [0, 1], features.coarse)
    save_checkpoint(path, card, network)
    return path


def write_files(folder: Path, manifest: Manifest) -> Path:
    """A folder with a manifest and checkpoints for both ways: k, k2 and 1."""
    save_manifest(manifest, folder / "tiny_fold1.json")
    save_drawn(folder / "k.safetensors", card_of(manifest, "k", test_side=40))
    save_drawn(folder / "k2.safetensors", card_of(manifest, "k", test_side=40), seed=2)
    save_drawn(folder / "1.safetensors", card_of(manifest, "1"))
    return folder


def refusals(path: Path) -> tuple[str, ...]:
    """The lines that a file is refused with; each names it and fits a line."""
    with pytest.raises(OshpError) as caught:
        load_checkpoint(path)
    assert all("\n" not in each and len(each) < 600 for each in caught.value.problems)
    assert caught.value.problems[0].startswith(str(path))
    return caught.value.problems


def begun(folder: Path, manifest: Manifest, root: Path, method: str | Path, way: Way, **use: Any) -> Path:
    """A folder in which all but the pairs of TODO look done, by this method."""
    recipe = find_method(str(method), Use(**use))
    writer = PredictionWriter(folder, manifest, recipe.name, way, recipe.about)
    (episode,) = Episodes(manifest.pairs, find_source(manifest.dataset, root), way, [1])
    writer.write(episode, np.zeros(episode.query_size, np.uint8))
    for index in set(range(750)) - {*TODO, 1}:
        (writer.folder / f"{index:04d}.png").touch()
    return folder


def predict(checkpoint: Path | str, folder: Path, files: Path, root: Path, *options: str) -> Result:
    arguments = [str(checkpoint), "--manifest", str(files / "tiny_fold1.json"), "--root", str(root), "-o", str(folder)]
    return CliRunner().invoke(main, [*arguments, *options])


def done(folder: Path, way: str) -> dict[int, bytes]:
    """The predictions of TODO that are there."""
    paths = {index: folder / f"{way}way" / f"{index:04d}.png" for index in TODO}
    return {index: path.read_bytes() for index, path in paths.items() if path.exists()}


def _remember(memory: nn.Module, rows: list[int], features: Tensor | None) -> None:
    if isinstance(memory, MomentumPrototypes) and features is not None:
        cells = features[0].flatten(1).T
        memory.rows[rows] = cells[torch.randperm(len(cells))[: len(rows)]]
