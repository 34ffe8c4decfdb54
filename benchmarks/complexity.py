"""Prints MACs, parameters and frames a second of EOP-Net, in the form of the paper's Table 8.

Run: python benchmarks/complexity.py [BACKBONE ...] [--size 512] [--classes 5] [--json]

A frame is a pair as the paper counts it: support and query are encoded, the support is adapted to, the query parsed.
MACs are those of convolutions and matrix products, as torch.utils.flop_counter counts them, two operations each. FPS
are those of one core, by processor time, so that they hold on a busy machine, too.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence

import torch
from networks import MODELS, PairByPair
from rows import seconds
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from oshp_bench.baselines.backbones import BACKBONES, build_backbone
from oshp_bench.baselines.contract import Labels, Support
from oshp_bench.baselines.eopnet.network import EOPNet

# What the encoder and the heads are measured on costs the same, whatever it shows.
_LABELS = 18
_SHOWN = ("xception65", "efficientnet-lite0")


class Pair:
    """One pair of a network: random photos of size x size, a support of as many upright stripes as classes."""

    def __init__(self, network: EOPNet, size: int, classes: int) -> None:
        self._network = network
        self._classes = tuple(range(1, 1 + classes))
        self._support, self._query = torch.rand(2, 1, 3, size, size)
        stripes = 1 + torch.arange(size) * classes // size
        self._mask = torch.where(torch.arange(size)[:, None] < size // 8, 0, stripes)[None]
        self._size = size

    @torch.no_grad()
    def parse(self) -> Tensor:
        network, mask = self._network, self._mask
        support = Support(network.encode(self._support), mask, mask, mask.clamp(max=1), self._classes)
        task = network.adapt(support)
        return network.parse(network.encode(self._query), task, (self._size, self._size))

    def macs(self) -> int:
        with FlopCounterMode(display=False) as counter:
            self.parse()
        return int(counter.get_total_flops()) // 2

    def frames_per_second(self, rounds: int) -> float:
        """From the least time that a pair took one core."""
        self.parse()
        return 1 / min(seconds(self.parse, time.process_time) for _ in range(rounds))


def measured(backbone: str, reading: str, size: int, classes: int, rounds: int) -> dict[str, str | float]:
    """A row of the table."""
    torch.manual_seed(0)
    build = PairByPair if reading == "release" else EOPNet.build
    network = build(build_backbone(backbone, pretrained=False), Labels(_LABELS), "k", MODELS[reading]).eval()
    pair = Pair(network, size, classes)
    return {
        "model": f"EOP-Net, {backbone}, {reading}",
        "macs_g": round(pair.macs() / 1e9, 2),
        "parameters_m": round(sum(each.numel() for each in network.parameters()) / 1e6, 2),
        "fps": round(pair.frames_per_second(rounds), 2),
    }


def table(rows: Sequence[dict[str, str | float]]) -> str:
    lines = ["| model | MACs (G) | parameters (M) | FPS |", "|---|---:|---:|---:|"]
    return "\n".join(lines + [f"| {' | '.join(str(each) for each in row.values())} |" for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbones", nargs="*", metavar="BACKBONE", help=f"of {', '.join(BACKBONES)}")
    parser.add_argument("--reading", choices=MODELS, default="paper", help="release: with all that it computes at test")
    parser.add_argument("--size", type=int, default=512, help="height and width of both photos")
    parser.add_argument("--classes", type=int, default=5, help="of the support")
    parser.add_argument("--rounds", type=int, default=5, help="pairs to time; the quickest counts")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    backbones = options.backbones or _SHOWN
    if unknown := [each for each in backbones if each not in BACKBONES]:
        parser.error(f"{', '.join(unknown)}: no such backbone; known: {', '.join(BACKBONES)}")
    if not 1 <= options.classes < _LABELS or options.size < 32 or options.rounds < 1:
        parser.error(f"--classes 1 to {_LABELS - 1}, --size from 32 and --rounds from 1 work")
    torch.set_num_threads(1)
    rows = [measured(each, options.reading, options.size, options.classes, options.rounds) for each in backbones]
    if options.json:
        print(json.dumps({"size": options.size, "classes": options.classes, "models": rows}))
    else:
        print(f"{options.size}x{options.size} pixels, k = {options.classes}, one core\n\n{table(rows)}")


if __name__ == "__main__":
    main()
