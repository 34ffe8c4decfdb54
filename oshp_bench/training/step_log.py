"""What is shown while training: a bar on a terminal, a line an epoch elsewhere, and the rows of metrics.csv."""

from __future__ import annotations

import resource
import sys
import time
from collections import defaultdict

import torch
from tqdm import tqdm

from oshp_bench.baselines.contract import Progress
from oshp_bench.console import echo

# Rows of metrics.csv in an epoch, at most.
_ROWS_PER_EPOCH = 20


class StepLog:
    """Follows the steps of a stage.

    Args:
        shown: whether anything is shown.
        start: the first step to come.
        stages: how many stages the run has.
    """

    def __init__(self, shown: bool, start: Progress, stages: int) -> None:
        self._lines = shown and not sys.stderr.isatty()
        self._start, self._epochs = start, stages * start.epochs
        self._began = time.perf_counter()
        if self._lines and 0 < start.step < start.steps:
            echo(f"goes on after epoch {start.stage * start.epochs + start.epoch}", err=True)
        self._bar = tqdm(
            total=start.steps,
            initial=start.step,
            desc="training" if start.stage == 0 else f"training, stage {start.stage + 1}",
            disable=not (shown and sys.stderr.isatty()),
            leave=False,
            unit="step",
        )
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """What was done between two epochs is not part of the throughput."""
        self._epoch: dict[str, list[float]] = defaultdict(list)
        self._begin_row()

    def end_epoch(self, epoch: int, figure: float | None) -> None:
        """Prints the epoch's line, where there is no bar.

        Args:
            epoch: of this stage, counted from 0.
            figure: C_base mIoU on the validation list, if it was validated.
        """
        if not self._lines:
            return
        done = self._start.stage * self._start.epochs + epoch + 1
        means = ", ".join(f"{name} {sum(values) / len(values):.4g}" for name, values in self._epoch.items())
        found = "" if figure is None else f", C_base mIoU {100 * figure:.2f} % on the validation list"
        took = (time.perf_counter() - self._began) / (epoch + 1 - self._start.epoch)
        left = round(took * (self._epochs - done))
        echo(f"epoch {done}/{self._epochs}: {means}{found}; {left // 60}:{left % 60:02d} min left", err=True)

    def row(self, values: dict[str, float], progress: Progress) -> dict[str, float] | None:
        """Notes a step. Gives a row of means whenever one is due, and at an epoch's end, where a run may go on.

        Epochs and steps are counted from 1, over all stages.
        """
        self._bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
        self._bar.update()
        for name, value in values.items():
            self._sums[name] += value
            self._epoch[name].append(value)
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
