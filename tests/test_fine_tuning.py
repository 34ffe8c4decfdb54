"""Fine-tuning: what it learns from a support, pixel by pixel, and that no pair leaves a trace."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from eopnet_cases import COUNT, SIZE, WIDTH, Strided, batch, blocks
from torch import Tensor, nn
from torch.nn import functional

from oshp_bench.baselines.contract import Labels, Progress, Support
from oshp_bench.baselines.fine_tuning import FineTuning, FineTuningSettings
from oshp_bench.errors import OshpError

START = Progress(0, 50, 0, 100)
QUICK = FineTuningSettings(steps=3, lr=0.1)


def network(settings: FineTuningSettings = QUICK) -> FineTuning:
    """The same network whenever it is asked for; its batch norms have seen something."""
    torch.manual_seed(1)
    made = FineTuning(Strided(), Labels(COUNT), "1", settings)
    made.head(torch.rand(2, WIDTH, 8, 8))
    return made.eval()


def photo(seed: int, size: int = SIZE) -> Tensor:
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(seed))


def support(made: FineTuning, mask: Tensor, target: int = 2, seed: int = 3) -> Support:
    with torch.no_grad():
        features = made.encode(photo(seed))
    mask = torch.where((mask == target) | (mask == 255), mask, 0)[None]
    return Support(features, mask, mask, mask, (target,))


def scores(made: FineTuning, mask: Tensor, target: int = 2, seed: int = 3) -> Tensor:
    """As inference calls it: without gradients."""
    with torch.no_grad():
        task = made.adapt(support(made, mask, target, seed))
        return made.parse(made.encode(photo(5)), task, (SIZE, SIZE))


def tuned_slowly(made: FineTuning, given: Support, steps: int, lr: float, momentum: float) -> nn.Module:
    """The same by hand: logits repeated over the pixels of every cell, and SGD written out."""
    head = copy.deepcopy(made.head)
    layers = [layer for layer in head.modules() if isinstance(layer, nn.Conv2d)]
    weights = [parameter for layer in layers for parameter in layer.parameters()]
    velocity = [torch.zeros_like(weight) for weight in weights]
    for _ in range(steps):
        logits = functional.interpolate(head(given.features), (SIZE, SIZE), mode="nearest")
        gradients = torch.autograd.grad(functional.cross_entropy(logits, given.mask, ignore_index=255), weights)
        for weight, speed, gradient in zip(weights, velocity, gradients, strict=True):
            speed.mul_(momentum).add_(gradient)
            weight.data.sub_(lr * speed)
    return head


def test_a_support_is_learned_as_written_out_by_hand() -> None:
    made = network()
    given = support(made, blocks(2, 1, 255, 7))
    task = made.adapt(given)
    slow = tuned_slowly(made, given, 3, 0.1, 0.9)
    assert task.row == 2
    for name, tensor in slow.state_dict().items():
        torch.testing.assert_close(task.head.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)
    moved = [
        name for name, tensor in made.head.state_dict().items() if not torch.equal(tensor, slow.state_dict()[name])
    ]
    assert moved == [
        *(f"convs.{number}.{layer}.weight" for number in (0, 1) for layer in ("depthwise", "pointwise")),
        "classify.weight",
        "classify.bias",
    ]


def test_predictions_of_a_pair_do_not_depend_on_the_pairs_before_it() -> None:
    made = network()
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    first = scores(made, blocks(2, 1, 0, 7))
    scores(made, blocks(7, 7, 1, 2), target=7, seed=8)
    assert torch.equal(scores(made, blocks(2, 1, 0, 7)), first)
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict().items())
    assert all(parameter.grad is None for parameter in made.parameters())


def test_a_target_is_parsed_where_its_logit_is_above_all_others() -> None:
    """Rows of three classes and background at two cells; the target is 2: max(3, 1, 0) = 3 and max(0, 5, 1) = 5."""
    made = network()
    task = made.adapt(support(made, blocks(2, 1, 0, 7)))
    logits = torch.tensor([[3.0, 0.0], [1.0, 5.0], [4.0, 2.0], [0.0, 1.0]]).T.reshape(1, 2, 1, 4).permute(0, 3, 2, 1)
    task.head.convs, task.head.classify = nn.Sequential(), nn.Conv2d(4, 4, 1)
    nn.init.dirac_(task.head.classify.weight)
    nn.init.zeros_(task.head.classify.bias)  # type: ignore[arg-type]
    assert torch.equal(made.parse(logits, task, (1, 2)), torch.tensor([[[3.0, 5.0]], [[4.0, 2.0]]]))


def test_a_part_of_one_pixel_is_learned() -> None:
    """A pixel that no nearest neighbour of the grid of 8 x 8 cells picks: the first pixel of every cell."""
    made = network(replace(QUICK, steps=30))
    mask = torch.zeros(SIZE, SIZE, dtype=torch.int64)
    without = scores(made, mask)
    mask[9, 9] = 2
    assert (scores(made, mask)[1] - scores(made, mask)[0] > without[1] - without[0]).all()


def test_a_support_without_a_known_pixel_changes_nothing() -> None:
    made = network()
    task = made.adapt(support(made, torch.full((SIZE, SIZE), 255)))
    for name, tensor in made.head.state_dict().items():
        assert torch.equal(task.head.state_dict()[name], tensor)


def test_pre_training_learns_both_photos_of_an_episode() -> None:
    made, episodes = network().train(), batch("1")
    images = torch.cat((episodes.query_images, episodes.support_images[:, 0]))
    truth = torch.cat((episodes.query_masks, episodes.support_masks[:, 0]))
    logits = functional.interpolate(made.head(made.backbone(images)), (SIZE, SIZE), mode="bilinear", align_corners=True)
    losses = made.losses(episodes, START)
    assert list(losses) == ["classes"]
    torch.testing.assert_close(losses["classes"], functional.cross_entropy(logits, truth, ignore_index=255))


def test_pre_training_on_the_target_learns_one_way_masks() -> None:
    """Targets of the two episodes are 2 and 7; everything else is background, and 255 stays."""
    made, episodes = network(replace(QUICK, pretraining="target")).train(), batch("1")
    assert made.head.classify.out_channels == 2
    images = torch.cat((episodes.query_images, episodes.support_images[:, 0]))
    columns = [(0, 1, 0, 255), (0, 0, 0, 1), (1, 0, 0, 0), (1, 0, 0, 0)]
    logits = functional.interpolate(made.head(made.backbone(images)), (SIZE, SIZE), mode="bilinear", align_corners=True)
    wanted = functional.cross_entropy(logits, torch.stack([blocks(*each) for each in columns]), ignore_index=255)
    torch.testing.assert_close(made.losses(episodes, START)["target"], wanted)
    assert made.eval().adapt(support(made, blocks(7, 1, 0, 0), target=7)).row == 1


def test_more_steps_fit_the_support_better() -> None:
    mask = blocks(2, 2, 0, 0)
    fits = []
    for steps in (0, 5, 50):
        made = network(replace(QUICK, steps=steps))
        given = support(made, mask)
        logits = functional.interpolate(made.adapt(given).head(given.features), (SIZE, SIZE), mode="nearest")
        fits.append(functional.cross_entropy(logits, given.mask).item())
    assert fits[0] > fits[1] > fits[2]


def test_a_class_without_a_row_is_refused() -> None:
    made = network()
    with pytest.raises(OshpError, match=f"class {COUNT} is asked for, but this network knows class ids below {COUNT}"):
        made.adapt(support(made, blocks(COUNT, 0), target=COUNT))


@pytest.mark.parametrize("wrong", [{"steps": -1}, {"lr": 0.0}, {"momentum": 1.0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(OshpError, match=next(iter(wrong))):
        FineTuningSettings(**wrong)  # type: ignore[arg-type]
