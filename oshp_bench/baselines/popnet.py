"""POPNet, the progressive one-shot parsing network (He et al., AAAI 2021), as the OSHP paper compares it (section 6.3).

Two networks of one architecture are trained one after the other. The first parses human and background as an ordinary
segmentation network; the second parses the classes by metric learning, and the first one's features are infused into
its own. The AAAI paper's stage between them is dropped, as in the OSHP paper. Prototypes, AGM and NPM are EOP-Net's.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from oshp_bench.baselines.backbones.layers import Backbone, SeparableConv, kaiming, upsampled
from oshp_bench.baselines.contract import Batch, Labels, LearnedMethod, ParameterGroup, Progress, Support
from oshp_bench.baselines.pieces.heads import ranked_logits, sharp_nearest
from oshp_bench.baselines.pieces.losses import cross_entropy
from oshp_bench.baselines.pieces.prototypes import (
    EMPTY,
    Prototypes,
    asked_classes,
    channels,
    class_weights,
    pooled,
    similarity,
    to_grid,
)
from oshp_bench.baselines.pieces.recompute import recompute
from oshp_bench.baselines.pieces.released import (
    ReleasedMomentumPrototypes,
    every_class,
    released_guidance,
    released_nearest,
)
from oshp_bench.episodes.episodes import Way
from oshp_bench.errors import raise_problems
from oshp_bench.ranges import Range, outside


@dataclass(frozen=True)
class POPNetSettings:
    """What makes one POPNet differ from another."""

    alpha: Annotated[float, Range(0, 1)] = 0.999
    """Momentum of the prototypes."""
    warm_up: Annotated[int, Range(0, 10**6)] = 3
    """Number of first epochs of the second stage that use static prototypes."""
    weight_shift: bool = True
    """The weight of AGM's loss falls from 1 to 0 over the second stage; without it it is 1/2."""
    absent: bool = True
    """k-way: classes that the support lacks have a channel, too, with similarity 0, as in the authors' code. Without
    them a step on a CPU takes about a third of the time."""
    foreground: Annotated[float, Range(0.01, 1000)] = 1.0
    """1-way: what the loss of the target's pixels is multiplied by. The authors have no such factor; parts of people
    are so small that few steps without it only teach that all is background."""
    drawn: bool = True
    """NPM's scales and shifts start as the authors' code draws them. Otherwise NPM starts as that of the EOP-Net paper,
    which few steps need."""
    residual: bool = False
    """1-way: AGM adds the features to the attended ones, as it always does k-way."""
    recompute: bool = True
    """Compute cheap activations again in the backward pass instead of keeping them: about half the memory, a few
    percent more time, the same numbers."""

    def __post_init__(self) -> None:
        raise_problems(outside(self))


# The episodes of a preset are shared by both stages. So few steps need prototypes that follow the features at once.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "cpu": {"epochs": 12, "model": {"alpha": 0.9, "warm_up": 1, "absent": False}},
    "quick": {"epochs": 7, "model": {"alpha": 0.9, "warm_up": 1, "absent": False, "recompute": False}},
}


@dataclass(frozen=True)
class ClassPrototypes:
    """What N supports ask for.

    Attributes:
        prototypes: k-way of every class id below `count`, or of the asked ones; 1-way of the targets.
        asked: int64 [N, K]: the classes to parse, EMPTY-padded.
    """

    prototypes: Prototypes
    asked: Tensor


class HumanNetwork(nn.Module):
    """The first stage: human or background, by one classifier on the features."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.classify = nn.Conv2d(backbone.width, 2, 1)
        kaiming(self.classify)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of background and human at the images' size: [N, 2, H, W]."""
        return upsampled(self.classify(self.backbone(images)), (images.shape[2], images.shape[3]))


class POPNet(LearnedMethod):
    """POPNet.

    Args:
        backbone: of the second stage; the first gets a copy of it, pretrained weights included.
        way: "k" or "1"; the heads differ.
    """

    stages = 2
    settings_type = POPNetSettings
    defaults = _DEFAULTS

    def __init__(self, backbone: Backbone, labels: Labels, way: Way, settings: POPNetSettings | None = None) -> None:
        super().__init__()
        settings, width = settings or POPNetSettings(), backbone.width
        self.ways = (way,)
        self.labels = labels
        self.settings = settings
        self.human = HumanNetwork(copy.deepcopy(backbone))
        self.backbone = backbone
        self.infusion = nn.Sequential(
            SeparableConv(2 * width, width, activate=True), SeparableConv(width, width, activate=True)
        )
        kaiming(self.infusion)
        self.memory = ReleasedMomentumPrototypes(labels.count, width, settings.alpha)
        self.agm = released_guidance(width, way, settings.residual)
        self.npm = released_nearest(way) if settings.drawn else sharp_nearest()
        if settings.recompute:
            recompute(self)

    def train(self, mode: bool = True) -> POPNet:
        """In the second stage the first network does not learn, and neither do its batch norms."""
        super().train(mode)
        if self.stage > 0:
            self.human.eval()
        return self

    def encode(self, images: Tensor) -> Tensor:
        """Infused features: [N, C, h, w]."""
        with torch.no_grad():
            human = self.human.backbone(images)
        return self.infused(human, self.backbone(images))

    def infused(self, human: Tensor, features: Tensor) -> Tensor:
        """Knowledge infusion of the first stage's features into the second's: [N, C, h, w]."""
        if human.shape != features.shape:
            human = upsampled(human, (features.shape[2], features.shape[3]))
        infused: Tensor = self.infusion(torch.cat((human, features), 1))
        return infused

    def task(self, support: Tensor, mask: Tensor, asked: Tensor, fresh: bool) -> ClassPrototypes:
        """Prototypes of N supports; in training mode they are also remembered.

        A class that its support does not show has none; k-way it still has a channel, with similarity 0.

        Args:
            mask: int64 [N, h, w] on the feature grid.
            asked: int64 [N, K] class ids, EMPTY-padded.
            fresh: warm-up: static prototypes are used.
        """
        ids = every_class(asked, self.labels.count) if self.ways == ("k",) and self.settings.absent else asked
        static, present = pooled(support, class_weights(mask, ids))
        vectors, present = self.memory(static, present, ids, fresh)
        return ClassPrototypes(Prototypes(ids, vectors, present, ids != EMPTY), asked)

    def agm_logits(self, query: Tensor, task: ClassPrototypes, size: tuple[int, int]) -> Tensor:
        """What AGM says of background and of every class with a channel: [N, 1 + K, *size]."""
        attention = similarity(query, task.prototypes.vectors)
        return ranked_logits(self.agm(query, attention, task.prototypes), task.prototypes, size)

    def npm_logits(self, query: Tensor, task: ClassPrototypes, size: tuple[int, int]) -> Tensor:
        """What NPM says, as agm_logits."""
        logits: Tensor = self.npm(similarity(query, task.prototypes.vectors), task.prototypes)
        return ranked_logits(logits, task.prototypes, size)

    def adapt(self, support: Support) -> ClassPrototypes:
        """Prototypes of one support.

        Raises:
            OshpError: a class that the network has no row for.
        """
        self.labels.check(support.classes)
        mask = to_grid(support.mask, _grid(support.features))
        asked = torch.tensor([support.classes], device=mask.device)
        return self.task(support.features, mask, asked, fresh=False)

    def parse(self, query: Tensor, task: ClassPrototypes, size: tuple[int, int]) -> Tensor:
        """NPM's logits; -inf for a class that the support's grid does not show."""
        slots = [task.prototypes.ids[0].tolist().index(asked) for asked in task.asked[0].tolist()]
        logits = self.npm_logits(query, task, size)[0, [0, *(1 + slot for slot in slots)]]
        lost = functional.pad(~task.prototypes.present[0, slots], (1, 0), value=False)
        return logits.masked_fill(lost[:, None, None], -torch.inf)

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """First stage: cross-entropy of human and background on both photos. Second: AGM's and NPM's, weighted."""
        if progress.stage == 0:
            images = torch.cat((batch.query_images, batch.support_images[:, 0]))
            truth = torch.cat((batch.query_coarse, batch.support_coarse[:, 0]))
            return {"human": cross_entropy(self.human(images), truth)}
        query, support = self.encode(batch.query_images), self.encode(batch.support_images[:, 0])
        grid, size = _grid(query), (batch.query_masks.shape[1], batch.query_masks.shape[2])
        asked = asked_classes(batch, grid)
        mask = to_grid(batch.support_masks[:, 0], grid)
        task = self.task(support, mask, asked, progress.epoch < self.settings.warm_up)
        truth = channels(batch.query_masks, task.prototypes.ids, task.prototypes.present)
        beta, factor = self.beta(progress), self.settings.foreground if batch.way == "1" else 1.0
        return {
            "agm": beta * cross_entropy(self.agm_logits(query, task, size), truth, factor),
            "npm": (1 - beta) * cross_entropy(self.npm_logits(query, task, size), truth, factor),
        }

    def parameter_groups(self, stage: int) -> list[ParameterGroup]:
        """The first network, then everything else."""
        first = tuple(self.human.parameters())
        if stage == 0:
            return [ParameterGroup(first)]
        known = set(first)
        return [ParameterGroup(tuple(parameter for parameter in self.parameters() if parameter not in known))]

    def logged(self, progress: Progress) -> dict[str, float]:
        """The weight of AGM's loss in the second stage."""
        return {} if progress.stage == 0 else {"beta": self.beta(progress)}

    def describe(self) -> dict[str, Any]:
        """NPM parses."""
        return {"head": "NPM"}

    def beta(self, progress: Progress) -> float:
        """The weight of AGM's loss, as in EOP-Net's eq. (10)."""
        return 1 - progress.epoch / progress.epochs if self.settings.weight_shift else 0.5


def _grid(features: Tensor) -> tuple[int, int]:
    return features.shape[2], features.shape[3]
