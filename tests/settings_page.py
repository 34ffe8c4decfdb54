"""The tables of docs/training.md that are made from the code. To write them: python tests/settings_page.py"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from oshp_bench.baselines.registry import named, network_class
from oshp_bench.baselines.settings import Explained, Layer, explained, layered
from oshp_bench.training.settings import PRESETS, TrainSettings

PAGE = Path(__file__).parents[1] / "docs" / "training.md"
_TABLE = re.compile(r"(<!-- made from the code: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(page: str) -> str:
    """The page, its tables made anew."""
    makers = {"settings": _settings, "presets": _presets, "methods": _methods, "defaults": _defaults}
    return _TABLE.sub(lambda found: f"{found[1]}\n" + "\n".join(makers[found[2]]()).strip() + f"\n\n{found[3]}", page)


def _settings() -> Iterator[str]:
    yield from _meanings(setting for setting in explained(TrainSettings()) if setting.name != "model")


def _presets() -> Iterator[str]:
    """What presets change, whatever the method."""
    presets = {
        name: layered(TrainSettings(), [Layer("", table)]) for name, table in PRESETS.items() if table is not None
    }
    values = {name: {setting.name: _shown(setting) for setting in explained(found)} for name, found in presets.items()}
    yield from _head("setting", *map(_code, presets))
    for name, paper in values["paper"].items():
        row = [table[name] for table in values.values()]
        if set(row) != {paper}:
            yield _row(_code(name), *row)


def _methods() -> Iterator[str]:
    """The methods' own settings; an inherited one is told once."""
    told: set[tuple[type, str]] = set()
    for name in named("frozen", "trained"):
        own = network_class(name).settings_type
        settings = [
            setting
            for setting in explained(own(), "model.")
            if not any(issubclass(own, other) and setting.name == inherited for other, inherited in told)
        ]
        told |= {(own, setting.name) for setting in settings}
        if settings:
            yield from ("", f"`{name}`:", "", *_meanings(settings))


def _defaults() -> Iterator[str]:
    """What methods change of the presets."""
    yield from _head("method", "preset", "settings")
    for name in named("frozen", "trained"):
        for preset, table in network_class(name).defaults.items():
            yield _row(_code(name), _code(preset), ", ".join(map(_code, _assignments(table))))


def _assignments(table: Mapping[str, Any], place: str = "") -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _assignments(value, f"{place}{name}.")
        else:
            yield f"{place}{name}={str(value).lower()}"


def _meanings(settings: Iterable[Explained]) -> Iterator[str]:
    yield from _head("setting", "default", "values", "meaning")
    for setting in settings:
        yield _row(_code(setting.name), _shown(setting), setting.choices, setting.meaning)


def _shown(setting: Explained) -> str:
    return _code(setting.value.strip('"'))


def _code(text: str) -> str:
    return f"`{text}`"


def _head(*names: str) -> tuple[str, str]:
    return _row(*names), "|" + "---|" * len(names)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
