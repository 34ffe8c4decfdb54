"""The walls of docs/architecture.md hold, and commands answer before heavy libraries are imported."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "oshp_bench"
# The floors from the ground up: a file imports its own room and lower floors alone. Rooms on one floor do not know each
# other. Only the package's own __init__, the list of public names, stands outside.
FLOORS = (
    {"errors", "version", "lazy", "randomness", "ranges", "distributed"},
    {"console", "files", "untrusted"},
    {"datasets"},
    {"manifest"},
    {"episodes"},
    {"tailor", "baselines", "metrics"},
    {"parse", "training", "report"},
    {"leaderboard"},
)
TORCH = {"distributed", "baselines", "training", "parse"}


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.name != "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_and_never_to_a_neighbour(path: Path) -> None:
    mine = _room(path)
    imports = _imports(path)
    rooms = {name.split(".")[1] if "." in name else "" for name in imports if name.split(".")[0] == "oshp_bench"}
    floor = next(number for number, rooms in enumerate(FLOORS) if mine in rooms)
    assert rooms <= set().union({mine}, *FLOORS[:floor])
    if mine not in TORCH:
        assert not {name for name in imports if name.split(".")[0] in {"torch", "torchvision"}}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_condition_asks_for_a_dataset_by_name(path: Path) -> None:
    names = {spec.stem for spec in (PACKAGE / "datasets" / "specs").glob("*.toml")}
    compared = {
        constant.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Compare | ast.Match)
        for constant in ast.walk(node)
        if isinstance(constant, ast.Constant)
    }
    assert not compared & names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_no_two_public_things_have_one_name() -> None:
    """Classes, functions and constants of all files; every command has its own `main`."""
    places: dict[str, list[str]] = {}
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            named = [node.name] if isinstance(node, ast.ClassDef | ast.FunctionDef) else []
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign)
                else []
            )
            for name in named + [target.id for target in targets if isinstance(target, ast.Name)]:
                if not name.startswith("_") and name != "main":
                    places.setdefault(name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def _documented() -> list[str]:
    """Every file and folder that docs/architecture.md lists; a folder ends with a slash.

    A file has its own line with a description, unless several with one purpose share a line.
    """
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    _, block = page.split("```\noshp_bench/\n")
    found: list[str] = []
    folders: list[str] = []
    for line in block.split("```")[0].splitlines():
        depth = (len(line) - len(line.lstrip())) // 2 - 1
        names, _, about = line.strip().partition("  ")
        assert about or len(names.split()) > 1, f"{names} has no description"
        found += ["".join([*folders[:depth], name]) for name in names.split()]
        if names.endswith("/"):
            folders = [*folders[:depth], names]
    return found


def test_the_list_of_files_is_complete() -> None:
    files = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.name != "__init__.py" and "__pycache__" not in path.parts
    }
    folders = {f"{parent}/" for file in files for parent in Path(file).parents if parent.name}
    assert sorted(_documented()) == sorted(files | folders)


def test_the_floors_are_those_of_the_page() -> None:
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    floors = re.search(r"^```\nleaderboard\n.*?```", page, re.DOTALL | re.MULTILINE)
    assert floors
    assert [{*line.split()} for line in floors.group().splitlines()[1:-1]] == [{*floor} for floor in reversed(FLOORS)]


@pytest.mark.parametrize("wing", ["tailor", "manifest", "baselines", "parse", "report", "training"])
def test_help_needs_no_heavy_import(wing: str) -> None:
    code = f"import sys, oshp_bench.{wing}.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"numpy", "scipy", "h5py", "PIL", "torch", "tqdm", "jinja2", "matplotlib"} & set(loaded)
