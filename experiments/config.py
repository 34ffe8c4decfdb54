"""What an experiment's YAML says: scales, and tables with their rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar

from oshp_bench.baselines.registry import METHODS
from oshp_bench.errors import OshpError, raise_problems

Settings = tuple[str, ...]
_MEMBERS = ("scale", "scales", "tables", "lists", "datasets", "out", "only", "complexity")


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes:
        preset: of oshp-train.
        dataset: takes the place of every table's dataset; None keeps them.
        seeds: of training; methods that learn nothing have one.
        set: settings of all methods, as for --set.
        methods: further settings by method.
        threads: of a training, which decide its last bits (docs/training.md).
        gpus: of a training; several train it together.
    """

    preset: str
    dataset: str | None = None
    seeds: Settings = ("0",)
    set: Settings = ()
    methods: Mapping[str, Settings] = field(default_factory=dict)
    threads: int = 1
    gpus: int = 0


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        method: as oshp-train knows it; methods that learn nothing need no training.
        set: settings that make the variant.
        at_test: settings that act at test alone, so that the variant needs no training of its own.
        against: the row that the paper compares it with; None takes the table's.
        paper: the paper's figures in percent, or as Table 8 has them; those of Tables 2 to 4 come with the package.
        ways: only these; None takes the table's.
    """

    name: str
    method: str
    set: Settings = ()
    at_test: Settings = ()
    against: str | None = None
    paper: Mapping[str, float] = field(default_factory=dict)
    ways: Settings | None = None


@dataclass(frozen=True)
class Table:
    """A table, or the results that a figure draws.

    Attributes:
        dataset: the paper's, which the scale may replace.
        paper: what the paper calls it, such as "Table 5 (ATR-OS, fold 1)".
        figures: columns without the way, such as novel_miou; none takes those of the paper's Tables 2 to 4.
        rows: or the name of a list under `lists`.
        kind: "scores", "complexity", or how a figure is drawn (figures.py).
        published: number of the paper's table whose figures come with the package.
        scales: the scales that it makes sense at; none for all, and `instead` says what is lacking at others.
        options: of the drawing.
    """

    name: str
    title: str
    paper: str
    rows: tuple[Row, ...]
    dataset: str = "atr"
    kind: str = "scores"
    folds: tuple[int, ...] = (1,)
    ways: Settings = ("k",)
    figures: Settings = ()
    against: str | None = None
    published: int | None = None
    scales: Settings = ()
    instead: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def reference(self, row: Row) -> Row | None:
        """The row that a row is tested against."""
        wanted = row.against or self.against
        return next((other for other in self.rows if other.name == wanted and other is not row), None)


Made = TypeVar("Made", Scale, Row, Table)


def read_config(config: Mapping[str, Any]) -> tuple[Scale, tuple[Table, ...]]:
    """Reads the merged configuration of Snakemake.

    Raises:
        OshpError: every mistake, a line each.
    """
    problems = [f"no member is called {name}; known: {', '.join(_MEMBERS)}" for name in config if name not in _MEMBERS]
    scales, chosen = config["scales"], str(config["scale"])
    if chosen not in scales:
        raise OshpError(f"scale is {chosen}; known: {', '.join(scales)}")
    said = _texts(scales[chosen], "seeds", "set")
    methods = said.get("methods") or {}
    said["methods"] = _texts(methods, *methods)
    scale = _made(Scale, said, f"scale {chosen}", problems)
    tables = tuple(_tables(config, problems))
    if not tables and not problems:
        problems.append("no table is asked for; add --configfile experiments/table5.yaml, or another one")
    for table in tables:
        problems += _problems(table, chosen)
    raise_problems(problems)
    assert scale is not None
    return scale, tables


def _tables(config: Mapping[str, Any], problems: list[str]) -> Iterator[Table]:
    lists = config.get("lists") or {}
    for name, said in (config.get("tables") or {}).items():
        rows = said.get("rows", ())
        if isinstance(rows, str):
            rows = lists.get(rows, ())
        only = (config.get("only") or {}).get(name)
        made = [
            _made(Row, _texts(row, "set", "at_test", "ways"), f"{name}, row {place}", problems)
            for place, row in enumerate(rows, 1)
        ]
        kept = tuple(row for row in made if row and (not only or row.name in only))
        about = {**_texts(said, "ways", "figures", "scales"), "name": name, "rows": kept}
        about["folds"] = tuple(map(int, about.get("folds", (1,))))
        table = _made(Table, about, name, problems)
        if table:
            yield table


def _problems(table: Table, scale: str) -> Iterator[str]:
    if not table.rows:
        yield f"{table.name}: has no rows"
    if table.scales and scale not in table.scales:
        yield f"{table.name}: runs at scale {' and '.join(table.scales)} only, not at {scale}: {table.instead}"
    for row in table.rows:
        if row.method not in METHODS:
            yield f"{table.name}, row {row.name}: no method is called {row.method}; known: {', '.join(METHODS)}"


def _made(kind: type[Made], table: Mapping[str, Any], where: str, problems: list[str]) -> Made | None:
    """A dataclass from a table of the YAML; mistakes are added to problems."""
    known = {member.name: member for member in fields(kind)}
    needed = [n for n, m in known.items() if m.default is MISSING and m.default_factory is MISSING]
    wrong = [f"{where}: no member is called {name}; known: {', '.join(known)}" for name in table if name not in known]
    wrong += [f"{where}: {name} is missing" for name in needed if name not in table]
    problems += wrong
    return None if wrong else kind(**table)


def _texts(table: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """A table whose members of these names are tuples of texts."""
    return {
        name: tuple(map(str, value)) if name in names and value is not None else value for name, value in table.items()
    }
