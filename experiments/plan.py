"""How the tables of an experiment are made: cells, their files, and the commands that make them.

A cell is one result: method x dataset x fold x way x variant (settings) x seed. Its folder is named by all of these, so
tables that need the same cell share it. Every command is one of ours, so that it can be repeated by hand.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, product
from pathlib import Path
from typing import Any

from config import Row, Scale, Settings, Table, read_config

from oshp_bench.baselines.registry import METHODS
from oshp_bench.files import content_digest

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Cell:
    """One result.

    Attributes:
        settings: of the scale; `variant` and `at_test` are the row's.
        epoch: whose checkpoint predicts; 0 for the best one.
    """

    method: str
    dataset: str
    fold: int
    way: str
    seed: str
    preset: str
    settings: Settings = ()
    variant: Settings = ()
    at_test: Settings = ()
    epoch: int = 0

    @property
    def trained(self) -> Cell:
        """The cell whose training this one uses: cells that differ at test alone share one."""
        return replace(self, at_test=(), epoch=0)

    @property
    def learns(self) -> bool:
        """Whether there is a checkpoint to make."""
        return METHODS[self.method].kind != "rule"

    @property
    def checkpoint(self) -> str:
        """What predicts: the best epoch; a frozen network has only its end."""
        if self.epoch:
            return f"epochs/{self.epoch:04d}.safetensors"
        return "best.safetensors" if METHODS[self.method].kind == "trained" else "last.safetensors"

    @cached_property
    def name(self) -> str:
        """Its folder's name."""
        digest = content_digest([self.preset, self.settings, self.variant, self.at_test])[7:15]
        seed = f"-seed{self.seed}" if self.learns else ""
        epoch = f"-epoch{self.epoch}" if self.epoch else ""
        return f"{self.method}-{self.dataset}{self.fold}-{self.way}way{seed}-{digest}{epoch}"

    @property
    def label(self) -> str:
        """The variant's name in a board."""
        changed = (*self.variant, *self.at_test, *((f"epoch {self.epoch}",) if self.epoch else ()))
        about = ", ".join(text.removeprefix("model.").removeprefix("parts.") for text in changed)
        return f"{self.method} ({about})"[:100] if about else self.method


@dataclass(frozen=True)
class Plan:
    """All that a run of Snakemake makes.

    Attributes:
        out: the folder of everything, one for each scale.
        roots, specs: dataset -> its folder, and the spec to tailor it by.
        complexity: options of benchmarks/complexity.py.
        config: what it was read from.
    """

    scale_name: str
    scale: Scale
    tables: tuple[Table, ...]
    out: Path
    roots: Mapping[str, str]
    specs: Mapping[str, str]
    complexity: Settings = ()
    config: Mapping[str, Any] = field(default_factory=dict)

    def dataset(self, table: Table) -> str:
        """Where our figures of a table are from."""
        return self.scale.dataset or table.dataset

    def cell(self, table: Table, row: Row, fold: int, way: str, seed: str) -> Cell:
        """One result of a row."""
        learns = METHODS[row.method].kind != "rule"
        settings = (*self.scale.set, *self.scale.methods.get(row.method, ())) if learns else ()
        preset = self.scale.preset if learns else ""
        variant = (*row.set, f"keep_every={self.every(table)}") if table.kind == "curves" else row.set
        return Cell(row.method, self.dataset(table), fold, way, seed, preset, settings, variant, row.at_test)

    def every(self, table: Table) -> int:
        """How often checkpoints are kept for curves."""
        return int(table.options["every"][self.scale_name])

    def epochs(self, table: Table) -> Iterable[int]:
        """The epochs of curves; 0, the best one, for everything else."""
        every = self.every(table) if table.kind == "curves" else 0
        return range(every, int(table.options["last"][self.scale_name]) + 1, every) if every else (0,)

    def measure(self, method: str) -> list[str]:
        """The complexity of a method, at the paper's size whatever the scale."""
        return ["python", str(HERE.parent / "benchmarks" / "complexity.py"), method, *self.complexity, "--json"]

    def runs(self, table: Table, row: Row, fold: int, way: str) -> tuple[Cell, ...]:
        """The results of a row in one column: one for each seed; none where the method cannot parse this way."""
        known = METHODS[row.method]
        if way not in known.ways or way not in (row.ways or table.ways):
            return ()
        seeds = self.scale.seeds if known.kind == "trained" else self.scale.seeds[:1]
        made = (self.cell(table, row, fold, way, seed) for seed in seeds)
        return tuple(replace(cell, epoch=epoch) for cell in made for epoch in self.epochs(table))

    def cells_of(self, table: Table) -> dict[str, Cell]:
        """The cells of a table, by name."""
        if table.kind == "complexity":
            return {}
        columns = product(table.rows, table.folds, table.ways)
        return {cell.name: cell for column in columns for cell in self.runs(table, *column)}

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """All cells, by name."""
        return {name: cell for table in self.tables for name, cell in self.cells_of(table).items()}

    @cached_property
    def trainings(self) -> dict[str, Cell]:
        """The cells that are trained, by name."""
        return {cell.trained.name: cell.trained for cell in self.cells.values() if cell.learns}

    @cached_property
    def users(self) -> dict[str, str]:
        """What a cell is for: the first row that needs it."""
        found: dict[str, str] = {}
        for table in self.tables:
            for row, fold, way in product(table.rows, table.folds, table.ways):
                for cell in self.runs(table, row, fold, way) if table.kind != "complexity" else ():
                    found.setdefault(cell.name, f"{table.name}: {row.name}")
                    found.setdefault(cell.trained.name, f"{table.name}: {row.name}")
        return found

    def table(self, name: str) -> Table:
        """A table by its name."""
        return next(table for table in self.tables if table.name == name)

    @property
    def text(self) -> str:
        """The configuration as JSON."""
        return json.dumps(self.config, sort_keys=True)

    @property
    def configuration(self) -> Path:
        """The file of the configuration; pages are made again when it is another one."""
        return self.out / "configurations" / f"{content_digest(self.text)[7:19]}.json"

    def place(self, name: str) -> str:
        """A file of this run, whose name may hold wildcards."""
        return str(self.out / name)

    def folder(self, cell: Cell) -> Path:
        """Where a cell's files are."""
        return self.out / "cells" / cell.name

    def manifest(self, dataset: str, fold: int) -> Path:
        """A manifest that oshp-tailor writes."""
        return self.out / "manifests" / f"{dataset}_fold{fold}.json"

    def result(self, cell: Cell) -> Path:
        """The file that says that a cell is done."""
        return self.folder(cell) / "score" / "result.json"

    def measured(self, method: str) -> Path:
        """The complexity of a method."""
        return self.out / "complexity" / f"{method}.json"

    def manifest_of(self, name: str) -> str:
        """The manifest of a cell, or of a training."""
        cell = self.cells.get(name) or self.trainings[name]
        return str(self.manifest(cell.dataset, cell.fold))

    def before_prediction(self, name: str) -> list[str]:
        """What a cell's prediction waits for."""
        cell = self.cells[name]
        trained = [str(self.folder(cell.trained) / "trained.json")] if cell.learns else []
        return [self.manifest_of(name), *trained]

    @property
    def results(self) -> list[str]:
        """What a board shows: single epochs are steps on the way, not methods."""
        return sorted(str(self.result(cell)) for cell in self.cells.values() if not cell.epoch)

    def inputs(self, table: Table) -> list[str]:
        """The files that a table is made of."""
        if table.kind == "complexity":
            return [str(self.configuration), *(str(self.measured(row.method)) for row in table.rows)]
        return [str(self.configuration), *(str(self.result(cell)) for cell in self.cells_of(table).values())]

    def page(self, table: Table) -> Path:
        """The page of a table or figure."""
        return self.out / table.name / "index.html"

    @property
    def targets(self) -> list[str]:
        """What `all` asks for."""
        pages = [str(self.page(table)) for table in self.tables]
        return [*pages, str(self.out / "board" / "index.html")] if self.results else pages

    def tailor(self, dataset: str, fold: int) -> list[str]:
        """oshp-tailor for a fold."""
        spec = self.specs.get(dataset, dataset)
        return ["oshp-tailor", spec, "--fold", str(fold), *self._root(dataset), "-o", str(self.out / "manifests")]

    def train(self, name: str) -> list[str]:
        """oshp-train of a cell, under torchrun on several GPUs."""
        cell, gpus = self.trainings[name], self.scale.gpus
        torchrun = ("torchrun", "--standalone", "--nproc-per-node", str(gpus), "-m", "oshp_bench.training.cli")
        changes = chain.from_iterable(("--set", text) for text in (*cell.settings, *cell.variant, f"seed={cell.seed}"))
        given = ("--method", cell.method, "--way", cell.way, "--preset", cell.preset, *changes)
        out = ("-o", str(self.folder(cell) / "run"), "--json")
        return [*(torchrun if gpus > 1 else ("oshp-train",)), *self._data(cell), *given, *out]

    def predict(self, name: str) -> list[str]:
        """oshp-predict of a cell."""
        cell = self.cells[name]
        what = str(self.folder(cell.trained) / "run" / cell.checkpoint) if cell.learns else cell.method
        changes = chain.from_iterable(("--set", text) for text in cell.at_test)
        out = ("-o", str(self.folder(cell) / "preds"), "--json")
        return ["oshp-predict", what, *self._data(cell), "--way", cell.way, *changes, *out]

    def score(self, name: str) -> list[list[str]]:
        """A card, a submission with it, and its score: so a board knows variant and seed."""
        cell = self.cells[name]
        folder = self.folder(cell)
        preds, card, packed = (str(folder / part) for part in ("preds", "method.toml", "submission.zip"))
        data = (*self._data(cell), "--way", cell.way)
        score = ["oshp-score", packed if cell.learns else preds, *data, "-o", str(folder / "score")]
        if not cell.learns:
            return [score]
        about = ["python", str(HERE / "card.py"), preds, "--name", cell.label, "--preset", cell.preset]
        settings = list(chain.from_iterable(("--set", text) for text in (*cell.settings, *cell.variant, *cell.at_test)))
        pack = ["oshp-submit", "pack", preds, *data, "--method", card, "-o", packed]
        return [[*about, *settings, "--seed", cell.seed, "-o", card], pack, score]

    def render(self, name: str) -> list[list[str]]:
        """The page of a table or figure; a figure has a drawing for each way."""
        table = self.table(name)
        if table.kind in ("scores", "complexity"):
            return [["python", str(HERE / "table.py"), name, str(self.configuration)]]
        return [self._draw(table, way) for way in table.ways]

    def _draw(self, table: Table, way: str) -> list[str]:
        dataset, fold = self.dataset(table), table.folds[0]
        words = ["python", str(HERE / "figures.py"), table.kind, "--manifest", str(self.manifest(dataset, fold))]
        words += ["--way", way, "-o", str(self.page(table).parent)]
        for row in table.rows:
            runs = self.runs(table, row, fold, way)
            if table.kind == "curves":
                results = (f"{row.name}={cell.epoch}={self.result(cell)}" for cell in runs)
                words += chain.from_iterable(("--results", text) for text in results)
            else:
                words += ["--predictions", f"{row.name}={self.folder(runs[0]) / 'preds'}"]
        if table.kind == "curves":
            return words
        options = chain.from_iterable((f"--{key}", str(value)) for key, value in table.options.items())
        return [*words, *self._root(dataset), *options]

    def board(self) -> list[str]:
        """One board of all results."""
        tests = dict.fromkeys((cell.dataset, cell.fold) for cell in self.cells.values())
        manifests = chain.from_iterable(("--manifest", str(self.manifest(*test))) for test in tests)
        return ["oshp-board", "build", *self.results, *manifests, "--no-reports", "-o", str(self.out / "board")]

    def _data(self, cell: Cell) -> list[str]:
        return ["--manifest", str(self.manifest(cell.dataset, cell.fold)), *self._root(cell.dataset)]

    def _root(self, dataset: str) -> list[str]:
        return ["--root", self.roots[dataset]] if dataset in self.roots else []


def job(plan: Plan, name: str, step: str, commands: Iterable[list[str]], done: str = "", gpus: int = 0) -> str:
    """The shell's words for a step of a cell: commands under job.py, which logs them and says in a line what failed."""
    about = ["--out", str(plan.out), "--cell", name, "--step", step, "--for", plan.users.get(name, "")]
    given = [*about, *(("--done", done) if done else ()), *(("--gpus", str(gpus)) if gpus else ())]
    then = [word for command in commands for word in ("--then", *command)]
    return shlex.join(["python", str(HERE / "job.py"), *given, *then])


def read_plan(config: Mapping[str, Any]) -> Plan:
    """The plan of a configuration.

    Raises:
        OshpError: every mistake, a line each.
    """
    scale, tables = read_config(config)
    chosen, datasets = str(config["scale"]), config.get("datasets") or {}
    return Plan(
        scale_name=chosen,
        scale=scale,
        tables=tables,
        out=Path(str(config.get("out") or f"runs/experiments/{chosen}")),
        roots={name: str(about["root"]) for name, about in datasets.items() if about.get("root")},
        specs={name: str(about["spec"]) for name, about in datasets.items() if about.get("spec")},
        complexity=tuple(map(str, config.get("complexity") or ())),
        config=config,
    )
