"""POPNet: its stages, its heads on numbers computed by hand, and what it remembers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from eopnet_cases import COUNT, SIZE, Strided, batch, blocks
from torch import Tensor
from torch.nn import functional

from oshp_bench.baselines.contract import Labels, Progress, Support
from oshp_bench.baselines.pieces.prototypes import EMPTY, Prototypes
from oshp_bench.baselines.popnet import ClassPrototypes, POPNet, POPNetSettings
from oshp_bench.episodes.episodes import WAYS, Way
from oshp_bench.errors import OshpError

FIRST = Progress(10, 50, 0, 100)
SECOND = replace(FIRST, stage=1)


def network(way: Way = "k", settings: POPNetSettings | None = None) -> POPNet:
    """A POPNet of classes below 8, the same whenever it is asked for."""
    torch.manual_seed(1)
    return POPNet(Strided(), Labels(COUNT), way, settings)


def step(made: POPNet, progress: Progress) -> dict[str, Tensor]:
    """One step of training at a visible learning rate; what changed, as the state before it."""
    made.stage = progress.stage
    made.train()
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    groups = [list(group.parameters) for group in made.parameter_groups(progress.stage)]
    optimiser = torch.optim.SGD([parameter for group in groups for parameter in group], 0.05)
    losses = made(batch(made.ways[0]), progress)
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    optimiser.step()
    return {name: tensor for name, tensor in before.items() if not torch.equal(tensor, made.state_dict()[name])}


def support(made: POPNet, mask: Tensor, *classes: int) -> Support:
    image = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    return Support(made.encode(image), mask[None], mask[None], (mask[None] > 0).long(), classes)


@pytest.mark.parametrize("way", WAYS)
def test_every_stage_trains_its_own_network_and_batch_norms(way: Way) -> None:
    made = network(way)
    assert made.stages == 2
    first = step(made, FIRST)
    assert first and all(name.startswith("human.") for name in first)
    second = step(made, SECOND)
    assert {name.partition(".")[0] for name in second} == {"backbone", "infusion", "agm", "npm", "memory"}
    assert {name for name in second if name.endswith("running_mean")} >= {"infusion.0.pointwise_bn.running_mean"}


def test_the_stages_share_no_parameter_and_leave_none_out() -> None:
    made = network()
    groups = [{*group.parameters} for stage in (0, 1) for group in made.parameter_groups(stage)]
    assert not groups[0] & groups[1] and groups[0] | groups[1] == {*made.parameters()}


def test_both_networks_start_alike_and_learn_apart() -> None:
    made = network()
    for ours, theirs in zip(made.human.backbone.parameters(), made.backbone.parameters(), strict=True):
        assert torch.equal(ours, theirs) and ours is not theirs


def test_the_first_stage_learns_humans_on_both_photos() -> None:
    made, episodes = network().train(), batch()
    images = torch.cat((episodes.query_images, episodes.support_images[:, 0]))
    truth = torch.cat((episodes.query_coarse, episodes.support_coarse[:, 0]))
    losses = made.losses(episodes, FIRST)
    assert list(losses) == ["human"]
    torch.testing.assert_close(losses["human"], functional.cross_entropy(made.human(images), truth, ignore_index=255))


def test_the_second_stage_parses_background_by_the_mean_over_all_class_ids() -> None:
    """Of the class ids 1 and 2 only 2 is shown, p = (0, 1). At F = (0, 2) A_2 = 1, and A_1 = 0 as it has no prototype.

    With w(a) = 3 a - 1, w_bg(a) = 2 a + 1 and then a - 1, times 10: classes get 10 (3 * 0 - 1) = -10 and
    10 (3 * 1 - 1) = 20, background 10 (mean(2 * 1 + 1, 2 * 0 + 1) - 1) = 10.
    """
    made = network()
    numbers = {"foreground": (3.0, -1.0), "background.0": (2.0, 1.0), "background.1": (1.0, -1.0)}
    for name, (weight, bias) in numbers.items():
        affine = made.npm.get_submodule(name)
        affine.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    prototypes = Prototypes(
        ids=torch.tensor([[1, 2]]),
        vectors=torch.tensor([[[0.0, 0.0], [0.0, 1.0]]]),
        present=torch.tensor([[False, True]]),
        ranked=torch.ones(1, 2, dtype=torch.bool),
    )
    query = torch.tensor([0.0, 2.0]).view(1, 2, 1, 1)
    logits = made.npm_logits(query, ClassPrototypes(prototypes, torch.tensor([[2]])), (1, 1))
    torch.testing.assert_close(logits.flatten(), torch.tensor([10.0, -10.0, 20.0]))


def test_without_absent_classes_a_support_is_parsed_by_those_that_it_shows() -> None:
    """Two supports, one with two classes and one with a single one: its empty slot changes nothing and wins nowhere."""
    made = network(settings=POPNetSettings(absent=False)).eval()
    features = torch.rand(2, made.backbone.width, 8, 8)
    mask = torch.full((2, 8, 8), 2)
    mask[0, :, 4:] = 5
    both = made.task(features, mask, torch.tensor([[2, 5], [2, EMPTY]]), fresh=True)
    alone = made.task(features[1:], mask[1:], torch.tensor([[2]]), fresh=True)
    assert both.prototypes.ranked.tolist() == [[True, True], [True, False]]
    for logits in (made.agm_logits, made.npm_logits):
        expected = logits(features[1:], alone, (8, 8))
        torch.testing.assert_close(logits(features, both, (8, 8))[1:, :2], expected)
    assert (made.npm_logits(features, both, (8, 8))[1, 2] == -torch.inf).all()


def test_a_class_of_another_sample_keeps_no_similarity_in_training() -> None:
    """Class 5 is remembered, but the support does not show it: its prototype is 0, as the official code has it."""
    made = network().train()
    made.memory.rows[5] = 1.0
    features = torch.rand(1, made.backbone.width, 8, 8)
    task = made.task(features, torch.full((1, 8, 8), 2), torch.tensor([[2]]), fresh=False)
    assert task.prototypes.ids[0, 4] == 5
    assert not task.prototypes.vectors[0, 4].any() and task.prototypes.vectors[0, 1].any()
    assert torch.equal(made.memory.rows[5], torch.ones(made.backbone.width))


def test_base_prototypes_are_remembered_and_mixed_at_test() -> None:
    """alpha = 3/4: a stored row of ones and a support's own p give 3/4 + p/4; a class never stored gives p."""
    made = network(settings=POPNetSettings(alpha=0.75)).eval()
    made.memory.rows[2] = 1.0
    features = torch.rand(1, made.backbone.width, 8, 8)
    mask = torch.full((1, 8, 8), 2)
    mask[:, :, 4:] = 7
    own = torch.stack([features[0, :, :, :4].mean((1, 2)), features[0, :, :, 4:].mean((1, 2))])
    vectors = made.task(features, mask, torch.tensor([[2, 7]]), fresh=False).prototypes.vectors[0, [1, 6]]
    torch.testing.assert_close(vectors, torch.stack([0.75 + 0.25 * own[0], own[1]]))


@pytest.mark.parametrize("way", WAYS)
def test_a_class_that_the_grid_loses_is_never_predicted(way: Way) -> None:
    """One pixel that is not the first of its cell of 4 x 4: no cell of the grid shows it."""
    made = network(way).eval()
    mask = blocks(2, 2, 2, 2) if way == "k" else torch.zeros(SIZE, SIZE, dtype=torch.int64)
    mask[1, 1] = 5
    classes = (2, 5) if way == "k" else (5,)
    query = made.encode(torch.rand(1, 3, SIZE, SIZE))
    scores = made.parse(query, made.adapt(support(made, mask, *classes)), (SIZE, SIZE))
    assert scores.shape == (1 + len(classes), SIZE, SIZE)
    assert (scores[-1] == -torch.inf).all() and scores[:-1].isfinite().all()


@pytest.mark.parametrize("way", WAYS)
def test_an_image_is_encoded_alike_alone_and_in_a_batch(way: Way) -> None:
    made = network(way).eval()
    images = torch.rand(3, 3, SIZE, SIZE)
    together = made.encode(images)
    for number in range(3):
        torch.testing.assert_close(made.encode(images[number, None])[0], together[number])


def test_the_weight_of_agm_falls_over_the_second_stage() -> None:
    """Epoch 10 of 50: beta = 1 - 10/50 = 0.8; without shifting 1/2."""
    assert network().logged(SECOND) == {"beta": 0.8} and network().logged(FIRST) == {}
    fixed = network(settings=POPNetSettings(weight_shift=False))
    assert fixed.logged(SECOND) == {"beta": 0.5}
    shifted = network().train().losses(batch(), SECOND)
    equal = fixed.train().losses(batch(), SECOND)
    torch.testing.assert_close(shifted["agm"] / 0.8, equal["agm"] / 0.5)
    torch.testing.assert_close(shifted["npm"] / 0.2, equal["npm"] / 0.5)


def test_a_class_without_a_row_is_refused() -> None:
    made = network().eval()
    with pytest.raises(OshpError, match=f"class {COUNT} is asked for, but this network knows class ids below {COUNT}"):
        made.adapt(support(made, blocks(COUNT, 0), COUNT))


@pytest.mark.parametrize("wrong", [{"alpha": 1.5}, {"warm_up": -1}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(OshpError, match=next(iter(wrong))):
        POPNetSettings(**wrong)  # type: ignore[arg-type]
