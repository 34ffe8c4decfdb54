"""SG-One (Zhang et al., "SG-One: Similarity Guidance Network for One-Shot Semantic Segmentation", IEEE TCYB 2020).

The OSHP paper adapts it in its section 6.3: it runs on the embedding network of EOP-Net, and parses several classes at
once with a background as in AGM (eq. 6 of that paper).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from oshp_bench.baselines.backbones.layers import Backbone, stretched
from oshp_bench.baselines.contract import Batch, Labels, LearnedMethod, ParameterGroup, Progress, Support
from oshp_bench.baselines.pieces.full_size import full_size_means
from oshp_bench.baselines.pieces.heads import mean_over
from oshp_bench.baselines.pieces.losses import cross_entropy
from oshp_bench.baselines.pieces.prototypes import EMPTY, asked_classes, channels, similarity
from oshp_bench.episodes.episodes import Way
from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.ranges import Range, outside

# The channels of the segmentation branch.
_WIDTH = 128
# How many levels the original branches read.
_LEVELS = 3


# As the authors train, on the backbone of OSHP: 100,000 steps of one episode at one learning rate. With AdamW, whose
# steps do not shrink with the gradients, the authors' multiples would be too fast.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "paper": {"batch": 1, "epochs": 100, "episodes": 1000, "lr": 1e-5, "momentum": 0.99, "schedule": "constant"},
    "cpu": {"model": {"multiples": False}},
    "quick": {"model": {"multiples": False}},
}


@dataclass(frozen=True)
class SGOneSettings:
    """What makes one SG-One differ from another."""

    branches: Literal["embedding", "levels"] = "embedding"
    """What both branches read. embedding: the features of the whole backbone, as OSHP has it with EOP-Net's. levels:
    the backbone's last three levels, as the authors have it with vgg16-sg-one."""
    framed: bool = False
    """Pad the last 1x1 convolution as the authors do: the logits get a frame of cells that see nothing, and shrink a
    little towards the middle."""
    multiples: bool = True
    """The guidance convolution learns ten times as fast, and all biases twice as fast, as in the authors' code."""
    foreground: Annotated[float, Range(0.01, 1000)] = 1.0
    """1-way: what the loss of the target's pixels is multiplied by. The authors have no such factor; parts of people
    are so small that few steps without it only teach that all is background."""

    def __post_init__(self) -> None:
        raise_problems(outside(self))


@dataclass(frozen=True)
class BranchFeatures:
    """An image in both branches.

    Attributes:
        guidance: float [N, C, h, w]: compared with the support's.
        segmentation: float [N, 128, h, w]: parsed under the guidance.
    """

    guidance: Tensor
    segmentation: Tensor


@dataclass(frozen=True)
class Representatives:
    """What N supports ask for.

    Attributes:
        vectors: float [N, K, C]: the representative vectors of K classes; zero for a class that is not present.
        present: bool [N, K]: the support shows the class.
        ranked: bool [N, K]: the class takes part in the parsing, whether it is present or not.
    """

    vectors: Tensor
    present: Tensor
    ranked: Tensor


class EmbeddingBranches(nn.Module):
    """Both branches on one embedding: a 3x3 convolution for each."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.guidance = _conv(backbone.width, backbone.width)
        self.segmentation = _conv(backbone.width, _WIDTH)

    def forward(self, backbone: Backbone, images: Tensor) -> BranchFeatures:
        features = backbone(images)
        return BranchFeatures(self.guidance(features), self.segmentation(features))


class LevelBranches(nn.Module):
    """The original branches: guidance on the last level, segmentation down a cascade over the last three.

    Raises:
        OshpError: the last three levels do not have one stride.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self._names = list(backbone.levels)[-_LEVELS:]
        levels = [backbone.levels[name] for name in self._names]
        if len({level.stride for level in levels}) > 1 or len(levels) < _LEVELS:
            raise OshpError(
                "model.branches is levels, but this backbone's last three levels do not have one stride; take"
                " vgg16-sg-one, or model.branches=embedding"
            )
        self.guidance = _conv(levels[-1].channels, levels[-1].channels)
        self.cascade = nn.ModuleList(
            _conv(level.channels + (_WIDTH if number else 0), _WIDTH) for number, level in enumerate(levels)
        )

    def forward(self, backbone: Backbone, images: Tensor) -> BranchFeatures:
        levels = list(backbone.level_features(images, self._names).values())
        features: Tensor = self.cascade[0](levels[0])
        for conv, level in zip(list(self.cascade)[1:], levels[1:], strict=True):
            features = conv(torch.cat((features.relu(), level), 1))
        return BranchFeatures(self.guidance(levels[-1]), features)


class SGOne(LearnedMethod):
    """SG-One: cosine similarity with the support's masked mean guides a small head, once for every class.

    Args:
        backbone: all of it is trained.
    """

    settings_type = SGOneSettings
    defaults = _DEFAULTS

    def __init__(
        self,
        backbone: Backbone,
        labels: Labels,  # noqa: ARG002
        way: Way,
        settings: SGOneSettings | None = None,
    ) -> None:
        super().__init__()
        settings = settings or SGOneSettings()
        self.ways = (way,)
        self.settings = settings
        # The query that was parsed last, with its taps: pairs of one query follow each other.
        self._parsed: tuple[BranchFeatures, Tensor] | None = None
        self.backbone = backbone
        self.branches = (EmbeddingBranches if settings.branches == "embedding" else LevelBranches)(backbone)
        self.classify = nn.Sequential(
            _conv(_WIDTH, _WIDTH), nn.ReLU(inplace=True), nn.Conv2d(_WIDTH, 2, 1, padding=int(settings.framed))
        )
        for module in (*self.branches.modules(), *self.classify.modules()):
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)

    def encode(self, images: Tensor) -> BranchFeatures:
        """Both branches."""
        features: BranchFeatures = self.branches(self.backbone, images)
        return features

    def adapt(self, support: Support) -> Representatives:
        """Representative vectors of one support; one of which it shows nothing is zero, and so is its similarity."""
        return self.task(support.features, support.mask, torch.tensor([support.classes], device=support.mask.device))

    def parse(self, query: BranchFeatures, task: Representatives, size: tuple[int, int]) -> Tensor:
        """Logits of background and every class.

        They are those of `logits` but for rounding. The head's first convolution is linear, so that what it makes of
        the query alone is computed once for all classes and all supports.
        """
        if self._parsed is None or self._parsed[0] is not query:
            self._parsed = query, self._taps(query.segmentation)
        attention = similarity(query.guidance, task.vectors)
        (_, classes, height, width), (first, between, last) = attention.shape, self.classify
        near = functional.unfold(attention.transpose(0, 1), 3, padding=1)  # [K, 9, cells]
        guided = torch.bmm(near.permute(2, 0, 1), self._parsed[1]) + first.get_parameter("bias")
        votes = last(between(guided).view(height, width, classes, -1).permute(2, 3, 0, 1))
        return stretched(_joined(votes[None], task), size)[0]

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:  # noqa: ARG002
        """Cross-entropy at image size. A class that the support's crop lost is background in the query."""
        size = batch.query_masks.shape[1], batch.query_masks.shape[2]
        query, support = self.encode(batch.query_images), self.encode(batch.support_images[:, 0])
        ids = asked_classes(batch, size)
        task = self.task(support, batch.support_masks[:, 0], ids)
        out = functional.pad(~task.ranked, (1, 0))[:, :, None, None]
        logits = stretched(self.logits(query, task), size).masked_fill(out, -torch.inf)
        factor = self.settings.foreground if batch.way == "1" else 1.0
        return {"query": cross_entropy(logits, channels(batch.query_masks, ids, task.present), factor)}

    def parameter_groups(self, stage: int) -> list[ParameterGroup]:
        """Everything, the guidance convolution and biases at their multiples of the learning rate."""
        if not self.settings.multiples:
            return super().parameter_groups(stage)
        guidance = set(self.branches.guidance.parameters())
        return [
            ParameterGroup(tuple(found), scale)
            for fast, factor in ((False, 1.0), (True, 10.0))
            for bias, scale in ((False, factor), (True, 2 * factor))
            if (
                found := [
                    parameter
                    for name, parameter in self.named_parameters()
                    if (parameter in guidance) == fast and name.endswith(".bias") == bias
                ]
            )
        ]

    def task(self, support: BranchFeatures, masks: Tensor, ids: Tensor) -> Representatives:
        """Representative vectors of N supports, of all pixels of their masks.

        Args:
            masks: int64 [N, H, W] of class ids at any size.
            ids: int64 [N, K], EMPTY-padded.
        """
        shown = masks[:, None] == ids[:, :, None, None]
        return Representatives(full_size_means(support.guidance, shown), shown.flatten(2).any(2), ids != EMPTY)

    def logits(self, query: BranchFeatures, task: Representatives) -> Tensor:
        """Logits of background and every class on the feature grid: [N, 1 + K, h, w].

        The head gives each class two maps; that of background is a mean over the classes (OSHP, eq. (6)). For one
        class it is the original.
        """
        attention = similarity(query.guidance, task.vectors)
        guided = attention[:, :, None] * query.segmentation[:, None]
        votes = self.classify(guided.flatten(0, 1))
        return _joined(votes.view(*attention.shape[:2], *votes.shape[1:]), task)

    def _taps(self, segmentation: Tensor) -> Tensor:
        """What each of the nine taps of the head's first convolution makes of a query: [cells, 9, 128].

        Entry (p, t) is the weight of tap t times the feature that it sees from cell p; zero outside.
        """
        weight = self.classify[0].get_parameter("weight")
        seen = functional.unfold(segmentation, 3, padding=1).view(segmentation.shape[1], 9, -1)
        return torch.einsum("itp,oit->pto", seen, weight.flatten(2))


def _joined(votes: Tensor, task: Representatives) -> Tensor:
    """Votes [N, K, 2, h, w] for background and for the class as logits [N, 1 + K, h, w]."""
    return torch.cat((mean_over(votes[:, :, 0], task.ranked), votes[:, :, 1]), 1)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
