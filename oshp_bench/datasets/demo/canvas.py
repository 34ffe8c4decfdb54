"""The canvas: paints shapes in cloth, with light and a thin ink line, and labels what it paints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from oshp_bench.datasets.demo.shapes import Cover, Shape, cover
from oshp_bench.randomness import Stream

_Item = TypeVar("_Item")
Colour = tuple[int, int, int]

_WORDS = 4096


class Dice:
    """Small random choices, and one picture's worth of grain, from a stream."""

    def __init__(self, stream: Stream) -> None:
        self._words: Iterator[int] = iter(stream.words(_WORDS).tolist())
        octets = stream.words(_WORDS).astype("<u8").view(np.uint8)
        self.grain: NDArray[np.int16] = octets.reshape(128, 256).astype(np.int16) - np.int16(128)
        """int16 [128, 256], -128 to 127."""

    def integer(self, low: int, high: int) -> int:
        """Draws an integer from low to high, both included."""
        return low + ((next(self._words) >> 32) * (high - low + 1) >> 32)

    def between(self, low: float, high: float) -> float:
        """Draws one of 1025 evenly spaced numbers from low to high."""
        return low + (high - low) * (self.integer(0, 1024) / 1024)

    def chance(self, percent: int) -> bool:
        """Is true with a probability in percent."""
        return self.integer(0, 99) < percent

    def pick(self, items: Sequence[_Item]) -> _Item:
        """Draws one item."""
        return items[self.integer(0, len(items) - 1)]

    def near(self, colour: Colour, spread: int = 10) -> Colour:
        """Draws a colour close to the given one."""
        red, green, blue = (min(255, max(0, part + self.integer(-spread, spread))) for part in colour)
        return red, green, blue


def mix(first: Colour, second: Colour, percent: int) -> Colour:
    """Mixes two colours; `percent` is the share of the second."""
    red, green, blue = ((a * (100 - percent) + b * percent) // 100 for a, b in zip(first, second, strict=True))
    return red, green, blue


@dataclass(frozen=True)
class Cloth:
    """A colour, or a pattern of two or three colours; size is the pattern's period in canvas pixels."""

    colours: tuple[Colour, ...]
    pattern: str = "plain"
    size: int = 8
    grain: int = 5

    def weave(self, y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the index of the colour at every pixel, int64 [h, w], given rows [h, 1] and columns [1, w]."""
        half = self.size // 2
        match self.pattern:
            case "rows":
                return y % self.size // half % 2 + 0 * x
            case "columns":
                return x % self.size // half % 2 + 0 * y
            case "checks":
                return y % self.size // half % 2 + x % self.size // half % 2
            case "tartan":
                return (y % self.size < 4).astype(np.int64) + (x % self.size < 4)
            case "dots":
                down, across = y % self.size - half, (x + y // self.size % 2 * half) % self.size - half
                return (down * down + across * across <= half * half // 3).astype(np.int64)
            case _:
                slant = x % self.size - half
                return (y + np.where(slant < 0, -slant, slant)) % 6 // 4


def solid(colour: Colour, grain: int = 3) -> Cloth:
    """Returns a cloth of one colour."""
    return Cloth((colour,), grain=grain)


@dataclass(frozen=True)
class Frame:
    """Maps body units to canvas pixels; lean shears the body about its ground line."""

    x: float
    y: float
    unit: float
    lean: float = 0.0
    ground: float = 98.0

    def pixels(self, shape: Shape) -> Shape:
        """Converts a shape from body units to canvas pixels."""
        moved = shape * self.unit
        moved[..., 0] += self.x + (self.ground - shape[..., 1]) * (self.lean * self.unit)
        moved[..., 1] += self.y
        return moved


class Canvas:
    """A picture and its labels at twice the final size.

    Args:
        backdrop: uint8 [2H, 2W, 3], the scene behind the person.
        grain: int16 [128, 256], -128 to 127, the noise in every cloth.
        frame: where the person stands.
        sun: -1 if the light comes from the picture's left, 1 from its right.
    """

    def __init__(self, backdrop: NDArray[np.uint8], grain: NDArray[np.int16], frame: Frame, sun: int) -> None:
        self.photo = backdrop
        self.mask: NDArray[np.uint8] = np.zeros(backdrop.shape[:2], np.uint8)
        self._grain = np.tile(grain, (4, 2))
        self._frame = frame
        self._sun = sun

    def paint(
        self,
        shape: Shape,
        cloth: Cloth,
        label: int | None = None,
        *,
        relief: float = 1.6,
        outline: bool = True,
        only: Sequence[int] = (),
    ) -> None:
        """Paints a shape over what is there.

        Args:
            shape: in body units.
            cloth: its colours.
            label: the label it takes; None leaves the labels as they are.
            relief: how far light and shade reach inwards from the edge, in body units; 0 paints the shape flat.
            outline: whether an ink line runs along its edge.
            only: the labels that it may cover; empty means all.
        """
        found = self._covered(shape, only)
        if found is None:
            return
        rows, cols, inside = found
        shade = 256 + (self._grain[rows, cols] * np.int32(cloth.grain) >> 5)
        if relief:
            shade += self._modelling(inside, max(2, int(relief * self._frame.unit)))
        if outline:
            shade[_rim(inside)] >>= 1
        colours = np.array(cloth.colours, np.int32)
        colour = colours[0]
        if len(colours) > 1:
            y, x = np.ogrid[rows, cols]
            colour = colours[cloth.weave(y, x)[inside]]
        self.photo[rows, cols][inside] = np.minimum(colour * shade[inside][:, None] >> 8, 255)
        if label is not None:
            self.mask[rows, cols][inside] = label

    def tint(self, shape: Shape, percent: int, only: Sequence[int] = ()) -> None:
        """Scales the brightness under a shape; the labels stay."""
        found = self._covered(shape, only)
        if found is not None:
            rows, cols, inside = found
            under = self.photo[rows, cols]
            under[inside] = np.minimum(under[inside].astype(np.int32) * percent // 100, 255)

    def finished(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Returns the photo, uint8 [H, W, 3], averaged down, and the mask, uint8 [H, W], sampled."""
        pairs = np.add(self.photo[::2], self.photo[1::2], dtype=np.uint16)
        return ((pairs[:, ::2] + pairs[:, 1::2] + 2) >> 2).astype(np.uint8), self.mask[::2, ::2].copy()

    def _covered(self, shape: Shape, only: Sequence[int]) -> Cover | None:
        height, width = self.mask.shape
        found = cover(self._frame.pixels(shape), height, width)
        if found is None or not only:
            return found
        rows, cols, inside = found
        allowed = np.zeros(256, np.bool_)
        allowed[list(only)] = True
        return rows, cols, inside & allowed[self.mask[rows, cols]]

    def _modelling(self, inside: NDArray[np.bool_], reach: int) -> NDArray[np.int32]:
        """Brightens the side that faces the light: compares how full two windows beside a pixel are."""
        height, width = inside.shape
        pad = 2 * reach + 1
        sums = np.zeros((height + 2 * pad + 1, width + 2 * pad + 1), np.int32)
        sums[pad + 1 : pad + 1 + height, pad + 1 : pad + 1 + width] = inside
        np.cumsum(sums, axis=0, out=sums)
        np.cumsum(sums, axis=1, out=sums)

        def window(across: int, down: int) -> NDArray[np.int32]:
            y, x, size = pad - reach + down, pad - reach + across, 2 * reach + 1
            upper, lower = sums[y : y + height], sums[y + size : y + size + height]
            near, far = slice(x, x + width), slice(x + size, x + size + width)
            return lower[:, far] - lower[:, near] - upper[:, far] + upper[:, near]

        across, down = self._sun * reach, -(reach // 2)
        lit = window(-across, -down) - window(across, down)
        return lit * 75 // ((2 * reach + 1) * (2 * reach + 1))


def _rim(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Finds the pixels of a region that touch its outside: bool [h, w]."""
    padded = np.pad(inside, 1)
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~core


def faded(cloth: Cloth, towards: Colour, percent: int) -> Cloth:
    """Returns a cloth with its colours moved towards another colour."""
    return replace(cloth, colours=tuple(mix(colour, towards, percent) for colour in cloth.colours))
