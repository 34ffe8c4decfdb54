"""Runs a step of a cell: commands one after the other, logged, with a line that says what failed and how to go on.

Run: python experiments/job.py --out RUNS --cell NAME --step train --then COMMAND ... [--then COMMAND ...]

Without `--done` the commands write the step's files themselves. With it, the last command's stdout becomes this file,
whole or not at all. If the workflow is killed, so are its commands: the same workflow can go on at once.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from gpu_slot import environment_with

# The process that all jobs of a workflow belong to: host and pid.
WORKFLOW = "OSHP_WORKFLOW"
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG
_MOST_READ = 100_000


def failed_folder(out: Path) -> Path:
    """Where failed steps leave their lines, to be repeated when the workflow ends."""
    return out / "failed"


def print_failures(out: Path) -> None:
    """Prints the lines of failed steps."""
    for path in sorted(failed_folder(out).glob("*.txt")):
        print(path.read_text(encoding="utf-8").strip(), file=sys.stderr)


def forget_failures(out: Path) -> None:
    """Removes the lines of an earlier run."""
    for path in failed_folder(out).glob("*.txt"):
        path.unlink()


def claim(threads: int) -> None:
    """Notes for all jobs the workflow that they belong to, and the threads that results depend on.

    On this machine jobs keep the workflow that started them.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    host, _, _ = os.environ.get(WORKFLOW, "").partition(":")
    if host != socket.gethostname():
        os.environ[WORKFLOW] = f"{socket.gethostname()}:{os.getpid()}"


def _watched(environment: Mapping[str, str]) -> int | None:
    """A descriptor that becomes readable when the workflow ends; None if it runs elsewhere or is unknown."""
    host, _, pid = environment.get(WORKFLOW, "").partition(":")
    if host != socket.gethostname():
        return None
    try:
        return os.pidfd_open(int(pid))
    except ProcessLookupError:
        sys.exit("the workflow has ended")


def _stop(number: int, _frame: object) -> None:
    # The command dies with this process.
    raise InterruptedError(f"stopped by {signal.Signals(number).name}")


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)


def run(command: Sequence[str], log: Path, into: Path | None, environment: Mapping[str, str]) -> int:
    """Runs a command; its stderr is added to the log, and its stdout too unless it has a file of its own.

    Returns:
        Its exit status, as the shell would have it.
    """
    with contextlib.ExitStack() as files:
        text = files.enter_context(log.open("ab", buffering=0))
        text.write(f"$ {' '.join(command)}\n".encode())
        stdout = files.enter_context(into.open("wb")) if into else text
        child = subprocess.Popen(command, stdout=stdout, stderr=text, env=environment, preexec_fn=_die_with_parent)  # noqa: PLW1509
        watched = _watched(environment)
        if watched is not None:
            mine = os.pidfd_open(child.pid)
            ready, _, _ = select.select([watched, mine], [], [])
            os.close(mine)
            os.close(watched)
            if watched in ready:
                child.kill()
        return child.wait()


def _reason(log: Path, start: int, status: int) -> str:
    """What went wrong: the last line that says so of what a command has added to the log."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    added = log.read_bytes()[start:][-_MOST_READ:].decode(errors="replace")
    said = [line for line in added.splitlines() if line.strip() and not line.startswith("$ ")]
    errors = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
    return (errors or said or [f"exit status {status}"])[-1].strip()[:500]


def _step(options: argparse.Namespace, commands: Sequence[Sequence[str]], log: Path) -> str | None:
    """Runs the commands; why the step failed, or None."""
    done = Path(options.done) if options.done else None
    part = done.with_name(f".{done.name}.part") if done else None
    with environment_with(options.gpus) as environment:
        for place, command in enumerate(commands, 1):
            start = log.stat().st_size if log.exists() else 0
            try:
                status = run(command, log, part if place == len(commands) else None, environment)
            except FileNotFoundError:
                return f"{command[0]}: no such command; install the package in this environment"
            if status:
                return _reason(log, start, status)
    if done and part:
        part.replace(done)
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cell", required=True)
    parser.add_argument("--step", required=True)
    parser.add_argument("--for", dest="user", default="", help="the row that needs the cell")
    parser.add_argument("--done", default="")
    parser.add_argument("--gpus", type=int, default=0)
    words = sys.argv[1:]
    places = [place for place, word in enumerate(words) if word == "--then"]
    if not places:
        parser.error("give at least one --then COMMAND")
    options = parser.parse_args(words[: places[0]])
    commands = [words[start + 1 : end] for start, end in zip(places, [*places[1:], None], strict=True)]
    log = options.out / "logs" / options.cell / f"{options.step}.log"
    said = failed_folder(options.out) / f"{options.cell}-{options.step}.txt"
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        for folder in (log.parent, said.parent, *([Path(options.done).parent] if options.done else [])):
            folder.mkdir(parents=True, exist_ok=True)
        reason = _step(options, commands, log)
    except (OSError, ValueError) as error:
        reason = str(error)
    if reason is None:
        return
    user = f" ({options.user})" if options.user else ""
    line = (
        f"error: cell {options.cell}{user} failed at {options.step}: {reason}; log: {log}; mend it and run the same"
        " command again, which goes on from here"
    )
    # On a full disk the line is at least on the screen.
    with contextlib.suppress(OSError):
        said.write_text(line + "\n", encoding="utf-8")
    sys.exit(line)


if __name__ == "__main__":
    main()
