"""The two readings of EOP-Net: what the paper's equations say, and what the released code does.

A reading is a choice of pieces; EOPNet puts them together and knows nothing of the differences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from oshp_bench.baselines.pieces.heads import Affine, AttentionGuidance, NearestPrototype, contrast
from oshp_bench.baselines.pieces.prototypes import (
    IGNORE,
    MomentumPrototypes,
    Prototypes,
    StaticPrototypes,
    class_weights,
    pooled,
    similarity,
)
from oshp_bench.episodes.episodes import Way

BACKGROUND, HUMAN = 0, 1
COARSE_IDS = (BACKGROUND, HUMAN)
# The slope that similarities in -1..1 start with on their way to logits.
_SHARPNESS = 10.0


@dataclass(frozen=True)
class Side:
    """The query or the support of N episodes, in the fine space.

    Attributes:
        features: float [N, C, h, w].
        mask: int64 [N, h, w] of class ids.
        coarse: int64 [N, h, w]: 1 human, 0 not, 255 ignore.
    """

    features: Tensor
    mask: Tensor
    coarse: Tensor


class CoarseSpace(nn.Module):
    """The coarse space: human or background, by AGM alone.

    Args:
        memory: the prototypes of COARSE_IDS.
        warm_up: how many epochs use static prototypes.
    """

    def __init__(self, width: int, memory: StaticPrototypes, guidance: AttentionGuidance, warm_up: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(width, width, 1)
        self.memory = memory
        self.guidance = guidance
        self.warm_up = warm_up

    def prototypes(self, features: Tensor, coarse: Tensor, epoch: int) -> Prototypes:
        """Eq. (1) and (3), of projected features [N, C, h, w] and a coarse mask [N, h, w]."""
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
        only = Prototypes(*(each[:, one] for each in vars(prototypes).values()))
        logits: Tensor = self.guidance(features, similarity(features, only.vectors), only)
        return logits


class ReleaseCoarseSpace(CoarseSpace):
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


class ReleaseMomentumPrototypes(MomentumPrototypes):
    """The release mixes at test as in training, and only for classes that the support shows."""

    def recalled(self, static: Tensor, present: Tensor, ids: Tensor, fresh: bool) -> tuple[Tensor, Tensor]:
        used = self.mixed(self.rows[ids.clamp(min=0)], static, fresh)
        return torch.where(present[..., None], used, 0), present


@dataclass(frozen=True)
class Reading:
    """The pieces that the readings differ in.

    Attributes:
        slots: the classes that get a channel, from those asked for (int64 [N, K], EMPTY-padded) and the count of ids.
        weights: the pixels of a prototype: masks [N, h, w], ids [N, K] -> float [N, K, h, w].
        ranks_absent: whether classes without a prototype take part in the softmax.
        memory: momentum prototypes.
        coarse: the coarse space.
        guidance: AGM, from width and `recompute`.
        nearest: NPM.
        contrast: prototype contrast of query and support over the slots' ids, at a temperature; None for none.
        trained_epoch: the epoch that prediction pretends to be at.
    """

    slots: Callable[[Tensor, int], Tensor]
    weights: Callable[[Tensor, Tensor], Tensor]
    ranks_absent: bool
    memory: Callable[[int, int, float], StaticPrototypes]
    coarse: type[CoarseSpace]
    guidance: Callable[[int, bool], AttentionGuidance]
    nearest: Callable[[], NearestPrototype]
    contrast: Callable[[Side, Side, Tensor, float], Tensor] | None
    trained_epoch: int


def _shared_contrast(query: Side, support: Side, ids: Tensor, tau: float) -> Tensor:
    """Over the classes that both images have: the others lack one of the two prototypes."""
    ours, there = pooled(query.features, class_weights(query.mask, ids))
    theirs, present = pooled(support.features, class_weights(support.mask, ids))
    return contrast(ours, there & present, theirs, present, tau)


def _contrast_with_background(query: Side, support: Side, ids: Tensor, tau: float) -> Tensor:
    """Background, pooled where the coarse mask says so, is a class; a class that the support lacks still counts."""
    (ours, there), (theirs, present) = (
        pooled(
            side.features,
            torch.cat((class_weights(side.coarse, ids.new_zeros(len(ids), 1)), class_weights(side.mask, ids)), 1),
        )
        for side in (query, support)
    )
    return contrast(ours, there, theirs, present, tau)


def _all_slots(asked: Tensor, count: int) -> Tensor:
    return torch.arange(1, count, device=asked.device).expand(len(asked), -1)


def _asked_slots(asked: Tensor, count: int) -> Tensor:  # noqa: ARG001
    return asked


def _mask_values(masks: Tensor, ids: Tensor) -> Tensor:
    """The mask's values as weights: padding counts 255-fold."""
    return class_weights(masks, ids) + IGNORE * (masks == IGNORE)[:, None]


PAPER = Reading(
    slots=_asked_slots,
    weights=class_weights,
    ranks_absent=False,
    memory=MomentumPrototypes,
    coarse=CoarseSpace,
    guidance=lambda width, recompute: AttentionGuidance(width, recompute=recompute),
    nearest=lambda: NearestPrototype(Affine(_SHARPNESS), Affine(_SHARPNESS)),
    contrast=_shared_contrast,
    trained_epoch=0,
)


def _drawn_affine() -> Affine:
    """As a convolution of one input and one output starts in the release."""
    affine = Affine(1.0)
    nn.init.normal_(affine.weight, std=2**0.5)
    nn.init.uniform_(affine.bias, -1, 1)
    return affine


_RELEASE_SCALER = 10.0

RELEASE_K_WAY = Reading(
    slots=_all_slots,
    weights=class_weights,
    ranks_absent=True,
    memory=ReleaseMomentumPrototypes,
    coarse=ReleaseCoarseSpace,
    guidance=lambda width, recompute: AttentionGuidance(width, fusion=_drawn_affine(), recompute=recompute),
    nearest=lambda: NearestPrototype(
        _drawn_affine(), nn.Sequential(_drawn_affine(), _drawn_affine()), scaler=_RELEASE_SCALER
    ),
    contrast=_contrast_with_background,
    trained_epoch=39,
)


class ReleaseOneWayNearest(NearestPrototype):
    """NPM of the release's 1-way network: both logits are affine in A itself."""

    def forward(self, attention: Tensor, classes: Prototypes) -> Tensor:  # noqa: ARG002
        return self.scaled(torch.cat((self.background(attention), self.foreground(attention)), 1))


RELEASE_ONE_WAY = replace(
    RELEASE_K_WAY,
    slots=_asked_slots,
    weights=_mask_values,
    guidance=lambda width, recompute: AttentionGuidance(width, residual=False, recompute=recompute),
    nearest=lambda: ReleaseOneWayNearest(_drawn_affine(), _drawn_affine(), scaler=_RELEASE_SCALER),
    contrast=None,
)

READINGS: dict[str, dict[Way, Reading]] = {
    "paper": {"k": PAPER, "1": PAPER},
    "release": {"k": RELEASE_K_WAY, "1": RELEASE_ONE_WAY},
}
