"""Activations that training computes again in the backward pass instead of keeping them.

Of the maps that a network keeps for its backward pass most are what batch norm, ReLU and other cheap layers wrote for
the convolution behind them. Computing those again costs little, and no convolution twice.

torch.utils.checkpoint does the same with about a millisecond of Python a call, which is too much for pieces as small
as these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

Layer = Callable[..., Tensor]


def chained(layers: Sequence[nn.Module], features: Tensor, recompute: bool) -> Tensor:
    """Applies layers one after the other.

    Args:
        recompute: keeps of a convolution what it wrote, but not what the layers between it and the next one make of
            it.
    """
    start = 0
    for end, layer in enumerate(layers, 1):
        if isinstance(layer, nn.Conv2d):
            group = layers[start:end]
            features = recomputed(group, features) if recompute and len(group) > 1 else _applied(group, features)
            start = end
    return _applied((_same, *layers[start:]), features)


def recomputed(layers: Sequence[Layer], *inputs: Tensor) -> Tensor:
    """Applies layers, and keeps of all their activations the inputs alone.

    A convolution at the end is not applied again, as nothing needs its output. Layers may not draw random numbers.

    Args:
        layers: the first takes the inputs, each other what the one before it gave.
    """
    if not torch.is_grad_enabled():
        return _applied(layers, *inputs)
    again = _Again(layers, inputs)
    with saved_tensors_hooks(again.drop, again.give):
        return _applied(layers, *inputs)


class _Enough(Exception):
    """Everything that was dropped is there again."""


class _Again:
    """What autograd would keep of some layers: dropped by number, and given again by number."""

    def __init__(self, layers: Sequence[Layer], inputs: Sequence[Tensor]) -> None:
        self._layers = layers
        self._inputs = inputs
        self._dropped = 0
        self._found: dict[int, Tensor] = {}
        kind = inputs[0].device.type
        self._autocast = kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)

    def drop(self, _: Tensor) -> int:
        self._dropped += 1
        return self._dropped - 1

    def give(self, number: int) -> Tensor:
        if number not in self._found:
            self._apply_again()
        return self._found.pop(number)

    def _apply_again(self) -> None:
        self._found = {}
        # The same need of gradients, so that autograd wants to keep the same.
        inputs = [each.detach().requires_grad_(each.requires_grad) for each in self._inputs]
        with (
            torch.enable_grad(),
            torch.autocast(*self._autocast),
            _unlearning(self._layers),
            saved_tensors_hooks(self._find, _same),
            suppress(_Enough),
        ):
            _applied(self._layers, *inputs)

    def _find(self, tensor: Tensor) -> None:
        """Keeps nothing of the graph itself: an output that its own node holds would never be freed."""
        self._found[len(self._found)] = tensor.detach()
        if len(self._found) == self._dropped:
            raise _Enough


@contextmanager
def _unlearning(layers: Sequence[Layer]) -> Iterator[None]:
    """Keeps batch norm from learning a batch twice."""
    norms = [each for each in layers if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    learned = [dict(each.named_buffers(recurse=False)) for each in norms]
    try:
        for norm, buffers in zip(norms, learned, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer.clone())
        yield
    finally:
        for norm, buffers in zip(norms, learned, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)


def _applied(layers: Sequence[Layer], *inputs: Tensor) -> Tensor:
    first, *others = layers
    out = first(*inputs)
    for layer in others:
        out = layer(out)
    return out


def _same(tensor: Tensor) -> Tensor:
    return tensor
