"""The methods give the numbers of their official code: every case of every recorded file, in both precisions.

The numbers lie beside the folder of real data. `parity` holds a module for each method; its `check` computes what a
case recorded and compares it within the tolerances of the method's description.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

import pytest
import torch
from parity.recorded import Recorded, read

pytestmark = pytest.mark.slow

# EOP-Net's own files; test_eopnet_parity.py reads them.
OTHERS = "release_"


def _recorded() -> list[Recorded]:
    data = os.environ.get("OSHP_TEST_DATA")
    folder = Path(data).parent / "spec" / "parity" if data else Path()
    return [read(path) for path in sorted(folder.glob("*.pt")) if not path.name.startswith(OTHERS)] if data else []


CASES = [
    pytest.param(recorded, case, id=f"{recorded.path.stem}-{case}")
    for recorded in _recorded()
    for case in recorded.cases
]


@pytest.mark.skipif(not CASES, reason="no recorded numbers beside the folder that OSHP_TEST_DATA names")
@pytest.mark.parametrize("precision", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("recorded", "case"), CASES)
def test_the_official_code_gives_the_same_numbers(recorded: Recorded, case: str, precision: torch.dtype) -> None:
    import_module(f"parity.{recorded.method}").check(recorded, recorded.cases[case], precision)
