"""What makes one EOP-Net differ from another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from oshp_bench.baselines.settings import at_test, outside
from oshp_bench.errors import OshpError, raise_problems


@dataclass(frozen=True)
class Parts:
    """The pieces of the method; each can be left out, as in the paper's Tables 5 and 6.

    Attributes:
        agm: Attention Guidance Module in the fine space, eqs. (5) to (7).
        npm: Nearest Prototype Module, eqs. (8) and (9); without it prediction is AGM's.
        weight_shift: beta falls from 1 to 0 over training, eq. (10); without it beta is 1/2.
        momentum: momentum-updated prototypes, eq. (3); without it every prototype is static.
        coarse: the coarse space, and with it screening.
        contrast: prototype contrast, eq. (12).
    """

    agm: bool = True
    npm: bool = True
    weight_shift: bool = True
    momentum: bool = True
    coarse: bool = True
    contrast: bool = True

    def __post_init__(self) -> None:
        if not (self.agm or self.npm):
            raise OshpError("EOP-Net needs AGM or NPM to parse with; switch at least one of them on")


@dataclass(frozen=True)
class EOPNetSettings:
    """What makes one EOP-Net differ from another.

    Attributes:
        reading: "paper" or "release".
        parts: the pieces it has.
        alpha: momentum of the prototypes, eq. (3).
        tau: temperature of the contrast, eq. (12).
        warm_up: how many epochs use static prototypes: 3 in the paper, 26 in the release.
        screening: at test, what the coarse space does not call human is background.
        recompute: training computes activations that are cheap again in the backward pass instead of keeping them:
            about half the memory, some hundredths more time, the same numbers.
    """

    reading: Literal["paper", "release"] = "paper"
    parts: Parts = field(default_factory=Parts)
    alpha: float = 0.999
    tau: float = 0.1
    warm_up: int = 3
    screening: bool = at_test(True)
    recompute: bool = True

    def __post_init__(self) -> None:
        raise_problems(outside(self, {"alpha": (0, 1), "tau": (1e-4, 1e4), "warm_up": (0, 10**6)}))


@dataclass(frozen=True)
class EOPNetFGSettings(EOPNetSettings):
    """EOP-Net's settings, and those of its foreground gate (eopnet_fg).

    Attributes:
        ignore: change 1; it acts in training alone.
        gate: change 2; without it parsing is EOP-Net's.
        rivals: change 3; it needs the gate.
        layout: change 4, the weight of the support's layout beside the cosines, 0 for none; it needs the gate. 0.8 was
            the best on training images: of the model of either fold, on the classes that are novel to it and base in
            the other.
    """

    ignore: bool = True
    gate: bool = at_test(True)
    rivals: bool = at_test(True)
    layout: float = at_test(0.8)

    def __post_init__(self) -> None:
        super().__post_init__()
        raise_problems(outside(self, {"layout": (0, 1000)}))


# As the authors trained and published it.
RELEASE = EOPNetSettings(reading="release", warm_up=26)
