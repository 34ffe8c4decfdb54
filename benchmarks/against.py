"""Instructions of scoring, tailoring and loading in two checkouts, counted by valgrind: no busy machine changes them.

Run: python benchmarks/against.py OLD_CHECKOUT NEW_CHECKOUT path/to/clothing-co-parsing

Each command runs once in each checkout, with this interpreter; together they take about 20 minutes. Processor time of
the same commands scatters by 10 % and more on a shared machine, which hides what a change costs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

LOADING = "from oshp_bench.manifest import load_manifest as load; [load(n) for n in ('atr_fold1', 'cihp_fold1')]"
VALGRIND = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")


def command(module: str, *arguments: object) -> list[str]:
    """A command of ours, found by module, since the old checkout is not installed."""
    return [sys.executable, "-c", f"from oshp_bench.{module}.cli import main; main()", *map(str, arguments)]


def run(checkout: Path, line: list[str], wrapper: tuple[str, ...] = ()) -> str:
    """Runs a line with a checkout's package; what it wrote to stderr."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    done = subprocess.run([*wrapper, *line], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{checkout}: {line} ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stderr


def instructions(checkout: Path, line: list[str]) -> int:
    """Instructions that a line executes."""
    found = re.search(r"I\s+refs:\s+([\d,]+)", run(checkout, line, VALGRIND))
    assert found is not None
    return int(found[1].replace(",", ""))


def main() -> None:
    """Prints a row for each command."""
    old, new, root = map(Path, sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        manifest, preds = Path(folder, "ccp_fold1.json"), Path(folder, "preds")
        common = ("--manifest", manifest, "--root", root)
        tailoring = command("tailor", "ccp", "--fold", 1, "--root", root, "-o", folder)
        run(new, tailoring)
        run(new, command("baselines", "copy-support", *common, "-o", preds))
        print("| billions of instructions | old | new | |\n|---|---:|---:|---:|")
        for name, line in {
            "loading two manifests": [sys.executable, "-c", LOADING],
            "tailoring CCP": tailoring,
            "scoring 1,650 pairs, k-way, no intervals": command(
                "report", preds, *common, "--resamples", 0, "--way", "k"
            ),
        }.items():
            before, after = instructions(old, line), instructions(new, line)
            print(
                f"| {name} | {before / 1e9:.2f} | {after / 1e9:.2f} | {100 * (after / before - 1):+.1f} % |", flush=True
            )


if __name__ == "__main__":
    main()
