"""Typed settings: frozen dataclasses filled from TOML tables, JSON and `name=value` texts, every mistake named."""

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.files import parse_json
from oshp_bench.untrusted import shown

T = TypeVar("T")

# What stands for None in a text and in TOML, which has no word for it.
_NONE = "none"
# Marks the settings that training does not look at.
_AT_TEST = "at_test"
# How many names may stand before a setting's own, at most.
_DEEPEST = 9


@dataclass(frozen=True)
class Layer:
    """Some settings, member -> value, and where they come from, for the errors; nested tables are nested settings."""

    origin: str
    table: Mapping[str, Any]


def changed(settings: T, table: Mapping[str, Any], origin: str) -> T:
    """Settings with some of them replaced; see `layered`."""
    return layered(settings, [Layer(origin, table)])


def layered(settings: T, layers: Iterable[Layer], problems: Iterable[str] = ()) -> T:
    """Settings with some of them replaced, by one layer after the other; only the result has to make sense.

    Args:
        settings: a frozen dataclass whose members are bool, int, float, str, Literals, tuples of these, None where
            allowed, and such dataclasses. It refuses what makes no sense in __post_init__, by OshpError.
        layers: later ones win.
        problems: what was found wrong before, to be told with the rest.

    Raises:
        OshpError: every unknown name and every value of another type, and what the dataclasses refuse, a line each.
    """
    values: dict[str, Any] = {}
    found, layers = list(problems), tuple(layers)
    for layer in layers:
        _merge(values, _values(settings, layer.table, layer.origin, "", found))
    origin = ", ".join(layer.origin for layer in layers if layer.table)
    result = _replaced(settings, values, origin, found)
    raise_problems(found)
    return result


def assignments(texts: Iterable[str], origin: str = "--set") -> tuple[Layer, list[str]]:
    """The layer that texts such as `lr=0.01`, `model.parts.npm=false` or `clip=none` make, and what is wrong in them.

    A value is JSON if it can be read so, else a text.
    """
    table: dict[str, Any] = {}
    problems = []
    for text in texts:
        name, equals, value = text.partition("=")
        *path, last = name.strip().split(".")
        if not equals or len(path) > _DEEPEST:
            problems.append(f"{origin} {shown(text)}: give it as name=value, such as lr=0.001")
            continue
        inner = table
        for part in path:
            below = inner.get(part)
            inner[part] = inner = below if isinstance(below, dict) else {}
        inner[last] = _value_of(value.strip())
    return Layer(origin, table), problems


def at_test(default: T) -> T:
    """The default of a setting that training does not look at: it may be changed when the network is trained."""
    return field(default=default, metadata={_AT_TEST: True})


def changed_at_test(settings: T, texts: Iterable[str], whose: str) -> T:
    """The settings of a trained network with some of those replaced that only matter at test (`at_test`).

    Args:
        texts: see `assignments`.
        whose: the method's name, for the errors.

    Raises:
        OshpError: every setting that training looks at and every unknown one, and as `layered`.
    """
    layer, problems = assignments(texts)
    free = [each.name for each in fields(settings) if _AT_TEST in each.metadata]  # type: ignore[arg-type]
    can = f"{', '.join(free)} can be set" if free else "nothing can be set"
    problems += [
        f"{layer.origin}: {shown(name)} is no setting of {whose} that may change after training; {can}"
        for name in layer.table
        if name not in free
    ]
    taken = {name: value for name, value in layer.table.items() if name in free}
    return layered(settings, [Layer(layer.origin, taken)], problems)


def as_table(settings: Any) -> dict[str, Any]:
    """Settings as a table that JSON and `changed` understand."""
    table: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return table


def as_toml(settings: Any) -> str:
    """Settings as TOML that `changed` understands."""
    return "\n".join(_toml_lines(as_table(settings), "")) + "\n"


def differences(settings: Any, other: Any) -> list[str]:
    """The members in which two settings differ, such as "lr is 0.01, not 0.001"; nested ones by their whole names."""
    ours, theirs = (dict(_members(as_table(each), "")) for each in (settings, other))
    return [
        f"{name} is {_toml_value(ours.get(name))}, not {_toml_value(theirs.get(name))}"
        for name in dict.fromkeys((*ours, *theirs))
        if ours.get(name) != theirs.get(name)
    ]


def outside(settings: Any, ranges: Mapping[str, tuple[float, float]], place: str = "") -> list[str]:
    """What is wrong with the members that are not between the least and the most that work; None always works."""
    return [
        f"{place}{name} is {value}; {least:.15g} to {most:.15g} work"
        for name, (least, most) in ranges.items()
        if (value := getattr(settings, name)) is not None and not least <= value <= most
    ]


def _members(table: Mapping[str, Any], place: str) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _members(value, f"{place}{name}.")
        else:
            yield place + name, value


def _toml_lines(table: Mapping[str, Any], place: str) -> Iterator[str]:
    for name, value in table.items():
        if not isinstance(value, dict):
            yield f"{name} = {_toml_value(value)}"
    for name, value in table.items():
        if isinstance(value, dict):
            yield f"\n[{place}{name}]"
            yield from _toml_lines(value, f"{place}{name}.")


def _toml_value(value: Any) -> str:
    """JSON's numbers, lists and texts are TOML's too, but for one control character and for escaped half characters."""
    return json.dumps(_NONE if value is None else value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value_of(text: str) -> Any:
    try:
        return parse_json(text.encode(), origin="")
    except (OshpError, UnicodeEncodeError):
        return text


def _merge(values: dict[str, Any], later: Mapping[str, Any]) -> None:
    """Tables among the values are nested settings: their members are replaced one by one."""
    for name, value in later.items():
        if isinstance(value, dict):
            _merge(values.setdefault(name, {}), value)
        else:
            values[name] = value


def _values(settings: Any, table: Mapping[str, Any], origin: str, place: str, problems: list[str]) -> dict[str, Any]:
    hints = get_type_hints(type(settings))
    known = {each.name for each in fields(settings)}
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {place}{near[0]}?" if near else f"known: {', '.join(sorted(known))}"
            problems.append(f"{origin}: no setting is called {shown(place + name)}; {hint}")
            continue
        inner = getattr(settings, name)
        if is_dataclass(inner) and isinstance(value, Mapping):
            values[name] = _values(inner, value, origin, f"{place}{name}.", problems)
            continue
        try:
            values[name] = _typed(value, hints[name])
        except TypeError as error:
            problems.append(f"{origin}: {place}{name} is {shown(value)}, not {error}")
    return values


def _typed(value: Any, hint: Any) -> Any:
    """The value as the hint wants it; TypeError says what that is."""
    origin, choices = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() == _NONE):
            return None
        return _typed(value, next(each for each in choices if each is not type(None)))
    if origin is Literal:
        # A choice may look like a number, such as way=1.
        if type(value) in (str, int) and str(value) in choices:
            return str(value)
        raise TypeError(f"one of {', '.join(choices)}")
    if origin is tuple:
        if not isinstance(value, list | tuple) or len(value) != len(choices):
            raise TypeError(f"a list of {len(choices)} values")
        return tuple(_typed(each, kind) for each, kind in zip(value, choices, strict=True))
    if hint is float and type(value) in (int, float):
        # Not below: infinities, NaN, and whole numbers that no float can hold.
        if not abs(value) < 1e300:
            raise TypeError("a finite number")
        return float(value)
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    if hint not in names:
        raise TypeError("a table of settings")
    if type(value) is not hint or (hint is str and not _is_text(value)):
        raise TypeError(names[hint])
    return value


def _is_text(value: str) -> bool:
    """Whether a text can be written to a file: one half of a surrogate pair is no character."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _replaced(settings: T, values: Mapping[str, Any], origin: str, problems: list[str]) -> T:
    whole = {
        name: _replaced(getattr(settings, name), value, origin, problems) if isinstance(value, dict) else value
        for name, value in values.items()
    }
    try:
        return replace(settings, **whole)  # type: ignore[type-var]
    except OshpError as error:
        problems.extend(f"{origin}: {problem}" for problem in error.problems)
        return settings
