"""Prototype matching: every pixel gets the class whose mean feature in the support is nearest. It learns nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from oshp_bench.baselines.backbones.layers import Backbone, upsampled
from oshp_bench.baselines.contract import LearnedMethod, NoSettings
from oshp_bench.baselines.pieces.prototypes import class_weights, pooled, similarity
from oshp_bench.episodes.episodes import Way


class PrototypeMatching(LearnedMethod):
    """Prototype matching with a frozen backbone: the floor of what pretrained features give without any training.

    Args:
        backbone: gives the features of its pretrained layers; its neck is not used.
    """

    stages = 0

    def __init__(self, backbone: Backbone, count: int, way: Way, settings: NoSettings) -> None:  # noqa: ARG002
        super().__init__()
        self.backbone = backbone.requires_grad_(False)

    def encode(self, images: Tensor) -> Tensor:
        """Features of the deepest pretrained layer: [N, C, h, w] at stride 16."""
        _, deep = self.backbone.levels(images)
        return deep

    def adapt(self, support: Tensor, mask: Tensor, coarse: Tensor, classes: Sequence[int]) -> Tensor:  # noqa: ARG002
        """Masked-average prototypes of background and of every class: [1, 1 + K, C].

        A cell of the grid counts for a class with the part of it that the class covers, so that none is too small.
        """
        ids = torch.tensor([0, *classes], device=mask.device)
        shown = functional.adaptive_avg_pool2d(class_weights(mask, ids[None]), (support.shape[2], support.shape[3]))
        vectors, _ = pooled(support, shown)
        return vectors

    def parse(self, query: Tensor, task: Tensor, size: tuple[int, int]) -> Tensor:
        """Cosines with the prototypes."""
        return upsampled(similarity(query, task), size)[0]
