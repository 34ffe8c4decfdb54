"""What a person wears: plans it, chooses the garments, and paints the person from back to front."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from oshp_bench.datasets.demo import accessories, head, wardrobe
from oshp_bench.datasets.demo.body import SIDES, Body, Label, paint_arm, paint_leg, paint_neck, pose
from oshp_bench.datasets.demo.canvas import Canvas, Cloth, Colour, Dice, solid
from oshp_bench.datasets.demo.shapes import ellipse
from oshp_bench.datasets.demo.wardrobe import Top
from oshp_bench.randomness import Stream

_BLOCK = 40

STOCKINGS: tuple[Colour, ...] = ((40, 36, 42), (70, 60, 64), (120, 40, 56), (60, 70, 100))


@dataclass(frozen=True)
class Plan:
    """What a person wears; outfit is "dress", "skirt" or "pants"."""

    outfit: str
    hat: bool
    sunglasses: bool
    belt: bool
    bag: bool
    scarf: bool


@lru_cache(maxsize=64)
def _plans(block: int) -> tuple[Plan, ...]:
    """Deals outfits to a block of pictures, so that every block holds the same share of every label."""
    stream = Stream("mannequin", "plans", block)

    def dealt(count: int) -> list[bool]:
        return stream.shuffled([place < count for place in range(_BLOCK)])

    outfits = stream.shuffled(["dress"] * 13 + ["skirt"] * 13 + ["pants"] * 14)
    return tuple(map(Plan, outfits, dealt(12), dealt(6), dealt(6), dealt(18), dealt(5)))


def plan_of(index: int) -> Plan:
    """Returns what the person of a picture wears."""
    return _plans(index // _BLOCK)[index % _BLOCK]


def dress(canvas: Canvas, dice: Dice, plan: Plan) -> None:
    """Paints a person in the clothes of the plan."""
    leather = solid(dice.near(dice.pick(wardrobe.LEATHER)))
    bag = accessories.choose_bag(dice, wardrobe.choose_cloth(dice, 60), leather) if plan.bag else None
    feminine = dice.chance(45 if plan.outfit == "pants" else 100)
    body = pose(dice, feminine, accessories.asked_of_arms(bag))
    crown = head.choose_head(dice, body, plan.hat, plan.sunglasses, wardrobe.choose_cloth(dice, 35))
    kinds = (
        ("sneaker", "heels", "heels", "boots", "tall boots", "flats")
        if feminine
        else ("sneaker", "sneaker", "boots", "flats")
    )
    kind, footwear, toe = dice.pick(kinds), _footwear(dice), dice.between(0.75, 1.05)
    stocking = solid(dice.near(dice.pick(STOCKINGS))) if plan.outfit != "pants" and dice.chance(22) else None
    back_to_front = (-body.front, body.front)

    _paint_shadow(canvas, body)
    accessories.paint_bag_behind(canvas, body, bag)
    head.paint_back_hair(canvas, body, crown)
    for side in back_to_front:
        paint_leg(canvas, body, side, stocking)
        wardrobe.paint_shoe(canvas, body, side, kind, footwear, toe)
    paint_neck(canvas, body)
    label, sleeved = _paint_clothes(canvas, dice, body, plan)
    accessories.paint_straps(canvas, body, bag)
    if bag is not None and bag.kind == "handbag":
        accessories.paint_bag(canvas, body, bag)
    for side in SIDES:
        paint_arm(canvas, body, side, sleeved.sleeves)
        wardrobe.paint_sleeve(canvas, body, side, sleeved, label)
    if bag is not None and bag.kind != "handbag":
        accessories.paint_bag(canvas, body, bag)
    head.paint_face(canvas, body, crown, dice)
    head.paint_front_locks(canvas, body, crown)
    if plan.scarf:
        accessories.paint_scarf(canvas, wardrobe.choose_cloth(dice, 70), dice.pick(SIDES), dice.between(31.0, 40.0))
    head.paint_sunglasses(canvas, body, crown)
    head.paint_hat(canvas, body, crown)


def _footwear(dice: Dice) -> Cloth:
    return solid(dice.near(dice.pick(wardrobe.LEATHER + wardrobe.COLOURS[:9])))


def _paint_shadow(canvas: Canvas, body: Body) -> None:
    """Darkens the ground under the feet."""
    left, right = (body.legs[side][3][0] for side in SIDES)
    middle, reach = (left + right) / 2, abs(right - left) / 2 + 9
    for share in (1.0, 0.75):
        canvas.tint(ellipse((middle, 97.4), reach * share, 2.6 * share), 80)


def _choose_top(dice: Dice, belted: bool) -> Top:
    """Draws an upper garment; it is tucked in under a belt."""
    kind = dice.pick(("tee", "tee", "long", "shirt", "shirt", "sweater", "hoodie", "tank", "blouse"))
    cloth = wardrobe.choose_cloth(dice)
    hem = 43.0 if belted or dice.chance(30) else dice.between(46.0, 52.0)
    match kind:
        case "tee":
            neckline = dice.pick(("round", "vee", "scoop"))
            trim = "print" if cloth.pattern == "plain" and neckline == "round" else ""
            return Top(cloth, dice.between(0.55, 0.8), hem, 0.7, neckline, trim)
        case "tank":
            return Top(cloth, 0.0, hem, 0.3, "straps")
        case "shirt":
            return Top(cloth, dice.pick((0.7, 1.4, 2.0)), hem, 0.8, "shirt")
        case "sweater":
            return Top(cloth, 2.0, hem, 1.2, dice.pick(("round", "turtle", "vee")), "rib")
        case "hoodie":
            return Top(cloth, 2.0, hem, 1.5, "round", "hoodie")
        case "blouse":
            return Top(cloth, dice.between(1.2, 1.6), hem, 0.9, dice.pick(("vee", "scoop")))
        case _:
            return Top(cloth, 2.0, hem, 0.5, dice.pick(("round", "turtle", "scoop")))


def _paint_clothes(canvas: Canvas, dice: Dice, body: Body, plan: Plan) -> tuple[Label, Top]:
    """Paints the clothes without their sleeves; returns the label and the garment of the sleeves."""
    belt = solid(dice.near(dice.pick(wardrobe.LEATHER)))
    if plan.outfit == "dress":
        cloth = wardrobe.choose_cloth(dice, 60)
        neckline = dice.pick(("straps", "straps", "round", "vee", "scoop"))
        sleeves = 0.0 if neckline == "straps" else dice.pick((0.0, 0.6, 0.6, 1.3, 2.0))
        bodice = Top(cloth, sleeves, 41.0, 0.2, neckline)
        _paint_lower(canvas, dice, body, cloth, Label.DRESS, waist=39.0)
        wardrobe.paint_top(canvas, body, bodice, Label.DRESS)
        if plan.belt:
            wardrobe.paint_belt(canvas, body, 40.0, belt, 0.5)
        return Label.DRESS, bodice
    top = _choose_top(dice, plan.belt)
    tucked = top.hem < 45
    if tucked:
        wardrobe.paint_top(canvas, body, top)
    cloth = wardrobe.choose_cloth(dice, 50 if plan.outfit == "skirt" else 22)
    if plan.outfit == "skirt":
        _paint_lower(canvas, dice, body, cloth, Label.SKIRT, waist=41.0)
    else:
        if dice.chance(35):
            cloth = Cloth((dice.near(dice.pick(wardrobe.DENIM)),), grain=12)
        width = dice.pick((0.1, 0.3, 0.8, 2.2))
        bones = dice.pick((0.62, 0.85, 2.7, 2.95, 2.95, 3.0, 3.0, 3.0, 3.0))
        wardrobe.paint_pants(canvas, body, cloth, width, bones, turned_up=dice.chance(30))
    if not tucked:
        wardrobe.paint_top(canvas, body, top)
    if plan.belt:
        wardrobe.paint_belt(canvas, body, 42.4, belt, 0.8)
    elif dice.chance(28):
        coat = Top(
            wardrobe.choose_cloth(dice, 25), 2.0, dice.pick((49.0, 56.0, 66.0, 72.0)), max(1.6, top.ease), "open"
        )
        wardrobe.paint_coat(canvas, body, coat)
        return Label.UPPER, coat
    return Label.UPPER, top


def _paint_lower(canvas: Canvas, dice: Dice, body: Body, cloth: Cloth, label: Label, waist: float) -> None:
    """Paints a skirt, or the skirt of a dress, of a random cut and length."""
    cut = dice.pick(("narrow", "flared", "flared", "pleated", "wide"))
    hem = dice.pick((57.0, 60.0, 63.0, 67.0, 72.0, 80.0, 91.0)) + dice.between(-1.0, 1.0)
    length = (hem - 50) / 20
    flare = {"narrow": 0.1, "flared": 3.2, "pleated": 3.0, "wide": 5.2}[cut] * min(1.5, 0.5 + length)
    wardrobe.paint_skirt(canvas, body, cloth, label, waist, hem, flare, pleats=9 if cut == "pleated" else 0)
