"""Explains in one line what the machine cannot do: too little memory, a worker that was killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from oshp_bench.baselines.inference import out_of_memory
from oshp_bench.errors import OshpError
from oshp_bench.training.settings import TrainSettings

_DEAD_WORKER = "DataLoader worker"


@contextmanager
def faults_explained(settings: TrainSettings) -> Iterator[None]:
    """Turns too little memory, and the sudden death of a worker, into an OshpError that says which settings help."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if out_of_memory(error):
            raise OshpError(f"out of memory; {', '.join(_savings(settings))}") from error
        if _DEAD_WORKER in str(error):
            raise OshpError(
                "a process that makes samples was killed, most often for lack of memory or of shared memory; train on"
                " with --set workers=0"
            ) from error
        raise


def _savings(settings: TrainSettings) -> Iterator[str]:
    """The settings that lower memory further, most effective first."""
    yield f"lower augmentation.crop (now {settings.augmentation.crop})"
    if settings.accumulate < settings.batch:
        yield f"raise accumulate (now {settings.accumulate}, of a batch of {settings.batch})"
    if not getattr(settings.model, "recompute", True):
        yield "set model.recompute=true"
    if settings.precision == "float32":
        yield "set precision=bfloat16"
    yield f"lower test_side (now {settings.test_side or 'native'}) if it was validation"
