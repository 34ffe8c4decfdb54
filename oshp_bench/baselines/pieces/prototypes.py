"""Prototypes: pooled from a support, compared with a query; and the masks that they are pooled under.

Of N samples each has K slots, one class each; a slot's class may be absent from its sample. All sums are taken in
float32 or better, whatever autocast does around them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from oshp_bench.baselines.contract import Batch
from oshp_bench.datasets.images import IGNORE

# The class of a slot that pads a sample with fewer classes than others.
EMPTY = -1


@dataclass(frozen=True)
class Prototypes:
    """The prototypes of N samples.

    Attributes:
        ids: int64 [N, K]: the slots' class ids.
        vectors: float [N, K, C]; zero where the class has none.
        present: bool [N, K]: has a prototype.
        ranked: bool [N, K]: takes part in the softmax. In the paper's reading `present`, in the release's every slot.
    """

    ids: Tensor
    vectors: Tensor
    present: Tensor
    ranked: Tensor


def to_grid(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Brings masks [N, H, W] to the feature grid [N, *size] by nearest neighbour: source index (i * H) // h."""
    rows, columns = (
        torch.arange(cells, device=masks.device) * pixels // cells
        for cells, pixels in zip(size, masks.shape[1:], strict=True)
    )
    return masks[:, rows[:, None], columns]


def present_classes(masks: Tensor) -> Tensor:
    """The classes of every mask [N, h, w], ascending, without background: int64 [N, K], EMPTY-padded, K >= 1."""
    found = [[number for number in mask.unique().tolist() if number not in (0, IGNORE)] for mask in masks]
    most = max(1, *map(len, found))
    return torch.tensor([numbers + [EMPTY] * (most - len(numbers)) for numbers in found], device=masks.device)


def asked_classes(batch: Batch, size: tuple[int, int]) -> Tensor:
    """The classes that the episodes of a batch ask for: int64 [N, K], EMPTY-padded.

    They are those that the supports were drawn for, else those that a support shows on the feature grid, `size`. A
    class that a support was drawn for may be lost on the grid, or by its crop.
    """
    if (batch.support_targets != 0).all():
        return batch.support_targets
    return present_classes(to_grid(batch.support_masks[:, 0], size))


def channels(masks: Tensor, ids: Tensor, present: Tensor) -> Tensor:
    """The channel that each pixel belongs to, for a loss: int64 of the masks' shape; 255 to ignore.

    Args:
        masks: int64 [N, H, W] of class ids; 255 ignore.
        ids: int64 [N, K]: the classes of channels 1 to K, EMPTY-padded. Channel 0 is background, and every other class.
        present: bool [N, K]: the classes of the others are background, too, such as those that a support lacks.
    """
    channel = torch.zeros(len(masks), IGNORE + 1, dtype=torch.int64, device=masks.device)
    numbers = torch.arange(1, ids.shape[1] + 1, device=masks.device).expand_as(ids)
    channel.scatter_(1, ids.clamp(min=0), torch.where(present, numbers, 0))
    channel[:, IGNORE] = IGNORE
    return channel.gather(1, masks.flatten(1)).view_as(masks)


def class_weights(masks: Tensor, ids: Tensor) -> Tensor:
    """1 where a mask [N, h, w] has the slot's class: float [N, K, h, w]."""
    return (masks[:, None] == ids[:, :, None, None]).float()


def pooled(features: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Static prototypes, eqs. (1), (2), (11): weighted means of features [N, C, h, w] over weights [N, K, h, w].

    Returns:
        float [N, K, C], zero where no pixel has weight, and bool [N, K]: some pixel has.
    """
    with torch.autocast(features.device.type, enabled=False):
        features = _precise(features)
        weights = weights.to(features.dtype)
        total = weights.sum((2, 3))
        sums = torch.einsum("nkhw,nchw->nkc", weights, features)
        return sums / total.clamp(min=1)[:, :, None], total > 0


def similarity(features: Tensor, vectors: Tensor) -> Tensor:
    """Eq. (4): cosine of features [N, C, h, w] and vectors [N, K, C]: [N, K, h, w]; 0 with a zero vector."""
    with torch.autocast(features.device.type, enabled=False):
        features = _precise(features)
        vectors = functional.normalize(vectors, dim=2, eps=1e-8)
        # Divided afterwards: a normalised copy of the features would have to be kept for the backward pass.
        lengths = torch.linalg.vector_norm(features, dim=1, keepdim=True)
        cosine: Tensor = torch.einsum("nkc,nchw->nkhw", vectors, features) / lengths.clamp(min=1e-8)
        return cosine


def _precise(features: Tensor) -> Tensor:
    return features.float() if features.dtype in (torch.float16, torch.bfloat16) else features
