"""Learning curves can be read: whole epochs, a gap where a logarithmic axis has no place, nothing over lines."""

from __future__ import annotations

import io
from typing import Any

import matplotlib.figure
import numpy as np
import pytest

from oshp_bench.training.curves import draw_curves


def test_a_loss_of_zero_is_a_gap_and_the_legend_lies_beside_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[matplotlib.figure.Figure] = []
    save = matplotlib.figure.Figure.savefig

    def kept(self: matplotlib.figure.Figure, *to: Any, **how: Any) -> None:
        drawn.append(self)
        save(self, *to, **how)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", kept)
    rows = [
        {"at_epoch": epoch / 2, "loss": 2.0 / epoch, "contrast": float(epoch > 2), "lr": 0.1} for epoch in range(1, 7)
    ]
    file = io.BytesIO()
    draw_curves(rows, [{"epoch": epoch, "kway/human_miou": epoch / 10} for epoch in (1, 2, 3)], "kway/human_miou", file)
    left, right = drawn[0].axes
    contrast = np.asarray(left.lines[1].get_ydata(), float)
    assert np.isnan(contrast[:2]).all()
    assert (contrast[2:] == 1).all()
    low, _ = left.get_ylim()
    assert low > 0.1, "a spike to 0 would stretch the axis"
    for axes in (left, right):
        ticks = axes.get_xticks()
        assert (ticks == np.round(ticks)).all()
    legend = left.get_legend()
    assert legend and legend.get_window_extent().x0 >= left.get_window_extent().x1 - 1
    assert right.get_title() == "Validation, k-way C_human mIoU in %"
    assert file.getvalue().startswith(b"\x89PNG")
