"""What a training run is made of: one frozen dataclass, presets of it, a TOML file, `--set name=value`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from oshp_bench.baselines.backbones import BACKBONES
from oshp_bench.baselines.eopnet.settings import RELEASE, EOPNetSettings
from oshp_bench.baselines.registry import named, network_class
from oshp_bench.baselines.settings import Layer, assignments, changed, layered, outside
from oshp_bench.errors import raise_problems
from oshp_bench.files import read_toml
from oshp_bench.untrusted import shown


@dataclass(frozen=True)
class Augmentation:
    """How a photo and its mask become a training sample of crop x crop pixels.

    Attributes:
        crop: height and width of a sample; what a small image leaves free is black, its mask 255.
        fit: the size before scaling: "square" resizes to crop x crop, "longest" brings the longer side to `side`,
            "native" leaves it.
        side: the longer side that "longest" wants, in pixels.
        scale: the range of the random scale.
        one_scale: one scale for both axes; the release draws one for each.
        flip: half of the samples are mirrored, query and support each for itself.
    """

    crop: int = 512
    fit: Literal["square", "longest", "native"] = "square"
    side: int = 512
    scale: tuple[float, float] = (0.5, 2.0)
    one_scale: bool = True
    flip: bool = True

    def __post_init__(self) -> None:
        low, high = self.scale
        problems = outside(self, {"crop": (32, 4096), "side": (32, 4096)}, "augmentation.")
        if not 0.1 <= low <= high <= 10:
            problems.append(f"augmentation.scale is {low}, {high}; 0.1 <= low <= high <= 10 works")
        raise_problems(problems)


# The least and the most that work.
_RANGES: dict[str, tuple[float, float]] = {
    "width": (1, 1024),
    "epochs": (1, 100_000),
    "episodes": (1, 10**9),
    "queries_per_class": (1, 10**9),
    "batch": (1, 4096),
    "accumulate": (1, 4096),
    "lr": (1e-9, 10),
    "momentum": (0, 0.9999),
    "weight_decay": (0, 1),
    "clip": (1e-6, 1e6),
    "test_side": (32, 8192),
    "validate_every": (0, 100_000),
    "validation_pairs": (1, 10**9),
    "workers": (0, 64),
    "seed": (0, 2**63 - 1),
}


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides a training run beside the data; defaults are the paper's (section 5.1).

    Attributes:
        method: a method with a network; `model` are its own settings.
        way: "k" or "1".
        backbone: a key of `backbones.BACKBONES`; `width` its channels, None for its own number.
        weights: a file of pretrained weights of the backbone; None takes those of the installed package.
        pretrained: False starts from random weights.
        epochs: how often the learning rate's schedule, beta and the memory's warm-up count on.
        episodes: how many episodes an epoch has; None goes through Q_train (k-way), or through the queries of every
            base class (1-way), once.
        queries_per_class: 1-way: how many queries of each base class take part, the first of Q_train.
        redraw: supports are drawn anew in each epoch; the release draws them once.
        batch: episodes of one optimiser step, over all processes.
        accumulate: the batch is computed in so many parts, which saves memory; each has its own batch statistics, and
            all have the same weight in the mean, however many of their pixels are to be ignored.
        optimiser: "sgd" or "adamw".
        lr: the first learning rate.
        schedule: "poly" falls at every step as (1 - step/steps)^0.9; "staircase" falls at epochs 9, 19, ... and starts
            the optimiser anew there, as the release does.
        momentum: of SGD.
        clip: the norm that gradients are cut to; None for no cut.
        freeze_batch_norm: batch norm keeps the statistics it was loaded with.
        precision: of the forward pass, through autocast.
        channels_last: memory order of images and weights.
        test_side: the longer side that photos have at validation and test, in pixels; None for native size.
            Predictions have the native size either way.
        validate_every: epochs between two validations; 0 for none.
        validation_pairs: how many of the manifest's validation pairs, evenly spread; None for all.
        workers: processes that make samples; 0 makes them in the main process. The samples are the same.
        seed: of weights and episodes.
    """

    method: str = "eopnet"
    way: Literal["k", "1"] = "k"
    backbone: str = "xception65"
    width: int | None = None
    weights: str | None = None
    pretrained: bool = True
    epochs: int = 50
    episodes: int | None = None
    queries_per_class: int = 1500
    redraw: bool = True
    batch: int = 2
    accumulate: int = 1
    optimiser: Literal["sgd", "adamw"] = "sgd"
    lr: float = 1e-3
    schedule: Literal["poly", "staircase"] = "poly"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip: float | None = None
    freeze_batch_norm: bool = False
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = True
    test_side: int | None = None
    validate_every: int = 5
    validation_pairs: int | None = None
    workers: int = 2
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)
    model: Any = field(default_factory=EOPNetSettings)

    def __post_init__(self) -> None:
        problems = outside(self, _RANGES)
        for name, known in (("method", named("frozen", "trained")), ("backbone", BACKBONES)):
            value = getattr(self, name)
            if value not in known:
                problems.append(f"{name} is {shown(value)}; known: {', '.join(known)}")
        if self.episodes is not None and self.episodes < self.batch:
            problems.append(f"episodes is {self.episodes}, less than a batch of {self.batch}")
        if self.accumulate > 0 and self.batch % self.accumulate:
            problems.append(
                f"accumulate is {self.accumulate}; so many equal parts cannot be cut from batch {self.batch}"
            )
        raise_problems(problems)


PAPER = TrainSettings()

# The authors' code: scripts/train_*.sh and dataloaders at commit 4df7ebf, as the facts of the release tell.
AS_RELEASED = TrainSettings(
    redraw=False,
    schedule="staircase",
    augmentation=Augmentation(fit="native", one_scale=False),
    model=RELEASE,
)

# Small enough to train on two cores in half an hour: features that need no GPU, 256 x 256 samples, AdamW. So few steps
# are best spent on photos of hardly any other scale, and with prototypes that follow at once. At test photos are larger
# than in training, which every k-way network gained from on CCP's validation list (docs/results/ccp.md).
CPU = TrainSettings(
    backbone="efficientnet-lite0",
    width=64,
    epochs=24,
    episodes=300,
    optimiser="adamw",
    lr=1.5e-3,
    weight_decay=1e-2,
    clip=5.0,
    test_side=400,
    validate_every=4,
    validation_pairs=60,
    workers=1,
    augmentation=Augmentation(crop=256, fit="longest", side=320, scale=(0.9, 1.1)),
    model=EOPNetSettings(alpha=0.9, warm_up=1),
)

# A first look, in two minutes: 700 steps at half of that size.
QUICK = replace(
    CPU,
    width=32,
    epochs=14,
    episodes=100,
    lr=3e-3,
    test_side=200,
    validate_every=7,
    validation_pairs=30,
    augmentation=replace(CPU.augmentation, crop=160, side=200),
    model=replace(CPU.model, recompute=False),
)

PRESETS: dict[str, TrainSettings] = {"paper": PAPER, "release": AS_RELEASED, "cpu": CPU, "quick": QUICK}


def resolved(
    preset: str, file: Path | None, texts: Iterable[str], given: Mapping[str, Any] | None = None
) -> TrainSettings:
    """The settings of a run: a preset, changed by a TOML file, then by `--set`, then by the command's own options.

    Args:
        texts: such as "lr=0.01".
        given: values of the command's own options, such as {"way": "1"}.

    Raises:
        OshpError: every mistake, a line each.
    """
    ours, problems = assignments(texts)
    layers = [Layer(str(file), read_toml(file))] if file else []
    layers += [ours, Layer("the command line", given or {})]
    return layered(
        _for_method(PRESETS[preset], [each.table["method"] for each in layers if "method" in each.table]),
        layers,
        problems,
    )


def parsed(table: Mapping[str, Any], origin: str) -> TrainSettings:
    """The settings that a settings.toml holds: what it leaves out is as the paper says.

    Raises:
        OshpError: every mistake, a line each.
    """
    return changed(_for_method(PAPER, [table.get("method")]), table, origin)


def _for_method(settings: TrainSettings, names: Sequence[Any]) -> TrainSettings:
    """With the model's settings of the method that is named last, if there is such a method."""
    method = names[-1] if names else settings.method
    if not isinstance(method, str) or method not in named("frozen", "trained"):
        return settings
    own = network_class(method).settings_type()
    return replace(
        settings, model=replace(own, **vars(settings.model)) if isinstance(own, type(settings.model)) else own
    )
