"""Dataset specs: the ones that come with the package, a user's own, and every mistake in one, reported at once."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY
from hypothesis import given, settings
from hypothesis import strategies as st

from oshp_bench.datasets.labels import UNKNOWN, builtin_specs, load_spec, parse_spec
from oshp_bench.errors import OshpError

DOCS = Path(__file__).parents[1] / "docs"


def problems_of(content: dict[str, Any]) -> list[str]:
    with pytest.raises(OshpError) as refused:
        parse_spec(content, "own.toml")
    for problem in refused.value.problems:
        assert problem.startswith("own.toml: ")
        assert problem.isprintable()
    return [problem.removeprefix("own.toml: ") for problem in refused.value.problems]


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    content: dict[str, Any] = copy.deepcopy(TINY)
    change(content)
    return content


@pytest.mark.parametrize(
    ("name", "labels", "classes", "orders", "novel"),
    [
        ("atr", 18, 12, [1, 7, 5, 16, 9, 4, 2, 6, 11, 12, 14], {1: {5, 6, 7}, 2: {1, 4, 16}}),
        ("lip", 20, 13, [10, 6, 12, 1, 2, 5, 7, 9, 13, 14, 16, 18], {1: {6, 9, 12}, 2: {5, 7, 10}}),
        ("cihp", 20, 13, [12, 6, 1, 2, 5, 7, 9, 10, 13, 14, 16, 18], {1: {6, 9, 12}, 2: {1, 5, 7}}),
        ("ccp", 59, 12, [1, 9, 6, 7, 8, 5, 11, 4, 2, 10, 3], {1: {6, 7, 8}, 2: {4, 5, 11}}),
        ("demo", 18, 12, [7, 5, 1, 6, 16, 4, 12, 14, 9, 2, 11], {1: {5, 6, 7}, 2: {1, 4, 16}}),
    ],
)
def test_the_builtin_specs_are_those_of_the_benchmark(
    name: str, labels: int, classes: int, orders: list[int], novel: dict[int, set[int]]
) -> None:
    spec = load_spec(name)
    assert (len(spec.dataset.labels), len(spec.dataset.classes)) == (labels, classes)
    assert list(spec.official.order) == orders
    assert {fold: set(ids) for fold, ids in spec.folds.items()} == novel
    assert set(builtin_specs()) == {"atr", "lip", "cihp", "ccp", "demo"}


def test_atr_merges_left_and_right_and_removes_rare_labels() -> None:
    merge = load_spec("atr").dataset.merge
    expected = [0, 1, 2, 0, 4, 5, 6, 7, 0, 9, 9, 11, 12, 12, 14, 14, 16, 0]
    assert merge[:18].tolist() == expected
    assert set(merge[18:255].tolist()) == {UNKNOWN}
    assert merge[255] == 255
    assert load_spec("atr").dataset.removed_labels == {3, 8, 10, 13, 15, 17}


def test_ccp_corrects_labels_before_the_merge() -> None:
    dataset = load_spec("ccp").dataset
    raw = np.array([dataset.labels.index("dress"), dataset.labels.index("jeans")])
    table = dataset.corrections_of("0238")
    assert table is not None
    assert [dataset.labels[each] for each in table[raw]] == ["skirt", "shirt"]
    assert dataset.corrections_of("0001") is None
    assert sum(len(correction.ids) for correction in dataset.corrections) == 91
    assert len(dataset.exclude) == 15


def test_the_example_of_the_docs_is_a_spec() -> None:
    text = (DOCS / "own_dataset.md").read_text()
    example = tomllib.loads(text.split("```toml\n")[1].split("```")[0])
    spec = parse_spec(example, "own_dataset.md")
    assert spec.dataset.source_of("rome_001") == "rome"
    assert [part.variable for part in spec.dataset.layouts[1].parts] == ["labels", "labels"]
    # Every member that the example uses is explained in a table.
    members = {*example, *example["official"], *(key for part in example["layouts"][0]["parts"] for key in part)}
    tables = "".join(line for line in text.splitlines() if line.startswith("| `"))
    assert [member for member in members if f"{member}`" not in tables and f"[{member}]" not in tables] == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda c: c.update(format="oshp-dataset/2"), 'format is not "oshp-dataset/1"'),
        (lambda c: c.update(name="../tiny"), "name '../tiny' is not lower-case"),
        (lambda c: c.update(version="1.0"), "version '1.0' is not like 1.0.0"),
        (lambda c: c.update(verison="1.0.0"), "unknown member 'verison'"),
        (lambda c: c.update(labels="background"), "labels is 'background', not a list of texts"),
        (lambda c: c["labels"].append("hat"), "label 'hat' is in labels twice"),
        (lambda c: c["labels"].append("a\nb"), "is not 1 to 64 printable characters"),
        (lambda c: c["labels"].append("scarf"), "labels in no class and not removed: scarf"),
        (lambda c: c.update(labels=[f"l{n}" for n in range(255)]), "labels must be 2 to 254 names"),
        (lambda c: c["removed"].append("ring"), "removed names 'ring', which is not a label"),
        (lambda c: c["removed"].append("hat"), "label 'hat' is merged twice: into 'removed (hat)' and 'hat'"),
        (lambda c: c["classes"]["bag"]["labels"].append("hat"), "label 'hat' is merged twice: into 'hat' and 'bag'"),
        (lambda c: c["classes"]["bag"]["labels"].append("tie"), "class 'bag' merges 'tie', which is not a label"),
        (lambda c: c["classes"]["bag"].update(id=1), "class 'bag' has the id 1 of 'hat'"),
        (lambda c: c["classes"]["bag"].update(id=254), "classes.bag: id is 254, not a number from 1 to 253"),
        (lambda c: c["classes"]["bag"].update(id=True), "classes.bag: id is True, not a whole number"),
        (lambda c: c["classes"]["bag"].update(color=1), "classes.bag: unknown member 'color'"),
        (lambda c: c["classes"].update(background={"id": 9, "labels": ["bag"]}), "classes must not list background"),
        (lambda c: c["folds"]["1"].append("scarf"), "fold 1 names 'scarf', which is not a class"),
        (lambda c: c["folds"]["1"].append("bag"), "fold 1 names 'bag' twice"),
        (lambda c: c["folds"].update({"0": ["bag"]}), "fold '0' is not a number from 1 to 99"),
        (lambda c: c["folds"].update({"3": []}), "fold 3 needs at least one novel class"),
        (lambda c: c["folds"].update({"3": list(c["classes"])}), "at least one novel class and one base class"),
        (lambda c: c.update(folds={}), "folds is empty"),
        (lambda c: c["official"]["order"].remove("hair"), "official.order lacks hair"),
        (lambda c: c["official"]["order"].append("tie"), "official.order names 'tie', which is not a class"),
        (lambda c: c["official"].update(supports="any"), 'official: supports must be "unused" or "cyclic"'),
        (lambda c: c["official"].update(min_pixels=0), "official: min_pixels is 0, not a number from 1"),
        (lambda c: c["official"].update(minpixels=1), "official: unknown member 'minpixels'"),
        (lambda c: c["pools"].pop("query_test"), "pools: query_test is missing"),
        (lambda c: c["pools"].update(dev={}), "pools: unknown member 'dev'"),
        (lambda c: c["pools"]["query_test"].update(list="any"), "pools.query_test: taken from the list 'any'"),
        (lambda c: c["pools"]["query_test"].update(stop=0), "pools.query_test: stop is 0, not a number from 1"),
        (lambda c: c["pools"]["query_test"].update(stpo=9), "pools.query_test: unknown member 'stpo'"),
        (lambda c: c.update(lists={"a": {"of": "b", "ranges": [[0, 1]]}}), "lists.a: cut out of the list 'b'"),
        (lambda c: c.update(lists={"a": {"of": "all", "ranges": [[2, 1]]}}), "lists.a: ranges holds [2, 1]"),
        (lambda c: c["counts"].update(al=3), "counts names the list 'al', which neither layouts nor lists define"),
        (lambda c: c.update(exclude={"001": 5}), "exclude: 001 is 5, not a text"),
        (lambda c: c.update(corrections=[{"from": "tie", "to": "bag", "ids": ["1"]}]), "corrections name 'tie'"),
        (lambda c: c.update(corrections=[3]), "corrections 1 is not a table"),
        (lambda c: c.update(corrections=[{"from": "hat", "to": "bag", "ids": ["1"]}] * 2), "change 'hat' of image '1'"),
        (lambda c: c["layouts"][0].update(parts=[]), "layouts 1: has no parts"),
        (lambda c: c["layouts"][0]["parts"][0].pop("mask"), "layouts 1.parts 1: needs ids, or photo and mask"),
        (
            lambda c: c["layouts"][0]["parts"][0].update(mask="../{id}.png"),
            "'../{id}.png' leaves the dataset's folder",
        ),
        (lambda c: c["layouts"][0]["parts"][0].update(mask="/m/{id}.png"), "leaves the dataset's folder"),
        (lambda c: c["layouts"][0]["parts"][0].update(ids="a/../../b"), "leaves the dataset's folder"),
        (lambda c: c["layouts"][0]["parts"][0].update(ids="a\0b"), "leaves the dataset's folder"),
        (lambda c: c["layouts"][0]["parts"][0].update(mask="masks/a.png"), "must contain {id} once"),
        (
            lambda c: c["layouts"][0]["parts"][0].update(mask="{id}/a.png"),
            "must contain {id} once, in the file's name",
        ),
        (lambda c: c["layouts"][0]["parts"][0].update(drawn=10**9), "drawn is 1000000000, not a number from 1"),
    ],
)
def test_every_mistake_is_named(change: Callable[[dict[str, Any]], object], problem: str) -> None:
    found = problems_of(changed(change))
    assert any(problem in each for each in found), found


def test_all_mistakes_are_reported_at_once() -> None:
    def change(content: dict[str, Any]) -> None:
        content["folds"]["1"].append("scarf")
        content["classes"]["bag"]["labels"].append("hat")
        content["labels"].append("ring")
        content["layouts"][0]["parts"][0]["photo"] = "/photos/{id}.jpg"
        del content["version"]
        content["typo"] = 1

    found = problems_of(changed(change))
    for piece in (
        "'scarf'",
        "merged twice",
        "ring",
        "leaves the dataset's folder",
        "version is missing",
        "'typo'",
    ):
        assert sum(piece in each for each in found) == 1, (piece, found)


def test_a_member_of_control_characters_stays_on_one_line() -> None:
    assert any("\\x1b[2J\\n" in each for each in problems_of(changed(lambda c: c.update({"\x1b[2J\n": 1}))))
    assert any("a\\nb" in each for each in problems_of(changed(lambda c: c["classes"].update({"a\nb": {}}))))


def test_unknown_names_and_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OshpError, match="give atr, ccp, cihp, demo, lip"):
        load_spec("art")
    with pytest.raises(OshpError, match="cannot be read"):
        load_spec(str(tmp_path / "none.toml"))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.text(max_size=8)
    | st.sampled_from(["hat", "all", "unused", "{id}", "..", "/", "a\0", "x" * 30_000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.data(), VALUES, st.integers(1, 4))
@settings(max_examples=300, deadline=None)
def test_any_value_anywhere_is_a_spec_or_a_list_of_problems(data: st.DataObject, value: Any, depth: int) -> None:
    content = copy.deepcopy(TINY)
    place: Any = content
    for left in reversed(range(depth)):
        key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        if not left or not isinstance(place[key], dict | list) or not place[key]:
            break
        place = place[key]
    place[key] = value
    try:
        parse_spec(content, "own.toml")
    except OshpError as error:
        assert error.problems
        assert all(problem.isprintable() and len(problem) < 600 for problem in error.problems)
