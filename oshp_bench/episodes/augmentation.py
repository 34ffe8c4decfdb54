"""How training photos and masks are scaled, cropped and mirrored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from oshp_bench.errors import raise_problems
from oshp_bench.ranges import Range, outside


@dataclass(frozen=True)
class Augmentation:
    """How a photo and its mask become a training sample of crop x crop pixels."""

    crop: Annotated[int, Range(32, 4096)] = 512
    """Height and width of a sample. Where an image is smaller, the rest is black and its mask 255."""
    fit: Literal["square", "longest", "native"] = "square"
    """Size before scaling: square resizes to crop x crop, longest brings the longer side to `side`, native keeps it."""
    side: Annotated[int, Range(32, 4096)] = 512
    """Longer side for fit=longest, in pixels."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Range of the random scale."""
    one_scale: bool = True
    """One scale for both axes; false draws one for each."""
    flip: bool = True
    """Mirror half of the samples, query and support independently."""

    def __post_init__(self) -> None:
        low, high = self.scale
        problems = outside(self)
        if not 0.1 <= low <= high <= 10:
            problems.append(f"scale is {low}, {high}; it must be low, high with 0.1 <= low <= high <= 10")
        raise_problems(problems)
