import gc
import warnings

import torch
from torch import Tensor

from oshp_bench.baselines.backbones.layers import SeparableConv
from oshp_bench.baselines.pieces.recompute import recompute


def tensors() -> int:
    gc.collect()
    with warnings.catch_warnings():
        # Among all objects are deprecated ones that warn when they are looked at.
        warnings.simplefilter("ignore")
        return sum(isinstance(each, Tensor) for each in gc.get_objects())


def test_steps_leave_no_activation_behind() -> None:
    conv, features = SeparableConv(3, 4, activate=True), torch.rand(2, 3, 8, 8, requires_grad=True)
    recompute(conv)
    held = []
    for _ in range(3):
        torch.autograd.backward(conv(features).sum())
        held.append(tensors())
    assert held == [held[0]] * 3
