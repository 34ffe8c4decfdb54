"""Matplotlib plots as inline SVG that takes colours and typeface from the page around it.

Text stays text. A plot is drawn in placeholder colours that are then replaced by the page's CSS variables, so that one
drawing serves light, dark and print. The same plot gives the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

# The page's CSS variables that a plot may use as colours: --ink, --muted, ...
_VARIABLES = (
    "ink", "muted", "line", "paper", "edge", "accent", "accent-soft", "right", "same", "other", "void", "removed",
    "better", "worse",
)  # fmt: skip
_STYLE: dict[Any, object] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "oshp-bench",
    "text.parse_math": False,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.spines.bottom": False,
    "axes.axisbelow": True,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "font.size": 12,
}
_SVG = "{http://www.w3.org/2000/svg}"
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_REFERENCE = re.compile(r"url\(#([^)]*)\)")


def variable(name: str) -> str:
    """The placeholder colour of a CSS variable of the page."""
    return f"#0000{_VARIABLES.index(name) + 1:02x}"


def hexadecimal(colour: tuple[int, int, int]) -> str:
    """A colour of red, green and blue 0..255 as "#rrggbb"."""
    return "#" + bytes(colour).hex()


@contextmanager
def drawing() -> Iterator[None]:
    """Draws in the page's style, independent of the user's matplotlib settings."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        # The page's own typeface is used, so a missing glyph in matplotlib's does not matter.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def inline_svg(figure: Figure, name: str, label: str) -> Markup:
    """A figure as an SVG element for a page. Call it within drawing().

    Args:
        figure: with 72 dots per inch, so that a point is a pixel.
        name: unique among the plots of the page; the ids within the element start with it.
        label: describes the plot for screen readers.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    # Safe to parse: matplotlib wrote it one line above.
    root = ElementTree.fromstring(buffer.getvalue())
    _, _, width, height = root.attrib["viewBox"].split()
    for child in list(root):
        if child.tag == f"{_SVG}metadata" or child.find(f"{_SVG}style") is not None:
            root.remove(child)
    used: dict[str, str] = {}
    for element in root.iter():
        _restyle(element, used, name)
    for element in root.iter():
        identity = element.attrib.pop("id", None)
        if identity in used:
            element.set("id", used[identity])
    root.attrib = {"viewBox": f"0 0 {width} {height}", "width": width, "height": height} | {
        "role": "img",
        "aria-label": label,
    }
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _restyle(element: ElementTree.Element, used: dict[str, str], name: str) -> None:
    """Rounds an element's numbers, sets the page's colours, and collects the ids that it refers to."""

    def reference(identity: str) -> str:
        return used.setdefault(identity, f"{name}-{len(used)}")

    element.tag = element.tag.removeprefix(_SVG)
    element.text = (element.text and element.text.strip()) or None
    element.tail = None
    attributes: dict[str, str] = {}
    for key, value in element.attrib.items():
        if key.endswith("}href"):
            attributes["href"] = f"#{reference(value[1:])}"
        elif key == "style":
            attributes["style"] = _coloured(value)
        elif not (key == "transform" and value.startswith("rotate(-0 ")):
            text = _REFERENCE.sub(lambda found: f"url(#{reference(found[1])})", value)
            attributes[key] = " ".join(_LONG_NUMBER.sub(lambda found: f"{float(found[0]):.2f}", text).split())
    element.attrib = attributes


def _coloured(style: str) -> str:
    kept = [rule.strip() for rule in style.split(";") if not rule.strip().startswith("font-family")]
    text = "; ".join(kept)
    for index, variable_name in enumerate(_VARIABLES, 1):
        text = text.replace(f"#0000{index:02x}", f"var(--{variable_name})")
    return text
