"""The method card: what a reader of a board wants to know of a method, checked strictly."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from oshp_bench.errors import raise_problems
from oshp_bench.files import read_toml
from oshp_bench.untrusted import Reader, shown

_MOST_NAME = 100
_MOST_TEXT = 500
_MOST_DESCRIPTION = 2_000
_MOST_PARAMETERS = 10**15
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
# A host without a user's name before it, then anything but spaces, quotes, brackets and other letters than ASCII's.
_URL = re.compile(
    r"https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?([/?#][!#-;=?-\[\]_a-z~]*)?", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True)
class MethodCard:
    """What a submission says of its method. Texts are one printable line each.

    Attributes:
        name: as it stands in a table, at most 100 characters.
        authors: as they stand in a table.
        paper, code: addresses, http or https; None if there is none.
        backbone: the network that sees the photo; "none" if there is none.
        pretraining: the data that the backbone was trained on before; "none" if there are none.
        parameters: of the whole method, a count.
        extra_data: what was trained on beside the manifest's training images; "none" if nothing.
        date: of the predictions, "2026-01-31".
    """

    name: str
    authors: str
    paper: str | None = None
    code: str | None = None
    backbone: str
    pretraining: str
    parameters: int
    extra_data: str
    date: str
    description: str | None = None

    def to_json(self) -> dict[str, Any]:
        """All members; null where nothing was said."""
        return asdict(self)


def read_method_card(path: Path) -> MethodCard:
    """Reads a method card as its author writes it, in TOML.

    Raises:
        OshpError: every problem of the card, a line each.
    """
    content = read_toml(path)
    said = content.get("date")
    # TOML has a type for dates, JSON has none.
    reader = Reader({**content, "date": said.isoformat()} if isinstance(said, date) else content, str(path))
    card = method_card(reader)
    raise_problems(reader.problems)
    return card


def method_card(reader: Reader) -> MethodCard:
    """Takes a card from a table; what is wrong with it is noted there."""
    card = MethodCard(
        name=_text(reader, "name", _MOST_NAME),
        authors=_text(reader, "authors"),
        paper=_address(reader, "paper"),
        code=_address(reader, "code"),
        backbone=_text(reader, "backbone"),
        pretraining=_text(reader, "pretraining"),
        parameters=reader.integer("parameters", least=0, most=_MOST_PARAMETERS),
        extra_data=_text(reader, "extra_data"),
        date=_checked(reader, "date", _date_problem),
        description=_said(reader, "description", _MOST_DESCRIPTION),
    )
    reader.unknown_members()
    return card


def name_problem(value: object) -> str | None:
    """Says why a value of unknown origin is no method's name; None if it is one, or says nothing (null, "")."""
    if value is None or value == "":
        return None
    return _text_problem(value, _MOST_NAME) if isinstance(value, str) else f"is {shown(value)}, not a text"


def _checked(reader: Reader, key: str, problem_of: Callable[[str], str | None]) -> str:
    noted = reader.problems
    value = reader.text(key)
    # What is missing or no text was noted just now.
    problem = problem_of(value) if reader.problems == noted else None
    reader.wrong_if(problem, f"{key} {problem}")
    return value


def _text(reader: Reader, key: str, most: int = _MOST_TEXT) -> str:
    return _checked(reader, key, lambda value: _text_problem(value, most))


def _said(reader: Reader, key: str, most: int = _MOST_TEXT) -> str | None:
    if reader.absent(key):
        return None
    return _checked(reader, key, lambda value: _text_problem(value, most) if value else None) or None


def _address(reader: Reader, key: str) -> str | None:
    value = _said(reader, key)
    reader.wrong_if(
        value and not _URL.fullmatch(value), f"{key} is {shown(value)}, not an address http://... or https://..."
    )
    return value


def _text_problem(value: str, most: int) -> str | None:
    """Says why a text cannot stand in a table; None if it can.

    Signs that turn the direction of writing are not printable; letters of scripts that run from right to left are.
    """
    if not value:
        return "is empty; fill it in"
    if len(value) > most:
        return f"has {len(value):,} characters; {most} are the most"
    strange = [sign for sign in value if not sign.isprintable()]
    if strange:
        return f"holds U+{ord(strange[0]):04X}, which is not printed; write one line of plain text"
    return "starts or ends with a space" if value != value.strip() else None


def _date_problem(value: str) -> str | None:
    try:
        # On its own, fromisoformat takes weeks and other forms too.
        valid = _DATE.fullmatch(value) and date.fromisoformat(value)
    except ValueError:
        valid = None
    return None if valid else f"is {shown(value)}, not a day such as 2026-01-31"
