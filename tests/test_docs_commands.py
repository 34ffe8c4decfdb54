"""Every command on every page has arguments and options that the command takes, even where it needs data to run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = {each.name: each.value for each in entry_points(group="console_scripts") if each.name.startswith("oshp-")}
# Where a command ends for the shell.
ENDS = {"|", "||", "&&", ";", ">", "2>", "&"}


def commands(page: Path) -> Iterator[list[str]]:
    """The words of the shell's lines on a page that call us, in blocks of both kinds."""
    for kind, block in re.findall(r"^```(sh|console)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if kind == "console" and not line.startswith("$ "):
                continue
            # A loop's variable, such as a fold, stands for a number.
            words = shlex.split(re.sub(r"\$\w+", "1", line.removeprefix("$ ")), comments=True)
            begin = next((place for place, word in enumerate(words) if word in COMMANDS), None)
            if words[:1] == ["torchrun"]:
                begin = words.index("-m") + 1
            if begin is not None:
                end = next((place for place, word in enumerate(words) if place > begin and word in ENDS), None)
                yield words[begin:end]


def parsed(name: str, arguments: list[str]) -> click.Context:
    """Parses a command's words without running it."""
    home = COMMANDS.get(name, f"{name}:main")
    (point,) = (each for each in entry_points(group="console_scripts") if each.value == home)
    command = point.load()
    context: click.Context = command.make_context(name, list(arguments))
    while isinstance(command, click.Group):
        below, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None
        context = command.make_context(below, rest, parent=context)
    return context


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_on_a_page_are_understood(page: Path) -> None:
    for name, *arguments in commands(page):
        if {"--help", "--version"} & {*arguments}:
            continue
        try:
            parsed(name, arguments)
        except click.ClickException as error:
            # Options are known and complete before a path is looked for.
            if not error.format_message().endswith("does not exist."):
                pytest.fail(f"{shlex.join([name, *arguments])}: {error.format_message()}")


def test_what_a_command_does_not_take_is_found() -> None:
    found = [words for page in PAGES for words in commands(page)]
    assert {words[0] for words in found} > {"oshp-train", "oshp-predict", "oshp-parse", "oshp_bench.training.cli"}
    with pytest.raises(click.ClickException, match="No such option"):
        parsed("oshp-predict", ["copy-support", "-o", "x", "--sett", "layout=0"])
