"""Writes the report as one HTML file, without scripts or requests."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import PIL

from oshp_bench.episodes.episodes import WAYS, way_name
from oshp_bench.errors import OshpError
from oshp_bench.metrics.figures import EPISODE_RANKING
from oshp_bench.metrics.intervals import Difference
from oshp_bench.metrics.result import Result
from oshp_bench.metrics.result_file import AnyResult
from oshp_bench.report import panels, tables, words
from oshp_bench.report.canvas import hexadecimal
from oshp_bench.report.content import NOTHING, Report, class_colour, confusion, report_of
from oshp_bench.report.examples import Gallery
from oshp_bench.report.pictures import ERRORS, episodes
from oshp_bench.report.published import PublishedTable, published_table, published_tables
from oshp_bench.report.templates import filled

_TEMPLATE = Path(__file__).with_name("report.html.j2")


def report_html(
    results: Result | Sequence[Result],
    *,
    names: Sequence[str] = (),
    floors: Sequence[tuple[str, AnyResult]] = (),
    published: PublishedTable | None = None,
    differences: Mapping[str, Difference] | None = None,
    gallery: Gallery | None = None,
    command: str = "",
    back: str = "",
) -> str:
    """A report on a result, or on two of the same pairs that are compared (second minus first), as HTML.

    The same input gives the same text with the same versions of the drawing libraries.

    Args:
        results: from metrics.score or metrics.score_matrices.
        names: names of the prediction sets, of any origin; by default those of their methods.
        floors: names and results to show beside them, of the same pairs and convention.
        published: the paper's table to show beside them; by default the one about these pairs, if there is one.
        differences: the result of metrics.compare for two results; by default they are compared here.
        gallery: the source of episodes' pictures; None for a report without pictures.
        command: the command line that is shown in the section "Source".
        back: the address of a board to link back to, "" if there is none.

    Raises:
        OshpError: results that cannot be compared, or images that cannot be read.
    """
    given = (results,) if isinstance(results, Result) else tuple(results)
    called = tuple(names) or tuple(result.method_name or "predictions" for result in given)
    table = published or published_table(given[0].manifest)
    report = report_of(given, called, floors, table, differences, command)
    if gallery and len(gallery.predictions) != len(given):
        raise OshpError("the gallery needs one prediction set per result")
    return _render(report, gallery, back)


def _render(report: Report, gallery: Gallery | None, back: str) -> str:
    filters = {
        "percent": words.percent,
        "from_to": words.from_to,
        "safe_line": words.safe_line,
        "called": words.called,
        "way_of": words.way_of,
        "label_of": words.label_html,
        "colour": class_colour,
    }
    kway, oneway = report.sets_of("k"), report.sets_of("1")
    return filled(
        _TEMPLATE,
        filters,
        report=report,
        back=back,
        paper=published_tables()[0],
        nothing=NOTHING,
        way_names={way: way_name(way) for way in WAYS},
        stats=[(name, panels.stat(report, name)) for name in report.headline],
        figure_tables=[list(tables.result_tables(scored.result)) for scored in report.sets],
        shape_tables=[list(tables.shape_tables(scored.result)) for scored in report.sets],
        comparison=_comparison(report),
        class_panels=list(panels.class_panels(report)),
        difference_panels=list(panels.difference_panels(report)),
        bias_panels=list(panels.bias_panels(report)),
        bias_tables=[tables.bias_table(scored.result) for scored in kway],
        confusions=[(scored, confusion(scored, report.classes)) for scored in kway],
        size_panels=list(panels.size_panels(report)),
        swap_panels=list(panels.swap_panels(report)),
        foreground=[(scored, tables.foreground_table(scored.result)) for scored in oneway],
        episode_panels=list(panels.episode_panels(report)),
        kinds=list(episodes(report, gallery)) if gallery else [],
        ranked_by={way: words.label_html(kind.full_name(way)) for way, kind in EPISODE_RANKING.items()},
        errors={name: hexadecimal(colour) for name, colour in ERRORS.items() if name != "background"},
        photos=bool(gallery and gallery.source),
        versions={
            "Python": platform.python_version(),
            "numpy": np.__version__,
            "Pillow": PIL.__version__,
            "matplotlib": matplotlib.__version__,
        },
    )


def _comparison(report: Report) -> tables.Table | None:
    if not report.differences:
        return None
    first, second = report.sets
    names = (words.safe_line(first.name), words.safe_line(second.name))
    return tables.comparison_table(names, (first.result, second.result), report.differences)
