"""The folder of a training run: what a person follows it by, and what it goes on from."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from oshp_bench.baselines.backbones.weights import UNREADABLE, load_torch
from oshp_bench.baselines.settings import as_toml, differences
from oshp_bench.episodes.pictures import Tile, contact_sheet
from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.files import open_to_read, read_json, read_toml, readable_json, write_text, written_whole
from oshp_bench.manifest import Manifest
from oshp_bench.training.board import Board
from oshp_bench.training.curves import draw_curves
from oshp_bench.training.settings import TrainSettings, parsed

RUN_FORMAT = "oshp-run/1"
State = dict[str, Any]
_IN_STATE = {"stage", "epoch", "best", "network", "stepper", "tables"}


class RunFolder:
    """A run's files.

    - `run.json`, `settings.toml`: what is trained on what; a run goes on only with the same.
    - `metrics.csv`: losses, schedule, throughput and memory; `validation.csv`: figures by epoch.
    - `curves.png`: both as curves; `sheets/epoch-0005.png`: validation episodes.
    - `last.pt`: everything to go on from; `best.safetensors`, `last.safetensors`, `epochs/0005.safetensors`:
      checkpoints for oshp-predict.
    - `tensorboard/`: the numbers of both tables for TensorBoard, where that is asked for.

    Args:
        tensorboard: whether to write for TensorBoard.

    Raises:
        OshpError: the folder holds another run, or TensorBoard is not installed.
    """

    def __init__(self, folder: Path, settings: TrainSettings, manifest: Manifest, tensorboard: bool = False) -> None:
        self.folder = folder
        self._settings = settings
        self._board = Board(folder / "tensorboard") if tensorboard else None
        self._run = {
            "format": RUN_FORMAT,
            "manifest": manifest.name,
            "version": manifest.version,
            "digest": manifest.digest,
        }
        self._check_owner()
        self._rows: dict[str, list[dict[str, Any]]] = {"metrics": [], "validation": []}

    @staticmethod
    def files(folder: Path) -> list[Path]:
        """The files that a run writes over."""
        names = ("run.json", "settings.toml", "metrics.csv", "validation.csv", "curves.png", "last.pt")
        return [folder / name for name in (*names, "best.safetensors", "last.safetensors")]

    @property
    def state(self) -> Path:
        return self.folder / "last.pt"

    @property
    def best(self) -> Path:
        return self.folder / "best.safetensors"

    @property
    def last(self) -> Path:
        return self.folder / "last.safetensors"

    def kept(self, epoch: int) -> Path:
        """The checkpoint of an epoch, counted from 1."""
        return self.folder / "epochs" / f"{epoch:04d}.safetensors"

    def begin(self, computer: Mapping[str, str | int]) -> None:
        """Writes what the run is, and what it begins on: it may go on elsewhere, but then with other last bits."""
        write_text(self.folder / "settings.toml", as_toml(self._settings))
        write_text(self.folder / "run.json", readable_json({**self._run, "computer": dict(computer)}))

    def saved_state(self) -> State | None:
        """What `save_state` left, or None; rows of the tables that came after it are dropped.

        Raises:
            OshpError: it is damaged.
        """
        if not self.state.exists():
            return None
        try:
            with open_to_read(self.state) as file:
                # Its tables grow with every step.
                state: State = load_torch(self.state, file, self.state.stat().st_size)
            if state.keys() != _IN_STATE:
                raise ValueError
            self._rows = {name: state["tables"][name] for name in self._rows}
        except (OSError, *UNREADABLE) as error:
            raise OshpError(f"{self.state}: damaged; remove it to train from the beginning") from error
        return state

    def save_state(self, state: State) -> None:
        """Writes everything that a killed run goes on from; the previous state stays until this one is whole."""
        # By way of memory, as torch hides the error of a full disk behind one of its own.
        buffer = io.BytesIO()
        torch.save({**state, "tables": self._rows}, buffer)
        with written_whole(self.state) as file:
            file.write(buffer.getbuffer())

    def add(self, table: str, row: Mapping[str, float | int | str]) -> None:
        """Adds a row to "metrics" or "validation" and writes the table."""
        rows = self._rows[table]
        rows.append(dict(row))
        columns = dict.fromkeys(name for written in rows for name in written)
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.folder / f"{table}.csv", text.getvalue())
        if self._board:
            self._board.add(table, row)

    def save_sheet(self, epoch: int, rows: Sequence[Sequence[Tile]], manifest: Manifest) -> None:
        """Draws validation episodes."""
        with written_whole(self.folder / "sheets" / f"epoch-{epoch:04d}.png") as file:
            contact_sheet(rows, manifest, height=200).save(file, "PNG")

    def save_curves(self, figure: str) -> None:
        """Draws losses and a validation figure over the epochs."""
        with written_whole(self.folder / "curves.png") as file:
            draw_curves(self._rows["metrics"], self._rows["validation"], figure, file)

    def _check_owner(self) -> None:
        path = self.folder / "run.json"
        if not path.exists():
            if self.state.exists():
                raise OshpError(f"{self.state}: of a run whose run.json is missing; choose another folder")
            return
        found = read_json(path)
        found = found if isinstance(found, dict) else {}
        if any(found.get(name) != value for name, value in self._run.items()):
            there, here = (
                " ".join(str(run.get(name))[:40] for name in ("manifest", "version", "digest"))
                for run in (found, self._run)
            )
            raise OshpError(f"{path}: a run on {there}, not on {here}; choose another folder")
        settings = self.folder / "settings.toml"
        theirs = parsed(read_toml(settings), str(settings))
        # Who makes the samples does not change them.
        differing = differences(replace(theirs, workers=self._settings.workers), self._settings)
        raise_problems(f"{settings}: in the run there {difference}; choose another folder" for difference in differing)
