"""What whole commands cost: each runs in a fork of one interpreter that has imported everything, and is measured."""

from __future__ import annotations

import gc
import json
import os
import pkgutil
import resource
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module


@dataclass(frozen=True)
class Cost:
    """A finished command.

    Attributes:
        seconds: processor time.
        mib: the peak of its memory beyond what the interpreter had before it began.
    """

    code: int
    output: str
    seconds: float
    mib: float


def costs(commands: Mapping[str, Sequence[object]]) -> dict[str, Cost]:
    """Runs commands one by one: name -> module of the command, arguments."""
    told = json.dumps({name: [*map(str, line)] for name, line in commands.items()})
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, __file__], input=told, capture_output=True, text=True, check=True, env=environment
    )
    return {name: Cost(*values) for name, values in json.loads(done.stdout).items()}


def _cost(line: list[str]) -> tuple[int, str, float, float]:
    """A command in a process of its own, whose peak begins at what this one has now."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        # What takes longer is killed.
        resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        sys.argv = line
        code: object = 1
        try:
            import_module(line[0]).main()
        except SystemExit as end:
            code = end.code or 0
        except Exception:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        # Taking down an interpreter that has imported so much takes a second.
        os._exit(code if isinstance(code, int) else 1)
    os.close(writer)
    with os.fdopen(reader, errors="replace") as pipe:
        output = pipe.read()
    _, status, used = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code, output, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def _main() -> None:
    import oshp_bench

    for module in pkgutil.walk_packages(oshp_bench.__path__, "oshp_bench."):
        if "competition" not in module.name:
            import_module(module.name)
    import h5py  # noqa: F401
    import safetensors.torch  # noqa: F401

    # A collection in a fork would copy the memory that it shares.
    gc.collect()
    gc.freeze()
    # The first one shows what a process that does nothing takes.
    _, _, seconds, mib = _cost(["oshp_bench.tailor.cli", "--help"])
    costs = {name: _cost(line) for name, line in json.load(sys.stdin).items()}
    print(json.dumps({name: (*told, used - seconds, peak - mib) for name, (*told, used, peak) in costs.items()}))


if __name__ == "__main__":
    _main()
