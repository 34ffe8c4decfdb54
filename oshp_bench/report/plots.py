"""The report's plots: rows of dots, bars, shares and sizes, and a histogram. Values are fractions, axes in percent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, MaxNLocator

from oshp_bench.metrics.measures import Floats
from oshp_bench.metrics.result import Figure
from oshp_bench.report.canvas import drawing, inline_svg, variable
from oshp_bench.report.words import safe_line

_WIDTH, _TOP, _BOTTOM = 360, 6, 24
_ROW, _HEADER = 21, 23
_SMALL = 10.5


@dataclass(frozen=True)
class Dot:
    """A row with a dot and its interval.

    Attributes:
        mark: "set", "first" (of two sets), "floor", "published"; for differences "better", "worse" or "unclear".
        text: shown on the right.
    """

    label: str
    figure: Figure
    text: str
    mark: str
    group: str = ""


@dataclass(frozen=True)
class Bar:
    """A row with one bar per set."""

    label: str
    colour: str
    figures: tuple[Figure, ...]
    text: str
    group: str = ""


@dataclass(frozen=True)
class Shares:
    """A row of parts laid end to end: (share, colour)."""

    label: str
    parts: tuple[tuple[float, str], ...]
    text: str = ""
    group: str = ""


@dataclass(frozen=True)
class Steps:
    """A row of three values: small, medium, large."""

    label: str
    colour: str
    values: tuple[float | None, ...]
    group: str = ""


_Row = Dot | Bar | Shares | Steps
# mark -> face, edge, shape, size
_MARKS = {
    "set": ("accent", "accent", "o", 7.0),
    "first": ("paper", "accent", "o", 6.5),
    "floor": ("muted", "muted", "|", 9.0),
    "published": ("paper", "muted", "D", 5.0),
    "better": ("better", "better", "o", 7.0),
    "worse": ("worse", "worse", "o", 7.0),
    "unclear": ("paper", "muted", "o", 6.5),
}


def dots(rows: Sequence[Dot], name: str, label: str, *, around_zero: bool = False) -> Markup:
    """Rows of dots with intervals. A dotted line through all rows marks the value of the set."""
    with drawing():
        figure, axes, places = _rows(rows, 126, 44)
        ends = [end for row in rows for end in (row.figure.value, row.figure.low, row.figure.high) if end is not None]
        _limits(axes, ends, around_zero)
        if around_zero:
            axes.axvline(0, color=variable("muted"), linewidth=1)
        for row, place in zip(rows, places, strict=True):
            if row.mark == "set" and row.figure.value is not None:
                axes.axvline(row.figure.value, color=variable("accent"), linewidth=1, dashes=(1, 3), zorder=0.5)
            _dot(axes, row, place)
            _text_right(axes, place, row.text, strong=row.mark in ("set", "better", "worse"))
        return inline_svg(figure, name, label)


def bars(rows: Sequence[Bar], name: str, label: str) -> Markup:
    """Rows of bars with intervals. For two sets, the upper, pale bar is the first set."""
    with drawing():
        figure, axes, places = _rows(rows, 100, 44, row_height=_ROW if len(rows[0].figures) == 1 else 29)
        ends = [bar.high or bar.value or 0 for row in rows for bar in row.figures]
        axes.set_xlim(0, max(ends, default=0) or 1)
        for row, place in zip(rows, places, strict=True):
            height = 0.62 / len(row.figures)
            for number, bar in enumerate(row.figures):
                last = number == len(row.figures) - 1
                y = place + (number - (len(row.figures) - 1) / 2) * (height + 0.06)
                axes.barh(y, bar.value or 0, height, color=row.colour, alpha=None if last else 0.3)
                axes.barh(y, bar.value or 0, height, color="none", edgecolor=variable("edge"), linewidth=0.8)
                _whisker(axes, bar, y)
            _text_right(axes, place, row.text)
        return inline_svg(figure, name, label)


def shares(rows: Sequence[Shares], name: str, label: str, *, left: int, whole: float | None = 1.0) -> Markup:
    """Rows of parts of a whole, laid end to end.

    Args:
        left: width of the rows' labels in pixels.
        whole: end of the axis, with numbers in the parts; None to end at the longest row, without numbers.
    """
    with drawing():
        figure, axes, places = _rows(rows, left, 44 if any(row.text for row in rows) else 12)
        axes.set_xlim(0, whole or max(sum(share for share, _ in row.parts) for row in rows) or 1)
        for row, place in zip(rows, places, strict=True):
            start = 0.0
            for share, colour in row.parts:
                axes.barh(place, share, 0.66, left=start, color=colour, edgecolor=variable("edge"), linewidth=0.8)
                if whole is not None and share >= 0.09 * whole:
                    axes.text(
                        start + share / 2, place, f"{100 * share:.0f}", ha="center", va="center",
                        fontsize=_SMALL, color=variable("ink"),
                    )  # fmt: skip
                start += share
            _text_right(axes, place, row.text)
        return inline_svg(figure, name, label)


def steps(rows: Sequence[Steps], name: str, label: str) -> Markup:
    """Rows of three dots of growing size on a line."""
    with drawing():
        figure, axes, places = _rows(rows, 100, 12)
        axes.set_xlim(0, max((value for row in rows for value in row.values if value is not None), default=1) or 1)
        for row, place in zip(rows, places, strict=True):
            known = [value for value in row.values if value is not None]
            if known:
                axes.hlines(place, min(known), max(known), color=variable("muted"), linewidth=1, zorder=2)
            for value, size in zip(row.values, (4, 7, 10.5), strict=True):
                if value is not None:
                    axes.plot(
                        value, place, "o", ms=size, mfc=row.colour, mec=variable("edge"), mew=0.9, zorder=3,
                        clip_on=False,
                    )  # fmt: skip
        return inline_svg(figure, name, label)


def histogram(sets: Sequence[Floats], name: str, label: str, *, bins: int = 20) -> Markup:
    """A histogram of episodes by value. For two sets, the first is outlined. Lines mark the means.

    Args:
        sets: one float64 [episodes] per set, NaN for an episode without a value.
    """
    with drawing():
        height = 190
        figure, axes = _axes(height, 34, 12)
        axes.set_xlim(0, 1)
        edges = np.linspace(0, 1, bins + 1)
        top = 0.0
        for number, values in enumerate(sets):
            counts, _ = np.histogram(values[~np.isnan(values)], edges)
            top = max(top, float(counts.max()))
            last = number == len(sets) - 1
            axes.stairs(
                counts,
                edges,
                fill=last,
                facecolor=variable("accent-soft") if last else "none",
                edgecolor=variable("accent") if last else variable("ink"),
                linewidth=1.2,
                linestyle="-" if last else (0, (3, 2)),
            )
            if not np.isnan(values).all():
                mean = float(np.nanmean(values))
                colour = variable("accent" if last else "ink")
                axes.axvline(mean, color=colour, linewidth=1.5, dashes=(4, 2))
                axes.annotate(
                    f"mean {100 * mean:.1f}", (mean, 0.95 - 0.09 * number), (5, 0), xycoords=("data", "axes fraction"),
                    textcoords="offset pixels", color=colour, fontsize=_SMALL, va="center",
                )  # fmt: skip
        axes.set_ylim(0, 1.12 * top or 1)
        axes.grid(True, axis="y", color=variable("line"), linewidth=0.8)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.tick_params(axis="y", labelsize=_SMALL, labelcolor=variable("muted"), pad=4)
        _percent_axis(axes)
        return inline_svg(figure, name, label)


def _axes(height: float, left: int, right: int, bottom: int = _BOTTOM) -> tuple[Drawing, Axes]:
    """Axes with fixed margins in pixels."""
    figure = Drawing(figsize=(_WIDTH / 72, height / 72), dpi=72)
    axes = figure.add_axes(
        (left / _WIDTH, bottom / height, (_WIDTH - left - right) / _WIDTH, (height - bottom - _TOP) / height)
    )
    return figure, axes


def _rows(rows: Sequence[_Row], left: int, right: int, row_height: float = _ROW) -> tuple[Drawing, Axes, list[float]]:
    """Axes with one labelled row per item and a heading above every group, and the places of the rows' centres."""
    places: list[float] = []
    headings: list[tuple[float, str]] = []
    used, group = 0.0, ""
    for row in rows:
        if row.group != group:
            group = row.group
            headings.append((used + 0.6 * _HEADER / row_height, group))
            used += _HEADER / row_height
        places.append(used + 0.5)
        used += 1
    figure, axes = _axes(used * row_height + _TOP + _BOTTOM, left, right)
    axes.set_ylim(used, 0)
    labels = [_fitting(row.label, left - 10, _is_strong(row)) for row in rows]
    axes.set_yticks(places, [label for label, _ in labels])
    axes.tick_params(axis="y", labelcolor=variable("ink"), pad=8)
    for tick, row, (_, size) in zip(axes.get_yticklabels(), rows, labels, strict=True):
        tick.set(fontsize=size, fontweight="bold" if _is_strong(row) else "normal", linespacing=1)
    for place, text in headings:
        axes.annotate(
            text, (0, place), (-left + 2, 0), xycoords=("axes fraction", "data"), textcoords="offset pixels",
            color=variable("muted"), fontsize=_SMALL, va="center", annotation_clip=False,
        )  # fmt: skip
    axes.grid(True, axis="x", color=variable("line"), linewidth=0.8)
    _percent_axis(axes)
    return figure, axes, places


def _is_strong(row: _Row) -> bool:
    return isinstance(row, Dot) and row.mark == "set"


@cache
def _fitting(text: str, pixels: int, strong: bool) -> tuple[str, float]:
    """A label and its size: on two smaller lines if it is too wide, measured in matplotlib's typeface, a wide one."""
    typeface = FontProperties(family="DejaVu Sans", weight="bold" if strong else "normal")

    def width(line: str) -> float:
        return float(TextPath((0, 0), line, size=1, prop=typeface).get_extents().width)

    text = safe_line(text)
    if 12 * width(text) <= pixels:
        return text, 12
    # After the space or hyphen that is nearest to the middle, or at the middle.
    middle = len(text) // 2
    breaks = [place for place in range(1, len(text)) if text[place - 1] in " -/_"] or [middle]
    place = min(breaks, key=lambda place: abs(place - middle))
    if max(place, len(text) - place) > 0.7 * len(text):
        place = middle
    lines = text[:place].rstrip(), text[place:]
    return "\n".join(lines), min(10, pixels / max(map(width, lines)))


def _tick(value: float, _: int) -> str:
    return f"{round(100 * value, 6):g}".replace("-", "\N{MINUS SIGN}")


def _percent_axis(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(_tick))
    axes.tick_params(axis="x", labelsize=_SMALL, labelcolor=variable("muted"), pad=4)


def _limits(axes: Axes, ends: Sequence[float], around_zero: bool) -> None:
    """Sets both ends with a margin. The axis starts at 0 if the smallest value is below half the largest."""
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    if around_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    elif low < high / 2:
        low = 0.0
    air = 0.04 * (high - low) or 0.02
    axes.set_xlim(low - air, high + air)


def _dot(axes: Axes, row: Dot, place: float) -> None:
    if row.figure.value is None:
        return
    face, edge, shape, size = _MARKS[row.mark]
    if row.figure.low is not None and row.figure.high is not None:
        axes.hlines(place, row.figure.low, row.figure.high, color=variable(edge), linewidth=2.2, zorder=2)
    axes.plot(
        row.figure.value, place, shape, ms=size, mfc=variable(face), mec=variable(edge), mew=1.5, zorder=3,
        clip_on=False,
    )  # fmt: skip


def _whisker(axes: Axes, figure: Figure, place: float) -> None:
    """An interval that is visible on any bar: an ink line on a wider paper line."""
    if figure.low is None or figure.high is None:
        return
    axes.hlines(place, figure.low, figure.high, color=variable("paper"), linewidth=3.4, zorder=3)
    axes.hlines(place, figure.low, figure.high, color=variable("ink"), linewidth=1.4, zorder=4)


def _text_right(axes: Axes, place: float, text: str, *, strong: bool = False) -> None:
    axes.annotate(
        text, (1, place), (42, 0), xycoords=("axes fraction", "data"), textcoords="offset pixels", ha="right",
        va="center", color=variable("ink" if strong else "muted"), fontweight="bold" if strong else "normal",
        fontsize=11.5, annotation_clip=False,
    )  # fmt: skip
