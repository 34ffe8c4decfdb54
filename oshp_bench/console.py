"""What all commands share: errors as lines and an exit code, options that are spelled alike, progress bars."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from oshp_bench.errors import OshpError, printable, raise_problems
from oshp_bench.version import __version__

Item = TypeVar("Item")
# A function that options decorate.
Function = TypeVar("Function", bound=Callable[..., Any])

DIRECTORY = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Prints a text that may quote names of unknown origin: what could steer a terminal, or what the stream's encoding
    lacks, is escaped.
    """
    stream = sys.stderr if err else sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    click.echo(printable(text, "\n\t").encode(encoding, "backslashreplace").decode(encoding), err=err, nl=nl)


def _fail(problems: Iterable[str], exit_code: int, advice: str = "") -> NoReturn:
    # Where stderr cannot be written to either, the exit code says it.
    with suppress(OSError):
        for problem in problems:
            echo(f"error: {problem}", err=True)
        if advice:
            echo(advice, err=True)
    raise click.exceptions.Exit(exit_code)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OshpError as error:
        _fail(error.problems, error.exit_code, error.advice)
    except click.ClickException as error:
        # It quotes what was typed.
        vars(error)["message"] = printable(error.message, "\n\t")
        raise
    except KeyboardInterrupt:
        echo("stopped", err=True)
        raise click.exceptions.Exit(130) from None
    except OSError as error:
        # A broken pipe means that the reader has stopped; click handles it.
        if isinstance(error, BrokenPipeError):
            raise
        place = f"{printable(str(error.filename))}: " if error.filename else ""
        _fail([f"{place}{error.strerror or error}; check space and permissions"], 2)


class Command(click.Command):
    """A command with -h that turns an OshpError or a full disk into lines on stderr and an exit code."""

    def get_help_option_names(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return ["-h", "--help"]

    def make_context(self, *arguments: Any, **more: Any) -> click.Context:
        # Here --help is printed.
        with _told():
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: click.Context) -> Any:
        with _told():
            return super().invoke(ctx)


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


def way_option(text: str, *, both: bool = True) -> Callable[[Function], Function]:
    """--way k, 1 or both; both is the default and gives None. Without `both`, one way has to be meant."""
    return click.option(
        "--way",
        type=click.Choice(["k", "1", "both"] if both else ["k", "1"]),
        callback=lambda _context, _option, way: None if way == "both" else way,
        help=text,
    )


def side_option(default: str) -> Callable[[Function], Function]:
    """--side: the size of photos in a network."""
    text = f"Longer side of photos in pixels.  [default: {default}]"
    return click.option("--side", type=click.IntRange(32, 8192), help=text)


def check_outputs(outputs: Iterable[Path | None], inputs: Iterable[Path | None]) -> None:
    """Refuses outputs that would replace an input. Every command calls it before it writes anything.

    Args:
        outputs: the files that the command will write, None for those that nobody asked for.
        inputs: the files that it reads, and folders that nothing may be added to: the scorer refuses predictions with
            other files among them.

    Raises:
        OshpError: every output that is an input, lies in such a folder, or is given twice.
    """
    read = {os.path.realpath(path): path for path in inputs if path}
    folders = [place for place, path in read.items() if path.is_dir()]
    written: set[str] = set()
    problems = []
    for output in filter(None, outputs):
        place = os.path.realpath(output)
        within = next((folder for folder in folders if Path(place).is_relative_to(folder)), None)
        if place in read:
            problems.append(f"{output}: would be overwritten, but this command reads it; write to another place")
        elif within:
            problems.append(f"{output}: lies in {read[within]}, which would then be refused; write to another place")
        elif place in written:
            problems.append(f"{output}: two outputs have this name; give each its own")
        written.add(place)
    raise_problems(problems)


def listed(title: str, lines: Iterable[tuple[str, str]]) -> str:
    """A paragraph for --help: a title, then names with what they mean, a line each."""
    return "\n".join(("\b", f"{title}:", *(f"  {name:19} {meaning}" for name, meaning in lines)))


def progress(items: Iterable[Item], label: str, total: int | None = None) -> Iterable[Item]:
    """The items behind a progress bar on stderr, where stderr is a terminal."""
    if not sys.stderr.isatty():
        return items
    from tqdm import tqdm

    return tqdm(items, desc=label, total=total, leave=False, unit="")
