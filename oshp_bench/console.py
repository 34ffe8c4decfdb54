"""What all commands share: errors as lines and an exit code, options that are spelled alike, progress bars."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from oshp_bench.errors import OshpError
from oshp_bench.version import __version__

Item = TypeVar("Item")
# A function that options decorate.
Function = TypeVar("Function", bound=Callable[..., Any])

DIRECTORY = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)


class Command(click.Command):
    """A command with -h that turns an OshpError or a full disk into lines on stderr and an exit code."""

    def get_help_option_names(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return ["-h", "--help"]

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
            # A broken pipe means that the reader has stopped; click handles it.
            if isinstance(error, BrokenPipeError):
                raise
            place = f"{error.filename}: " if error.filename else ""
            click.echo(f"error: {place}{error.strerror or error}; check space and permissions", err=True)
            ctx.exit(2)


class Group(Command, click.Group):
    """A group whose commands are as Command."""

    command_class = Command


version_option = click.version_option(__version__, prog_name="oshp-bench")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
device_option = click.option("--device", help="Such as cpu or cuda:1.  [default: a GPU where there is one]")
root_option = click.option(
    "--root", type=DIRECTORY, help="Folder of the dataset.  [default: OSHP_<DATASET>_ROOT, else OSHP_DATA]"
)


jobs_option = click.option(
    "--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="Worker processes."
)
convention_option = click.option(
    "--convention",
    type=click.Choice(["default", "official-2023"]),
    default="default",
    show_default=True,
    help="official-2023 scores as the code released with the paper does.",
)


def manifest_option(more: str = "", name: str = "manifest", **attributes: Any) -> Callable[[Function], Function]:
    """--manifest; `more` is added to its help, `name` is the parameter's."""
    text = f"A manifest's file, or the name of a shipped one.{more}"
    return click.option("--manifest", name, help=text, **attributes)


def out_option(text: str, kind: click.Path = DIRECTORY, **attributes: Any) -> Callable[[Function], Function]:
    """-o, --out: what a command writes."""
    return click.option("-o", "--out", type=kind, help=text, **attributes)


def set_option(text: str) -> Callable[[Function], Function]:
    """--set NAME=VALUE, as often as wanted."""
    return click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help=text)


def way_option(text: str) -> Callable[[Function], Function]:
    """--way k or 1."""
    return click.option("--way", type=click.Choice(["k", "1"]), help=text)


def side_option(default: str) -> Callable[[Function], Function]:
    """--side: the size of photos in a network."""
    text = f"Longer side of photos in pixels.  [default: {default}]"
    return click.option("--side", type=click.IntRange(32, 8192), help=text)


def listed(title: str, lines: Iterable[tuple[str, str]]) -> str:
    """A paragraph for --help: a title, then names with what they mean, a line each."""
    return "\n".join(("\b", f"{title}:", *(f"  {name:19} {meaning}" for name, meaning in lines)))


def progress(items: Iterable[Item], label: str, total: int | None = None) -> Iterable[Item]:
    """The items behind a progress bar on stderr, where stderr is a terminal."""
    if not sys.stderr.isatty():
        return items
    from tqdm import tqdm

    return tqdm(items, desc=label, total=total, leave=False, unit="")
