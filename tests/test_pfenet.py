"""PFENet's pieces by hand: the prior, masks that resizing loses, the pyramid's scales; what is frozen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from ladder import SIZE, Ladder, batch, stripes
from torch import Tensor, nn

from oshp_bench.baselines.backbones.layers import upsampled
from oshp_bench.baselines.contract import Labels, Progress, Support
from oshp_bench.baselines.pfenet import ObjectFeatures, PFENet, PFENetSettings, priors
from oshp_bench.errors import OshpError

START = Progress(0, 1, 0, 1)


def network(drawn: bool = False, **settings: Any) -> PFENet:
    torch.manual_seed(3)
    chosen: dict[str, Any] = {"width": 4, "dropout": (0.0, 0.0)} | settings
    return PFENet(Ladder(drawn), Labels(8, (1, 2)), "1", PFENetSettings(**chosen))


def support_of(net: PFENet, whole: Tensor, target: int, image: Tensor) -> Support:
    mask = torch.where((whole == target) | (whole == 255), whole, 0)[None]
    return Support(net.encode(image), mask, whole[None], (mask > 0).long(), (target,))


def prior_of(rows: list[list[float]], everywhere: bool, high: Tensor) -> list[float]:
    task = ObjectFeatures(torch.zeros(1, 4, 1, 1), (torch.tensor(rows).view(-1, 2),), (everywhere,))
    return priors(task, high).flatten().tolist()


def test_the_prior_by_hand() -> None:
    # Three cells of a query; cosines with (3, 4): 1, 0.6 and -0.6; with (1, 0): 0.6, 1 and -1.
    high = torch.tensor([[0.6, 0.8], [1.0, 0.0], [-2.0, 0.0]]).T.view(1, 2, 1, 3)
    # The best of both, and of 0 for what is masked out: 1, 1, 0.
    assert prior_of([[3.0, 4.0], [1.0, 0.0]], False, high) == pytest.approx([1.0, 1.0, 0.0])
    # With the first alone: 1, 0.6, 0.
    assert prior_of([[3.0, 4.0]], False, high) == pytest.approx([1.0, 0.6, 0.0])
    # Where the object is everywhere nothing is masked out: 1, 0.6, -0.6 is brought to 0..1.
    assert prior_of([[3.0, 4.0]], True, high) == pytest.approx([1.0, 0.75, 0.0], abs=1e-6)
    assert prior_of([], False, high) == [0.0, 0.0, 0.0]


def test_a_support_in_a_batch_is_as_alone() -> None:
    net, episodes = network(drawn=True).eval(), batch("1")
    with torch.no_grad():
        both = net.encode(episodes.support_images[:, 0])
        objects = episodes.support_masks[:, 0] == episodes.support_targets[:, :, None]
        together = net.task(both.support, both.below, objects)
        for number in range(2):
            alone = net.task(both.support[number][None], both.below[number][None], objects[number][None])
            torch.testing.assert_close(together.vector[number], alone.vector[0])
            torch.testing.assert_close(together.rows[number], alone.rows[0])
            assert len(alone.rows[0]) == (objects[number].sum() > 0) * len(alone.rows[0])


def test_an_object_that_resizing_loses_is_the_cells_that_it_touches() -> None:
    features, objects = torch.rand(2, 4, 8, 8), torch.zeros(2, 64, 64, dtype=torch.bool)
    # No sampling point of the 8 x 8 grid with aligned corners, 0, 9, 18, ..., is near; the second object is found.
    objects[0, 30:32, 4:6] = True
    objects[1, :16, :16] = True
    official, ours = (network(rescue=rescue).on_grid(objects, features) for rescue in (False, True))
    assert not official[0].any()
    assert ours[0].nonzero().tolist() == [[0, 3, 0]] and ours[0, 0, 3, 0] == 1
    assert torch.equal(ours[1], official[1])
    torch.testing.assert_close(official[1:], upsampled(objects[1:, None].float(), (8, 8)))


@pytest.mark.parametrize("rescue", [False, True])
def test_a_support_without_an_object_has_a_zero_vector_and_prior_and_trains(rescue: bool) -> None:
    net, episodes = network(drawn=True, rescue=rescue), batch("1")
    empty = replace(episodes, support_masks=torch.zeros_like(episodes.support_masks))
    losses = net.train().losses(empty, START)
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    assert all(each.grad.isfinite().all() for each in net.parameters() if each.grad is not None)
    with torch.no_grad():
        task = net.eval().adapt(support_of(net, stripes(1, 1, 0, 0), 5, torch.rand(1, 3, SIZE, SIZE)))
        query = net.encode(torch.rand(1, 3, SIZE, SIZE))
        assert not task.vector.any() and not priors(task, query.high).any()
        assert net.parse(query, task, (20, 30)).isfinite().all()


def test_scales_are_parts_of_the_grid_or_cells() -> None:
    net = network(bins=(1.0, 0.5, 3.0, 0.01)).eval()
    with torch.no_grad():
        query, vector, prior = torch.rand(1, 4, 9, 6), torch.rand(1, 4, 1, 1), torch.rand(1, 1, 5, 5)
        merged = net.pyramid(query, vector, prior)
    # The square of three cells is so many whatever the grid; no scale is without a cell.
    assert [tuple(scale.shape[2:]) for scale in merged.scales] == [(9, 6), (4, 3), (3, 3), (1, 1)]
    assert merged.fused.shape == (1, 4, 9, 6)


def test_the_first_scale_by_hand() -> None:
    net = network(bins=(1.0, 0.5, 0.5, 0.5)).eval()
    with torch.no_grad():
        query, vector, prior = torch.rand(1, 4, 6, 6), torch.rand(1, 4, 1, 1), torch.rand(1, 1, 6, 6)
        first = net.pyramid(query, vector, prior).scales[0]
        stacked = torch.cat((query, vector.expand(1, 4, 6, 6), prior), 1)
        merged = nn.functional.conv2d(stacked, net.pyramid.get_parameter("merge.0.0.weight")).relu()
        torch.testing.assert_close(first, merged + net.pyramid.refine[0](merged))


def test_the_backbone_is_frozen_while_its_batch_norm_learns() -> None:
    net, episodes = network(drawn=True).train(), batch("1")
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    torch.autograd.backward(torch.stack(list(net.losses(episodes, START).values())).sum())
    assert not any(parameter.grad is not None for parameter in net.backbone.parameters())
    assert all(each.grad is not None for name, each in net.named_parameters() if not name.startswith("backbone"))
    grouped = {id(each) for group in net.parameter_groups(0) for each in group.parameters}
    assert grouped == {id(each) for name, each in net.named_parameters() if not name.startswith("backbone")}
    # Queries pass first, then supports.
    counts = {name: int(each) for name, each in net.named_buffers() if name.endswith("num_batches_tracked")}
    assert set(counts.values()) == {2}
    changed = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name, _ in net.named_buffers()}


def test_losses_are_those_of_what_it_parses() -> None:
    net, episodes = network(drawn=True, auxiliary=0.5).eval(), batch("1")
    with torch.no_grad():
        losses, scores, scales = net.losses(episodes, START), [], []
        for number in range(2):
            target = int(episodes.support_targets[number, 0])
            support = support_of(net, episodes.support_masks[number, 0], target, episodes.support_images[number])
            query, task = net.encode(episodes.query_images[number][None]), net.adapt(support)
            scores.append(net.parse(query, task, (SIZE, SIZE)))
            merged = net.pyramid(query.query, task.vector, priors(task, query.high))
            scales.append([upsampled(each, (SIZE, SIZE))[0] for each in net.pyramid.auxiliary(merged.scales)])
    masks = episodes.query_masks
    truth = torch.where(masks == 255, 255, (masks == episodes.support_targets[:, :, None]).long())
    whole, *parts = (
        nn.functional.cross_entropy(torch.stack(logits), truth, ignore_index=255)
        for logits in (scores, *([scale[number] for scale in scales] for number in range(4)))
    )
    torch.testing.assert_close(losses["query"], whole)
    torch.testing.assert_close(losses["auxiliary"], 0.5 * torch.stack(parts).mean())


def test_it_parses_one_class_at_a_time() -> None:
    net, mask = network(), stripes(1, 2)[None]
    with pytest.raises(OshpError, match="--way 1"):
        net.adapt(Support(net.encode(torch.rand(1, 3, SIZE, SIZE)), mask, mask, mask, (1, 2)))


@pytest.mark.parametrize(
    "settings", [{"bins": (1.0, 0.5, 0.25, 2.5)}, {"bins": (0.0, 1.0, 1.0, 1.0)}, {"dropout": (1.0, 0.1)}]
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(OshpError, match=next(iter(settings))):
        PFENetSettings(**settings)
