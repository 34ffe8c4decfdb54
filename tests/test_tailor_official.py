"""The official rule: by hand on a few images, then on the published lists and the real masks."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from oshp_bench.datasets.labels import OfficialRule, load_spec
from oshp_bench.datasets.sources import find_source
from oshp_bench.errors import OshpError
from oshp_bench.manifest import Manifest
from oshp_bench.tailor.build import Recipe, build_manifest
from oshp_bench.tailor.pairs import official_pairs

NAMES = {0: "background", 1: "hat", 2: "bag"}
# Bag is drawn first: two queries of two supports a class.
RULE = OfficialRule(order=(2, 1), queries_per_class=2, supports_per_query=2, supports="unused", min_pixels=1)
QUERIES = {"a": (1, 2), "b": (2,), "c": (1,), "d": (1, 2), "e": (1,)}
SUPPORTS = {"p": (1, 2), "q": (1,), "r": (2,), "s": (1, 2), "t": (2,), "u": (1,), "v": (), "w": (1,), "x": (1,)}


def tailored(name: str, root: Path, fold: int = 1, *, raw: bool = False) -> Manifest:
    recipe = Recipe(load_spec(name), fold, raw=raw)
    return build_manifest(recipe, find_source(recipe.tailored_spec.dataset, root))


def test_unused_supports_by_hand() -> None:
    # Bag: queries a, b; supports p, r, s, t. Hat: a is taken, so c, d; p and s are taken, so q, u, w, x.
    assert official_pairs(RULE, NAMES, QUERIES, SUPPORTS) == [
        ("a", "p", 2),
        ("a", "r", 2),
        ("b", "s", 2),
        ("b", "t", 2),
        ("c", "q", 1),
        ("c", "u", 1),
        ("d", "w", 1),
        ("d", "x", 1),
    ]


def test_cyclic_supports_by_hand() -> None:
    supports = {"p": (1, 2), "q": (1,), "r": (2,), "s": (1, 2)}
    # Bag: p, r, s, then p again. Hat: p, q, s although bag has used p and s, then p again.
    assert official_pairs(replace(RULE, supports="cyclic"), NAMES, QUERIES, supports) == [
        ("a", "p", 2),
        ("a", "r", 2),
        ("b", "s", 2),
        ("b", "p", 2),
        ("c", "p", 1),
        ("c", "q", 1),
        ("d", "s", 1),
        ("d", "p", 1),
    ]


def test_every_shortage_is_told() -> None:
    with pytest.raises(OshpError) as error:
        official_pairs(RULE, NAMES, {"a": (1, 2)}, {"p": (2,), "q": (1, 2)})
    bag_queries, bag_supports, hat_queries, hat_supports = error.value.problems
    # Bag takes a, p and q; nothing is left for hat.
    assert bag_queries.startswith("bag: the official rule needs 2 unused images with it in the query pool") and (
        "finds 1;" in bag_queries
    )
    assert "needs 4 unused images with it in the support pool" in bag_supports and "finds 2;" in bag_supports
    assert hat_queries.startswith("hat: ") and "finds 0;" in hat_queries
    assert hat_supports.startswith("hat: ") and "finds 0;" in hat_supports


def test_cyclic_needs_different_supports_for_a_query() -> None:
    with pytest.raises(OshpError, match="bag: the official rule needs 2 unused images with it in the support pool"):
        official_pairs(replace(RULE, supports="cyclic"), NAMES, QUERIES, {"p": (1, 2), "q": (1,)})


def test_atr_gives_the_authors_pairs(test_data: Path) -> None:
    manifest = tailored("atr", test_data / "lists")
    pairs = manifest.pairs
    assert (len(pairs), len(set(pairs.query)), len(set(pairs.support))) == (1650, 110, 1650)
    assert (pairs.query[0], pairs.support[0], pairs.target[0]) == ("2500_100", "2500_1195", 1)
    assert {pool: len(images) for pool, images in manifest.pools.items()} == {
        "query_train": 7500,
        "support_train": 7500,
        "query_test": 201,
        "support_test": 2505,
    }
    # What was measured on the authors' list: where its images come from.
    sources: dict[int, set[str]] = {target: set() for target in manifest.class_ids[1:]}
    for support, target in zip(pairs.support, pairs.target, strict=True):
        sources[target].add(manifest.dataset.source_of(support))
    names = {each.id: each.name for each in manifest.classes}
    far = {names[target] for target, found in sources.items() if found == {"dataset10k"}}
    near = {names[target] for target, found in sources.items() if found == {"2500"}}
    assert far == {"pants", "face", "legs", "arms"}
    assert near >= {"dress", "skirt", "bag", "shoes"}
    assert {manifest.dataset.source_of(query) for query in pairs.query} == {"2500"}


def test_atr_split_is_two_cuts_through_the_sorted_ids(test_data: Path) -> None:
    lists = test_data / "lists"
    train, test = ((lists / f"atr_meta_{part}_id.txt").read_text().split() for part in ("train", "test"))
    ordered = sorted({*train, *test})
    cut = load_spec("atr").lists
    for name, ids in (("train", train), ("test", test)):
        of, ranges = cut[name]
        assert of == "all"
        assert sorted(ids) == [image for start, stop in ranges for image in ordered[start:stop]]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["atr", "cihp"])
def test_pairs_do_not_depend_on_the_fold(test_data: Path, name: str) -> None:
    first, second = (tailored(name, test_data / "lists", fold) for fold in (1, 2))
    assert first.pairs == second.pairs
    assert first.ids_of("novel") != second.ids_of("novel")


def test_cihp_has_just_enough_skirts(test_data: Path) -> None:
    manifest = tailored("cihp", test_data / "lists")
    skirt = next(each.id for each in manifest.classes if each.name == "skirt")
    queries = manifest.pools["query_test"]
    assert len(queries) == 201
    assert sum(skirt in (classes or ()) for classes in queries.values()) == 10
    assert len(manifest.pairs) == 1800
    assert manifest.pairs.target[:150] == (skirt,) * 150
    # The table lists the test images alone, so no pairs for validation.
    assert manifest.validation is None
    assert set(manifest.pools["query_train"].values()) == {None}


@pytest.mark.slow
@pytest.mark.parametrize("raw", [False, True], ids=["corrected", "raw"])
def test_ccp_gives_the_documented_counts(test_data: Path, raw: bool) -> None:
    design = json.loads((test_data / "ccp_os.json").read_text())
    expected = design["counts"]["raw" if raw else "corrected"]
    manifest = tailored("ccp", test_data / "ccp", raw=raw)
    assert manifest.name == ("ccp_fold1_raw" if raw else "ccp_fold1")
    names = {each.id: each.name for each in manifest.classes}
    for pool, images in manifest.pools.items():
        found = Counter(names[each] for classes in images.values() for each in classes or ())
        assert found == expected["images_per_class"][pool]
    assert len(manifest.pairs.queries) == expected["queries_used"]
    assert len(set(manifest.pairs.support)) == expected["distinct_supports_used"]
    rows = {row["class"]: row for row in manifest.coverage}
    assert {name: row["most_uses_of_a_support"] for name, row in rows.items()} == (
        expected["max_uses_of_one_support_per_class"]
    )
    assert {name: row["pairs_with_class_in_both"] for name, row in rows.items()} == (
        expected["pairs_with_class_in_query_and_support"]
    )
