"""eopnet-fg in training: unnamed pixels as one class, base classes treated as novel ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from eopnet_cases import COUNT, LABELS, MIDDLE, Strided, batch, steps
from torch import Tensor

from oshp_bench.baselines.contract import Batch, Labels
from oshp_bench.baselines.eopnet.disguise import Disguise
from oshp_bench.baselines.eopnet.foreground import EOPNetFG
from oshp_bench.baselines.eopnet.network import SpacePrototypes
from oshp_bench.baselines.eopnet.settings import EOPNetFGSettings
from oshp_bench.baselines.pieces.prototypes import Prototypes, class_weights, pooled
from oshp_bench.episodes.episodes import Way
from oshp_bench.errors import OshpError

# The id of unnamed.
UNNAMED = COUNT


def made(way: Way = "k", **changes: Any) -> EOPNetFG:
    torch.manual_seed(1)
    return EOPNetFG(Strided(), LABELS, way, EOPNetFGSettings(**changes))


def nameless(way: Way = "k") -> Batch:
    """`batch` without class 7 in any fine mask; the coarse masks still have it. The first query shows no unnamed."""
    whole = batch(way)
    return replace(
        whole,
        query_masks=whole.query_masks.masked_fill(whole.query_masks == 7, 0),
        support_masks=whole.support_masks.masked_fill(whole.support_masks == 7, 0),
        support_targets=torch.tensor([[2], [1]]) if way == "1" else whole.support_targets,
    )


def seen(batch: Batch) -> list[Tensor]:
    return [batch.query_masks, batch.support_masks, batch.support_targets]


def test_unnamed_is_what_is_human_and_has_no_base_class() -> None:
    mask = torch.tensor([[[0, 0, 0, 3, 255]]])
    coarse = torch.tensor([[[0, 1, 255, 1, 255]]])
    one = replace(
        batch(),
        query_masks=mask,
        query_coarse=coarse,
        support_masks=mask[:, None],
        support_coarse=coarse[:, None],
        support_targets=torch.tensor([[3]]),
    )
    masks, supports, targets = seen(Disguise(COUNT, "one", 0.0)(one))
    assert masks.tolist() == [[[0, UNNAMED, 0, 3, 255]]]
    assert supports.tolist() == [[[[0, UNNAMED, 0, 3, 255]]]]
    assert targets.tolist() == [[3]]
    assert Disguise(COUNT, "off", 0.0)(one) is one


def test_classes_that_play_novel_ones_have_other_ids_in_both_images_of_an_episode() -> None:
    one = batch("1")
    masks, supports, targets = seen(Disguise(COUNT, "off", 1.0)(one))
    # Class c becomes 8 + c; background and what is to be ignored stay.
    shifted = {0: 0, 255: 255} | {number: 8 + number for number in range(1, 8)}
    assert masks.tolist() == [[[shifted[x] for x in row] for row in mask] for mask in one.query_masks.tolist()]
    assert set(supports.flatten().tolist()) == {0, 9, 10, 11, 15}
    assert targets.tolist() == [[10], [15]]


def test_each_episode_draws_its_own_at_the_share() -> None:
    everything = torch.arange(8).expand(500, 1, 8)
    many = replace(
        batch(),
        query_masks=everything,
        query_coarse=everything.clamp(max=1),
        support_masks=everything[:, None],
        support_coarse=everything[:, None].clamp(max=1),
        support_targets=torch.zeros(500, 1, dtype=torch.int64),
    )
    torch.manual_seed(0)
    masks, supports, _ = seen(Disguise(COUNT, "one", 0.25)(many))
    assert torch.equal(masks, supports[:, 0])
    worn = masks[:, 0] >= COUNT
    assert not worn[:, 0].any()
    # Seven classes in 500 episodes: a standard deviation of sqrt(0.25 * 0.75 / 3500) = 0.7 %.
    assert worn[:, 1:].float().mean().item() == pytest.approx(0.25, abs=0.03)
    torch.manual_seed(0)
    assert torch.equal(Disguise(COUNT, "one", 0.25)(many).query_masks, masks)


def test_unnamed_takes_part_with_the_supports_own_prototype_and_is_not_remembered() -> None:
    net = made(unnamed="one")
    episodes = net.disguise(nameless())
    asked = net.asked(episodes, (8, 8))
    # The supports show 2, 1 and unnamed; and unnamed, 1, 3, 2.
    assert asked.tolist() == [[1, 2, UNNAMED, -1], [1, 2, 3, UNNAMED]]
    steps(net)
    with torch.no_grad():
        support = net.encode(episodes.support_images[:, 0])
        mask = episodes.support_masks[:, 0, ::4, ::4]
        task = net.prototypes(support, mask, (mask > 0).long(), asked, MIDDLE.epoch)
        static, _ = pooled(support.fine, class_weights(mask, asked))
    assert torch.equal(task.fine.vectors[0, 2], static[0, 2])
    assert torch.equal(task.fine.vectors[1, 3], static[1, 3])
    assert task.fine.ranked[:, 2:].tolist() == [[True, False], [True, True]]
    assert not torch.allclose(task.fine.vectors[0, 0], static[0, 0])
    assert net.learned_classes() == {1, 2, 3, 7}
    truth = net.truth(episodes.query_masks, episodes.query_coarse, task)
    assert (truth[1][episodes.query_masks[1] == UNNAMED] == 4).all()


@pytest.mark.parametrize("way", ["k", "1"])
@pytest.mark.parametrize("kind", ["one", "regions"])
def test_unnamed_changes_the_fine_losses_alone(way: Way, kind: str) -> None:
    ours, theirs = (made(way, unnamed=kind)(nameless(way), MIDDLE) for kind in (kind, "off"))
    changed = {name for name in ours if ours[name].item() != theirs[name].item()}
    assert changed == {"agm", "npm", "contrast"}


def test_in_1_way_unnamed_stands_beside_the_target_and_other_base_classes_are_background() -> None:
    net = made("1", unnamed="one")
    episodes = net.disguise(nameless("1"))
    asked = net.asked(episodes, (8, 8))
    assert asked.tolist() == [[2, UNNAMED], [1, UNNAMED]]
    mask = episodes.support_masks[:, 0, ::4, ::4]
    task = net.prototypes(net.encode(episodes.support_images[:, 0]), mask, (mask > 0).long(), asked, 0)
    truth = net.truth(episodes.query_masks, episodes.query_coarse, task)
    # The second query has the columns 1, 2, nothing and unnamed.
    assert truth[1, -1, ::8].tolist() == [1, 0, 0, 2]


def test_unnamed_that_the_support_does_not_show_is_ignored() -> None:
    net, episodes = made(unnamed="one"), nameless()
    clean = replace(episodes, support_coarse=(episodes.support_masks > 0).long())
    worn = net.disguise(clean)
    mask = worn.support_masks[:, 0, ::4, ::4]
    assert UNNAMED not in mask
    task = net.prototypes(net.encode(worn.support_images[:, 0]), mask, (mask > 0).long(), net.asked(worn, (8, 8)), 0)
    truth = net.truth(worn.query_masks, worn.query_coarse, task)
    assert (worn.query_masks == UNNAMED).any()
    assert (truth[worn.query_masks == UNNAMED] == 255).all()


def test_regions_are_the_largest_connected_ones_of_the_support() -> None:
    mask = torch.tensor([[8, 8, 0, 8], [0, 0, 0, 8], [8, 3, 8, 8]])[None, None]
    # Sizes: 2 above on the left, 4 on the right, 1 below on the left.
    split = Disguise(COUNT, "regions", 0.0).by_region(mask)
    assert split[0, 0].tolist() == [[17, 17, 0, 16], [0, 0, 0, 16], [255, 3, 16, 16]]
    assert mask.max() == 8
    assert Disguise(COUNT, "regions", 0.0).by_region(mask * 0).tolist() == (mask * 0).tolist()


def test_regions_are_one_channel_of_the_losses() -> None:
    net = made(unnamed="regions")
    ids = torch.tensor([[1, 16, 17], [16, 2, -1], [1, 2, 3]])
    present = torch.tensor([[True, True, True], [False, True, False], [True, True, True]])
    classes = Prototypes(ids, torch.zeros(3, 3, 8), present, present)
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, -torch.inf, 1.0, -torch.inf], [0.0, 1.0, 2.0, 3.0]])
    logits = logits[..., None, None].requires_grad_()
    found = net._as_one(logits, classes)
    # exp 2 + exp 3 = 27.4746, whose logarithm is 3.3133.
    inf = torch.inf
    expected = torch.tensor([[0.0, 1.0, 3.31326, -inf], [0.0, -inf, 1.0, -inf], [0.0, 1.0, 2.0, 3.0]])
    torch.testing.assert_close(found[..., 0, 0], expected, rtol=0, atol=1e-5)
    torch.autograd.backward(found[found.isfinite()].sum())
    assert logits.grad is not None and logits.grad.isfinite().all()
    masks = torch.tensor([[[UNNAMED, 1, 0, 255]]]).expand(3, -1, -1)
    truth = net.truth(masks, masks.clamp(max=1), SpacePrototypes(classes, None, ids))
    assert truth[:, 0].tolist() == [[2, 1, 0, 255], [255, 0, 0, 255], [255, 1, 0, 255]]


@pytest.mark.parametrize("way", ["k", "1"])
@pytest.mark.parametrize("unnamed", ["one", "regions"])
def test_training_with_both_changes_runs_and_remembers_base_classes_alone(way: Way, unnamed: str) -> None:
    net = made(way, unnamed=unnamed, as_novel=0.5)
    torch.manual_seed(3)
    steps(net, 6)
    assert net.learned_classes() <= {1, 2, 3, 7}
    assert all(parameter.isfinite().all() for parameter in net.parameters())


def test_all_base_classes_as_novel_leave_the_memory_empty() -> None:
    net = made(as_novel=1.0)
    steps(net)
    assert net.learned_classes() == frozenset()


@pytest.mark.parametrize(
    ("count", "changes"),
    [(255, {"unnamed": "one"}), (127, {"unnamed": "regions"}), (128, {"as_novel": 0.1}), (254, {"as_novel": 1.0})],
)
def test_masks_without_numbers_to_spare_are_refused(count: int, changes: dict[str, Any]) -> None:
    with pytest.raises(OshpError, match=r"leaves too few for model.unnamed or model.as_novel"):
        EOPNetFG(Strided(), Labels(count), "k", EOPNetFGSettings(**changes))
