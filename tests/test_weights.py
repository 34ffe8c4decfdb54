"""Weights that come with the package: found by name, written in float16 with a card; networks of all classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from network_cases import card_of, save_drawn
from PIL import Image
from safetensors.torch import load_file

from oshp_bench import Manifest, OshpError, load_manifest
from oshp_bench.baselines import shipped
from oshp_bench.baselines.card import TrainedOn
from oshp_bench.baselines.checkpoints import load_checkpoint, save_checkpoint
from oshp_bench.baselines.cli import main as predict
from oshp_bench.baselines.use import Use, open_network
from oshp_bench.metrics import Accumulator, Resampling, score_matrices
from oshp_bench.metrics.result_file import save_result
from oshp_bench.parse.cli import main as parse
from oshp_bench.training.export import main as export


@pytest.fixture
def box(manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with the weights of two folds and of all classes, by a method whose name begins like another's."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setattr(shipped, "_FOLDER", folder)
    for name in ("eopnet-fg-tiny_fold1", "eopnet-fg-tiny_fold2", "eopnet-tiny_fold1"):
        method = name.rpartition("-")[0]
        save_drawn(folder / f"{name}.safetensors", card_of(manifest, method=method, model={}))
    return folder


def test_weights_are_found_by_name_and_by_method_and_manifest(box: Path) -> None:
    assert (
        shipped.shipped_checkpoint("eopnet-fg", "some/folder/tiny_fold2.json")
        == box / "eopnet-fg-tiny_fold2.safetensors"
    )
    assert shipped.shipped_checkpoint("eopnet-fg-tiny_fold1") == box / "eopnet-fg-tiny_fold1.safetensors"
    # The only one of its name; that of eopnet-fg begins alike.
    assert shipped.shipped_checkpoint("eopnet") == box / "eopnet-tiny_fold1.safetensors"
    assert shipped.shipped_checkpoint("eopnet", "tiny_fold2") is None
    assert open_network("eopnet-fg", Use(device="cpu"), "tiny_fold1").file == "eopnet-fg-tiny_fold1.safetensors"
    with pytest.raises(OshpError, match="eopnet-fg comes with weights for tiny_fold1 and tiny_fold2; give --manifest"):
        shipped.shipped_checkpoint("eopnet-fg")
    with pytest.raises(
        OshpError, match=r"then give its checkpoint here; the package has its weights for tiny_fold1 alone$"
    ):
        open_network("eopnet", Use(), "ccp_fold1")


def test_without_weights_the_error_says_what_to_do(box: Path) -> None:
    for path in box.iterdir():
        path.unlink()
    result = CliRunner().invoke(predict, ["eopnet-fg", "--manifest", "demo_fold1", "-o", str(box / "out")])
    assert (result.exit_code, result.stdout) == (2, "")
    advice = "oshp-train --method eopnet-fg --manifest ..., then give its checkpoint here"
    assert result.stderr == f"error: eopnet-fg has to be trained: {advice}\n"


def exported(checkpoint: Path, out: Path, *options: str) -> Result:
    return CliRunner().invoke(export, [str(checkpoint), "-o", str(out), "--licence", "CC0", *options])


def test_export_writes_float16_with_licence_and_figures(manifest: Manifest, tmp_path: Path) -> None:
    whole = save_drawn(tmp_path / "best.safetensors", card_of(manifest, method="eopnet-fg", model={"layout": 0.5}))
    accumulator = Accumulator(manifest, manifest.pairs)
    nothing = np.zeros((2, 2), np.uint8)
    for index in range(len(manifest.pairs)):
        accumulator.add("k", index, nothing, nothing)
    result = score_matrices(manifest, accumulator.matrices(), resampling=Resampling(0))
    save_result(result, tmp_path / "result.json", {})
    out = tmp_path / "half.safetensors"
    told = exported(whole, out, "--result", str(tmp_path / "result.json"))
    assert (told.exit_code, told.stderr) == (0, "")
    assert told.stdout == f"{out}: {out.stat().st_size / 2**20:.2f} MiB, trained on tiny_fold1\n"
    before, after = load_file(whole), load_file(out)
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        assert tensor.dtype == (torch.float16 if before[name].is_floating_point() else before[name].dtype)
        assert torch.equal(tensor, before[name].to(tensor.dtype))
    loaded = load_checkpoint(out)
    assert loaded.card.training == {
        "epoch": 3,
        "data_licence": "CC0",
        # Everything is background and called so.
        "figures": {"tiny_fold1": {"kway/human_miou": 1.0, "kway/overall_accuracy": 1.0}},
        "weights": "float16",
    }
    assert (loaded.card.model["layout"], loaded.card.manifest) == (0.5, TrainedOn.of(manifest))
    assert all(tensor.dtype != torch.float16 for tensor in loaded.network.state_dict().values())
    content = out.read_bytes()
    assert exported(whole, out, "--result", str(tmp_path / "result.json")).exit_code == 0
    assert out.read_bytes() == content


def test_numbers_too_large_for_float16_are_refused(manifest: Manifest, tmp_path: Path) -> None:
    loaded = load_checkpoint(save_drawn(tmp_path / "best.safetensors", card_of(manifest)))
    with torch.no_grad():
        next(loaded.network.parameters())[0] = 1e5
    with pytest.raises(OshpError, match=r"backbone\..* hold numbers that float16 cannot; keep the weights in float32"):
        save_checkpoint(tmp_path / "half.safetensors", loaded.card, loaded.network, half=True)
    assert not (tmp_path / "half.safetensors").exists()


def test_a_network_of_all_classes_belongs_to_no_fold(manifest: Manifest, tmp_path: Path) -> None:
    whole = manifest.all_base()
    assert whole.name == f"{manifest.dataset.name}_all"
    assert whole.ids_of("base") == tuple(sorted((*manifest.ids_of("base"), *manifest.ids_of("novel"))))
    assert (whole.training_classes == manifest.dataset.merge).all()
    checkpoint = load_checkpoint(save_drawn(tmp_path / "all.safetensors", card_of(whole)))
    with pytest.raises(OshpError, match=r"learned dress, bag in training, novel in tiny_fold1"):
        checkpoint.check(manifest)


def test_parsing_takes_the_weights_of_the_package(box: Path, manifest: Manifest, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "s.png")
    Image.fromarray(noise[::-1]).save(tmp_path / "q.png")
    mask = np.zeros((40, 30), np.uint8)
    mask[5:20, 5:25] = 5
    Image.fromarray(mask).save(tmp_path / "m.png")
    given = ["--support", "s.png", "--mask", "m.png", "-o", "out", "q.png", "--json"]
    arguments = [str(tmp_path / each) if each.endswith("png") or each == "out" else each for each in given]
    assert json.loads(CliRunner().invoke(parse, arguments).stdout)["network"]["checkpoint"] is None
    card = card_of(manifest.all_base(), method="eopnet-fg", model={}, test_side=64)
    save_drawn(box / f"{shipped.FOR_PHOTOS}.safetensors", card)
    told = json.loads(CliRunner().invoke(parse, arguments).stdout)
    assert told["network"]["checkpoint"] == "eopnet-fg-ccp_all.safetensors"
    # Five is its dress, but here it may be anything that nobody has named.
    assert told["classes"] == [{"number": 5, "name": "class 5", "learned": False}]
    told = json.loads(CliRunner().invoke(parse, [*arguments, "--names", "5=dress"]).stdout)
    assert told["classes"] == [{"number": 5, "name": "dress", "learned": True}]


def test_what_the_package_carries_loads_and_says_where_it_is_from() -> None:
    """All of them are small enough for the package."""
    files = shipped.shipped_checkpoints()
    assert sum(path.stat().st_size for path in files.values()) <= 8 << 20
    for name, path in files.items():
        card = load_checkpoint(path).card
        assert card.manifest is not None and card.training is not None
        assert name == f"{card.method}-{card.manifest.name}"
        assert card.training["data_licence"] and card.training["weights"] == "float16"
        if not card.manifest.name.endswith("_all"):
            assert card.manifest.test_digest == load_manifest(card.manifest.name).test_digest
