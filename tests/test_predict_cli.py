"""oshp-predict: the right masks in the right form, all problems listed, safe to kill."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import TINY
from numpy.typing import NDArray
from PIL import Image
from tiny import manifest_of

from oshp_bench import Episodes, Manifest, PredictionWriter, find_source
from oshp_bench.baselines.cli import main
from oshp_bench.baselines.floor import parse_by_copy
from oshp_bench.datasets.labels import parse_spec
from oshp_bench.datasets.palette import colour_of
from oshp_bench.datasets.sources import Source

NAMES = {f"{index:04d}.png" for index in range(750)}


def predict(method: str, manifest_file: Path, root: Path, folder: Path, *options: str) -> Result:
    arguments = [method, "--manifest", str(manifest_file), "--root", str(root), "-o", str(folder), *options]
    return CliRunner().invoke(main, arguments)


def process(code: str, method: str, manifest_file: Path, root: Path, folder: Path) -> list[str]:
    """The command line of oshp-predict in a process of its own, after some code of the test."""
    program = f"{code}\nfrom oshp_bench.baselines.cli import main\nmain()"
    return [
        sys.executable,
        "-c",
        program,
        method,
        "--manifest",
        str(manifest_file),
        "--root",
        str(root),
        "-o",
        str(folder),
    ]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def copied(manifest_file: Path, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of copy-support."""
    folder = tmp_path_factory.mktemp("copied") / "preds"
    result = predict("copy-support", manifest_file, tiny_root, folder)
    assert result.exit_code == 0, result.output
    return folder


@pytest.mark.slow
def test_the_folder_holds_the_predictions_and_whose_they_are(copied: Path, manifest: Manifest) -> None:
    expected = {f"{way}/{name}" for way in ("kway", "1way") for name in NAMES}
    assert contents(copied).keys() == {*expected, "predictions.json"}
    card = json.loads((copied / "predictions.json").read_text())
    assert card.pop("made_by").startswith("oshp-bench ")
    digests = {path: hashlib.sha256((copied / path).read_bytes()).hexdigest()[:32] for path in expected}
    assert {
        f"{way}/{name}.png": digest for way, files in card.pop("files").items() for name, digest in files.items()
    } == (digests)
    assert card == {
        "format": "oshp-predictions/1",
        "method": "copy-support",
        "manifest": "tiny_fold1",
        "version": "1.0.0",
        "test_digest": manifest.test_digest,
    }


def test_copy_support_takes_row_i_times_h_over_height(copied: Path, manifest: Manifest, source: Source) -> None:
    """Row i of a query of H rows is row floor(i h / H) of a support of h rows, columns likewise; 1-way the target."""
    for index in range(0, 750, 37):
        pairs = manifest.pairs
        mask = source.merged_mask(pairs.support[index])
        height, width = source.photo_size(pairs.query[index])
        expected = [
            [int(mask[i * mask.shape[0] // height, j * mask.shape[1] // width]) for j in range(width)]
            for i in range(height)
        ]
        target = pairs.target[index]
        assert pixels(copied / "kway" / f"{index:04d}.png").tolist() == expected
        assert pixels(copied / "1way" / f"{index:04d}.png").tolist() == [
            [label if label == target else 0 for label in row] for row in expected
        ]


def test_background_is_background(manifest_file: Path, manifest: Manifest, source: Source, tmp_path: Path) -> None:
    assert predict("background", manifest_file, source.root, tmp_path / "preds", "--way", "k").exit_code == 0
    for index in range(0, 750, 50):
        mask = pixels(tmp_path / "preds" / "kway" / f"{index:04d}.png")
        assert mask.shape == source.photo_size(manifest.pairs.query[index])
        assert not mask.any()


def test_every_training_mask_that_is_damaged_is_listed(
    manifest: Manifest, manifest_file: Path, tiny_root: Path, tmp_path: Path
) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(tiny_root, root)
    first, last = min(manifest.pools["query_train"]), max(manifest.pools["support_train"])
    (root / "masks" / f"{first}.png").unlink()
    (root / "masks" / f"{last}.png").write_bytes(b"")
    result = predict("class-prior", manifest_file, root, tmp_path / "preds")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f"error: {root / 'masks' / first}.png: does not exist",
        f"error: {root / 'masks' / last}.png: an empty file",
    ]
    assert not (tmp_path / "preds").exists()


def test_predictions_are_palette_pngs_of_8_bits(copied: Path) -> None:
    for path in (copied / "kway" / "0000.png", copied / "1way" / "0749.png"):
        assert path.read_bytes()[24:26] == bytes((8, 3))  # bit depth 8, colour type 3: palette


def test_a_class_has_one_colour_in_every_dataset(copied: Path, tiny_root: Path, tmp_path: Path) -> None:
    """The same names with other ids: hat is 1 here and 9 there, and both are painted alike."""
    content: dict[str, Any] = {**TINY, "name": "other"}
    content["classes"] = {**content["classes"], "hat": {"id": 9, "labels": ["hat"]}}
    other = parse_spec(content, "other.toml")
    manifest = manifest_of(other, tiny_root)
    (episode,) = Episodes(manifest.pairs, find_source(other.dataset, tiny_root), "k", [0])
    PredictionWriter(tmp_path / "other", manifest, "copy-support", "k").write(episode, parse_by_copy(episode))
    with Image.open(copied / "kway" / "0000.png") as ours, Image.open(tmp_path / "other/kway/0000.png") as theirs:
        here, there = np.asarray(ours.convert("RGB")), np.asarray(theirs.convert("RGB"))
        assert (1 in np.asarray(ours), 9 in np.asarray(theirs)) == (True, True)
        hats = np.asarray(ours) == 1
    assert (here == there).all()
    assert (here[hats] == colour_of("hat")).all()


def test_a_complete_folder_is_left_as_it_is(copied: Path, manifest_file: Path, tiny_root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*")}
    result = predict("copy-support", manifest_file, tiny_root, copied)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{copied}/kway: 750 k-way predictions of copy-support (750 of them were there)",
        f"{copied}/1way: 750 1-way predictions of copy-support (750 of them were there)",
        f"Score them: oshp-score {copied} --manifest {manifest_file} --root {tiny_root}",
    ]
    assert result.stderr == ""
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*")} == before


def test_what_is_missing_is_done_and_the_rest_kept(
    copied: Path, manifest_file: Path, tiny_root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "preds"
    shutil.copytree(copied, folder)
    (folder / "kway" / "0003.png").unlink()
    (folder / "kway" / ".0003.png.part").write_bytes(b"half a file")
    (folder / "1way" / "0749.png").unlink()
    result = predict("copy-support", manifest_file, tiny_root, folder, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["predictions"] == {
        "kway": {"written": 1, "kept": 749},
        "1way": {"written": 1, "kept": 749},
    }
    assert contents(folder) == contents(copied)


@pytest.mark.slow
def test_one_way_at_a_time(copied: Path, manifest_file: Path, tiny_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "preds"
    result = predict("copy-support", manifest_file, tiny_root, folder, "--way", "1")
    assert result.exit_code == 0
    assert {path.name for path in folder.iterdir()} == {"1way", "predictions.json"}
    assert predict("copy-support", manifest_file, tiny_root, folder, "--way", "k").exit_code == 0
    assert contents(folder) == contents(copied)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_goes_on_to_the_same_bytes(
    copied: Path, manifest_file: Path, tiny_root: Path, tmp_path: Path, how: signal.Signals
) -> None:
    folder = tmp_path / "preds"
    # A pause after some files lets the kill come in the middle on any machine.
    slow = (
        # A shell that runs tests in the background has its children ignore Ctrl-C.
        "import signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from oshp_bench.datasets import images\nplain, files = images.write_mask, []\n"
        "def write_mask(path, *rest):\n"
        "    plain(path, *rest)\n"
        "    files.append(path)\n"
        "    time.sleep(60 if len(files) == 101 else 0)\n"
        "images.write_mask = write_mask"
    )
    command = process(slow, "copy-support", manifest_file, tiny_root, folder)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        while len([*folder.glob("kway/0*.png")]) < 101:
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(how)
        _, told = running.communicate()
    assert running.returncode != 0
    assert len(told.split()) <= 1, "no traceback"
    assert len([*(folder / "kway").iterdir()]) == len([*folder.glob("kway/0*.png")]) == 101
    result = predict("copy-support", manifest_file, tiny_root, folder)
    assert (result.exit_code, result.stdout.count("101 of them were there")) == (0, 1)
    assert contents(folder) == contents(copied)


def test_every_missing_file_is_told_before_anything_is_written(
    manifest: Manifest, manifest_file: Path, tiny_root: Path, tmp_path: Path
) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(tiny_root, root)
    photo = root / "photos" / f"{manifest.pairs.query[-1]}.jpg"
    mask = root / "masks" / f"{manifest.pairs.support[-1]}.png"
    photo.unlink()
    mask.unlink()
    result = predict("background", manifest_file, root, tmp_path / "preds")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert sorted(result.stderr.splitlines()) == sorted(
        (
            f"error: {photo}: does not exist",
            f"error: {mask}: does not exist; the mask of the support {manifest.pairs.support[-1]}",
        )
    )
    assert not (tmp_path / "preds").exists()


@pytest.mark.slow
def test_a_mask_that_turns_out_damaged_stops_the_run_and_the_next_one_goes_on(
    copied: Path, manifest: Manifest, manifest_file: Path, tiny_root: Path, tmp_path: Path
) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(tiny_root, root)
    mask = root / "masks" / f"{manifest.pairs.support[9]}.png"
    whole = mask.read_bytes()
    mask.write_bytes(whole[: len(whole) // 2])
    folder = tmp_path / "preds"
    result = predict("copy-support", manifest_file, root, folder)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith(f"error: {mask}: ")
    assert {path.name for path in (folder / "kway").iterdir()} == {f"{index:04d}.png" for index in range(9)}
    mask.write_bytes(whole)
    assert predict("copy-support", manifest_file, root, folder).exit_code == 0
    assert contents(folder) == contents(copied)


@pytest.mark.parametrize("member", ["method", "manifest", "version", "test_digest"])
def test_the_predictions_of_another_run_are_not_touched(
    copied: Path, manifest_file: Path, tiny_root: Path, tmp_path: Path, member: str
) -> None:
    folder = tmp_path / "preds"
    shutil.copytree(copied, folder)
    card = folder / "predictions.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), member: "another"}))
    (folder / "kway" / "0000.png").unlink()
    before = contents(folder)
    result = predict("copy-support", manifest_file, tiny_root, folder)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith(f"error: {card}: the {member} is 'another', not ")
    assert "choose another folder" in result.stderr
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("card", "why"),
    [
        (None, "holds predictions, but no predictions.json"),
        ("[]", '"format" is not "oshp-predictions/1"'),
        ('{"format": "oshp-result/1"}', '"format" is not "oshp-predictions/1"'),
        ("{", "not valid JSON"),
        ('{"format": "oshp-predictions/1", "files": {"kway": 1}}', '"files" does not list digests'),
    ],
)
def test_a_folder_of_unknown_origin_is_not_touched(
    manifest_file: Path, tiny_root: Path, tmp_path: Path, card: str | None, why: str
) -> None:
    (tmp_path / "preds" / "kway").mkdir(parents=True)
    if card is not None:
        (tmp_path / "preds" / "predictions.json").write_text(card)
    result = predict("background", manifest_file, tiny_root, tmp_path / "preds")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert why in result.stderr
    assert contents(tmp_path / "preds").keys() <= {"predictions.json"}


def test_an_unknown_method_is_told_the_known_ones(manifest_file: Path, tiny_root: Path, tmp_path: Path) -> None:
    result = predict("copy_support", manifest_file, tiny_root, tmp_path / "preds")
    assert result.exit_code == 2
    assert result.stderr.startswith(
        "error: copy_support: no such method and no checkpoint; known: background, class-prior, copy-support, "
    )


def test_an_unknown_manifest_and_a_wrong_root_are_one_line_errors(manifest_file: Path, tmp_path: Path) -> None:
    result = predict("background", tmp_path / "none.json", tmp_path, tmp_path / "preds")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    result = predict("background", manifest_file, tmp_path / "nowhere", tmp_path / "preds")
    assert result.exit_code == 2
    assert f"{tmp_path / 'nowhere'}: no such folder" in result.stderr
    assert not (tmp_path / "preds").exists()


def test_an_output_below_a_file_is_refused(manifest_file: Path, tiny_root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = predict("background", manifest_file, tiny_root, tmp_path / "file" / "preds")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert str(tmp_path / "file") in result.stderr
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(("limit", "left"), [(100, set()), (500, {"predictions.json"})])
def test_a_full_disk_leaves_no_half_file(
    manifest_file: Path, tiny_root: Path, tmp_path: Path, limit: int, left: set[str]
) -> None:
    """A file may not grow beyond 100 bytes, less than predictions.json; or 500, less than a PNG with its palette."""
    full = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    command = process(full, "background", manifest_file, tiny_root, tmp_path / "preds")
    # Python must not write compiled modules under this limit.
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"error: {tmp_path / 'preds'}/")
    assert "File too large; check space and permissions" in done.stderr
    assert contents(tmp_path / "preds").keys() == left
