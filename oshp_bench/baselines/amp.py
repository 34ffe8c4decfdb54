"""AMP, Adaptive Masked Proxies (Siam, Oreshkin and Jagersand, ICCV 2019): a support imprints rows of classifiers.

A segmentation network of the base classes has bias-free 1x1 classifiers at three depths. At test the mean features of
every class in the support, its proxies, are mixed into the rows of background and base classes, and become the rows of
novel classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from oshp_bench.baselines.backbones.layers import Backbone, upsampled
from oshp_bench.baselines.contract import Batch, Labels, LearnedMethod, Progress, Support
from oshp_bench.baselines.pieces.losses import cross_entropy
from oshp_bench.baselines.pieces.prototypes import channels
from oshp_bench.baselines.settings import at_test
from oshp_bench.datasets.images import IGNORE
from oshp_bench.episodes.episodes import Way
from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.ranges import Range, outside

# In the official code's division by a length.
_EPS = 1e-10


@dataclass(frozen=True)
class AMPSettings:
    """AMP's settings; the defaults are those of the authors' one-shot results."""

    width: Annotated[int, Range(1, 4096)] = 256
    """Channels of the embedding, the deepest of the three features."""
    dropout: Annotated[float, Range(0, 0.99)] = 0.5
    """How often training leaves out a channel of the embedding."""
    cosine: bool = False
    """Score cosines of features and rows, times a learned factor that starts at 20: the authors' normalised training.
    Rows and proxies then have length 1 before they are mixed."""
    novel: Literal["background", "ignored"] = "background"
    """Human pixels without a base class in training: background, as OSHP's masks say, or ignored, as the authors have
    it."""
    resize: Literal["nearest", "bilinear"] = "nearest"
    """How logits come to image size; the authors take the nearest."""
    alpha: Annotated[float, Range(0, 1)] = at_test(0.25821)
    """How far a support moves the rows of background and base classes, alpha of the proxy update."""
    imprints: Literal["whole", "asked"] = at_test("whole")
    """whole imprints every base class that the support shows. asked imprints those that are asked for, and all others
    are background; this differs 1-way."""
    others: Literal["background", "absent"] = at_test("background")
    """A pixel whose best row is that of a base class that is not asked for: background, as the authors score it, or the
    best of the others, as if that row were absent."""
    refine: bool = at_test(True)
    """Imprint novel classes on the query, too, where the first logits are sure of them."""
    refine_alpha: Annotated[float, Range(0, 1)] = at_test(0.1)
    """How far the query moves the rows."""
    refine_above: Annotated[float, Range(0, 1)] = at_test(0.7)
    """The probability above which logits are sure."""

    def __post_init__(self) -> None:
        raise_problems(outside(self))


# See LearnedMethod.defaults. The authors train on 300,000 images one by one: 20 epochs of 7,500 queries with supports.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "paper": {
        "backbone": "vgg16-fcn8s",
        "optimiser": "rmsprop",
        "momentum": 0.0,
        "lr": 1e-6,
        "schedule": "constant",
        "batch": 1,
        "epochs": 20,
    },
    # Imprinted rows have length 1, which trained rows on features of another size than VGG-16's do not match.
    "cpu": {"model": {"cosine": True}},
    "quick": {"model": {"cosine": True}},
}

# Of the three depths, from deep to shallow: features [N, C, h, w], or classifier rows [R, C].
Depths = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class ImprintedRows:
    """An imprinted classifier.

    Attributes:
        rows: its rows at the three depths, [R, C] each: background, base classes, novel classes that are asked for.
        novel: the numbers of the novel rows.
        asked: the numbers of the rows of the classes that are asked for.
        empty: which of `asked` are novel and have no pixel in the support, bool [K].
    """

    rows: Depths
    novel: tuple[int, ...]
    asked: tuple[int, ...]
    empty: Tensor


class AMP(LearnedMethod):
    """AMP.

    Args:
        backbone: its three deepest levels are what is classified; the deepest goes through a 1x1 convolution before.

    Raises:
        OshpError: the base classes are unknown.
    """

    settings_type = AMPSettings
    defaults = _DEFAULTS

    def __init__(self, backbone: Backbone, labels: Labels, way: Way, settings: AMPSettings) -> None:  # noqa: ARG002
        super().__init__()
        if not labels.base:
            raise OshpError("amp has a row for each base class: it needs a manifest that says which they are")
        self.settings = settings
        self.backbone = backbone
        self._names = tuple(backbone.levels)[-3:]
        *shallow, deep = (backbone.levels[name].channels for name in self._names)
        self.embed = nn.Conv2d(deep, settings.width, 1)
        self.dropout = nn.Dropout2d(settings.dropout)
        self._base = labels.base
        self.classify = nn.ModuleList(
            nn.Conv2d(width, 1 + len(labels.base), 1, bias=False) for width in (settings.width, *reversed(shallow))
        )

        self.scale = nn.Parameter(torch.tensor(20.0)) if settings.cosine else None

    def encode(self, images: Tensor) -> Depths:
        """Features at three depths, from deep to shallow; the deepest is the embedding before its ReLU."""
        levels = self.backbone.level_features(images, self._names)
        shallowest, shallow, deep = (levels[name] for name in self._names)
        return self.embed(deep), shallow, shallowest

    def rows(self) -> Depths:
        """The classifiers' rows as training left them: [R, C] each."""
        embedding, shallow, shallowest = (conv.get_parameter("weight")[:, :, 0, 0] for conv in self.classify)
        return embedding, shallow, shallowest

    def logits(self, features: Depths, rows: Depths) -> Tensor:
        """Logits of all rows at the shallowest grid, [N, R, h, w]: deeper ones are resized and added, as in FCN-8s."""
        embedding, *others = features
        out = self._scores(self.dropout(embedding.relu()), rows[0])
        for feature, depth in zip(others, rows[1:], strict=True):
            size = (feature.shape[2], feature.shape[3])
            out = (out if out.shape[2:] == size else upsampled(out, size)) + self._scores(feature, depth)
        return out if self.scale is None else out * self.scale

    def _scores(self, features: Tensor, rows: Tensor) -> Tensor:
        if self.settings.cosine:
            features, rows = (functional.normalize(vectors, dim=1) for vectors in (features, rows))
        return functional.conv2d(features, rows[:, :, None, None])

    def at_size(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits at image size."""
        if self.settings.resize == "nearest":
            return functional.interpolate(logits, size, mode="nearest")
        return upsampled(logits, size)

    def adapt(self, support: Support) -> ImprintedRows:
        """Imprints the support: one row for every novel class asked for, all at once."""
        novel = tuple(label for label in support.classes if label not in self._base)
        ids = (*self._base, *novel)
        labels = row_numbers(support.whole if self.settings.imprints == "whole" else support.mask, ids)
        how = len(novel), self.settings.alpha, self.settings.cosine
        rows, shown = imprinted(self.rows(), support.features, labels, *how)
        old, asked = 1 + len(self._base), tuple(1 + ids.index(label) for label in support.classes)
        empty = torch.tensor([number >= old for number in asked], device=shown.device) & ~shown[list(asked)]
        return ImprintedRows(rows, tuple(range(old, 1 + len(ids))), asked, empty)

    def parse(self, query: Depths, task: ImprintedRows, size: tuple[int, int]) -> Tensor:
        """Logits of the rows asked for; background is the best of all others.

        A novel class without a pixel in the support has no row: it scores -inf.
        """
        rows = self.refined(query, task, size)[-1] if self.settings.refine and task.novel else task.rows
        logits = self.at_size(self.logits(query, rows), size)[0]
        asked = logits[list(task.asked)].masked_fill(task.empty[:, None, None], -torch.inf)
        others = range(1, 1 + len(self._base)) if self.settings.others == "background" else ()
        rest = [0, *(row for row in others if row not in task.asked)]
        return torch.cat((logits[rest].amax(0, keepdim=True), asked))

    def refined(self, query: Depths, task: ImprintedRows, size: tuple[int, int]) -> tuple[Tensor, Depths, Depths]:
        """Imprints the query: its sure novel pixels, all else as background; then the whole of it as background.

        Returns:
            The labels that it was given, int64 [1, *size] of row numbers; the rows after either step.
        """
        how = 0, self.settings.refine_alpha, self.settings.cosine
        sure = self.at_size(self.logits(query, task.rows), size).softmax(1)[:, task.novel[0] :]
        best, number = sure.max(1)
        labels = torch.where(best > self.settings.refine_above, number + task.novel[0], 0)
        first, _ = imprinted(task.rows, query, labels, *how)
        second, _ = imprinted(first, query, torch.zeros_like(labels), *how)
        return labels, first, second

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:  # noqa: ARG002
        """Cross-entropy of background and all base classes, on queries and supports alike."""
        images = torch.cat((batch.query_images, batch.support_images.flatten(0, 1)))
        masks = torch.cat((batch.query_masks, batch.support_masks.flatten(0, 1)))
        truth = row_numbers(masks, self._base)
        if self.settings.novel == "ignored":
            human = torch.cat((batch.query_coarse, batch.support_coarse.flatten(0, 1))) == 1
            truth = truth.masked_fill(human & (truth == 0), IGNORE)
        logits = self.logits(self.encode(images), self.rows())
        return {"classes": cross_entropy(self.at_size(logits, (truth.shape[1], truth.shape[2])), truth)}


def imprinted(
    rows: Depths, features: Depths, labels: Tensor, new: int, alpha: float, unit: bool = False
) -> tuple[Depths, Tensor]:
    """Moves the rows of what the labels show towards its proxies (adaptive proxies); appends those of new classes.

    Args:
        rows: [R, C] at each depth. Row 0, background, always moves, the others where the labels show them.
        features: of K images, [K, C, h, w] at each depth.
        labels: int64 [K, H, W] of row numbers; 255 to ignore.
        new: how many rows are appended: normalised proxies, zero where the labels do not show them.
        alpha: the weight of a proxy; 1 - alpha is the row's.
        unit: rows and proxies are brought to length 1 before they are mixed.

    Returns:
        The rows, [R + new, C] at each depth, and which of them the labels show, bool [R + new].
    """
    old = len(rows[0])
    present = torch.zeros(IGNORE + 1, dtype=torch.bool, device=labels.device)
    present[labels.flatten()] = True
    shown = present[: old + new]
    moves = shown[:old].clone()
    moves[0] = True
    moved = []
    for depth, feature in zip(rows, features, strict=True):
        means = proxies(feature, labels, old + new)
        start = depth
        if unit:
            start, means = _normalised(depth), _normalised(means)
        mixed = _normalised((1 - alpha) * start + alpha * means[:old])
        moved.append(torch.cat((torch.where(moves[:, None], mixed, depth), _normalised(means[old:]))))
    embedding, shallow, shallowest = moved
    return (embedding, shallow, shallowest), shown


def proxies(features: Tensor, labels: Tensor, count: int) -> Tensor:
    """Masked average pooling: the mean feature of every label's pixels, features resized by nearest.

    No cell of the grid is resized: it counts as often as the pixels of a label take it. So no class is too small.

    Args:
        features: float [K, C, h, w].
        labels: int64 [K, H, W]; 255 to ignore.
        count: how many labels there are.

    Returns:
        float [count, C]: means over the K images, an image without the label as zero, as in the official code.
    """
    cells = features.shape[2] * features.shape[3]
    rows, columns = (
        _nearest(grid, pixels, labels.device) for grid, pixels in zip(features.shape[2:], labels.shape[1:], strict=True)
    )
    place = rows[:, None] * features.shape[3] + columns
    means = []
    for feature, label in zip(features.flatten(2), labels, strict=True):
        seen = label != IGNORE
        taken = torch.bincount(label[seen] * cells + place[seen], minlength=count * cells)[: count * cells]
        weights = taken.view(count, cells).to(feature.dtype)
        means.append(weights @ feature.T / weights.sum(1, keepdim=True).clamp(min=1))
    return torch.stack(means).mean(0)


def row_numbers(masks: Tensor, ids: Sequence[int]) -> Tensor:
    """Masks of class ids as row numbers: i + 1 for ids[i]; a class without a row is background, 255 stays."""
    rows = torch.tensor(ids, device=masks.device).expand(len(masks), -1)
    return channels(masks, rows, torch.ones_like(rows, dtype=torch.bool))


def _normalised(rows: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / (lengths + _EPS)


def _nearest(cells: int, pixels: int, device: torch.device) -> Tensor:
    """The cell that each pixel takes where torch resizes by nearest: int64 [pixels]."""
    numbers = torch.arange(cells, dtype=torch.float32, device=device)
    return functional.interpolate(numbers[None, None], pixels, mode="nearest")[0, 0].long()
