"""One process or several (torchrun): the only place that knows the difference."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from oshp_bench.baselines.backbones.layers import Backbone
from oshp_bench.baselines.inference import usable_device
from oshp_bench.errors import OshpError

# The others wait while the first one validates.
_PATIENCE = timedelta(hours=6)


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: from 0; the first writes files.
        world: how many there are.
        device: where this one computes.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def check(self, batch: int, accumulate: int) -> None:
        """Refuses a batch that does not divide evenly.

        Raises:
            OshpError: it cannot be cut into equal parts.
        """
        if batch % (self.world * accumulate):
            raise OshpError(
                f"batch is {batch}, but {self.world} processes that accumulate {accumulate} parts each need a multiple"
                f" of {self.world * accumulate}"
            )

    def share(self, batch: int) -> range:
        """The places in a batch that are this process's; in order of rank the shares are the batch."""
        size = batch // self.world
        return range(self.rank * size, (self.rank + 1) * size)

    def wrapped(self, network: nn.Module, learns_batch_norm: bool) -> nn.Module:
        """The network as it is called in training, so that all processes take the same step.

        On GPUs batch norm in backbones uses the statistics of the whole batch. Everywhere else it uses those of the
        process's share: heads run once for every class of a support, so processes run them a different number of times
        and cannot wait for each other.
        """
        if self.world == 1:
            return network
        if self.device.type == "cuda" and learns_batch_norm:
            for backbone in [module for module in network.modules() if isinstance(module, Backbone)]:
                nn.SyncBatchNorm.convert_sync_batchnorm(backbone)  # type: ignore[no-untyped-call]
        # A class head takes no part where no support of a process shows a class.
        return DistributedDataParallel(network, find_unused_parameters=True)

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """The mean of each value over all processes."""
        if self.world == 1:
            return dict(values)
        total = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return dict(zip(values, (total / self.world).tolist(), strict=True))


@contextmanager
def processes(device: str | None) -> Iterator[Processes]:
    """Joins the processes that torchrun started, or stands alone.

    Args:
        device: such as "cpu" or "cuda:1"; None takes a GPU where there is one, each process its own.

    Raises:
        OshpError: there is no such device.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = usable_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if world == 1:
        yield Processes(0, 1, chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(distributed.get_rank(), world, chosen)
    finally:
        distributed.destroy_process_group()
