"""Activations that training computes again in the backward pass instead of keeping them.

Most of the maps that a network keeps for its backward pass are the outputs of batch norm, ReLU and other cheap layers.
Computing those again costs little; no convolution runs twice. `recompute` switches this on for all Chains of a network.

torch.utils.checkpoint can do the same (selective checkpoint contexts that save convolutions), but its Python for each
operation costs a training step of small networks on a CPU about 10 % of its time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

_Function = Callable[..., Tensor]
# The attribute of modules that recompute.
_MARK = "recomputes"


def recompute(network: nn.Module) -> None:
    """Has a network's chains and heads compute cheap activations again in training; no number changes."""
    for module in network.modules():
        setattr(module, _MARK, True)


def recomputes(module: nn.Module) -> bool:
    """Whether `recompute` was called for a network with this module."""
    return getattr(module, _MARK, False)


class Chain(nn.Sequential):
    """Layers one after the other; where its first layer recomputes, it keeps of them what convolutions wrote.

    It need not be a part of a network itself: it may be made of a network's layers when they are applied.
    """

    def forward(self, features: Tensor) -> Tensor:
        layers = list(_leaves(self))
        if not recomputes(layers[0]):
            return _applied(layers, features)
        start = 0
        for end, layer in enumerate(layers, 1):
            if isinstance(layer, nn.Conv2d):
                group = layers[start:end]
                features = recomputed(group, features) if len(group) > 1 else layer(features)
                start = end
        return _applied((_same, *layers[start:]), features)


def recomputed(layers: Sequence[_Function], *inputs: Tensor) -> Tensor:
    """Applies layers, and keeps of all their activations the inputs alone.

    A convolution at the end is not applied again, as nothing needs its output. Layers may not draw random numbers.

    Args:
        layers: the first takes the inputs, every other one the output of the one before it.
    """
    if not torch.is_grad_enabled():
        return _applied(layers, *inputs)
    again = _Again(layers, inputs)
    with saved_tensors_hooks(again.drop, again.give):
        return _applied(layers, *inputs)


class _Enough(Exception):
    """Everything that was dropped is there again."""


class _Again:
    """The tensors that autograd would keep of some layers: dropped, and computed again when one is asked for."""

    def __init__(self, layers: Sequence[_Function], inputs: Sequence[Tensor]) -> None:
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
        # With the same need of gradients autograd keeps the same.
        inputs = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in self._inputs]
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
def _unlearning(layers: Sequence[_Function]) -> Iterator[None]:
    """Keeps batch norm from learning a batch twice."""
    norms = [layer for layer in layers if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    learned = [dict(norm.named_buffers(recurse=False)) for norm in norms]
    try:
        for norm, buffers in zip(norms, learned, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer.clone())
        yield
    finally:
        for norm, buffers in zip(norms, learned, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)


def _leaves(layers: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """Layers, with those of chains among them apart; what does more than chain its layers stays whole."""
    for layer in layers:
        if type(layer).forward is Chain.forward:
            yield from _leaves(layer)  # type: ignore[arg-type]
        else:
            yield layer


def _applied(layers: Sequence[_Function], *inputs: Tensor) -> Tensor:
    first, *others = layers
    out = first(*inputs)
    for layer in others:
        out = layer(out)
    return out


def _same(tensor: Tensor) -> Tensor:
    return tensor
