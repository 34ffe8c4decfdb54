"""PerSAM from oshp-train to oshp-score, with random weights, and what it refuses on the way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tiny import manifest_of

from oshp_bench import Episodes, Manifest, PredictionWriter, find_source
from oshp_bench.baselines import cli as predict
from oshp_bench.baselines.use import Use, find_method
from oshp_bench.datasets.labels import Spec
from oshp_bench.manifest import save_manifest
from oshp_bench.report import cli as score
from oshp_bench.training import cli as train

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def manifest(tiny_spec: Spec, tiny_root: Path) -> Manifest:
    return manifest_of(tiny_spec, tiny_root)


@pytest.fixture(scope="module")
def run(manifest: Manifest, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the manifest, and with a checkpoint of a tiny SAM with random weights."""
    folder = tmp_path_factory.mktemp("persam")
    save_manifest(manifest, folder / "tiny.json")
    options = ("--set=backbone=sam-tiny", "--set=pretrained=false", "--preset=paper", "--device=cpu")
    done = trained(folder, tiny_root, *options)
    assert done.exit_code == 0, done.output
    return folder


def trained(folder: Path, root: Path, *options: str, out: str = "run") -> Result:
    given = ("--method", "persam", "--manifest", str(folder / "tiny.json"), "--root", str(root))
    return CliRunner().invoke(train.main, [*given, "-o", str(folder / out), *options])


def predicted(folder: Path, root: Path, *options: str) -> Result:
    given = (str(folder / "run" / "last.safetensors"), "--manifest", str(folder / "tiny.json"), "--root", str(root))
    return CliRunner().invoke(predict.main, [*given, "-o", str(folder / "preds"), "--device=cpu", *options])


@pytest.mark.slow
def test_pairs_are_predicted_and_scored(run: Path, manifest: Manifest, tiny_root: Path) -> None:
    """25 of the 750 pairs; the others are done already, as background."""
    checkpoint = find_method(str(run / "run" / "last.safetensors"), Use("cpu"))
    writer = PredictionWriter(run / "preds", manifest, checkpoint.name, "1", checkpoint.about)
    others = tuple(index for index in range(750) if index % 30)
    for episode in Episodes(manifest.pairs, find_source(manifest.dataset, tiny_root), "1", others):
        writer.write(episode, np.zeros(episode.query_size, np.uint8))
    done = predicted(run, tiny_root)
    assert done.exit_code == 0, done.output
    assert "750 1-way predictions of persam (725 of them were there)" in done.stdout
    about = json.loads((run / "preds" / "predictions.json").read_text())
    assert about["method"] == "persam" and "kway" not in about
    assert about["1way"]["backbone"] == "sam-tiny"
    options = ["--manifest", str(run / "tiny.json"), "--root", str(tiny_root)]
    scored = CliRunner().invoke(score.main, [str(run / "preds"), *options])
    assert scored.exit_code == 0, scored.output
    assert "1-way" in scored.stdout


@pytest.mark.slow
def test_a_prediction_depends_on_its_pair_alone(run: Path, manifest: Manifest, tiny_root: Path) -> None:
    """Whatever pairs came before, and at every number of kept photos, PerSAM-F too."""
    source = find_source(manifest.dataset, tiny_root)
    some = range(0, 750, 125)
    for changes in ((), ("fit=true", "steps=3")):
        masks = []
        for order in (some, reversed(some)):
            checkpoint = find_method(str(run / "run" / "last.safetensors"), Use("cpu", changes))
            method = checkpoint.build(manifest, source)
            masks.append(
                {episode.name: method(episode) for episode in Episodes(manifest.pairs, source, "1", tuple(order))}
            )
        first, second = masks
        assert all(np.array_equal(mask, second[name]) for name, mask in first.items())


def test_what_cannot_be_done_is_one_line(run: Path, tiny_root: Path) -> None:
    for done, line in (
        (trained(run, tiny_root, "--way=k", out="other"), "way is k; persam can only be trained 1-way"),
        (predicted(run, tiny_root, "--way=k"), "1-way"),
        (trained(run, tiny_root, "--preset=paper", out="other"), "sam-vit-h needs a file of pretrained weights"),
        (trained(run, tiny_root, "--set=backbone=efficientnet-lite0", out="other"), "persam parses with SAM only"),
        (
            CliRunner().invoke(predict.main, ["persam", "--manifest", "demo_fold1", "-o", str(run / "other")]),
            "SAM only",
        ),
    ):
        assert (done.exit_code, done.stdout) == (2, ""), done.output
        assert done.stderr.startswith("error: ") and line in done.stderr and done.stderr.count("\n") == 1, done.stderr
