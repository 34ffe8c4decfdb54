"""What an input that is refused may cost: 2 s of processor time and 300 MiB."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS, MIB = 2.0, 300.0


@contextmanager
def within_bounds(what: object) -> Iterator[None]:
    """Asserts that a block takes at most 2 s of processor time and 300 MiB more than there was."""
    # 5 sets the peak back to what is used now.
    Path("/proc/self/clear_refs").write_text("5")
    before, started = _peak_mib(), time.process_time()
    yield
    seconds, mib = time.process_time() - started, _peak_mib() - before
    assert seconds < SECONDS, (what, seconds)
    assert mib < MIB, (what, mib)


def _peak_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
