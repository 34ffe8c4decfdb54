"""The method card: what readers of a board want to know about a method. It is checked strictly."""

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
# A host without a user name before it, then ASCII without spaces, quotes and brackets.
_URL = re.compile(
    r"https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?([/?#][!#-;=?-\[\]_a-z~]*)?", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True)
class MethodCard:
    """What a submission says about its method. Every text is one printable line.

    Attributes:
        name: the name in tables, at most 100 characters.
        authors: the authors in tables.
        paper, code: addresses, http or https; None if there is none.
        backbone: the network that reads the photo; "none" if there is none.
        pretraining: the data that the backbone was pretrained on; "none" if it was not.
        parameters: number of parameters of the whole method.
        extra_data: training data besides the manifest's training images; "none" if there are none.
        date: when the predictions were made, "2026-01-31".
        seed: the seed of this training run. Results of one method that differ in seed or run are one row of a board.
        run: the name of this training run.
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
    seed: int | None = None
    run: str | None = None

    def to_json(self) -> dict[str, Any]:
        """All members as JSON; null for those without a value, but seed and run only if they are known."""
        return {key: value for key, value in asdict(self).items() if value is not None or key not in ("seed", "run")}

    @property
    def of_method(self) -> dict[str, Any]:
        """What is alike for all training runs of the method."""
        return {key: value for key, value in asdict(self).items() if key not in ("seed", "run", "date")}


def read_method_card(path: Path) -> MethodCard:
    """Reads a method card from the TOML file that its author wrote.

    Raises:
        OshpError: every problem of the card, one per line.
    """
    content = read_toml(path)
    said = content.get("date")
    # TOML has a type for dates, JSON does not.
    reader = Reader({**content, "date": said.isoformat()} if isinstance(said, date) else content, str(path))
    card = method_card(reader)
    raise_problems(reader.problems)
    return card


def method_card(reader: Reader) -> MethodCard:
    """Reads a card from a table. Problems are noted in the reader."""
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
        seed=None if reader.absent("seed") else reader.integer("seed", least=0, most=2**63 - 1),
        run=_said(reader, "run", _MOST_NAME),
    )
    reader.unknown_members()
    return card


def name_problem(value: object) -> str | None:
    """Why a value of unknown origin cannot be a method's name; None if it can, or if it is null or ""."""
    if value is None or value == "":
        return None
    return _text_problem(value, _MOST_NAME) if isinstance(value, str) else f"is {shown(value)}, not a text"


def _checked(reader: Reader, key: str, problem_of: Callable[[str], str | None]) -> str:
    noted = reader.problems
    value = reader.text(key)
    # If the member is missing or not a text, reader.text noted that.
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
    """Why a text cannot be shown in a table; None if it can.

    Characters that change the direction of writing count as not printable. Letters of right-to-left scripts are fine.
    """
    if not value:
        return "is empty; fill it in"
    if len(value) > most:
        return f"has {len(value):,} characters; at most {most} are allowed"
    strange = [sign for sign in value if not sign.isprintable()]
    if strange:
        return f"holds U+{ord(strange[0]):04X}, which cannot be printed; write one line of plain text"
    return "starts or ends with a space" if value != value.strip() else None


def _date_problem(value: str) -> str | None:
    try:
        # fromisoformat alone also accepts weeks and other forms.
        valid = _DATE.fullmatch(value) and date.fromisoformat(value)
    except ValueError:
        valid = None
    return None if valid else f"is {shown(value)}, not a date like 2026-01-31"
