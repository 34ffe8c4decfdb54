"""Reads files of recorded numbers and compares tensors with what they keep."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

# The names under which the files keep a part of a tensor, its channels, and its step over rows and columns.
_PARTS = ("stride2", "sub", "values")
_STEPS = ("stride", "spatial_step")


@dataclass(frozen=True)
class Recorded:
    """One file of recorded numbers.

    Attributes:
        path: the file; weights.py and recipe2.py lie beside it.
        numbers: what torch.load gives for it.
    """

    path: Path
    numbers: Mapping[str, Any]

    @property
    def method(self) -> str:
        """The name of the method and of its module here."""
        return str(self.numbers["method"]).lower()

    @property
    def cases(self) -> dict[str, Mapping[str, Any]]:
        """The cases by name."""
        return {case["name"]: case for case in self.numbers["cases"]}

    def state(self, recipe: str = "weights") -> dict[str, Tensor]:
        """The weights, float32, under the official names; a copy that may be trained.

        Args:
            recipe: "weights" or "recipe2": the script that the method's description names.
        """
        return {name: tensor.clone() for name, tensor in _state(self.path, recipe).items()}


@cache
def read(path: Path) -> Recorded:
    """Reads a file; it is kept."""
    return Recorded(path, torch.load(path, weights_only=True))


# Building weights takes longer than many a case; the cases of one file follow one another.
@lru_cache(maxsize=1)
def _state(path: Path, recipe: str) -> dict[str, Tensor]:
    numbers, script = read(path).numbers, _script(path.with_name(f"{recipe}.py"))
    seed = (numbers["settings"]["seed"],) if recipe == "recipe2" else ()
    state: dict[str, Tensor] = script.build_state(numbers["shapes"], numbers["stored"], *seed)
    assert script.digest(state) == numbers["state_sha256"]
    return state


@cache
def _script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"parity_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def photo(recorded: Tensor, precision: torch.dtype) -> Tensor:
    """A recorded uint8 picture as methods take it: 0..1 in a precision."""
    return recorded.to(precision) / 255


def assert_near(name: str, got: Tensor, wanted: Tensor | Mapping[str, Any], near: float, sums: float = 0.0) -> None:
    """Compares a tensor with a recorded one, or with the part that was kept of it.

    Args:
        got: [..., C, h, w] where `wanted` is a part.
        wanted: a tensor of the same shape; or some channels, rows and columns of one, with its sums.
        near: the largest absolute difference.
        sums: the same of the sums over all rows and columns, as a part of max(1, |sum|), or of the number of pixels
            where sums of squares are kept too; 0 takes `near`.
    """
    if isinstance(wanted, Tensor):
        assert got.shape == wanted.shape, f"{name}: {tuple(got.shape)}, not {tuple(wanted.shape)}"
        _assert_within(name, (got.detach().double() - wanted.double()).abs(), near)
        return
    if "shape" in wanted:
        assert list(got.shape) == list(wanted["shape"]), f"{name}: {tuple(got.shape)}, not {wanted['shape']}"
    got = got.detach().double()
    step = next((wanted[key] for key in _STEPS if key in wanted), 2)
    channels = wanted.get("channels", range(0, got.shape[-3], wanted.get("channel_step", 1)))
    for part in _PARTS:
        if part in wanted:
            assert_near(f"{name} {part}", got[..., list(channels), ::step, ::step], wanted[part], near)
    for part, values in (("chan_sum", got), ("chan_sq", got.square())):
        if part in wanted:
            difference = (values.sum((-2, -1)) - wanted[part]).abs()
            # recipe2.py, which keeps squares too, divides by the number of pixels.
            pixels = got.shape[-2] * got.shape[-1]
            whole = pixels if "chan_sq" in wanted else wanted[part].abs().clamp(min=1)
            _assert_within(f"{name} {part}", difference / whole, sums or near)


def _assert_within(name: str, difference: Tensor, near: float) -> None:
    if difference.numel():
        assert difference.max().item() <= near, f"{name}: off by {difference.max().item():.3g}, more than {near:.3g}"


def assert_norms(
    wanted: Mapping[str, float], gradients: Mapping[str, Tensor | None], near: float, least: float
) -> None:
    """Compares the L2 norms of gradients with recorded ones, relative to these.

    Args:
        gradients: by the official names of their parameters.
        least: smaller recorded norms are not compared.
    """
    for name, norm in wanted.items():
        gradient = gradients[name]
        ours = 0.0 if gradient is None else gradient.norm().item()
        if norm > least:
            assert ours == pytest.approx(norm, rel=near), f"gradient of {name}"
