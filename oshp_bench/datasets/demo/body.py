"""The body: labels, proportions, pose, and bare limbs.

Body units: y runs from the crown at 0 over the chin at 15 to the soles at 98, x from the body's axis to the
picture's right. A side is -1 or 1, the picture's left or right; the person faces us, so side 1 is their own left.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from oshp_bench.datasets.demo.canvas import Canvas, Cloth, Colour, Dice, mix, solid
from oshp_bench.datasets.demo.shapes import (
    Point,
    Points,
    Shape,
    blend,
    blob,
    limb,
    mirrored,
    points,
    polygon,
    smooth,
    union,
)

SIDES = (-1, 1)

SKINS: tuple[Colour, ...] = (
    (250, 218, 196), (243, 202, 174), (232, 186, 152), (222, 170, 130),
    (200, 144, 104), (170, 116, 80), (136, 90, 62), (104, 68, 48),
)  # fmt: skip


class Label(IntEnum):
    """The labels of the ATR dataset."""

    BACKGROUND = 0
    HAT = 1
    HAIR = 2
    SUNGLASSES = 3
    UPPER = 4
    SKIRT = 5
    PANTS = 6
    DRESS = 7
    BELT = 8
    LEFT_SHOE = 9
    RIGHT_SHOE = 10
    FACE = 11
    LEFT_LEG = 12
    RIGHT_LEG = 13
    LEFT_ARM = 14
    RIGHT_ARM = 15
    BAG = 16
    SCARF = 17


SHOE = {1: Label.LEFT_SHOE, -1: Label.RIGHT_SHOE}
LEG = {1: Label.LEFT_LEG, -1: Label.RIGHT_LEG}
ARM = {1: Label.LEFT_ARM, -1: Label.RIGHT_ARM}

# The elbow relative to the shoulder, the wrist to the elbow, the fingertips to the wrist; x counts away from the body.
ARM_POSES: dict[str, tuple[Point, Point, Point]] = {
    "hanging": ((3.7, 16.5), (1.0, 15.0), (-0.3, 5.6)),
    "loose": ((5.5, 16.0), (3.5, 14.5), (0.6, 5.6)),
    "hip": ((10.0, 14.0), (-9.0, 9.0), (-3.6, 3.2)),
    "pocket": ((6.5, 15.8), (-5.2, 12.8), (-1.6, 4.6)),
    "across": ((3.5, 16.5), (-11.5, -1.5), (-4.8, -1.6)),
    "chest": ((5.0, 15.5), (-6.5, -11.5), (-2.2, -4.6)),
    "waving": ((11.5, 9.0), (4.5, -14.5), (1.4, -5.4)),
    "head": ((13.0, 2.5), (-9.0, -12.5), (-3.0, -4.6)),
    "carrying": ((4.4, 16.4), (1.6, 14.8), (-0.4, 4.2)),
}

# Knee and ankle of the near leg, then of the far leg; x counts outwards from the hip.
LEG_POSES: dict[str, tuple[tuple[Point, Point], tuple[Point, Point]]] = {
    "together": (((-0.9, 72.0), (-1.3, 93.6)), ((-0.9, 72.0), (-1.3, 93.6))),
    "relaxed": (((0.2, 72.0), (-0.2, 93.8)), ((2.4, 71.2), (2.6, 92.6))),
    "apart": (((2.4, 71.5), (4.2, 93.0)), ((2.4, 71.5), (4.2, 93.0))),
    "walking": (((-0.6, 72.2), (-2.2, 94.2)), ((1.8, 70.0), (4.4, 88.8))),
    "striding": (((1.2, 72.0), (2.8, 94.0)), ((0.6, 69.5), (5.4, 88.2))),
    "crossed": (((-2.4, 72.0), (-7.4, 94.0)), ((-1.6, 71.0), (-4.6, 91.2))),
}


@dataclass(frozen=True)
class Arm:
    """An arm: shoulder, elbow, wrist; fingertips; a key of ARM_POSES."""

    joints: tuple[Point, Point, Point]
    fingertips: Point
    pose: str


@dataclass(frozen=True)
class Body:
    """A posed body; arms and legs are keyed by side, a leg is hip, knee, calf, ankle."""

    feminine: bool
    skin: Colour
    shoulders: float
    waist: float
    hips: float
    stoutness: float
    sway: float
    head: Point
    tilt: float
    turn: float
    arms: dict[int, Arm]
    legs: dict[int, tuple[Point, Point, Point, Point]]
    front: int
    """The side of the leg that is nearer to us."""

    def axis(self, y: float) -> float:
        """Returns x of the trunk's middle at a height: the pelvis is shifted against the chest."""
        return self.sway * min(1.0, max(0.0, (y - 24) / 22))

    def half(self, y: float) -> float:
        """Returns half the trunk's width at a height."""
        heights = (17.0, 19.5, 25.0, 29.0, 39.0, 47.0, 53.0)
        chest = self.shoulders - 1.9
        widths = (2.6, self.shoulders - 0.6, chest, chest, self.waist, self.hips, self.hips + 0.2)
        for below in range(1, len(heights)):
            if y <= heights[below]:
                share = (y - heights[below - 1]) / (heights[below] - heights[below - 1])
                return widths[below - 1] + (widths[below] - widths[below - 1]) * max(0.0, share)
        return widths[-1]

    def edge(self, side: int, y: float, ease: float = 0.0) -> Point:
        """Returns the trunk's edge at a height, moved outwards by the ease."""
        return self.axis(y) + side * (self.half(y) + ease), y

    def trunk(self, *levels: tuple[float, float], top: Points | None = None) -> Shape:
        """Fills the trunk between the first and the last level, pairs of height and ease; top replaces the upper edge.

        The upper edge, if given, runs from side -1 to side 1.
        """
        right = smooth(points(*(self.edge(1, y, ease) for y, ease in levels)), closed=False)
        left = smooth(points(*(self.edge(-1, y, ease) for y, ease in reversed(levels))), closed=False)
        return polygon(np.concatenate([right, left, *([] if top is None else [top])]))


def pose(dice: Dice, feminine: bool, arm_poses: dict[int, str]) -> Body:
    """Draws a body and its pose; arm_poses fixes the poses of some arms, by side."""
    shoulders = dice.between(8.6, 10.0) if feminine else dice.between(10.2, 11.6)
    stoutness = dice.between(0.92, 1.2)
    hips = (dice.between(8.0, 9.0) if feminine else dice.between(7.6, 8.4)) * stoutness
    sway = dice.between(-1.6, 1.6)
    slope = dice.between(-0.7, 0.7)
    arms = {side: _arm(dice, side, shoulders, side * slope, arm_poses.get(side)) for side in SIDES}
    near, far = LEG_POSES[dice.pick(("together", "relaxed", "relaxed", "apart", "walking", "striding", "crossed"))]
    front = dice.pick(SIDES)
    return Body(
        feminine=feminine,
        skin=dice.near(dice.pick(SKINS), 6),
        shoulders=shoulders,
        waist=(dice.between(5.7, 6.8) if feminine else dice.between(7.0, 7.9)) * stoutness,
        hips=hips,
        stoutness=stoutness,
        sway=sway,
        head=(dice.between(-0.7, 0.7), 7.6),
        tilt=dice.between(-0.07, 0.07),
        turn=dice.between(-1.3, 1.3),
        arms=arms,
        legs={side: _leg(dice, side, sway, hips, near if side == front else far) for side in SIDES},
        front=front,
    )


def _arm(dice: Dice, side: int, shoulders: float, drop: float, asked: str | None) -> Arm:
    chosen = asked or dice.pick(("hanging", "hanging", "loose", "loose", "hip", "pocket", "across", "chest", "waving",
                                 "head"))  # fmt: skip
    joints = [(side * (shoulders - 1.9), 21.0 + drop)]
    for across, down in ARM_POSES[chosen]:
        x, y = joints[-1]
        joints.append((x + side * (across + dice.between(-0.7, 0.7)), y + down + dice.between(-0.6, 0.6)))
    shoulder, elbow, wrist, fingertips = joints
    return Arm((shoulder, elbow, wrist), fingertips, chosen)


def _leg(
    dice: Dice, side: int, sway: float, hips: float, bend: tuple[Point, Point]
) -> tuple[Point, Point, Point, Point]:
    hip = sway + side * (hips - 4.2)
    (knee_x, knee_y), (ankle_x, ankle_y) = bend
    knee = (hip + side * (knee_x + dice.between(-0.4, 0.4)), knee_y)
    ankle = (hip + side * (ankle_x + dice.between(-0.5, 0.5)), ankle_y + dice.between(-0.3, 0.3))
    calf_x, calf_y = blend(knee, ankle, 0.34)
    return (hip, 50.0), knee, (calf_x + side * 0.35, calf_y), ankle


def paint_leg(canvas: Canvas, body: Body, side: int, stocking: Cloth | None) -> None:
    """Paints a leg down to the foot, bare or in a stocking."""
    thick = body.stoutness
    skin = solid(body.skin) if stocking is None else stocking
    hip, knee, calf, ankle = body.legs[side]
    tube = limb((hip, knee, calf, ankle), (4.5 * thick, 2.9 * thick, 2.75 * thick, 1.5))
    foot = limb((ankle, (ankle[0] + side * 1.2, ankle[1] + 3.0)), (1.5, 1.5))
    canvas.paint(union(tube, foot), skin, LEG[side], relief=2.0)
    knee_cap = limb(((knee[0] - 1.1, knee[1] + 1.5), (knee[0] + 1.1, knee[1] + 1.5)), (0.3, 0.3))
    canvas.tint(knee_cap, 86, only=(LEG[side],))


def paint_arm(canvas: Canvas, body: Body, side: int, sleeves: float) -> None:
    """Paints an arm with its hand; a hand in a pocket is hidden, and so is that arm under a whole sleeve."""
    arm = body.arms[side]
    if arm.pose == "pocket" and sleeves == 2:
        return
    thick = body.stoutness if body.feminine else body.stoutness * 1.12
    skin = solid(body.skin)
    wrist = arm.joints[2]
    shape = limb(arm.joints, ((2.0 if sleeves else 2.3) * thick, 1.75 * thick, 1.2))
    if arm.pose != "pocket":
        palm = blend(wrist, arm.fingertips, 0.45)
        thumb = (palm[0] - side * 1.7, palm[1] + (0.6 if arm.fingertips[1] > wrist[1] else -0.6))
        hand = limb((wrist, palm, arm.fingertips), (1.2, 1.55, 0.75))
        shape = union(shape, hand, limb((wrist, thumb), (0.7, 0.5)))
    canvas.paint(shape, skin, ARM[side], relief=1.4)


def paint_neck(canvas: Canvas, body: Body) -> None:
    """Paints the neck, which counts as face, and the chin's shadow on it."""
    x, y = body.head
    width = 2.3 if body.feminine else 2.9
    canvas.paint(limb(((x, y + 4), (0.0, 18.6)), (width, width + 0.3)), solid(body.skin), Label.FACE, outline=False)
    canvas.tint(blob((x - 3, y + 6), (x + 3, y + 6), (x + 2.4, y + 8.6), (x, y + 9.4), (x - 2.4, y + 8.6)), 80,
                only=(Label.FACE,))  # fmt: skip


def paint_neckline(canvas: Canvas, body: Body, depth: float, width: float, pointed: bool) -> None:
    """Paints the skin that a neckline leaves bare, down to a depth below the collar."""
    bottom = 18.0 + depth
    if pointed:
        shape = polygon(points((-width, 17.0), (width, 17.0), (0.0, bottom)))
    else:
        shape = mirrored((width, 16.6), (width * 0.75, bottom - depth * 0.35), (0.0, bottom))
    canvas.paint(shape, solid(mix(body.skin, (120, 60, 40), 6)), Label.FACE, relief=0)
