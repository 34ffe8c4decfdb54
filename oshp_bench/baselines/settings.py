"""Typed settings: frozen dataclasses filled from TOML tables, JSON and `name=value` texts, every mistake named.

A setting is a field with its type, its default, and what it means in a text below it:

    lr: Annotated[float, Range(1e-9, 10)] = 1e-3
    \"\"\"The first learning rate.\"\"\"
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from functools import cache
from itertools import pairwise
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.files import parse_json
from oshp_bench.untrusted import shown

Settings = TypeVar("Settings")

# What stands for None in a text and in TOML, which has no word for it.
_NONE = "none"
# Marks the settings that training does not read.
_AT_TEST = "at_test"
# The most names that may stand before a setting's own.
_DEEPEST = 9
_COMMENT_WIDTH = 98


@dataclass(frozen=True)
class Layer:
    """Some settings, name -> value, and where they come from, for the errors; nested tables are nested settings."""

    origin: str
    table: Mapping[str, Any]


@dataclass(frozen=True)
class Explained:
    """A setting for people.

    Attributes:
        name: with the names of the settings that it stands in, such as "augmentation.crop".
        value: as it stands in TOML.
        meaning: the text below the field, as one line, and whether it may be changed after training.
        choices: what it may be, such as "1 to 4096" or "k, 1"; "" where its type says all.
    """

    name: str
    value: str
    meaning: str
    choices: str


def changed(settings: Settings, table: Mapping[str, Any], origin: str) -> Settings:
    """Settings with some of them replaced; see `layered`."""
    return layered(settings, [Layer(origin, table)])


def layered(settings: Settings, layers: Iterable[Layer], problems: Iterable[str] = ()) -> Settings:
    """Settings with some of them replaced, by one layer after the other; only the result has to make sense.

    Args:
        settings: a frozen dataclass whose fields are bool, int, float, str, Literals, tuples of these, None where
            allowed, and such dataclasses. Its __post_init__ raises an OshpError for values that make no sense.
        layers: later ones win.
        problems: mistakes that were found before, to be raised with the others.

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
    """The layer that texts such as `lr=0.01`, `model.parts.npm=false` or `clip=none` make, and their mistakes.

    A value is JSON if it can be read as JSON, else a text.
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


def at_test(default: Settings) -> Settings:
    """The default of a setting that training does not read, so that it may be changed after training."""
    return field(default=default, metadata={_AT_TEST: True})


def changed_at_test(settings: Settings, texts: Iterable[str], whose: str) -> Settings:
    """The settings of a trained network, with changes of those that only matter at test (`at_test`).

    Args:
        texts: see `assignments`.
        whose: the method's name, for the errors.

    Raises:
        OshpError: every setting that training reads and every unknown one, and as `layered`.
    """
    layer, problems = assignments(texts)
    free = [known.name for known in fields(settings) if _AT_TEST in known.metadata]  # type: ignore[arg-type]
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


def as_toml(settings: Any, commented: bool = False) -> str:
    """Settings as TOML that `changed` understands; `commented` puts the meaning of each above it."""
    lines: list[str] = []
    place = ""
    for setting in explained(settings):
        table, _, name = setting.name.rpartition(".")
        if table != place:
            lines += ["", f"[{table}]"]
            place = table
        if commented:
            text = setting.meaning + (f" ({setting.choices})" if setting.choices else "")
            lines += textwrap.wrap(text, initial_indent="# ", subsequent_indent="# ", width=_COMMENT_WIDTH)
        lines.append(f"{name} = {setting.value}")
    return "\n".join(lines) + "\n"


def explained(settings: Any, place: str = "") -> Iterator[Explained]:
    """Every setting, those of nested settings last, as TOML wants it."""
    kind: type = type(settings)
    meanings, hints = _meanings(kind), get_type_hints(kind, include_extras=True)
    nested = []
    for known in fields(settings):
        value = getattr(settings, known.name)
        if is_dataclass(value):
            nested.append((value, f"{place}{known.name}."))
        else:
            meaning = meanings.get(known.name, "") + (" May be changed after training." if known.metadata else "")
            yield Explained(place + known.name, _toml_value(value), meaning, _choices(hints[known.name]))
    for inner, name in nested:
        yield from explained(inner, name)


def differences(settings: Any, other: Any) -> list[str]:
    """The settings that differ, such as "lr is 0.01, not 0.001"; nested ones by their whole names."""
    none = _toml_value(None)
    ours, theirs = ({known.name: known.value for known in explained(whole)} for whole in (settings, other))
    return [
        f"{name} is {ours.get(name, none)}, not {theirs.get(name, none)}"
        for name in dict.fromkeys((*ours, *theirs))
        if ours.get(name) != theirs.get(name)
    ]


@cache
def _meanings(settings_type: type) -> dict[str, str]:
    """The texts below the fields of a dataclass and of those that it extends; none where its source is not at hand."""
    found = {}
    for owner in filter(is_dataclass, reversed(settings_type.__mro__)):
        try:
            source = inspect.getsource(owner)
        except (OSError, TypeError):
            continue
        (definition,) = ast.parse(textwrap.dedent(source)).body
        assert isinstance(definition, ast.ClassDef)
        for pair in pairwise(definition.body):
            match pair:
                case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                    found[name] = " ".join(text.split())
    return found


def _choices(hint: Any) -> str:
    """What an annotation says beside the type: a range, or the texts that are allowed."""
    ranges = [str(limit) for limit in getattr(hint, "__metadata__", ())]
    return ", ".join(ranges or (get_args(hint) if get_origin(hint) is Literal else ()))


def _toml_value(value: Any) -> str:
    """JSON's numbers, lists and texts are TOML's too, but for one control character and for escaped half characters."""
    return json.dumps(_NONE if value is None else value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value_of(text: str) -> Any:
    try:
        return parse_json(text.encode(), origin="")
    except (OshpError, UnicodeEncodeError):
        return text


def _merge(values: dict[str, Any], later: Mapping[str, Any]) -> None:
    """Tables among the values are nested settings, which are replaced one by one."""
    for name, value in later.items():
        if isinstance(value, dict):
            _merge(values.setdefault(name, {}), value)
        else:
            values[name] = value


def _values(settings: Any, table: Mapping[str, Any], origin: str, place: str, problems: list[str]) -> dict[str, Any]:
    hints = get_type_hints(type(settings))
    known = {member.name for member in fields(settings)}
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
        return _typed(value, next(choice for choice in choices if choice is not type(None)))
    if origin is Literal:
        # A choice may look like a number, such as way=1.
        if type(value) in (str, int) and str(value) in choices:
            return str(value)
        raise TypeError(f"one of {', '.join(choices)}")
    if origin is tuple:
        if not isinstance(value, list | tuple) or len(value) != len(choices):
            raise TypeError(f"a list of {len(choices)} values")
        return tuple(_typed(part, kind) for part, kind in zip(value, choices, strict=True))
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


def _replaced(
    settings: Settings, values: Mapping[str, Any], origin: str, problems: list[str], place: str = ""
) -> Settings:
    """Settings with other values; what nested ones refuse is told under their name, such as "model.parts"."""
    whole = {
        name: _replaced(getattr(settings, name), value, origin, problems, f"{place}.{name}".lstrip("."))
        if isinstance(value, dict)
        else value
        for name, value in values.items()
    }
    try:
        return replace(settings, **whole)  # type: ignore[type-var]
    except OshpError as error:
        problems.extend(f"{origin}: {f'{place}: ' if place else ''}{problem}" for problem in error.problems)
        return settings
