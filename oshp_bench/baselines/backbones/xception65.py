"""Aligned Xception-65 as DeepLabV3+ has it, output stride 16, with a neck that brings features to stride 4.

Parameter names are those of the public DeepLabV3+ weights, so that COCO weights and the authors' checkpoints load by
name. Depths (paper, Table 7): 62 takes the last convolution as it is; 69 and 74 put ASPP behind it; 74 also has the
second separable convolution of the DeepLabV3+ decoder.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from oshp_bench.baselines.backbones.layers import Backbone, Level, SeparableConv, kaiming, upsampled
from oshp_bench.baselines.pieces.recompute import Chain

Depth = Literal[62, 69, 74]
_WIDTH, _DEEP, _CONTEXT, _LOW = 256, 2048, 256, 48


class Block(nn.Module):
    """Three separable convolutions beside a skip path.

    The skip path of a block that begins with ReLU sees the input after it: the pretrained weights were made so.
    """

    def __init__(self, widths: tuple[int, int, int, int], stride: int, first_relu: bool = True) -> None:
        super().__init__()
        convs = [SeparableConv(widths[i], widths[i + 1], stride if i == 2 else 1) for i in range(3)]
        layers: list[nn.Module] = [layer for conv in convs for layer in (nn.ReLU(), conv)]
        self.first_relu = first_relu
        self.rep = Chain(*layers[0 if first_relu else 1 :])
        self.skip: nn.Module = nn.Identity()
        self.skipbn: nn.Module = nn.Identity()
        if stride > 1 or widths[0] != widths[-1]:
            self.skip = nn.Conv2d(widths[0], widths[-1], 1, stride, bias=False)
            self.skipbn = nn.BatchNorm2d(widths[-1])

    def forward(self, features: Tensor) -> Tensor:
        if self.first_relu:
            features = functional.relu(features)
        out: Tensor = self.rep(features) + self.skipbn(self.skip(features))
        return out


class LowLevelBlock(nn.Module):
    """The second block, which also gives the low-level feature at stride 4, before the ReLU that follows it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.rep = Chain(nn.ReLU(), SeparableConv(inputs, outputs), nn.ReLU(), SeparableConv(outputs, outputs))
        self.block2_lastconv = Chain(nn.ReLU(), SeparableConv(outputs, outputs, 2))
        self.skip = nn.Conv2d(inputs, outputs, 1, 2, bias=False)
        self.skipbn = nn.BatchNorm2d(outputs)

    def forward(self, features: Tensor) -> Tensor:
        return self.both(features)[1]

    def both(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The low-level feature, and the block's own."""
        features = functional.relu(features)
        low = self.rep(features)
        return low, self.block2_lastconv(low) + self.skipbn(self.skip(features))


class XceptionFeatures(nn.Module):
    """The encoder, under the names of the public weights; Xception65 runs its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.block1 = Block((64, 128, 128, 128), 2, first_relu=False)
        self.block2 = LowLevelBlock(128, 256)
        self.block3 = Block((256, 728, 728, 728), 2)
        for number in range(4, 20):
            self.add_module(f"block{number}", Block((728, 728, 728, 728), 1))
        self.block20 = Block((728, 728, 1024, 1024), 1)
        self.conv3 = SeparableConv(1024, 1536, dilation=2, activate=True)
        self.conv4 = SeparableConv(1536, 1536, dilation=2, activate=True)
        self.conv5 = SeparableConv(1536, _DEEP, dilation=2, activate=True)

    def stage(self, name: str) -> nn.Module:
        """See Backbone."""
        if name == "entry":
            relus = nn.ReLU(inplace=True), nn.ReLU(inplace=True)
            return nn.Sequential(Chain(self.conv1, self.bn1, relus[0], self.conv2, self.bn2, relus[1]), self.block1)
        if name == "middle":
            return nn.Sequential(*(self.get_submodule(f"block{number}") for number in range(4, 20)))
        if name == "exit":
            return nn.Sequential(self.block20, Chain(self.conv3, self.conv4, self.conv5))
        return self.get_submodule(name)


class Atrous(nn.Module):
    """A separable convolution with ReLU, under the name that DeepLabV3+ gives it."""

    def __init__(self, inputs: int, outputs: int, dilation: int = 1) -> None:
        super().__init__()
        self.atrous_convolution = SeparableConv(inputs, outputs, dilation=dilation, activate=True)

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.atrous_convolution(features)
        return out


class Pointwise(nn.Module):
    """The first branch of ASPP."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.atrous_convolution = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, features: Tensor) -> Tensor:
        return functional.relu(self.bn(self.atrous_convolution(features)))


class Xception65(Backbone):
    """Xception-65 with a neck: 256 channels.

    Args:
        depth: 62 (mid-level features, as the paper uses it), 69 or 74 (with ASPP).
    """

    width = _WIDTH
    levels = {
        "entry": Level(128, 4),
        "block2": Level(256, 8),
        "block3": Level(728, 16),
        "middle": Level(728, 16),
        "exit": Level(_DEEP, 16),
    }

    def __init__(self, depth: Depth = 62) -> None:
        super().__init__()
        self.xception_features = XceptionFeatures()
        self.feature_projection_conv1 = nn.Conv2d(256, _LOW, 1, bias=False)
        self.feature_projection_bn1 = nn.BatchNorm2d(_LOW)
        self._aspp = depth != 62
        if self._aspp:
            self.aspp1 = Pointwise(_DEEP, _CONTEXT)
            self.aspp2, self.aspp3, self.aspp4 = (Atrous(_DEEP, _CONTEXT, rate) for rate in (6, 12, 18))
            self.global_avg_pool = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Conv2d(_DEEP, _CONTEXT, 1, bias=False), nn.BatchNorm2d(_CONTEXT), nn.ReLU()
            )
            self.concat_projection_conv1 = nn.Conv2d(5 * _CONTEXT, _CONTEXT, 1, bias=False)
            self.concat_projection_bn1 = nn.BatchNorm2d(_CONTEXT)
            inputs = (_CONTEXT + _LOW, _WIDTH)[: 1 if depth == 69 else 2]
            self.decoder1 = nn.Sequential(*(Atrous(channels, _WIDTH) for channels in inputs))
        else:
            self.midfea_adapt_conv = nn.Conv2d(_DEEP, _CONTEXT, 1, bias=False)
            self.midfea_adapt_bn = nn.BatchNorm2d(_CONTEXT)
            self.midfea_conv = nn.Sequential(Atrous(_CONTEXT + _LOW, _WIDTH))
        kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        low, deep = self.xception_features.block2.both(self.stage("entry")(self.normalised(images)))
        for name in ("block3", "middle", "exit"):
            deep = self.stage(name)(deep)
        low = functional.relu(self.feature_projection_bn1(self.feature_projection_conv1(low)))
        context = self._pyramid(deep) if self._aspp else self._mid_level(deep)
        both = torch.cat((upsampled(context, (low.shape[2], low.shape[3])), low), 1)
        features: Tensor = (self.decoder1 if self._aspp else self.midfea_conv)(both)
        return features

    def normalised(self, images: Tensor) -> Tensor:
        # The weights were trained on BGR in -1..1.
        return images.flip(1) * 2 - 1

    def stage(self, name: str) -> nn.Module:
        return self.xception_features.stage(name)

    def _mid_level(self, deep: Tensor) -> Tensor:
        return functional.relu(self.midfea_adapt_bn(self.midfea_adapt_conv(deep)))

    def _pyramid(self, deep: Tensor) -> Tensor:
        pooled = upsampled(self.global_avg_pool(deep), (deep.shape[2], deep.shape[3]))
        branches = torch.cat((self.aspp1(deep), self.aspp2(deep), self.aspp3(deep), self.aspp4(deep), pooled), 1)
        return functional.relu(self.concat_projection_bn1(self.concat_projection_conv1(branches)))
