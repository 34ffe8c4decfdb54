"""What a training run is made of: one frozen dataclass, presets of it, a TOML file, `--set name=value`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from oshp_bench.baselines.backbones import BACKBONES, HUB, is_backbone
from oshp_bench.baselines.registry import REFERENCE, named, network_class
from oshp_bench.baselines.settings import Layer, assignments, layered
from oshp_bench.episodes.augmentation import Augmentation
from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.files import read_toml
from oshp_bench.ranges import Range, outside
from oshp_bench.untrusted import shown


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides a training run beside the data; the defaults are the paper's (section 6.1)."""

    method: str = REFERENCE
    """What is trained; see oshp-train --help."""
    way: Literal["k", "1"] = "k"
    """k-way or 1-way training."""
    backbone: str = "xception65"
    """The network that computes features; see oshp-train --help."""
    width: Annotated[int | None, Range(1, 1024)] = None
    """Channels of the features; none takes the backbone's own number."""
    weights: str | None = None
    """File of pretrained weights for the backbone; none takes those of the installed package."""
    pretrained: bool = True
    """Start from pretrained weights; false starts from random ones."""
    epochs: Annotated[int, Range(1, 100_000)] = 50
    """Number of epochs; the schedule of the learning rate ends with the last one."""
    episodes: Annotated[int | None, Range(1, 10**9)] = None
    """Episodes of an epoch; none takes every query of Q_train once (k-way), or every query of every base class
    (1-way)."""
    queries_per_class: Annotated[int, Range(1, 10**9)] = 1500
    """1-way: queries of each base class, the first ones of Q_train."""
    redraw: bool = True
    """Draw new supports every time that the queries have all been used; false draws them once."""
    batch: Annotated[int, Range(1, 4096)] = 2
    """Episodes of an optimiser step, over all processes."""
    accumulate: Annotated[int, Range(1, 4096)] = 1
    """Compute the batch in this many equal parts, which saves memory. Each part has its own batch statistics; all parts
    have the same weight in the mean, however many of their pixels are ignored."""
    optimiser: Literal["sgd", "adamw", "rmsprop"] = "sgd"
    """Optimiser of the weights."""
    lr: Annotated[float, Range(1e-9, 10)] = 1e-3
    """Learning rate of the first step."""
    schedule: Literal["constant", "step", "poly", "staircase"] = "poly"
    """How the learning rate falls. step: multiplied by `gamma` after every `step_size` epochs. poly: as
    (1 - step/steps)^0.9 at every step. staircase: as poly, but only at epochs 9, 19, ..., where the optimiser also
    starts anew, as in the code of EOP-Net's authors."""
    step_size: Annotated[int, Range(1, 100_000)] = 10
    """Epochs between two falls of schedule=step."""
    gamma: Annotated[float, Range(1e-6, 1)] = 0.1
    """Factor of a fall of schedule=step."""
    momentum: Annotated[float, Range(0, 0.9999)] = 0.9
    """Momentum of sgd and rmsprop."""
    weight_decay: Annotated[float, Range(0, 1)] = 5e-4
    """Weight decay of the optimiser."""
    clip: Annotated[float | None, Range(1e-6, 1e6)] = None
    """Largest norm of the gradients, which are scaled down to it; none for no limit."""
    freeze_batch_norm: bool = False
    """Batch norm keeps the statistics that it was loaded with."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the forward pass, through autocast."""
    channels_last: bool = True
    """Memory order of images and weights."""
    test_side: Annotated[int | None, Range(32, 8192)] = None
    """Longer side of photos at validation and test, in pixels; none keeps the native size. Predictions always have the
    native size."""
    validate_every: Annotated[int, Range(0, 100_000)] = 5
    """Epochs between two validations; 0 for none."""
    validation_pairs: Annotated[int | None, Range(1, 10**9)] = None
    """Number of the manifest's validation pairs to use, evenly spread; none for all."""
    keep_every: Annotated[int, Range(0, 100_000)] = 0
    """Epochs between two checkpoints that stay, as epochs/0005.safetensors; 0 keeps the best and the last alone."""
    workers: Annotated[int, Range(0, 64)] = 2
    """Processes that make samples; 0 makes them in the main process. The samples are the same."""
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    """Seed of weights, episodes and augmentation."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """How photos become samples."""
    model: Any = None
    """The method's own settings."""

    def __post_init__(self) -> None:
        problems, methods = outside(self), named("frozen", "trained")
        if self.method not in methods:
            problems.append(f"method is {shown(self.method)}; known: {', '.join(methods)}")
        if not is_backbone(self.backbone):
            problems.append(f"backbone is {shown(self.backbone)}; known: {', '.join(BACKBONES)}, {HUB}NAME")
        if self.method in methods and self.way not in methods[self.method].ways:
            problems.append(f"way is {self.way}; {self.method} can only be trained {methods[self.method].ways[0]}-way")
        if self.episodes is not None and self.episodes < self.batch:
            problems.append(f"episodes is {self.episodes}, less than a batch of {self.batch}")
        if self.accumulate > 0 and self.batch % self.accumulate:
            problems.append(
                f"accumulate is {self.accumulate}; a batch of {self.batch} does not divide into equal parts"
            )
        raise_problems(problems)


# Small enough to train on two cores in half an hour: features that need no GPU, 256 x 256 samples, AdamW. So few steps
# are best spent on photos of hardly any other scale. At test photos are larger than in training, which every k-way
# network gained from on CCP's validation list (docs/results/ccp.md).
_CPU: dict[str, Any] = {
    "backbone": "efficientnet-lite0",
    "width": 64,
    "epochs": 24,
    "episodes": 300,
    "optimiser": "adamw",
    "lr": 1.5e-3,
    "weight_decay": 1e-2,
    "clip": 5.0,
    "test_side": 400,
    "validate_every": 4,
    "validation_pairs": 60,
    "workers": 1,
    "augmentation": {"crop": 256, "fit": "longest", "side": 320, "scale": [0.9, 1.1]},
}

# A first look, in two minutes: 700 steps at half of that size.
_QUICK: dict[str, Any] = _CPU | {
    "width": 32,
    "epochs": 14,
    "episodes": 100,
    "lr": 3e-3,
    "test_side": 200,
    "validate_every": 7,
    "validation_pairs": 30,
    "augmentation": _CPU["augmentation"] | {"crop": 160, "side": 200},
}

# What the presets change for every method; None is a preset that only methods with such defaults have.
PRESETS: dict[str, Mapping[str, Any] | None] = {"paper": {}, "release": None, "cpu": _CPU, "quick": _QUICK}


@dataclass(frozen=True)
class Changes:
    """What a user wants otherwise than a preset has it.

    Attributes:
        method: what is trained.
        layers: changed settings, later ones win.
        problems: mistakes that were found so far.
    """

    method: str
    layers: tuple[Layer, ...]
    problems: tuple[str, ...] = ()


def read_changes(file: Path | None, texts: Iterable[str], given: Mapping[str, Any]) -> Changes:
    """The changes by a TOML file, then by `--set`, then by the command's own options; torch is not imported.

    Args:
        texts: such as "lr=0.01".
        given: values of the command's own options, such as {"way": "1"}.

    Raises:
        OshpError: an unknown method, a way that it cannot be trained for, or a file that cannot be read.
    """
    ours, problems = assignments(texts)
    layers = [Layer(str(file), read_toml(file))] if file else []
    return _changes([*layers, ours, Layer("the command line", given)], problems)


def preset(name: str, method: str = REFERENCE) -> TrainSettings:
    """The settings of a preset for a method: the paper's, then the preset's, then the method's own for the preset.

    Raises:
        OshpError: no such method, or it has no such preset.
    """
    learned, common = network_class(method), PRESETS[name]
    if common is None and name not in learned.defaults:
        known = [other for other, table in PRESETS.items() if table is not None or other in learned.defaults]
        raise OshpError(f"{method} has no preset {name}; it has {', '.join(known)}")
    start = TrainSettings(method=method, way=named("frozen", "trained")[method].ways[0], model=learned.settings_type())
    layers = (Layer(f"preset {name}", common or {}), Layer(f"{method}, preset {name}", learned.defaults.get(name, {})))
    return layered(start, layers)


def resolved(name: str, changes: Changes) -> TrainSettings:
    """The settings of a run: those of a preset, with changes.

    Raises:
        OshpError: every mistake, a line each.
    """
    return layered(preset(name, changes.method), changes.layers, changes.problems)


def parsed(table: Mapping[str, Any], origin: str) -> TrainSettings:
    """The settings that a settings.toml holds; what it leaves out is as in the preset "paper".

    Raises:
        OshpError: every mistake, a line each.
    """
    return resolved("paper", _changes([Layer(origin, table)]))


def _changes(layers: list[Layer], problems: Iterable[str] = ()) -> Changes:
    """Checks method and way first, as everything else depends on the method."""
    choices = [
        Layer(layer.origin, {name: layer.table[name] for name in ("method", "way") if name in layer.table})
        for layer in layers
    ]
    method = next((layer.table["method"] for layer in reversed(choices) if "method" in layer.table), REFERENCE)
    known = {name: found.ways[0] for name, found in named("frozen", "trained").items() if name == method}
    start = TrainSettings(method=method, way=known[method]) if known else TrainSettings()
    return Changes(layered(start, choices).method, tuple(layers), tuple(problems))
