"""Every method that trains goes on where it stopped, and trains on two processes as on one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import manifest_of
from torch import Tensor
from training_cases import SMALL, SMALL_OPTIONS, rows, run_of, weights

from oshp_bench.baselines.contract import Batch, LearnedMethod, Progress
from oshp_bench.baselines.registry import KnownMethod, named, network_class
from oshp_bench.datasets.labels import Spec
from oshp_bench.datasets.sources import find_source
from oshp_bench.episodes.episodes import Way
from oshp_bench.manifest import save_manifest
from oshp_bench.training.loop import train
from oshp_bench.training.settings import preset

pytestmark = pytest.mark.slow

CASES = [(name, way) for name, known in named("trained").items() for way in known.ways]
# What methods are trained with here beside their defaults; random draws differ between processes, so one goes without.
VARIED: dict[str, dict[str, Any]] = {"eopnet-fg": {"unnamed": "regions"}}
DRAWN: dict[str, dict[str, Any]] = {"eopnet-fg": {"as_novel": 0.5}}
# Trains like oshp-train, one run after the other in the same processes; each process leaves its networks behind.
EVERY_RANK = """
import json, os, sys
import torch
torch.set_num_threads(1)
from oshp_bench.training import loop
from oshp_bench.training.cli import main
made, networks = loop._network, []
def keeping(*arguments):
    networks.append(made(*arguments))
    return networks[-1]
loop._network = keeping
for out, port, arguments in json.loads(sys.argv[1]):
    os.environ["MASTER_PORT"] = str(port)
    main(arguments, standalone_mode=False)
    torch.save(networks.pop().state_dict(), f"{out}-rank{os.environ['RANK']}.pt")
"""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def stopping(method: type[LearnedMethod], stage: int, step: int) -> type[LearnedMethod]:
    """The method, interrupted before a step."""

    class Stopping(method):  # type: ignore[misc, valid-type]
        def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
            if (progress.stage, progress.step) == (stage, step):
                raise KeyboardInterrupt
            losses: dict[str, Tensor] = super().losses(batch, progress)
            return losses

    return Stopping


@pytest.mark.parametrize(("name", "way"), CASES)
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(
    name: str, way: Way, tiny_spec: Spec, tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, source = manifest_of(tiny_spec, tiny_root), find_source(tiny_spec.dataset, tiny_root)
    method, model = network_class(name), preset("cpu", name).model
    model = replace(model, **VARIED.get(name, {}), **DRAWN.get(name, {}))
    chosen: dict[str, Any] = {"method": name, "way": way, "model": model, "validate_every": 0}
    train(run_of(manifest, source, tmp_path / "whole", **chosen))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        # Of the last stage's two epochs with two steps each, the second step of the second epoch.
        patched.setattr(KnownMethod, "load", lambda _: stopping(method, method.stages - 1, 3))
        train(run_of(manifest, source, tmp_path / "parts", **chosen))
    train(run_of(manifest, source, tmp_path / "parts", **chosen))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")
    assert len(rows(tmp_path / "whole")) == 4 * method.stages


def options_of(name: str, way: Way) -> list[str]:
    """A few steps without what differs between processes by its nature: dropout, and batch norm of half a batch."""
    settings = vars(network_class(name).settings_type())
    dropout = settings.get("dropout")
    still = [] if dropout is None else [f"--set=model.dropout={'[0, 0]' if isinstance(dropout, tuple) else 0}"]
    varied = [f"--set=model.{setting}={value}" for setting, value in VARIED.get(name, {}).items()]
    frozen = ("freeze_batch_norm=true", "lr=1e-3", "optimiser=sgd", "validate_every=0")
    return ["--method", name, "--way", way, *still, *varied, *(f"--set={each}" for each in frozen)]


@pytest.mark.skipif(os.name != "posix", reason="starts processes as POSIX does")
def test_two_processes_train_every_method_as_one(tiny_spec: Spec, tiny_root: Path, tmp_path: Path) -> None:
    manifest, source = manifest_of(tiny_spec, tiny_root), find_source(tiny_spec.dataset, tiny_root)
    save_manifest(manifest, tmp_path / "manifest.json")
    common = ["--manifest", str(tmp_path / "manifest.json"), "--root", str(tiny_root), *SMALL_OPTIONS]
    places = {case: str(tmp_path / "-".join(case)) for case in CASES}
    plan = [
        (place, port, [*common, *options_of(*case), "-o", f"{place}-two"])
        for (case, place), port in zip(places.items(), free_ports(len(places)), strict=True)
    ]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", EVERY_RANK, json.dumps(plan)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    try:
        errors = [each.communicate(timeout=900)[1] for each in ranks]
    finally:
        for each in ranks:
            each.kill()
    assert [each.returncode for each in ranks] == [0, 0], errors
    for (name, way), place in places.items():
        model = replace(preset("cpu", name).model, **VARIED.get(name, {}))
        if hasattr(model, "dropout"):
            model = replace(model, dropout=(0.0, 0.0) if isinstance(model.dropout, tuple) else 0.0)
        alone: dict[str, Any] = {"freeze_batch_norm": True, "lr": 1e-3, "optimiser": "sgd", "validate_every": 0}
        alone |= {"augmentation": replace(SMALL.augmentation, scale=(0.5, 2.0))}
        train(run_of(manifest, source, Path(f"{place}-one"), method=name, way=way, model=model, **alone))
        one, two = weights(Path(f"{place}-one")), weights(Path(f"{place}-two"))
        for rank in (0, 1):
            assert same(torch.load(f"{place}-rank{rank}.pt", weights_only=True), two), (name, way)
        # To rounding, as convolutions of one sample and of two add up in another order.
        for key, tensor in one.items():
            torch.testing.assert_close(two[key], tensor, rtol=1e-5, atol=1e-6, msg=f"{name} {way}-way: {key}")
        for ours, theirs in zip(rows(Path(f"{place}-one")), rows(Path(f"{place}-two")), strict=True):
            # A cell is empty where a stage does not have the loss.
            assert {key: float(value or "nan") for key, value in theirs.items()} == pytest.approx(
                {key: float(value or "nan") for key, value in ours.items()}, rel=1e-5, abs=1e-6, nan_ok=True
            ), (name, way)
