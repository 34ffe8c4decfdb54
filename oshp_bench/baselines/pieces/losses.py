"""Losses that several methods share; means are taken over the pixels of all processes."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from oshp_bench.datasets.images import IGNORE
from oshp_bench.distributed import mean_over_processes


def cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean cross-entropy over the pixels of all processes that are not to be ignored; 0 where all are."""
    total = functional.cross_entropy(logits, truth, ignore_index=IGNORE, reduction="sum")
    return mean_over_processes(total, (truth != IGNORE).sum())
