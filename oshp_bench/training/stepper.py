"""One optimiser step after the other, whatever the device, the precision and the number of processes."""

from __future__ import annotations

import math
from collections import defaultdict
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, AdamW, Optimizer, RMSprop

from oshp_bench.baselines.contract import LearnedMethod, Progress
from oshp_bench.errors import OshpError
from oshp_bench.training.parallel import Processes
from oshp_bench.training.samples import RawBatch
from oshp_bench.training.settings import TrainSettings

_POWER = 0.9
# The release makes its optimiser anew at epochs 9, 19, ...
_STAIR = 10
_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Stepper:
    """Trains a network of one stage step by step."""

    def __init__(self, settings: TrainSettings, processes: Processes, network: LearnedMethod, stage: int) -> None:
        self._settings = settings
        self._processes = processes
        self._device = processes.device
        self._network = network
        network.stage = stage
        self._groups = network.parameter_groups(stage)
        self._parameters = [parameter for group in self._groups for parameter in group.parameters]
        self._optimiser = self._new_optimiser()
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=settings.precision == "float16")
        self._norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        self._together = processes.wrapped(network, learns_batch_norm=not settings.freeze_batch_norm)

    def step(self, batch: RawBatch, progress: Progress) -> dict[str, float]:
        """Trains on one batch, this process's share of it.

        Returns:
            The mean losses of the whole batch, their sum "loss", the learning rate, and what the method logs.

        Raises:
            OshpError: a loss or gradient is NaN or infinite.
        """
        settings = self._settings
        lr = self._schedule(progress)
        for group in self._optimiser.param_groups:
            group["lr"] = lr * group["scale"]
        self._network.train()
        if settings.freeze_batch_norm:
            for norm in self._norms:
                norm.eval()
        values = self._processes.mean(self._backward(batch, progress))
        self._check_finite(values, batch, progress)
        self._cut_gradients(batch, progress)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._optimiser.zero_grad(set_to_none=True)
        return {**values, "lr": lr, **self._network.logged(progress)}

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, beside the network."""
        return {"optimiser": self._optimiser.state_dict(), "scaler": self._scaler.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on from a `state`."""
        self._optimiser.load_state_dict(state["optimiser"])
        self._scaler.load_state_dict(state["scaler"])

    def _backward(self, batch: RawBatch, progress: Progress) -> dict[str, float]:
        """Leaves the gradients of a batch with the parameters; its mean losses, in this process, with their sum."""
        settings = self._settings
        parts = batch.parts(settings.accumulate)
        sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self._device))
        for number, part in enumerate(parts, 1):
            with self._synchronised(number == len(parts)):
                with torch.autocast(
                    self._device.type, _PRECISIONS[settings.precision], enabled=settings.precision != "float32"
                ):
                    losses = self._together(part.on(self._device, settings.way, settings.channels_last), progress)
                loss = sum(losses.values(), torch.zeros((), device=self._device))
                self._scaler.scale(loss / len(parts)).backward()
            for name, value in {"loss": loss, **losses}.items():
                sums[name] += value.detach() / len(parts)
        return {name: float(value) for name, value in sums.items()}

    def _cut_gradients(self, batch: RawBatch, progress: Progress) -> None:
        self._scaler.unscale_(self._optimiser)
        norm = nn.utils.get_total_norm([parameter.grad for parameter in self._parameters if parameter.grad is not None])
        # In float16 gradients may be too large: the scaler leaves such a step out and scales less.
        if not self._scaler.is_enabled():
            self._check_finite({"the gradient": float(norm)}, batch, progress)
        if self._settings.clip is not None:
            nn.utils.clip_grads_with_norm_(self._parameters, self._settings.clip, norm)

    def _schedule(self, progress: Progress) -> float:
        """The learning rate of a step; the staircase also makes the optimiser anew, as the release does."""
        settings = self._settings
        if settings.schedule == "constant":
            return settings.lr
        if settings.schedule == "step":
            return float(settings.lr * settings.gamma ** (progress.epoch // settings.step_size))
        if settings.schedule == "poly":
            return float(settings.lr * (1 - progress.step / progress.steps) ** _POWER)
        stair = progress.epoch - (progress.epoch + 1) % _STAIR
        if stair == progress.epoch and progress.step * progress.epochs == progress.epoch * progress.steps:
            self._optimiser = self._new_optimiser()
        return float(settings.lr * (1 - max(0, stair) / progress.epochs) ** _POWER)

    def _new_optimiser(self) -> Optimizer:
        settings = self._settings
        groups = [
            {
                "params": list(group.parameters),
                "scale": group.lr_scale,
                "weight_decay": settings.weight_decay if group.decay else 0.0,
            }
            for group in self._groups
        ]
        if settings.optimiser == "adamw":
            return AdamW(groups, settings.lr)
        if settings.optimiser == "rmsprop":
            return RMSprop(groups, settings.lr, momentum=settings.momentum)
        return SGD(groups, settings.lr, settings.momentum)

    def _synchronised(self, last: bool) -> Any:
        """Processes exchange gradients with the last part of a batch alone."""
        if last or not isinstance(self._together, DistributedDataParallel):
            return nullcontext()
        return self._together.no_sync()

    def _check_finite(self, values: dict[str, float], batch: RawBatch, progress: Progress) -> None:
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            raise OshpError(
                f"epoch {progress.epoch + 1}, step {progress.step + 1}: {' and '.join(wrong)} is NaN or infinite, in"
                f" the episodes: {_named(batch)}; lower lr, set clip, or look at these images"
            )


def _named(batch: RawBatch) -> str:
    return "; ".join(
        f"query {draw.query}, "
        + ", ".join(
            f"support {support}" + (f", class {target}" if target else "")
            for support, target in zip(draw.supports, draw.targets, strict=True)
        )
        for draw in batch.draws
    )
