"""Training packs that lead to other files, or hold other things than numbers in one piece; packing on a full disk."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from oshp_bench.datasets.sources import Source
from oshp_bench.errors import OshpError
from oshp_bench.manifest import Manifest
from oshp_bench.manifest.pack import Pack, write_pack


@pytest.fixture(scope="module")
def pack(manifest: Manifest, source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packs") / "tiny.h5"
    write_pack(manifest, source, path)
    return path


def replaced(name: str, content: Callable[[Any], Any]) -> Callable[[Any], None]:
    """A change that puts something else in the place of a part, which is moved to `elsewhere`."""

    def apply(file: Any) -> None:
        file.move(name, "elsewhere")
        file[name] = content(file)

    return apply


def external(file: Any) -> None:
    pixels = file["masks"].shape
    del file["masks"]
    file.create_dataset("masks", pixels, np.uint8, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout(file["masks"].shape, np.uint8)
    layout[:] = h5py.VirtualSource("other.h5", "masks", file["masks"].shape)
    del file["masks"]
    file.create_virtual_dataset("masks", layout)


def sparse(file: Any) -> None:
    del file["photos"]
    file.create_dataset("photos", (1 << 32, 3), np.uint8, chunks=(1 << 16, 3))


def compressed(file: Any) -> None:
    file.move("masks", "elsewhere")
    file.create_dataset("masks", data=file["elsewhere"][:], compression="gzip")


CHANGES: dict[str, Callable[[Any], None]] = {
    "external link": replaced("masks", lambda _: h5py.ExternalLink("other.h5", "masks")),
    "soft link": replaced("masks", lambda _: h5py.SoftLink("/elsewhere")),
    "external storage": external,
    "virtual": virtual,
    "sparse": sparse,
    "compressed": compressed,
    "group": replaced("masks", lambda file: file.create_group("g")),
    "null": replaced("masks", lambda _: h5py.Empty("u1")),
    "floats": replaced("photos", lambda file: file["elsewhere"][:].astype(np.float32)),
    "wide labels": replaced("masks", lambda file: file["elsewhere"][:].astype(np.int32) + 1000),
    "ids of objects": replaced("ids", lambda file: [image.decode() for image in file["elsewhere"]]),
    "array attribute": lambda file: file.attrs.__setitem__("format", np.zeros((2, 2))),
    "null attribute": lambda file: file.attrs.__setitem__("dataset", h5py.Empty("S5")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_pack_of_anything_but_plain_numbers_is_refused(
    manifest: Manifest, pack: Path, tmp_path: Path, change: str
) -> None:
    path = tmp_path / "bad.h5"
    path.write_bytes(pack.read_bytes())
    with h5py.File(path, "r+") as file:
        CHANGES[change](file)
    with pytest.raises(OshpError) as raised:
        Pack(path, manifest)
    assert len(raised.value.problems) == 1 and raised.value.problems[0].startswith(f"{path}: ")


def test_a_pipe_is_not_waited_for(manifest: Manifest, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OshpError, match="not a readable pack"):
        Pack(tmp_path / "pipe", manifest)


@pytest.mark.parametrize("most", [0.0, 0.1, 0.9])
def test_packing_on_a_full_disk_leaves_nothing(
    manifest: Manifest, source: Source, pack: Path, tmp_path: Path, most: float
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(pack.stat().st_size * most), before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            write_pack(manifest, source, tmp_path / "full.h5")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.filename == str(tmp_path / "full.h5")
    assert not list(tmp_path.iterdir())
