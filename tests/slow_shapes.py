"""A slow reference for figures of boundaries and parts: class by class and part by part, with exact fractions.

Bands are made as Cheng et al. define them: a mask minus its erosion. It shares nothing with the package it checks but
the definitions of docs/metrics.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from slow_scorer import IGNORE, SlowPair, mean, ratio

Region = NDArray[np.bool_]
SIZES = ("small", "medium", "large")


@dataclass(frozen=True)
class ShapeRules:
    """The width of bands as a share of the diagonal, and the pixels that a part needs."""

    ratio: float
    least: int


def inner_band(region: Region, width: int) -> Region:
    """The pixels of a region that are at most `width` pixels from its contour; the picture's border is one."""
    eroded = ndimage.binary_erosion(region, np.ones((3, 3)), iterations=width, border_value=0)
    return np.asarray(region & ~eroded)


def size_of(part: Region) -> str:
    """By the share of the picture: a thousandth and a hundredth are the bounds."""
    share = Fraction(int(part.sum()), part.size)
    return "small" if share < Fraction(1, 1000) else "medium" if share < Fraction(1, 100) else "large"


def count_pair(truth: Region, predicted: Region, rules: ShapeRules) -> Counter[Any]:
    """Counts one class of one pair; both regions without ignored pixels."""
    height, width = truth.shape
    distance = max(1, round(rules.ratio * float(np.hypot(height, width))))
    bands = inner_band(truth, distance), inner_band(predicted, distance)
    counts: Counter[Any] = Counter(
        truth=int(truth.sum()),
        band=int(bands[0].sum()),
        predicted_band=int(bands[1].sum()),
        both=int((bands[0] & bands[1]).sum()),
    )
    # Connected components, by 4 neighbours.
    numbers = ndimage.label(truth)[0], ndimage.label(predicted)[0]
    for name, mine, theirs in (("found", *numbers), ("matched", *numbers[::-1])):
        for number in range(1, mine.max() + 1):
            part = mine == number
            others = [theirs == other for other in np.unique(theirs[part]) if other]
            if part.sum() >= rules.least:
                counts["parts", name, size_of(part)] += 1
                counts[name, size_of(part)] += any(2 * (part & other).sum() > (part | other).sum() for other in others)
    return counts


def figures_of(by_class: Mapping[int, Counter[Any]], classes: Mapping[int, str]) -> Iterator[tuple[str, Any]]:
    """The figures of one way, by name without way and setting; the last member of a tuple is the class."""

    def union(counts: Counter[Any]) -> int:
        return int(counts["band"] + counts["predicted_band"] - counts["both"])

    iou = {c: ratio(by_class[c]["both"], union(by_class[c])) for c in by_class}
    novel = [c for c in by_class if classes[c] == "novel"]
    base = [c for c in by_class if classes[c] == "base"]
    groups = {"novel_boundary_miou": novel, "base_boundary_miou": base}
    for name, group in {**groups, "human_boundary_miou_without_background": list(by_class)}.items():
        yield name, mean(iou[c] for c in group)
    for c, counts in by_class.items():
        yield f"boundary_iou/{c}", iou[c]
        yield f"band_share/{c}", ratio(counts["band"], counts["truth"])

    def share(name: str, group: Sequence[int], sizes: Sequence[str] = SIZES) -> Fraction | None:
        whole = sum(by_class[c]["parts", name, size] for c in group for size in sizes)
        hits = sum(by_class[c][name, size] for c in group for size in sizes)
        return ratio(hits if name == "found" else whole - hits, whole)

    for kind, name in (("found", "found"), ("spurious", "matched")):
        yield f"{kind}_parts", share(name, list(by_class))
        yield f"novel_{kind}_parts", share(name, novel)
        for size in SIZES:
            yield f"{size}_{kind}_parts", share(name, list(by_class), [size])
        for c in by_class:
            yield f"class_{kind}_parts/{c}", share(name, [c])


def slow_shapes(
    pairs: Sequence[SlowPair],
    classes: Mapping[int, str],
    truth: Mapping[str, NDArray[np.uint8]],
    kway: Sequence[NDArray[np.uint8]] | None,
    oneway: Sequence[NDArray[np.uint8]] | None,
    rules: ShapeRules,
) -> dict[str, float | None]:
    """All figures of boundaries and parts, by their full names, in the convention `default`."""
    scores: dict[str, float | None] = {}
    for way, predictions in (("kway", kway), ("1way", oneway)):
        by_class: dict[int, Counter[Any]] = {c: Counter() for c in classes if c}
        for pair, prediction in zip(pairs, predictions or (), strict=False):
            mask = truth[pair.query]
            seen = mask != IGNORE
            for c in by_class if way == "kway" else [pair.target]:
                true = (mask == c) & seen & (c in pair.support_classes or way == "1way")
                predicted = (prediction == c if way == "kway" else prediction > 0) & seen
                by_class[c] += count_pair(true, predicted, rules)
        if predictions is not None:
            for name, value in figures_of(by_class, classes):
                figure, slash, class_id = name.partition("/")
                setting = rules.least if figure.endswith("parts") else rules.ratio
                scores[f"{way}/{figure}@{setting}{slash}{class_id}"] = None if value is None else float(value)
    return scores
