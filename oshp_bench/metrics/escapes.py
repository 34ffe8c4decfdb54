"""Texts of unknown origin in Markdown, LaTeX and CSV, where some of their characters would be commands."""

from __future__ import annotations

import re

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~&#])")
# Figures and intervals, which no format reads as anything else.
_NUMBERS = re.compile(r"[-+0-9.,\[\] ]*")
_LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "_%&#${}"}
    | {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
)
# Characters that start a formula in spreadsheets.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def one_line(text: str) -> str:
    """A text without line breaks."""
    return " ".join(text.split())


def markdown(text: str) -> str:
    """A text as one line of Markdown, within a table or not."""
    return text if _NUMBERS.fullmatch(text) else _MARKDOWN.sub(r"\\\1", one_line(text))


def latex(text: str) -> str:
    """A text within a cell of LaTeX."""
    return text.translate(_LATEX)


def latex_start(text: str) -> str:
    """A text in the first cell of a row: LaTeX takes "[" or "*" there for an option of the line break before it."""
    return f"{{}}{latex(text)}" if text.lstrip().startswith(("[", "*")) else latex(text)


def csv_cell(text: str) -> str:
    """A text as a cell that no spreadsheet takes for a formula; numbers stay numbers."""
    if not text.startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
