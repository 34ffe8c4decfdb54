"""Prints MACs, parameters and frames a second of the methods, beside the paper's Table 8.

Run: python benchmarks/complexity.py [METHOD ...] [--preset paper] [--size 512] [--classes 5] [--json]

A frame is a query parsed into k classes by one support: both photos are encoded once; a method that parses one class
at a time adapts and parses k times. MACs are those of convolutions and matrix products, as torch.utils.flop_counter
counts them, two operations each. The paper counts k support photos for methods that take one a class, so the table has
this count, too. FPS are those of one core, by processor time, so that they hold on a busy machine. Weights are random.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from rows import seconds
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from oshp_bench.baselines.backbones import build_backbone
from oshp_bench.baselines.contract import Labels, LearnedMethod, Support
from oshp_bench.baselines.registry import named, network_class
from oshp_bench.training.settings import PRESETS, preset

# What the networks are measured on costs the same, whatever it shows.
_LABELS = Labels(18, tuple(range(1, 14)))
# MACs, parameters and FPS of the paper's Table 8.
_PAPER = {
    "panet": (612.6, 14.7, 2.3),
    "ppnet": (560.0, 24.7, 0.3),
    "popnet": (264.4, 85.8, 7.8),
    "eopnet": (129.3, 42.5, 12.0),
}
# The paper counts a head that it leaves out of PPNet.
_COUNTED = {"ppnet": {"semantic": True}}


class Frame:
    """One query: random photos of size x size, a support of as many upright stripes as classes."""

    def __init__(self, network: LearnedMethod, size: int, classes: int) -> None:
        self._network = network
        self._classes = tuple(range(1, 1 + classes))
        self._support, self._query = torch.rand(2, 1, 3, size, size)
        stripes = 1 + torch.arange(size) * classes // size
        self._mask = torch.where(torch.arange(size)[:, None] < size // 8, 0, stripes.expand(size, size))[None]
        self._size = size

    @torch.no_grad()
    def parse(self) -> None:
        support, query = self._network.encode(self._support), self._network.encode(self._query)
        for classes in [self._classes] if "k" in self._network.ways else [(one,) for one in self._classes]:
            self._parse(support, query, classes)

    def _parse(self, support: Tensor, query: Tensor, classes: tuple[int, ...]) -> None:
        whole = self._mask
        asked = torch.where(torch.isin(whole, torch.tensor(classes)), whole, 0)
        task = self._network.adapt(Support(support, asked, whole, whole.clamp(max=1), classes))
        self._network.parse(query, task, (self._size, self._size))

    def macs(self) -> tuple[float, float]:
        """In thousand millions: of a frame, and of one where every class has a support photo of its own."""
        with FlopCounterMode(display=False) as whole:
            self.parse()
        with torch.no_grad(), FlopCounterMode(display=False) as photo:
            self._network.encode(self._query)
        frame, encoding = (counter.get_total_flops() / 2e9 for counter in (whole, photo))
        return frame, frame + (len(self._classes) - 1) * encoding

    def frames_per_second(self, rounds: int) -> float:
        """From the least time that a frame took one core."""
        return 1 / min(seconds(self.parse, time.process_time) for _ in range(rounds))


def measured(method: str, name: str, size: int, classes: int, rounds: int) -> dict[str, str | float | None]:
    """A row of the table: a method as a preset has it."""
    torch.manual_seed(0)
    settings, learned = preset(name, method), network_class(method)
    backbone = build_backbone(settings.backbone, width=settings.width, pretrained=False)
    model = replace(settings.model, **_COUNTED.get(method, {}))
    network = learned.build(backbone, _LABELS, settings.way, model).eval()
    frame = Frame(network, size, classes)
    one, several = frame.macs()
    macs, parameters, fps = _PAPER.get(method if name == "paper" else "", (None, None, None))
    return {
        "method": method,
        "backbone": settings.backbone,
        "macs_g": round(one, 1),
        "macs_g_support_a_class": round(several, 1),
        "paper_macs_g": macs,
        "parameters_m": round(sum(weights.numel() for weights in network.parameters()) / 1e6, 1),
        "paper_parameters_m": parameters,
        "fps": float(f"{frame.frames_per_second(rounds):.2g}"),
        "paper_fps_gpu": fps,
    }


_COLUMNS = (
    "method",
    "backbone",
    "MACs (G)",
    "with k support photos",
    "paper",
    "parameters (M)",
    "paper",
    "FPS, one core",
    "paper, GPU",
)


def table(rows: Sequence[dict[str, str | float | None]]) -> str:
    cells = [["-" if value is None else str(value) for value in row.values()] for row in rows]
    return "\n".join(
        f"| {' | '.join(line)} |" for line in [_COLUMNS, ["---", "---", *["---:"] * (len(_COLUMNS) - 2)], *cells]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = named("trained", "frozen")
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=f"of {', '.join(known)}; none measures all")
    parser.add_argument("--preset", choices=PRESETS, default="paper", help="whose backbones and settings to take")
    parser.add_argument("--size", type=int, default=512, help="height and width of both photos")
    parser.add_argument("--classes", type=int, default=5, help="k, the classes of the support")
    parser.add_argument("--rounds", type=int, default=1, help="frames to time; the quickest counts")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    methods = options.methods or list(known)
    if unknown := [method for method in methods if method not in known]:
        parser.error(f"{', '.join(unknown)}: no such method; known: {', '.join(known)}")
    if not 1 <= options.classes < _LABELS.count or options.size < 32 or options.rounds < 1:
        parser.error(f"--classes 1 to {_LABELS.count - 1}, --size from 32 and --rounds from 1 work")
    torch.set_num_threads(1)
    rows = [measured(method, options.preset, options.size, options.classes, options.rounds) for method in methods]
    if options.json:
        print(json.dumps({"size": options.size, "classes": options.classes, "methods": rows}))
    else:
        print(f"{options.size}x{options.size} pixels, k = {options.classes}, one core\n\n{table(rows)}")


if __name__ == "__main__":
    main()
