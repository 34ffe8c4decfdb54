"""Compares networks, and settings that may change after training, on validation lists: never on test pairs.

Run: python benchmarks/choices.py --manifest ccp_fold1 --other ccp_fold2 --root path/to/clothing-co-parsing \\
  --row run/best.safetensors --row run/best.safetensors layout=0.4 mirror=true [--way k] [--pairs N]

A row is a checkpoint and its changed settings. All rows parse the same pairs and are tested against the first, paired
over queries. The list of the checkpoints' own manifest has base classes alone. That of --other, the other fold, asks
for its base classes, among them those that are novel to these checkpoints: everything about novel classes is chosen
on it. Roles are those of the own manifest. Both lists are of training images.

--untrained puts the network of the first row in front as it was before training: whether training taught it anything.
"""

from __future__ import annotations

import argparse
import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oshp_bench.baselines.backbones import build_backbone
from oshp_bench.baselines.backbones.layers import Backbone
from oshp_bench.baselines.checkpoints import load_checkpoint
from oshp_bench.baselines.contract import LearnedMethod
from oshp_bench.baselines.eopnet.network import EOPNet
from oshp_bench.baselines.inference import NetworkMethod
from oshp_bench.baselines.registry import network_class
from oshp_bench.baselines.settings import changed
from oshp_bench.console import progress
from oshp_bench.datasets.sources import Source, find_source
from oshp_bench.episodes.episodes import WAYS, Episodes, ImageCache, Way
from oshp_bench.errors import OshpError
from oshp_bench.manifest import Manifest, Pairs, load_manifest
from oshp_bench.metrics import Accumulator, Difference, Resampling, Result, compare, score_matrices
from oshp_bench.report.tables import against_first_table, as_text, headline_table
from oshp_bench.training.validation import validation_pairs

# What a pair needs at most, query and support mirrored too, and what its neighbours share with it.
_KEPT_FEATURES = 8


class Shared(Backbone):
    """A backbone that several networks have, and that computes a photo once for all of them."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.width = backbone.width
        self._backbone = backbone
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()

    def forward(self, images: Tensor) -> Tensor:
        """Features of images, float [N, C, h, w]."""
        key = images.numpy().tobytes()
        if key not in self._kept:
            self._kept[key] = self._backbone(images)
            if len(self._kept) > _KEPT_FEATURES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


@dataclass(frozen=True)
class Row:
    """A network and the settings that it is used with.

    Attributes:
        name: for the tables.
    """

    name: str
    network: LearnedMethod
    method: NetworkMethod


def opened(given: Sequence[Sequence[str]], manifest: Manifest) -> list[Row]:
    """The rows, on the CPU.

    Args:
        given: of each row the checkpoint's path, then changes such as "layout=0".

    Raises:
        OshpError: see load_checkpoint and Checkpoint.check.
    """
    rows: list[Row] = []
    shared: dict[str, Shared] = {}
    for path, *changes in given:
        checkpoint = load_checkpoint(Path(path), changes)
        checkpoint.check(manifest)
        network = checkpoint.network
        if isinstance(network, EOPNet):
            network.backbone = shared.setdefault(path, Shared(network.backbone))
        method = NetworkMethod(network, checkpoint.card.test_side, feature_bytes=1 << 26)
        rows.append(Row(" ".join((Path(path).parent.name or path, *changes)), network, method))
    return rows


def before_training(path: Path) -> Row:
    """The network of a checkpoint as its training began: pretrained backbone, the rest drawn by the run's seed.

    Raises:
        OshpError: see load_checkpoint; or the checkpoint does not say how it was trained.
    """
    card = load_checkpoint(path).card
    settings = (card.training or {}).get("settings")
    if not isinstance(settings, dict):
        raise OshpError(f"{path}: does not say how it was trained; give a checkpoint of oshp-train")
    method, weights = network_class(card.method), settings["weights"]
    torch.manual_seed(settings["seed"])
    backbone = build_backbone(
        card.backbone,
        width=card.width,
        weights=Path(weights) if weights else None,
        pretrained=settings["pretrained"],
        architecture=card.architecture,
    )
    chosen = changed(method.settings_type(), card.model, str(path))
    network = method.build(backbone, card.labels, card.way, chosen).eval()
    return Row("untrained", network, NetworkMethod(network, card.test_side, feature_bytes=1 << 26))


def evaluated(
    rows: Sequence[Row], manifest: Manifest, pairs: Pairs, source: Source, ways: Sequence[Way]
) -> list[Result]:
    """What every row makes of the pairs, in the ways that it can parse."""
    images = ImageCache(source)
    accumulators = [Accumulator(manifest, pairs) for _ in rows]
    order = sorted(range(len(pairs)), key=lambda index: pairs.query[index])
    for index in progress(order, "pairs", len(order)):
        for way in ways:
            (episode,) = Episodes(pairs, images, way, [index])
            truth = images.mask(episode.query_id)
            for row, accumulator in zip(rows, accumulators, strict=True):
                if way in row.network.ways:
                    accumulator.add(way, index, truth, row.method(episode))
    return [
        score_matrices(manifest, accumulator.matrices(), pairs=pairs, resampling=Resampling())
        for accumulator in accumulators
    ]


def printed(title: str, rows: Sequence[Row], results: Sequence[Result]) -> list[dict[str, Difference]]:
    """Prints the headline figures of all rows and their differences to the first, which it gives."""
    sets = [(row.name, result) for row, result in zip(rows, results, strict=True)]
    differences = [compare(results[0], result) for result in results[1:]]
    print(f"== {title}\n\n{as_text(headline_table(sets))}")
    if differences:
        print(as_text(against_first_table(sets, differences)))
    return differences


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", required=True, help="the manifest that the checkpoints were trained on")
    parser.add_argument("--other", help="the manifest of the other fold")
    parser.add_argument("--root", type=Path, help="the dataset's folder")
    parser.add_argument("--row", nargs="+", action="append", required=True, metavar=("CHECKPOINT", "NAME=VALUE"))
    parser.add_argument("--untrained", action="store_true", help="begin with the first row's network before training")
    parser.add_argument("--way", choices=WAYS, help="one way only")
    parser.add_argument("--pairs", type=int, help="so many pairs of each list, evenly spread")
    parser.add_argument("--out", type=Path, help="write figures and differences there, as JSON")
    options = parser.parse_args(arguments)
    own = load_manifest(options.manifest)
    lists = [own, *([load_manifest(options.other)] if options.other else [])]
    if len({(listed.dataset.name, listed.class_ids) for listed in lists}) > 1:
        raise OshpError(f"{lists[-1].name}: has other classes than {own.name}; give the other fold of the same dataset")
    rows, source = opened(options.row, own), find_source(own.dataset, options.root)
    if options.untrained:
        rows.insert(0, before_training(Path(options.row[0][0])))
    found: dict[str, Any] = {}
    for listed in lists:
        pairs = validation_pairs(listed, options.pairs)
        results = evaluated(rows, own, pairs, source, [options.way] if options.way else WAYS)
        differences = printed(f"{len(pairs)} validation pairs of {listed.name}, roles of {own.name}", rows, results)
        found[listed.name] = [
            {"row": row.name, "figures": {name: figure.value for name, figure in result.figures.items()}}
            for row, result in zip(rows, results, strict=True)
        ]
        for entry, of_row in zip(found[listed.name][1:], differences, strict=True):
            entry["p"] = {name: difference.p_value for name, difference in of_row.items()}
    if options.out:
        options.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
