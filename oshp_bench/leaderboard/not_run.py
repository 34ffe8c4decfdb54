"""Methods that a board names without figures, so that a missing row has a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from oshp_bench.episodes.episodes import WAYS
from oshp_bench.errors import raise_problems
from oshp_bench.files import read_json
from oshp_bench.metrics.method_card import name_problem
from oshp_bench.untrusted import Reader

NOT_RUN_FILE = "not-run.json"
_FORMAT = "oshp-not-run/1"
_MOST_REASON = 200


@dataclass(frozen=True)
class NotRun:
    """A method without results.

    Attributes:
        dataset, protocol, ways: the tables that name it, for example "ccp", "official" and ("1",).
        reason: why it was not run, up to 200 characters.
    """

    method: str
    dataset: str
    protocol: str
    ways: tuple[str, ...]
    reason: str


def load_not_run(paths: Sequence[Path]) -> tuple[NotRun, ...]:
    """Reads every not-run.json in folders, such as docs/results/ccp/not-run.json. Files among the paths are skipped.

    Raises:
        OshpError: every problem of every file, one per line.
    """
    files = {file.resolve(): file for path in paths if path.is_dir() for file in sorted(path.rglob(NOT_RUN_FILE))}
    problems: list[str] = []
    found = []
    for file in files.values():
        document = read_json(file)
        reader = Reader(document if isinstance(document, dict) else {}, str(file))
        said = reader.text("format")
        reader.wrong_if(said != _FORMAT, f'its "format" is not "{_FORMAT}"')
        missing = NotRun(
            method=reader.text("method"),
            dataset=reader.text("dataset"),
            protocol=reader.text("protocol"),
            ways=reader.texts("ways"),
            reason=reader.text("reason"),
        )
        problem = name_problem(missing.method)
        reader.wrong_if(problem, f"method {problem}")
        reader.wrong_if(not set(missing.ways) <= set(WAYS), f"ways holds something other than {', '.join(WAYS)}")
        reader.wrong_if(len(missing.reason) > _MOST_REASON, f"reason is longer than {_MOST_REASON} characters")
        reader.unknown_members()
        problems.extend(reader.problems)
        found.append(missing)
    raise_problems(problems)
    return tuple(found)
