"""Seeded mutations of every format that is read: a right result, or an error in printable lines, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from oshp_bench.datasets.images import ImageProblem, read_mask, read_mat_mask
from oshp_bench.datasets.labels import builtin_specs, load_spec
from oshp_bench.datasets.sources import Source
from oshp_bench.errors import OshpError
from oshp_bench.manifest import Manifest, load_manifest
from oshp_bench.manifest.pack import Pack, write_pack
from oshp_bench.manifest.truth import load_truth, write_truth
from oshp_bench.metrics.listing import file_names

MUTATIONS = 200


def mutated(data: bytes, dice: random.Random) -> bytes:
    """One to four changes: bytes set, cut out, doubled, or the end cut off."""
    content = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        start = dice.randrange(len(content) + 1)
        length = dice.choice((1, 2, 4, 8, 64))
        match dice.randrange(4):
            case 0:
                content[start : start + length] = dice.randbytes(length)
            case 1:
                del content[start : start + length]
            case 2:
                content[start:start] = content[start : start + length]
            case _ if dice.random() < 0.2:
                del content[start:]
    return bytes(content)


def attack(data: bytes, path: Path, read: Callable[[Path], object]) -> None:
    """Reads all mutations of a file."""
    dice = random.Random(path.suffix)
    for number in range(MUTATIONS):
        path.write_bytes(mutated(data, dice))
        try:
            read(path)
        except OshpError as error:
            assert error.problems and all(problem.isprintable() for problem in error.problems), number
        except ImageProblem:
            pass


def test_masks(tmp_path: Path) -> None:
    Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30) % 9).save(tmp_path / "mask.png")
    attack((tmp_path / "mask.png").read_bytes(), tmp_path / "mask.png", read_mask)


def test_matlab_masks(tmp_path: Path) -> None:
    for compressed in (False, True):
        scipy.io.savemat(
            tmp_path / "mask.mat", {"other": np.eye(90), "truth": np.eye(9, dtype=np.uint8)}, do_compression=compressed
        )
        assert read_mat_mask(tmp_path / "mask.mat", "truth").shape == (9, 9)
        attack((tmp_path / "mask.mat").read_bytes(), tmp_path / "mask.mat", lambda path: read_mat_mask(path, "truth"))


def test_specs(tmp_path: Path) -> None:
    attack(builtin_specs()["ccp"].read_bytes(), tmp_path / "spec.toml", lambda path: load_spec(str(path)))


def test_manifests(manifest_file: Path, tmp_path: Path) -> None:
    attack(manifest_file.read_bytes(), tmp_path / "manifest.json", load_manifest)


@pytest.mark.parametrize("read", ["truth", "listing"])
def test_zips(manifest: Manifest, source: Source, tmp_path: Path, read: str) -> None:
    path = tmp_path / "truth.zip"
    write_truth(manifest, source, path)
    attack(path.read_bytes(), path, file_names if read == "listing" else lambda path: load_truth(path, manifest))


def test_tensors(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    weights = pytest.importorskip("oshp_bench.baselines.backbones.weights")
    numpy.save_file({"a": np.eye(3, dtype=np.float32), "b": np.zeros(5)}, tmp_path / "a.safetensors")
    attack((tmp_path / "a.safetensors").read_bytes(), tmp_path / "a.safetensors", weights.read_state)
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.eye(3), "b": torch.zeros(5)}, tmp_path / "a.pth")
    attack((tmp_path / "a.pth").read_bytes(), tmp_path / "a.pth", weights.read_state)


def test_packs(manifest: Manifest, source: Source, tmp_path: Path) -> None:
    path = tmp_path / "pack.h5"
    write_pack(manifest, source, path)

    def read(path: Path) -> None:
        pack = Pack(path, manifest)
        pack.read("090")

    attack(path.read_bytes()[:30_000], path, read)
    attack(path.read_bytes(), path, read)
