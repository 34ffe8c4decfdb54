"""Losses that several methods share; means are taken over the pixels of all processes."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from oshp_bench.datasets.images import IGNORE
from oshp_bench.distributed import mean_over_processes


def cross_entropy(logits: Tensor, truth: Tensor, foreground: float = 1.0) -> Tensor:
    """Mean cross-entropy over the pixels of all processes that are not to be ignored; 0 where all are.

    Args:
        foreground: what the cross-entropy of a pixel is multiplied by where the truth is not channel 0.
    """
    weight = None
    if foreground != 1:
        weight = logits.new_full((logits.shape[1],), foreground)
        weight[0] = 1
    total = functional.cross_entropy(logits, truth, weight, ignore_index=IGNORE, reduction="sum")
    return mean_over_processes(total, (truth != IGNORE).sum())
