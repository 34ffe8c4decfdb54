"""VGG-16 without its classifier, at output stride 8, in the three layouts of the methods that were built on it.

Parameter names are those of torchvision's weights, `features.N`. The layouts have the same parameters and differ in
pooling and dilation alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from oshp_bench.baselines.backbones.layers import (
    Backbone,
    Level,
    imagenet_normalised,
    kaiming,
    projection,
)

_WIDTH = 512
# The channels of every convolution, block by block.
_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))

VGGLayout = Literal["panet", "sg-one", "fcn8s"]


@dataclass(frozen=True)
class _Layout:
    """How a layout differs from the others.

    Attributes:
        kernel: of the poolings at stride 2 that end blocks 1 to 3; either kind turns H into ceil(H / 2).
        pooled: which of blocks 4 and 5 end with a pooling at stride 1.
        dilations: of the convolutions of blocks 4 and 5.
        last_relu: block 5 ends with ReLU; without it features may be negative.
    """

    kernel: Literal[2, 3]
    pooled: tuple[int, ...]
    dilations: Mapping[int, tuple[int, ...]]
    last_relu: bool = True

    def pool(self, block: int) -> nn.Module:
        if block > 3:
            return nn.MaxPool2d(3, 1, 1) if block in self.pooled else nn.Identity()
        return nn.MaxPool2d(2, 2, ceil_mode=True) if self.kernel == 2 else nn.MaxPool2d(3, 2, 1)


_LAYOUTS: dict[VGGLayout, _Layout] = {
    "panet": _Layout(3, (4,), {5: (2, 2, 2)}, last_relu=False),
    "sg-one": _Layout(3, (4, 5), {}),
    "fcn8s": _Layout(2, (), {4: (1, 1, 2), 5: (2, 4, 4)}),
}


class VGG16(Backbone):
    """VGG-16 (Simonyan and Zisserman, ICLR 2015) with the poolings of blocks 4 and 5 at stride 1 or left out.

    Args:
        layout: "panet" (Wang et al., ICCV 2019), "sg-one" (Zhang et al., 2020), or "fcn8s" (AMP's, Siam et al.,
            ICCV 2019).
        width: the channels of its features; another number than 512 puts a 1x1 convolution behind them.
    """

    stride = 8
    levels = {f"conv{number}": Level(widths[-1], min(2**number, 8)) for number, widths in enumerate(_BLOCKS, 1)}

    def __init__(self, layout: VGGLayout = "panet", width: int = _WIDTH) -> None:
        super().__init__()
        self.width = width
        how = _LAYOUTS[layout]
        layers: list[nn.Module] = []
        self._ends = [0]
        inputs = 3
        for block, widths in enumerate(_BLOCKS, 1):
            for outputs, dilation in zip(widths, how.dilations.get(block, (1,) * len(widths)), strict=True):
                layers += [nn.Conv2d(inputs, outputs, 3, 1, dilation, dilation), nn.ReLU(inplace=True)]
                inputs = outputs
            layers.append(how.pool(block))
            self._ends.append(len(layers))
        if not how.last_relu:
            layers[-2] = nn.Identity()
        self.features = nn.Sequential(*layers)
        self.neck = projection(_WIDTH, width)
        kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.neck(self.level_features(images, ("conv5",))["conv5"])
        return features

    def normalised(self, images: Tensor) -> Tensor:
        return imagenet_normalised(images)

    def stage(self, name: str) -> nn.Module:
        number = list(self.levels).index(name)
        return self.features[self._ends[number] : self._ends[number + 1]]
