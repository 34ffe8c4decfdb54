"""Errors as lines for people, with the exit code of a command."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

MOST_PROBLEMS = 50
_LONGEST_LINE = 2_000


class OshpError(Exception):
    """Bad usage or bad input: exit code 2.

    Args:
        problems: one line each: what is wrong, in which file, what to do. A check passes all that it found. They may
            quote names and texts of unknown origin: what cannot be printed is escaped, and long ones are cut.
        advice: lines to be printed below the problems.
    """

    exit_code = 2

    def __init__(self, *problems: str, advice: str = "") -> None:
        self.problems: tuple[str, ...] = tuple(
            printable(problem if len(problem) <= _LONGEST_LINE else f"{problem[:_LONGEST_LINE]} ...")
            for problem in problems
        )
        self.advice = printable(advice, "\n\t")
        super().__init__("\n".join(filter(None, (*self.problems, self.advice))))


class CheckFailed(OshpError):
    """The input can be read but does not pass a check: exit code 1."""

    exit_code = 1


class MissingPackage(OshpError):
    """A package of an extra is not installed.

    Args:
        what: what needs it, such as "a report".
        package: the name of the package, or several.
        extra: the extra of pyproject.toml that brings it.
    """

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f"{what} needs {package}: run pip install '.[{extra}]' in a clone of oshp-bench")


def raise_problems(problems: Iterable[str]) -> None:
    """Raises one OshpError with all problems, if there are any."""
    found = tuple(problems)
    if found:
        raise OshpError(*found)


def shortened(problems: Sequence[str], most: int = MOST_PROBLEMS, rest: str = "more problems") -> list[str]:
    """The first problems of a long list, then a line with the number of the others; `rest` is what they are called."""
    more = [f"... and {len(problems) - most} {rest}"] if len(problems) > most else []
    return [*problems[:most], *more]


def printable(text: str, keep: str = "") -> str:
    """A text of unknown origin that cannot steer a terminal: other than printable characters are escaped.

    Args:
        keep: characters that stay as they are, such as newlines.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in keep else _escaped(sign) for sign in text)


def _escaped(sign: str) -> str:
    # Where JSON leaves a sign as it is, the escape is JSON's, so that escaped JSON is still JSON.
    return repr(sign)[1:-1] if sign < "\x7f" else json.dumps(sign)[1:-1] if sign > "\x7f" else "\\u007f"
