"""What goes wrong, said in one line each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MOST_PROBLEMS = 50


class OshpError(Exception):
    """Bad usage or bad input: exit code 2.

    Args:
        problems: one line each: what is wrong, in which file, what to do. A check gives all it found.
    """

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems: tuple[str, ...] = problems


class CheckFailed(OshpError):
    """The input could be read and did not pass the check that was asked for: exit code 1."""

    exit_code = 1


def raise_problems(problems: Iterable[str]) -> None:
    """Raises one OshpError with all problems, if there are any."""
    found = tuple(problems)
    if found:
        raise OshpError(*found)


def shortened(problems: Sequence[str], most: int = MOST_PROBLEMS, rest: str = "more problems") -> list[str]:
    """The first of a long list of problems, and how many more there are; `rest` says of what."""
    more = [f"... and {len(problems) - most} {rest}"] if len(problems) > most else []
    return [*problems[:most], *more]
