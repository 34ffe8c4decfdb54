"""What differs from the papers in the authors' code of EOP-Net and POPNet: every class has a channel, scalars are
drawn as convolutions of one channel, NPM is scaled, and prototypes are mixed at test as in training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from oshp_bench.baselines.pieces.heads import Affine, AttentionGuidance, NearestPrototype
from oshp_bench.baselines.pieces.memory import MomentumPrototypes
from oshp_bench.baselines.pieces.prototypes import Prototypes
from oshp_bench.episodes.episodes import Way

_SCALER = 10.0


def every_class(samples: Tensor, count: int) -> Tensor:
    """All class ids below `count` but background for each of N samples: int64 [N, count - 1]."""
    return torch.arange(1, count, device=samples.device).expand(len(samples), -1)


def released_guidance(width: int, way: Way, residual: bool = False) -> AttentionGuidance:
    """AGM: k-way the background votes go through one more affine map; 1-way it may do without the residual."""
    if way == "1":
        return AttentionGuidance(width, residual)
    return AttentionGuidance(width, fusion=_drawn_affine())


def released_nearest(way: Way) -> NearestPrototype:
    """NPM: k-way the background goes through two affine maps."""
    if way == "1":
        return _OneWayNearest(_drawn_affine(), _drawn_affine(), _SCALER)
    return NearestPrototype(_drawn_affine(), nn.Sequential(_drawn_affine(), _drawn_affine()), _SCALER)


class ReleasedMomentumPrototypes(MomentumPrototypes):
    """Prototypes that are mixed at test as in training, and only of classes that the support shows."""

    def recalled(self, static: Tensor, present: Tensor, ids: Tensor, fresh: bool) -> tuple[Tensor, Tensor]:
        used = self.mixed(self.rows[ids.clamp(min=0)], static, fresh)
        return torch.where(present[..., None], used, 0), present


class _OneWayNearest(NearestPrototype):
    """Both logits are affine in A itself."""

    def forward(self, attention: Tensor, classes: Prototypes) -> Tensor:  # noqa: ARG002
        return self.scaled(torch.cat((self.background(attention), self.foreground(attention)), 1))


def _drawn_affine() -> Affine:
    """As a convolution of one input and one output starts in the authors' code."""
    affine = Affine(1.0)
    nn.init.normal_(affine.weight, std=2**0.5)
    nn.init.uniform_(affine.bias, -1, 1)
    return affine
