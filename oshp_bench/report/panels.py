"""The plots of a report, with their titles and the numbers behind them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from oshp_bench.episodes.episodes import way_key, way_name
from oshp_bench.metrics.diagnosis import TERCILES
from oshp_bench.metrics.figures import EPISODE_RANKING, HEADLINE, IOU
from oshp_bench.metrics.intervals import Difference
from oshp_bench.metrics.result import Figure
from oshp_bench.report import plots, tables
from oshp_bench.report.canvas import variable
from oshp_bench.report.content import NOTHING, HeadlineRow, Report, ScoredSet, class_colour, destinations, swaps
from oshp_bench.report.examples import episode_values
from oshp_bench.report.words import label_html, label_of, percent, safe_line, way_of


@dataclass(frozen=True)
class Panel:
    """A plot, its title, the sets that it shows, and the table of its numbers."""

    title: str | Markup
    plot: Markup
    sets: tuple[ScoredSet, ...]
    numbers: tables.Table | None = None


def stat(report: Report, name: str) -> Markup:
    """The sets, the floor and the published methods by one headline figure; empty if there would be only one row."""
    rows: list[plots.Dot] = []
    for row in report.rows:
        figure = row.figures.get(name, NOTHING)
        if figure.value is None and row.kind == "published":
            continue
        group = "" if row.kind == "set" else "floor" if row.kind == "floor" else _published_group(report, row, name)
        mark = "first" if row.kind == "set" and len(report.sets) == 2 and not rows else row.kind
        text = percent(figure.value, 1 if row.kind == "published" else 2)
        rows.append(plots.Dot(row.name, figure, text, mark, group))
    if len(rows) < 2:
        return Markup()
    said = "; ".join(f"{safe_line(row.label)} {row.text}" for row in rows if row.mark in ("set", "first"))
    title = f"{way_of(name)} {label_of(name)} in percent"
    label = f"{title}: {said}; {len(rows)} rows. The table below holds the numbers."
    return plots.dots(rows, f"stat-{name.replace('/', '-').replace('_', '-')}", label)


def _published_group(report: Report, row: HeadlineRow, name: str) -> str:
    fold = "both folds" if name in row.for_both_folds else f"fold {report.manifest.fold}"
    return f"published, {fold}"


def class_panels(report: Report) -> Iterator[Panel]:
    """IoU by class, one panel per way."""
    for way in report.ways:
        sets = report.sets_of(way)
        rows = []
        for oshp_class in report.classes:
            figures = tuple(scored.result.figures[IOU.full_name(way, oshp_class.id)] for scored in sets)
            text = percent(figures[-1].value, 1)
            rows.append(
                plots.Bar(oshp_class.name, class_colour(oshp_class.name), figures, text, _group(oshp_class.role))
            )
        label = f"{way_name(way)} IoU by class in percent: " + "; ".join(f"{row.label} {row.text}" for row in rows)
        yield Panel(way_name(way), plots.bars(rows, f"classes-{way_key(way)}", label), sets)


def difference_panels(report: Report) -> Iterator[Panel]:
    """Paired differences of means and classes, one panel per way that both sets have."""
    for way in report.ways:
        means = [name for name in HEADLINE[way] if name in report.differences]
        groups = [("means", label_of(name).removeprefix("C_"), name) for name in means]
        groups += [
            (_group(oshp_class.role), oshp_class.name, IOU.full_name(way, oshp_class.id))
            for oshp_class in report.classes
        ]
        rows = [
            _difference_row(label, report.differences[name], group)
            for group, label, name in groups
            if name in report.differences
        ]
        if rows:
            label = f"{way_name(way)} difference, second minus first, in points: "
            label += "; ".join(f"{row.label} {row.text}" for row in rows)
            plot = plots.dots(rows, f"differences-{way_key(way)}", label, around_zero=True)
            yield Panel(way_name(way), plot, ())


def _difference_row(label: str, difference: Difference, group: str) -> plots.Dot:
    low, high = difference.low, difference.high
    mark = "better" if low is not None and low > 0 else "worse" if high is not None and high < 0 else "unclear"
    figure = Figure(difference.value, low, high)
    return plots.Dot(label, figure, percent(difference.value, 1, sign=True), mark, group)


def bias_panels(report: Report) -> Iterator[Panel]:
    """What pixels of novel and of base classes are predicted as in k-way: two panels per set."""
    for number, scored in enumerate(report.sets_of("k")):
        for role in ("novel", "base"):
            mine = [oshp_class for oshp_class in report.classes if oshp_class.role == role]
            rows = []
            for name, classes in ((f"all {role}", mine), *((oshp_class.name, [oshp_class]) for oshp_class in mine)):
                parts = tuple((share, variable(part)) for part, share in destinations(scored, classes).items())
                rows.append(plots.Shares(name, parts))
            said = "; ".join(f"{row.label} {percent(row.parts[0][0], 0)}" for row in rows if row.parts)
            label = f"Where the pixels of {role} classes go, k-way; percent that is parsed right: {said}"
            yield Panel(f"{role} classes", plots.shares(rows, f"bias-{role}-{number}", label, left=100), (scored,))


def size_panels(report: Report) -> Iterator[Panel]:
    """IoU by thirds of the class's area, one panel per way and set."""
    for way in report.ways:
        for number, scored in enumerate(report.sets_of(way)):
            sizes = scored.result.diagnosis[way_key(way)]["sizes"]
            of_class = {row["class"]: row for row in sizes["classes"]}
            rows = [plots.Steps("all", variable("accent"), tuple(sizes["mean"].values()), "mean of classes")]
            for oshp_class in report.classes:
                if oshp_class.role != "background":
                    values = tuple(of_class[oshp_class.name][size] for size in TERCILES)
                    rows.append(
                        plots.Steps(oshp_class.name, class_colour(oshp_class.name), values, _group(oshp_class.role))
                    )
            small, medium, large = (percent(value, 1) for value in rows[0].values)
            label = (
                f"{way_name(way)} IoU where the class is small, medium and large in the query, in percent; mean of"
                f" classes {small}, {medium}, {large}"
            )
            plot = plots.steps(rows, f"sizes-{way_key(way)}-{number}", label)
            yield Panel(way_name(way), plot, (scored,), tables.size_table(scored.result, way))


def swap_panels(report: Report) -> Iterator[Panel]:
    """The most confused pairs of classes in k-way, one panel per set."""
    for number, scored in enumerate(report.sets_of("k")):
        rows = []
        for pair in swaps(scored):
            parts = tuple((share, class_colour(name)) for name, share in pair)
            text = percent(sum(share for share, _ in parts), 1)
            rows.append(plots.Shares(" / ".join(name for name, _ in pair), parts, text))
        if rows:
            label = "Most confused pairs of classes, share of both's pixels in percent: "
            label += "; ".join(f"{row.label} {row.text}" for row in rows)
            plot = plots.shares(rows, f"swaps-{number}", label, left=150, whole=None)
            yield Panel("k-way", plot, (scored,), tables.similar_table(scored.result))


def episode_panels(report: Report) -> Iterator[Panel]:
    """The distribution of the figure of single episodes, one panel per way."""
    for way in report.ways:
        sets = report.sets_of(way)
        values = [episode_values(scored.result, way) for scored in sets]
        known = values[-1][~np.isnan(values[-1])]
        quarters = [percent(float(np.percentile(known, at)) if len(known) else None, 1) for at in (25, 50, 75)]
        kind = EPISODE_RANKING[way]
        label = (
            f"{way_name(way)} {kind.label} of {len(known)} episodes as a histogram; a quarter lies below"
            f" {quarters[0]}, half below {quarters[1]}, three quarters below {quarters[2]} percent"
        )
        title = Markup("{} {}").format(way_name(way), label_html(kind.full_name(way)))
        yield Panel(title, plots.histogram(values, f"episodes-{way_key(way)}", label), sets)


def _group(role: str) -> str:
    return role if role == "background" else f"{role} classes"
