"""eopnet-fg: each of its four changes does what it says and nothing else."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from eopnet_cases import LABELS, MIDDLE, SIZE, Strided, batch, blocks, network, steps, support
from torch import Tensor

from oshp_bench.baselines.contract import Batch
from oshp_bench.baselines.eopnet.foreground import EOPNetFG, _box, _laid_out
from oshp_bench.baselines.eopnet.settings import EOPNetFGSettings, Parts
from oshp_bench.baselines.settings import changed_at_test
from oshp_bench.episodes.episodes import Way
from oshp_bench.errors import OshpError

OFF = EOPNetFGSettings(ignore=False, gate=False, rivals=False, layout=0.0)


def gated(way: Way = "k", **changes: Any) -> EOPNetFG:
    """An eopnet-fg with the weights that `network` has."""
    torch.manual_seed(1)
    return EOPNetFG(Strided(), LABELS, way, replace(OFF, **changes))


def unnamed() -> Batch:
    """Episodes whose queries have human pixels of no base class: class 7 is taken out of the fine masks alone."""
    whole = batch()
    return replace(whole, query_masks=torch.where(whole.query_masks == 7, 0, whole.query_masks))


def parsed(net: EOPNetFG, human: Tensor, classes: tuple[int, ...]) -> Tensor:
    """The labels of the first query of `batch`, where the coarse space sees this human, bool [SIZE, SIZE]."""
    net.eval()
    one = batch()
    with torch.no_grad():
        query, task = net.encode(one.query_images[:1]), net.adapt(support(net, one, classes))
        assert task.coarse is not None
        query.human = task.coarse.vectors, human
        return torch.tensor([0, *classes])[net.parse(query, task, (SIZE, SIZE)).argmax(0)]


HUMAN = blocks(0, 1, 1, 0) == 1


def test_with_all_changes_off_it_is_eopnet() -> None:
    net, plain = gated(), network()
    theirs, ours = plain(unnamed(), MIDDLE), net(unnamed(), MIDDLE)
    assert {name: value.item() for name, value in ours.items()} == {
        name: value.item() for name, value in theirs.items()
    }


def test_ignore_leaves_out_humans_without_a_base_class_and_changes_the_fine_losses_alone() -> None:
    net, plain, episodes = gated(ignore=True), gated(), unnamed()
    masks = episodes.support_masks[:, 0, ::4, ::4]
    task = net.prototypes(net.encode(episodes.support_images[:, 0]), masks, masks, torch.tensor([[1, 2], [1, 2]]), 0)
    truth = net.truth(episodes.query_masks, episodes.query_coarse, task)
    lost = (episodes.query_masks == 0) & (episodes.query_coarse == 1)
    assert lost.any()
    assert (truth[lost] == 255).all()
    torch.testing.assert_close(
        truth[~lost], plain.truth(episodes.query_masks, episodes.query_coarse, task)[~lost], rtol=0, atol=0
    )
    ours, theirs = gated(ignore=True)(episodes, MIDDLE), gated()(episodes, MIDDLE)
    assert {name for name in ours if ours[name].item() != theirs[name].item()} == {"agm", "npm"}


@pytest.mark.parametrize("way", ["k", "1"])
def test_the_gate_gives_background_to_the_coarse_space_alone(way: Way) -> None:
    labels = parsed(gated(way, gate=True), HUMAN, (1, 2, 7) if way == "k" else (2,))
    assert torch.equal(labels > 0, HUMAN)


def test_what_a_rival_wins_is_background() -> None:
    net = gated(gate=True, rivals=True)
    steps(net)
    assert net.learned_classes() == {1, 2, 3, 7}
    everything = parsed(net, HUMAN, (1, 2, 3, 7))
    asked = parsed(net, HUMAN, (1, 2))
    # All four take part either way; classes 3 and 7 are background when nobody asks for them.
    torch.testing.assert_close(asked, torch.where(everything > 2, 0, everything))
    assert (everything > 2).any()


def test_layout_alone_can_decide() -> None:
    # With a weight that drowns every cosine, the person gets the support's stripes 2, 1, 7 over its own box.
    labels = parsed(gated(gate=True, layout=1e3), HUMAN, (1, 2, 7))
    row = labels[SIZE // 2]
    assert [row[SIZE // 4].item(), row[SIZE // 2].item(), row[3 * SIZE // 4 - 1].item()] == [2, 1, 7]


@pytest.mark.parametrize(("name", "value"), [("gate", False), ("rivals", False), ("layout", 0.0)])
def test_what_may_change_after_training_changes_parsing_alone(name: str, value: Any) -> None:
    whole = replace(EOPNetFGSettings(), ignore=True)
    net, other = gated(**vars(whole)), gated(**vars(replace(whole, **{name: value})))
    for each in (net, other):
        steps(each)
    state = other.state_dict()
    assert all(torch.equal(tensor, state.pop(key)) for key, tensor in net.state_dict().items()) and not state
    assert not torch.equal(parsed(net, HUMAN, (1, 2)), parsed(other, HUMAN, (1, 2)))
    assert changed_at_test(whole, [f"{name}={json.dumps(value)}"], "eopnet-fg") == replace(whole, **{name: value})


def test_everything_else_was_trained_with() -> None:
    """A setting that is added has to be put on one side or the other."""
    free = {each.name for each in fields(EOPNetFGSettings) if each.metadata}
    trained = {each.name for each in fields(EOPNetFGSettings)} - free
    assert free == {"screening", "gate", "rivals", "layout"}
    for name in trained:
        with pytest.raises(OshpError, match=f"'{name}' is no setting of eopnet-fg that may change"):
            changed_at_test(EOPNetFGSettings(), [f"{name}=1"], "eopnet-fg")


def test_layout_by_hand() -> None:
    human = torch.zeros(6, 8, dtype=torch.bool)
    human[1:5, 2:6] = True
    assert _box(human) == (slice(1, 5), slice(2, 6))
    assert _box(torch.zeros(6, 8, dtype=torch.bool)) == (slice(0, 6), slice(0, 8))
    # Four rows high, so nothing is blurred: 4 // 8 | 1 = 1. The left half of the support is the left half of the box.
    layout = torch.tensor([[[[1.0, 0.0]]]])
    laid = _laid_out(layout, human)[0, 0]
    assert laid[1:5, 2].tolist() == [1.0] * 4
    assert laid[1:5, 5].tolist() == [0.0] * 4
    assert laid[~human].sum() == 0


def test_what_the_gate_needs_is_checked() -> None:
    with pytest.raises(OshpError, match="leave parts"):
        gated(parts=Parts(coarse=False))
    with pytest.raises(OshpError, match="leave reading at paper"):
        gated(reading="release")


def test_what_it_cannot_do_without_is_refused_before_anything_is_built() -> None:
    with pytest.raises(OshpError) as raised:
        EOPNetFGSettings(reading="release", parts=Parts(coarse=False))
    assert raised.value.problems == (
        "eopnet-fg asks the coarse space where a human is; leave parts.coarse on, or train eopnet",
        "eopnet-fg has no release to follow; leave reading at paper",
    )
