"""Habits that people rely on: the package lists its public names, and its commands spell the same things alike."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points

import click
import pytest
from click.testing import CliRunner

from oshp_bench.datasets.labels import builtin_specs
from oshp_bench.manifest import load_manifest, shipped_manifests


def commands() -> Iterator[tuple[str, click.Command]]:
    """The commands and their subcommands, by what is typed."""
    for point in entry_points(group="console_scripts"):
        if point.name.startswith("oshp-"):
            command = point.load()
            below = command.commands.items() if isinstance(command, click.Group) else ()
            yield from ((point.name, command), *((f"{point.name} {name}", found) for name, found in below))


COMMANDS = dict(commands())


@pytest.mark.parametrize("package", ["", ".manifest", ".episodes", ".metrics", ".report", ".leaderboard"])
def test_a_package_lists_its_public_names(package: str) -> None:
    module = import_module(f"oshp_bench{package}")
    assert dir(module) == sorted(module.__all__)
    assert all(hasattr(module, name) for name in dir(module))


@pytest.mark.parametrize("name", shipped_manifests())
def test_a_manifest_is_shown_in_a_line(name: str) -> None:
    assert len(repr(load_manifest(name))) <= 120


def test_a_manifest_says_what_it_is() -> None:
    shown = repr(load_manifest("atr_fold1"))
    assert shown == "<Manifest atr_fold1 1.0.0: 1,650 pairs, 11 classes, novel: skirt, pants, dress>"


@pytest.mark.parametrize("name", COMMANDS)
def test_options_are_spelled_alike(name: str) -> None:
    spelled = {option: parameter for parameter in COMMANDS[name].params for option in parameter.opts}
    assert ("-o" in spelled) == ("--out" in spelled)
    if " " not in name:
        assert "--version" in spelled
    if "--way" in spelled:
        ways = spelled["--way"].type
        assert isinstance(ways, click.Choice)
        # One network is trained for one way.
        assert list(ways.choices) == (["k", "1"] if name == "oshp-train" else ["k", "1", "both"])
    done = CliRunner().invoke(COMMANDS[name], ["-h"])
    assert done.exit_code == 0 and done.output.startswith("Usage: ")


def test_the_tailor_names_its_datasets() -> None:
    text = CliRunner().invoke(COMMANDS["oshp-tailor"], ["--help"]).output
    assert all(re.search(rf"\b{name}\b", text) for name in builtin_specs())
