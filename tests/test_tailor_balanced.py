"""The balanced protocol: what it promises, on random pools and on the published lists."""

from __future__ import annotations

from collections import Counter
from itertools import groupby, product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oshp_bench.datasets.labels import load_spec
from oshp_bench.datasets.sources import find_source
from oshp_bench.errors import OshpError
from oshp_bench.files import content_digest
from oshp_bench.manifest import Manifest
from oshp_bench.randomness import Stream
from oshp_bench.tailor.build import Recipe, build_manifest
from oshp_bench.tailor.pairs import Pool, balanced_pairs, even_pairs, exchanged, halves

ORDER = (3, 1, 2)
NAMES = {0: "background", 1: "hat", 2: "bag", 3: "cape"}


def source_of(image: str) -> str:
    return image[0]


@st.composite
def pools(draw: st.DrawFn, prefix: str) -> Pool:
    """Images a000..., b000..., c000... of three sources that hold any of three classes."""
    classes = draw(
        st.lists(st.tuples(st.sampled_from("abc"), st.sets(st.sampled_from(ORDER))), min_size=1, max_size=60)
    )
    images = {f"{source}{prefix}{index:03d}": tuple(sorted(held)) for index, (source, held) in enumerate(classes)}
    return dict(sorted(images.items()))


def regular_pool(prefix: str, count: int) -> Pool:
    """Image i holds class 1 if i % 2 = 0, class 2 if i % 3 = 0, class 3 if i % 5 = 0; its source is a if i % 2 = 0."""
    return {
        f"{'ab'[index % 2]}{prefix}{index:03d}": tuple(
            target for target, step in ((1, 2), (2, 3), (3, 5)) if index % step == 0
        )
        for index in sorted(range(count), key=lambda index: (index % 2, index))
    }


@pytest.mark.slow
@given(pools("x"), st.integers(0, 3))
def test_halves_are_alike(images: Pool, seed: int) -> None:
    first, second = halves(images, ORDER, source_of, Stream("test", seed))
    assert {**first, **second} == images
    assert not first.keys() & second.keys()
    assert abs(len(first) - len(second)) <= 1
    assert [list(first), list(second)] == [sorted(first), sorted(second)]
    sources = {source_of(image) for image in images}
    for source in sources:
        mine = [sum(source_of(image) == source for image in half) for half in (first, second)]
        # Twins are of different sources only where one source ends and the next begins.
        assert abs(mine[0] - mine[1]) <= 2
    rarest = [sum(ORDER[0] in held for held in half.values()) for half in (first, second)]
    assert abs(rarest[0] - rarest[1]) <= 2 * len(sources)


@pytest.mark.slow
@given(pools("q"), pools("s"), st.integers(1, 200), st.integers(0, 3))
@settings(max_examples=200)
def test_pairs_are_different_and_images_are_used_alike(queries: Pool, supports: Pool, most: int, seed: int) -> None:
    pairs = even_pairs(1, queries, supports, most, source_of, ("test", seed))
    mine, theirs = ([image for image, held in pool.items() if 1 in held] for pool in (queries, supports))
    assert len(set(pairs)) == len(pairs) == min(most, len(mine) * len(theirs))
    assert {target for _, _, target in pairs} <= {1}
    for holders, drawn in ((mine, [query for query, _, _ in pairs]), (theirs, [support for _, support, _ in pairs])):
        uses = Counter(drawn)
        assert uses.keys() <= set(holders)
        if pairs:
            assert len(uses) == min(len(pairs), len(holders))
            assert max(uses.values()) - min(uses.values()) <= 1
        # A source gives fewer distinct images than another (by more than one) only when it has no more.
        held, given_ = (Counter(map(source_of, images)) for images in (holders, uses))
        for few, many in product(held, repeat=2):
            assert given_[few] >= given_[many] - 1 or given_[few] == held[few]
    # Query by query: a query comes once, with all its supports.
    assert [query for query, _ in groupby(pair[0] for pair in pairs)] == list(dict.fromkeys(pair[0] for pair in pairs))


def test_all_combinations_of_sources_come_equally_often() -> None:
    queries, supports = (dict.fromkeys(regular_pool(prefix, 40), (1,)) for prefix in "qs")
    pairs = even_pairs(1, queries, supports, 40, source_of, ("test", 0))
    combined = Counter((source_of(query), source_of(support)) for query, support, _ in pairs)
    # 40 pairs of 2 x 2 sources.
    assert set(combined.values()) == {10}


def test_a_query_meets_a_support_for_one_class_alone() -> None:
    met = {("q1", "s1"), ("q2", "s2"), ("q3", "s1")}
    # q1 takes the support of the next pair that may have its own: not of q3, which has met s1, but of q4.
    pairs = [("q1", "s1", 5), ("q3", "s3", 5), ("q4", "s4", 5)]
    assert exchanged(pairs, met, source_of) == [("q1", "s4", 5), ("q3", "s3", 5), ("q4", "s1", 5)]
    # A support of the same source goes first.
    pairs = [("q1", "s1", 5), ("q4", "t4", 5), ("q5", "s5", 5)]
    assert exchanged(pairs, met, source_of) == [("q1", "s5", 5), ("q4", "t4", 5), ("q5", "s1", 5)]
    # What no exchange can free stays.
    assert exchanged([("q1", "s1", 5), ("q3", "s3", 5)], met, source_of) == [("q1", "s1", 5), ("q3", "s3", 5)]


@given(pools("q"), pools("s"), st.integers(1, 60), st.integers(0, 3))
def test_exchanging_keeps_images_and_adds_no_repetition(queries: Pool, supports: Pool, most: int, seed: int) -> None:
    first, second = (even_pairs(target, queries, supports, most, source_of, ("test", seed)) for target in (1, 2))
    met = {(query, support) for query, support, _ in first}
    found = exchanged(second, met, source_of)
    assert len(set(found)) == len(second)
    assert [query for query, _, _ in found] == [query for query, _, _ in second]
    assert Counter(support for _, support, _ in found) == Counter(support for _, support, _ in second)
    repeated = [len({(query, support) for query, support, _ in pairs} & met) for pairs in (found, second)]
    assert repeated[0] <= repeated[1]


def test_pairs_of_two_classes_are_different_where_the_pools_allow_it() -> None:
    queries, supports = regular_pool("q", 60), regular_pool("s", 70)
    pairs = balanced_pairs(ORDER, NAMES, queries, supports, source_of, ("test", 0))
    alone = [
        pair
        for target in ORDER
        for pair in even_pairs(target, queries, supports, 150, source_of, ("test", 0, NAMES[target]))
    ]
    assert len({(query, support) for query, support, _ in alone}) < len(alone)
    assert len({(query, support) for query, support, _ in pairs}) == len(pairs) == 450


def test_pairs_never_change() -> None:
    queries, supports = regular_pool("q", 60), regular_pool("s", 70)
    halved = halves({**queries, **supports}, ORDER, source_of, Stream("test", 0))
    pairs = balanced_pairs(ORDER, NAMES, queries, supports, source_of, ("test", 0))
    assert (
        content_digest([list(half) for half in halved])
        == "sha256:bef57c430bd5f91642a29ab24c2f6ace9114ed4b3f13c160f4e66364161d5628"
    )
    assert content_digest(pairs) == "sha256:7453bcea87942131b6651cee1c21f1f095f98cab3bd2e23b74e3cf49df34caf8"
    assert pairs != balanced_pairs(ORDER, NAMES, queries, supports, source_of, ("test", 1))


def test_too_few_pairs_are_told_for_every_class() -> None:
    with pytest.raises(OshpError) as error:
        balanced_pairs(ORDER, NAMES, regular_pool("q", 21), regular_pool("s", 24), source_of, ("test", 0))
    # Of 21 queries 5 hold the cape (0, 5, 10, 15, 20), 11 the hat, 7 the bag; of 24 supports 5, 12, 8.
    assert error.value.problems == (
        "cape: 5 queries and 5 supports hold it, which gives 25 different pairs; 150 are needed",
        "hat: 11 queries and 12 supports hold it, which gives 132 different pairs; 150 are needed",
        "bag: 7 queries and 8 supports hold it, which gives 56 different pairs; 150 are needed",
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["atr", "cihp"])
def test_published_lists(test_data: Path, name: str) -> None:
    manifest = balanced(name, test_data, 0)
    official = build_manifest(Recipe(load_spec(name), 1), find_source(load_spec(name).dataset, test_data / "lists"))
    for pool in ("query_train", "support_train"):
        assert manifest.pools[pool] == official.pools[pool]
    both = [{**each.pools["query_test"], **each.pools["support_test"]} for each in (manifest, official)]
    assert both[0] == both[1]
    for row in manifest.coverage:
        assert (row["pairs"], row["distinct_pairs"], row["queries"], row["supports"]) == (150,) * 4
    images = {
        target: [
            (manifest.dataset.source_of(query), manifest.dataset.source_of(support))
            for query, support, each in zip(
                manifest.pairs.query, manifest.pairs.support, manifest.pairs.target, strict=True
            )
            if each == target
        ]
        for target in manifest.class_ids[1:]
    }
    for combined in images.values():
        # Every source has at least 50 images of every class here.
        for side in (0, 1):
            uses = Counter(pair[side] for pair in combined).values()
            assert max(uses) - min(uses) <= 1
    assert balanced(name, test_data, 1).pairs != manifest.pairs


def balanced(name: str, test_data: Path, seed: int) -> Manifest:
    spec = load_spec(name)
    return build_manifest(Recipe(spec, 1, "balanced", seed), find_source(spec.dataset, test_data / "lists"))
