"""The settings of PerSAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from oshp_bench.baselines.settings import at_test
from oshp_bench.errors import raise_problems
from oshp_bench.ranges import Range, outside


@dataclass(frozen=True)
class PerSAMSettings:
    """The settings of PerSAM; as nothing is trained, all of them may be changed at any time."""

    fit: bool = at_test(False)
    """PerSAM-F: fit the weights of the three mask sizes on the support."""
    steps: Annotated[int, Range(1, 10**6)] = at_test(1000)
    """Steps of that fit."""
    lr: Annotated[float, Range(1e-9, 10)] = at_test(1e-3)
    """Learning rate of its first step."""
    mask: Literal["binary", "photo"] = at_test("binary")
    """How the support's mask is brought to the grid. binary: as 0 and 1. photo: as the official code does it, which
    normalises the mask like a photo, so that small parts are lost."""

    def __post_init__(self) -> None:
        raise_problems(outside(self))


# SAM sees photos at its own size, so they come at native size. The paper uses the largest SAM.
PERSAM_DEFAULTS: dict[str, dict[str, Any]] = {
    "paper": {"backbone": "sam-vit-h"},
    "cpu": {"backbone": "sam-vit-b", "width": None, "test_side": None},
    "quick": {"backbone": "sam-vit-b", "width": None, "test_side": None},
}
