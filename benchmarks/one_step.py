"""Trains a few steps in a process of its own, and prints their processor time and peak memory as JSON.

Run: python benchmarks/one_step.py BACKBONE paper|release [--recompute]

The memory is the most that the process held in any step, above what it held when network and batches were loaded:
activations, gradients, the optimiser's momentum and scratch space.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch
from networks import MODELS, THREADS, Training, without_spinning
from rows import seconds

from oshp_bench.baselines.backbones import BACKBONES

BATCHES, ROUNDS = 2, 3


def memory_mib(line: str) -> float:
    """A line of what Linux knows of this process: VmRSS holds now, VmHWM the most since it was last reset."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{line}:")[2].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone", choices=BACKBONES)
    parser.add_argument("reading", choices=MODELS)
    parser.add_argument("--recompute", action="store_true", help="as the paper's reading does in any case")
    options = parser.parse_args()
    without_spinning()
    torch.set_num_threads(THREADS)
    training = Training.of(options.backbone, options.reading)
    if options.recompute:
        model = replace(MODELS[options.reading], recompute=True)
        training = replace(training, settings=replace(training.settings, model=model))
    loaded = list(training.batches(BATCHES))
    training.network.train()
    before = memory_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")

    def train() -> None:
        for batch in loaded:
            training.step(batch)

    least = min(seconds(train, time.process_time) for _ in range(ROUNDS))
    print(json.dumps({"seconds": least / BATCHES, "mib": memory_mib("VmHWM") - before}))


if __name__ == "__main__":
    main()
