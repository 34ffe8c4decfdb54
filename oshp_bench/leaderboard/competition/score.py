"""Scores a submission on Codabench: python3 score.py /app/input /app/output

Reads the task that oshp-board wrote (input/ref: task.json, manifest.json, truth.zip) and the submission (input/res).
Writes output/scores.json, one number for every column, and output/detailed_results.html, the report. If the submission
cannot be scored, the reasons go to stderr and nothing is written.
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
# Modules that scoring needs, and those that only the report needs.
NEEDED = ("numpy", "scipy", "PIL", "click")
DRAWING = ("jinja2", "matplotlib")
# What the platform itself adds to a submission.
PLATFORM = ("metadata", "__MACOSX")


class Refused(Exception):
    """A submission that cannot be scored, with the reason in one line."""


def main(source: Path, output: Path) -> int:
    """Scores one submission; returns the exit code."""
    lacking = provide_packages()
    if lacking:
        complain(
            f"this image lacks {', '.join(lacking)}, which could not be installed; organisers: make the bundle with"
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
    """Prints problems where the participant sees them, one per line."""
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)


def provide_packages() -> list[str]:
    """Makes the packages of this folder importable, and returns the needed modules that are still missing.

    Missing packages are installed if there is a network. Packages of the image stay as they are, since another numpy
    would break its scipy.
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
    """Scores the submission in input/res like oshp-score."""
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
    """Finds the submission: a zip that was sent within a zip, else the folder, without the platform's own files.

    Workers assume that the first folder of a zip wraps everything, and move its content up. So only a zip without
    folders arrives unchanged.
    """
    there = sorted(sent.iterdir())
    own = [found for found in there if found.name not in PLATFORM and not found.name.startswith(".")]
    zips = [found for found in own if found.suffix == ".zip" and found.is_file()]
    if len(own) == 1 and zips:
        return zips[0]
    names = {found.name for found in own}
    mixed = any(found.suffix == ".png" for found in own) or ("submission.json" in names and names & {"kway", "1way"})
    if not own or zips or mixed:
        held = ", ".join(found.name for found in own[:5]) + (", ..." if len(own) > 5 else "")
        raise Refused(
            f"the submission contains {held or 'nothing'}; send a zip with one file, the zip of oshp-submit pack, since"
            " the platform would mix up folders"
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
        raise Refused(f"the submission has no value for {', '.join(lacking)}; the leaderboard needs all columns")
    return {name: 100 * value for name, value in values.items() if value is not None}


def report(result: Result) -> str:
    """The report, or only its tables as text if the image lacks packages for drawing."""
    if all(find_spec(module) for module in DRAWING):
        from oshp_bench.report import report_html

        return report_html(result)
    from oshp_bench.report.tables import as_text, result_tables

    print(f"note: this image lacks {' or '.join(DRAWING)}; the report has only tables", file=sys.stderr)
    text = html.escape("\n".join(as_text(table) for table in result_tables(result)))
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Scores</title><pre>{text}</pre></html>\n'


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
