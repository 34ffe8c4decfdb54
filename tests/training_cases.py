"""Training on the tiny dataset, so small that a run takes seconds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from oshp_bench.baselines.contract import Batch, LearnedMethod, ParameterGroup, Progress, Support
from oshp_bench.baselines.eopnet.settings import EOPNetSettings
from oshp_bench.baselines.registry import KnownMethod
from oshp_bench.datasets.sources import Source
from oshp_bench.episodes.augmentation import Augmentation
from oshp_bench.episodes.training_photos import Files, TrainingPhotos
from oshp_bench.manifest import Manifest
from oshp_bench.training.loop import Outcome, Run, train
from oshp_bench.training.parallel import Processes
from oshp_bench.training.run_folder import RunFolder
from oshp_bench.training.samples import draws_of
from oshp_bench.training.settings import preset

# With more threads the sums of tiny tensors would be no faster, and on a busy machine far slower.
torch.set_num_threads(1)

ALONE = Processes(0, 1, torch.device("cpu"))
SMALL = replace(
    preset("cpu"),
    width=8,
    pretrained=False,
    epochs=2,
    episodes=4,
    augmentation=Augmentation(crop=32, fit="longest", side=32),
    test_side=32,
    validation_pairs=3,
    workers=0,
)
# The same for the command; what a manifest's file decides is left to it.
SMALL_OPTIONS = (
    *("--preset", "cpu", "--device", "cpu"),
    *(
        f"--set={name}={value}"
        for name, value in {
            "width": 8,
            "pretrained": "false",
            "epochs": 2,
            "episodes": 4,
            "augmentation.crop": 32,
            "augmentation.side": 32,
            "augmentation.scale": [0.5, 2.0],
            "test_side": 32,
            "validation_pairs": 3,
            "workers": 0,
        }.items()
    ),
)


def run_of(
    manifest: Manifest, source: Source, folder: Path, photos: TrainingPhotos | None = None, **settings: Any
) -> Run:
    """A run of SMALL with other settings."""
    chosen = replace(SMALL, **settings)
    return Run(
        settings=chosen,
        manifest=manifest,
        draws=draws_of(manifest, chosen),
        photos=photos or Files(source, manifest),
        source=source,
        folder=RunFolder(folder, chosen, manifest),
        processes=ALONE,
    )


def trained(manifest: Manifest, source: Source, folder: Path, **settings: Any) -> Outcome:
    """Trains SMALL with other settings."""
    return train(run_of(manifest, source, folder, **settings))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The network's tensors in a run's last state."""
    state: dict[str, torch.Tensor] = torch.load(folder / "last.pt", weights_only=True)["network"]
    return state


def rows(folder: Path, without: tuple[str, ...] = ("steps_per_second", "peak_memory_mib")) -> list[dict[str, str]]:
    """metrics.csv but for what depends on the machine."""
    header, *lines = (folder / "metrics.csv").read_text().splitlines()
    table = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
    return [{name: value for name, value in row.items() if name not in without} for row in table]


class Probe(LearnedMethod):
    """A method of two numbers, to see what training does with a method.

    Args:
        backbone: any; it is not trained.
        gradient: of both numbers; infinite takes the root of the first, whose slope is infinite at 0.
        dropout: how much of the loss is random.
    """

    def __init__(
        self, backbone: nn.Module | None = None, *, start: float = 1.0, gradient: float = 0.01, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.backbone = backbone or nn.PReLU(init=1.0)
        self.decayed, self.slow = nn.Parameter(torch.tensor(start)), nn.Parameter(torch.tensor(start))
        self._gradient = gradient
        self._dropout = dropout

    def encode(self, images: Tensor) -> Tensor:
        return images

    def adapt(self, support: Support) -> int:
        return len(support.classes)

    def parse(self, query: Tensor, task: int, size: tuple[int, int]) -> Tensor:  # noqa: ARG002
        return torch.stack([self.decayed * rank for rank in range(1 + task)])[:, None, None].expand(-1, *size)

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:  # noqa: ARG002
        if math.isinf(self._gradient):
            return {"probe": self.decayed.sqrt() + self.slow}
        noise = functional.dropout(torch.ones(8), self._dropout, self.training).mean()
        return {"probe": self._gradient * (self.decayed * noise + self.slow)}

    def parameter_groups(self, stage: int) -> list[ParameterGroup]:  # noqa: ARG002
        return [ParameterGroup((self.decayed,)), ParameterGroup((self.slow,), lr_scale=0.1, decay=False)]


@dataclass(frozen=True)
class Probing(KnownMethod):
    """Puts what a function makes in the place of a method, whatever the backbone."""

    make: Callable[[], LearnedMethod] = Probe

    def load(self) -> Any:
        make = self.make

        class Made(Probe):
            settings_type = EOPNetSettings

            def __new__(cls, *_: object) -> Any:
                return make()

        return Made
