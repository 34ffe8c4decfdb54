"""EOP-Net, the end-to-end one-shot human parsing network (TPAMI 2023); equation numbers are the paper's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from oshp_bench.baselines.backbones.layers import Backbone, upsampled
from oshp_bench.baselines.contract import Batch, Labels, LearnedMethod, Progress, Support
from oshp_bench.baselines.eopnet.readings import COARSE_IDS, HUMAN, READINGS, Side
from oshp_bench.baselines.eopnet.settings import DEFAULTS, EOPNetSettings
from oshp_bench.baselines.pieces.heads import AttentionGuidance
from oshp_bench.baselines.pieces.losses import cross_entropy
from oshp_bench.baselines.pieces.prototypes import (
    MomentumPrototypes,
    Prototypes,
    StaticPrototypes,
    asked_classes,
    channels,
    pooled,
    similarity,
    to_grid,
)
from oshp_bench.episodes.episodes import Way
from oshp_bench.errors import OshpError


@dataclass
class Features:
    """An image in both spaces.

    Attributes:
        fine, coarse: float [N, C, h, w] at stride 4; coarse is None without that space.
        human: the coarse prototypes that were last asked about, and where they saw a human, bool [H, W]. In the
            paper's reading they are the same for all supports: all pairs of a query share one pass.
    """

    fine: Tensor
    coarse: Tensor | None
    human: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class Task:
    """What N supports ask for.

    Attributes:
        fine: prototypes of the fine space.
        coarse: prototypes of background and human; None without that space.
        asked: int64 [N, K]: the classes to parse, EMPTY-padded; in the release's reading `fine` has more.
    """

    fine: Prototypes
    coarse: Prototypes | None
    asked: Tensor


class EOPNet(LearnedMethod):
    """EOP-Net.

    Args:
        backbone: gives features at stride 4.
        way: "k" or "1"; in the paper's reading the network is the same for both.
    """

    settings_type = EOPNetSettings
    defaults = DEFAULTS

    def __init__(self, backbone: Backbone, labels: Labels, way: Way, settings: EOPNetSettings | None = None) -> None:
        super().__init__()
        settings = settings or EOPNetSettings()
        parts, reading, width = settings.parts, READINGS[settings.reading][way], backbone.width
        self.ways = (way,)
        self.labels = labels
        self.settings = settings
        self._reading = reading

        def memory(rows: int) -> StaticPrototypes:
            return reading.memory(rows, width, settings.alpha) if parts.momentum else StaticPrototypes()

        self.backbone = backbone
        backbone.recompute = settings.recompute
        self.project = nn.Conv2d(width, width, 1)
        self.memory = memory(labels.count)
        self.agm = reading.guidance(width, settings.recompute) if parts.agm else None
        self.npm = reading.nearest() if parts.npm else None
        self.coarse = (
            reading.coarse(
                width, memory(len(COARSE_IDS)), AttentionGuidance(width, recompute=settings.recompute), settings.warm_up
            )
            if parts.coarse
            else None
        )
        self._contrast = reading.contrast if parts.contrast else None
        self.screening = settings.screening if parts.coarse else None

    def encode(self, images: Tensor) -> Features:
        """Both projections of the features G = g(I)."""
        features = self.backbone(images)
        return Features(self.project(features), None if self.coarse is None else self.coarse.project(features))

    def task(self, support: Features, mask: Tensor, coarse: Tensor, asked: Tensor, epoch: int) -> Task:
        """Prototypes of N supports, eqs. (1) to (3); in training mode they are also remembered.

        Args:
            mask, coarse: int64 [N, h, w] on the feature grid.
            asked: int64 [N, K] class ids, EMPTY-padded.
        """
        ids = self._reading.slots(asked, self.labels.count)
        static, present = pooled(support.fine, self._reading.weights(mask, ids))
        vectors, present = self.memory(static, present, ids, epoch < self.settings.warm_up)
        ranked = torch.ones_like(present) if self._reading.ranks_absent else present
        humans = None
        if self.coarse is not None and support.coarse is not None:
            humans = self.coarse.prototypes(support.coarse, coarse, epoch)
        return Task(Prototypes(ids, vectors, present, ranked), humans, asked)

    def agm_logits(self, query: Features, task: Task, size: tuple[int, int]) -> Tensor:
        """What AGM says of background and every slot: [N, 1 + K, *size]; -inf for what takes no part."""
        assert self.agm is not None
        attention = similarity(query.fine, task.fine.vectors)
        return _at_image_size(self.agm(query.fine, attention, task.fine), task.fine, size)

    def npm_logits(self, query: Features, task: Task, size: tuple[int, int]) -> Tensor:
        """What NPM says, as agm_logits."""
        assert self.npm is not None
        attention = similarity(query.fine, task.fine.vectors)
        return _at_image_size(self.npm(attention, task.fine), task.fine, size)

    def coarse_logits(self, query: Features, task: Task, size: tuple[int, int]) -> Tensor:
        """What the coarse space says of background and human: [N, 2, *size]."""
        assert self.coarse is not None and query.coarse is not None and task.coarse is not None
        return upsampled(self.coarse(query.coarse, task.coarse), size)

    def adapt(self, support: Support) -> Task:
        """Prototypes of one support.

        Raises:
            OshpError: a class that the network has no row for.
        """
        count, most = self.labels.count, max(support.classes)
        if most >= count:
            raise OshpError(
                f"class {most} is asked for, but this EOP-Net knows class ids below {count} alone;"
                " take a checkpoint of this dataset"
            )
        grid = _grid(support.features)
        mask, coarse = to_grid(support.mask, grid), to_grid(support.coarse, grid)
        asked = torch.tensor([support.classes], device=mask.device)
        return self.task(support.features, mask, coarse, asked, self._reading.trained_epoch)

    def parse(self, query: Features, task: Task, size: tuple[int, int]) -> Tensor:
        """NPM's logits (AGM's without NPM); -inf for every class where the coarse space sees no human."""
        logits = self.agm_logits(query, task, size) if self.npm is None else self.npm_logits(query, task, size)
        slots = task.fine.ids[0].tolist()
        scores = logits[0, [0, *(1 + slots.index(each) for each in task.asked[0].tolist())]]
        if self.screening:
            scores[1:] = scores[1:].masked_fill(~self.human(query, task, size), -torch.inf)
        return scores

    def human(self, query: Features, task: Task, size: tuple[int, int]) -> Tensor:
        """Where the coarse space sees a human in one query: bool [*size]."""
        assert task.coarse is not None
        asked = task.coarse.vectors
        if query.human is None or query.human[1].shape != size or not torch.equal(query.human[0], asked):
            query.human = asked, self.coarse_logits(query, task, size)[0].argmax(0) == HUMAN
        return query.human[1]

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Eq. (13), all weights 1, with the two sides of eq. (10) apart."""
        query, support = self.encode(batch.query_images), self.encode(batch.support_images[:, 0])
        grid = _grid(query)
        support_mask, support_coarse = (
            to_grid(batch.support_masks[:, 0], grid),
            to_grid(batch.support_coarse[:, 0], grid),
        )
        task = self.task(support, support_mask, support_coarse, asked_classes(batch, grid), progress.epoch)
        size = (batch.query_masks.shape[1], batch.query_masks.shape[2])
        beta, losses = self.beta(progress), {}
        truth = self.truth(batch.query_masks, batch.query_coarse, task)
        if self.agm is not None:
            losses["agm"] = beta * cross_entropy(self.agm_logits(query, task, size), truth)
        if self.npm is not None:
            losses["npm"] = (1 - beta) * cross_entropy(self.npm_logits(query, task, size), truth)
        if self.coarse is not None:
            losses["coarse"] = cross_entropy(self.coarse_logits(query, task, size), batch.query_coarse)
        if self._contrast is not None:
            ours = Side(query.fine, to_grid(batch.query_masks, grid), to_grid(batch.query_coarse, grid))
            theirs = Side(support.fine, support_mask, support_coarse)
            losses["contrast"] = self._contrast(ours, theirs, task.fine.ids, self.settings.tau)
        return losses

    def truth(self, masks: Tensor, coarse: Tensor, task: Task) -> Tensor:  # noqa: ARG002
        """The channel that each pixel belongs to in the fine space: int64 [N, H, W]; see `channels`."""
        return channels(masks, task.fine.ids, task.fine.present)

    def logged(self, progress: Progress) -> dict[str, float]:
        """The weight of AGM's loss."""
        return {"beta": self.beta(progress)}

    def describe(self) -> dict[str, Any]:
        """The head that parses, and whether the coarse space screens; None without that space."""
        return {"head": "AGM" if self.npm is None else "NPM", "screening": self.screening}

    def learned_classes(self) -> frozenset[int]:
        """The classes with a remembered prototype: training stores one of every class that it meets."""
        if not isinstance(self.memory, MomentumPrototypes):
            return frozenset()
        return frozenset((self.memory.rows != 0).any(1).nonzero().flatten().tolist())

    def beta(self, progress: Progress) -> float:
        """The weight of AGM's loss, eq. (10)."""
        if self.agm is None or self.npm is None:
            return float(self.npm is None)
        return 1 - progress.epoch / progress.epochs if self.settings.parts.weight_shift else 0.5


def _grid(features: Features) -> tuple[int, int]:
    return features.fine.shape[2], features.fine.shape[3]


def _at_image_size(logits: Tensor, classes: Prototypes, size: tuple[int, int]) -> Tensor:
    """Only afterwards -inf: a bilinear weight of 0 would make it NaN."""
    out = functional.pad(classes.ranked, (1, 0), value=True)
    return upsampled(logits, size).masked_fill(~out[:, :, None, None], -torch.inf)
