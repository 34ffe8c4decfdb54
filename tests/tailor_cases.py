"""What the tests of oshp-tailor share: a spec of the tiny dataset, its files to be broken, and runs of the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result
from conftest import TINY
from PIL import Image

from oshp_bench.tailor.cli import main

SHRINK = 105
# Five classes need 50 queries of their own.
SPEC: dict[str, Any] = {
    **TINY,
    "pools": {
        "query_test": {"list": "all", "stop": 60},
        "support_test": {"list": "all", "start": 60, "stop": 90},
        "query_train": {"list": "all", "start": 90, "stop": 105},
        "support_train": {"list": "all", "start": 105},
    },
}


def toml(value: Any) -> str:
    """A TOML value; JSON's texts, numbers and lists are TOML's."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(member)}" for key, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def write_spec(folder: Path, **changed: Any) -> str:
    path = folder / "tiny.toml"
    path.write_text("".join(f"{key} = {toml(value)}\n" for key, value in {**SPEC, **changed}.items()))
    return str(path)


def tailor(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def errors(result: Result) -> list[str]:
    assert result.exit_code == 2, result.output
    return [line.removeprefix("error: ") for line in result.output.splitlines()]


def magnified(tiny_root: Path, folder: Path) -> Path:
    """The tiny dataset in a folder that may be broken, drawn 4 times as large, one image 32 times."""
    for kind in ("photos", "masks"):
        (folder / kind).mkdir(parents=True)
    for path in sorted((tiny_root / "masks").iterdir()):
        factor = 32 if int(path.stem) == SHRINK else 4
        mask = np.kron(np.asarray(Image.open(path)), np.ones((factor, factor), np.uint8))
        Image.fromarray(mask).save(folder / "masks" / path.name)
        photo = np.repeat(mask[..., None] * np.uint8(30) + np.uint8(20), 3, axis=2)
        Image.fromarray(photo).save(folder / "photos" / f"{path.stem}.jpg")
    return folder


def listed_spec(folder: Path, root: Path) -> str:
    """The tiny dataset with a list of its ids, so that a list may name files that are not there."""
    (root / "ids.txt").write_text("\n".join(f"{index:03d}" for index in range(120)))
    part = {"list": "all", "ids": "ids.txt", "photo": "photos/{id}.jpg", "mask": "masks/{id}.png"}
    return write_spec(folder, layouts=[{"name": "listed", "parts": [part]}])
