"""What is shown while training: a bar on a terminal, and the rows of metrics.csv."""

from __future__ import annotations

import resource
import sys
import time
from collections import defaultdict

import torch
from tqdm import tqdm

from oshp_bench.baselines.contract import Progress

# Rows of metrics.csv in an epoch, at most.
_ROWS_PER_EPOCH = 20


class StepLog:
    """Follows the steps of a stage.

    Args:
        shown: whether there may be a bar.
        start: the first step to come.
    """

    def __init__(self, shown: bool, start: Progress) -> None:
        self._bar = tqdm(
            total=start.steps,
            initial=start.step,
            desc="training" if start.stage == 0 else f"training, stage {start.stage + 1}",
            disable=not (shown and sys.stderr.isatty()),
            leave=False,
            unit="step",
        )
        self._begin_row()

    def begin_epoch(self) -> None:
        """What was done between two epochs is not part of the throughput."""
        self._begin_row()

    def row(self, values: dict[str, float], progress: Progress) -> dict[str, float] | None:
        """Notes a step. Gives a row of means whenever one is due, and at an epoch's end, where a run may go on.

        Epochs and steps are counted from 1, over all stages.
        """
        self._bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
        self._bar.update()
        for name, value in values.items():
            self._sums[name] += value
        self._count += 1
        steps = progress.steps // progress.epochs
        done = progress.step + 1 - progress.epoch * steps
        if done % -(-steps // _ROWS_PER_EPOCH) and done < steps:
            return None
        row = {
            "stage": progress.stage + 1,
            "epoch": progress.stage * progress.epochs + progress.epoch + 1,
            "at_epoch": round(progress.stage * progress.epochs + progress.epoch + done / steps, 3),
            "step": progress.stage * progress.steps + progress.step + 1,
            **{name: round(total / self._count, 7) for name, total in self._sums.items()},
            "steps_per_second": round(self._count / (time.perf_counter() - self._since), 3),
            "peak_memory_mib": peak_memory(),
        }
        self._begin_row()
        return row

    def close(self) -> None:
        """Takes the bar away."""
        self._bar.close()

    def _begin_row(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._count = 0
        self._since = time.perf_counter()


def peak_memory() -> int:
    """The most memory that this process has held so far, in MiB: on the GPU where it uses one."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return torch.cuda.max_memory_allocated() >> 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10)
