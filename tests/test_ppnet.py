"""PPNet's pieces by hand: parts, means at image size, alignment; what is frozen; what it cannot do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ladder import SIZE, Ladder, batch, stripes
from torch import Tensor
from torch.nn import functional

from oshp_bench.baselines.backbones.layers import upsampled
from oshp_bench.baselines.backbones.resnet50 import ResNet50
from oshp_bench.baselines.contract import Labels, Progress, Support
from oshp_bench.baselines.ppnet import FINER, PPNet, PPNetSettings, k_means, means, rows_at, sampled, spread_starts
from oshp_bench.errors import OshpError

LABELS = Labels(8, (1, 2))
START = Progress(0, 1, 0, 1)
SIZES = st.integers(1, 9)


def network(drawn: bool = False, **settings: Any) -> PPNet:
    torch.manual_seed(3)
    return PPNet(Ladder(drawn), LABELS, "1", PPNetSettings(**settings))


def support_of(net: PPNet, whole: Tensor, target: int, image: Tensor) -> Support:
    mask = torch.where((whole == target) | (whole == 255), whole, 0)[None]
    return Support(net.encode(image), mask, whole[None], (mask > 0).long(), (target,))


def test_starts_are_spread_evenly_over_the_rows() -> None:
    # floor((i + 1/2) n / 5)
    assert spread_starts(10, 5, torch.device("cpu")).tolist() == [1, 3, 5, 7, 9]
    assert spread_starts(7, 5, torch.device("cpu")).tolist() == [0, 2, 3, 4, 6]
    assert spread_starts(2, 5, torch.device("cpu")).tolist() == [0, 0, 1, 1, 1]
    assert spread_starts(1, 5, torch.device("cpu")).tolist() == [0] * 5


def test_k_means_by_hand() -> None:
    rows = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0]])
    # From 0 and 1: parts {0}, {1, 2, 10, 11}; centres 0 and 6; parts {0, 1, 2}, {10, 11}; centres 1 and 10.5.
    assigned = k_means(rows, torch.tensor([0, 1]))
    assert assigned.tolist() == [0, 0, 0, 1, 1]
    centres, counts = means(rows, assigned, 2)
    assert centres.flatten().tolist() == [1.0, 10.5] and counts.flatten().tolist() == [3, 2]


def test_among_equal_centres_the_first_wins_and_one_without_rows_is_zero() -> None:
    rows = torch.tensor([[1.0], [3.0], [9.0]])
    assigned = k_means(rows, torch.tensor([2, 2, 0]))
    assert assigned.tolist() == [2, 2, 0]
    centres, _ = means(rows, assigned, 3)
    assert centres.flatten().tolist() == [9.0, 0.0, 2.0]


def test_k_means_stops_after_ten_assignments() -> None:
    # A long chain that two centres at its beginning share out slowly.
    rows = torch.arange(4000.0)[:, None] ** 2
    centres = rows[[0, 1]].clone()
    for number in range(10):
        assigned = (rows - centres.T).abs().argmin(1)
        if number < 9:
            centres = torch.stack([rows[assigned == part].mean(0) for part in range(2)])
    assert torch.equal(k_means(rows, torch.tensor([0, 1])), assigned)
    further = (rows - torch.stack([rows[assigned == part].mean(0) for part in range(2)]).T).abs().argmin(1)
    assert not torch.equal(further, assigned)


@settings(deadline=None)
@given(SIZES, SIZES, st.integers(1, 40), st.integers(1, 40))
def test_sampled_features_are_those_of_the_whole_upsampled_map(
    height: int, width: int, rows: int, columns: int
) -> None:
    features = torch.rand(3, height, width, dtype=torch.float64)
    everywhere = torch.ones(rows, columns).nonzero(as_tuple=True)
    whole = upsampled(features[None], (rows, columns))[0]
    torch.testing.assert_close(sampled(features, (rows, columns), *everywhere), whole.flatten(1).T)


def test_few_pixels_are_looked_at_in_full_size() -> None:
    features, mask = torch.rand(3, 4, 4), torch.zeros(32, 32, dtype=torch.bool)
    # On the grid of 8 x 8 every fourth pixel counts: two of these, so that all 25 pixels are taken.
    mask[4:9, 5:10] = True
    assert len(rows_at(features, mask, (32, 32), FINER)) == 25
    # 16 of 64: more than ten.
    mask[:16, :16] = True
    assert len(rows_at(features, mask, (32, 32), FINER)) == 16
    # A background is looked at on the grid of the features itself: 16 - 4.
    torch.testing.assert_close(rows_at(features, ~mask, (32, 32), 1), features[:, ~mask[::8, ::8]].T)


def test_an_empty_mask_is_one_zero_row() -> None:
    rows = rows_at(torch.rand(3, 4, 4), torch.zeros(32, 32, dtype=torch.bool), (32, 32), FINER)
    assert rows.tolist() == [[0.0, 0.0, 0.0]]


def test_parts_are_centres_and_a_share_of_the_mean() -> None:
    net, features = network(parts=2, share=0.5), torch.rand(3, 16, 16)
    mask = stripes(0, 2, 2, 0) == 2
    parts = net.parts(features, mask, FINER)
    whole = upsampled(features[None], (SIZE, SIZE))[0]
    torch.testing.assert_close(parts.mean[0], whole[:, mask].sum(1) / (mask.sum() + 1e-5))
    torch.testing.assert_close(parts.rows, whole[:, mask].T)
    torch.testing.assert_close(parts.centres[1], parts.rows[parts.assigned == 1].mean(0))
    torch.testing.assert_close(parts.prototypes, parts.centres + 0.5 * parts.mean)


def test_a_pixel_scores_the_nearest_part() -> None:
    net = network(sharpness=10.0)
    features = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0]]).T.view(1, 3, 1, 2)
    prototypes = torch.eye(3)[torch.tensor([[2, 2], [0, 1]])]
    scores = net.scores(features, prototypes)
    assert scores[0, :, 0].flatten().tolist() == pytest.approx([0.0, 0.0, 10.0, 8.0])


def test_nothing_predicted_means_no_alignment_and_everything_an_empty_background() -> None:
    net = network()
    features, truth = torch.rand(3, 16, 16, requires_grad=True), (stripes(1, 0) == 1).long()
    nothing = torch.zeros(16, 16, dtype=torch.bool)
    assert net.alignment(features, features, nothing, truth) == 0
    parts = net.predicted_parts(features, nothing, (SIZE, SIZE))
    assert not parts.prototypes.any()
    loss = net.alignment(features, features, ~nothing, truth)
    torch.autograd.backward(loss)
    assert loss.isfinite() and features.grad is not None and features.grad.isfinite().all()


def test_alignment_ignores_what_the_support_ignores() -> None:
    net, query = network(), torch.rand(3, 16, 16)
    support, predicted = torch.rand(3, 16, 16), torch.rand(16, 16) > 0.5
    truth = torch.where(stripes(1, 0, 255, 255) == 1, 1, torch.where(stripes(1, 0, 255, 255) == 255, 255, 0))
    both = [net.predicted_parts(query, mask, (SIZE, SIZE)).prototypes for mask in (~predicted, predicted)]
    logits = upsampled(net.scores(support[None], torch.stack(both)), (SIZE, SIZE))
    wanted = functional.cross_entropy(logits, truth[None], ignore_index=255)
    torch.testing.assert_close(net.alignment(query, support, predicted, truth), wanted)
    assert net.alignment(query, support, predicted, torch.full_like(truth, 255)) == 0


def test_other_classes_of_an_episode_are_background() -> None:
    net, episodes = network(), batch("1")
    support_masks, query_masks = episodes.support_masks, episodes.query_masks
    targets = episodes.support_targets[:, 0, None, None]
    alone = replace(
        episodes,
        support_masks=support_masks.where(
            (support_masks == targets[:, None]) | (support_masks == 255), torch.tensor(0)
        ),
        query_masks=query_masks.where((query_masks == targets) | (query_masks == 255), torch.tensor(0)),
    )
    ours, theirs = (net.losses(each, START) for each in (episodes, alone))
    assert {name: loss.item() for name, loss in ours.items()} == {name: loss.item() for name, loss in theirs.items()}


def test_pixels_to_ignore_are_background_of_a_support_or_nothing() -> None:
    mask, target = torch.tensor([[[0, 2, 255, 5]]]), torch.tensor([[2]])
    truths = [network(void=void).support_truth(mask, target).tolist() for void in ("background", "ignored")]
    assert truths == [[[[0, 1, 0, 0]]], [[[0, 1, 255, 0]]]]


def test_losses_are_means_over_episodes_and_pixels() -> None:
    net, episodes = network(void="ignored"), batch("1")
    losses = net.losses(episodes, START)
    alignments, scores = [], []
    for number in range(2):
        target = int(episodes.support_targets[number, 0])
        support = support_of(net, episodes.support_masks[number, 0], target, episodes.support_images[number])
        query = net.encode(episodes.query_images[number][None])
        scores.append(net.parse(query, net.adapt(support), (SIZE, SIZE)))
        predicted = net.scores(query, net.adapt(support))[0].argmax(0) == 1
        truth = (support.mask[0] == target).long()
        alignments.append(net.alignment(query[0], support.features[0], predicted, truth))
    masks = episodes.query_masks
    truth = torch.where(masks == 255, 255, (masks == episodes.support_targets[:, :, None]).long())
    wanted = functional.cross_entropy(torch.stack(scores), truth, ignore_index=255)
    torch.testing.assert_close(losses["query"], wanted)
    torch.testing.assert_close(losses["alignment"], torch.stack(alignments).mean())


def test_a_class_without_a_pixel_scores_zero_everywhere() -> None:
    net = network().eval()
    with torch.no_grad():
        task = net.adapt(support_of(net, stripes(1, 1, 0, 0), 5, torch.rand(1, 3, SIZE, SIZE)))
        scores = net.parse(net.encode(torch.rand(1, 3, SIZE, SIZE)), task, (20, 30))
    assert scores.shape == (2, 20, 30) and not scores[1].any()
    assert not scores.argmax(0).any()


def test_a_class_that_the_grid_loses_has_parts_all_the_same() -> None:
    net = network().eval()
    mask = torch.zeros(SIZE, SIZE, dtype=torch.int64)
    mask[1, 1] = 5
    with torch.no_grad():
        assert net.adapt(support_of(net, mask, 5, torch.rand(1, 3, SIZE, SIZE)))[1].abs().sum() > 0


def test_it_parses_one_class_at_a_time() -> None:
    net, mask = network(), stripes(1, 2)[None]
    with pytest.raises(OshpError, match="--way 1"):
        net.adapt(Support(torch.rand(1, 3, 16, 16), mask, mask, mask, (1, 2)))


def test_the_lower_levels_are_frozen_unless_they_are_not() -> None:
    episodes = batch("1")
    for frozen, learning in ((True, {"middle", "high"}), (False, {"low", "middle", "high"})):
        net = network(drawn=True, frozen=frozen).train()
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        torch.autograd.backward(torch.stack(list(net.losses(episodes, START).values())).sum())
        given = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
        assert {name.split(".")[2] for name in given} == learning
        changed = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
        assert {name.split(".")[2] for name in changed} == learning
        groups = net.parameter_groups(0)
        assert {id(each) for group in groups for each in group.parameters} == {
            id(parameter) for name, parameter in net.named_parameters() if name in given
        }


def test_the_semantic_head_learns_base_classes_faster_than_the_rest() -> None:
    net, episodes = network(semantic=True), batch("1")
    losses = net.losses(episodes, START)
    both = torch.cat((episodes.support_masks[:, 0], episodes.query_masks))
    features = net.encode(torch.cat((episodes.support_images[:, 0], episodes.query_images)))
    logits = upsampled(net.base_logits(features), (SIZE, SIZE))
    truth = torch.where((both == 1) | (both == 2) | (both == 255), both, 0)
    torch.testing.assert_close(losses["semantic"], 0.1 * functional.cross_entropy(logits, truth, ignore_index=255))
    groups = net.parameter_groups(0)
    assert [(group.lr_scale, group.decay) for group in groups] == [(1.0, True), (10.0, True), (20.0, False)]
    assert sum(len(group.parameters) for group in groups[1:]) == 8
    with pytest.raises(OshpError, match="semantic"):
        PPNet(Ladder(), Labels(8), "1", PPNetSettings(semantic=True))


def test_its_size_is_that_of_table_8() -> None:
    with torch.device("meta"):
        sizes = [
            sum(each.numel() for each in PPNet(ResNet50(), Labels(16, tuple(range(1, 16))), "1", settings).parameters())
            for settings in (PPNetSettings(), PPNetSettings(semantic=True))
        ]
    # The paper says 24.7 M: with the head that its text leaves out.
    assert sizes == [23_508_032, 24_687_744]
