"""Prototype matching: every pixel gets the class whose mean feature in the support is nearest. It learns nothing."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from oshp_bench.baselines.backbones.layers import Backbone, upsampled
from oshp_bench.baselines.contract import Labels, LearnedMethod, NoSettings, Support
from oshp_bench.baselines.pieces.prototypes import class_weights, pooled, similarity
from oshp_bench.episodes.episodes import Way


class PrototypeMatching(LearnedMethod):
    """Prototype matching with a frozen backbone: the floor of what pretrained features give without any training.

    Args:
        backbone: gives the features of its pretrained layers; its neck is not used.
    """

    stages = 0

    def __init__(self, backbone: Backbone, labels: Labels, way: Way, settings: NoSettings) -> None:  # noqa: ARG002
        super().__init__()
        self.backbone = backbone.requires_grad_(False)

    def encode(self, images: Tensor) -> Tensor:
        """Features of the deepest pretrained level: [N, C, h, w]."""
        deepest = list(self.backbone.levels)[-1]
        return self.backbone.level_features(images, [deepest])[deepest]

    def adapt(self, support: Support) -> Tensor:
        """Masked-average prototypes of background and of every class: [1, 1 + K, C].

        A cell of the grid counts for a class with the part of it that the class covers, so that none is too small.
        """
        features, ids = support.features, torch.tensor([[0, *support.classes]], device=support.mask.device)
        shown = functional.adaptive_avg_pool2d(class_weights(support.mask, ids), (features.shape[2], features.shape[3]))
        vectors, _ = pooled(features, shown)
        return vectors

    def parse(self, query: Tensor, task: Tensor, size: tuple[int, int]) -> Tensor:
        """Cosines with the prototypes."""
        return upsampled(similarity(query, task), size)[0]
