"""EOP-Net, the end-to-end one-shot human parsing network (TPAMI 2023); equation numbers are the paper's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from oshp_bench.baselines.backbones.layers import Backbone, upsampled
from oshp_bench.baselines.contract import Batch, Labels, LearnedMethod, Progress, Support
from oshp_bench.baselines.eopnet.coarse import COARSE_IDS, HUMAN, CoarseSpace
from oshp_bench.baselines.eopnet.settings import EOPNET_DEFAULTS, EOPNetSettings
from oshp_bench.baselines.pieces.heads import (
    AttentionGuidance,
    NearestPrototype,
    contrast,
    ranked_logits,
    sharp_nearest,
)
from oshp_bench.baselines.pieces.losses import cross_entropy
from oshp_bench.baselines.pieces.memory import MomentumPrototypes, StaticPrototypes
from oshp_bench.baselines.pieces.prototypes import (
    Prototypes,
    asked_classes,
    channels,
    class_weights,
    pooled,
    similarity,
    to_grid,
)
from oshp_bench.baselines.pieces.recompute import recompute
from oshp_bench.episodes.episodes import Way


@dataclass
class SpaceFeatures:
    """An image in both spaces.

    Attributes:
        fine, coarse: float [N, C, h, w]; coarse is None without that space.
        human: the coarse prototypes that were last asked about, and where they saw a human, bool [H, W]. At test they
            are the same for all supports, as both are remembered: all pairs of a query share one pass.
    """

    fine: Tensor
    coarse: Tensor | None
    human: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class SpacePrototypes:
    """The prototypes of N supports.

    Attributes:
        fine: of the classes; in the release also of classes that are not asked for.
        coarse: of background and human; None without that space.
        asked: int64 [N, K]: the classes to parse, EMPTY-padded.
    """

    fine: Prototypes
    coarse: Prototypes | None
    asked: Tensor


@dataclass(frozen=True)
class Side:
    """The query or the support of N training episodes, in the fine space, on the feature grid.

    Attributes:
        features: float [N, C, h, w].
        mask: int64 [N, h, w] of class ids; 255 ignore.
        coarse: int64 [N, h, w]: 1 human, 0 not, 255 ignore.
    """

    features: Tensor
    mask: Tensor
    coarse: Tensor


class EOPNet(LearnedMethod):
    """EOP-Net as the paper describes it; release.py has what its authors' code does differently.

    Args:
        way: "k" or "1"; the network is the same for both.
    """

    settings_type = EOPNetSettings
    defaults = EOPNET_DEFAULTS
    memory_type = MomentumPrototypes
    coarse_type = CoarseSpace
    # The epoch that prediction pretends to be at; remembered prototypes are used whatever it is.
    test_epoch = 0

    def __init__(self, backbone: Backbone, labels: Labels, way: Way, settings: EOPNetSettings | None = None) -> None:
        super().__init__()
        settings = settings or EOPNetSettings()
        parts, width = settings.parts, backbone.width
        self.ways = (way,)
        self.labels = labels
        self.settings = settings

        def memory(rows: int) -> StaticPrototypes:
            return self.memory_type(rows, width, settings.alpha) if parts.momentum else StaticPrototypes()

        self.backbone = backbone  # g
        self.project = nn.Conv2d(width, width, 1)  # f_fgs
        self.memory = memory(labels.count)
        self.agm = self.new_agm(width) if parts.agm else None
        self.npm = self.new_npm() if parts.npm else None
        self.coarse = (
            self.coarse_type(width, memory(len(COARSE_IDS)), AttentionGuidance(width), settings.warm_up)
            if parts.coarse
            else None
        )
        if settings.recompute:
            recompute(self)

    @classmethod
    def build(cls, backbone: Backbone, labels: Labels, way: Way, settings: EOPNetSettings) -> EOPNet:
        """The network that the settings' reading asks for."""
        # It is made of this one.
        from oshp_bench.baselines.eopnet.release import RELEASED

        kind = RELEASED[way] if settings.reading == "release" else cls
        return kind(backbone, labels, way, settings)

    def new_agm(self, width: int) -> AttentionGuidance:
        """AGM of the fine space, with drawn weights."""
        return AttentionGuidance(width)

    def new_npm(self) -> NearestPrototype:
        """NPM, with omega and omega_bg as they start."""
        return sharp_nearest()

    def encode(self, images: Tensor) -> SpaceFeatures:
        """Both projections of the features G = g(I)."""
        features = self.backbone(images)
        return SpaceFeatures(self.project(features), None if self.coarse is None else self.coarse.project(features))

    def prototypes(
        self, support: SpaceFeatures, mask: Tensor, coarse: Tensor, asked: Tensor, epoch: int
    ) -> SpacePrototypes:
        """Prototypes of N supports, eqs. (1) to (3); in training mode they are also remembered.

        Args:
            mask, coarse: int64 [N, h, w] on the feature grid.
            asked: int64 [N, K] class ids, EMPTY-padded.
        """
        fine, humans = self.fine_prototypes(support.fine, mask, asked, epoch), None
        if self.coarse is not None and support.coarse is not None:
            humans = self.coarse.prototypes(support.coarse, coarse, epoch)
        return SpacePrototypes(fine, humans, asked)

    def fine_prototypes(self, features: Tensor, mask: Tensor, asked: Tensor, epoch: int) -> Prototypes:
        """Prototypes of the classes that are asked for."""
        static, present = pooled(features, class_weights(mask, asked))  # (2)
        vectors, present = self.memory(static, present, asked, epoch < self.settings.warm_up)  # (3)
        return Prototypes(asked, vectors, present, ranked=present)

    def agm_logits(self, query: SpaceFeatures, task: SpacePrototypes, size: tuple[int, int]) -> Tensor:
        """What AGM says of background and every slot: [N, 1 + K, *size]; -inf for what takes no part."""
        assert self.agm is not None
        attention = similarity(query.fine, task.fine.vectors)  # (4)
        return ranked_logits(self.agm(query.fine, attention, task.fine), task.fine, size)

    def npm_logits(self, query: SpaceFeatures, task: SpacePrototypes, size: tuple[int, int]) -> Tensor:
        """What NPM says, as agm_logits."""
        assert self.npm is not None
        attention = similarity(query.fine, task.fine.vectors)  # (4)
        return ranked_logits(self.npm(attention, task.fine), task.fine, size)

    def coarse_logits(self, query: SpaceFeatures, task: SpacePrototypes, size: tuple[int, int]) -> Tensor:
        """What the coarse space says of background and human: [N, 2, *size]."""
        assert self.coarse is not None and query.coarse is not None and task.coarse is not None
        return upsampled(self.coarse(query.coarse, task.coarse), size)

    def adapt(self, support: Support) -> SpacePrototypes:
        """Prototypes of one support.

        Raises:
            OshpError: a class that the network has no row for.
        """
        self.labels.check(support.classes)
        grid = _grid(support.features)
        mask, coarse = to_grid(support.mask, grid), to_grid(support.coarse, grid)
        asked = torch.tensor([support.classes], device=mask.device)
        return self.prototypes(support.features, mask, coarse, asked, self.test_epoch)

    def parse(self, query: SpaceFeatures, task: SpacePrototypes, size: tuple[int, int]) -> Tensor:
        """NPM's logits (AGM's without NPM); -inf for every class where the coarse space sees no human."""
        logits = self.agm_logits(query, task, size) if self.npm is None else self.npm_logits(query, task, size)
        slots = task.fine.ids[0].tolist()
        scores = logits[0, [0, *(1 + slots.index(number) for number in task.asked[0].tolist())]]
        if self.coarse is not None and self.settings.screening:
            scores[1:] = scores[1:].masked_fill(~self.human(query, task, size), -torch.inf)
        return scores

    def human(self, query: SpaceFeatures, task: SpacePrototypes, size: tuple[int, int]) -> Tensor:
        """Where the coarse space sees a human in one query: bool [*size]."""
        assert task.coarse is not None
        asked = task.coarse.vectors
        if query.human is None or query.human[1].shape != size or not torch.equal(query.human[0], asked):
            query.human = asked, self.coarse_logits(query, task, size)[0].max(0).indices == HUMAN
        return query.human[1]

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Eq. (13), all weights 1, with the two sides of eq. (10) apart."""
        query, support = self.encode(batch.query_images), self.encode(batch.support_images[:, 0])
        grid, size = _grid(query), (batch.query_masks.shape[1], batch.query_masks.shape[2])
        ours = Side(query.fine, to_grid(batch.query_masks, grid), to_grid(batch.query_coarse, grid))
        theirs = Side(support.fine, to_grid(batch.support_masks[:, 0], grid), to_grid(batch.support_coarse[:, 0], grid))
        task = self.prototypes(support, theirs.mask, theirs.coarse, self.asked(batch, grid), progress.epoch)
        truth = self.truth(batch.query_masks, batch.query_coarse, task)
        beta, losses = self.beta(progress), {}
        if self.agm is not None:
            losses["agm"] = beta * cross_entropy(self.agm_logits(query, task, size), truth)
        if self.npm is not None:
            losses["npm"] = (1 - beta) * cross_entropy(self.npm_logits(query, task, size), truth)
        if self.coarse is not None:
            losses["coarse"] = cross_entropy(self.coarse_logits(query, task, size), batch.query_coarse)
        if self.settings.parts.contrast:
            losses["contrast"] = self.contrast(ours, theirs, task.fine.ids)
        return losses

    def asked(self, batch: Batch, grid: tuple[int, int]) -> Tensor:
        """The classes that a training step parses, int64 [N, K], EMPTY-padded; see `asked_classes`."""
        return asked_classes(batch, grid)

    def contrast(self, query: Side, support: Side, ids: Tensor) -> Tensor:
        """Prototype contrast, eq. (12), over the classes that both images have; the others lack a prototype."""
        ours, there = pooled(query.features, class_weights(query.mask, ids))
        theirs, present = pooled(support.features, class_weights(support.mask, ids))
        return contrast(ours, there & present, theirs, present, self.settings.tau)

    def truth(self, masks: Tensor, coarse: Tensor, task: SpacePrototypes) -> Tensor:  # noqa: ARG002
        """The channel that each pixel belongs to in the fine space: int64 [N, H, W]; see `channels`."""
        return channels(masks, task.fine.ids, task.fine.present)

    def beta(self, progress: Progress) -> float:
        """The weight of AGM's loss, eq. (10)."""
        if self.agm is None or self.npm is None:
            return float(self.npm is None)
        return 1 - progress.epoch / progress.epochs if self.settings.parts.weight_shift else 0.5

    def logged(self, progress: Progress) -> dict[str, float]:
        """The weight of AGM's loss."""
        return {"beta": self.beta(progress)}

    def describe(self) -> dict[str, Any]:
        """The head that parses, and whether the coarse space screens; None without that space."""
        screening = None if self.coarse is None else self.settings.screening
        return {"head": "AGM" if self.npm is None else "NPM", "screening": screening}

    def learned_classes(self) -> frozenset[int]:
        """The classes with a remembered prototype: training stores one of every class that it meets."""
        if not isinstance(self.memory, MomentumPrototypes):
            return frozenset()
        return frozenset((self.memory.rows != 0).any(1).nonzero().flatten().tolist())


def _grid(features: SpaceFeatures) -> tuple[int, int]:
    return features.fine.shape[2], features.fine.shape[3]
