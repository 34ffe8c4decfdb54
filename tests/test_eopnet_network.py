"""EOP-Net's pieces: heads by hand, every switch changes its own piece alone, absent classes do not matter."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from eopnet_cases import COUNT, LABELS, MIDDLE, SIZE, WIDTH, Strided, batch, blocks, network, steps, support, without
from torch import Tensor

from oshp_bench.baselines.contract import Batch, Progress
from oshp_bench.baselines.eopnet.network import EOPNet, SpacePrototypes
from oshp_bench.baselines.eopnet.settings import RELEASE, EOPNetSettings, Parts
from oshp_bench.baselines.pieces.heads import Affine, AttentionGuidance, NearestPrototype, contrast
from oshp_bench.baselines.pieces.losses import cross_entropy
from oshp_bench.baselines.pieces.memory import MomentumPrototypes
from oshp_bench.baselines.pieces.prototypes import EMPTY, Prototypes, to_grid
from oshp_bench.errors import OshpError

SLOTS = Prototypes(
    ids=torch.tensor([[1, 2], [1, EMPTY]]),
    vectors=torch.zeros(2, 2, WIDTH),
    present=torch.tensor([[True, True], [True, False]]),
    ranked=torch.tensor([[True, True], [True, False]]),
)


def scores(net: EOPNet, episodes: Batch, classes: tuple[int, ...], number: int = 0) -> Tensor:
    """What prediction gives for one episode of a batch."""
    net.eval()
    with torch.no_grad():
        query, task = net.encode(episodes.query_images[[number]]), net.adapt(support(net, episodes, classes, number))
        return net.parse(query, task, (SIZE, SIZE))


def test_npm_by_hand() -> None:
    npm = NearestPrototype(Affine(2.0), Affine(3.0))
    attention = torch.tensor([[0.5, -0.5], [0.2, 0.9]]).view(2, 2, 1, 1)
    # First sample: A_0 = ((1 - 0.5) + (1 + 0.5)) / 2 = 1, logits 3 * 1, 2 * 0.5, 2 * -0.5.
    # Second: only its first slot counts, A_0 = 1 - 0.2 = 0.8.
    logits = npm(attention, SLOTS).flatten(1)
    assert logits[0].tolist() == pytest.approx([3.0, 1.0, -1.0])
    assert logits[1, :2].tolist() == pytest.approx([2.4, 0.4])


def test_agm_by_hand() -> None:
    agm = AttentionGuidance(WIDTH).eval()
    features, attention = torch.rand(2, WIDTH, 3, 3), torch.rand(2, 2, 3, 3)
    logits = agm(features, attention, SLOTS)
    refined = [attention[:, slot, None] * features + features for slot in range(2)]  # (5)
    votes = [agm.head(each) for each in refined]  # (6)
    torch.testing.assert_close(logits[:, 1], votes[0][:, 0])
    torch.testing.assert_close(logits[0, 2], votes[1][0, 0])
    torch.testing.assert_close(logits[0, 0], (votes[0][0, 1] + votes[1][0, 1]) / 2)
    torch.testing.assert_close(logits[1, 0], votes[0][1, 1])


def test_agm_stands_one_pass_for_all_absent_classes_at_test() -> None:
    torch.manual_seed(4)
    agm = AttentionGuidance(WIDTH).eval()
    features, attention = torch.rand(2, WIDTH, 3, 3), torch.rand(2, 4, 3, 3)
    present = torch.tensor([[True, False, False, True], [False, True, False, False]])
    attention = attention * present[:, :, None, None]
    slots = Prototypes(torch.arange(4).expand(2, -1), torch.zeros(2, 4, WIDTH), present, torch.ones_like(present))
    literal = replace(slots, present=slots.ranked)
    torch.testing.assert_close(agm(features, attention, slots), agm(features, attention, literal))


def test_contrast_by_hand() -> None:
    support = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])
    query = torch.tensor([[[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]]])
    present = torch.tensor([[True, True, False]])
    tau = 0.5
    # Cosines with the two keys: class 0 (0.6, 0.8), class 1 (0, 1); class 2 has no key.
    first = -torch.log_softmax(torch.tensor([0.6, 0.8]) / tau, 0)[0]
    second = -torch.log_softmax(torch.tensor([0.0, 1.0]) / tau, 0)[1]
    counted = torch.tensor([[True, True, False]])
    assert contrast(query, counted, support, present, tau) == pytest.approx(((first + second) / 2).item())
    counted = torch.tensor([[True, False, False]])
    assert contrast(query, counted, support, present, tau) == pytest.approx(first.item())
    # A class that the support lacks adds nothing and counts: the release's rule.
    counted = torch.tensor([[True, False, True]])
    assert contrast(query, counted, support, present, tau) == pytest.approx(first.item() / 2)


def test_pixels_of_classes_without_prototype_are_background() -> None:
    net, episodes = network(), batch()
    task = net.prototypes(
        net.encode(episodes.support_images[:, 0]),
        episodes.support_masks[:, 0, ::4, ::4],
        episodes.support_coarse[:, 0, ::4, ::4],
        torch.tensor([[1, 2, 7, EMPTY], [1, 2, 3, 7]]),
        epoch=0,
    )
    truth = net.truth(episodes.query_masks, episodes.query_coarse, task)
    # Slots: 1, 2, 7 and 1, 2, 3, 7. The first support lacks class 5, which becomes background; 255 stays.
    assert truth[0, -1, :: SIZE // 4].tolist() == [1, 2, 0, 255]
    assert truth[1, -1, :: SIZE // 4].tolist() == [1, 2, 0, 4]


def test_cross_entropy_of_nothing_is_zero() -> None:
    logits = torch.rand(1, 2, 2, 2, requires_grad=True)
    loss = cross_entropy(logits, torch.full((1, 2, 2), 255))
    torch.autograd.backward(loss)
    assert loss == 0
    assert logits.grad is not None and not logits.grad.any()


@pytest.fixture(scope="module")
def trained() -> EOPNet:
    net = network()
    steps(net)
    return net


def losses_and_scores(net: EOPNet, progress: Progress = MIDDLE) -> tuple[dict[str, float], Tensor]:
    parsed = scores(net, batch(), (1, 2, 7))
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    losses = {name: loss.item() for name, loss in net.train()(batch(), progress).items()}
    net.load_state_dict(state)
    return losses, parsed


def test_without_weight_shift_beta_is_one_half_and_nothing_else_changes(trained: EOPNet) -> None:
    (whole, parsed), (cut, cut_parsed) = (
        losses_and_scores(trained),
        losses_and_scores(without(trained, weight_shift=False)),
    )
    # Epoch 20 of 50: beta = 0.6.
    assert cut["agm"] == pytest.approx(whole["agm"] * 0.5 / 0.6)
    assert cut["npm"] == pytest.approx(whole["npm"] * 0.5 / 0.4)
    assert (cut["coarse"], cut["contrast"]) == (whole["coarse"], whole["contrast"])
    assert torch.equal(parsed, cut_parsed)


def test_without_contrast_its_loss_is_gone_and_nothing_else_changes(trained: EOPNet) -> None:
    (whole, parsed), (cut, cut_parsed) = losses_and_scores(trained), losses_and_scores(without(trained, contrast=False))
    assert whole.pop("contrast") > 0
    assert cut == whole
    assert torch.equal(parsed, cut_parsed)


def test_without_the_coarse_space_its_loss_and_screening_are_gone_and_nothing_else_changes(trained: EOPNet) -> None:
    cut_net = without(trained, coarse=False)
    (whole, parsed), (cut, cut_parsed) = losses_and_scores(trained), losses_and_scores(cut_net)
    whole.pop("coarse")
    assert cut == whole
    assert {name for name in trained.state_dict() if not name.startswith("coarse.")} == set(cut_net.state_dict())
    screened = parsed[1:].isneginf().all(0)
    assert screened.any() and not screened.all()
    assert torch.equal(parsed[:, ~screened], cut_parsed[:, ~screened])
    assert not cut_parsed.isneginf().any()


def test_screening_off_gives_what_no_coarse_space_gives(trained: EOPNet) -> None:
    unscreened = network(replace(trained.settings, screening=False))
    unscreened.load_state_dict(trained.state_dict())
    assert torch.equal(scores(unscreened, batch(), (1, 2)), scores(without(trained, coarse=False), batch(), (1, 2)))


def test_without_agm_npm_has_all_the_weight_and_parses_as_before(trained: EOPNet) -> None:
    cut_net = without(trained, agm=False)
    (whole, parsed), (cut, cut_parsed) = losses_and_scores(trained), losses_and_scores(cut_net)
    assert cut.keys() == whole.keys() - {"agm"}
    assert cut["npm"] == pytest.approx(whole["npm"] / 0.4)
    assert not any(name.startswith("agm.") for name in cut_net.state_dict())
    assert torch.equal(parsed, cut_parsed)


def test_without_npm_agm_has_all_the_weight_and_parses(trained: EOPNet) -> None:
    cut_net = without(trained, npm=False)
    (whole, parsed), (cut, cut_parsed) = losses_and_scores(trained), losses_and_scores(cut_net)
    assert cut.keys() == whole.keys() - {"npm"}
    assert cut["agm"] == pytest.approx(whole["agm"] / 0.6)
    assert torch.equal(parsed.isneginf(), cut_parsed.isneginf())
    assert not torch.equal(parsed, cut_parsed)


def test_without_momentum_prototypes_are_static_and_nothing_else_changes(trained: EOPNet) -> None:
    cut_net = without(trained, momentum=False)
    assert trained.state_dict().keys() - cut_net.state_dict().keys() == {"memory.rows", "coarse.memory.rows"}
    warm = Progress(0, 50, 0, 1)
    (whole, _), (cut, cut_parsed) = losses_and_scores(trained, warm), losses_and_scores(cut_net, warm)
    assert cut == whole
    (whole, parsed), (cut, _) = losses_and_scores(trained), losses_and_scores(cut_net)
    assert cut["contrast"] == whole["contrast"]
    assert cut["npm"] != whole["npm"] and cut["agm"] != whole["agm"] and cut["coarse"] != whole["coarse"]
    assert not torch.equal(parsed, cut_parsed)


def test_one_of_agm_and_npm_must_stay() -> None:
    with pytest.raises(OshpError, match="AGM or NPM"):
        Parts(agm=False, npm=False)


def test_nothing_depends_on_absent_classes(trained: EOPNet) -> None:
    torch.manual_seed(1)
    larger = EOPNet(Strided(), replace(LABELS, count=COUNT + 10), "k", trained.settings)
    rows = torch.rand(COUNT + 10, WIDTH)
    rows[:COUNT] = trained.state_dict()["memory.rows"]
    rows[[4, 5, 6]] = 1.0
    larger.load_state_dict(trained.state_dict() | {"memory.rows": rows})
    assert losses_and_scores(larger)[0] == losses_and_scores(trained)[0]
    assert torch.equal(scores(larger, batch(), (1, 2, 7)), scores(trained, batch(), (1, 2, 7)))


def test_in_the_release_absent_classes_lower_the_background() -> None:
    nets = [EOPNet.build(Strided(), replace(LABELS, count=count), "k", RELEASE) for count in (COUNT, COUNT + 10)]
    nets[1].load_state_dict(nets[0].state_dict() | {"memory.rows": torch.zeros(COUNT + 10, WIDTH)})
    few, many = (scores(net, batch(), (1, 2, 7)) for net in nets)
    torch.testing.assert_close(few[1:], many[1:])
    assert not torch.allclose(few[0], many[0])


def test_a_one_way_episode_looks_at_its_target_alone() -> None:
    net, episodes = network(way="1"), batch("1")
    alone = replace(
        episodes,
        query_masks=torch.stack([blocks(0, 2, 0, 255), blocks(0, 0, 0, 7)]),
        support_masks=torch.stack([blocks(2, 0, 0, 0), blocks(7, 0, 0, 0)])[:, None],
    )
    assert {name: loss.item() for name, loss in net(episodes, MIDDLE).items()} == {
        name: loss.item() for name, loss in network(way="1")(alone, MIDDLE).items()
    }


def test_in_the_release_a_crop_that_lost_the_class_is_dropped_whatever_its_padding() -> None:
    net = network(RELEASE, way="1").train()
    episodes = batch("1")
    assert episodes.support_targets.tolist() == [[2], [7]]
    mask = torch.where(episodes.support_masks[:, 0] == 2, 255, episodes.support_masks[:, 0])
    grid = to_grid(mask, (8, 8))
    assert (grid[0] == 255).any() and not (grid[0] == 2).any()
    features = net.encode(episodes.support_images[:, 0]).fine
    found = net.fine_prototypes(features, grid, episodes.support_targets, epoch=0)
    assert found.present.tolist() == [[False], [True]]
    assert not found.vectors[0].any()
    assert isinstance(net.memory, MomentumPrototypes)
    assert not net.memory.rows[2].any()
    # So the query's pixels of the class are background.
    task = SpacePrototypes(found, None, episodes.support_targets)
    truth = net.truth(episodes.query_masks, episodes.query_coarse, task)
    assert {*truth[0].flatten().tolist()} == {0, 255}
    assert 1 in truth[1]


def test_one_way_is_k_way_with_one_class(trained: EOPNet) -> None:
    one_way = network(trained.settings, way="1")
    one_way.load_state_dict(trained.state_dict())
    assert torch.equal(scores(one_way, batch(), (2,)), scores(trained, batch(), (2,)))


@pytest.mark.parametrize("settings", [EOPNetSettings(), RELEASE], ids=["paper", "release"])
def test_recomputing_the_heads_changes_no_number(settings: EOPNetSettings) -> None:
    kept, again = (network(replace(settings, recompute=each)) for each in (False, True))
    for net in (kept, again):
        steps(net)
    for name, tensor in kept.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_scores_of_a_query_do_not_depend_on_what_was_asked_before(trained: EOPNet) -> None:
    trained.eval()
    episodes = batch()
    with torch.no_grad():
        query = trained.encode(episodes.query_images[:1])
        for number in (0, 1, 0):
            task = trained.adapt(support(trained, episodes, (1, 7), number))
            for size in ((SIZE, SIZE), (20, 24)):
                fresh = trained.parse(trained.encode(episodes.query_images[:1]), task, size)
                assert torch.equal(trained.parse(query, task, size), fresh)


def test_a_support_without_classes_gives_finite_losses_and_gradients() -> None:
    net, episodes = network(), batch()
    empty = replace(episodes, support_masks=torch.zeros_like(episodes.support_masks))
    total = torch.stack(list(net(empty, MIDDLE).values())).sum()
    torch.autograd.backward(total)
    assert total.isfinite()
    assert all(each.grad.isfinite().all() for each in net.parameters() if each.grad is not None)


def test_a_support_whose_class_is_lost_on_the_grid_parses_as_background() -> None:
    net, episodes = network(), batch()
    dot = torch.zeros(2, 1, SIZE, SIZE, dtype=torch.int64)
    dot[:, :, 1, 1] = 5
    parsed = scores(net, replace(episodes, support_masks=dot), (5,))
    assert not parsed.argmax(0).any()


def test_autocast_trains(trained: EOPNet) -> None:
    net = network(trained.settings)
    with torch.autocast("cpu", torch.bfloat16):
        losses = net(batch(), MIDDLE)
    torch.autograd.backward(torch.stack([each.float() for each in losses.values()]).sum())
    exact = network(trained.settings)(batch(), MIDDLE)
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(exact[name].item(), rel=0.05)


def test_a_class_beyond_the_networks_is_refused() -> None:
    with pytest.raises(OshpError, match="class 18"):
        scores(network(), batch(), (1, 18))
