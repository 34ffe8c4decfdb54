"""One process or several (torchrun): the only place that knows the difference."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from threading import Thread

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from oshp_bench.baselines.backbones.layers import Backbone
from oshp_bench.baselines.inference import usable_device
from oshp_bench.errors import OshpError

# What gloo, NCCL and the store say when another process is gone or silent.
_LEFT_ALONE = re.compile(r"gloo|nccl|connection (closed|reset)|timed ?out|timeout|broken pipe|socket", re.IGNORECASE)


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

    @property
    def computer(self) -> dict[str, str | int]:
        """What else than settings and data decides the last bits of a training."""
        return {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "processes": self.world,
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device),
        }

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
def processes(device: str | None, patience: int) -> Iterator[Processes]:
    """Joins the processes that torchrun started, or stands alone. If torchrun dies, so does this process.

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
    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    try:
        distributed.init_process_group(backend, timeout=timedelta(minutes=patience))
        yield Processes(distributed.get_rank(), world, chosen)
    except RuntimeError as error:
        if _LEFT_ALONE.search(str(error)):
            raise OshpError(
                f"another process of this run ended, or hung for {patience} minutes; see what it said, and start the"
                " run again: it goes on from its last state"
            ) from error
        raise
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _end_with(launcher: int) -> None:
    """Ends this process when its launcher is gone, since nobody would end it any more."""
    while os.getppid() == launcher:
        time.sleep(1)
    with suppress(OSError):
        os.write(2, b"error: torchrun has ended, so this process ends\n")
    os._exit(2)
