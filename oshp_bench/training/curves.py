"""The learning curves of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, Any

from oshp_bench.episodes.episodes import way_name
from oshp_bench.metrics.figures import parse_figure


def draw_curves(
    metrics: Sequence[Mapping[str, Any]], validation: Sequence[Mapping[str, Any]], figure: str, file: IO[bytes]
) -> None:
    """Draws a PNG: the losses by epoch, and beside them the validation figure that the best epoch is chosen by.

    Args:
        metrics: rows of metrics.csv, where the losses stand from "loss" up to "lr".
        validation: rows of validation.csv.
        figure: the figure's name.
        file: where the PNG goes.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    page = Figure(figsize=(10.5, 3.4), layout="constrained", dpi=120)
    left, right = page.subplots(1, 2)
    epochs = [row["at_epoch"] for row in metrics]
    for name in dict.fromkeys(name for row in metrics for name in _losses(list(row))):
        # A loss of 0, as in epochs that leave it out, has no place on a logarithmic axis.
        values = [row.get(name) or None for row in metrics]
        left.plot(epochs, values, label=name, linewidth=2 if name == "loss" else 1)
    left.set(title="Losses in training", xlabel="epoch", yscale="log")
    left.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    shown = [(row["epoch"], 100 * row[figure]) for row in validation if figure in row]
    right.plot(*zip(*shown, strict=True), marker="o")
    way, kind, _ = parse_figure(figure)
    right.set(title=f"Validation, {way_name(way)} {kind.label} in %", xlabel="epoch", ylim=(0, None))
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    page.savefig(file, format="png", metadata={"Software": None})


def _losses(columns: list[str]) -> list[str]:
    return columns[columns.index("loss") : columns.index("lr")]
