import copy
import gc
import warnings

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from oshp_bench.baselines.backbones import build_backbone
from oshp_bench.baselines.backbones.layers import SeparableConv
from oshp_bench.baselines.pieces.recompute import recompute


def tensors() -> int:
    gc.collect()
    with warnings.catch_warnings():
        # Among all objects are deprecated ones that warn when they are looked at.
        warnings.simplefilter("ignore")
        return sum(isinstance(each, Tensor) for each in gc.get_objects())


@pytest.mark.slow
def test_steps_leave_no_activation_behind() -> None:
    conv, features = SeparableConv(3, 4, activate=True), torch.rand(2, 3, 8, 8, requires_grad=True)
    recompute(conv)
    held = []
    for _ in range(3):
        torch.autograd.backward(conv(features).sum())
        held.append(tensors())
    assert held == [held[0]] * 3


def trained(name: str, recomputing: bool) -> tuple[list[Tensor], dict[str, Tensor], int]:
    """Gradients and buffers after a step of a backbone, and the bytes that were kept for its backward pass."""
    torch.manual_seed(0)
    backbone = build_backbone(name, pretrained=False).train()
    if recomputing:
        recompute(backbone)
    # A copy recomputes as the original does.
    backbone = copy.deepcopy(backbone)
    own = {tensor.data_ptr() for tensor in (*backbone.parameters(), *backbone.buffers())}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        loss = backbone(torch.rand(2, 3, 32, 32)).square().mean()
    torch.autograd.backward(loss)
    gradients = [parameter.grad for parameter in backbone.parameters() if parameter.grad is not None]
    return gradients, dict(backbone.named_buffers()), sum(kept.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet-lite0", "xception65", "resnet50"])
def test_a_backbone_keeps_less_and_learns_the_same(name: str) -> None:
    (ours, buffers, less), (theirs, others, more) = (trained(name, recomputing) for recomputing in (True, False))
    assert len(ours) == len(theirs) > 50
    assert all(torch.equal(mine, other) for mine, other in zip(ours, theirs, strict=True))
    assert all(torch.equal(tensor, others[buffer]) for buffer, tensor in buffers.items())
    assert less < 0.8 * more
