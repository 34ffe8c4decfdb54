"""Checkpoints: what is saved is loaded; what is damaged, hostile or for other classes is refused in lines."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from network_cases import WIDTH, card_of, refusals, save_drawn
from safetensors.torch import load_file, save_file
from tiny import manifest_of

from oshp_bench.baselines.card import Card, TrainedOn
from oshp_bench.baselines.checkpoints import Checkpoint, load_checkpoint, save_checkpoint, untrained
from oshp_bench.baselines.eopnet.settings import EOPNetFGSettings, EOPNetSettings, Parts
from oshp_bench.baselines.use import Use, open_network
from oshp_bench.datasets.labels import Spec, parse_spec
from oshp_bench.errors import OshpError
from oshp_bench.manifest import Manifest, load_manifest


@pytest.fixture(scope="module")
def checkpoint(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_drawn(tmp_path_factory.mktemp("checkpoint") / "best.safetensors", card_of(manifest))


def test_what_is_saved_is_loaded(checkpoint: Path, manifest: Manifest, tmp_path: Path) -> None:
    loaded = load_checkpoint(checkpoint)
    assert loaded.card == card_of(manifest)
    assert not loaded.network.training
    assert loaded.learned == set(manifest.ids_of("base"))
    assert (loaded.file, loaded.digest) == (
        "best.safetensors",
        f"sha256:{hashlib.sha256(checkpoint.read_bytes()).hexdigest()}",
    )
    save_checkpoint(tmp_path / "again.safetensors", loaded.card, loaded.network)
    assert (tmp_path / "again.safetensors").read_bytes() == checkpoint.read_bytes()
    weights = load_file(checkpoint)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in loaded.network.state_dict().items())
    assert loaded.about() == {
        "checkpoint": "best.safetensors",
        "digest": loaded.digest,
        "epoch": 3,
        "trained_on": "tiny_fold1 1.0.0",
        "backbone": "efficientnet-lite0",
        "parameters": sum(each.numel() for each in loaded.network.parameters()),
        "head": "NPM",
        "screening": True,
        "photo_side": None,
    }


@pytest.mark.parametrize("share", [0.0, 1e-5, 0.001, 0.02, 0.5, 0.999])
def test_a_file_that_is_cut_off(checkpoint: Path, tmp_path: Path, share: float) -> None:
    whole = checkpoint.read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(whole[: int(share * len(whole))])
    assert len(refusals(path)) == 1


@pytest.mark.parametrize("length", [2**63, 2**63 - 1, 2**40, 100_000_000, 9 << 20, 0])
def test_a_header_of_a_made_up_length(checkpoint: Path, tmp_path: Path, length: int) -> None:
    path = tmp_path / "long.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + checkpoint.read_bytes()[8:])
    assert len(refusals(path)) == 1
    with path.open("r+b") as file:
        file.truncate(16 << 20)
    assert len(refusals(path)) == 1


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_to_the_header_is_refused_or_harmless(checkpoint: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(checkpoint.read_bytes())
    end = 8 + int.from_bytes(content[:8], "little")
    for place in data.draw(st.lists(st.integers(0, end - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content)
    try:
        load_checkpoint(path)
    except OshpError as error:
        assert all("\n" not in each for each in error.problems)


def with_metadata(checkpoint: Path, path: Path, metadata: dict[str, str] | None) -> Path:
    save_file(load_file(checkpoint), path, metadata)
    return path


def changed_card(checkpoint: Path, path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The same weights under a card with changes."""
    head = checkpoint.read_bytes()
    header = json.loads(head[8 : 8 + int.from_bytes(head[:8], "little")])
    card = json.loads(header["__metadata__"]["oshp"])
    change(card)
    return with_metadata(checkpoint, path, {"oshp": json.dumps(card)})


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        (None, "says nothing of how it was trained"),
        ({"format": "pt"}, "says nothing of how it was trained"),
        ({"oshp": ""}, "not valid JSON"),
        ({"oshp": "[" * 200_000}, "nested too deeply"),
        ({"oshp": '{"a":' * 60 + "1" + "}" * 60}, "nested too deeply"),
        ({"oshp": '{"format": 1, "format": 2}'}, "stands there twice"),
        ({"oshp": '{"count": NaN}'}, "NaN is not a JSON number"),
        ({"oshp": "[]"}, "no checkpoint"),
        ({"oshp": '{"format": "oshp-checkpoint/9"}'}, 'its "format" is not "oshp-checkpoint/1"'),
        ({"oshp": '{"way": "' + "k" * (9 << 20) + '"}'}, "cut off, or no safetensors file"),
    ],
)
def test_metadata_that_are_no_card(checkpoint: Path, tmp_path: Path, metadata: dict[str, str] | None, why: str) -> None:
    (line,) = refusals(with_metadata(checkpoint, tmp_path / "other.safetensors", metadata))
    assert why in line


def test_everything_that_is_wrong_in_a_card_is_told(checkpoint: Path, tmp_path: Path) -> None:
    def spoil(card: dict[str, Any]) -> None:
        card.update(way="both", width=10**6, count=1, model=[], test_side="320", training=7)
        card["manifest"]["classes"][1]["role"] = "king"
        del card["manifest"]["digest"], card["method"]

    lines = refusals(changed_card(checkpoint, tmp_path / "spoilt.safetensors", spoil))
    for part in (
        "way 'both' is neither k nor 1",
        "width is 1000000, not a number from 1 to 1024",
        "count is 1, not a number from 2 to 255",
        "model is [], not a table",
        "test_side is '320', not a whole number",
        "training is 7, not a table",
        "manifest.classes 2: role 'king' is none of background, base, novel",
        "manifest: digest is missing",
        "method is missing",
    ):
        assert sum(part in line for line in lines) == 1, (part, lines)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda card: card.update(method="popnet-9"), "popnet-9: no such method with a network"),
        (lambda card: card.update(backbone="vit"), "vit: no such backbone"),
        (lambda card: card.update(backbone="xception65"), "has 256 channels, not 8"),
        (lambda card: card["model"].update(alhpa=0.5), "the checkpoint's model: no setting is called 'alhpa'"),
        (lambda card: card["model"].update(reading=3), "the checkpoint's model: reading is 3"),
    ],
)
def test_a_card_of_what_there_is_not(
    checkpoint: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], why: str
) -> None:
    (line,) = refusals(changed_card(checkpoint, tmp_path / "other.safetensors", change))
    assert why in line


def test_weights_of_another_architecture(checkpoint: Path, tmp_path: Path) -> None:
    wider = changed_card(checkpoint, tmp_path / "wider.safetensors", lambda card: card.update(width=2 * WIDTH))
    lines = refusals(wider)
    assert len(lines) == 6 and lines[-1].startswith("... and ")
    assert all("has shape" in each for each in lines[:-1])
    more = changed_card(checkpoint, tmp_path / "more.safetensors", lambda card: card.update(count=9))
    assert refusals(more) == (f"{more}: memory.rows has shape [8, {WIDTH}], not [9, {WIDTH}]",)
    without = changed_card(
        checkpoint, tmp_path / "no-coarse.safetensors", lambda card: card["model"]["parts"].update(coarse=False)
    )
    assert all("unknown tensor coarse." in each for each in refusals(without)[:-1])


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda tensor: tensor * torch.nan, "project.weight hold NaN or infinite numbers"),
        (lambda tensor: tensor + torch.inf, "project.weight hold NaN or infinite numbers"),
        (lambda tensor: tensor.to(torch.int32), "project.weight holds torch.int32, not torch.float32"),
        (lambda tensor: tensor.to(torch.complex64), "project.weight holds torch.complex64, not torch.float32"),
    ],
)
def test_weights_that_are_no_numbers(
    checkpoint: Path, tmp_path: Path, spoil: Callable[[torch.Tensor], torch.Tensor], why: str
) -> None:
    head = checkpoint.read_bytes()
    header = json.loads(head[8 : 8 + int.from_bytes(head[:8], "little")])
    weights = load_file(checkpoint)
    weights["project.weight"] = spoil(weights["project.weight"])
    path = tmp_path / "spoilt.safetensors"
    save_file(weights, path, header["__metadata__"])
    (line,) = refusals(path)
    assert why in line


@pytest.mark.skipif(os.name != "posix", reason="special files of POSIX")
def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    for path in (tmp_path, tmp_path / "pipe.pth", Path("/dev/zero")):
        assert "no file; give a checkpoint" in refusals(path)[0]
    assert "cannot be read (No such file or directory)" in refusals(tmp_path / "none.safetensors")[0]
    large = tmp_path / "large.pth"
    with large.open("wb") as file:
        file.truncate((4 << 30) + 1)
    assert "larger than 4 GiB" in refusals(large)[0]


def without_weights(card: Card, learned: frozenset[int]) -> Checkpoint:
    return Checkpoint(card, torch.nn.Identity(), "best.safetensors", "sha256:0", learned)  # type: ignore[arg-type]


def test_it_fits_manifests_of_its_own_classes_alone(tiny_spec: Spec, tiny_root: Path, manifest: Manifest) -> None:
    """Fold 1 holds out dress (5) and bag (7), fold 2 the hat (1)."""
    mine = without_weights(card_of(manifest), frozenset(manifest.ids_of("base")))
    mine.check(manifest)
    mine.check(replace(manifest, name="tiny_fold1_balanced", version="2.0.0", pairs=manifest.pairs))
    second = manifest_of(tiny_spec, tiny_root, fold=2)
    with pytest.raises(OshpError, match="learned hat in training, novel in tiny_fold2: its figures would not be of"):
        mine.check(second)
    theirs = without_weights(card_of(second), frozenset(second.ids_of("base")))
    with pytest.raises(OshpError, match="learned dress, bag in training, novel in tiny_fold1"):
        theirs.check(manifest)
    fewer = without_weights(
        card_of(
            replace(manifest, classes=tuple(replace(c, role="novel") if c.id == 2 else c for c in manifest.classes))
        ),
        frozenset({1, 3}),
    )
    with pytest.raises(OshpError, match="never learned hair, base in tiny_fold1"):
        fewer.check(manifest)


def test_a_manifest_whose_test_images_were_training_images_is_refused(manifest: Manifest) -> None:
    base = frozenset(manifest.ids_of("base"))
    mine = without_weights(card_of(manifest), base)
    moved = next(iter(manifest.pools["query_train"]))
    pools = {pool: dict(images) for pool, images in manifest.pools.items()}
    pools["support_test"][moved] = pools["query_train"].pop(moved)
    other = replace(manifest, name="other_fold1", pools=pools)
    with pytest.raises(OshpError, match=f"1 test images of other_fold1 were training images: {moved}; take a checkp"):
        mine.check(other)
    without_weights(card_of(other), base).check(other)
    # Image ids of another dataset are other images.
    mine.check(replace(other, dataset=replace(other.dataset, name="another")))


def test_training_images_of_older_checkpoints_are_known_from_a_shipped_manifest() -> None:
    manifest = load_manifest("demo_fold1")
    base = frozenset(manifest.ids_of("base"))
    swapped = {
        **manifest.pools,
        "query_test": manifest.pools["query_train"],
        "query_train": manifest.pools["query_test"],
    }
    other = replace(manifest, pools=swapped)
    old = replace(TrainedOn.of(manifest), images=(), dataset="")
    card = replace(card_of(manifest), manifest=old)
    with pytest.raises(OshpError, match="test images of demo_fold1 were training images"):
        without_weights(card, base).check(other)
    without_weights(card, base).check(manifest)
    without_weights(replace(card, manifest=replace(old, digest="sha256:0")), base).check(other)


def test_other_classes_are_told_by_id_and_name(tiny_root: Path, manifest: Manifest) -> None:
    content: dict[str, Any] = {**TINY, "name": "other"}
    content["classes"] = {
        **{name: each for name, each in TINY["classes"].items() if name != "hat"},  # type: ignore[attr-defined]
        "cap": {"id": 1, "labels": ["hat"]},
    }
    content["folds"] = {"1": ["dress", "bag"]}
    content["official"] = {**TINY["official"], "order": ["cap", "dress", "bag", "shoes", "hair"]}  # type: ignore[dict-item]
    other = manifest_of(parse_spec(content, "other.toml"), tiny_root)
    mine = without_weights(card_of(manifest), frozenset(manifest.ids_of("base")))
    with pytest.raises(OshpError) as caught:
        mine.check(other)
    assert caught.value.problems == (
        "best.safetensors: trained for other classes than those of other_fold1 (one of them alone has 1 cap, 1 hat);"
        " take a checkpoint that was trained on this dataset",
    )


def test_an_authors_checkpoint_is_known_by_what_it_remembers(manifest: Manifest) -> None:
    """It says nothing of its training; a stored prototype of a class that is novel here gives it away."""
    card = replace(card_of(manifest), manifest=None)
    without_weights(card, frozenset({1, 2, 3})).check(manifest)
    without_weights(card, frozenset()).check(manifest)
    with pytest.raises(OshpError, match="learned bag in training, novel in tiny_fold1"):
        without_weights(card, frozenset({1, 2, 3, 7})).check(manifest)
    with pytest.raises(OshpError, match=r"one of them alone has 20 class ids"):
        without_weights(replace(card, count=20), frozenset({1, 2, 3})).check(manifest)


def test_a_method_that_has_to_be_trained_needs_its_checkpoint() -> None:
    with pytest.raises(OshpError, match="eopnet has to be trained: oshp-train --method eopnet"):
        open_network("eopnet", Use())


FULL = """
import resource, signal, sys
from pathlib import Path
from oshp_bench.baselines.use import Use, open_network
from oshp_bench.baselines.checkpoints import load_checkpoint, save_checkpoint
path = Path(sys.argv[1])
loaded = load_checkpoint(path)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_checkpoint(path, loaded.card, loaded.network)
except OSError as error:
    sys.exit(str(error.filename))
"""


@pytest.mark.slow
def test_a_full_disk_leaves_the_checkpoint_that_was_there(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    path.write_bytes(checkpoint.read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert (done.returncode, done.stderr.strip()) == (1, str(path))
    assert [each.name for each in tmp_path.iterdir()] == ["last.safetensors"]
    assert path.read_bytes() == checkpoint.read_bytes()


def test_settings_that_only_matter_at_test_may_be_changed(manifest: Manifest, tmp_path: Path) -> None:
    model = {"layout": 0.5, "alpha": 0.9}
    path = save_drawn(tmp_path / "c.safetensors", card_of(manifest, method="eopnet-fg", model=model))
    plain, other = load_checkpoint(path), load_checkpoint(path, ["layout=0", "rivals=false", "gate=true"])
    own = EOPNetFGSettings(layout=0.5, alpha=0.9)
    assert plain.network.settings == own
    assert other.network.settings == replace(own, layout=0.0, rivals=False)
    assert (plain.changed, other.changed) == ({}, {"layout": 0.0, "rivals": False})
    assert {**plain.about(), "changed": {"layout": 0.0, "rivals": False}} == other.about()
    assert other.card == plain.card and other.card.model == model
    weights = other.network.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in plain.network.state_dict().items())
    # What the checkpoint has anyway is no change.
    assert load_checkpoint(path, ["layout=0.5"]).about() == plain.about()
    ungated = load_checkpoint(path, ["gate=false"])
    assert (plain.about()["head"], ungated.about()["head"]) == ("cosine behind the gate", "NPM")
    with pytest.raises(OshpError, match="'alpha' is no setting of eopnet-fg that may change after training"):
        load_checkpoint(path, ["alpha=0.9"])


def test_settings_that_cannot_change_are_refused(checkpoint: Path) -> None:
    with pytest.raises(OshpError, match=r"^--set: 'alpha' is no setting of eopnet that .*; screening can be set$"):
        load_checkpoint(checkpoint, ["alpha=1"])
    with pytest.raises(OshpError, match=r"^--set: 'alpha' is no setting of prototype-matching .* nothing can be set$"):
        untrained("prototype-matching", ["alpha=1"])


def test_settings_of_the_model_come_back(manifest: Manifest, tmp_path: Path) -> None:
    model = {"alpha": 0.5, "screening": False, "parts": {"agm": False}}
    path = save_drawn(tmp_path / "c.safetensors", card_of(manifest, "1", model=model, test_side=64))
    loaded = load_checkpoint(path)
    assert loaded.card.way == "1" and loaded.network.ways == ("1",)
    assert loaded.network.settings == EOPNetSettings(alpha=0.5, screening=False, parts=Parts(agm=False))
    assert (loaded.about()["screening"], loaded.about()["photo_side"]) == (False, 64)
