"""What all commands share: errors as one line and an exit code, progress bars on terminals alone."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from oshp_bench.errors import OshpError

T = TypeVar("T")

DIRECTORY = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)


class Command(click.Command):
    """A command that turns an OshpError or a full disk into lines on stderr and an exit code, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OshpError as error:
            for problem in error.problems:
                click.echo(f"error: {problem}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
            ctx.exit(130)
        except OSError as error:
            # A broken pipe is the reader's wish to stop; click handles it.
            if isinstance(error, BrokenPipeError):
                raise
            place = f"{error.filename}: " if error.filename else ""
            click.echo(f"error: {place}{error.strerror or error}; check space and permissions", err=True)
            ctx.exit(2)


class Group(click.Group):
    """A group whose commands report errors as Command does."""

    command_class = Command


def progress(items: Iterable[T], label: str, total: int | None = None) -> Iterable[T]:
    """The items behind a progress bar on stderr, where stderr is a terminal."""
    if not sys.stderr.isatty():
        return items
    from tqdm import tqdm

    return tqdm(items, desc=label, total=total, leave=False, unit="")
