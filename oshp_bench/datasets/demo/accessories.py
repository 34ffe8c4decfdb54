"""Scarves and bags."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from oshp_bench.datasets.demo.body import SIDES, Body, Label
from oshp_bench.datasets.demo.canvas import Canvas, Cloth, Dice, faded, solid
from oshp_bench.datasets.demo.shapes import Point, blob, ellipse, limb, mirrored, points, polygon, union


@dataclass(frozen=True)
class Bag:
    """A bag and the side it hangs on."""

    kind: str
    side: int
    cloth: Cloth
    size: float


def choose_bag(dice: Dice, cloth: Cloth, leather: Cloth) -> Bag:
    """Draws a bag."""
    kind = dice.pick(("crossbody", "shoulder", "handbag", "handbag", "tote", "backpack"))
    return Bag(kind, dice.pick(SIDES), cloth if kind in ("tote", "backpack") else leather, dice.between(0.9, 1.2))


def asked_of_arms(bag: Bag | None) -> dict[int, str]:
    """Returns the pose of the arm that carries the bag, by side."""
    if bag is None or bag.kind in ("crossbody", "backpack"):
        return {}
    return {bag.side: "carrying" if bag.kind == "handbag" else "loose"}


def paint_scarf(canvas: Canvas, cloth: Cloth, side: int, tail: float) -> None:
    """Paints a scarf round the neck; its tail hangs down to a height."""
    for across, end in ((3.4, tail), (1.4, tail - 5.0)):
        start = side * (across - 1.0)
        strip = points((start - 1.6, 19.0), (start + 1.6, 19.0), (side * across + 2.1, end), (side * across - 2.1, end))
        canvas.paint(polygon(strip), cloth, Label.SCARF, relief=1.0)
        threads = [
            limb(((side * across + x, end - 1.6), (side * across + x, end)), (0.16, 0.16))
            for x in (-1.5, -0.5, 0.5, 1.5)
        ]
        canvas.tint(union(*threads), 65, only=(Label.SCARF,))
    loop = mirrored((0, 15.9), (2.2, 14.6), (4.4, 14.9), (6.2, 17.6), (4.2, 20.4), (0, 21.6))
    canvas.paint(loop, cloth, Label.SCARF, relief=1.4)
    for y, reach in ((17.0, 4.6), (19.0, 4.4)):
        fold = limb(((-reach, y - 0.6), (side * 0.6, y + 1.1), (reach, y - 0.4)), (0.12, 0.35, 0.12))
        canvas.tint(fold, 74, only=(Label.SCARF,))


def paint_bag_behind(canvas: Canvas, body: Body, bag: Bag | None) -> None:
    """Paints a backpack behind the shoulders and the trunk."""
    if bag is not None and bag.kind == "backpack":
        wide = body.shoulders * 0.98 + 1.4
        pack = mirrored((0, 14.6), (wide - 2, 17.0), (wide + 0.6, 26), (wide + 1.0, 42), (wide - 2, 45.0))
        canvas.paint(pack, bag.cloth, Label.BAG, relief=2.0)


def paint_straps(canvas: Canvas, body: Body, bag: Bag | None) -> None:
    """Paints the straps over the clothes; arms are painted over them later."""
    if bag is None:
        return
    dark = faded(solid(bag.cloth.colours[0]), (20, 16, 20), 30)
    if bag.kind == "backpack":
        for side in SIDES:
            x = body.shoulders * 0.56
            strap = limb(
                ((side * x, 17.9), (side * (x + 0.5), 25.0), (side * (body.half(33) + 0.4), 34.0)), (1.2, 1.3, 0.9)
            )
            canvas.paint(strap, dark, Label.BAG, relief=0.8)
    elif bag.kind == "crossbody":
        hip = body.edge(bag.side, 46.0)
        strap = limb(((-bag.side * (body.shoulders * 0.5), 17.7), (0.5 * bag.side, 30.0), hip), (0.75, 0.75, 0.75))
        canvas.paint(strap, dark, Label.BAG, relief=0.5)


def _pouch(canvas: Canvas, bag: Bag, middle: Point, wide: float, deep: float) -> None:
    """Paints a bag with a flap and a clasp, hanging from the middle of its upper edge."""
    x, y = middle
    upper_edge = ((x - wide, y), (x - wide, y), (x + wide, y), (x + wide, y))
    pouch = blob(*upper_edge, (x + wide + 0.7, y + deep), (x, y + deep + 0.8), (x - wide - 0.7, y + deep))
    canvas.paint(pouch, bag.cloth, Label.BAG, relief=1.6)
    low = y + deep * 0.45
    flap = blob(*upper_edge, (x + wide * 0.8, low), (x, y + deep * 0.6), (x - wide * 0.8, low))
    canvas.paint(flap, faded(bag.cloth, (255, 240, 220), 10), Label.BAG, relief=0.8)
    canvas.paint(ellipse((x, y + deep * 0.55), 0.7, 0.6), solid((232, 196, 96)), Label.BAG, relief=0)


def paint_bag(canvas: Canvas, body: Body, bag: Bag | None) -> None:
    """Paints the bag in front of the clothes; the hand that holds it is painted later."""
    if bag is None or bag.kind == "backpack":
        return
    size, side = bag.size, bag.side
    dark = faded(solid(bag.cloth.colours[0]), (20, 16, 20), 30)
    match bag.kind:
        case "crossbody":
            x, y = body.edge(side, 46.0)
            _pouch(canvas, bag, (x + side * 0.6, y - 0.5), 4.6 * size, 7.0 * size)
        case "shoulder":
            x, y = body.edge(side, 42.0)
            strap = limb(
                ((side * (body.shoulders - 2.4), 18.2), (x + side * 2.6, 30.0), (x + side * 3.0, 43.0)),
                (0.8, 0.75, 0.7),
            )
            canvas.paint(strap, dark, Label.BAG, relief=0.5)
            _pouch(canvas, bag, (x + side * 2.8, y), 5.0 * size, 8.4 * size)
        case "tote":
            x, y = body.edge(side, 40.0)
            x += side * 2.6
            for apart in (-2.6, 2.6):
                handle = limb(
                    ((side * (body.shoulders - 2.2), 18.2), (x + apart * 0.6, 30.0), (x + apart, y)), (0.6, 0.6, 0.6)
                )
                canvas.paint(handle, dark, Label.BAG, relief=0)
            wide, deep = 5.6 * size, 14.0 * size
            corners = points((-wide, 0.0), (wide, 0.0), (wide * 0.94, deep), (-wide * 0.94, deep))
            canvas.paint(polygon(corners + np.array((x, y))), bag.cloth, Label.BAG, relief=1.6)
            badge = ellipse((x, y + deep * 0.5), 2.4, 2.4)
            canvas.paint(badge, faded(dark, (255, 255, 255), 30), Label.BAG, relief=0)
        case _:
            arm = body.arms[side]
            x, y = arm.joints[2][0], arm.joints[2][1] + 3.2
            arch = ((x - 3.2, y + 6.0), (x - 2.4, y + 0.6), (x, y - 0.6), (x + 2.4, y + 0.6), (x + 3.2, y + 6.0))
            canvas.paint(limb(arch, (0.6, 0.55, 0.55, 0.55, 0.6)), dark, Label.BAG, relief=0)
            _pouch(canvas, bag, (x, y + 5.0), 5.4 * size, 8.6 * size)
