"""Pipes in the place of every kind of input, control characters in documents, and zips of several disks."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tailor_cases import write_spec

from oshp_bench.datasets.images import ImageProblem, photo_size, read_mask, read_mat_mask, read_photo
from oshp_bench.datasets.labels import load_spec
from oshp_bench.errors import OshpError
from oshp_bench.leaderboard.entries import load_entries
from oshp_bench.manifest import Manifest, load_manifest
from oshp_bench.manifest.truth import load_truth
from oshp_bench.metrics.listing import file_names
from oshp_bench.metrics.matrices import load_matrices
from oshp_bench.metrics.method_card import read_method_card
from oshp_bench.metrics.predictions import open_predictions
from oshp_bench.metrics.submission import read_index

READERS: dict[str, Callable[[Path, Manifest], object]] = {
    "photo.png": lambda path, _: read_photo(path),
    "size.jpg": lambda path, _: photo_size(path),
    "mask.png": lambda path, _: read_mask(path),
    "mask.mat": lambda path, _: read_mat_mask(path, "truth"),
    "spec.toml": lambda path, _: load_spec(str(path)),
    "card.toml": lambda path, _: read_method_card(path),
    "manifest.json": lambda path, _: load_manifest(path),
    "result.json": lambda path, _: load_entries([path]),
    "submission.json": lambda path, _: read_index(path.parent),
    "truth.zip": load_truth,
    "preds.zip": lambda path, _: file_names(path),
    "predictions.json": lambda path, manifest: open_predictions(path.parent, None, manifest),
    "matrices.npz": load_matrices,
}


@pytest.mark.parametrize("name", READERS)
def test_a_pipe_in_the_place_of_an_input_is_refused(manifest: Manifest, tmp_path: Path, name: str) -> None:
    # Only predictions.json lies beside such a folder.
    (tmp_path / "kway").mkdir()
    os.mkfifo(tmp_path / name)
    with pytest.raises((OshpError, ImageProblem), match=r"regular file|neither a file"):
        READERS[name](tmp_path / name, manifest)


def test_terminal_escapes_in_documents_are_refused(manifest_file: Path, tmp_path: Path) -> None:
    for member in ("title", "get"):
        with pytest.raises(OshpError, match=rf"{member} holds U\+001B"):
            load_spec(write_spec(tmp_path, **{member: "a\x1b[2J"}))
    content = json.loads(manifest_file.read_text())
    content["dataset"]["tree"] = "a\x1b[2J"
    (tmp_path / "m.json").write_text(json.dumps(content))
    with pytest.raises(OshpError, match=r"tree holds U\+001B"):
        load_manifest(tmp_path / "m.json")


@pytest.mark.parametrize("member", ["method", "backbone"])
def test_terminal_escapes_in_a_checkpoint_are_refused(member: str) -> None:
    pytest.importorskip("torch")
    from oshp_bench.baselines.card import CARD_FORMAT, read_card

    card = {"format": CARD_FORMAT, "method": "eopnet", "backbone": "resnet50", "way": "k", "width": 8, "count": 9}
    assert read_card({**card, "model": {}}, "a.safetensors").method == "eopnet"
    with pytest.raises(OshpError, match=rf"{member} holds U\+001B"):
        read_card({**card, "model": {}, member: "a\x1b[2J"}, "a.safetensors")


def test_a_zip_of_several_disks_is_refused_in_a_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("kway/0000.png", b"")
    data = (tmp_path / "a.zip").read_bytes()
    end = data.index(b"PK\x05\x06")
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 7)
    (tmp_path / "a.zip").write_bytes(data[:end] + locator + data[end:])
    with pytest.raises(OshpError) as raised:
        file_names(tmp_path / "a.zip")
    assert len(raised.value.problems) == 1
