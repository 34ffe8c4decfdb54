"""PPNet, Part-aware Prototype Network (Liu et al., ECCV 2020): 1-way; a class is several prototypes, one a part.

The parts of background and object are found by k-means on the support's features; a pixel of the query scores the
cosine with the nearest part. In training the roles of query and support are also exchanged, as in PANet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from oshp_bench.baselines.backbones.layers import Backbone, upsampled
from oshp_bench.baselines.contract import Batch, Labels, LearnedMethod, ParameterGroup, Progress, Support
from oshp_bench.baselines.pieces.full_size import full_size_means
from oshp_bench.baselines.pieces.losses import cross_entropy
from oshp_bench.baselines.pieces.prototypes import channels, similarity
from oshp_bench.datasets.images import IGNORE
from oshp_bench.episodes.episodes import Way
from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.ranges import Range, outside

# In the official code's masked mean.
_EPS = 1e-5
# With so few pixels on the grid of the parts, or fewer, the parts are looked for at image size.
_FEW = 10
# k-means assigns so often, and moves its centres after all but the last time without gradient.
_ASSIGNMENTS = 10
# An object's parts are looked for on a grid so much finer than that of the features, in height and width.
FINER = 2
# The dilations of the semantic head's convolutions, added up.
_RATES = (6, 12, 18, 24)


@dataclass(frozen=True)
class PPNetSettings:
    """PPNet's settings; the defaults are those of the authors' model of parts alone, which OSHP uses."""

    parts: Annotated[int, Range(1, 100)] = 5
    """Prototypes of background and of the object."""
    share: Annotated[float, Range(0, 10)] = 0.8
    """Weight of a class's mean feature in all of its parts."""
    sharpness: Annotated[float, Range(1e-3, 1e3)] = 20.0
    """Factor of the cosines."""
    alignment: Annotated[float, Range(0, 100)] = 1.0
    """Weight of the alignment loss."""
    frozen: bool = True
    """The backbone's levels below the two highest stay as they were loaded."""
    semantic: bool = False
    """A head that learns all base classes in training, as in the authors' full model, where `share` is 0.5. OSHP does
    without it, and yet counts it in the complexity of Table 8."""
    semantic_weight: Annotated[float, Range(0, 100)] = 0.1
    """Weight of that head's loss."""
    void: Literal["background", "ignored"] = "background"
    """Pixels to ignore in a support: background, as the authors have it, or ignored."""

    def __post_init__(self) -> None:
        raise_problems(outside(self))


# See LearnedMethod.defaults. 24,000 steps; the rate falls after 10,000 and 20,000.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "paper": {
        "backbone": "resnet50",
        "epochs": 24,
        "episodes": 1000,
        "batch": 1,
        "lr": 5e-4,
        "schedule": "step",
        "step_size": 10,
    },
}


@dataclass(frozen=True)
class ClassParts:
    """A class of one image in parts.

    Attributes:
        rows: float [n, C], the features of its pixels in reading order; one zero row where it has none.
        assigned: int64 [n], the part that each of them belongs to.
        centres: float [parts, C]; zero for a part without a row.
        mean: float [1, C], the class's mean feature.
        prototypes: float [parts, C]: centres + share * mean.
    """

    rows: Tensor
    assigned: Tensor
    centres: Tensor
    mean: Tensor
    prototypes: Tensor


class PPNet(LearnedMethod):
    """PPNet.

    Nothing is drawn: k-means starts from rows spread evenly over the class's pixels in reading order, where the
    authors' code draws five of them.

    Args:
        backbone: its features are compared.

    Raises:
        OshpError: a semantic head, and the base classes are unknown.
    """

    ways = ("1",)
    settings_type = PPNetSettings
    defaults = _DEFAULTS

    def __init__(self, backbone: Backbone, labels: Labels, way: Way, settings: PPNetSettings) -> None:  # noqa: ARG002
        super().__init__()
        self.settings = settings
        self.backbone = backbone
        if settings.frozen:
            for layer in self._still():
                layer.requires_grad_(False)
        self._base = labels.base
        self.semantic: nn.ModuleList | None = None
        if settings.semantic:
            if not labels.base:
                raise OshpError("ppnet's semantic head needs to know the base classes; leave it away: semantic=false")
            classes = 1 + len(labels.base)
            self.semantic = nn.ModuleList(
                nn.Conv2d(backbone.width, classes, 3, padding=rate, dilation=rate) for rate in _RATES
            )

    def train(self, mode: bool = True) -> PPNet:
        """The frozen levels' batch norm keeps the statistics it was loaded with."""
        super().train(mode)
        if self.settings.frozen:
            for layer in self._still():
                layer.eval()
        return self

    def _still(self) -> list[nn.Module]:
        """The layers of all levels but the two highest."""
        return [layer for name in tuple(self.backbone.levels)[:-2] for layer in self.backbone.layers(name)]

    def encode(self, images: Tensor) -> Tensor:
        """The backbone's features: [N, C, h, w]."""
        features: Tensor = self.backbone(images)
        return features

    def adapt(self, support: Support) -> Tensor:
        """The parts of background and of the object: [2, parts, C].

        A class without a pixel in the support has zero prototypes, whose score is 0; background's is mostly higher.

        Raises:
            OshpError: more than one class is asked for.
        """
        if len(support.classes) != 1:
            raise OshpError("ppnet parses one class at a time; ask for --way 1")
        target = torch.tensor([support.classes], device=support.mask.device)
        return self.prototypes(support.features[0], self.support_truth(support.mask, target)[0])

    def parse(self, query: Tensor, task: Tensor, size: tuple[int, int]) -> Tensor:
        """Scores of background and of the object."""
        return upsampled(self.scores(query, task), size)[0]

    def scores(self, features: Tensor, prototypes: Tensor) -> Tensor:
        """The cosine with the nearest part: [1, 2, h, w] from features [1, C, h, w], prototypes [2, parts, C]."""
        cosines = [similarity(features, parts[None]).amax(1) for parts in prototypes]
        return self.settings.sharpness * torch.stack(cosines, 1)

    def support_truth(self, masks: Tensor, targets: Tensor) -> Tensor:
        """1 where supports [N, H, W] show their target of [N, 1], 0 for background, 255 for neither."""
        truth = channels(masks, targets, torch.ones_like(targets, dtype=torch.bool))
        return truth if self.settings.void == "ignored" else truth.where(truth != IGNORE, torch.zeros_like(truth))

    def prototypes(self, features: Tensor, truth: Tensor) -> Tensor:
        """The parts of both classes: [2, parts, C] from features [C, h, w] and int64 [H, W] of 0, 1 and 255."""
        both = self.parts(features, truth == 0, 1), self.parts(features, truth == 1, FINER)
        return torch.stack([parts.prototypes for parts in both])

    def parts(self, features: Tensor, mask: Tensor, finer: int, starts: Tensor | None = None) -> ClassParts:
        """A class of an annotated image in parts.

        Args:
            features: float [C, h, w].
            mask: bool [H, W].
            finer: how much finer than that of the features the grid is that parts are looked for on.
            starts: int64 [parts]: the rows that k-means starts from; None spreads them evenly.
        """
        rows = rows_at(features, mask, (mask.shape[0], mask.shape[1]), finer)
        mean = full_size_means(features[None], mask[None, None], _EPS, align_corners=True)[0]
        return self._in_parts(rows, mean, starts)

    def predicted_parts(
        self, features: Tensor, mask: Tensor, full: tuple[int, int], starts: Tensor | None = None
    ) -> ClassParts:
        """A class of a query in parts, for the alignment loss.

        Args:
            features: float [C, h, w].
            mask: bool [h, w], where the class was predicted.
            full: height and width of the image.
            starts: as in `parts`.
        """
        weights = mask.to(features.dtype)
        mean = (features * weights).sum((1, 2))[None] / (weights.sum() + _EPS)
        return self._in_parts(rows_at(features, mask, full, FINER), mean, starts)

    def alignment(
        self,
        query: Tensor,
        support: Tensor,
        predicted: Tensor,
        truth: Tensor,
        starts: tuple[Tensor | None, Tensor | None] = (None, None),
    ) -> Tensor:
        """The alignment loss of one episode: the query's parts, as predicted, parse the support; 0 without an object.

        Args:
            query, support: features, float [C, h, w].
            predicted: bool [h, w], where the query was parsed as the object.
            truth: int64 [H, W] of the support: 0, 1, 255 to ignore.
            starts: of background and object, as in `parts`.
        """
        if not predicted.any():
            return query.new_zeros(())
        full = (truth.shape[0], truth.shape[1])
        both = [
            self.predicted_parts(query, mask, full, begin).prototypes
            for mask, begin in zip((~predicted, predicted), starts, strict=True)
        ]
        scores = upsampled(self.scores(support[None], torch.stack(both)), full)
        total = functional.cross_entropy(scores, truth[None], ignore_index=IGNORE, reduction="sum")
        return total / (truth != IGNORE).sum().clamp(min=1)

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:  # noqa: ARG002
        """Cross-entropy of the query, the alignment loss, and cross-entropy of the semantic head if there is one."""
        count, size = len(batch.query_images), (batch.query_masks.shape[1], batch.query_masks.shape[2])
        # One pass: batch norm sees both sides together.
        features = self.encode(torch.cat((batch.support_images[:, 0], batch.query_images)))
        precise = features.to(torch.promote_types(features.dtype, torch.float32))
        targets = batch.support_targets
        masks = self.support_truth(batch.support_masks[:, 0], targets)
        truth = channels(batch.query_masks, targets, torch.ones_like(targets, dtype=torch.bool))
        scores, alignments = [], []
        with torch.autocast(features.device.type, enabled=False):
            for theirs, ours, mask in zip(precise[:count], precise[count:], masks, strict=True):
                scores.append(self.scores(ours[None], self.prototypes(theirs, mask)))
                predicted = scores[-1][0].max(0).indices == 1
                alignments.append(self.alignment(ours, theirs, predicted, mask))
        losses = {
            "query": cross_entropy(upsampled(torch.cat(scores), size), truth),
            "alignment": self.settings.alignment * torch.stack(alignments).mean(),
        }
        if self.semantic is not None:
            everything = torch.cat((batch.support_masks[:, 0], batch.query_masks))
            base = torch.tensor([self._base] * len(everything), device=everything.device)
            classes = channels(everything, base, torch.ones_like(base, dtype=torch.bool))
            logits = upsampled(self.base_logits(features), size)
            losses["semantic"] = self.settings.semantic_weight * cross_entropy(logits, classes)
        return losses

    def _in_parts(self, rows: Tensor, mean: Tensor, starts: Tensor | None) -> ClassParts:
        if starts is None:
            starts = spread_starts(len(rows), self.settings.parts, rows.device)
        assigned = k_means(rows, starts)
        centres, _ = means(rows, assigned, len(starts))
        return ClassParts(rows, assigned, centres, mean, centres + self.settings.share * mean)

    def base_logits(self, features: Tensor) -> Tensor:
        """What the semantic head says of background and base classes: [N, 1 + base, h, w]."""
        assert self.semantic is not None
        relu = features.relu()
        return torch.stack([conv(relu) for conv in self.semantic]).sum(0)

    def parameter_groups(self, stage: int) -> list[ParameterGroup]:  # noqa: ARG002
        """The backbone's; the semantic head's learn faster."""
        groups = [ParameterGroup(tuple(weight for weight in self.backbone.parameters() if weight.requires_grad))]
        if self.semantic is not None:
            weights, biases = (tuple(getattr(conv, name) for conv in self.semantic) for name in ("weight", "bias"))
            groups += [ParameterGroup(weights, 10.0), ParameterGroup(biases, 20.0, decay=False)]
        return groups


def spread_starts(count: int, parts: int, device: torch.device) -> Tensor:
    """Row numbers evenly spread over `count` rows: floor((i + 1/2) count / parts) for i = 0..parts - 1."""
    return (2 * torch.arange(parts, device=device) + 1) * count // (2 * parts)


@torch.no_grad()
def k_means(rows: Tensor, starts: Tensor) -> Tensor:
    """The part that each row [n, C] belongs to after ten assignments, int64 [n]; the lowest number among equals.

    A centre without rows stays where it is.
    """
    centres = rows[starts]
    # Distances as they are written: those through a matrix product tell equal centres apart.
    mode = "donot_use_mm_for_euclid_dist"
    assigned = torch.cdist(rows, centres, compute_mode=mode).argmin(1)
    for _ in range(_ASSIGNMENTS - 1):
        moved, counts = means(rows, assigned, len(starts))
        centres = torch.where(counts > 0, moved, centres)
        before, assigned = assigned, torch.cdist(rows, centres, compute_mode=mode).argmin(1)
        if torch.equal(before, assigned):
            break
    return assigned


def means(rows: Tensor, assigned: Tensor, parts: int) -> tuple[Tensor, Tensor]:
    """The mean row of every part, [parts, C], zero for a part without rows, and how many rows it has, [parts, 1]."""
    chosen = functional.one_hot(assigned, parts).to(rows.dtype)
    counts = chosen.sum(0)[:, None]
    return chosen.T @ rows / counts.clamp(min=1), counts


def rows_at(features: Tensor, mask: Tensor, full: tuple[int, int], finer: int) -> Tensor:
    """The features of a class's pixels, in reading order: [n, C]; one zero row where it has none.

    Args:
        features: float [C, h, w].
        mask: bool, of any size.
        full: height and width of the image.
        finer: pixels are those of a grid so much finer than that of the features; of the image where they are few.
    """
    _, height, width = features.shape
    size = height * finer, width * finer
    there = _nearest(mask, size)
    if there.sum() <= _FEW:
        size, there = full, _nearest(mask, full)
    if not there.any():
        return features.new_zeros(1, len(features))
    rows, columns = there.nonzero(as_tuple=True)
    return sampled(features, size, rows, columns)


def sampled(features: Tensor, size: tuple[int, int], rows: Tensor, columns: Tensor) -> Tensor:
    """Features [C, h, w] at some pixels of the size that they are brought to, as `upsampled` gives them: [n, C]."""
    _, height, width = features.shape
    cells = features.flatten(1).T.contiguous()
    (top, bottom, down), (left, right, across) = (
        _between(numbers, pixels, cells, features.dtype)
        for numbers, pixels, cells in zip((rows, columns), size, (height, width), strict=True)
    )
    upper = torch.lerp(cells[top * width + left], cells[top * width + right], across)
    lower = torch.lerp(cells[bottom * width + left], cells[bottom * width + right], across)
    return torch.lerp(upper, lower, down)


def _between(numbers: Tensor, pixels: int, cells: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """For pixel numbers the cells on either side, and how far from the first one, [n, 1], with aligned corners."""
    place = numbers.to(dtype) * ((cells - 1) / max(1, pixels - 1))
    first = place.long().clamp(max=cells - 1)
    return first, (first + 1).clamp(max=cells - 1), (place - first)[:, None]


def _nearest(mask: Tensor, size: tuple[int, int]) -> Tensor:
    if mask.shape == size:
        return mask
    return functional.interpolate(mask[None, None].float(), size, mode="nearest")[0, 0] > 0
