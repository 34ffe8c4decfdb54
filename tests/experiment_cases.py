"""Experiments at a scale of seconds: a few drawn people with two classes, networks that hardly learn."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "experiments"
FILES = [path.stem for path in sorted(EXPERIMENTS.glob("*.yaml")) if path.stem not in ("common", "environment")]
# The embedded dataset cut down to 48 people and two classes, which is the least that a manifest has pairs for.
SPEC = """
format = "oshp-dataset/1"
name = "few"
title = "a few drawn people"
version = "1.0.0"
labels = [
  "background", "hat", "hair", "sunglasses", "upper-clothes", "skirt", "pants", "dress", "belt", "left-shoe",
  "right-shoe", "face", "left-leg", "right-leg", "left-arm", "right-arm", "bag", "scarf",
]
removed = ["sunglasses", "belt", "scarf", "upper-clothes", "bag", "left-shoe", "right-shoe", "left-leg", "right-leg",
  "left-arm", "right-arm"]
[classes]
head = { id = 1, labels = ["hat", "hair", "face"] }
dress = { id = 3, labels = ["dress", "skirt", "pants"] }
[folds]
1 = ["dress"]
2 = ["head"]
[counts]
all = 48
[pools]
query_test = { list = "all", stop = 24 }
support_test = { list = "all", start = 24, stop = 40 }
query_train = { list = "all", start = 40, stop = 44 }
support_train = { list = "all", start = 44 }
[official]
order = ["dress", "head"]
queries_per_class = 10
supports_per_query = 15
supports = "cyclic"
min_pixels = 30
[[layouts]]
name = "drawn"
parts = [{ list = "all", drawn = 48 }]
"""
SECONDS = {
    "preset": "quick",
    "dataset": "few",
    "set": [
        "width=8",
        "pretrained=false",
        "epochs=3",
        "episodes=2",
        "augmentation.crop=32",
        "augmentation.side=32",
        "test_side=32",
        "validate_every=1",
        "validation_pairs=2",
        "workers=0",
    ],
}

needs_snakemake = pytest.mark.skipif(find_spec("snakemake") is None, reason="snakemake is not installed")


def write_config(folder: Path, **changes: Any) -> Path:
    """A configuration that runs everything at the scale `paper`, in seconds, into folder/out."""
    spec = folder / "few.toml"
    spec.write_text(SPEC)
    config = {
        "scale": "paper",
        "scales": {"paper": SECONDS | {"gpus": 0, "threads": 1, "methods": {}}},
        "datasets": {"few": {"spec": str(spec)}},
        "out": "out",
        **yaml.safe_load(Path(__file__).with_name("experiment_seconds.yaml").read_text()),
        **changes,
    }
    path = folder / "seconds.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def command(config: Path, tables: Sequence[str], *options: str) -> list[str]:
    """Snakemake's words for some tables."""
    files = [*(str(EXPERIMENTS / f"{name}.yaml") for name in tables), str(config)]
    about = ["-s", str(EXPERIMENTS / "Snakefile"), "--cores", "2", *options, "--configfile", *files]
    return [sys.executable, "-m", "snakemake", *about]


def environment(**more: str) -> dict[str, str]:
    """Where jobs find this Python's commands and this checkout."""
    where = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return {**os.environ, **where, "SOURCE_DATE_EPOCH": "1767225600", **more}


def workflow(
    folder: Path, config: Path, tables: Sequence[str], *options: str, **more: str
) -> subprocess.CompletedProcess[str]:
    """Runs Snakemake in a folder."""
    words = command(config, tables, *options)
    return subprocess.run(words, cwd=folder, env=environment(**more), capture_output=True, text=True, check=False)


def files_of(folder: Path, *patterns: str) -> Mapping[str, bytes]:
    """Files by their place in a folder."""
    found = [path for pattern in patterns for path in folder.glob(pattern) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(found)}
