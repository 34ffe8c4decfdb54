"""Writes the method card of a cell, from what oshp-predict noted about the network.

Run: python experiments/card.py PREDS --name NAME --preset cpu --set lr=0.01 --seed 0 -o method.toml

The date is today's, or that of SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from oshp_bench.files import read_json, write_text
from oshp_bench.version import __version__


def card(preds: Path, name: str, preset: str, settings: list[str], seed: int, date: str) -> str:
    """The card as TOML."""
    said = read_json(preds / "predictions.json")
    network = next(said[way] for way in ("kway", "1way") if way in said)
    pretrained = "none" if "pretrained=false" in settings else "the backbone's usual weights (docs/training.md)"
    described = f"preset {preset}" + "".join(f", {text}" for text in settings)
    about: dict[str, Any] = {
        "name": name,
        "authors": f"oshp-bench {__version__}",
        "backbone": network["backbone"],
        "pretraining": pretrained,
        "parameters": network["parameters"],
        "extra_data": "none",
        "date": date,
        "description": described[:2000],
        "seed": seed,
    }
    # A JSON text or number is one of TOML, too.
    return "".join(f"{member} = {json.dumps(value)}\n" for member, value in about.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preds", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--preset", required=True)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    now = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
    date = time.strftime("%Y-%m-%d", now)
    write_text(options.out, card(options.preds, options.name, options.preset, options.settings, options.seed, date))


if __name__ == "__main__":
    main()
