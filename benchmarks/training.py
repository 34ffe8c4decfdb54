"""Measures prediction, the training step and data loading as ratios within one run, beside their bars.

Run: python benchmarks/training.py        (README.md in this folder tells what the rows are)
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from networks import THREADS, Training, ccp, embedded, without_spinning
from rows import Row, print_rows, seconds

from oshp_bench.baselines.backbones import build_backbone
from oshp_bench.baselines.contract import Labels, LearnedMethod
from oshp_bench.baselines.inference import NetworkMethod
from oshp_bench.baselines.registry import named, network_class
from oshp_bench.datasets.images import Mask
from oshp_bench.episodes.episodes import Episodes, ImageCache
from oshp_bench.episodes.training_photos import Files
from oshp_bench.manifest.pack import Pack, write_pack
from oshp_bench.training.settings import preset

BACKBONES = ("efficientnet-lite0", "xception65")
# The first queries of the manifest with 15 supports each; of them some, evenly spread, that are also parsed as if each
# were the only pair; and the longer side that photos are parsed at.
PAIRS = range(150)
ALONE = PAIRS[::25]
SIDE = 256
# Methods whose cost is nearly all in what depends on one photo or on one support.
REUSING = ("panet", "sg-one", "pfenet")
# Batches that are trained and loaded to find the time of one.
STEPS, LOADED = 4, 20


@dataclass(frozen=True)
class Predicted:
    """What a network makes of pairs of the embedded dataset's manifest, and the processor time of a pair."""

    masks: Mapping[int, Mask]
    seconds: float

    @classmethod
    def by(cls, network: LearnedMethod, groups: Sequence[Sequence[int]], images: ImageCache) -> Predicted:
        """Everything that can be is computed once for a group of pairs, and nothing for several groups."""
        pairs, masks = embedded()[0].pairs, {}
        start = time.process_time()
        for group in groups:
            method = NetworkMethod(network, SIDE)
            masks.update(
                {episode.index: method(episode) for episode in Episodes(pairs, images, network.ways[0], group)}
            )
        return cls(masks, (time.process_time() - start) / len(masks))

    def differing(self, other: Predicted) -> int:
        return sum(not np.array_equal(self.masks[index], mask) for index, mask in other.masks.items())


def prediction_rows(backbone: str) -> Iterator[Row]:
    # Pictures are read by whoever comes first, which is us.
    images, alone = ImageCache(embedded()[1]), [[index] for index in ALONE]
    ours = Training.of(backbone, "paper").for_test()
    quick = Predicted.by(ours, [PAIRS], images)
    assert any(len(np.unique(mask)) > 2 for mask in quick.masks.values()), "predictions of one class tell nothing"
    training = Training.of(backbone, "release")
    release = training.for_test()
    slow = Predicted.by(training.pair_by_pair(), alone, images)
    yield Row(f"release, pair by pair, over predicting: {backbone}", slow.seconds / quick.seconds, 5, "x", True)
    changed = quick.differing(Predicted.by(ours, alone, images))
    yield Row(f"predictions that reuse changes: {backbone}", changed, 0, "")
    changed = Predicted.by(release, [ALONE], images).differing(slow)
    yield Row(f"predictions that differ from the release's: {backbone}", changed, 0, "")


def reuse_rows() -> Iterator[Row]:
    """Every trained method as the preset `cpu` has it, with random weights."""
    manifest, source = embedded()
    images, alone = ImageCache(source), [[index] for index in ALONE]
    labels = Labels(len(manifest.dataset.labels), manifest.ids_of("base"))
    for method in named("trained"):
        torch.manual_seed(0)
        settings = preset("cpu", method)
        backbone = build_backbone(settings.backbone, width=settings.width, pretrained=False)
        network = network_class(method).build(backbone, labels, settings.way, settings.model).eval()
        shared, single = Predicted.by(network, [PAIRS], images), Predicted.by(network, alone, images)
        ratio = single.seconds / shared.seconds
        yield Row(f"pair by pair over predicting: {method}", ratio, 3 if method in REUSING else 1, "x", True)
        yield Row(f"predictions that reuse changes: {method}", shared.differing(single), 0, "")


def step_rows(backbone: str) -> Iterator[Row]:
    ours, release = (measured_step(backbone, reading) for reading in ("paper", "release"))
    what = f"training step over that of the release: {backbone}"
    yield Row(f"time of a {what}", ours["seconds"] / release["seconds"], 0.6, "x")
    yield Row(f"memory of a {what}", ours["mib"] / release["mib"], 0.6, "x")


def measured_step(*arguments: str) -> dict[str, float]:
    script = Path(__file__).with_name("one_step.py")
    done = subprocess.run([sys.executable, str(script), *arguments], check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def loading_rows(folder: Path) -> Iterator[Row]:
    settings = replace(preset("cpu"), pretrained=False)
    for manifest, source in filter(None, (embedded(), ccp())):
        files = Training(settings, manifest, Files(source, manifest))
        step, what = step_seconds(files), f"loading over training, {manifest.name}"
        yield Row(f"{what}, original files", step / load_seconds(files), 3, "x", True)
        pack = folder / f"{manifest.name}.h5"
        write_pack(manifest, source, pack)
        packed = replace(files, photos=Pack(pack, manifest))
        yield Row(f"{what}, the pack", step / load_seconds(packed), 3, "x", True)


def step_seconds(training: Training) -> float:
    """A batch's training, as if the threads shared the work evenly and none ever waited for another."""
    loaded = list(training.batches(STEPS))
    training.step(loaded[0])
    return min(seconds(partial(training.step, batch), time.process_time) for batch in loaded) / THREADS


def load_seconds(training: Training) -> float:
    """The processor time that one worker takes for a batch, its own start and end among it."""
    before = children_seconds()
    for _ in training.batches(LOADED, workers=1):
        pass
    return (children_seconds() - before) / LOADED


def children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


PARTS = ("prediction", "reuse", "step", "loading")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="measure one part alone")
    parser.add_argument("--backbone", choices=BACKBONES, help="measure one backbone alone")
    options = parser.parse_args()
    without_spinning()
    torch.set_num_threads(THREADS)
    backbones = [options.backbone] if options.backbone else BACKBONES
    with tempfile.TemporaryDirectory() as folder:
        parts = {
            "prediction": [prediction_rows(backbone) for backbone in backbones],
            "reuse": [reuse_rows()],
            "step": [step_rows(backbone) for backbone in backbones],
            "loading": [loading_rows(Path(folder))],
        }
        chosen = [options.only] if options.only else PARTS
        print_rows(
            f"torch {torch.__version__}, {THREADS} threads, float32; embedded dataset"
            + ("" if ccp() is None else ", CCP for loading"),
            *(rows for part in chosen for rows in parts[part]),
        )


if __name__ == "__main__":
    main()
