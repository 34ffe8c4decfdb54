"""The training loop, top to bottom."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from oshp_bench.baselines.backbones import build_backbone, usual_width
from oshp_bench.baselines.backbones.layers import Backbone
from oshp_bench.baselines.backbones.weights import load_state
from oshp_bench.baselines.card import Card, TrainedOn
from oshp_bench.baselines.checkpoints import save_checkpoint
from oshp_bench.baselines.contract import Labels, LearnedMethod, Progress
from oshp_bench.baselines.inference import NetworkMethod
from oshp_bench.baselines.registry import network_class
from oshp_bench.baselines.settings import as_table
from oshp_bench.console import echo
from oshp_bench.datasets.sources import Source
from oshp_bench.episodes.draws import Draws
from oshp_bench.episodes.episodes import ImageCache
from oshp_bench.episodes.training_episodes import TrainingEpisodes
from oshp_bench.episodes.training_photos import TrainingPhotos
from oshp_bench.manifest import Manifest
from oshp_bench.randomness import Stream
from oshp_bench.training.faults import faults_explained
from oshp_bench.training.parallel import Processes
from oshp_bench.training.run_folder import RunFolder
from oshp_bench.training.samples import batches
from oshp_bench.training.settings import TrainSettings
from oshp_bench.training.step_log import StepLog
from oshp_bench.training.stepper import Stepper
from oshp_bench.training.validation import Validation, validate, validation_pairs


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        checkpoint: the best epoch's by validation, or the last without validation.
        epoch: of that checkpoint, counted from 1.
        figure: its validation figure in 0..1; None without validation.
        seconds: of this process.
    """

    checkpoint: Path
    epoch: int
    figure: float | None
    seconds: float


@dataclass(frozen=True)
class Best:
    """The best epoch so far, counted from 1, and its validation figure."""

    epoch: int
    figure: float | None


@dataclass(frozen=True)
class Run:
    """What a run works with.

    Attributes:
        source: where the validation images are; None where nothing is validated.
    """

    settings: TrainSettings
    manifest: Manifest
    draws: Draws
    photos: TrainingPhotos
    source: Source | None
    folder: RunFolder
    processes: Processes


def train(run: Run) -> Outcome:
    """Trains to the end, from where the folder's last state stands.

    Raises:
        OshpError: a loss is NaN or infinite, memory is too small, or the folder is another run's.
    """
    with faults_explained(run.settings):
        return _train(run)


def _train(run: Run) -> Outcome:
    settings, processes, folder = run.settings, run.processes, run.folder
    processes.check(settings.batch, settings.accumulate)
    started = time.perf_counter()
    torch.manual_seed(settings.seed)
    network = _network(settings, run.manifest).to(processes.device)
    if settings.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    saved = folder.saved_state()
    if saved is not None:
        load_state(network, saved["network"], folder.state)
    elif processes.first:
        folder.begin(processes.computer)
    if processes.first:
        parts = (f"{name} {value}" for name, value in processes.computer.items())
        echo(f"trains with {', '.join(parts)}; with others the network differs (docs/training.md)", err=True)
    epilogue = _Epilogue(run, network, Best(0, None) if saved is None else Best(*saved["best"]))
    episodes = TrainingEpisodes(
        run.manifest, run.photos, settings.way, settings.seed, settings.augmentation, draws=run.draws
    )
    steps = len(run.draws) // settings.batch
    for stage in range(0 if saved is None else saved["stage"], network.stages):
        stepper, first = Stepper(settings, processes, network, stage), 0
        if saved is not None and saved["stage"] == stage:
            stepper.load_state(saved["stepper"])
            first = saved["epoch"]
        stream = batches(episodes, _places(first, settings, steps, processes), settings.workers, processes.device)
        start = Progress(first, settings.epochs, first * steps, settings.epochs * steps, stage)
        log = StepLog(processes.first, start, network.stages)
        for epoch in range(first, settings.epochs):
            # A function of the epoch, so that a run that goes on meets the same random numbers.
            words = Stream("oshp-train", "torch", settings.seed, stage, epoch, processes.rank).words(1)
            torch.manual_seed(int(words[0]))
            log.begin_epoch()
            for step in range(epoch * steps, (epoch + 1) * steps):
                progress = Progress(epoch, settings.epochs, step, settings.epochs * steps, stage)
                row = log.row(stepper.step(next(stream), progress), progress)
                if row and processes.first:
                    folder.add("metrics", row)
            if processes.first:
                log.end_epoch(epoch, epilogue.after(stage, epoch, stepper))
        log.close()
    return epilogue.outcome(time.perf_counter() - started)


def _network(settings: TrainSettings, manifest: Manifest) -> LearnedMethod:
    backbone = build_backbone(
        settings.backbone,
        width=settings.width,
        weights=Path(settings.weights) if settings.weights else None,
        pretrained=settings.pretrained,
    )
    return network_class(settings.method).build(backbone, _labels(manifest), settings.way, settings.model)


def _labels(manifest: Manifest) -> Labels:
    """What methods are told; source labels that were merged count too, as EOP-Net's release has a slot for each."""
    count = max(len(manifest.dataset.labels), max(manifest.class_ids) + 1)
    return Labels(count, tuple(sorted(manifest.ids_of("base"))))


def _card(run: Run, network: LearnedMethod, epoch: int, found: Validation | None) -> Card:
    settings = run.settings
    architectures = (module.architecture for module in network.modules() if isinstance(module, Backbone))
    return Card(
        method=settings.method,
        way=settings.way,
        backbone=settings.backbone,
        width=settings.width or usual_width(settings.backbone),
        count=_labels(run.manifest).count,
        model=as_table(settings.model),
        test_side=settings.test_side,
        manifest=TrainedOn.of(run.manifest),
        training={
            "settings": as_table(settings),
            "epoch": epoch,
            "validation": None if found is None else dict(found.figures),
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
        },
        architecture=next(architectures, None),
    )


def _places(first: int, settings: TrainSettings, steps: int, processes: Processes) -> Iterator[list[tuple[int, int]]]:
    """This process's share of every batch from an epoch on, as (epoch, index)."""
    for epoch in range(first, settings.epochs):
        for step in range(steps):
            yield [(epoch, step * settings.batch + place) for place in processes.share(settings.batch)]


class _Epilogue:
    """What follows an epoch: validation, checkpoints, the state to go on from."""

    def __init__(self, run: Run, network: LearnedMethod, best: Best) -> None:
        self._run = run
        self._network = network
        self._best = best
        if run.settings.validate_every:
            self._pairs = validation_pairs(run.manifest, run.settings.validation_pairs)

    def after(self, stage: int, epoch: int, stepper: Stepper) -> float | None:
        """After an epoch of a stage, both counted from 0; gives the figure of its validation."""
        settings, folder = self._run.settings, self._run.folder
        done, ends = stage * settings.epochs + epoch + 1, epoch + 1 == settings.epochs
        found = None
        # Before its last stage a method is not ready to parse.
        last = stage + 1 == self._network.stages
        if last and settings.validate_every and (ends or (epoch + 1) % settings.validate_every == 0):
            found = self._validation(done)
            if self._best.figure is None or found.figure > self._best.figure:
                self._best = Best(done, found.figure)
                self._save(folder.best, done, found)
        if last and ends:
            self._save(folder.last, done, found)
        if last and settings.keep_every and (epoch + 1) % settings.keep_every == 0:
            self._save(folder.kept(done), done, found)
        folder.save_state(
            {
                "stage": stage,
                "epoch": epoch + 1,
                "best": [self._best.epoch, self._best.figure],
                "network": self._network.state_dict(),
                "stepper": stepper.state(),
            }
        )
        return None if found is None else found.figure

    def outcome(self, seconds: float) -> Outcome:
        """The end of a run; a method that needs no training is saved as it began."""
        folder, epochs = self._run.folder, self._run.settings.epochs * self._network.stages
        if not epochs and self._run.processes.first:
            self._save(folder.last, 0, None)
        if self._best.figure is None:
            return Outcome(folder.last, epochs, None, seconds)
        return Outcome(folder.best, self._best.epoch, self._best.figure, seconds)

    def _validation(self, epoch: int) -> Validation:
        run, folder = self._run, self._run.folder
        assert run.source is not None
        method = NetworkMethod(self._network, run.settings.test_side)
        found = validate(method, run.manifest, self._pairs, ImageCache(run.source), run.settings.way)
        headline = {name: round(value, 6) for name, value in found.figures.items() if name.count("/") == 1}
        folder.add("validation", {"epoch": epoch, **headline})
        folder.save_sheet(epoch, found.rows, run.manifest)
        folder.save_curves(found.chosen_by)
        return found

    def _save(self, path: Path, epoch: int, found: Validation | None) -> None:
        save_checkpoint(path, _card(self._run, self._network, epoch, found), self._network)
