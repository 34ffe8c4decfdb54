"""PFENet, Prior Guided Feature Enrichment Network (Tian et al., TPAMI 2020): 1-way, behind a frozen backbone.

High-level features that are not trained say where the query looks like the support's object: the prior. Mid-level
features of the query, the support's mean feature and the prior are merged at several scales, from fine to coarse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from oshp_bench.baselines.backbones.layers import Backbone, upsampled
from oshp_bench.baselines.contract import Batch, Labels, LearnedMethod, Progress, Support
from oshp_bench.baselines.pieces.losses import cross_entropy
from oshp_bench.baselines.pieces.prototypes import channels
from oshp_bench.episodes.episodes import Way
from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.ranges import Range, outside

# In the official code's masked mean, and in its cosine and the scaling of the prior to 0..1.
_AREA_EPS, _PRIOR_EPS = 5e-4, 1e-7


@dataclass(frozen=True)
class PFENetSettings:
    """PFENet's settings; the defaults are the authors', with bins as parts of the grid."""

    width: Annotated[int, Range(1, 4096)] = 256
    """Channels that mid-level features are reduced to."""
    bins: tuple[float, float, float, float] = (1.0, 0.5, 0.25, 0.125)
    """Sides of the pyramid's scales: parts of the grid's height and width up to 1, else cells."""
    dropout: tuple[float, float] = (0.5, 0.1)
    """How often training leaves out a channel of the reduced features, and one before a classifier."""
    auxiliary: Annotated[float, Range(0, 100)] = 1.0
    """Weight of the mean loss of the scales' own classifiers."""
    foreground: Annotated[float, Range(0.01, 1000)] = 1.0
    """What the loss of the object's pixels is multiplied by. The authors have no such factor; parts of people are so
    small that few steps without it only teach that all is background."""
    rescue: bool = True
    """Where resizing loses an object, the cells that it touches stand for it; the authors' code then has an empty
    mask."""

    def __post_init__(self) -> None:
        problems = outside(self)
        if not all(0 < side <= 1 or side in range(2, 1025) for side in self.bins):
            problems.append(f"bins is {self.bins}; parts up to 1, or whole numbers of cells up to 1024, work")
        if not all(0 <= part <= 0.99 for part in self.dropout):
            problems.append(f"dropout is {self.dropout}; 0 to 0.99 works")
        raise_problems(problems)


# See LearnedMethod.defaults. The authors' base rate is 0.0025, and their schedule takes ten times that for all that is
# trained. On a CPU the pyramid of 256 channels would take ten times as long as the small backbone; few channels learn
# nothing in few steps if half of them are left out, and batches of two give poor statistics.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "paper": {"backbone": "resnet50-deep", "lr": 0.025, "weight_decay": 1e-4, "batch": 4},
    "cpu": {"freeze_batch_norm": True, "model": {"width": 64, "dropout": [0.0, 0.0]}},
    "quick": {"freeze_batch_norm": True, "model": {"width": 32, "dropout": [0.0, 0.0]}},
}


@dataclass(frozen=True)
class Encoded:
    """N images, as queries and as supports.

    Attributes:
        query, support: mid-level features reduced for either role, float [N, width, h, w].
        below: the level below the highest one, for the support's pass behind its mask.
        high: the highest level.
    """

    query: Tensor
    support: Tensor
    below: Tensor
    high: Tensor


@dataclass(frozen=True)
class ObjectFeatures:
    """What N supports ask for.

    Attributes:
        vector: the mean feature of each object, float [N, width, 1, 1].
        rows: of each support the high-level features of the object's cells, float [n, C].
        everywhere: whether those are all cells of that support.
    """

    vector: Tensor
    rows: tuple[Tensor, ...]
    everywhere: tuple[bool, ...]


class PFENet(LearnedMethod):
    """PFENet.

    The backbone is frozen, but its batch norm is live in training, as in the authors' code: queries pass first, then
    supports. The training setting freeze_batch_norm keeps it still.

    Args:
        backbone: its highest level gives the prior, the two below it the mid-level features.
    """

    ways = ("1",)
    settings_type = PFENetSettings
    defaults = _DEFAULTS

    def __init__(self, backbone: Backbone, labels: Labels, way: Way, settings: PFENetSettings) -> None:  # noqa: ARG002
        super().__init__()
        self.settings = settings
        self.backbone = backbone.requires_grad_(False)
        self._names = tuple(backbone.levels)[-3:]
        middle = sum(backbone.levels[name].channels for name in self._names[:2])
        reduced, classified = settings.dropout
        self.reduce_query, self.reduce_support = (
            nn.Sequential(nn.Conv2d(middle, settings.width, 1, bias=False), nn.ReLU(), nn.Dropout2d(reduced))
            for _ in range(2)
        )
        self.pyramid = Pyramid(settings.width, settings.bins, classified)
        self.classify = Classifier(settings.width, classified)

    def encode(self, images: Tensor) -> Encoded:
        """Mid-level features reduced for either role, and the two highest levels."""
        with torch.no_grad():
            low, below, high = (self.backbone.level_features(images, self._names)[name] for name in self._names)
        middle = _middle(low, below)
        return Encoded(self.reduce_query(middle), self.reduce_support(middle), below, high)

    def adapt(self, support: Support) -> ObjectFeatures:
        """The object's mean feature, and what the highest level gives for the object alone.

        A support without a pixel of the class has a zero vector and the prior 0.

        Raises:
            OshpError: more than one class is asked for.
        """
        if len(support.classes) != 1:
            raise OshpError("pfenet parses one class at a time; ask for --way 1")
        encoded: Encoded = support.features
        return self.task(encoded.support, encoded.below, support.mask == support.classes[0])

    def task(self, reduced: Tensor, below: Tensor, objects: Tensor) -> ObjectFeatures:
        """The task of N supports.

        Args:
            reduced: mid-level features reduced for supports, [N, width, h, w].
            below: the level below the highest one.
            objects: bool [N, H, W].
        """
        with torch.no_grad():
            high = self.backbone.stage(self._names[-1])(below * self.on_grid(objects, below))
            mask = self.on_grid(objects, high)
            masked = high * mask
            rows = tuple(cells[:, there[0] > 0].T for cells, there in zip(masked, mask, strict=True))
        everywhere = tuple(len(cells) == mask[0].numel() for cells in rows)
        weights = self.on_grid(objects, reduced)
        vector = (reduced * weights).sum((2, 3), keepdim=True) / (weights.sum((2, 3), keepdim=True) + _AREA_EPS)
        return ObjectFeatures(vector, rows, everywhere)

    def on_grid(self, objects: Tensor, features: Tensor) -> Tensor:
        """Objects, bool [N, H, W], as the weights of the cells of features: float [N, 1, h, w] in 0..1."""
        size, exact = (features.shape[2], features.shape[3]), objects[:, None].to(features.dtype)
        weights = upsampled(exact, size)
        if not self.settings.rescue:
            return weights
        touched = (functional.adaptive_max_pool2d(exact, size) > 0).to(weights.dtype)
        return torch.where(weights.any(3, keepdim=True).any(2, keepdim=True), weights, touched)

    def parse(self, query: Encoded, task: ObjectFeatures, size: tuple[int, int]) -> Tensor:
        """Logits of background and of the object."""
        merged = self.pyramid(query.query, task.vector, priors(task, query.high))
        return upsampled(self.classify(merged.fused), size)[0]

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:  # noqa: ARG002
        """Cross-entropy of the prediction, and the mean of that of the scales' own classifiers."""
        targets = batch.support_targets
        with torch.no_grad():
            # Queries go through all levels first: batch norm learns from either pass, and the second is masked.
            levels = self.backbone.level_features(batch.query_images, self._names)
            low, below, high = (levels[name] for name in self._names)
            levels = self.backbone.level_features(batch.support_images[:, 0], self._names[:-1])
            support_low, support_below = (levels[name] for name in self._names[:-1])
        query = self.reduce_query(_middle(low, below))
        support = self.reduce_support(_middle(support_low, support_below))
        task = self.task(support, support_below, batch.support_masks[:, 0] == targets[:, :, None])
        merged = self.pyramid(query, task.vector, priors(task, high))
        truth = channels(batch.query_masks, targets, torch.ones_like(targets, dtype=torch.bool))
        size = truth.shape[1], truth.shape[2]
        factor = self.settings.foreground
        scales = [
            cross_entropy(upsampled(logits, size), truth, factor) for logits in self.pyramid.auxiliary(merged.scales)
        ]
        return {
            "query": cross_entropy(upsampled(self.classify(merged.fused), size), truth, factor),
            "auxiliary": self.settings.auxiliary * torch.stack(scales).mean(),
        }


def priors(task: ObjectFeatures, high: Tensor) -> Tensor:
    """The prior: how much each cell of N queries looks like its support's object, scaled to 0..1: [N, 1, h, w].

    A query's cell takes the largest cosine with the support's masked features; masked-out cells are zero vectors, so
    that it is not below 0 unless the object is everywhere.
    """
    with torch.no_grad(), torch.autocast(high.device.type, enabled=False):
        maps = []
        for rows, everywhere, query in zip(task.rows, task.everywhere, high, strict=True):
            cells, objects = (_precise(vectors) for vectors in (query.flatten(1), rows))
            lengths = torch.linalg.vector_norm(objects, dim=1)[:, None] * torch.linalg.vector_norm(cells, dim=0)
            cosine = objects @ cells / (lengths + _PRIOR_EPS)
            best = cosine.amax(0) if everywhere else torch.cat((cosine, cosine.new_zeros(1, cells.shape[1]))).amax(0)
            best = best - best.min()
            maps.append((best / (best.max() + _PRIOR_EPS)).view(1, *query.shape[1:]))
        return torch.stack(maps)


@dataclass(frozen=True)
class Merged:
    """What the pyramid gives.

    Attributes:
        scales: the maps of its scales, float [N, width, b, b] each.
        fused: all of them together, float [N, width, h, w].
    """

    scales: tuple[Tensor, ...]
    fused: Tensor


class Pyramid(nn.Module):
    """The Feature Enrichment Module: inter-source, inter-scale (top-down, fine to coarse), and their concentration."""

    def __init__(self, width: int, bins: Sequence[float], dropout: float) -> None:
        super().__init__()
        self._bins = tuple(bins)
        self.merge = nn.ModuleList(_pointwise(2 * width + 1, width) for _ in bins)
        self.enrich = nn.ModuleList(_pointwise(2 * width, width) for _ in bins[1:])
        self.refine = nn.ModuleList(_twice(width) for _ in bins)
        self.classify = nn.ModuleList(Classifier(width, dropout) for _ in bins)
        self.fuse = _pointwise(len(self._bins) * width, width)
        self.last = _twice(width)

    def forward(self, query: Tensor, vector: Tensor, prior: Tensor) -> Merged:
        """Merges a query's reduced features [N, width, h, w] with vectors [N, width, 1, 1] and priors [N, 1, ., .]."""
        grid = (query.shape[2], query.shape[3])
        scales: list[Tensor] = []
        whole: list[Tensor] = []
        for number, part in enumerate(self._bins):
            size = _side(grid[0], part), _side(grid[1], part)
            pooled = functional.adaptive_avg_pool2d(query, size)
            spread = vector.expand(-1, -1, *size)
            merged = self.merge[number](torch.cat((pooled, spread, upsampled(prior.to(query.dtype), size)), 1))
            if number:
                # From the grid, where the scale above was brought: it is resized twice, as in the authors' code.
                above = upsampled(whole[-1], size)
                merged = merged + self.enrich[number - 1](torch.cat((merged, above), 1))
            merged = merged + self.refine[number](merged)
            scales.append(merged)
            whole.append(upsampled(merged, grid))
        fused = self.fuse(torch.cat(whole, 1))
        return Merged(tuple(scales), fused + self.last(fused))

    def auxiliary(self, scales: Sequence[Tensor]) -> list[Tensor]:
        """What the scales' own classifiers say: [N, 2, b, b] each."""
        return [classify(merged) for classify, merged in zip(self.classify, scales, strict=True)]


class Classifier(nn.Sequential):
    """[N, width, h, w] -> logits of background and object, [N, 2, h, w]."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.Dropout2d(dropout),
            nn.Conv2d(width, 2, 1),
        )


def _middle(low: Tensor, below: Tensor) -> Tensor:
    """Mid-level features at the finer of both grids, the higher level first."""
    size = (low.shape[2], low.shape[3])
    return torch.cat((below if below.shape[2:] == size else upsampled(below, size), low), 1)


def _side(cells: int, part: float) -> int:
    return int(part) if part > 1 else max(1, int(cells * part))


def _pointwise(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.ReLU())


def _twice(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.ReLU(),
    )


def _precise(features: Tensor) -> Tensor:
    return features.to(torch.promote_types(features.dtype, torch.float32))
