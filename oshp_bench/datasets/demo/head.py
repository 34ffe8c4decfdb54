"""Everything from the chin up: face, hair, hats and sunglasses, drawn about the middle of the face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oshp_bench.datasets.demo.body import SIDES, Body, Label
from oshp_bench.datasets.demo.canvas import Canvas, Cloth, Colour, Dice, mix, solid
from oshp_bench.datasets.demo.shapes import Shape, blob, ellipse, limb, mirrored, points, polygon, smooth, union

HAIR_COLOURS: tuple[Colour, ...] = (
    (38, 28, 24), (58, 40, 30), (88, 58, 38), (120, 78, 46), (150, 104, 60), (206, 168, 104), (226, 198, 142),
    (160, 70, 38), (150, 148, 148), (24, 22, 26), (48, 34, 28), (104, 70, 44), (176, 134, 80), (196, 92, 120),
)  # fmt: skip
LIPS: tuple[Colour, ...] = ((190, 70, 80), (170, 50, 60), (200, 100, 100))
IRISES: tuple[Colour, ...] = ((60, 40, 28), (52, 84, 120), (70, 100, 62), (40, 30, 24))

FEMININE_STYLES = ("long", "long", "long", "bob", "bob", "bun", "curly", "ponytail", "wavy", "short")
MASCULINE_STYLES = ("short", "short", "short", "quiff", "quiff", "curly", "buzz", "long", "bald")
HATS = ("beanie", "fedora", "cap", "bucket", "sun hat", "beret")


@dataclass(frozen=True)
class Head:
    """Hair, headgear and sunglasses; shades is the cloth of the sunglasses, None without them."""

    style: str
    hair: Cloth
    length: float
    parting: float
    fringe: bool
    beard: bool
    hat: str | None
    hat_cloth: Cloth
    hat_side: int
    shades: Cloth | None


def choose_head(dice: Dice, body: Body, hat: bool, shades: bool, hat_cloth: Cloth) -> Head:
    """Draws hair and headgear."""
    style = dice.pick(FEMININE_STYLES if body.feminine else MASCULINE_STYLES)
    if style == "bald" and (hat or dice.chance(50)):
        style = "short"
    if hat and style in ("buzz", "bun"):
        style = "long" if body.feminine else "short"
    return Head(
        style=style,
        hair=Cloth((dice.near(dice.pick(HAIR_COLOURS), 8),), grain=9),
        length=dice.between(12.0, 25.0),
        parting=dice.between(-3.0, 3.0),
        fringe=dice.chance(35 if body.feminine else 20),
        beard=not body.feminine and dice.chance(30),
        hat=dice.pick(HATS) if hat else None,
        hat_cloth=hat_cloth,
        hat_side=dice.pick(SIDES),
        shades=solid(dice.pick(((20, 20, 24), (48, 30, 22), (26, 36, 60), (70, 30, 40))), grain=1) if shades else None,
    )


def placed(body: Body, shape: Shape) -> Shape:
    """Moves a shape drawn about the middle of the face to where the head is, and tilts it."""
    t = body.tilt
    cos, sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    x, y = shape[..., 0], shape[..., 1]
    return np.stack([x * cos - y * sin + body.head[0], x * sin + y * cos + body.head[1]], axis=-1)


def _both(shape: Shape) -> Shape:
    """Adds a shape's mirror image; mirroring turns contours, so ends are swapped."""
    return union(shape, shape[:, ::-1] * np.array((-1.0, 1.0)))


def paint_back_hair(canvas: Canvas, body: Body, head: Head) -> None:
    """Paints the hair behind neck, shoulders and head."""
    match head.style:
        case "long" | "wavy":
            end, flare = head.length, 1.2 if head.style == "wavy" else 0.0
            shape = mirrored((0, -8.8), (5.2, -7.0), (6.7, -1.5), (7.0 + flare, 6.0), (7.4, (6 + end) / 2),
                              (6.6 + flare, end), (2.5, end + 1.2))  # fmt: skip
        case "bob":
            shape = mirrored((0, -9.0), (5.6, -7.2), (7.2, -1.0), (7.7, 5.0), (6.6, 9.2), (3.0, 9.6))
        case "curly":
            around = ((-5.5, -5.5), (0, -7.6), (5.5, -5.5), (7.2, -0.5), (-7.2, -0.5), (6.9, 4.6), (-6.9, 4.6))
            shape = union(*(ellipse(centre, 3.7, 3.5) for centre in around))
        case "bun":
            shape = ellipse((head.parting * 0.4, -10.6), 3.6, 3.1)
        case "ponytail":
            side = head.hat_side
            shape = limb(((side * 3.5, -6.0), (side * 8.6, -3.0), (side * 9.0, 6.0), (side * 7.4, 13.0)),
                         (2.2, 2.5, 2.2, 0.8))  # fmt: skip
        case _:
            return
    canvas.paint(placed(body, shape), head.hair, Label.HAIR)


def paint_front_locks(canvas: Canvas, body: Body, head: Head) -> None:
    """Paints the locks that fall over the shoulders in front."""
    if head.style in ("long", "wavy"):
        out = 1.0 if head.style == "wavy" else 0.0
        end = head.length * 0.8
        for side in SIDES:
            lock = limb(
                ((side * 5.6, -1.0), (side * (6.2 + out), 5.0), (side * 5.9, (5 + end) / 2), (side * (5.6 + out), end)),
                (1.1, 1.5, 1.9, 0.7),
            )
            canvas.paint(placed(body, lock), head.hair, Label.HAIR)


def paint_face(canvas: Canvas, body: Body, head: Head, dice: Dice) -> None:
    """Paints the face with its features, then the hair that frames it."""
    skin, turn = body.skin, body.turn
    jaw = 4.0 if body.feminine else 4.6

    def feature(shape: Shape, colour: Colour, outline: bool = False, only: Sequence[int] = (Label.FACE,)) -> None:
        canvas.paint(placed(body, shape), solid(colour, 1), relief=0, outline=outline, only=only)

    ears = _both(ellipse((5.1, 0.6), 0.9, 1.6))
    canvas.paint(placed(body, ears), solid(mix(skin, (160, 60, 40), 12)), Label.FACE)
    skull = mirrored((0, -7.4), (3.6, -6.6), (5.2, -3.2), (5.2, 0.6), (jaw, 4.4), (2.2, 7.0), (0, 7.6))
    canvas.paint(placed(body, skull), solid(skin), Label.FACE, relief=2.0)
    if body.feminine:
        feature(_both(ellipse((3.0, 3.0), 1.3, 0.9)) + np.array((turn * 0.7, 0.0)), mix(skin, (226, 90, 90), 28))
    dark, iris, lips = mix(skin, (40, 20, 16), 62), dice.pick(IRISES), dice.pick(LIPS)
    lid, thick = (0.95, 0.28) if body.feminine else (0.75, 0.45)
    brow = limb(((1.0, -1.9), (2.7, -2.5), (4.0, -1.9)), (thick, thick, 0.2))
    for shape, colour in (
        (ellipse((2.3, 0.2), 1.35, lid), (246, 244, 240)),
        (ellipse((2.3, 0.2), 0.72, lid), iris),
        (limb(((1.1, 0.0), (2.3, -0.85), (3.9, -0.1)), (0.2, 0.32, 0.2)), (40, 26, 22)),
        (brow, mix(head.hair.colours[0], (40, 26, 20), 45)),
    ):
        feature(_both(shape) + np.array((turn, 0.0)), colour)
    feature(limb(((turn * 1.1 + 0.2, 0.4), (turn * 1.5 + 0.7, 2.5), (turn * 1.3 - 0.3, 2.8)), (0.16, 0.3, 0.25)),
            mix(skin, (90, 40, 20), 40))  # fmt: skip
    if head.beard:
        beard = mirrored((0, 3.4), (2.4, 3.4), (4.8, 0.6), (4.4, 5.0), (2.2, 7.6), (0, 8.2))
        feature(beard, mix(skin, head.hair.colours[0], 66))
    smile = dice.between(0.0, 0.6)
    mouth = blob((turn - 1.7, 4.7 - smile), (turn, 4.4), (turn + 1.7, 4.7 - smile), (turn, 5.5))
    feature(mouth, mix(skin, lips, 90 if body.feminine else 55))
    feature(limb(((turn - 1.6, 4.7 - smile), (turn, 4.9), (turn + 1.6, 4.7 - smile)), (0.14, 0.17, 0.14)), dark)
    if head.style != "bald":
        _paint_hairline(canvas, body, head)


def _paint_hairline(canvas: Canvas, body: Body, head: Head) -> None:
    crown, temple = {"buzz": (8.0, -1.6), "quiff": (9.6, -0.4), "short": (8.9, 0.4)}.get(head.style, (8.9, 1.4))
    if head.hat and head.style in ("short", "quiff", "curly", "bob"):
        temple = 3.0
    outer = [(-5.3, temple), (-6.1, -2.6), (-4.7, -7.0), (0.0, -crown), (4.7, -7.0), (6.1, -2.6), (5.3, temple)]
    if head.style == "quiff":
        outer[3:5] = [(head.hat_side * 1.5, -crown - 1.2), (5.0, -7.2)]
    if head.fringe and head.style not in ("quiff", "buzz"):
        below = [(4.5, -2.2), (1.8, -2.6), (0.0, -2.2), (-1.8, -2.7), (-4.5, -2.2)]
    else:
        part = head.parting
        below = [(4.5, -3.0), ((part + 4.5) / 2, -4.9), (part, -5.9), ((part - 4.5) / 2, -4.9), (-4.5, -3.0)]
    inner = [(4.5, temple - 1), *below, (-4.5, temple - 1)]
    contour = np.concatenate([smooth(points(*line), closed=False) for line in (outer, inner)])
    canvas.paint(placed(body, polygon(contour)), head.hair, Label.HAIR)
    for percent, steps in ((125, (-1, 1)), (78, (-2, 0, 2))):
        strands = [limb(((head.parting * 0.8, -8.2), (head.parting * 0.5 + step * 1.9, -6.2), (step * 2.4, -3.4)),
                        (0.12, 0.2, 0.12)) for step in steps]  # fmt: skip
        canvas.tint(placed(body, union(*strands)), percent, only=(Label.HAIR,))


def paint_sunglasses(canvas: Canvas, body: Body, head: Head) -> None:
    """Paints sunglasses, if any: two lenses, a bridge and temples."""
    if head.shades is None:
        return
    lens = blob((0.5, -1.3), (2.4, -1.5), (4.5, -1.3), (4.5, 0.6), (2.6, 1.9), (0.8, 0.9))
    arms = limb(((-5.4, -0.8), (0.0, -0.9), (5.4, -0.8)), (0.35, 0.4, 0.35))
    shape = union(_both(lens), arms) + np.array((body.turn * 0.6, 0.1))
    canvas.paint(placed(body, shape), head.shades, Label.SUNGLASSES, relief=0)
    glint = _both(limb(((1.6, 0.6), (2.6, -0.6)), (0.25, 0.25))) + np.array((body.turn * 0.6, 0.1))
    canvas.tint(placed(body, glint), 260, only=(Label.SUNGLASSES,))


def paint_hat(canvas: Canvas, body: Body, head: Head) -> None:
    """Paints the hat, if any."""
    side = head.hat_side
    cloth, band = head.hat_cloth, solid(mix(head.hat_cloth.colours[0], (20, 16, 24), 65))
    dome = mirrored((0, -11.2), (3.8, -10.4), (6.0, -7.0), (6.2, -3.8), (5.8, -3.4), (0, -3.9))
    parts: list[tuple[Shape, Cloth]] = []
    match head.hat:
        case "beanie":
            cuff = mirrored((0, -6.6), (6.4, -5.8), (6.4, -5.8), (6.3, -2.6), (6.3, -2.6), (0, -3.4))
            parts = [(dome, cloth), (cuff, band if side > 0 else cloth), (ellipse((0, -12.2), 2.1, 2.0), cloth)]
        case "fedora":
            crown = mirrored((0, -11.0), (2.4, -12.2), (5.3, -10.2), (6.0, -4.6))
            ribbon = mirrored((0, -6.2), (6.1, -6.8), (6.1, -6.8), (6.1, -4.6), (0, -4.0))
            brim = mirrored((0, -4.1), (6, -4.9), (10.4, -5.0), (6.4, -3.1), (0, -2.4))
            parts = [(crown, cloth), (ribbon, band), (brim, cloth)]
        case "cap":
            visor = blob(
                (-5.2, -4.6), (0, -5.4), (5.2, -4.6), (6.2 + side, -2.9), (side * 1.5, -2.4), (-6.2 + side, -2.9)
            )
            parts = [(dome, cloth), (visor, band if body.feminine else cloth), (ellipse((0, -11.2), 0.8, 0.5), band)]
        case "bucket":
            crown = mirrored((0, -10.9), (5.2, -10.0), (5.2, -10.0), (6.2, -5))
            brim = mirrored((0, -5.4), (6.0, -6.0), (6.0, -6.0), (8.8, -2.4), (8.8, -2.4), (0, -1.6))
            parts = [(crown, cloth), (brim, cloth)]
        case "sun hat":
            brim = mirrored((0, -6.2), (8, -5.6), (13.0, -3.6), (8, -2.6), (0, -3.0))
            ribbon = mirrored((0, -6.0), (6.2, -6.6), (6.4, -4.8), (0, -4.2))
            parts = [(brim, cloth), (dome, cloth), (ribbon, band)]
        case "beret":
            left, top = (-side * 5.0 - 1.2, -9.4), (side * 2.0, -11.6)
            right = ((side * 9.0, -8.6), (side * 8.2, -5.2), (side * 5.6, -4.4))
            stalk = limb(((side, -11.2), (side * 1.3, -12.6)), (0.4, 0.4))
            parts = [(blob((-6.2, -5.2), left, top, *right, (0, -5.2)), cloth), (stalk, cloth)]
    for shape, stuff in parts:
        canvas.paint(placed(body, shape), stuff, Label.HAT)
