"""What the benchmarks of training and complexity measure: EOP-Nets of both readings on the embedded dataset."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from oshp_bench.baselines.backbones import build_backbone
from oshp_bench.baselines.backbones.layers import Backbone
from oshp_bench.baselines.contract import Labels, Progress
from oshp_bench.baselines.eopnet.coarse import BACKGROUND
from oshp_bench.baselines.eopnet.network import EOPNet, SpaceFeatures, SpacePrototypes
from oshp_bench.baselines.eopnet.release import ReleasedEOPNet
from oshp_bench.baselines.eopnet.settings import RELEASE, EOPNetSettings
from oshp_bench.baselines.pieces.prototypes import similarity
from oshp_bench.datasets.sources import Source, find_source
from oshp_bench.episodes.episodes import Way
from oshp_bench.episodes.training_episodes import TrainingEpisodes
from oshp_bench.episodes.training_photos import Files, TrainingPhotos
from oshp_bench.manifest import Manifest, load_manifest
from oshp_bench.training.parallel import Processes
from oshp_bench.training.samples import RawBatch, batches, draws_of
from oshp_bench.training.settings import TrainSettings, preset
from oshp_bench.training.stepper import Stepper

Built = TypeVar("Built", bound=EOPNet)
THREADS = 2
CPU = torch.device("cpu")
# The release recomputes nothing.
MODELS = {"paper": EOPNetSettings(), "release": replace(RELEASE, recompute=False)}
# In the middle of a training, where AGM and NPM both learn and prototypes are remembered.
_MIDDLE = Progress(30, 50, 3_000, 5_000)


def without_spinning() -> None:
    """Starts this script once more, so that no processor time is counted for threads that wait for each other.

    OpenMP asks for that when it is loaded, which has happened by now.
    """
    if os.environ.get("OMP_WAIT_POLICY") != "PASSIVE":
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})


class PairByPair(ReleasedEOPNet):
    """The release with all that it computes at test: AGM over all slots, and the coarse head for background, too."""

    def parse(self, query: SpaceFeatures, task: SpacePrototypes, size: tuple[int, int]) -> Tensor:
        assert self.agm is not None and self.coarse is not None and query.coarse is not None and task.coarse is not None
        attention = similarity(query.fine, task.fine.vectors)
        for slot in range(attention.shape[1]):
            self.agm.head(attention[:, slot, None] * query.fine + query.fine)
        self.coarse.guided(query.coarse, task.coarse, BACKGROUND)
        return super().parse(query, task, size)


def embedded() -> tuple[Manifest, Source]:
    """The embedded dataset, which has as many labels as ATR: the release's network has 17 slots for it."""
    manifest = load_manifest("demo_fold1")
    return manifest, find_source(manifest.dataset, None)


def ccp() -> tuple[Manifest, Source] | None:
    """CCP, if OSHP_TEST_DATA names a folder that holds it."""
    data = os.environ.get("OSHP_TEST_DATA")
    if not data or not Path(data, "ccp").is_dir():
        return None
    manifest = load_manifest("ccp_fold1")
    return manifest, find_source(manifest.dataset, Path(data))


@dataclass(frozen=True)
class Training:
    """A training of EOP-Net, step by step, from random weights."""

    settings: TrainSettings
    manifest: Manifest
    photos: TrainingPhotos

    @classmethod
    def of(cls, backbone: str, reading: str) -> Training:
        """k-way on the embedded dataset: 256x256, batch 2, everything else as in the paper."""
        manifest, source = embedded()
        paper = preset("paper")
        settings = replace(
            paper,
            backbone=backbone,
            pretrained=False,
            augmentation=replace(paper.augmentation, crop=256),
            model=MODELS[reading],
        )
        return cls(settings, manifest, Files(source, manifest))

    @cached_property
    def network(self) -> EOPNet:
        return self._built(EOPNet.build)

    @cached_property
    def _stepper(self) -> Stepper:
        return Stepper(self.settings, Processes(0, 1, CPU), self.network, 0)

    def batches(self, count: int, workers: int = 0) -> Iterator[RawBatch]:
        """The first batches."""
        size = self.settings.batch
        settings = self.settings
        draws = draws_of(self.manifest, settings)
        episodes = TrainingEpisodes(
            self.manifest, self.photos, settings.way, settings.seed, settings.augmentation, draws=draws
        )
        places = [[(0, step * size + place) for place in range(size)] for step in range(count)]
        return batches(episodes, places, workers, CPU)

    def step(self, batch: RawBatch) -> None:
        self._stepper.step(batch, _MIDDLE)

    def for_test(self) -> EOPNet:
        """The network after one batch: prototypes are remembered, and batch norm has statistics of real features."""
        network = self.network.train()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
        settings = self.settings
        with torch.no_grad():
            network(next(self.batches(1)).on(CPU, settings.way, settings.channels_last), _MIDDLE)
        return network

    def pair_by_pair(self) -> PairByPair:
        """The same weights as a PairByPair; in the release's reading alone."""
        slow = self._built(PairByPair)
        slow.load_state_dict(self.network.state_dict())
        return slow

    def _built(self, build: Callable[[Backbone, Labels, Way, EOPNetSettings], Built]) -> Built:
        torch.manual_seed(0)
        settings = self.settings
        backbone = build_backbone(settings.backbone, width=settings.width, pretrained=False)
        network = build(
            backbone, Labels(len(self.manifest.dataset.labels), self.manifest.ids_of("base")), "k", settings.model
        )
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
