"""The convolutions that backbones and heads are made of."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from oshp_bench.baselines.pieces.recompute import Chain

# Mean and deviation of ImageNet's photos, RGB in 0..1.
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The channels that necks take from a shallow level.
_LOW = 48


@dataclass(frozen=True)
class Level:
    """Features that pretrained layers give, before any neck.

    Attributes:
        channels: how many.
        stride: H x W pixels give ceil(H / stride) x ceil(W / stride) cells.
    """

    channels: int
    stride: int


class Backbone(nn.Module):
    """Turns RGB photos in 0..1, float [N, 3, H, W], into features [N, width, ceil(H / stride), ceil(W / stride)].

    Its pretrained layers are stages, one behind the other; what a stage gives is a level. `forward` goes through the
    stages and through the neck, layers that have to be trained, if the backbone has one.

    Attributes:
        width, stride: of the features that `forward` gives.
        levels: the levels by name, shallow to deep.
        architecture: what it is built from beside its name and width, for a checkpoint; None where these say all.
    """

    width: int
    stride: int = 4
    levels: Mapping[str, Level]
    architecture: Mapping[str, Any] | None = None

    def normalised(self, images: Tensor) -> Tensor:
        """Photos, RGB in 0..1, as the first stage wants them."""
        raise NotImplementedError

    def stage(self, name: str) -> nn.Module:
        """The layers that turn the level before `name` (normalised photos before the first) into that level."""
        raise NotImplementedError

    def layers(self, name: str) -> Sequence[nn.Module]:
        """The modules that a stage is made of, for a method that freezes it."""
        return (self.stage(name),)

    def level_features(self, images: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        """The levels of these names, shallow to deep, from photos [N, 3, H, W]; stages behind the last are not run."""
        features, found = self.normalised(images), dict[str, Tensor]()
        for name in self.levels:
            features = self.stage(name)(features)
            if name in names:
                found[name] = features
            if len(found) == len(names):
                break
        return found


class SeparableConv(Chain):
    """Depthwise 3x3 and pointwise 1x1 convolution, no bias, each with batch norm (eps 1e-5).

    [N, inputs, h, w] -> [N, outputs, ceil(h / stride), ceil(w / stride)].

    Args:
        activate: ReLU after each batch norm (SepR); without it there is none (Sep).
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1, activate: bool = False) -> None:
        def activation() -> nn.Module:
            return nn.ReLU(inplace=True) if activate else nn.Identity()

        super().__init__(
            OrderedDict(
                depthwise=nn.Conv2d(inputs, inputs, 3, stride, dilation, dilation, groups=inputs, bias=False),
                depthwise_bn=nn.BatchNorm2d(inputs),
                depthwise_activation=activation(),
                pointwise=nn.Conv2d(inputs, outputs, 1, bias=False),
                pointwise_bn=nn.BatchNorm2d(outputs),
                pointwise_activation=activation(),
            )
        )


def upsampled(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Brings [N, C, h, w] to another size, bilinear with aligned corners: [N, C, *size]."""
    return functional.interpolate(features, size, mode="bilinear", align_corners=True)


def stretched(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Brings [N, C, h, w] to another size, bilinear with corners that are not aligned: [N, C, *size]."""
    return functional.interpolate(features, size, mode="bilinear", align_corners=False)


def kaiming(module: nn.Module) -> None:
    """Draws every convolution's weight of a module: Kaiming normal over the inputs; batch norm starts as identity."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)


class NeckedBackbone(Backbone):
    """A backbone whose neck has to be trained: it brings a deep level to the stride of a shallow one.

    A subclass sets `width` and calls `add_neck` after it has made its stages.
    """

    def add_neck(self, low: Level | None, deep: Level) -> None:
        """Makes the neck's layers; without a shallow level the deep one keeps its stride."""
        self.stride = (low or deep).stride
        self.context = projection(deep.channels, self.width, always=True)
        self.low = None if low is None else projection(low.channels, _LOW, always=True)
        self.last = None if low is None else SeparableConv(self.width + _LOW, self.width, activate=True)

    def through_neck(self, low: Tensor, deep: Tensor) -> Tensor:
        """Both levels' features to those of the backbone."""
        context: Tensor = self.context(deep)
        if self.low is None or self.last is None:
            return context
        low = self.low(low)
        both = torch.cat((upsampled(context, (low.shape[2], low.shape[3])), low), 1)
        features: Tensor = self.last(both)
        return features


def projection(inputs: int, width: int, always: bool = False) -> nn.Module:
    """A 1x1 convolution with batch norm and ReLU; nothing where the channels are as wanted, unless `always`."""
    if width == inputs and not always:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))


def imagenet_normalised(images: Tensor) -> Tensor:
    """RGB in 0..1 less the mean of ImageNet's photos, over their deviation: what most ImageNet weights expect."""
    mean, deviation = images.new_tensor(IMAGENET)[:, :, None, None]
    normalised: Tensor = (images - mean) / deviation
    return normalised
