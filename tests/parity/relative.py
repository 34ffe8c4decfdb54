"""Comparisons as PPNet's and PFENet's descriptions want them: relative to the largest value of a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from torch import Tensor, nn

from oshp_bench.baselines.backbones.resnet50 import our_name


@dataclass(frozen=True)
class Tolerances:
    """Relative to the largest recorded value of a tensor; `pixels` of the argmax at image size may differ."""

    values: float
    losses: float
    gradients: float
    statistics: float
    pixels: int


def near_map(name: str, got: Tensor, wanted: Mapping[str, Any], near: float) -> None:
    """Compares a map [N, C, h, w] with the part and the sums that were kept of it."""
    assert list(got.shape) == list(wanted["shape"]), name
    got, scale = got.detach().double(), _scale(wanted["values"], near)
    channels, step = wanted["channel_step"], wanted["spatial_step"]
    _within(f"{name} values", got[:, ::channels, ::step, ::step] - wanted["values"], scale)
    _within(f"{name} sums", got.sum((2, 3)) - wanted["chan_sum"], scale * got.shape[2] * got.shape[3])


def near_rows(name: str, got: Tensor, wanted: Mapping[str, Any], near: float) -> None:
    """Compares rows [n, C] with the part and the sums that were kept of them."""
    assert list(got.shape) == list(wanted["shape"]), name
    got, scale = got.detach().double(), _scale(wanted["values"], near)
    _within(f"{name} values", got[:, :: wanted["channel_step"]] - wanted["values"], scale)
    _within(f"{name} sums", got.sum(1) - wanted["row_sum"], scale * got.shape[1])


def near_tensor(name: str, got: Tensor, wanted: Tensor, near: float) -> None:
    """Compares a tensor that was kept whole."""
    assert got.shape == wanted.shape, name
    _within(name, got.detach().double() - wanted, _scale(wanted, near))


def near_statistics(backbone: nn.Module, wanted: Mapping[str, Any], prefix: str, near: float) -> None:
    """Compares what batch norm has learned: sums of all, some in full; the official names begin with a prefix."""
    state = backbone.state_dict()

    def statistics(name: str) -> list[Tensor]:
        ours = our_name(f"{name.removeprefix(prefix)}.")
        return [state[f"{ours}{kind}"].double() for kind in ("running_mean", "running_var")]

    for name, sums in wanted["sums"].items():
        for got, total in zip(statistics(name), sums, strict=True):
            assert got.sum().item() == pytest.approx(total, abs=near * max(1.0, abs(total))), name
    for name, tensors in wanted["full"].items():
        for got, tensor in zip(statistics(name), tensors, strict=True):
            near_tensor(name, got, tensor, near)


def _scale(wanted: Tensor, near: float) -> float:
    largest = wanted.abs().max().item()
    return near * largest if largest else 1e-12


def _within(name: str, difference: Tensor, most: float) -> None:
    assert difference.abs().max().item() <= most, f"{name}: off by {difference.abs().max().item():.3g}, not {most:.3g}"
