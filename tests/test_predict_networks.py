"""oshp-predict with checkpoints: whose predictions they are, what is refused, the same bytes however it is run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from conftest import TINY
from network_cases import TODO, begun, card_of, done, predict, save_drawn, write_files
from tiny import manifest_of

from oshp_bench import Episodes, Manifest, PredictionWriter, find_source, load_manifest
from oshp_bench.baselines.card import TrainedOn
from oshp_bench.baselines.checkpoints import untrained
from oshp_bench.baselines.cli import main
from oshp_bench.baselines.registry import METHODS
from oshp_bench.baselines.use import Use, find_method
from oshp_bench.datasets.images import read_mask
from oshp_bench.datasets.labels import Spec, parse_spec
from oshp_bench.episodes.episodes import WAYS


@pytest.fixture(scope="module")
def files(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("files"), manifest)


@pytest.fixture(scope="module")
def predicted(
    files: Path, manifest: Manifest, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Result]:
    """The k-way predictions of a run that nothing disturbed."""
    folder = begun(tmp_path_factory.mktemp("preds") / "preds", manifest, tiny_root, files / "k.safetensors", "k")
    return folder, predict(files / "k.safetensors", folder, files, tiny_root)


@pytest.mark.slow
def test_a_checkpoint_predicts_its_way_at_native_size_and_says_how(
    predicted: tuple[Path, Result], files: Path, manifest: Manifest, tiny_root: Path
) -> None:
    folder, result = predicted
    assert (result.exit_code, result.stderr) == (0, "")
    about = json.loads((folder / "predictions.json").read_text())
    assert about["method"] == "eopnet" and "1way" not in about
    network = about["kway"]
    assert (network["checkpoint"], network["head"], network["screening"], network["photo_side"]) == (
        "k.safetensors",
        "NPM",
        True,
        40,
    )
    assert result.stdout.splitlines() == [
        f"{folder}/kway: 750 k-way predictions of eopnet ({750 - len(TODO)} of them were there)",
        f"k.safetensors ({network['digest'][:19]}); epoch 3 on tiny_fold1 1.0.0; efficientnet-lite0,"
        f" {network['parameters']:,} parameters; head NPM; screening on; photos at 40 pixels, predictions"
        " at native size",
        f"Score them: oshp-score {folder} --manifest {files / 'tiny_fold1.json'} --root {tiny_root}",
    ]
    source = find_source(manifest.dataset, tiny_root)
    method = find_method(str(files / "k.safetensors"), Use()).build(manifest, source)
    found = set()
    for episode in Episodes(manifest.pairs, source, "k", TODO):
        mask = read_mask(folder / "kway" / f"{episode.name}.png")
        assert mask.shape == episode.query_size
        assert (mask == method(episode)).all()
        found.update(np.unique(mask).tolist())
    assert found == set(manifest.class_ids), "weights that parse into every class tell more"


@pytest.mark.parametrize("workers", ["0", "3"])
def test_any_number_of_workers_gives_the_same_bytes(
    predicted: tuple[Path, Result], files: Path, manifest: Manifest, tiny_root: Path, tmp_path: Path, workers: str
) -> None:
    folder = begun(tmp_path / "preds", manifest, tiny_root, files / "k.safetensors", "k")
    assert predict(files / "k.safetensors", folder, files, tiny_root, "--workers", workers).exit_code == 0
    assert done(folder, "k") == done(predicted[0], "k")


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(
    predicted: tuple[Path, Result], files: Path, tiny_root: Path, tmp_path: Path
) -> None:
    """The checkpoint may have moved meanwhile."""
    folder = tmp_path / "preds"
    shutil.copytree(predicted[0], folder)
    for index in TODO[::3]:
        (folder / "kway" / f"{index:04d}.png").unlink()
    moved = tmp_path / "moved.safetensors"
    shutil.copy(files / "k.safetensors", moved)
    result = predict(moved, folder, files, tiny_root, "--json")
    assert json.loads(result.stdout)["predictions"] == {
        "kway": {"written": len(TODO[::3]), "kept": 750 - len(TODO[::3])}
    }
    assert json.loads(result.stdout)["network"]["checkpoint"] == "moved.safetensors"
    assert done(folder, "k") == done(predicted[0], "k")


@pytest.mark.slow
def test_two_checkpoints_share_a_folder_by_way(
    predicted: tuple[Path, Result], files: Path, manifest: Manifest, tiny_root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "preds"
    shutil.copytree(predicted[0], folder)
    begun(folder, manifest, tiny_root, files / "1.safetensors", "1")
    result = predict(files / "1.safetensors", folder, files, tiny_root)
    assert (result.exit_code, result.stderr) == (0, "")
    card = json.loads((folder / "predictions.json").read_text())
    assert (card["kway"]["checkpoint"], card["1way"]["checkpoint"]) == ("k.safetensors", "1.safetensors")
    assert done(folder, "k") == done(predicted[0], "k")
    source = find_source(manifest.dataset, tiny_root)
    for episode in Episodes(manifest.pairs, source, "1", TODO):
        mask = read_mask(folder / "1way" / f"{episode.name}.png")
        assert mask.shape == episode.query_size and set(np.unique(mask)) <= {0, episode.classes[0]}


def test_another_checkpoint_does_not_go_on(
    predicted: tuple[Path, Result], files: Path, tiny_root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "preds"
    shutil.copytree(predicted[0], folder)
    (folder / "kway" / "0000.png").unlink()
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    for checkpoint, options, why in (
        ("k2.safetensors", (), "(digest is 'sha256:"),
        ("k.safetensors", ("--set", "screening=false"), "(screening is True, not False)"),
    ):
        result = predict(files / checkpoint, folder, files, tiny_root, *options)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert f"{folder / 'predictions.json'}: the k-way predictions come from another network" in result.stderr
        assert why in result.stderr and "choose another folder" in result.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before
    # Nothing is lost where nothing has been predicted.
    shutil.rmtree(folder / "kway")
    writer = find_method(str(files / "k2.safetensors"), Use())
    assert PredictionWriter(folder, load_manifest(files / "tiny_fold1.json"), "eopnet", "k", writer.about).missing()


def test_a_network_does_not_go_on_where_nobody_says_which_it_was(
    files: Path, manifest: Manifest, tiny_root: Path, tmp_path: Path
) -> None:
    """Such as predictions that a person's own script wrote under the same name."""
    folder = tmp_path / "preds"
    (episode,) = Episodes(manifest.pairs, find_source(manifest.dataset, tiny_root), "k", [0])
    PredictionWriter(folder, manifest, "eopnet", "k").write(episode, np.zeros(episode.query_size, np.uint8))
    result = predict(files / "k.safetensors", folder, files, tiny_root)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    card = folder / "predictions.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "kway": ["k.safetensors"]}))
    assert predict(files / "k.safetensors", folder, files, tiny_root).exit_code == 2


@pytest.mark.slow
def test_the_manifest_may_be_left_away_where_it_is_a_shipped_one(files: Path, tmp_path: Path) -> None:
    demo = load_manifest("demo_fold1")
    path = save_drawn(tmp_path / "demo.safetensors", card_of(demo, test_side=32))
    folder = tmp_path / "preds"
    recipe = find_method(str(path), Use())
    assert recipe.manifest == "demo_fold1"
    writer = PredictionWriter(folder, demo, recipe.name, "k", recipe.about)
    (episode,) = Episodes(demo.pairs, find_source(demo.dataset, None), "k", [0])
    writer.write(episode, np.zeros(episode.query_size, np.uint8))
    for index in range(1, len(demo.pairs) - 2):
        (writer.folder / f"{index:04d}.png").touch()
    result = CliRunner().invoke(main, [str(path), "-o", str(folder)])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == f"Score them: oshp-score {folder} --manifest demo_fold1"
    # Not where the shipped one of that name has other pairs, and not where there is none.
    other = save_drawn(
        tmp_path / "other.safetensors",
        replace(card_of(demo), manifest=replace(TrainedOn.of(demo), test_digest="sha256:another")),
    )
    for checkpoint in (other, files / "k.safetensors", "background"):
        result = CliRunner().invoke(main, [str(checkpoint), "-o", str(tmp_path / "none")])
        assert (result.exit_code, result.stderr) == (
            2,
            f"error: {checkpoint} belongs to no shipped manifest; give --manifest\n",
        )


def test_other_classes_another_fold_and_another_way_are_refused(
    files: Path, tiny_spec: Spec, tiny_root: Path, tmp_path: Path
) -> None:
    second = manifest_of(tiny_spec, tiny_root, fold=2)
    content: dict[str, Any] = {**TINY, "name": "other"}
    content["classes"] = {**content["classes"], "hat": {"id": 9, "labels": ["hat"]}}
    other = manifest_of(parse_spec(content, "other.toml"), tiny_root)
    for checkpoint, options, why in (
        (save_drawn(tmp_path / "second.safetensors", card_of(second)), (), "learned dress, bag in training, novel in"),
        (save_drawn(tmp_path / "other.safetensors", card_of(other)), (), "trained for other classes than those of"),
        (files / "k.safetensors", ("--way", "1"), "parses k-way only; remove --way 1"),
        (files / "1.safetensors", ("--way", "k"), "parses 1-way only; remove --way k"),
    ):
        result = predict(checkpoint, tmp_path / "preds", files, tiny_root, *options)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert why in result.stderr
    assert not (tmp_path / "preds").exists()


def test_missing_photos_are_told_before_anything_is_computed(
    files: Path, tiny_root: Path, manifest: Manifest, tmp_path: Path
) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(tiny_root, root)
    photos = [root / "photos" / f"{name}.jpg" for name in (manifest.pairs.query[-1], manifest.pairs.support[-1])]
    for photo in photos:
        photo.unlink()
    result = predict(files / "k.safetensors", tmp_path / "preds", files, root)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sorted(result.stderr.splitlines()) == sorted(f"error: {photo}: does not exist" for photo in photos)
    assert not (tmp_path / "preds").exists()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_photo_that_turns_out_damaged_stops_the_run_at_its_pair(
    files: Path, tiny_root: Path, manifest: Manifest, tmp_path: Path, workers: str
) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(tiny_root, root)
    folder = begun(tmp_path / "preds", manifest, tiny_root, files / "k.safetensors", "k")
    # Episodes come query by query, in the order of the list.
    first = {query: number for number, query in reversed([*enumerate(manifest.pairs.query)])}
    order = sorted(TODO, key=lambda index: (first[manifest.pairs.query[index]], index))
    seen = [manifest.pairs.support[index] for index in order]
    place = next(i for i in range(5, len(order)) if seen[i] not in seen[:i])
    photo = root / "photos" / f"{seen[place]}.jpg"
    content = photo.read_bytes()
    photo.write_bytes(content[: len(content) // 2] + content[-2:])
    result = predict(files / "k.safetensors", folder, files, root, "--workers", workers)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith(f"error: {photo}: a JPEG that is truncated or damaged")
    assert set(done(folder, "k")) == set(order[:place])


@pytest.mark.slow
def test_a_method_that_needs_no_training_goes_by_its_name_in_both_ways(
    files: Path, manifest: Manifest, tiny_root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "preds"
    for way in WAYS:
        begun(folder, manifest, tiny_root, "prototype-matching", way)
    result = predict("prototype-matching", folder, files, tiny_root)
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split(" (")[0] for line in result.stdout.splitlines()[:2]] == [
        f"{folder}/{way}way: 750 {way}-way predictions of prototype-matching" for way in WAYS
    ]
    assert result.stdout.splitlines()[2].startswith("no checkpoint; efficientnet-lite0, ")
    card = json.loads((folder / "predictions.json").read_text())
    assert card["kway"] == card["1way"]
    assert (card["kway"]["checkpoint"], card["kway"]["digest"]) == (None, None)
    source = find_source(manifest.dataset, tiny_root)
    for way in WAYS:
        parsed = set()
        for episode in Episodes(manifest.pairs, source, way, TODO):
            mask = read_mask(folder / f"{way}way" / f"{episode.name}.png")
            assert mask.shape == episode.query_size and set(np.unique(mask)) <= {0, *episode.classes}
            parsed.update(np.unique(mask).tolist())
        assert parsed == set(manifest.class_ids)
    # What has no pretrained weights is drawn alike, whatever was drawn before.
    first, second = (untrained("prototype-matching").network.state_dict() for _ in range(2))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize("checkpoint", ["none.safetensors", "none.pth", "folder", "eopnet", "eopnet-9"])
def test_what_is_no_checkpoint_is_one_line(files: Path, tiny_root: Path, tmp_path: Path, checkpoint: str) -> None:
    (tmp_path / "folder").mkdir()
    named = checkpoint if checkpoint.startswith("eopnet") else tmp_path / checkpoint
    result = predict(named, tmp_path / "preds", files, tiny_root)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith(f"error: {named}")
    if checkpoint == "eopnet-9":
        assert f"no such method and no checkpoint; known: {', '.join(METHODS)}" in result.stderr


def command(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", f"{code}\nfrom oshp_bench.baselines.cli import main\nmain()", *map(str, arguments)]


@pytest.mark.parametrize("missing", ["torch", "safetensors"])
def test_without_torch_it_says_what_to_install(files: Path, tmp_path: Path, missing: str) -> None:
    code = f"import sys\nsys.modules[{missing!r}] = None"
    path = files / "k.safetensors"
    ran = subprocess.run(command(code, path, "-o", tmp_path / "preds"), capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == f"error: {path} needs {missing}: run pip install '.[train]' in a clone of oshp-bench\n"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_leaves_whole_files(
    predicted: tuple[Path, Result], files: Path, manifest: Manifest, tiny_root: Path, tmp_path: Path
) -> None:
    """While threads read ahead; the next run goes on to the same bytes."""
    folder = begun(tmp_path / "preds", manifest, tiny_root, files / "k.safetensors", "k")
    slow = (
        "import signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from oshp_bench.datasets import images\nplain, files = images.write_mask, []\n"
        "def write_mask(path, *rest):\n"
        "    plain(path, *rest)\n"
        "    files.append(path)\n"
        "    time.sleep(60 if len(files) == 7 else 0)\n"
        "images.write_mask = write_mask"
    )
    arguments = (files / "k.safetensors", "--manifest", files / "tiny_fold1.json", "--root", tiny_root, "-o", folder)
    with subprocess.Popen(command(slow, *arguments), stderr=subprocess.PIPE, text=True) as running:
        while len(done(folder, "k")) < 7:
            assert running.poll() is None
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        _, told = running.communicate()
    assert (running.returncode, told) == (130, "stopped\n")
    assert len(done(folder, "k")) == 7
    assert predict(files / "k.safetensors", folder, files, tiny_root).exit_code == 0
    assert done(folder, "k") == done(predicted[0], "k")
