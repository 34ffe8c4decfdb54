"""What processes that train together tell each other; one process alone needs to tell nobody."""

from __future__ import annotations

import torch
from torch import Tensor, distributed


def of_all_processes(mine: Tensor) -> tuple[Tensor, int]:
    """All processes' rows in order of rank, and where one's own begin."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return mine, 0
    parts = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, mine.contiguous())
    return torch.cat(parts), distributed.get_rank() * len(mine)


def mean_over_processes(total: Tensor, count: Tensor) -> Tensor:
    """total / count over all processes, as the part of this one: the mean of the parts is the whole mean.

    Processes average their gradients, so dividing by one's own count would weigh pixels by whom they met. 0 where
    there is nothing to count.
    """
    if distributed.is_available() and distributed.is_initialized():
        count = count.clone()
        distributed.all_reduce(count)
        total = total * distributed.get_world_size()
    return total / count.clamp(min=1)
