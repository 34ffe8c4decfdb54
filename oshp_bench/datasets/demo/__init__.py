"""The embedded dataset: drawn people in clothes, with the labels of the ATR dataset."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from oshp_bench.datasets.demo.body import SIDES
from oshp_bench.datasets.demo.canvas import Canvas, Dice, Frame
from oshp_bench.datasets.demo.outfit import dress, plan_of
from oshp_bench.datasets.demo.scenery import backdrop
from oshp_bench.randomness import Stream

__all__ = ["draw"]


def draw(index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draws one dressed person; the picture depends on the index alone.

    Args:
        index: which picture, 0 or more.

    Returns:
        The photo, uint8 [H, W, 3] RGB, and the mask, uint8 [H, W] of ATR labels 0 to 17; H is 224 to 256,
        W 144 to 176.
    """
    # The streams are still named after this room's old name: another name would draw other people.
    dice = Dice(Stream("mannequin", index))
    height, width = dice.integer(224, 256), dice.integer(144, 176)
    behind = backdrop(height, width, dice)
    cropped = dice.chance(8)
    unit = 2 * height * (dice.between(0.975, 0.995) if cropped else dice.between(0.9, 0.955)) / 103
    top = 2 * height * dice.between(0.015, 0.03) + unit * 5.2
    place = Frame(width * dice.between(0.92, 1.08), top, unit, lean=dice.between(-0.03, 0.03))
    canvas = Canvas(behind, dice.grain, place, dice.pick(SIDES))
    dress(canvas, dice, plan_of(index))
    return canvas.finished()
