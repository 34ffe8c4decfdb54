"""Exchange between processes that train together; with a single process, nothing is exchanged."""

from __future__ import annotations

import torch
from torch import Tensor, distributed


def of_all_processes(mine: Tensor) -> tuple[Tensor, int]:
    """The rows of all processes in order of rank, and the index of the first row of this process."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return mine, 0
    parts = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, mine.contiguous())
    return torch.cat(parts), distributed.get_rank() * len(mine)


def mean_over_processes(total: Tensor, count: Tensor) -> Tensor:
    """The part of this process in total / count over all processes: the mean of all parts is the whole mean.

    Processes average their gradients. If a process divided by its own count, the weight of a pixel would depend on how
    many pixels its process counts. 0 where the whole count is 0.
    """
    if distributed.is_available() and distributed.is_initialized():
        count = count.clone()
        distributed.all_reduce(count)
        total = total * distributed.get_world_size()
    return total / count.clamp(min=1)
