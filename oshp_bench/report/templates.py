"""Fills templates of HTML pages. All pages share one theme."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

_THEME = Path(__file__).with_name("theme.css")


def filled(template: Path, filters: Mapping[str, Any] | None = None, **values: object) -> str:
    """A template NAME.html.j2 with its values, in the style of theme.css and of the NAME.css beside it.

    Every text is escaped, and a name that the template uses but `values` lacks is an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters or {}
    own = template.with_name(template.name.partition(".")[0] + ".css")
    style = Markup("".join(path.read_text(encoding="utf-8") for path in (_THEME, own)))
    return environment.get_template(template.name).render(style=style, **values)
