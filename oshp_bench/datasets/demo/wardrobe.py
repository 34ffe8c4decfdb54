"""Garments and shoes: one function per garment, drawn on a posed body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from oshp_bench.datasets.demo.body import LEG, SHOE, SIDES, Body, Label, paint_neckline
from oshp_bench.datasets.demo.canvas import Canvas, Cloth, Colour, Dice, faded, mix, solid
from oshp_bench.datasets.demo.shapes import (
    Point,
    Shape,
    blend,
    blob,
    ellipse,
    limb,
    mirrored,
    part_of,
    points,
    polygon,
    smooth,
    union,
)

COLOURS: tuple[Colour, ...] = (
    (34, 36, 44), (70, 74, 84), (134, 138, 146), (236, 232, 224), (214, 196, 164), (168, 124, 84), (110, 72, 50),
    (190, 40, 46), (226, 92, 70), (240, 150, 60), (244, 204, 84), (150, 170, 70), (64, 124, 78), (38, 84, 76),
    (60, 150, 160), (110, 170, 214), (48, 92, 168), (36, 50, 98), (112, 80, 160), (178, 140, 204), (226, 150, 180),
    (204, 64, 120), (120, 34, 56), (92, 104, 62),
)  # fmt: skip
DENIM: tuple[Colour, ...] = ((52, 78, 122), (88, 120, 164), (36, 46, 72), (140, 164, 192))
LEATHER: tuple[Colour, ...] = ((40, 30, 28), (98, 58, 34), (150, 92, 48), (190, 140, 84), (140, 34, 40), (28, 30, 34),
                               (214, 186, 150), (50, 90, 84), (236, 226, 210))  # fmt: skip
FOLD = 80


def choose_cloth(dice: Dice, patterned: int = 45) -> Cloth:
    """Draws a cloth; `patterned` is the chance of a pattern in percent."""
    ground, second = dice.near(dice.pick(COLOURS)), dice.near(dice.pick(COLOURS))
    contrast = sum(abs(a - b) for a, b in zip(ground, second, strict=True))
    if contrast < 150:
        second = mix(ground, (250, 246, 238) if sum(ground) < 380 else (30, 28, 40), 65)
    if not dice.chance(patterned):
        return Cloth((ground,), grain=dice.pick((4, 4, 8)))
    pattern = dice.pick(("rows", "rows", "columns", "checks", "tartan", "dots", "dots", "knit"))
    size = {"rows": (10, 22), "columns": (10, 18), "checks": (14, 24), "tartan": (16, 26), "dots": (14, 22)}
    low, high = size.get(pattern, (10, 14))
    if pattern == "knit":
        second = mix(ground, (24, 20, 30), 24)
    return Cloth((ground, second) if pattern in ("rows", "columns", "dots", "knit") else
                 (ground, mix(ground, second, 55), second), pattern, dice.integer(low, high))  # fmt: skip


@dataclass(frozen=True)
class Top:
    """An upper garment, or the upper half of a dress; sleeves counts the arm bones that it covers, 0 to 2."""

    cloth: Cloth
    sleeves: float
    hem: float
    ease: float
    neckline: str
    trim: str = ""


def _folds(canvas: Canvas, label: Label, *lines: tuple[Point, Point]) -> None:
    creases: list[Shape] = []
    for start, end in lines:
        middle = ((start[0] + end[0]) / 2 + (start[1] - end[1]) * 0.06, (start[1] + end[1]) / 2)
        creases.append(limb((start, middle, end), (0.15, 0.42, 0.1)))
    canvas.tint(union(*creases), FOLD, only=(label,))


def paint_sleeve(canvas: Canvas, body: Body, side: int, top: Top, label: Label) -> None:
    """Paints a sleeve over the arm."""
    if not top.sleeves:
        return
    joints = body.arms[side].joints
    path = part_of(joints, top.sleeves)
    loose = top.ease * 0.35
    thick = body.stoutness
    radii = (2.5 * thick + loose, 2.2 * thick + loose, 1.75 + loose)
    shape = limb(path, radii[: len(path)], flat_end=True)
    canvas.paint(shape, top.cloth, label, relief=1.6)
    cuff = path[-1]
    if top.sleeves > 1.5:
        elbow = joints[1]
        _folds(canvas, label, ((elbow[0] - 1.5, elbow[1] - 0.8), (elbow[0] + 1.5, elbow[1] + 0.4)))
        if top.trim in ("hoodie", "rib"):
            band = limb((blend(cuff, joints[1], 0.12), cuff), (1.9 + loose, 1.9 + loose), flat_end=True)
            canvas.tint(band, 86, only=(label,))


def _shoulder_line(body: Body, neck: float) -> Shape:
    out = body.shoulders - 1.0
    return points((-out, 19.3), (-out + 1.6, 18.4), (-neck, 17.0), (neck, 17.0), (out - 1.6, 18.4), (out, 19.3))


def _levels(top: Top) -> list[tuple[float, float]]:
    """Returns heights on the trunk, with the garment's distance from it."""
    return [(y, top.ease * (0.4 if y < 28 else 1.0)) for y in (20.5, 25.0, 30.0, 39.0, 47.0, 53.0)]


def _bodice(body: Body, top: Top) -> Shape:
    levels = [(y, ease) for y, ease in _levels(top) if y < top.hem - 1]
    if top.neckline == "straps":
        levels = levels[1:]
        bust = points((-body.half(25) + 0.6, 23.4), (-3.4, 22.2), (0, 23.0), (3.4, 22.2), (body.half(25) - 0.6, 23.4))
        return body.trunk(*levels, (top.hem, top.ease), top=bust)
    return body.trunk(*levels, (top.hem, top.ease), top=_shoulder_line(body, 2.8))


def paint_top(canvas: Canvas, body: Body, top: Top, label: Label = Label.UPPER) -> None:
    """Paints an upper garment without its sleeves, and the skin at its neckline."""
    if top.neckline == "straps":
        chest = body.trunk((20.5, -0.4), (26.0, -0.4), top=_shoulder_line(body, 2.8))
        canvas.paint(chest, solid(body.skin), Label.FACE, relief=1.6)
    canvas.paint(_bodice(body, top), top.cloth, label, relief=2.6)
    bust, waist = body.half(25), body.half(38)
    _folds(canvas, label, ((-bust + 0.8, 26.0), (-bust + 3.6, 28.5)), ((bust - 0.8, 26.0), (bust - 3.6, 28.5)),
           ((body.sway - waist, 38.0), (body.sway - waist + 4, 40.0)),
           ((body.sway + waist, 36.5), (body.sway + waist - 4, 39.0)))  # fmt: skip
    match top.neckline:
        case "straps":
            for side in SIDES:
                strap = limb(((side * 3.6, 23.4), (side * 4.4, 17.9)), (0.75, 0.6))
                canvas.paint(strap, top.cloth, label, relief=0)
        case "turtle":
            collar = mirrored((3.0, 14.6), (3.6, 18.4), (0, 19.2))
            canvas.paint(collar, top.cloth, label, relief=1.0)
        case "shirt":
            paint_neckline(canvas, body, 3.0, 2.5, pointed=True)
            wing = points((1.8, 16.4), (3.6, 17.2), (3.0, 20.8), (0.2, 20.4))
            bright = faded(top.cloth, (255, 255, 255), 12)
            for side in SIDES:
                canvas.paint(polygon(wing * np.array((side, 1.0))), bright, label, relief=0)
            canvas.tint(limb(((0, 21), (0, top.hem)), (0.18, 0.18)), FOLD, only=(label,))
            buttons = union(*(ellipse((0.8, y), 0.4, 0.4) for y in range(23, int(top.hem), 4)))
            canvas.paint(buttons, solid((240, 236, 226)), outline=False, relief=0, only=(label,))
        case neckline:
            depth, width = {"vee": (6.0, 2.9), "scoop": (4.0, 4.0)}.get(neckline, (1.6, 2.9))
            paint_neckline(canvas, body, depth, width, pointed=neckline == "vee")
    if top.trim == "hoodie":
        dark = faded(top.cloth, (20, 18, 28), 25)
        hood = mirrored((0, 18.8), (2.6, 15.6), (5.6, 16.0), (4.6, 19.6), (0, 21.4))
        canvas.paint(hood, dark, label, relief=1.0)
        pocket = points((-3.6, top.hem - 9), (3.6, top.hem - 9), (5.4, top.hem - 3), (-5.4, top.hem - 3))
        canvas.paint(polygon(pocket + np.array((body.sway * 0.8, 0.0))), top.cloth, relief=1.0, only=(label,))
        for side in SIDES:
            string = limb(((side * 1.4, 20.6), (side * 1.7, 26.0)), (0.25, 0.3))
            canvas.paint(string, solid((240, 238, 232)), outline=False, relief=0, only=(label,))
    if top.trim in ("hoodie", "rib"):
        hem = body.trunk((top.hem - 2.4, top.ease + 1), (top.hem, top.ease + 1))
        canvas.tint(hem, 84, only=(label,))
    if top.trim == "print":
        badge = ellipse((0.0, 28.0), 3.0, 2.6)
        canvas.paint(badge, faded(solid(top.cloth.colours[0]), (255, 240, 200), 70), relief=0, only=(label,))


def paint_coat(canvas: Canvas, body: Body, coat: Top) -> None:
    """Paints an open coat or jacket over the top: two fronts with lapels."""
    for side in SIDES:
        outer = [body.edge(side, y, ease) for y, ease in _levels(coat) if y < coat.hem]
        flare = max(0.0, coat.hem - 53) * 0.10
        outer.append(body.edge(side, coat.hem, coat.ease + flare))
        collar = [(side * 2.2, 16.2), (side * (body.shoulders - 2.6), 18.2)]
        front = [(body.axis(coat.hem) + side * 2.4, coat.hem), (side * 2.2, 32.0), (side * 1.6, 22.0)]
        contour = np.concatenate([points(*collar), smooth(points(*outer), closed=False), points(*front)])
        canvas.paint(polygon(contour), coat.cloth, Label.UPPER, relief=2.0)
        lapel = points(
            (side * 1.8, 16.0), (side * 3.8, 17.2), (side * 5.2, 22.0), (side * 3.9, 23.0), (side * 2.0, 31.0)
        )
        canvas.paint(polygon(lapel), faded(coat.cloth, (20, 18, 26), 22), Label.UPPER, relief=0)
        pocket = limb([(side * 4.2 + body.sway, 45.0), (side * 7.0 + body.sway, 44.4)], (0.3, 0.3))
        canvas.tint(pocket, 70, only=(Label.UPPER,))


def _skirt(body: Body, waist: float, hem: float, flare: float) -> Shape:
    """Fills a skirt from the waist to the hem; its lower edge sags a little in the middle."""
    start = [(waist, 0.4), (47.0, 0.7), (53.0, 0.9 + flare * 0.25)] if waist < 45 else [(waist, 0.7), (53.0, 1.0)]
    middle = body.axis(hem)
    wide = body.half(53) + 0.9 + flare
    outline = [body.edge(1, y, ease) for y, ease in start]
    right = smooth(points(*outline, (middle + wide, hem)), closed=False)
    left = smooth(points((middle - wide, hem), *(body.edge(-1, y, ease) for y, ease in reversed(start))), closed=False)
    lower = smooth(points((middle + wide, hem), (middle, hem + 1.0 + flare * 0.1), (middle - wide, hem)), closed=False)
    return polygon(np.concatenate([right, lower, left]))


def paint_skirt(canvas: Canvas, body: Body, cloth: Cloth, label: Label, waist: float, hem: float, flare: float,
                pleats: int) -> None:  # fmt: skip
    """Paints a skirt, or the lower half of a dress, with that many pleats, or with folds if pleats is 0."""
    canvas.paint(_skirt(body, waist, hem, flare), cloth, label, relief=2.6)
    middle, wide = body.axis(hem), body.half(53) + flare
    count = pleats or 3 + int(flare)
    lines: list[Shape] = []
    for fold in range(1, count):
        share = 2 * fold / count - 1
        top = waist + 1.0 if pleats else waist + (hem - waist) * (0.35 + 0.1 * (fold % 3))
        start = (body.axis(top) + share * body.half(top) * 0.95, top)
        lines.append(limb((start, (middle + share * wide, hem + 1)), (0.12, 0.4)))
    canvas.tint(union(*lines), 74 if pleats else FOLD, only=(label,))


def paint_pants(canvas: Canvas, body: Body, cloth: Cloth, width: float, bones: float, turned_up: bool) -> None:
    """Paints pants; bones counts how far down they go: 1 to the knee, 3 to the ankle."""
    thick = body.stoutness
    tubes: dict[int, Shape] = {}
    for side in SIDES:
        joints = body.legs[side]
        radii = (4.7 * thick + width * 0.15, 3.3 * thick + width * 0.6, 3.0 * thick + width * 0.8, 2.0 + width)
        path = part_of(joints, bones)
        tubes[side] = limb(path, radii[: len(path)], flat_end=True)
    hips = body.trunk((42.0, 0.3), (47.0, 0.6), (53.0, 0.6))
    canvas.paint(tubes[-body.front], cloth, Label.PANTS, relief=2.0)
    canvas.paint(union(tubes[body.front], hips), cloth, Label.PANTS, relief=2.0)
    canvas.tint(limb(((body.sway, 44.0), (body.sway, 53.0)), (0.15, 0.3)), 70, only=(Label.PANTS,))
    for side in SIDES:
        (hip_x, hip_y), (knee_x, knee_y), _, ankle = body.legs[side]
        _folds(canvas, Label.PANTS, ((body.sway + side * 0.6, 53.0), (hip_x + side * 2.0, hip_y + 2.0)))
        canvas.tint(limb(((hip_x + side * 1.6, 44.5), (hip_x + side * 3.8, 47.5)), (0.2, 0.3)), 72, only=(Label.PANTS,))
        if bones > 1.5:
            _folds(canvas, Label.PANTS, ((knee_x - 2.4, knee_y - 0.8), (knee_x + 1.6, knee_y + 0.6)),
                   ((knee_x + 2.4, knee_y + 1.8), (knee_x - 1.4, knee_y + 3.0)),
                   ((ankle[0] - 2.0, ankle[1] - 3.4), (ankle[0] + 1.6, ankle[1] - 2.4)))  # fmt: skip
        if turned_up:
            end = part_of(body.legs[side], bones)[-1]
            cuff = limb(((end[0] - 5, end[1] - 0.6), (end[0] + 5, end[1] - 0.6)), (0.9, 0.9))
            canvas.tint(cuff, 128, only=(Label.PANTS,))


def paint_belt(canvas: Canvas, body: Body, waist: float, leather: Cloth, ease: float) -> None:
    """Paints a belt with its buckle round the waist."""
    band = body.trunk((waist - 1.5, ease), (waist, ease + 0.1), (waist + 1.5, ease))
    canvas.paint(band, leather, Label.BELT, relief=1.0)
    middle = body.axis(waist)
    left, right, upper, lower = middle - 1.7, middle + 1.7, waist - 1.6, waist + 1.6
    buckle = points((left, upper), (right, upper), (right, lower), (left, lower))
    canvas.paint(polygon(buckle), solid((226, 190, 92)), Label.BELT, relief=0.6)
    hole = (buckle - np.array((middle, waist))) * 0.5 + np.array((middle, waist))
    canvas.paint(polygon(hole), leather, Label.BELT, relief=0)


def paint_shoe(canvas: Canvas, body: Body, side: int, kind: str, leather: Cloth, toe: float) -> None:
    """Paints a shoe whose tip points outwards and down; toe scales its length."""
    _, knee, calf, ankle = body.legs[side]
    label = SHOE[side]
    sole = solid((240, 238, 230)) if kind == "sneaker" else solid((30, 24, 22))

    def at(*pairs: Point) -> list[Point]:
        return [(ankle[0] + side * x * (toe if x > 2 else 1.0), ankle[1] + y) for x, y in pairs]

    match kind:
        case "heels":
            spike = polygon(points(*at((-1.9, 1.2), (-0.6, 2.2), (-1.2, 5.4), (-1.8, 5.4))))
            canvas.paint(spike, leather, label, relief=0)
            front = ((1.2, 1.6), (3.4, 3.4), (5.4, 5.2), (3.2, 5.5))
            upper = at((-2.0, -0.8), (-1.0, 0.9), *front, (0.6, 3.2), (-1.9, 2.0))
            canvas.paint(blob(*upper), leather, label, relief=0.8)
            return
        case "boots" | "tall boots":
            if kind == "tall boots":
                shaft, radii = [blend(knee, calf, 0.3), calf, ankle], [3.4, 3.4, 2.2]
            else:
                shaft, radii = [blend(calf, ankle, 0.55), ankle], [2.7, 2.3]
            foot = blob(*at((-2.2, -1.0), (2.0, -1.2), (3.0, 1.0), (5.2, 2.6), (5.6, 4.4), (-2.2, 4.6), (-2.4, 2)))
            leg = limb(shaft, [radius * body.stoutness for radius in radii], flat_end=True)
            canvas.paint(union(leg, foot), leather, label)
            top = shaft[0]
            canvas.tint(limb(((top[0] - 4, top[1] + 0.6), (top[0] + 4, top[1] + 0.6)), (0.7, 0.7)), 76, only=(label,))
        case "flats":
            front = ((1.6, 2.0), (2.2, 1.2), (4.2, 2.4), (5.0, 4.0))
            upper = at((-2.1, 0.4), (-1.2, 2.0), *front, (-2.0, 4.2), (-2.5, 2))
            canvas.paint(blob(*upper), leather, label, relief=0.8)
        case _:
            upper = at((-2.2, -1.4), (1.9, -1.4), (2.8, 0.8), (5.0, 2.2), (5.6, 4.2), (-2.2, 4.4), (-2.5, 2))
            canvas.paint(blob(*upper), leather, label, relief=0.9)
            laces = [
                limb(at((0.6 + lace * 0.5, lace - 0.8), (2.0 + lace * 0.6, lace - 1.0)), (0.22, 0.22))
                for lace in (0.4, 1.4, 2.4)
            ]
            canvas.tint(union(*laces), 170, only=(label,))
    edge = limb(at((-1.9, 4.2), (1.9, 4.5), (5.2, 4.3)), (0.55, 0.6, 0.5))
    canvas.paint(edge, sole, label, relief=0, only=(label, *LEG.values(), 0))
