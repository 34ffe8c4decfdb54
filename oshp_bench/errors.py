"""Errors as lines for people, with the exit code of a command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MOST_PROBLEMS = 50


class OshpError(Exception):
    """Bad usage or bad input: exit code 2.

    Args:
        problems: one line each: what is wrong, in which file, what to do. A check passes all that it found.
    """

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems: tuple[str, ...] = problems


class CheckFailed(OshpError):
    """The input can be read but does not pass a check: exit code 1."""

    exit_code = 1


def raise_problems(problems: Iterable[str]) -> None:
    """Raises one OshpError with all problems, if there are any."""
    found = tuple(problems)
    if found:
        raise OshpError(*found)


def shortened(problems: Sequence[str], most: int = MOST_PROBLEMS, rest: str = "more problems") -> list[str]:
    """The first problems of a long list, then a line with the number of the others; `rest` is what they are called."""
    more = [f"... and {len(problems) - most} {rest}"] if len(problems) > most else []
    return [*problems[:most], *more]
