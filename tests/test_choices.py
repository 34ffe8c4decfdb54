"""benchmarks/choices.py: rows on validation lists are what validation gives, and never see a test pair."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import choices
import pytest
import torch
from network_cases import card_of, save_drawn

from oshp_bench import find_source, load_manifest
from oshp_bench.baselines.checkpoints import load_checkpoint, save_checkpoint
from oshp_bench.baselines.inference import NetworkMethod
from oshp_bench.baselines.settings import as_table
from oshp_bench.episodes.episodes import ImageCache
from oshp_bench.errors import OshpError
from oshp_bench.training.loop import _network
from oshp_bench.training.settings import preset
from oshp_bench.training.validation import validate, validation_pairs

PAIRS = 3


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    card = card_of(load_manifest("demo_fold1"), method="eopnet-fg", test_side=64)
    return save_drawn(tmp_path_factory.mktemp("run") / "best.safetensors", card)


@pytest.mark.slow
def test_rows_are_what_validation_gives(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, changes = tmp_path / "out.json", ["layout=0.2", "mirror=true"]
    rows = [[str(checkpoint)], [str(checkpoint), *changes]]
    choices.main(
        ["--manifest", "demo_fold1", "--other", "demo_fold2", "--pairs", str(PAIRS), "--out", str(out)]
        + [argument for row in rows for argument in ("--row", *row)]
    )
    found = json.loads(out.read_text())
    manifest = load_manifest("demo_fold1")
    source = find_source(manifest.dataset, None)
    for listed in (manifest, load_manifest("demo_fold2")):
        pairs = validation_pairs(listed, PAIRS)
        assert not set(pairs.query) & set(manifest.pairs.query)
        for (_, *changed), row in zip(rows, found[listed.name], strict=True):
            method = NetworkMethod(load_checkpoint(checkpoint, changed).network, 64)
            for way in ("k", "1"):
                alone = validate(method, manifest, pairs, ImageCache(source), way).figures
                assert alone.items() <= row["figures"].items()
                assert any(name.startswith(f"{way}way/") for name in alone)
    base, novel = (found[name][0]["figures"]["kway/novel_miou"] for name in ("demo_fold1", "demo_fold2"))
    assert base is None and novel is not None
    printed = capsys.readouterr().out
    assert "3 validation pairs of demo_fold2, roles of demo_fold1" in printed
    assert "Paired differences to the first, over 3 queries" in printed


def test_a_checkpoint_of_the_other_fold_is_refused(checkpoint: Path) -> None:
    with pytest.raises(OshpError, match="in training, novel in demo_fold2"):
        choices.main(["--manifest", "demo_fold2", "--row", str(checkpoint)])


def test_the_untrained_network_is_the_one_that_training_begins_with(tmp_path: Path) -> None:
    manifest = load_manifest("demo_fold1")
    settings = replace(preset("quick", "panet"), seed=5)
    torch.manual_seed(settings.seed)
    begun = _network(settings, manifest)
    about = {"settings": as_table(settings)}
    assert settings.width is not None
    card = card_of(manifest, method="panet", model=as_table(settings.model), width=settings.width, training=about)
    save_checkpoint(tmp_path / "best.safetensors", card, begun)
    again = choices.before_training(tmp_path / "best.safetensors").network.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in begun.state_dict().items())
    save_checkpoint(tmp_path / "best.safetensors", replace(card, training={"epoch": 3}), begun)
    with pytest.raises(OshpError, match="does not say how it was trained"):
        choices.before_training(tmp_path / "best.safetensors")
