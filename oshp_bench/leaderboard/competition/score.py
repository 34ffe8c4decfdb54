"""Scores a submission on Codabench: python3 score.py /app/input /app/output

Reads what oshp-board wrote for the task (input/ref: task.json, manifest.json, truth.zip) and what a participant sent
(input/res), and writes output/scores.json, one number for every column, and output/detailed_results.html, the report.
Whatever the submission lacks is said on stderr, and nothing is written.
"""

from __future__ import annotations

import html
import json
import math
import shutil
import subprocess
import sys
import tempfile
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oshp_bench.metrics import Result

HERE = Path(__file__).resolve().parent
# Modules that scoring imports, and those that the report needs beside them.
NEEDED = ("numpy", "scipy", "PIL", "click")
DRAWING = ("jinja2", "matplotlib")
# What the platform itself lays beside a submission.
PLATFORM = ("metadata", "__MACOSX")


class Refused(Exception):
    """A submission that cannot be scored; says why in one line."""


def main(source: Path, output: Path) -> int:
    """Scores one submission; returns the exit code."""
    lacking = provide_packages()
    if lacking:
        complain(
            f"this image lacks {', '.join(lacking)}, and they could not be installed; organisers: make the bundle with"
            " --wheels, or choose an image that has them"
        )
        return 3
    from oshp_bench.errors import OshpError
    from oshp_bench.files import write_text

    task = json.loads((source / "ref" / "task.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as scratch:
        try:
            result = score_submission(source, task, Path(scratch))
            scores = scores_of(result, task["columns"])
        except (Refused, OshpError) as error:
            complain(*getattr(error, "problems", error.args))
            return 1
    write_text(output / "scores.json", json.dumps(scores, indent=1) + "\n")
    write_text(output / "detailed_results.html", report(result))
    print(result.signature)
    return 0


def complain(*problems: str) -> None:
    """Says what is wrong, a line each, where the participant sees it."""
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)


def provide_packages() -> list[str]:
    """Makes the packages of this folder and those of the image importable; names those without which nothing is scored.

    What is missing is installed where there is a network. Nothing that the image has is touched on the way: another
    numpy would break its scipy.
    """
    sys.path[:0] = [str(HERE / "packages"), str(HERE)]
    missing = [module for module in (*NEEDED, *DRAWING) if find_spec(module) is None]
    if missing:
        print(f"installing {', '.join(missing)}", file=sys.stderr)
        command = ["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"]
        listed = ["--requirement", str(HERE / "packages.txt")]
        subprocess.run([sys.executable, *command, *listed], check=False, stdout=sys.stderr)
        invalidate_caches()
    return [module for module in NEEDED if find_spec(module) is None]


def score_submission(source: Path, task: dict[str, Any], scratch: Path) -> Result:
    """Scores what lies in input/res as oshp-score does."""
    from oshp_bench.manifest import load_manifest
    from oshp_bench.metrics import score

    return score(
        load_manifest(source / "ref" / "manifest.json"),
        predictions_in(source / "res", scratch),
        source / "ref" / "truth.zip",
        way=task["way"],
        convention=task["convention"],
    )


def predictions_in(sent: Path, scratch: Path) -> Path:
    """Finds the submission: a zip that was sent in a zip, else the folder, without what the platform added to it.

    Workers take the first folder in a zip for one that wraps everything, and empty it into the folder above. So only a
    zip without folders arrives as it was sent.
    """
    there = sorted(sent.iterdir())
    own = [each for each in there if each.name not in PLATFORM and not each.name.startswith(".")]
    zips = [each for each in own if each.suffix == ".zip" and each.is_file()]
    if len(own) == 1 and zips:
        return zips[0]
    names = {each.name for each in own}
    mixed = any(each.suffix == ".png" for each in own) or ("submission.json" in names and names & {"kway", "1way"})
    if not own or zips or mixed:
        held = ", ".join(each.name for each in own[:5]) + (", ..." if len(own) > 5 else "")
        raise Refused(
            f"the submission holds {held or 'nothing'}; send a zip that holds one file, the zip of oshp-submit pack:"
            " what lies in folders is mixed up on the way"
        )
    if len(own) == 1 and (own[0] / "submission.json").is_file():
        return own[0]
    if own == there:
        return sent
    clean = scratch / "submission"
    shutil.copytree(sent, clean, symlinks=True, ignore=shutil.ignore_patterns(*PLATFORM, ".*"))
    return clean


def scores_of(result: Result, columns: list[str]) -> dict[str, float]:
    """A finite number for every column, in percent."""
    values = {name: result.figures[name].value if name in result.figures else None for name in columns}
    lacking = [name for name, value in values.items() if value is None or not math.isfinite(value)]
    if lacking:
        raise Refused(f"the submission gives no {', '.join(lacking)}; every column of the leaderboard is asked for")
    return {name: 100 * value for name, value in values.items() if value is not None}


def report(result: Result) -> str:
    """The report; where the image cannot draw, its tables as text."""
    if all(find_spec(module) for module in DRAWING):
        from oshp_bench.report import report_html

        return report_html(result)
    from oshp_bench.report.tables import as_text, result_tables

    print(f"note: this image lacks {' or '.join(DRAWING)}; the report is its tables alone", file=sys.stderr)
    text = html.escape("\n".join(as_text(table) for table in result_tables(result)))
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Scores</title><pre>{text}</pre></html>\n'


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
