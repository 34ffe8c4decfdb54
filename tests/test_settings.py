"""Typed settings from tables and texts: what fits is taken, everything else is named, and TOML gives back the same."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oshp_bench.baselines.settings import (
    Explained,
    Layer,
    as_table,
    as_toml,
    assignments,
    at_test,
    changed,
    changed_at_test,
    differences,
    explained,
    layered,
)
from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.ranges import Range, outside


@dataclass(frozen=True)
class Inner:
    on: bool = True
    depth: Annotated[int, Range(0, 9)] = 3
    """How deep it is,
    in metres."""

    def __post_init__(self) -> None:
        raise_problems(outside(self))


@dataclass(frozen=True)
class Options:
    rate: Annotated[float, Range(0, 1)] = 0.5
    """How fast it is."""
    count: int = 2
    most: Annotated[int | None, Range(1, 100)] = None
    name: str = "x"
    path: str | None = None
    way: Literal["k", "1"] = "k"
    scale: tuple[float, float] = (0.5, 2.0)
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        raise_problems(outside(self))


DEEP = '{"a":' * 2000 + "1" + "}" * 2000


def refusal(options: Any, table: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(OshpError) as raised:
        changed(options, table, "here")
    return raised.value.problems


def set_to(*texts: str) -> Options:
    layer, problems = assignments(texts)
    return layered(Options(), [layer], problems)


def test_values_replace_members_and_nothing_else() -> None:
    table = {"rate": 1, "most": 7, "way": 1, "scale": [1, 2.5], "inner": {"on": False}}
    assert changed(Options(), table, "here") == Options(
        rate=1.0, most=7, way="1", scale=(1.0, 2.5), inner=Inner(on=False)
    )
    assert changed(Options(rate=0.25), {}, "here") == Options(rate=0.25)


def test_texts_are_numbers_lists_and_nested_names() -> None:
    assert set_to("rate=1e-3", "scale=[1, 2]", " inner.on = false ", "name=two words = 2") == Options(
        rate=0.001, scale=(1.0, 2.0), inner=Inner(on=False), name="two words = 2"
    )
    assert set_to('inner={"depth": 5}', "inner.on=false", "way=1") == Options(inner=Inner(False, 5), way="1")
    assert set_to("rate=0.1", "rate=0.2").rate == 0.2


@pytest.mark.parametrize("text", ["none", "None", "null"])
def test_none_is_said_in_a_text(text: str) -> None:
    layer, problems = assignments([f"most={text}", f"path={text}"])
    assert layered(Options(most=3, path="a"), [layer], problems) == Options()


def test_every_mistake_is_named_with_its_place() -> None:
    table = {
        "rat": 1,
        "zzz": 1,
        "count": 1.0,
        "most": "many",
        "name": 3,
        "way": "2",
        "scale": [1],
        "inner": {"dept": 1, "on": 1, "depth": 10},
        "rate": 7,
    }
    known = "count, inner, most, name, path, rate, scale, way"
    assert refusal(Options(), table) == (
        "here: no setting is called 'rat'; did you mean rate?",
        f"here: no setting is called 'zzz'; known: {known}",
        "here: count is 1.0, not a whole number",
        "here: most is 'many', not a whole number",
        "here: name is 3, not a text",
        "here: way is '2', not one of k, 1",
        "here: scale is [1], not a list of 2 values",
        "here: no setting is called 'inner.dept'; did you mean inner.depth?",
        "here: inner.on is 1, not true or false",
        "here: inner: depth is 10; it must be 0 to 9",
        "here: rate is 7.0; it must be 0 to 1",
    )


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 10**400, -(10**400), True, "0.5", None, [0.5]])
def test_a_number_is_finite(value: Any) -> None:
    (problem,) = refusal(Options(), {"rate": value})
    assert problem.startswith("here: rate is ") and problem.endswith("number")


@pytest.mark.parametrize("value", [5, "on", ["on"], None])
def test_nested_settings_are_a_table(value: Any) -> None:
    assert refusal(Options(), {"inner": value}) == (f"here: inner is {value!r}, not a table of settings",)


def test_half_a_character_is_no_text() -> None:
    assert refusal(Options(), {"name": "\ud800"}) == (r"here: name is '\ud800', not a text",)


@pytest.mark.parametrize("text", ["rate", "", "rate 0.5"])
def test_an_assignment_has_an_equals_sign(text: str) -> None:
    with pytest.raises(OshpError) as raised:
        set_to(text, "count=x")
    assert raised.value.problems == (
        f"--set {text!r}: give it as name=value, such as lr=0.001",
        "--set: count is 'x', not a whole number",
    )


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (["rate=1", "rate.deep.er=2"], "--set: rate is {'deep': {'er': 2}}, not a number"),
        (["rate.deep=2", "rate=true"], "--set: rate is True, not a number"),
        (["=2"], "--set: no setting is called ''; known: count, inner, most, name, path, rate, scale, way"),
        (["rate" + "." * 90_000 + "=2"], f"--set 'rate{'.' * 55}: give it as name=value, such as lr=0.001"),
        (["rate=" + DEEP], f"--set: rate is '{DEEP[:59]}, not a number"),
        (["count=" + "[" * 100_000], "--set: count is '" + "[" * 59 + ", not a whole number"),
        (["count=" + "9" * 5000], "--set: count is '" + "9" * 59 + ", not a whole number"),
    ],
)
def test_no_assignment_is_lost_or_too_much(texts: list[str], problem: str) -> None:
    with pytest.raises(OshpError) as raised:
        set_to(*texts)
    assert raised.value.problems == (problem,)


def test_later_layers_win_and_only_the_result_has_to_make_sense() -> None:
    layers = [Layer("a", {"rate": 7.0, "inner": {"depth": 99, "on": False}}), Layer("b", {"rate": 1.0})]
    layers.append(Layer("c", {"inner": {"depth": 4}}))
    assert layered(Options(), layers) == Options(rate=1.0, inner=Inner(False, 4))
    with pytest.raises(OshpError) as raised:
        layered(Options(), [*layers, Layer("d", {"rate": 2, "count": "x"})], ["before"])
    assert raised.value.problems == (
        "before",
        "d: count is 'x', not a whole number",
        "a, b, c, d: rate is 2.0; it must be 0 to 1",
    )


def test_differences_are_named_one_by_one() -> None:
    other = Options(rate=0.25, most=3, scale=(1.0, 2.0), inner=Inner(on=False))
    assert differences(Options(), other) == [
        "rate is 0.5, not 0.25",
        'most is "none", not 3',
        "scale is [0.5, 2.0], not [1.0, 2.0]",
        "inner.on is true, not false",
    ]
    assert differences(other, replace(other)) == []


@dataclass(frozen=True)
class AtTest(Options):
    way: Literal["k", "1"] = "1"
    """Which way."""
    gate: bool = at_test(True)
    """Whether it is shut."""
    weight: Annotated[float, Range(0, 2)] = at_test(0.8)
    """How heavy."""


def test_a_setting_is_explained_by_the_text_below_it() -> None:
    """Those of an extended class too; nested ones last."""
    found = {setting.name: setting for setting in explained(AtTest())}
    assert list(found) == [
        "rate",
        "count",
        "most",
        "name",
        "path",
        "way",
        "scale",
        "gate",
        "weight",
        "inner.on",
        "inner.depth",
    ]
    assert found["rate"] == Explained("rate", "0.5", "How fast it is.", "0 to 1")
    assert found["most"] == Explained("most", '"none"', "", "1 to 100")
    assert found["way"] == Explained("way", '"1"', "Which way.", "k, 1")
    assert found["scale"] == Explained("scale", "[0.5, 2.0]", "", "")
    assert found["weight"] == Explained("weight", "0.8", "How heavy. May be changed after training.", "0 to 2")
    assert found["inner.depth"] == Explained("inner.depth", "3", "How deep it is, in metres.", "0 to 9")


def test_toml_can_carry_the_explanations() -> None:
    text = as_toml(AtTest(), commented=True)
    assert '\n# Which way. (k, 1)\nway = "1"\n' in text and "\n[inner]\non = true\n# How deep it is," in text
    assert tomllib.loads(text) == tomllib.loads(as_toml(AtTest()))


def test_a_class_without_source_has_settings_without_explanations() -> None:
    names: dict[str, Any] = {"dataclass": dataclass}
    exec("@dataclass(frozen=True)\nclass Typed:\n    speed: int = 1\n    'How fast.'\n", names)
    assert list(explained(names["Typed"]())) == [Explained("speed", "1", "", "")]


def test_at_test_only_what_training_does_not_look_at_may_change() -> None:
    trained = AtTest(rate=0.25)
    assert changed_at_test(trained, ["gate=false", "weight=0"], "x") == AtTest(rate=0.25, gate=False, weight=0.0)
    assert changed_at_test(trained, [], "x") == trained
    with pytest.raises(OshpError) as raised:
        changed_at_test(trained, ["rate=0.25", "inner.on=false", "wieght=1", "gate=1", "gate"], "x")
    assert raised.value.problems == (
        "--set 'gate': give it as name=value, such as lr=0.001",
        *(
            f"--set: {name!r} is no setting of x that may change after training; gate, weight can be set"
            for name in ("rate", "inner", "wieght")
        ),
        "--set: gate is 1, not true or false",
    )
    with pytest.raises(OshpError, match="'rate' is no setting of x that may change after training; nothing can be set"):
        changed_at_test(Options(), ["rate=1"], "x")


NUMBERS = st.floats(0, 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
OPTIONS = st.builds(
    Options,
    rate=NUMBERS,
    count=st.integers(),
    most=st.none() | st.integers(1, 100),
    name=TEXTS,
    path=st.none() | TEXTS.filter(lambda text: text.lower() != "none"),
    way=st.sampled_from(["k", "1"]),
    scale=st.tuples(st.floats(-1e299, 1e299), st.floats(-1e-300, 1e-300)),
    inner=st.builds(Inner, on=st.booleans(), depth=st.integers(0, 9)),
)


@settings(deadline=None)
@given(OPTIONS, OPTIONS)
def test_toml_and_tables_give_the_same_settings_whatever_they_are_laid_over(ours: Options, base: Options) -> None:
    assert changed(base, tomllib.loads(as_toml(ours)), "here") == ours
    assert changed(base, as_table(ours), "here") == ours
    assert (differences(ours, base) == []) == (ours == base)


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
MEMBERS = st.sampled_from(["rate", "count", "most", "name", "path", "way", "scale", "inner", "other"])


@pytest.mark.slow
@settings(deadline=None)
@given(st.dictionaries(MEMBERS, VALUES))
def test_any_table_gives_typed_settings_or_one_line_a_mistake(table: dict[str, Any]) -> None:
    try:
        found = changed(Options(), table, "here")
    except OshpError as error:
        assert error.problems
        assert all(each.startswith("here: ") and "\n" not in each for each in error.problems)
    else:
        assert tomllib.loads(as_toml(found))
        assert [type(each) for each in (found.rate, found.count, found.name)] == [float, int, str]
        assert found.inner == Inner(**vars(found.inner))


@settings(deadline=None)
@given(st.lists(st.text()))
def test_any_texts_give_settings_or_one_line_a_mistake(texts: list[str]) -> None:
    try:
        set_to(*texts)
    except OshpError as error:
        assert all("\n" not in each for each in error.problems)
