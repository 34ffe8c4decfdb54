"""A slow reference scorer for One-Shot Human Parsing, written to be read rather than to be run often.

Every cell of every confusion matrix is counted on its own with boolean masks, every ratio is an exact
``Fraction``, and a number becomes a float once, at the very end. It shares nothing with the package it checks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

IGNORE = 255
BACKGROUND = 0
FOREGROUND = 1  # the other label of a binary (1-way) matrix
DEFAULT = "default"
OFFICIAL = "official-2023"

Matrix = Counter[tuple[int, int]]  # (true label, predicted label) -> pixels; a missing cell is 0
Scores = dict[str, Fraction | None]  # None: 0/0, or a mean over nothing


@dataclass(frozen=True)
class SlowPair:
    """One episode: a query, the class it was sampled for, and the support's classes in both readings."""

    query: str  # query image id (key into truth)
    target: int  # the class this pair was sampled for (1-way class)
    support_classes: frozenset[int]  # C_s without background, full resolution
    stride4_classes: frozenset[int]  # C_s of the release (mask shrunk to the stride-4 grid), without background


def confusion(truth: NDArray[Any], prediction: NDArray[Any], labels: Iterable[int], kept: NDArray[np.bool_]) -> Matrix:
    """Count the kept pixels of every (true label, predicted label) combination, one combination at a time."""
    matrix: Matrix = Counter()
    labels = list(labels)
    for a in labels:
        for b in labels:
            matrix[a, b] = int(np.count_nonzero(kept & (truth == a) & (prediction == b)))
    if sum(matrix.values()) != int(np.count_nonzero(kept)):
        raise AssertionError("a kept pixel was counted in no cell or in two")
    return matrix


def pool(matrices: Iterable[Matrix]) -> Matrix:
    """Add matrices cell by cell."""
    total: Matrix = Counter()
    for matrix in matrices:
        for cell, pixels in matrix.items():
            total[cell] += pixels
    return total


def ratio(numerator: int, denominator: int) -> Fraction | None:
    """Divide exactly; None if the denominator is 0."""
    return None if denominator == 0 else Fraction(numerator, denominator)


def mean(values: Iterable[Fraction | None]) -> Fraction | None:
    """Average exactly what is not None; None if nothing is left."""
    present = [value for value in values if value is not None]
    return None if not present else sum(present, Fraction(0)) / len(present)


def row(matrix: Matrix, label: int) -> int:
    """Pixels whose true label is this one, whatever was predicted (removed labels too)."""
    return sum(pixels for (a, _), pixels in matrix.items() if a == label)


def column(matrix: Matrix, label: int) -> int:
    """Pixels whose predicted label is this one."""
    return sum(pixels for (_, b), pixels in matrix.items() if b == label)


def iou(matrix: Matrix, label: int) -> Fraction | None:
    """Intersection over union: H_cc / (row_c + column_c - H_cc)."""
    hit = matrix[label, label]
    return ratio(hit, row(matrix, label) + column(matrix, label) - hit)


def class_accuracy(matrix: Matrix, label: int) -> Fraction | None:
    """H_cc / row_c."""
    return ratio(matrix[label, label], row(matrix, label))


def accuracy(matrix: Matrix) -> Fraction | None:
    """Trace / sum. A removed label is never a true label, so its pixels are in the sum only."""
    return ratio(sum(pixels for (a, b), pixels in matrix.items() if a == b), sum(matrix.values()))


def group_means(ious: Mapping[int, Fraction | None], classes: Mapping[int, str]) -> Scores:
    """Mean IoU of the five groups of classes; ``ious`` has one entry for every class id."""
    foreground = [c for c in classes if c != BACKGROUND]
    novel = [c for c in foreground if classes[c] == "novel"]
    base = [c for c in foreground if classes[c] == "base"]
    groups = {
        "human_miou": [BACKGROUND, *foreground],
        "novel_miou": novel,
        "base_miou": base,
        "base_miou_with_background": [BACKGROUND, *base],
        "human_miou_without_background": foreground,
    }
    return {name: mean(ious[c] for c in members) for name, members in groups.items()}


def check_inputs(
    pairs: Sequence[SlowPair],
    classes: Mapping[int, str],
    removed: frozenset[int],
    truth: Mapping[str, NDArray[np.uint8]],
    convention: str,
) -> None:
    """Refuse everything the definitions do not cover."""
    if convention not in (DEFAULT, OFFICIAL):
        raise ValueError(f"unknown convention {convention!r}")
    if classes.get(BACKGROUND) != "background":
        raise ValueError("class 0 must be the background")
    foreground = {c for c in classes if c != BACKGROUND}
    if any(classes[c] not in ("base", "novel") for c in foreground) or IGNORE in classes:
        raise ValueError("every class but 0 must be base or novel, and none may be 255")
    if removed & set(classes):
        raise ValueError("a class cannot be a removed label too")
    for pair in pairs:
        if not ({pair.target} | pair.support_classes | pair.stride4_classes) <= foreground:
            raise ValueError(f"a pair of query {pair.query} names something that is no foreground class")
        if not {int(v) for v in np.unique(truth[pair.query])} <= set(classes) | {IGNORE}:
            raise ValueError(f"the truth of query {pair.query} holds a label that is neither a class nor 255")


def check_shapes(
    pairs: Sequence[SlowPair], truth: Mapping[str, NDArray[np.uint8]], predictions: Sequence[NDArray[np.uint8]]
) -> None:
    """Refuse a wrong number of predictions, and predictions that are not the size of their truth."""
    if len(predictions) != len(pairs):
        raise ValueError(f"{len(predictions)} predictions for {len(pairs)} pairs")
    for index, pair in enumerate(pairs):
        if predictions[index].shape != truth[pair.query].shape:
            raise ValueError(f"prediction {index}: {predictions[index].shape}, truth {truth[pair.query].shape}")


def score_kway(
    pairs: Sequence[SlowPair],
    classes: Mapping[int, str],
    removed: frozenset[int],
    truth: Mapping[str, NDArray[np.uint8]],
    predictions: Sequence[NDArray[np.uint8]],
    convention: str,
) -> Scores:
    """Score predictions of all classes of the support at once."""
    legal = set(classes) | (removed if convention == OFFICIAL else set())
    matrices: list[Matrix] = []
    for index, (pair, prediction) in enumerate(zip(pairs, predictions, strict=True)):
        illegal = {int(v) for v in np.unique(prediction)} - legal
        if illegal:
            raise ValueError(f"prediction {index} holds illegal labels {sorted(illegal)}")
        mask = truth[pair.query]
        support = pair.stride4_classes if convention == OFFICIAL else pair.support_classes
        expected = mask.copy()
        for c in classes:
            if c not in support:
                expected[mask == c] = BACKGROUND
        matrices.append(confusion(expected, prediction, sorted(legal), mask != IGNORE))

    pooled = pool(matrices)
    ious = {c: iou(pooled, c) for c in classes}
    accuracies = {c: class_accuracy(pooled, c) for c in classes}
    episodes = [group_means({c: iou(matrix, c) for c in classes}, classes) for matrix in matrices]
    scores = group_means(ious, classes)
    scores["overall_accuracy"] = accuracy(pooled)
    scores["mean_accuracy"] = mean(accuracies.values())
    for c in classes:
        scores[f"iou/{c}"] = ious[c]
        scores[f"accuracy/{c}"] = accuracies[c]
    for name in ("human_miou", "novel_miou", "human_miou_without_background"):
        scores[f"episode_{name}"] = mean(episode[name] for episode in episodes)
    scores["episode_accuracy"] = mean(accuracy(matrix) for matrix in matrices)
    return scores


def score_oneway(
    pairs: Sequence[SlowPair],
    classes: Mapping[int, str],
    truth: Mapping[str, NDArray[np.uint8]],
    predictions: Sequence[NDArray[np.uint8]],
    convention: str,
) -> Scores:
    """Score predictions of the one class each pair was sampled for."""
    matrices: list[Matrix] = []
    for pair, prediction in zip(pairs, predictions, strict=True):
        mask = truth[pair.query]
        matrices.append(confusion(mask == pair.target, prediction != 0, (BACKGROUND, FOREGROUND), mask != IGNORE))

    ious: dict[int, Fraction | None] = {}
    backgrounds: list[Fraction | None] = []
    for c in classes:
        if c == BACKGROUND:
            continue
        of_class = pool(matrix for pair, matrix in zip(pairs, matrices, strict=True) if pair.target == c)
        ious[c] = iou(of_class, FOREGROUND)
        backgrounds.append(iou(of_class, BACKGROUND))  # None, so left out, if the class has no pairs
    ious[BACKGROUND] = mean(backgrounds)

    step = 10 if convention == OFFICIAL else 1
    of_bi = pool(matrix for index, matrix in enumerate(matrices) if index % step == 0)
    scores = group_means(ious, classes)
    for c in classes:
        scores[f"iou/{c}"] = ious[c]
    scores["bi_miou"] = mean([iou(of_bi, FOREGROUND), iou(of_bi, BACKGROUND)])
    scores["overall_accuracy"] = accuracy(pool(matrices))
    scores["episode_bi_miou"] = mean(mean([iou(m, FOREGROUND), iou(m, BACKGROUND)]) for m in matrices)
    scores["episode_iou"] = mean(iou(m, FOREGROUND) for m in matrices)
    return scores


def slow_score(
    pairs: Sequence[SlowPair],
    classes: Mapping[int, str],
    removed: frozenset[int],
    truth: Mapping[str, NDArray[np.uint8]],
    kway: Sequence[NDArray[np.uint8]] | None,
    oneway: Sequence[NDArray[np.uint8]] | None,
    convention: str,
) -> dict[str, float | None]:
    """Score the predictions that are given; keys start with ``kway/`` or ``1way/``, and None stands for 0/0."""
    check_inputs(pairs, classes, removed, truth, convention)
    exact: Scores = {}
    if kway is not None:
        check_shapes(pairs, truth, kway)
        for name, value in score_kway(pairs, classes, removed, truth, kway, convention).items():
            exact[f"kway/{name}"] = value
    if oneway is not None:
        check_shapes(pairs, truth, oneway)
        for name, value in score_oneway(pairs, classes, truth, oneway, convention).items():
            exact[f"1way/{name}"] = value
    return {name: None if value is None else float(value) for name, value in exact.items()}
