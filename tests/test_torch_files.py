"""Files of torch.save from strangers: no code is run, what is damaged or no checkpoint is refused in lines."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from network_cases import refusals

from oshp_bench.baselines.backbones.weights import read_state
from oshp_bench.baselines.checkpoints import load_checkpoint
from oshp_bench.errors import OshpError


class _Code:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_code_in_a_torch_file_is_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    torch.save({"xception_features.conv1.weight": _Code(trap)}, tmp_path / "code.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(_Code(trap)))
    for name in ("code.pth", "bare.pth"):
        (line,) = refusals(tmp_path / name)
        assert "no file of plain tensors" in line
    assert not trap.exists()


def published(**tensors: torch.Tensor) -> dict[str, torch.Tensor]:
    """The marks of the authors' 1-way checkpoints, and some tensors."""
    return {
        "xception_features.conv1.weight": torch.zeros(32, 3, 3, 3),
        "npm_class.weight": torch.zeros(2, 1, 1, 1),
        "prototype": torch.zeros(18, 256),
        **{name.replace("__", "."): tensor for name, tensor in tensors.items()},
    }


def test_a_torch_file_that_is_cut_off_or_none(tmp_path: Path) -> None:
    torch.save(published(), tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    path = tmp_path / "cut.pth"
    for length in (0, 1, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert len(refusals(path)) == 1
    for content in ([torch.zeros(3)], {"a": 3}, {3: torch.zeros(3)}, torch.zeros(3)):
        torch.save(content, path)
        assert "holds other things than named tensors" in refusals(path)[0]
    torch.save({"a": torch.zeros(3)}, path)
    assert refusals(path) == (f"{path}: neither a checkpoint of oshp-train nor one of EOP-Net's authors",)


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_to_a_torch_file_is_refused_or_harmless(tmp_path: Path, data: st.DataObject) -> None:
    """Its records are small, so that most changes hit what says how to read them; none of it is a whole network."""
    path = tmp_path / "damaged.pth"
    torch.save({"a.weight": torch.ones(3), "b": torch.ones(2, 2)}, path)
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with pytest.raises(OshpError):
        load_checkpoint(path)


def test_tensors_that_are_larger_than_their_file(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    torch.save(published(s1_semantic__bias=torch.zeros(1).expand(10**11)), path)
    assert refusals(path) == (f"{path}: holds other things than named tensors; give a file with weights alone",)
    torch.save(published(prototype=torch.zeros(1, 256).expand(10**9, 256)), path)
    assert len(refusals(path)) == 1
    torch.save(published(prototype=torch.zeros(10**5, 4)), path)
    assert "lacks the tensor prototype" in refusals(path)[0]
    torch.save(published(s1_semantic__bias=torch.ones(2).to_sparse()), path)
    assert len(refusals(path)) == 1


def test_published_tensors_of_strange_shapes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "odd.pth"
    torch.save(published(s1_semantic__bias=torch.zeros(()), npm_class__weight=torch.zeros(3, 1, 1, 1)), path)
    lines = refusals(path)
    assert any("lacks the tensor" in each for each in lines)


def test_a_file_of_an_old_torch_is_read_and_its_pickles_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    state = {"a": torch.arange(300_000.0), "b": torch.ones(2, 3)}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    read = read_state(path)
    assert read.keys() == state.keys() and all(torch.equal(read[name], state[name]) for name in state)
    torch.save(dict.fromkeys(map(str, range(100_000)), 1), path, _use_new_zipfile_serialization=False)
    assert "no file of plain tensors" in refusals(path)[0]
