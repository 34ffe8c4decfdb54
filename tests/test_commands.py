"""All commands spell what they share alike."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import entry_points

import click
import pytest
from click.testing import CliRunner

from oshp_bench.version import __version__

COMMANDS: dict[str, click.Command] = {
    point.name: point.load() for point in entry_points(group="console_scripts") if point.name.startswith("oshp-")
}


def below(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """A command and those of its group."""
    yield name, command
    if isinstance(command, click.Group):
        for word, inner in command.commands.items():
            yield from below(f"{name} {word}", inner)


ALL = [found for name, command in COMMANDS.items() for found in below(name, command)]
OPTIONS = [
    (name, option) for name, command in ALL for option in command.params if isinstance(option, click.Option)
]  # fmt: skip


@pytest.mark.parametrize(("name", "command"), ALL, ids=[name for name, _ in ALL])
def test_a_command_has_short_help(name: str, command: click.Command) -> None:
    first, *words = name.split()
    short, long = (CliRunner().invoke(COMMANDS[first], [*words, option]).output for option in ("-h", "--help"))
    assert short == long and "-h, --help" in short
    assert (command.help or "?").split("\n", maxsplit=1)[0] in " ".join(short.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_its_version(name: str) -> None:
    assert CliRunner().invoke(COMMANDS[name], ["--version"]).output == f"oshp-bench, version {__version__}\n"


def test_what_a_command_writes_is_always_o() -> None:
    outputs = {name: {*option.opts} for name, option in OPTIONS if "--out" in option.opts}
    assert {"oshp-tailor", "oshp-predict", "oshp-parse", "oshp-score", "oshp-submit pack", "oshp-board build"} <= {
        *outputs
    }
    assert all(spellings == {"-o", "--out"} for spellings in outputs.values())


@pytest.mark.parametrize("option", ["--json", "--device"])
def test_an_option_means_the_same_everywhere(option: str) -> None:
    meanings = {name: found.help for name, found in OPTIONS if option in found.opts}
    assert len(meanings) > 1
    assert len({*meanings.values()}) == 1, meanings
