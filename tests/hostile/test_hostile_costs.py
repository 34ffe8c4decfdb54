"""Whole commands refuse what once took minutes or gigabytes, within 2 s of processor time and 300 MiB."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from bounds import MIB, SECONDS, within_bounds
from costs import Cost, costs
from metrics_cases import Bench, make_bench
from tailor_cases import SPEC, write_spec

from oshp_bench.datasets.images import ImageProblem, read_mat_mask
from oshp_bench.datasets.labels import Spec
from oshp_bench.datasets.sources import find_source
from oshp_bench.manifest.pack import write_pack

pytestmark = pytest.mark.slow
pytest.importorskip("torch")

MANY = 300_000
PREDICT, SCORE, TAILOR, TRAIN = (f"oshp_bench.{room}.cli" for room in ("baselines", "report", "tailor", "training"))
SHOW = ("oshp_bench.manifest.cli", "show")


def listing(count: int, name: Callable[[int], str], end: int = 0xFFFF) -> bytes:
    """A zip with a list of so many members, which all share the bytes of one."""
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 0, 0, 33, 0, 0, 0, 1, 0) + b"a"
    entries = []
    for number in range(count):
        text = name(number).encode()
        head = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 33, 0, 0, 0, len(text), 0, 0, 0, 0, 0, 0)
        entries.append(head + text)
    listed = b"".join(entries)
    wide = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(listed), len(local))
    wide += struct.pack("<4sLQL", b"PK\x06\x07", 0, len(local) + len(listed), 1)
    last = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, *(min(count, end),) * 2, len(listed), len(local), 0)
    return local + listed + (wide if count > end else b"") + last


def zipped(members: dict[str, bytes], path: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def matlab(variables: int, name: bytes, filling: int) -> bytes:
    """A MATLAB file of variables of 8000 x 8000 numbers, each with so many deflated zeros."""
    parts = struct.pack("<12I", 6, 8, 9, 0, 5, 8, 8000, 8000, 1, len(name), 0, 0)[:-8] + name.ljust(8, b"\0")
    inner = struct.pack("<II", 14, len(parts) + 8 + filling) + parts + struct.pack("<II", 2, filling) + bytes(filling)
    deflated = zlib.compress(inner, 9)
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    return head + (struct.pack("<II", 15, len(deflated)) + deflated) * variables


@pytest.mark.parametrize(
    ("variables", "name", "filling"),
    [(900, b"other", 1 << 22), (200_000, b"other", 0), (1, b"truth", 200 << 20), (1, b"truth", 60 << 20)],
)
def test_masks_of_matlab(tmp_path: Path, variables: int, name: bytes, filling: int) -> None:
    (tmp_path / "mask.mat").write_bytes(matlab(variables, name, filling))
    with within_bounds(variables), pytest.raises(ImageProblem):
        read_mat_mask(tmp_path / "mask.mat", "truth")


def torch_file(pickled: bytes, path: Path) -> Path:
    """A file of torch.save with this pickle in the place of its own."""
    import torch

    torch.save({"a": torch.zeros(2)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    own = next(name for name in members if name.endswith("data.pkl"))
    return zipped({**members, own: pickled}, path, zipfile.ZIP_STORED)


@pytest.fixture(scope="module")
def bench(tiny_spec: Spec, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = make_bench(tiny_spec, tiny_root, tmp_path_factory.mktemp("bench"))
    bench.write(bench.manifest_file.parent / "preds", ways=("kway",))
    return bench


def documents(bench: Bench, here: Path) -> dict[str, tuple[object, ...]]:
    """JSON and TOML."""
    whole = json.loads(bench.manifest_file.read_text())
    texts: dict[str, Any] = {
        "a key twice": '{"x":1,' + ",".join(f'"{number}":0' for number in range(90_000)) + ',"x":2}',
        "64 MiB": "[" + "1," * (32 << 20) + "1]",
        "16 MB of lists": "[" * 8_000_000 + "]" * 8_000_000,
        "many keys": "{" + ",".join(f'"{number:x}":1' for number in range(240_000)) + "}",
        "many texts": {"name": [f"{number:x}" for number in range(1_200_000)]},
        "many images": {"pools": {**whole["pools"], "query_train": {str(number): [1] for number in range(99_000)}}},
        "many wrong images": {"pools": {**whole["pools"], "query_train": {f"?{n}": None for n in range(99_000)}}},
        "many pairs": {"pairs": {"query": ["q"] * 99_000, "support": ["s"] * 99_000, "class": [1] * 99_000}},
        "many labels": {"dataset": {**whole["dataset"], "labels": ["x"] * 240_000, "removed": ["y"] * 240_000}},
        "corrections": {"dataset": {**whole["dataset"], "corrections": [{"from": "hat", "to": "hair", "ids": ["a"]}]}},
        "a long text": {"version": "\x01" * 2_500_000},
    }
    whole_dataset = texts["corrections"]["dataset"]
    whole_dataset["corrections"][0]["ids"] = [str(number) for number in range(240_000)]
    lines: dict[str, tuple[object, ...]] = {}
    for name, text in texts.items():
        path = here / f"{name}.json"
        path.write_text(text if isinstance(text, str) else json.dumps({**whole, **text}))
        lines[f"JSON: {name}"] = (*SHOW, path)
    for name, text in {
        "dotted keys": "a." * 40_000 + "b = 1",
        "dotted tables": "[" + "a . " * 20_000 + "b]",
        "many keys": "".join(f"{number:x} = 1\n" for number in range(20_000)),
        "an array": "a = [" + "1," * 120_000 + "]",
        "1 MiB": "#" * (1 << 20),
    }.items():
        path = here / f"{name}.toml"
        path.write_text(text)
        lines[f"TOML: {name}"] = (TAILOR, path, "--fold", 1)
    official = {**SPEC["official"], "supports": "cyclic"}
    specs: dict[str, dict[str, Any]] = {
        "supports_per_query": {"official": {**official, "supports_per_query": 10**9}},
        "pairs": {"official": {**official, "queries_per_class": 9_999, "supports_per_query": 9_999}},
        "stop": {"pools": {**SPEC["pools"], "query_test": {"list": "all", "stop": 10**18}}},
        "counts": {"counts": {"all": 10**18}},
        "min_pixels": {"official": {**official, "min_pixels": 10**18}},
    }
    for name, changes in specs.items():
        folder = here / f"spec {name}"
        folder.mkdir()
        lines[f"spec: {name}"] = (TAILOR, write_spec(folder, **changes), "--fold", 1)
    return lines


def archives(bench: Bench, here: Path) -> dict[str, tuple[object, ...]]:
    """Zips, as predictions, truth and matrices."""
    common = ("--manifest", bench.manifest_file)
    preds = bench.manifest_file.parent / "preds"
    lists = {
        "300,000 members": listing(MANY, lambda number: f"kway/{number:06d}.png"),
        "29,000 members": listing(29_000, lambda number: f"kway/{number:06d}.png"),
        "29,000 ways out": listing(29_000, lambda number: f"../{number:06d}.png"),
        "deep names": listing(200, lambda number: "a/" * 16_000 + str(number)),
    }
    lines: dict[str, tuple[object, ...]] = {}
    for name, content in lists.items():
        (here / f"{name}.zip").write_bytes(content)
        (here / f"{name}.npz").write_bytes(content)
        lines[f"zip: {name}"] = (SCORE, here / f"{name}.zip", *common)
        lines[f"truth: {name}"] = (SCORE, preds, *common, "--truth", here / f"{name}.zip")
        lines[f"npz: {name}"] = (SCORE, "--from-matrices", here / f"{name}.npz", *common)
    bomb = zipped({"kway/0000.png": bytes(1 << 28)}, here / "bomb.zip")
    lines["zip: bomb"] = (SCORE, bomb, *common)
    said = zipped({"kway/0000.png": b"", "predictions.json": b"[" + b"1," * 8_000_000 + b"1]"}, here / "said.zip")
    lines["zip: predictions.json"] = (SCORE, said, *common)
    lines["truth: bomb"] = (SCORE, preds, *common, "--truth", zipped({"truth.json": bytes(1 << 28)}, here / "t.zip"))
    matrices = zipped({"about.npy": bytes(1 << 27), "kway.npy": bytes(1 << 27)}, here / "bomb.npz")
    lines["npz: bomb"] = (SCORE, "--from-matrices", matrices, *common)
    return lines


def weights(bench: Bench, here: Path) -> dict[str, tuple[object, ...]]:
    """Files of torch.save and safetensors."""
    import torch

    torch.save({"a": torch.zeros(1).expand(10**9)}, here / "expanded.pth")
    torch.save({"a": torch.zeros(2)}, here / "small.pth")
    with zipfile.ZipFile(here / "small.pth") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    zeros = {name: bytes(1 << 29) if name.endswith("/0") else content for name, content in members.items()}
    zipped(zeros, here / "deflated.pth")
    del zeros
    torch_file(b"\x80\x02" + b"]" * 5_000_000 + b".", here / "pickled lists.pth")
    torch_file(b"\x80\x02(" + b"K\x01" * 5_000_000 + b"l.", here / "pickled numbers.pth")
    head = b"".join([pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2), pickle.dumps({}, 2)])
    (here / "old pickles.pth").write_bytes(head + b"\x80\x02" + b"]" * 20_000_000 + b".")
    (here / "members.pth").write_bytes(listing(MANY, str))
    header = b'{"__metadata__":{"oshp":"' + b"[" * 4_000_000 + b'"}}'
    (here / "card.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    tensors = {str(number): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(90_000)}
    header = json.dumps(tensors).encode()
    (here / "tensors.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    paths = [*here.glob("*.pth"), *here.glob("*.safetensors")]
    common = ("--manifest", bench.manifest_file, "--root", "nowhere", "-o", here / "out")
    return {f"weights: {path.name}": (PREDICT, path, *common) for path in paths if path.name != "small.pth"}


def packs(bench: Bench, spec: Spec, root: Path, here: Path) -> dict[str, tuple[object, ...]]:
    """Training packs."""
    lines: dict[str, tuple[object, ...]] = {}
    write_pack(bench.manifest, find_source(spec.dataset, root), here / "whole.h5")
    kinds: dict[str, dict[str, Any]] = {
        "sparse": {"chunks": (1 << 16, 3)},
        "never written": {},
        "early": {"compression": "gzip"},
    }
    for name, kind in kinds.items():
        path = here / f"{name}.h5"
        path.write_bytes((here / "whole.h5").read_bytes())
        with h5py.File(path, "r+") as file:
            del file["photos"]
            file.create_dataset("photos", (1 << 32, 3), np.uint8, **kind)
        common = ("--manifest", bench.manifest_file, "--root", root, "--preset", "quick", "-o", here / "run")
        lines[f"pack: {name}"] = (TRAIN, *common, "--pack", path)
    return lines


@pytest.fixture(scope="module")
def spent(bench: Bench, tiny_spec: Spec, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cost]:
    here = [tmp_path_factory.mktemp(name) for name in ("documents", "archives", "weights", "packs")]
    return costs(
        {
            **documents(bench, here[0]),
            **archives(bench, here[1]),
            **weights(bench, here[2]),
            **packs(bench, tiny_spec, tiny_root, here[3]),
        }
    )


def test_what_is_refused_costs_little(spent: dict[str, Cost]) -> None:
    assert len(spent) > 40
    dear = {name: cost for name, cost in spent.items() if cost.seconds >= SECONDS or cost.mib >= MIB}
    assert not dear
    odd = {name: cost for name, cost in spent.items() if cost.code not in (1, 2) or "Traceback" in cost.output}
    assert not odd
    # It is not refused for something else that all of them share.
    assert len({cost.output.partition(": ")[2].partition(": ")[2][:40] for cost in spent.values()}) > 20
    assert all(line.isprintable() for cost in spent.values() for line in cost.output.splitlines())
