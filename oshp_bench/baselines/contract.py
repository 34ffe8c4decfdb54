"""What training and prediction need of a learned method: the one contract between them and the mathematics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from oshp_bench.episodes.episodes import WAYS, Way


@dataclass(frozen=True)
class Batch:
    """The episodes of one training step; novel classes are background in all masks.

    Attributes:
        way: "k" or "1"; a 1-way episode parses its target alone, whatever else its masks hold.
        query_images, support_images: float [N, 3, H, W], RGB in 0..1.
        query_masks, support_masks: int64 [N, H, W] of class ids; 0 background, 255 ignore.
        query_coarse, support_coarse: int64 [N, H, W]: 1 human, 0 not, 255 ignore; novel classes are human.
        targets: int64 [N]: the class of a 1-way episode; 0 for k-way.
    """

    way: Way
    query_images: Tensor
    support_images: Tensor
    query_masks: Tensor
    support_masks: Tensor
    query_coarse: Tensor
    support_coarse: Tensor
    targets: Tensor


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

    It is made from a backbone, one more than the largest class id, the way, and its own settings.

    A training-free method has no stages; one trained in two goes has two and says in `parameter_groups` what each
    trains; a frozen backbone is in no group (and overrides `train` where its batch norm shall not learn either). A
    method that is fine-tuned at test does so in `adapt`, under torch.enable_grad, on a copy that the task carries.

    Attributes:
        ways: what the method can parse.
        stages: how many trainings follow each other, each with its own schedule.
        head: what of the network parses at test, such as "NPM"; None where there is no choice.
        screening: whether, at test, what a coarse space does not call human is background; it may be switched off.
            None for methods without screening.
        settings_type: its own settings, a frozen dataclass (see `options.changed`) with defaults.
    """

    ways: tuple[Way, ...] = WAYS
    stages: int = 1
    head: str | None = None
    screening: bool | None = None
    settings_type: type = NoSettings

    @abstractmethod
    def encode(self, images: Tensor) -> Any:
        """All of an image that depends on no other image; prediction keeps it for the pairs that follow.

        Args:
            images: float [N, 3, H, W], RGB in 0..1.
        """

    @abstractmethod
    def adapt(self, support: Any, mask: Tensor, coarse: Tensor, classes: Sequence[int]) -> Any:
        """Makes a task of one support: prototypes, an imprinted classifier, fine-tuned weights.

        Args:
            support: what `encode` gave for it.
            mask: int64 [1, H, W] of class ids; 0 background, 255 ignore.
            coarse: int64 [1, H, W]: 1 human, 0 not, 255 ignore.
            classes: the class ids to parse, ascending: C_s without background, or the target alone.
        """

    @abstractmethod
    def parse(self, query: Any, task: Any, size: tuple[int, int]) -> Tensor:
        """Scores of one query: float [1 + len(classes), H, W] at `size`; 0 is background, i is classes[i - 1]."""

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The named losses of a training step, already weighted: their sum is what is minimised."""
        raise NotImplementedError(f"{type(self).__name__} has stages to train, but no losses")

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The losses, under the name that wrappers such as DistributedDataParallel call."""
        return self.losses(batch, progress)

    def logged(self, progress: Progress) -> dict[str, float]:  # noqa: ARG002
        """Numbers of the schedule that a person who follows training wants to see beside the losses."""
        return {}

    def parameter_groups(self, stage: int) -> list[ParameterGroup]:  # noqa: ARG002
        """What a stage trains; by default everything that requires a gradient."""
        return [ParameterGroup(tuple(each for each in self.parameters() if each.requires_grad))]
