"""What is counted beside confusion matrices if it is asked for: bands of boundaries, and parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from oshp_bench.datasets.images import IGNORE, Mask
from oshp_bench.episodes.episodes import way_key
from oshp_bench.errors import MissingPackage, OshpError
from oshp_bench.metrics.boundary import banded
from oshp_bench.metrics.confusion import PreparedTruth, prepare_truth
from oshp_bench.metrics.parts import PART_COUNTS, PART_SIZES, TrueParts, parts_of

DEFAULT_RATIO, DEFAULT_LEAST = 0.005, 25
BESIDE = BOUNDARY, PARTS = "boundary", "parts"


def beside_key(way: str, kind: str) -> str:
    """The name of counts beside a way's confusion matrices: "kway_boundary"."""
    return f"{way_key(way)}_{kind}"


@dataclass(frozen=True)
class Shapes:
    """What is counted beside confusion matrices.

    Attributes:
        boundary: width of the bands of Boundary IoU as a share of the picture's diagonal, above 0 and at most 0.5, with
            at most six decimals; None for no boundaries.
        parts: pixels that a part needs to be counted, 1 to 10^8; None for no parts.

    Raises:
        OshpError: another ratio or number of pixels, or parts without scikit-image.
    """

    boundary: float | None = None
    parts: int | None = None

    def __post_init__(self) -> None:
        if self.boundary is not None and not (
            type(self.boundary) is float and 0 < self.boundary <= 0.5 and float(self.ratio) == self.boundary
        ):
            raise OshpError(f"boundary {self.boundary!r}: give a ratio above 0, at most 0.5, of at most six decimals")
        if self.parts is not None and not (type(self.parts) is int and 1 <= self.parts <= 10**8):
            raise OshpError(f"parts {self.parts!r}: give a number of pixels from 1 to 100,000,000")

    def check_packages(self) -> None:
        """Checks that counting is possible here.

        Raises:
            OshpError: parts are asked for, and scikit-image is not installed.
        """
        if self.parts and find_spec("skimage") is None:
            raise MissingPackage("--parts", "scikit-image", "parts")

    @property
    def ratio(self) -> str:
        """The width of bands as the names of figures have it, "0.005"; "" without boundaries."""
        return "" if self.boundary is None else f"{self.boundary:.6f}".rstrip("0")

    @property
    def signature(self) -> str:
        """The end of a result's signature, "" if nothing is counted beside confusion matrices."""
        said = {"boundary": self.ratio, "parts": self.parts or ""}
        return "".join(f"|{name}:{value}" for name, value in said.items() if value)

    def to_json(self) -> dict[str, float | int]:
        """What is asked for."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def of_pair(self, size: int, width: int) -> dict[str, tuple[int, ...]]:
        """The shapes of a pair's counts.

        Args:
            size: number of classes C.
            width: columns of its confusion matrix.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        if self.boundary:
            shapes[BOUNDARY] = (size, width)
        if self.parts:
            shapes[PARTS] = (size, len(PART_SIZES), len(PART_COUNTS))
        return shapes


PLAIN = Shapes()


@dataclass(frozen=True)
class ShapedTruth:
    """A query's truth, prepared once for the bands and parts of all its predictions.

    Attributes:
        bands: the truth in its bands, and background elsewhere; None without boundaries.
        parts: None without parts.
        ignored: bool [H, W], where the truth is 255; None if nowhere.
    """

    bands: PreparedTruth | None
    parts: TrueParts | None
    ignored: NDArray[np.bool_] | None

    def without_ignored(self, prediction: Mask, label: int) -> Mask:
        """The prediction with this label at ignored pixels."""
        return prediction if self.ignored is None else np.where(self.ignored, np.uint8(label), prediction)


def prepare_shapes(mask: Mask, class_ids: Sequence[int], shapes: Shapes) -> ShapedTruth:
    """Prepares a query's truth: uint8 [H, W] of class ids, 255 = ignore."""
    ignored = mask == IGNORE
    bands = parts = None
    if shapes.boundary:
        bands = prepare_truth(np.where(ignored, mask, banded(mask, shapes.boundary)), class_ids)
    if shapes.parts:
        parts = parts_of(np.where(ignored, np.uint8(0), mask), class_ids)
    return ShapedTruth(bands, parts, ignored if ignored.any() else None)
