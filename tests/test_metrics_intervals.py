"""Bootstrap and paired test against loops over the same draws, and the stream that the draws come from."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest
from metrics_cases import fast_result, mask_of
from slow_scorer import SlowPair, slow_score

from oshp_bench.datasets.images import Mask
from oshp_bench.errors import OshpError
from oshp_bench.metrics import Resampling, Result, compare
from oshp_bench.metrics.intervals import percentile_interval, query_indices, resampled_figures
from oshp_bench.metrics.measures import Floats
from oshp_bench.randomness import Stream

ROLES = {0: "background", 1: "base", 2: "novel", 3: "novel"}
CONVENTIONS = pytest.mark.parametrize("convention", ["default", "official-2023"])


class Sets:
    """Pairs over a few queries with two sets of predictions; `share` of the pixels are right."""

    def __init__(self, queries: int, first: float, second: float, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        # Named so that the order of names is not that of first use.
        names = [f"q{(7 * query + 3) % 100:02d}" for query in range(queries)]
        self.truth = {name: generator.integers(0, 4, (5, 6)).astype(np.uint8) for name in names}
        support = frozenset({1, 2, 3})
        self.pairs = [
            SlowPair(name, target, support, support - {(target % 3) + 1})
            for target in (1, 2, 3)
            for name in names
            for _ in range(generator.integers(1, 3))
        ]
        self.kway: list[list[Mask]] = []
        self.oneway: list[list[Mask]] = []
        for share in (first, second):
            kway = []
            for pair in self.pairs:
                mask = self.truth[pair.query]
                noise = generator.integers(0, 4, mask.shape)
                kway.append(np.where(generator.random(mask.shape) < share, mask, noise).astype(np.uint8))
            self.kway.append(kway)
            self.oneway.append(
                [(mask == pair.target).astype(np.uint8) for mask, pair in zip(kway, self.pairs, strict=True)]
            )

    def result(self, which: int, resampling: Resampling, convention: str = "default") -> Result:
        return fast_result(
            self.pairs, ROLES, 4, self.truth, self.kway[which], self.oneway[which], convention, resampling
        )

    def slow(
        self, draws: list[str], kway: list[Mask], oneway: list[Mask], convention: str = "default"
    ) -> dict[str, float | None]:
        """The slow scorer's figures of drawn queries: each comes with all its pairs, as often as it was drawn."""
        chosen = [i for query in draws for i, pair in enumerate(self.pairs) if pair.query == query]
        return slow_score(
            [self.pairs[i] for i in chosen],
            ROLES,
            frozenset(),
            self.truth,
            [kway[i] for i in chosen],
            [oneway[i] for i in chosen],
            convention,
        )


def test_the_bootstrap_is_a_loop_over_drawn_queries() -> None:
    sets = Sets(queries=5, first=0.5, second=0.5)
    resampling = Resampling(40, seed=3)
    result = sets.result(0, resampling)
    query = query_indices(result.pairs.query)
    spread: dict[str, Floats] = {}
    for each in result.per_pair:
        spread |= resampled_figures(each.by_query(query), resampling)
    names = sorted(sets.truth)
    draws = Stream("bootstrap", 3).integers(5, 40 * 5).reshape(40, 5)
    for resample, row in enumerate(draws.tolist()):
        slow = sets.slow([names[index] for index in row], sets.kway[0], sets.oneway[0])
        assert slow.keys() == spread.keys()
        for name, value in slow.items():
            got = float(spread[name][resample])
            # A single ratio is equal; a mean of ratios is a sum of rounded numbers.
            single = name.split("/")[1] in ("iou", "accuracy", "overall_accuracy") and name != "1way/iou/0"
            assert got == (value if single else pytest.approx(value, rel=1e-11)), name
    for name, values in spread.items():
        assert (result.figures[name].low, result.figures[name].high) == percentile_interval(values, 0.95, 5)


def test_the_bootstrap_of_the_official_bi_miou_keeps_the_place_of_pairs_in_the_list() -> None:
    sets = Sets(queries=12, first=0.5, second=0.5)
    assert len(sets.pairs) > 40
    resampling = Resampling(25, seed=1)
    result = sets.result(0, resampling, "official-2023")
    (_, oneway) = result.per_pair
    spread = resampled_figures(oneway.by_query(query_indices(result.pairs.query)), resampling)["1way/bi_miou"]
    names = sorted(sets.truth)
    tenth = range(0, len(sets.pairs), 10)
    for resample, row in enumerate(Stream("bootstrap", 1).integers(12, 25 * 12).reshape(25, 12).tolist()):
        cells = np.zeros(4)
        for query in row:
            for pair in tenth:
                if sets.pairs[pair].query == names[query]:
                    true, said = sets.truth[names[query]] == sets.pairs[pair].target, sets.oneway[0][pair] != 0
                    cells += [(true & said).sum(), (true & ~said).sum(), (~true & said).sum(), (~true & ~said).sum()]
        hit, missed, wrong, left = cells
        with np.errstate(invalid="ignore"):
            expected = (hit / (hit + missed + wrong) + left / (left + missed + wrong)) / 2
        assert spread[resample] == pytest.approx(expected, nan_ok=True)


@CONVENTIONS
def test_the_same_seed_gives_the_same_result_and_another_does_not(convention: str) -> None:
    sets = Sets(queries=8, first=0.6, second=0.6)
    first = sets.result(0, Resampling(300, 0), convention).to_json()
    assert sets.result(0, Resampling(300, 0), convention).to_json() == first
    other = sets.result(0, Resampling(300, 1), convention).to_json()
    assert {name: each["value"] for name, each in other["figures"].items()} == {
        name: each["value"] for name, each in first["figures"].items()
    }
    assert other["figures"]["kway/human_miou"]["low"] != first["figures"]["kway/human_miou"]["low"]


def test_more_resamples_go_on_where_fewer_stop() -> None:
    # Resamples are made in blocks of 1,000.
    result = Sets(queries=6, first=0.5, second=0.5).result(0, Resampling(0))
    by_query = result.per_pair[0].by_query(query_indices(result.pairs.query))
    few, many = (resampled_figures(by_query, Resampling(count, 5)) for count in (1_000, 2_500))
    for name, values in few.items():
        assert many[name].shape == (2_500,)
        assert (many[name][:1_000] == values).all()


def test_the_order_of_pairs_does_not_change_intervals() -> None:
    sets = Sets(queries=6, first=0.5, second=0.5)
    before = sets.result(0, Resampling(200)).figures
    order = np.random.default_rng(1).permutation(len(sets.pairs)).tolist()
    sets.pairs = [sets.pairs[i] for i in order]
    sets.kway[0], sets.oneway[0] = ([each[i] for i in order] for each in (sets.kway[0], sets.oneway[0]))
    assert sets.result(0, Resampling(200)).figures == before


@CONVENTIONS
def test_intervals_hold_the_figure(convention: str) -> None:
    figures = Sets(queries=30, first=0.6, second=0.6).result(0, Resampling(500), convention).figures
    assert len(figures) > 30
    for name, figure in figures.items():
        if figure.value is not None:
            assert figure.low is not None, name
            assert figure.high is not None, name
            assert 0 <= figure.low <= figure.value <= figure.high <= 1, name


def test_an_interval_by_hand() -> None:
    # Of a million queries the tails are 2.5 %: of 0..1001 the order statistics floor(25.025) and ceil(975.975).
    values = np.random.default_rng(0).permutation(1002).astype(np.float64)
    assert percentile_interval(values, 0.95, 10**6) == (25, 976)
    # Of 2 queries t is 12.7062, times sqrt(2) 17.97: nothing is cut off.
    assert percentile_interval(values, 0.95, 2) == (0, 1001)
    # Of 10 queries: -2.2622 * sqrt(10 / 9) = -2.3845, whose normal tail is 0.855 %: 8.56 and 992.44.
    assert percentile_interval(values, 0.95, 10) == (8, 993)
    assert percentile_interval(values, 0.95, 1) == (None, None)
    values[:10] = np.nan
    assert percentile_interval(values, 0.95, 2) != (None, None)
    values[:11] = np.nan
    assert percentile_interval(values, 0.95, 2) == (None, None)
    assert percentile_interval(np.full(5, np.nan), 0.95, 2) == (None, None)


def test_equal_sets_do_not_differ() -> None:
    sets = Sets(queries=7, first=0.6, second=0.6)
    sets.kway[1], sets.oneway[1] = sets.kway[0], sets.oneway[0]
    first, second = (sets.result(which, Resampling(300)) for which in (0, 1))
    for difference in compare(first, second).values():
        assert (difference.value, difference.low, difference.high, difference.p_value) == (0, 0, 0, 1)


def test_differences_change_their_sign_with_the_order_of_the_sets() -> None:
    sets = Sets(queries=7, first=0.4, second=0.6)
    results = [sets.result(which, Resampling(300)) for which in (0, 1)]
    there, back = compare(*results), compare(*reversed(results))
    for name, difference in there.items():
        a, b = (result.figures[name].value for result in results)
        assert a is not None
        assert b is not None
        assert difference.value == b - a
        assert back[name].value == a - b
        assert back[name].low == pytest.approx(-(difference.high or 0), abs=1e-15)
        assert back[name].p_value == difference.p_value


def p_values_by_enumeration(sets: Sets, name: str) -> tuple[float, dict[tuple[int, ...], bool]]:
    """The exact p-value over all swaps of queries, and which swaps are at least as far as what was observed."""
    queries = sorted(sets.truth)

    def difference(swaps: tuple[int, ...]) -> float:
        swapped = dict(zip(queries, swaps, strict=True))
        figures = []
        for which in (0, 1):
            chosen = [which ^ swapped[pair.query] for pair in sets.pairs]
            kway, oneway = ([each[c][i] for i, c in enumerate(chosen)] for each in (sets.kway, sets.oneway))
            value = sets.slow(list(dict.fromkeys(pair.query for pair in sets.pairs)), kway, oneway)[name]
            assert value is not None
            figures.append(value)
        return figures[1] - figures[0]

    observed = abs(difference((0,) * len(queries)))
    far = {
        swaps: abs(difference(swaps)) >= observed - 1e-12 for swaps in itertools.product((0, 1), repeat=len(queries))
    }
    return sum(far.values()) / len(far), far


@pytest.mark.parametrize("name", ["kway/human_miou", "kway/episode_novel_miou", "1way/bi_miou", "kway/iou/2"])
def test_the_p_value_is_a_count_over_the_drawn_swaps(name: str) -> None:
    sets = Sets(queries=3, first=0.45, second=0.6, seed=2)
    exact, far = p_values_by_enumeration(sets, name)
    results = [sets.result(which, Resampling(4_000, seed=9)) for which in (0, 1)]
    found = compare(*results)[name].p_value
    draws = Stream("randomisation", 9).integers(2, 4_000 * 3).reshape(4_000, 3).tolist()
    assert found == (1 + sum(far[tuple(row)] for row in draws)) / 4_001
    # Four standard errors of 4,000 draws.
    assert found == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 4_000) ** 0.5 + 1 / 4_000)


def test_a_set_that_is_better_on_every_query_gets_the_smallest_p_value_there_is() -> None:
    # Only "swap nothing" and "swap all" are as far: 2 of 2^6 swaps.
    sets = Sets(queries=6, first=0.0, second=1.0)
    name = "kway/overall_accuracy"
    exact, far = p_values_by_enumeration(sets, name)
    assert exact == 2 / 64
    results = [sets.result(which, Resampling(2_000)) for which in (0, 1)]
    draws = Stream("randomisation", 0).integers(2, 2_000 * 6).reshape(2_000, 6).tolist()
    assert compare(*results)[name].p_value == (1 + sum(len(set(row)) == 1 for row in draws)) / 2_001
    assert sum(far.values()) == 2


def test_a_difference_without_resamples_is_a_value_alone() -> None:
    sets = Sets(queries=3, first=0.4, second=0.6)
    results = [sets.result(which, Resampling(0)) for which in (0, 1)]
    for name, difference in compare(*results).items():
        a, b = (result.figures[name].value for result in results)
        assert a is not None
        assert b is not None
        assert (difference.value, difference.low, difference.high, difference.p_value) == (b - a, None, None, None)


def test_a_figure_that_a_swap_takes_away_counts_as_far() -> None:
    # Class 2 stands in no truth and was predicted on a alone, by the second set alone: IoU 2 is None against 0.
    # Class 3 was predicted by the first set on a, by the second on b. Swapping one query leaves a set without a 3.
    support = frozenset({1, 2, 3})
    pairs = [SlowPair("a", 1, support, support), SlowPair("b", 1, support, support)]
    truth = {"a": mask_of("0 1"), "b": mask_of("0 1")}
    first = fast_result(pairs, ROLES, 4, truth, [mask_of("3 1"), mask_of("0 1")], None, resampling=Resampling(100))
    second = fast_result(pairs, ROLES, 4, truth, [mask_of("2 1"), mask_of("0 3")], None, resampling=Resampling(100))
    differences = compare(first, second)
    assert differences["kway/iou/2"].value is differences["kway/iou/2"].p_value is None
    assert differences["kway/iou/3"].value == 0
    assert differences["kway/iou/3"].p_value == 1


def test_results_that_cannot_be_compared() -> None:
    sets = Sets(queries=3, first=0.4, second=0.6)
    first = sets.result(0, Resampling(10))
    with pytest.raises(OshpError, match="cannot be compared"):
        compare(first, sets.result(1, Resampling(10), "official-2023"))
    with pytest.raises(OshpError, match="cannot be compared"):
        compare(first, Sets(queries=4, first=0.4, second=0.6).result(0, Resampling(10)))
    kway = fast_result(sets.pairs, ROLES, 4, sets.truth, sets.kway[0], None)
    oneway = fast_result(sets.pairs, ROLES, 4, sets.truth, None, sets.oneway[0])
    with pytest.raises(OshpError, match=r"cannot be compared: .*ways:k.* and .*ways:1"):
        compare(kway, oneway)


def test_the_stream_is_shake256_of_key_and_block() -> None:
    # 65,536 bytes a block are 8,192 words; word 8,192 is the first of block 1.
    blocks = [hashlib.shake_256(f"shake256-counter/1\0bootstrap\x007\0{i}".encode()).digest(1 << 16) for i in (0, 1)]
    stream = Stream("bootstrap", 7)
    words = np.concatenate([stream.words(3), stream.words(8_192), stream.words(0), stream.words(5)])
    expected = [int.from_bytes(b"".join(blocks)[8 * i : 8 * i + 8], "little") for i in range(8_200)]
    assert words.tolist() == expected


def test_golden_values_of_the_stream() -> None:
    assert Stream("bootstrap", 0).words(2).tolist() == [13677678967115284709, 10098018663409133924]
    assert Stream("bootstrap", 0).integers(110, 8).tolist() == [81, 60, 104, 85, 14, 70, 29, 64]
    assert Stream("randomisation", 0).integers(2, 16).tolist() == [1, 1, 1, 0, 0, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1]
    assert Stream("a", "b").words(1).tolist() != Stream("ab").words(1).tolist()


@pytest.mark.parametrize("bound", [2, 7, 110])
def test_integers_are_uniform(bound: int) -> None:
    # Chi-square with bound - 1 degrees of freedom: mean bound - 1, variance 2 (bound - 1); five sigma.
    counts = np.bincount(Stream("uniform").integers(bound, 200_000), minlength=bound)
    assert len(counts) == bound
    statistic = float(((counts - 200_000 / bound) ** 2).sum() / (200_000 / bound))
    assert abs(statistic - (bound - 1)) < 5 * (2 * (bound - 1)) ** 0.5
