"""EOP-Net's coarse space: background and human."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from oshp_bench.baselines.pieces.heads import AttentionGuidance
from oshp_bench.baselines.pieces.memory import StaticPrototypes
from oshp_bench.baselines.pieces.prototypes import Prototypes, class_weights, pooled, similarity

BACKGROUND, HUMAN = 0, 1
COARSE_IDS = (BACKGROUND, HUMAN)


class CoarseSpace(nn.Module):
    """Parses human and background, by AGM alone.

    Args:
        memory: the prototypes of COARSE_IDS.
        guidance: AGM.
        warm_up: how many epochs use static prototypes.
    """

    def __init__(self, width: int, memory: StaticPrototypes, guidance: AttentionGuidance, warm_up: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(width, width, 1)  # f_cgs
        self.memory = memory
        self.guidance = guidance
        self.warm_up = warm_up

    def prototypes(self, features: Tensor, coarse: Tensor, epoch: int) -> Prototypes:
        """Eqs. (1) and (3), of projected features [N, C, h, w] and a coarse mask [N, h, w]."""
        ids = torch.tensor(COARSE_IDS, device=coarse.device).expand(len(coarse), -1)
        static, present = pooled(features, class_weights(coarse, ids))
        vectors, present = self.memory(static, present, ids, self.fresh(epoch))
        # What has no prototype has A = 0 and is still a class.
        return Prototypes(ids, vectors, present, torch.ones_like(present))

    def fresh(self, epoch: int) -> bool:
        """Whether static prototypes are used."""
        return epoch < self.warm_up

    def forward(self, features: Tensor, prototypes: Prototypes) -> Tensor:
        """Logits of background and human: [N, 2, h, w]."""
        return self.guided(features, prototypes, HUMAN)

    def guided(self, features: Tensor, prototypes: Prototypes, slot: int) -> Tensor:
        """AGM on one of the two prototypes."""
        one = slice(slot, slot + 1)
        only = Prototypes(*(member[:, one] for member in vars(prototypes).values()))
        logits: Tensor = self.guidance(features, similarity(features, only.vectors), only)
        return logits
