"""What training and prediction need of a learned method: the one contract between them and the mathematics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from oshp_bench.baselines.backbones.layers import Backbone
from oshp_bench.episodes.draws import Supports
from oshp_bench.episodes.episodes import WAYS, Way
from oshp_bench.errors import OshpError

# How many supports a k-way training episode has: one, or one for each class that its query shows.


@dataclass(frozen=True)
class Labels:
    """The class ids of a dataset.

    Attributes:
        count: one more than the largest class id.
        base: C_base, the ids that training shows, ascending; empty where they are unknown, as for the authors'
            checkpoints and for methods that need no training.
    """

    count: int
    base: tuple[int, ...] = ()

    def check(self, classes: Collection[int]) -> None:
        """Refuses classes of another dataset.

        Raises:
            OshpError: a network with a row for each of our ids has none for one of these classes.
        """
        most = max(classes)
        if most >= self.count:
            raise OshpError(
                f"class {most} is asked for, but this network knows class ids below {self.count} alone;"
                " take a checkpoint of this dataset"
            )


@dataclass(frozen=True)
class Support:
    """The annotated example of an episode at test.

    Attributes:
        features: what `encode` gave for its photo.
        mask: int64 [1, H, W] at the photo's size: ids of `classes`, everything else 0; 255 ignore.
        whole: int64 [1, H, W]: every class of the dataset that the support shows, asked for or not.
        coarse: int64 [1, H, W]: 1 human, 0 not, 255 ignore.
        classes: the ids to parse, ascending: C_s without background (k-way), or the target alone (1-way).
    """

    features: Any
    mask: Tensor
    whole: Tensor
    coarse: Tensor
    classes: tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """The episodes of one training step: N queries with S supports each; novel classes are background in all masks.

    S is 1 unless the method asks for a support for each class (`LearnedMethod.supports`). Episodes with fewer supports
    than others are padded with black photos whose masks are 255.

    Attributes:
        way: "k" or "1"; a 1-way episode parses its target alone, whatever else its masks hold.
        query_images: float [N, 3, H, W], RGB in 0..1.
        query_masks: int64 [N, H, W] of class ids; 0 background, 255 ignore.
        query_coarse: int64 [N, H, W]: 1 human, 0 not, 255 ignore; novel classes are human.
        support_images, support_masks, support_coarse: the same of the supports, [N, S, ...].
        support_targets: int64 [N, S]: the class that a support was drawn for; 0 where it stands for all that it shows,
            -1 for padding. In a 1-way batch it is the episode's target.
    """

    way: Way
    query_images: Tensor
    query_masks: Tensor
    query_coarse: Tensor
    support_images: Tensor
    support_masks: Tensor
    support_coarse: Tensor
    support_targets: Tensor


@dataclass(frozen=True)
class Progress:
    """Where training stands.

    Attributes:
        epoch, step: counted from 0 over the stage; `epochs` and `steps` are their ends.
        stage: counted from 0; methods that train in one go have one stage.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    stage: int = 0


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that an optimiser trains together: at `lr_scale` times the learning rate, decayed or not."""

    parameters: tuple[nn.Parameter, ...]
    lr_scale: float = 1.0
    decay: bool = True


@dataclass(frozen=True)
class NoSettings:
    """The settings of a method that has none."""


class LearnedMethod(nn.Module, ABC):
    """A method that parses a query by one support, with weights.

    It is made from a backbone, the dataset's Labels, the way, and its own settings, in this order.

    A training-free method has no stages. One that is trained in two goes has two, and says in `parameter_groups` what
    each trains. A frozen backbone is in no group; where its batch norm must not learn either, the method overrides
    `train`, which may look at `stage`. A method that is fine-tuned at test does so in `adapt`, under
    torch.enable_grad, on a copy that the task carries.

    Attributes:
        ways: what the method can parse.
        stages: how many trainings follow each other, each with its own schedule.
        stage: the one that is trained now, counted from 0; training sets it before it calls `train`.
        supports: how many supports a k-way training episode has; 1-way episodes have one.
        settings_type: its own settings, a frozen dataclass with defaults (see baselines/settings.py).
        defaults: how it is trained where that differs from the presets of all methods (training/settings.py): preset
            -> table of training settings, such as {"paper": {"lr": 0.01, "model": {"alpha": 0.5}}}. The preset
            "release" exists for the methods that list it here.
    """

    ways: tuple[Way, ...] = WAYS
    stages: int = 1
    stage: int = 0
    supports: Supports = "one"
    settings_type: type = NoSettings
    defaults: Mapping[str, Mapping[str, Any]] = {}

    @classmethod
    def build(cls, backbone: Backbone, labels: Labels, way: Way, settings: Any) -> LearnedMethod:
        """Makes the network; a method whose settings choose between several overrides it."""
        return cls(backbone, labels, way, settings)

    @abstractmethod
    def encode(self, images: Tensor) -> Any:
        """All of an image that depends on no other image; prediction keeps it for the pairs that follow.

        Args:
            images: float [N, 3, H, W], RGB in 0..1.
        """

    @abstractmethod
    def adapt(self, support: Support) -> Any:
        """Makes a task of one support: prototypes, an imprinted classifier, fine-tuned weights."""

    @abstractmethod
    def parse(self, query: Any, task: Any, size: tuple[int, int]) -> Tensor:
        """Scores of one query.

        Args:
            query: what `encode` gave for it.
            task: what `adapt` gave for the support.
            size: height and width of the query.

        Returns:
            float [1 + len(classes), *size]: channel 0 is background, channel i the support's classes[i - 1].
        """

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The named losses of a training step, already weighted: their sum is what is minimised."""
        raise NotImplementedError(f"{type(self).__name__} has stages to train, but no losses")

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The losses, under the name that wrappers such as DistributedDataParallel call."""
        return self.losses(batch, progress)

    def logged(self, progress: Progress) -> dict[str, float]:  # noqa: ARG002
        """Numbers of the schedule that metrics.csv shows beside the losses."""
        return {}

    def describe(self) -> dict[str, Any]:
        """What predictions.json says of how the network parses: plain values by name."""
        return {}

    def described(self) -> list[str]:
        """The same as words for people, without what there is not."""
        return [
            f"{name} {('off', 'on')[value] if isinstance(value, bool) else value}"
            for name, value in self.describe().items()
            if value is not None
        ]

    def learned_classes(self) -> frozenset[int]:
        """The ids of the classes that its weights show it has met in training, for checkpoints without a manifest."""
        return frozenset()

    def parameter_groups(self, stage: int) -> list[ParameterGroup]:  # noqa: ARG002
        """What a stage trains; by default everything that requires a gradient."""
        return [ParameterGroup(tuple(parameter for parameter in self.parameters() if parameter.requires_grad))]
