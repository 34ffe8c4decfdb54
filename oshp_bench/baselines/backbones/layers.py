"""The convolutions that backbones and heads are made of."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from oshp_bench.baselines.pieces.recompute import chained


class Backbone(nn.Module):
    """Turns RGB photos in 0..1, float [N, 3, H, W], into features [N, width, ceil(H/4), ceil(W/4)].

    It normalises its input itself.

    Attributes:
        width: the channels of its features.
        recompute: training computes cheap activations again instead of keeping them; no number changes.
    """

    width: int
    recompute: bool = False

    def levels(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What the pretrained layers alone give, without the neck: features at stride 4 and at stride 16."""
        raise NotImplementedError


class SeparableConv(nn.Module):
    """Depthwise 3x3 and pointwise 1x1 convolution, no bias, each with batch norm (eps 1e-5).

    Args:
        activate: ReLU after each batch norm (SepR); without it there is none (Sep).
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1, activate: bool = False) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, dilation, dilation, groups=inputs, bias=False)
        self.depthwise_bn = nn.BatchNorm2d(inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.pointwise_bn = nn.BatchNorm2d(outputs)
        self.activation: nn.Module = nn.ReLU(inplace=True) if activate else nn.Identity()

    def layers(self) -> tuple[nn.Module, ...]:
        """Its layers in order."""
        between = self.activation
        return self.depthwise, self.depthwise_bn, between, self.pointwise, self.pointwise_bn, between

    def forward(self, features: Tensor, recompute: bool = False) -> Tensor:
        """[N, inputs, h, w] -> [N, outputs, ceil(h / stride), ceil(w / stride)]."""
        return chained(self.layers(), features, recompute)


def upsampled(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Brings [N, C, h, w] to another size, bilinear with aligned corners: [N, C, *size]."""
    return functional.interpolate(features, size, mode="bilinear", align_corners=True)


def kaiming(module: nn.Module) -> None:
    """Draws every convolution's weight of a module: Kaiming normal over the inputs; batch norm starts as identity."""
    for each in module.modules():
        if isinstance(each, nn.Conv2d):
            nn.init.kaiming_normal_(each.weight)
