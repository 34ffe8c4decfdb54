"""Numbers and names as the page shows them."""

from __future__ import annotations

import re
from unicodedata import east_asian_width

from markupsafe import Markup, escape

from oshp_bench.episodes.episodes import way_name
from oshp_bench.metrics.figures import parse_figure
from oshp_bench.metrics.intervals import Difference
from oshp_bench.metrics.result import Figure

_LONGEST_NAME = 60


def percent(value: float | None, digits: int = 2, *, sign: bool = False) -> str:
    """A fraction in percent, with a minus sign instead of a hyphen; a dash for None."""
    if value is None:
        return "\N{EN DASH}"
    return f"{100 * value:{'+' if sign else ''}.{digits}f}".replace("-", "\N{MINUS SIGN}")


def from_to(figure: Figure | Difference, *, sign: bool = False) -> str:
    """The ends of an interval in percent, "" if there is none."""
    if figure.low is None or figure.high is None:
        return ""
    return f"{percent(figure.low, sign=sign)} to {percent(figure.high, sign=sign)}"


def safe_line(text: object, columns: int = _LONGEST_NAME) -> str:
    """A text of unknown origin as one line of at most `columns` columns, without control characters."""
    kept: list[str] = []
    width = 0
    for sign in str(text):
        width += 2 if east_asian_width(sign) in "WF" else 1
        if width > columns:
            return "".join(kept[:-1]).rstrip() + "…"
        kept.append(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}")
    return "".join(kept)


def called(text: object, columns: int = _LONGEST_NAME) -> Markup:
    """A text of unknown origin as HTML that does not change the writing direction around it."""
    return Markup("<bdi>{}</bdi>").format(safe_line(text, columns))


def way_of(figure: str) -> str:
    """The way of a figure such as "kway/novel_miou": "k-way"."""
    return way_name(parse_figure(figure).way)


def label_of(figure: str) -> str:
    """The label of a figure such as "kway/novel_miou" without its way: "C_novel mIoU"."""
    return parse_figure(figure).kind.label


def label_html(figure: str) -> Markup:
    """The label of a figure as HTML with subscripts."""
    return Markup(re.sub(r"C_(\w+)", r"C<sub>\1</sub>", str(escape(label_of(figure)))))
