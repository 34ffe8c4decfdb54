"""The scene behind the person, drawn at half the canvas's resolution so that the person is the sharpest thing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from oshp_bench.datasets.demo.canvas import Canvas, Cloth, Colour, Dice, Frame, mix, solid
from oshp_bench.datasets.demo.shapes import Shape, blob, box, ellipse, limb, points, polygon, union

HAZE: Colour = (226, 226, 222)
PASTELS: tuple[Colour, ...] = (
    (206, 214, 222),
    (226, 214, 200),
    (214, 202, 212),
    (200, 216, 204),
    (232, 226, 212),
    (190, 200, 214),
    (222, 196, 186),
    (170, 178, 184),
)
PAVEMENTS: tuple[Colour, ...] = ((184, 182, 178), (168, 166, 166), (198, 190, 178), (152, 152, 156))


class Scene:
    """A backdrop of the final size while it is drawn; all positions are in its pixels.

    Args:
        height, width: of the picture.
        dice: gives the random choices.
    """

    def __init__(self, height: int, width: int, dice: Dice) -> None:
        self.height, self.width, self.dice = height, width, dice
        self.ground = height - dice.integer(height // 6, height // 3)
        self._canvas = Canvas(
            np.zeros((height, width, 3), np.uint8), dice.grain, Frame(0, 0, 1, ground=0), dice.pick((-1, 1))
        )

    def fill(self, shape: Shape, colour: Colour | Cloth, outline: bool = False) -> None:
        """Paints a shape, flat."""
        cloth = colour if isinstance(colour, Cloth) else solid(colour, 3)
        self._canvas.paint(shape, cloth, relief=0, outline=outline)

    def ramp(self, top: int, bottom: int, start: Colour, end: Colour) -> None:
        """Paints rows from top to bottom in colours that run from start to end."""
        share = (np.arange(bottom - top, dtype=np.int32) * 256 // max(1, bottom - top))[:, None]
        rows = np.array(start, np.int32) * (256 - share) + np.array(end, np.int32) * share >> 8
        self._canvas.photo[top:bottom] = rows[:, None]

    def floor(self) -> None:
        """Paints a pavement from the ground line down, with joints that run to a vanishing point."""
        colour = self.dice.near(self.dice.pick(PAVEMENTS))
        self.ramp(self.ground, self.height, mix(colour, HAZE, 25), mix(colour, (60, 60, 66), 10))
        if self.dice.chance(60):
            middle = self.width / 2
            ends = [((middle + step * 22, self.ground), (middle + step * 60, self.height)) for step in range(-4, 5)]
            across = ((0, self.ground + 14), (self.width, self.ground + 14))
            joints = [limb(line, (0.6, 0.6)) for line in (*ends, across)]
            self.fill(union(*joints), mix(colour, (90, 90, 94), 40))

    def doubled(self) -> NDArray[np.uint8]:
        """Returns the scene, softly grained, at twice its size: uint8 [2H, 2W, 3]."""
        grain = np.tile(self.dice.grain, (2, 1))[: self.height, : self.width, None] >> 5
        soft = np.clip(self._canvas.photo.astype(np.int16) + grain, 0, 255).astype(np.uint8)
        return soft.repeat(2, axis=0).repeat(2, axis=1)


def _studio(scene: Scene) -> None:
    colour = scene.dice.near(scene.dice.pick(PASTELS))
    scene.ramp(0, scene.ground, mix(colour, (255, 255, 255), 30), colour)
    scene.ramp(scene.ground, scene.height, mix(colour, (255, 255, 255), 20), mix(colour, (90, 90, 100), 16))


def _wall(scene: Scene) -> None:
    colour = scene.dice.near(scene.dice.pick(PASTELS), 16)
    scene.ramp(0, scene.ground, colour, mix(colour, (110, 104, 110), 22))
    scene.floor()
    scene.fill(box(0, scene.ground - 7, scene.width, scene.ground), mix(colour, (255, 255, 255), 55), outline=True)
    if scene.dice.chance(50):
        left = scene.dice.integer(-10, scene.width - 40)
        scene.fill(box(left, 24, left + 52, 92), mix(colour, (90, 70, 60), 50), outline=True)
        scene.fill(box(left + 5, 29, left + 47, 87), scene.dice.near(scene.dice.pick(PASTELS), 20))


def _bricks(scene: Scene) -> None:
    brick = scene.dice.near(scene.dice.pick(((176, 112, 92), (190, 150, 126), (206, 198, 188), (150, 104, 96))))
    mortar = mix(brick, HAZE, 55)
    scene.ramp(0, scene.ground, brick, mix(brick, (90, 70, 70), 14))
    joints: list[Shape] = []
    for course, y in enumerate(range(0, scene.ground, 9)):
        joints.append(box(0, y, scene.width, y + 1.2))
        joints.extend(box(x, y, x + 1.2, y + 9) for x in range(-(course % 2) * 10, scene.width, 20))
    scene.fill(union(*joints), mortar)
    scene.floor()


def _street(scene: Scene) -> None:
    dice = scene.dice
    scene.ramp(0, scene.ground, (176, 206, 232), (232, 236, 238))
    left = -dice.integer(0, 20)
    while left < scene.width:
        wide, top = dice.integer(34, 62), dice.integer(14, 110)
        colour = mix(
            dice.near(
                dice.pick(((190, 150, 130), (200, 190, 170), (160, 168, 184), (206, 176, 140), (150, 150, 150))), 14
            ),
            HAZE,
            30,
        )
        scene.fill(box(left, top, left + wide, scene.ground), colour, outline=True)
        panes = [box(x, y, x + 8, y + 12) for y in range(top + 8, scene.ground - 16, 22)
                 for x in range(left + 6, left + wide - 9, 15)]  # fmt: skip
        scene.fill(union(*panes), mix(colour, (70, 90, 120), 42))
        left += wide
    scene.floor()
    scene.fill(box(0, scene.ground - 3, scene.width, scene.ground + 2), (150, 150, 152))


def _park(scene: Scene) -> None:
    dice = scene.dice
    scene.ramp(0, scene.ground, (170, 208, 236), (226, 236, 232))
    for _ in range(dice.integer(3, 6)):
        x, y, size = dice.integer(-10, scene.width + 10), dice.integer(20, scene.ground - 60), dice.integer(18, 34)
        leaf = mix(dice.near(dice.pick(((96, 142, 84), (124, 158, 92), (84, 126, 92), (176, 150, 84))), 10), HAZE, 25)
        scene.fill(box(x - 3, y, x + 3, scene.ground), mix((110, 84, 64), HAZE, 25))
        puffs = ((0.0, 0.0, 1.0), (-0.8, 0.4, 0.7), (0.8, 0.4, 0.7), (0.1, -0.7, 0.7))
        crown = [
            ellipse((x + across * size, y + down * size), size * share, size * share) for across, down, share in puffs
        ]
        scene.fill(union(*crown), leaf)
    scene.fill(
        blob(
            (-20, scene.ground - 8),
            (scene.width * 0.3, scene.ground - 15),
            (scene.width * 0.7, scene.ground - 9),
            (scene.width + 20, scene.ground - 16),
            (scene.width + 20, scene.ground + 30),
            (-20, scene.ground + 30),
        ),
        (134, 164, 112),
    )
    scene.ramp(scene.ground, scene.height, (164, 190, 126), (132, 164, 100))
    if dice.chance(60):
        middle = scene.width / 2 + dice.integer(-20, 20)
        scene.fill(polygon(points((middle - 9, scene.ground), (middle + 9, scene.ground), (middle + 80, scene.height),
                                  (middle - 80, scene.height))), (212, 200, 172))  # fmt: skip


def _shop(scene: Scene) -> None:
    dice = scene.dice
    front = dice.near(dice.pick(((92, 116, 116), (140, 96, 88), (96, 104, 132), (190, 180, 160), (120, 130, 100))))
    scene.ramp(0, scene.ground, mix(front, HAZE, 20), front)
    left = dice.integer(6, 22)
    pane: Colour = mix((190, 210, 222), front, 12)
    scene.fill(box(left, 44, scene.width - left, scene.ground - 16), pane, outline=True)
    low = scene.ground - 17
    glints = [polygon(points((x + 30, 45), (x + 38, 45), (x + 4, low), (x - 4, low))) for x in (left + 10, left + 36)]
    scene.fill(union(*glints), mix(pane, (255, 255, 255), 40))
    scene.fill(box(scene.width / 2 - 1.5, 44, scene.width / 2 + 1.5, scene.ground - 16), mix(front, (30, 30, 30), 30))
    stripe = mix(dice.near(dice.pick(((200, 90, 84), (96, 140, 120), (90, 120, 170), (220, 170, 90)))), HAZE, 25)
    for first, colour in ((-6, stripe), (8, (240, 236, 228))):
        bands = [union(box(x, 14, x + 14, 36), ellipse((x + 7, 36), 7, 5)) for x in range(first, scene.width, 28)]
        scene.fill(union(*bands), colour)
    scene.floor()


SCENES: tuple[Callable[[Scene], None], ...] = (_studio, _wall, _bricks, _street, _park, _shop)


def backdrop(height: int, width: int, dice: Dice) -> NDArray[np.uint8]:
    """Draws a scene for a picture of the given size: uint8 [2H, 2W, 3]."""
    scene = Scene(height, width, dice)
    dice.pick(SCENES)(scene)
    return scene.doubled()
