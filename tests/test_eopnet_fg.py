"""eopnet-fg at test, and what it leaves out of training; each change does what it says and nothing else."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from eopnet_cases import LABELS, MIDDLE, SIZE, WIDTH, Strided, batch, blocks, network, steps, support
from torch import Tensor

from oshp_bench.baselines.backbones.layers import upsampled
from oshp_bench.baselines.contract import Batch
from oshp_bench.baselines.eopnet.foreground import EOPNetFG, _box, _laid_out, _supported
from oshp_bench.baselines.eopnet.network import SpaceFeatures
from oshp_bench.baselines.eopnet.settings import EOPNetFGSettings, Parts
from oshp_bench.baselines.pieces.prototypes import class_weights, pooled, similarity
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


def scores(net: EOPNetFG, human: Tensor, classes: tuple[int, ...], mirrored: bool = False) -> Tensor:
    """The scores of the first query of `batch`, where the coarse space sees this human, bool [SIZE, SIZE].

    Args:
        mirrored: of its mirror image instead.
    """
    net.eval()
    one = batch()
    photo = one.query_images[:1]
    with torch.no_grad():
        query, task = net.encode(photo.flip(3) if mirrored else photo), net.adapt(support(net, one, classes))
        assert task.coarse is not None
        query.human = task.coarse.vectors, human
        return net.parse(query, task, (SIZE, SIZE))


def parsed(net: EOPNetFG, human: Tensor, classes: tuple[int, ...]) -> Tensor:
    """The labels that `scores` make."""
    return torch.tensor([0, *classes])[scores(net, human, classes).argmax(0)]


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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gate", False),
        ("rivals", False),
        ("layout", 0.0),
        ("mirror", True),
        ("centre", True),
        ("self_support", True),
    ],
)
def test_what_may_change_after_training_changes_parsing_alone(name: str, value: Any) -> None:
    whole = replace(EOPNetFGSettings(), ignore=True)
    net, other = gated(**vars(whole)), gated(**vars(replace(whole, **{name: value})))
    for each in (net, other):
        steps(each)
    state = other.state_dict()
    assert all(torch.equal(tensor, state.pop(key)) for key, tensor in net.state_dict().items()) and not state
    assert not torch.equal(scores(net, HUMAN, (1, 2)), scores(other, HUMAN, (1, 2)))
    assert changed_at_test(whole, [f"{name}={json.dumps(value)}"], "eopnet-fg") == replace(whole, **{name: value})


def test_everything_else_was_trained_with() -> None:
    """A setting that is added has to be put on one side or the other."""
    free = {each.name for each in fields(EOPNetFGSettings) if each.metadata}
    trained = {each.name for each in fields(EOPNetFGSettings)} - free
    assert free == {"screening", "gate", "rivals", "layout", "offset", "mirror", "centre", "self_support"}
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


def test_with_mirror_a_mirrored_query_has_mirrored_scores() -> None:
    net, plain = gated(gate=True, mirror=True), gated(gate=True)
    both, one = HUMAN & HUMAN.flip(1), (1, 2, 7)
    ours, mirrored = scores(net, both, one), scores(net, both, one, mirrored=True)
    torch.testing.assert_close(mirrored.flip(2), ours)
    assert not torch.allclose(scores(plain, both, one, mirrored=True).flip(2), scores(plain, both, one))


def test_mirror_averages_prototypes_cosines_and_coarse_logits() -> None:
    net, plain = gated(gate=True, mirror=True).eval(), gated(gate=True).eval()
    one = batch()
    with torch.no_grad():
        left, right = plain.encode(one.query_images[:1]), plain.encode(one.query_images[:1].flip(3))
        task, seen = net.adapt(support(net, one, (1, 2))), net.encode(one.query_images[:1])
        theirs, back = (
            plain.encode(one.support_images[0]).fine,
            plain.encode(one.support_images[0].flip(3)).fine.flip(3),
        )
        mask = one.support_masks[0, :, ::4, ::4]
        vectors, _ = pooled((theirs + back) / 2, class_weights(mask, torch.tensor([[1, 2]])))
        torch.testing.assert_close(task.fine.vectors, vectors)
        assert right.coarse is not None
        mirrored = SpaceFeatures(right.fine.flip(3), right.coarse.flip(3))
        size = (SIZE, SIZE)
        logits = (plain.coarse_logits(left, task, size) + plain.coarse_logits(mirrored, task, size)) / 2
        torch.testing.assert_close(net.coarse_logits(seen, task, size), logits)
        assert task.coarse is not None
        seen.human = task.coarse.vectors, torch.ones(size, dtype=torch.bool)
        cosines = (similarity(left.fine, vectors) + similarity(mirrored.fine, vectors)) / 2
        torch.testing.assert_close(net.parse(seen, task, size)[1:], upsampled(cosines, size)[0])


def test_centre_subtracts_the_mean_of_the_supports_person() -> None:
    net = gated(gate=True, centre=True).eval()
    one = batch()
    with torch.no_grad():
        theirs, query = support(net, one, (1, 2)), net.encode(one.query_images[:1])
        task = net.adapt(theirs)
        human = one.support_masks[0, 0, ::4, ::4] > 0
        centre = theirs.features.fine[0, :, human].mean(1)
        assert task.coarse is not None
        query.human = task.coarse.vectors, torch.ones(SIZE, SIZE, dtype=torch.bool)
        cosines = similarity(query.fine - centre[:, None, None], task.fine.vectors - centre)
        torch.testing.assert_close(net.parse(query, task, (SIZE, SIZE))[1:], upsampled(cosines, (SIZE, SIZE))[0])


def test_self_support_by_hand() -> None:
    # Two classes along the axes, four pixels of the person. The leads are 0.9, 0.2, 0.5 and 0.1; their lower median is
    # 0.2, so three pixels are sure: the first two are nearest to class 0, the third to class 1.
    vectors = torch.tensor([[[2.0, 0.0], [0.0, 3.0]]])
    closeness = torch.tensor([[[[0.9, 0.6, 0.1, 0.5]], [[0.0, 0.4, 0.6, 0.4]]]])
    features = torch.tensor([[[[3.0, 1.0, 0.0, 9.0]], [[0.0, 4.0, 5.0, 9.0]]]])
    found = _supported(vectors, features, closeness, torch.ones(1, 1, 4, dtype=torch.bool))
    # Class 0: (1, 0) and the mean (2, 2) of length sqrt(8), so (1 + 0.7071, 0.7071); class 1: (0, 1) and (0, 1).
    torch.testing.assert_close(found, torch.tensor([[[1.70711, 0.70711], [0.0, 2.0]]]), rtol=0, atol=1e-5)
    # Without a person, and for a class that wins no sure pixel, prototypes stay.
    assert _supported(vectors, features, closeness, torch.zeros(1, 1, 4, dtype=torch.bool)) is vectors
    only = torch.tensor([[[[True, False, False, False]]]])[0]
    torch.testing.assert_close(_supported(vectors, features, closeness, only)[0, 1], torch.tensor([0.0, 1.0]))


def test_a_network_of_k_way_training_parses_1_way_behind_the_gate_with_rivals() -> None:
    assert (gated(gate=True, rivals=True).ways, gated("1", gate=True, rivals=True).ways) == (("k", "1"), ("1",))
    assert (gated(gate=True).ways, gated(rivals=True).ways) == (("k",), ("k",))
    net = gated(gate=True, rivals=True)
    steps(net)
    # The target competes with the classes that are remembered, as it does when all of them are asked for.
    torch.testing.assert_close(parsed(net, HUMAN, (2,)) == 2, parsed(net, HUMAN, (1, 2, 3, 7)) == 2)


def test_bonus_is_added_to_what_is_not_remembered_and_to_nothing_else() -> None:
    with_it, without_it = gated(gate=True, offset=0.25), gated(gate=True)
    for net in (with_it, without_it):
        net.memory.rows[1] = torch.ones(WIDTH)  # type: ignore[operator]
    ours, theirs = (scores(net, HUMAN, (1, 2, 7)) for net in (with_it, without_it))
    torch.testing.assert_close(ours[:2], theirs[:2])
    torch.testing.assert_close(ours[2:], theirs[2:] + 0.25)
