"""ResNet-50 at output stride 8: layers 3 and 4 have dilation in place of stride.

Parameter names are those of semseg, whose stem is `layer0`; `renamed` turns torchvision's names into them.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from oshp_bench.baselines.backbones.layers import (
    Backbone,
    Level,
    imagenet_normalised,
    kaiming,
    projection,
)
from oshp_bench.baselines.pieces.recompute import Chain

_WIDTH = 2048
_EXPANSION = 4
# Width inside the blocks, number of blocks, stride, and dilation of every layer.
_LAYERS = ((64, 3, 1, 1), (128, 4, 2, 1), (256, 6, 1, 2), (512, 3, 1, 4))
_RELU = nn.ReLU(inplace=True)
# Names of the stem, torchvision's and ours; semseg's pretrained weights name its deep stem as torchvision would.
_STEM = {
    "conv1": "layer0.0",
    "bn1": "layer0.1",
    "conv2": "layer0.3",
    "bn2": "layer0.4",
    "conv3": "layer0.6",
    "bn3": "layer0.7",
}


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution beside a shortcut; the 3x3 convolution has the stride."""

    def __init__(self, inputs: int, width: int, stride: int, dilation: int, last_relu: bool = True) -> None:
        super().__init__()
        outputs = width * _EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self._last_relu = last_relu

    def forward(self, features: Tensor) -> Tensor:
        convs = Chain(self.conv1, self.bn1, _RELU, self.conv2, self.bn2, _RELU, self.conv3, self.bn3)
        out = convs(features) + self.downsample(features)
        return functional.relu(out, inplace=True) if self._last_relu else out


class ResNet50(Backbone):
    """ResNet-50 (He et al., CVPR 2016), with 8 pixels between the features of its last three layers.

    Args:
        deep_stem: three 3x3 convolutions in place of one of 7x7, as semseg has it (PFENet).
        dilated_first: the first blocks of layers 3 and 4 have the dilation of the blocks behind them, 2 and 4 (PFENet);
            else that of the layer before, 1 and 2, as torchvision does it (PPNet).
        last_relu: the last block ends with ReLU; without it features may be negative (PPNet).
        width: the channels of its features; another number than 2048 puts a 1x1 convolution behind them.
    """

    stride = 8

    def __init__(
        self, deep_stem: bool = False, dilated_first: bool = False, last_relu: bool = False, width: int = _WIDTH
    ) -> None:
        super().__init__()
        self.width = width
        self.layer0 = _stem(deep_stem)
        stem = 128 if deep_stem else 64
        levels = {"layer0": Level(stem, 4)}
        inputs, reached, before = stem, 4, 1
        for number, (inner, count, stride, dilation) in enumerate(_LAYERS, 1):
            blocks = []
            for index in range(count):
                last = number == len(_LAYERS) and index == count - 1
                dilated = before if index == 0 and not dilated_first else dilation
                blocks.append(Bottleneck(inputs, inner, stride if index == 0 else 1, dilated, last_relu or not last))
                inputs = inner * _EXPANSION
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            reached, before = reached * stride, dilation
            levels[f"layer{number}"] = Level(inputs, reached)
        self.levels = levels
        self.neck = projection(_WIDTH, width)
        kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.neck(self.level_features(images, ("layer4",))["layer4"])
        return features

    def normalised(self, images: Tensor) -> Tensor:
        return imagenet_normalised(images)

    def stage(self, name: str) -> nn.Module:
        return self.get_submodule(name)


def _stem(deep: bool) -> nn.Sequential:
    """[N, 3, H, W] -> [N, 64 (128 if deep), ceil(H / 4), ceil(W / 4)]."""
    if deep:
        convs = [
            nn.Conv2d(inputs, out, 3, s, 1, bias=False) for inputs, out, s in ((3, 64, 2), (64, 64, 1), (64, 128, 1))
        ]
    else:
        convs = [nn.Conv2d(3, 64, 7, 2, 3, bias=False)]
    layers = [layer for conv in convs for layer in (conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU(inplace=True))]
    return nn.Sequential(*layers, nn.MaxPool2d(3, 2, 1))


def our_name(name: str) -> str:
    """The name here of a tensor that torchvision, or semseg's file of pretrained weights, calls `name`."""
    module, _, rest = name.partition(".")
    return f"{_STEM.get(module, module)}.{rest}"
