"""The learning curves of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, Any

_SCHEDULE = ("stage", "epoch", "step", "lr", "beta", "steps_per_second", "peak_memory_mib")


def draw_curves(
    metrics: Sequence[Mapping[str, Any]], validation: Sequence[Mapping[str, Any]], figure: str, file: IO[bytes]
) -> None:
    """Draws the losses by epoch, and beside them the validation figure that the best epoch is chosen by, as a PNG."""
    from matplotlib.figure import Figure

    page = Figure(figsize=(9, 3.4), layout="constrained", dpi=120)
    left, right = page.subplots(1, 2)
    epochs = [row["at_epoch"] for row in metrics]
    for name in dict.fromkeys(name for row in metrics for name in row if name not in (*_SCHEDULE, "at_epoch")):
        left.plot(epochs, [row.get(name) for row in metrics], label=name, linewidth=2 if name == "loss" else 1)
    left.set(title="losses in training", xlabel="epoch", yscale="log")
    left.legend(fontsize=8)
    shown = [(row["epoch"], 100 * row[figure]) for row in validation if figure in row]
    right.plot(*zip(*shown, strict=True), marker="o")
    right.set(title=f"validation, {figure} (%)", xlabel="epoch", ylim=(0, None))
    for axes in (left, right):
        axes.grid(alpha=0.3)
    page.savefig(file, format="png", metadata={"Software": None})
