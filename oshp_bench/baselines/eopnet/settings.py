"""What makes one EOP-Net differ from another, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from oshp_bench.baselines.settings import at_test
from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.ranges import Range, outside

Unnamed = Literal["off", "one", "regions"]


@dataclass(frozen=True)
class Parts:
    """The pieces of the method; each can be left out, as in the paper's Tables 5 and 6."""

    agm: bool = True
    """Attention Guidance Module in the fine space, eqs. (5) to (7)."""
    npm: bool = True
    """Nearest Prototype Module, eqs. (8) and (9); without it AGM predicts."""
    weight_shift: bool = True
    """beta falls from 1 to 0 over training, eq. (10); without it beta is 1/2."""
    momentum: bool = True
    """Momentum-updated prototypes, eq. (3); without them every prototype is static."""
    coarse: bool = True
    """The coarse space, and with it screening."""
    contrast: bool = True
    """Prototype contrast, eq. (12)."""

    def __post_init__(self) -> None:
        if not (self.agm or self.npm):
            raise OshpError("EOP-Net needs AGM or NPM to parse with; switch at least one of them on")


@dataclass(frozen=True)
class EOPNetSettings:
    """What makes one EOP-Net differ from another."""

    reading: Literal["paper", "release"] = "paper"
    """The method as the paper describes it, or as the authors' code computes it."""
    parts: Parts = field(default_factory=Parts)
    """The pieces that it has."""
    alpha: Annotated[float, Range(0, 1)] = 0.999
    """Momentum of the prototypes, eq. (3)."""
    tau: Annotated[float, Range(1e-4, 1e4)] = 0.1
    """Temperature of the contrast, eq. (12)."""
    warm_up: Annotated[int, Range(0, 10**6)] = 3
    """Number of first epochs that use static prototypes: 3 in the paper, 26 in the release."""
    screening: bool = at_test(True)
    """At test, pixels that the coarse space does not call human are background."""
    recompute: bool = True
    """Compute cheap activations again in the backward pass instead of keeping them: about half the memory, a few
    percent more time, the same numbers."""

    def __post_init__(self) -> None:
        raise_problems(outside(self))


@dataclass(frozen=True)
class EOPNetFGSettings(EOPNetSettings):
    """EOP-Net's settings, and those of its foreground gate (foreground.py)."""

    ignore: bool = True
    """In training, the fine losses leave out human pixels without a base class."""
    unnamed: Unnamed = "off"
    """In training, human pixels without a base class: off, as `ignore` says; or one class, parsed by the support's
    static prototype and never remembered; or, with regions, by a prototype of each large connected region of the
    support. Where the support shows none, those of the query are ignored."""
    as_novel: Annotated[float, Range(0, 1)] = 0.0
    """In training, the probability with which a base class of an episode is treated as a novel one: not remembered, and
    parsed by the support's static prototype."""
    gate: bool = at_test(True)
    """Background is what the coarse space says; without it parsing is EOP-Net's, and nothing below acts."""
    rivals: bool = at_test(True)
    """Inside the gate, remembered base classes that nobody asked for compete, and count as background."""
    # 0.8 was the best on training images: of the model of either fold, on the classes that are novel to it and base in
    # the other.
    layout: Annotated[float, Range(0, 1000)] = at_test(0.8)
    """Weight of the support's layout beside the cosines, 0 for none."""
    offset: Annotated[float, Range(-2, 2)] = at_test(0.0)
    """Added to the cosines of classes that are not remembered; below 0 they are found less."""
    mirror: bool = at_test(False)
    """Prototypes, cosines and coarse logits are means over a photo and its mirror image; takes twice the time."""
    centre: bool = at_test(False)
    """Subtract the mean feature of the support's person before cosines are taken."""
    self_support: bool = at_test(False)
    """Average the prototypes with those of the query's own pixels, from a first parse."""

    def __post_init__(self) -> None:
        problems = outside(self)
        if not self.parts.coarse:
            problems.append("eopnet-fg asks the coarse space where a human is; leave parts.coarse on, or train eopnet")
        if self.reading != "paper":
            problems.append("eopnet-fg has no release to follow; leave reading at paper")
        raise_problems(problems)


_RELEASED: dict[str, Any] = {"reading": "release", "warm_up": 26}
# As the authors trained and published it.
RELEASE = EOPNetSettings(**_RELEASED)

# See LearnedMethod.defaults.
EOPNET_DEFAULTS: dict[str, dict[str, Any]] = {
    # The authors' code: scripts/train_*.sh and dataloaders at commit 4df7ebf.
    "release": {
        "redraw": False,
        "schedule": "staircase",
        "augmentation": {"fit": "native", "one_scale": False},
        "model": _RELEASED,
    },
    # So few steps need prototypes that follow the features at once.
    "cpu": {"model": {"alpha": 0.9, "warm_up": 1}},
    "quick": {"model": {"alpha": 0.9, "warm_up": 1, "recompute": False}},
}
