"""What the machine refuses while training is one line; a fault of ours is not hidden."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oshp_bench.baselines.eopnet.settings import EOPNetSettings
from oshp_bench.errors import OshpError
from oshp_bench.training.faults import faults_explained
from oshp_bench.training.settings import TrainSettings


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            MemoryError(),
            "out of memory; lower augmentation.crop (now 512), raise accumulate (now 1, of a batch of 2), set"
            " precision=bfloat16, lower test_side (now native) if it was validation",
        ),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "a process that makes samples was"),
    ],
)
def test_what_the_machine_refuses_is_one_line(error: Exception, line: str) -> None:
    with pytest.raises(OshpError) as caught, faults_explained(TrainSettings()):
        raise error
    (problem,) = caught.value.problems
    assert problem.startswith(line) and "\n" not in problem


def test_only_what_can_still_save_memory_is_named() -> None:
    kept = replace(TrainSettings(), accumulate=2, precision="bfloat16", model=EOPNetSettings(recompute=False))
    with pytest.raises(OshpError) as caught, faults_explained(kept):
        raise MemoryError
    assert caught.value.problems == (
        "out of memory; lower augmentation.crop (now 512), set model.recompute=true, lower test_side (now native) if it"
        " was validation",
    )


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="ours"), faults_explained(TrainSettings()):
        raise RuntimeError("ours")
