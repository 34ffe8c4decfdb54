"""The authors' checkpoints are recognised and loaded whole, or refused in one line each."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from eopnet_cases import network
from test_backbones import table
from torch import Tensor

from oshp_bench import Episodes, find_source, load_manifest
from oshp_bench.baselines.eopnet.published import load_released, released_way, renamed
from oshp_bench.baselines.use import Use, find_method
from oshp_bench.episodes.episodes import WAYS, Way
from oshp_bench.errors import OshpError

ORIGIN = Path("atr_kwf1.pth")


def checkpoint(test_data: Path, way: Way) -> dict[str, Tensor]:
    """All tensors of a checkpoint, empty of meaning."""
    return {
        name: torch.zeros(shape, dtype=torch.int64 if name.endswith("num_batches_tracked") else torch.float32)
        for name, shape in table(test_data, f"{way}way").items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_checkpoint_is_recognised_and_fills_the_whole_network(test_data: Path, way: Way) -> None:
    state = checkpoint(test_data, way)
    assert released_way(state) == way
    state["npm_class_bg.bias" if way == "k" else "npm_class.bias"] += 3
    state["prototype"][4] = 2.0
    state["s1_semantic.bias"] = torch.tensor([5.0, 6.0])
    net = load_released(state, ORIGIN)
    assert net.ways == (way,) and net.labels.count == 18 and not net.training
    loaded = net.state_dict()
    assert loaded["memory.rows"].sum(1).nonzero().flatten().tolist() == [4]
    # Background comes first in the release's head of one class, second in ours.
    assert loaded["coarse.guidance.head.classify.bias"].tolist() == [6.0, 5.0]
    assert loaded["npm.background.0.bias" if way == "k" else "npm.background.bias"] == 3


@pytest.mark.parametrize("way", WAYS)
def test_every_tensor_of_ours_comes_from_exactly_one_of_theirs(test_data: Path, way: Way) -> None:
    state = checkpoint(test_data, way)
    sources = [name for theirs, tensor in state.items() for name in renamed({theirs: tensor}, way)]
    assert len(sources) == len(set(sources))
    assert set(sources) == set(load_released(state, ORIGIN).state_dict())


def test_lip_and_cihp_have_more_rows(test_data: Path) -> None:
    state = checkpoint(test_data, "k")
    state["prototype"] = torch.zeros(20, 256)
    assert load_released(state, ORIGIN).labels.count == 20


def test_our_own_weights_are_not_taken_for_the_authors() -> None:
    state = network().state_dict()
    assert released_way(state) is None
    with pytest.raises(OshpError, match="not a checkpoint of EOP-Net's authors"):
        load_released(state, ORIGIN)


def test_every_misfit_is_named(test_data: Path) -> None:
    state = checkpoint(test_data, "k")
    del state["s2_trans.bias"]
    state["surplus"] = torch.zeros(1)
    state["xception_features.conv1.weight"] = torch.zeros(32, 4, 3, 3)
    with pytest.raises(OshpError) as caught:
        load_released(state, ORIGIN)
    assert list(caught.value.problems) == [
        "atr_kwf1.pth: lacks the tensor project.bias; it is of another architecture",
        "atr_kwf1.pth: has an unknown tensor backbone.surplus",
        "atr_kwf1.pth: backbone.xception_features.conv1.weight has shape [32, 4, 3, 3], not [32, 3, 3, 3]",
    ]
    del state["prototype"]
    with pytest.raises(OshpError, match="lacks the tensor prototype"):
        load_released(state, ORIGIN)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_oshp_predict_takes_the_authors_file(test_data: Path, tmp_path: Path, way: Way) -> None:
    """On the embedded dataset, whose class ids are ATR's."""
    state = checkpoint(test_data, way)
    torch.manual_seed(0)
    for name, tensor in state.items():
        if tensor.is_floating_point() and name != "prototype":
            state[name] = torch.ones_like(tensor) if name.endswith("running_var") else 0.1 * torch.randn_like(tensor)
    manifest = load_manifest("demo_fold1")
    state["prototype"][list(manifest.ids_of("base"))] = 1.0
    path = tmp_path / f"atr_{way}.pth"
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)
    recipe = find_method(str(path), Use())
    assert (recipe.name, recipe.ways) == ("eopnet", (way,))
    about = {name: value for name, value in (recipe.about or {}).items() if name != "digest"}
    parameters = sum(each.numel() for each in load_released(state, ORIGIN).parameters())
    assert about == {
        "checkpoint": path.name,
        "epoch": None,
        "trained_on": None,
        "backbone": "xception65",
        "parameters": parameters,
        "head": "NPM",
        "screening": True,
        "photo_side": None,
    }
    unscreened = find_method(str(path), Use(changes=("screening=false",))).about or {}
    assert {name: unscreened[name] for name in ("screening", "changed")} == {
        "screening": False,
        "changed": {"screening": False},
    }
    recipe.check(manifest)
    with pytest.raises(OshpError, match="novel in demo_fold2"):
        recipe.check(load_manifest("demo_fold2"))
    source = find_source(manifest.dataset, None)
    (episode,) = Episodes(manifest.pairs, source, way, [0])
    mask = recipe.build(manifest, source)(episode)
    assert mask.shape == episode.query_size and {*mask.flatten().tolist()} <= {0, *episode.classes}
