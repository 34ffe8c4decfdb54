"""A run's numbers for TensorBoard, which is an extra."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oshp_bench.errors import MissingPackage

# The column that is the horizontal axis of a table; the columns that only say where a row stands are not drawn.
_AXES = {"metrics": "step", "validation": "epoch"}
_PLACES = ("stage", "epoch", "at_epoch", "step")


class Board:
    """Writes the numeric columns of tables as scalars, each table to its own folder.

    Raises:
        OshpError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingPackage("--tensorboard", "tensorboard", "tensorboard") from error
        self._folder = folder
        self._new_writer = SummaryWriter
        self._writers: dict[str, Any] = {}

    def add(self, table: str, row: Mapping[str, Any]) -> None:
        """Adds the scalars of a row of "metrics", over steps, or of "validation", over epochs."""
        place = int(row[_AXES[table]])
        if table not in self._writers:
            # A run that goes on repeats what was written after its last state: those rows are no longer shown.
            self._writers[table] = self._new_writer(self._folder / table, purge_step=place)
        writer = self._writers[table]
        for name, value in row.items():
            if name not in _PLACES:
                writer.add_scalar(name, value, place)
        writer.flush()
