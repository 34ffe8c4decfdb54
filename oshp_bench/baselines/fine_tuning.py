"""Fine-tuning: an ordinary segmentation network whose last layers are trained on the support of every pair.

After OSVOS (Caelles et al., CVPR 2017) as the OSHP paper describes it (section 6.3): pre-trained on Q_train and
S_train, then the last two convolutional layers and the classification layer are fine-tuned for a few iterations. What
the paper does not say is a setting.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from oshp_bench.baselines.backbones.layers import Backbone, SeparableConv, kaiming, upsampled
from oshp_bench.baselines.contract import Batch, Labels, LearnedMethod, Progress, Support
from oshp_bench.baselines.pieces.losses import cross_entropy
from oshp_bench.baselines.settings import at_test
from oshp_bench.datasets.images import IGNORE
from oshp_bench.episodes.episodes import Way
from oshp_bench.errors import raise_problems
from oshp_bench.ranges import Range, outside

# The rows of a classifier of one target.
_BACKGROUND, _TARGET = 0, 1


@dataclass(frozen=True)
class FineTuningSettings:
    """What the paper leaves open."""

    pretraining: Literal["classes", "target"] = "classes"
    """classes: learn all base classes at once. target: learn the 1-way masks of the episodes, in which only the target
    is marked."""
    steps: Annotated[int, Range(0, 10**6)] = at_test(10)
    """Iterations of fine-tuning on a support; 0 for none."""
    lr: Annotated[float, Range(1e-9, 10)] = at_test(1e-3)
    """Learning rate of these iterations, by SGD."""
    momentum: Annotated[float, Range(0, 0.9999)] = at_test(0.9)
    """Momentum of these iterations."""

    def __post_init__(self) -> None:
        raise_problems(outside(self))


@dataclass(frozen=True)
class TunedHead:
    """A fine-tuned copy of the head, and the row of its classifier that is the target's."""

    head: LastLayers
    row: int


class LastLayers(nn.Module):
    """The last two convolutional layers, separable as the decoder of DeepLabV3+ has them, and the classifier."""

    def __init__(self, width: int, rows: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            SeparableConv(width, width, activate=True), SeparableConv(width, width, activate=True)
        )
        self.classify = nn.Conv2d(width, rows, 1)
        kaiming(self)

    def forward(self, features: Tensor) -> Tensor:
        """Logits of every row: [N, rows, h, w]."""
        logits: Tensor = self.classify(self.convs(features))
        return logits

    def tuned(self) -> list[nn.Parameter]:
        """What fine-tuning changes: the convolutions. Batch norm stays as it was trained."""
        layers = [layer for layer in self.modules() if isinstance(layer, nn.Conv2d)]
        return [parameter for layer in layers for parameter in layer.parameters()]


class FineTuning(LearnedMethod):
    """Fine-tuning, 1-way.

    With pre-training on all classes the classifier has a row for every class id; those of novel classes are never right
    in training. With pre-training on the target it has two.

    Args:
        backbone: gives features; it is the same for all pairs.
    """

    ways = ("1",)
    settings_type = FineTuningSettings

    def __init__(self, backbone: Backbone, labels: Labels, way: Way, settings: FineTuningSettings) -> None:  # noqa: ARG002
        super().__init__()
        self.labels = labels
        self.settings = settings
        self.backbone = backbone
        self.head = LastLayers(backbone.width, labels.count if settings.pretraining == "classes" else 2)

    def encode(self, images: Tensor) -> Tensor:
        """What no fine-tuning changes: the features below the head, [N, C, h, w]."""
        features: Tensor = self.backbone(images)
        return features

    @torch.enable_grad()
    def adapt(self, support: Support) -> TunedHead:
        """Fine-tunes a copy of the head on one support: the network itself stays as it was trained.

        The loss is the mean cross-entropy of the mask's pixels, each against the cell of the feature grid that it lies
        in, so that no part is too small to count.

        Raises:
            OshpError: a class that the classifier has no row for.
        """
        self.labels.check(support.classes)
        target, settings = support.classes[0], self.settings
        row = target if settings.pretraining == "classes" else _TARGET
        head = copy.deepcopy(self.head).eval().requires_grad_(False)
        features, mask = support.features.detach(), support.mask
        known = mask != IGNORE
        shown = torch.stack((known & (mask != target), known & (mask == target)), 1).to(features.dtype)
        covered = functional.adaptive_avg_pool2d(shown, (features.shape[2], features.shape[3]))
        weights = covered / covered.sum().clamp(min=1e-8)
        tuned = head.tuned()
        for parameter in tuned:
            parameter.requires_grad_()
        optimiser = torch.optim.SGD(tuned, settings.lr, settings.momentum)
        for _ in range(settings.steps):
            log = head(features).log_softmax(1)[:, [_BACKGROUND, row]]
            optimiser.zero_grad()
            torch.autograd.backward(-(weights * log).sum())
            optimiser.step()
        return TunedHead(head.requires_grad_(False), row)

    def parse(self, query: Tensor, task: TunedHead, size: tuple[int, int]) -> Tensor:
        """The target's logit, and the largest of all others."""
        logits = upsampled(task.head(query), size)[0]
        others = torch.cat((logits[: task.row], logits[task.row + 1 :])).amax(0)
        return torch.stack((others, logits[task.row]))

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:  # noqa: ARG002
        """Cross-entropy of both photos of every episode as plain training images."""
        images = torch.cat((batch.query_images, batch.support_images[:, 0]))
        truth = torch.cat((batch.query_masks, batch.support_masks[:, 0]))
        if self.settings.pretraining == "target":
            targets = batch.support_targets.repeat(2, 1)[:, 0, None, None]
            truth = torch.where(truth == IGNORE, IGNORE, (truth == targets).long())
        logits = upsampled(self.head(self.backbone(images)), (truth.shape[1], truth.shape[2]))
        return {self.settings.pretraining: cross_entropy(logits, truth)}
