"""Gives a command GPUs of this machine that no other command has: Snakemake counts GPUs, but never says which.

Run: python experiments/gpu_slot.py COUNT COMMAND ...

A slot is a locked file, so it is free again when its command ends in whatever way. Under SLURM, which assigns GPUs
itself, and where there is no GPU, nothing is changed.
"""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import IO

_DEVICES = Path("/proc/driver/nvidia/gpus")
_WAIT = 2.0


def visible(environment: Mapping[str, str], devices: Path = _DEVICES) -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them."""
    said = environment.get("CUDA_VISIBLE_DEVICES")
    if said is not None:
        return [device for device in said.split(",") if device.strip()]
    return [str(number) for number in range(len(list(devices.iterdir())))] if devices.is_dir() else []


@contextmanager
def taken(count: int, devices: Sequence[str], folder: Path, wait: float = _WAIT) -> Iterator[list[str]]:
    """Holds `count` of the devices, and waits until they are free.

    Raises:
        ValueError: there are fewer devices.
    """
    if count > len(devices):
        raise ValueError(f"{count} GPUs are asked for, but this machine shows {len(devices)}: {', '.join(devices)}")
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        with ExitStack() as held:
            free = (device for device in devices if _locked(folder / f"gpu-{device}", held))
            mine = list(islice(free, count))
            if len(mine) == count:
                yield mine
                return
        time.sleep(wait)


def _locked(path: Path, held: ExitStack) -> bool:
    file: IO[str] = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return False
    held.enter_context(file)
    return True


@contextmanager
def environment_with(count: int) -> Iterator[dict[str, str]]:
    """The environment for a command with that many GPUs."""
    environment = dict(os.environ)
    devices = visible(environment)
    if not count or not devices or "SLURM_JOB_ID" in environment:
        yield environment
        return
    with taken(count, devices, Path(tempfile.gettempdir(), f"oshp-gpus-{os.getuid()}")) as mine:
        yield {**environment, "CUDA_VISIBLE_DEVICES": ",".join(mine)}


def main() -> None:
    if len(sys.argv) < 3 or not sys.argv[1].isdecimal():
        sys.exit(str(__doc__))
    with environment_with(int(sys.argv[1])) as environment:
        sys.exit(os.spawnvpe(os.P_WAIT, sys.argv[2], sys.argv[2:], environment))


if __name__ == "__main__":
    main()
