"""How often do the 95 % intervals hold the true value? A simulation in which the true value is known.

A population of 40,000 queries is drawn from a model with the dependence that real test pairs have: a query has its own
size, classes and difficulty, and its 15 supports share them. An experiment takes 10 queries a class, as the official
rule does, and asks whether the interval holds the population's value. Run: python benchmarks/coverage.py
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from oshp_bench.metrics.intervals import Resampling, percentile_interval, resampled_figures
from oshp_bench.metrics.measures import Roles
from oshp_bench.metrics.scores import Statistics, kway_statistics, oneway_statistics

CLASSES, SUPPORTS, QUERIES_PER_CLASS = 12, 15, 10
ROLES = Roles(ids=tuple(range(CLASSES)), base=tuple(range(1, 9)), novel=(9, 10, 11))


def population(queries: int, generator: np.random.Generator) -> dict[str, Statistics]:
    """Statistics summed over each query's 15 pairs; query i was drawn for class 1 + i mod 11."""
    target = 1 + np.arange(queries) % (CLASSES - 1)
    present = generator.random((queries, CLASSES)) < np.linspace(0.95, 0.25, CLASSES)
    present[:, 0] = True
    present[np.arange(queries), target] = True
    areas = generator.lognormal(np.linspace(9, 7.5, CLASSES), 0.6, (queries, CLASSES)) * present
    areas[:, 0] = areas[:, 1:].sum(axis=1) * generator.uniform(1.5, 4, queries)
    difficulty = generator.normal(0, 0.8, (queries, 1)) + generator.normal(0, 0.5, (queries, CLASSES))
    skill = np.where(np.isin(np.arange(CLASSES), ROLES.novel), -0.8, 0.9)
    parts: dict[str, list[Statistics]] = {"k": [], "1": []}
    for start in range(0, queries, 1_000):
        some = slice(start, start + 1_000)
        counts = _pairs(areas[some], difficulty[some] + skill, generator)
        targets = np.repeat(target[some], SUPPORTS)
        predicted = counts[:, :, :CLASSES]
        foreground = np.take_along_axis(predicted, targets[:, None, None], axis=2)[:, :, 0]
        binary = np.stack([predicted.sum(axis=2) - foreground, foreground], axis=2)
        query = np.repeat(np.arange(len(target[some])), SUPPORTS)
        parts["k"].append(kway_statistics(counts, ROLES).by_query(query))
        parts["1"].append(oneway_statistics(binary, targets, ROLES, bi_step=1).by_query(query))
    return {way: _stacked(each) for way, each in parts.items()}


def _pairs(
    areas: NDArray[np.float64], quality: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Confusion matrices of 15 pairs a query: int64 [15 queries, C, C + 1]."""
    areas = np.repeat(areas, SUPPORTS, axis=0)
    noisy = np.repeat(quality, SUPPORTS, axis=0) + generator.normal(0, 0.4, areas.shape)
    recall = 1 / (1 + np.exp(-noisy))
    recall[:, 0] = 0.9 + 0.1 * recall[:, 0]
    counts = np.zeros((*areas.shape, CLASSES + 1))
    index = np.arange(CLASSES)
    counts[:, index, index] = areas * recall
    lost = areas * (1 - recall)
    counts[:, 1:, 0] += 0.6 * lost[:, 1:]
    elsewhere = generator.dirichlet(np.full(CLASSES, 0.3), areas.shape)
    counts[:, :, :CLASSES] += np.where(index > 0, 0.4, 1.0)[:, None] * lost[:, :, None] * elsewhere
    return counts.astype(np.int64)


def _stacked(parts: list[Statistics]) -> Statistics:
    return Statistics(parts[0].way, parts[0].roles, np.concatenate([part.values for part in parts]), parts[0].columns)


def coverage(
    whole: Statistics, truth: Mapping[str, float | None], experiments: int, resamples: int
) -> dict[str, tuple[float, float]]:
    """Figure -> (share of intervals that hold the true value, mean width of the interval)."""
    generator = np.random.default_rng(7)
    held: dict[str, list[tuple[bool, float]]] = {}
    by_class = [np.arange(start, len(whole.values), CLASSES - 1) for start in range(CLASSES - 1)]
    for number in range(experiments):
        chosen = np.concatenate([generator.choice(queries, QUERIES_PER_CLASS) for queries in by_class])
        sample = Statistics(whole.way, whole.roles, whole.values[chosen], whole.columns)
        for name, values in resampled_figures(sample, Resampling(resamples, seed=number)).items():
            low, high = percentile_interval(values, 0.95, sample.queries_behind(name))
            true = truth[name]
            if low is not None and high is not None and true is not None:
                held.setdefault(name, []).append((low <= true <= high, high - low))
    return {
        name: (float(np.mean([hit for hit, _ in rows])), float(np.mean([width for _, width in rows])))
        for name, rows in held.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=1_000)
    parser.add_argument("--resamples", type=int, default=1_000)
    options = parser.parse_args()
    populations = population(40_000, np.random.default_rng(1))
    print("| figure | true value | intervals that contain it | mean width |\n|---|---:|---:|---:|")
    for whole in populations.values():
        truth = whole.figures()
        for name, (share, width) in coverage(whole, truth, options.experiments, options.resamples).items():
            print(f"| {name} | {100 * (truth[name] or 0):.1f} | {100 * share:.1f} % | {100 * width:.1f} |")


if __name__ == "__main__":
    main()
