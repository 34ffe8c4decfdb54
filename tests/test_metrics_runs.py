"""Several training runs: hand-computed parts of the variance, simulated coverage, Holm's correction."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import stdtrit

from oshp_bench.metrics.runs import VariancePart, half_width, holm, p_value


def test_without_training_noise_it_is_students_interval() -> None:
    """t of 9 degrees at 97.5 % is 2.262157; the standard error is sqrt(0.0004) = 0.02."""
    assert half_width(VariancePart(0.0004, 9), [], 0.95) == pytest.approx(2.262157 * 0.02, rel=1e-6)


def test_training_noise_alone_is_students_interval_of_the_runs() -> None:
    """Runs 0.40 and 0.44: variance 0.0008, of their mean 0.0004; t of 1 degree at 97.5 % is 12.7062."""
    assert half_width(VariancePart(0.0, 109), [VariancePart(0.0004, 1)], 0.95) == pytest.approx(
        12.7062 * 0.02, rel=1e-5
    )


def test_equal_parts_by_hand() -> None:
    """Parts of 1 with 100 and 2 degrees: Satterthwaite's are (1 + 1)^2 / (1/100 + 1/2) = 4 / 0.51 = 7.843."""
    short = float(stdtrit(4 / 0.51, 0.975)) * math.sqrt(2)
    long = math.sqrt(float(stdtrit(100, 0.975)) ** 2 + float(stdtrit(2, 0.975)) ** 2)
    assert half_width(VariancePart(1, 100), [VariancePart(1, 2)], 0.95) == pytest.approx((short + long) / 2)


def test_the_p_value_is_where_the_interval_meets_zero() -> None:
    queries, training = VariancePart(0.0004, 109), [VariancePart(0.0002, 1), VariancePart(0.0001, 2)]
    p = p_value(0.08, queries, training)
    assert half_width(queries, training, 1 - p) == pytest.approx(0.08)
    assert p_value(0.0, queries, training) == pytest.approx(1)


@pytest.mark.parametrize("runs", [2, 3, 5])
@pytest.mark.parametrize("noise", [0.1, 1.0, 4.0])
def test_intervals_hold_the_truth_as_often_as_they_say(runs: int, noise: float) -> None:
    """20,000 studies of 110 queries; training varies `noise` times as much as a mean over queries; truth 0."""
    random, studies, queries = np.random.default_rng(0), 20_000, 110
    runs_of = random.normal(size=(studies, runs)) * math.sqrt(noise / queries)
    means = random.normal(size=studies) / math.sqrt(queries) + runs_of.mean(1)
    of_queries = random.chisquare(queries - 1, studies) / (queries - 1) / queries
    of_training = runs_of.var(1, ddof=1) / runs
    held = [
        abs(mean) <= half_width(VariancePart(float(first), queries - 1), [VariancePart(float(second), runs - 1)], 0.95)
        for mean, first, second in zip(means, of_queries, of_training, strict=True)
    ]
    assert 0.93 <= np.mean(held) <= 0.97


def test_holm_by_hand() -> None:
    """0.01 x 4, 0.02 x 3, 0.03 x 2 = 0.06, and 0.5 x 1."""
    assert holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
