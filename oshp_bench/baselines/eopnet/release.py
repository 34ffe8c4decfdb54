"""EOP-Net as its authors' code computes it (commit 4df7ebf), beside the paper's."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from oshp_bench.baselines.backbones.layers import Backbone
from oshp_bench.baselines.contract import Labels
from oshp_bench.baselines.eopnet.coarse import BACKGROUND, CoarseSpace
from oshp_bench.baselines.eopnet.network import EOPNet, Side
from oshp_bench.baselines.eopnet.settings import EOPNetSettings
from oshp_bench.baselines.pieces.heads import AttentionGuidance, NearestPrototype, contrast
from oshp_bench.baselines.pieces.prototypes import Prototypes, class_weights, pooled
from oshp_bench.baselines.pieces.released import (
    ReleasedMomentumPrototypes,
    every_class,
    released_guidance,
    released_nearest,
)
from oshp_bench.datasets.images import IGNORE
from oshp_bench.episodes.episodes import Way


class ReleasedCoarseSpace(CoarseSpace):
    """The release reads the epoch as a flag, detaches the prototypes, and shows its head the background too."""

    def fresh(self, epoch: int) -> bool:
        return epoch != 0

    def prototypes(self, features: Tensor, coarse: Tensor, epoch: int) -> Prototypes:
        return super().prototypes(features.detach(), coarse, epoch)

    def forward(self, features: Tensor, prototypes: Prototypes) -> Tensor:
        if self.training:
            # The result is not used, but batch norm learns from it.
            with torch.no_grad():
                self.guided(features, prototypes, BACKGROUND)
        return super().forward(features, prototypes)


class ReleasedEOPNet(EOPNet):
    """The k-way network of the release: every class id has a channel, whether the support shows it or not."""

    memory_type = ReleasedMomentumPrototypes
    coarse_type = ReleasedCoarseSpace
    # What the authors' script of evaluation says.
    test_epoch = 39
    way: Way = "k"

    def new_agm(self, width: int) -> AttentionGuidance:
        return released_guidance(width, self.way)

    def new_npm(self) -> NearestPrototype:
        return released_nearest(self.way)

    def fine_prototypes(self, features: Tensor, mask: Tensor, asked: Tensor, epoch: int) -> Prototypes:
        """Prototypes of every class; those that the support lacks take part with a similarity of 0."""
        found = super().fine_prototypes(features, mask, every_class(asked, self.labels.count), epoch)
        return replace(found, ranked=torch.ones_like(found.present))

    def contrast(self, query: Side, support: Side, ids: Tensor) -> Tensor:
        """Background, pooled where the coarse mask says so, is a class; a class that the support lacks still counts."""
        (ours, there), (theirs, present) = (
            pooled(
                side.features,
                torch.cat((class_weights(side.coarse, ids.new_zeros(len(ids), 1)), class_weights(side.mask, ids)), 1),
            )
            for side in (query, support)
        )
        return contrast(ours, there, theirs, present, self.settings.tau)


class ReleasedOneWayEOPNet(ReleasedEOPNet):
    """The 1-way network of the release: no residual in AGM, no contrast, and padding has weight in prototypes."""

    way = "1"

    def __init__(self, backbone: Backbone, labels: Labels, way: Way, settings: EOPNetSettings | None = None) -> None:
        settings = settings or EOPNetSettings()
        super().__init__(backbone, labels, way, replace(settings, parts=replace(settings.parts, contrast=False)))

    def fine_prototypes(self, features: Tensor, mask: Tensor, asked: Tensor, epoch: int) -> Prototypes:
        """The mask's values are the weights: padding counts 255-fold, but alone it makes no prototype."""
        shown = class_weights(mask, asked)
        static, _ = pooled(features, shown + IGNORE * (mask == IGNORE)[:, None])
        present = shown.flatten(2).any(2)
        vectors, present = self.memory(static, present, asked, epoch < self.settings.warm_up)
        return Prototypes(asked, vectors, present, ranked=torch.ones_like(present))


RELEASED: dict[Way, type[ReleasedEOPNet]] = {"k": ReleasedEOPNet, "1": ReleasedOneWayEOPNet}
