"""SG-One by hand: what OSHP adds to the numbers of the official code, which tests/parity/sg_one.py checks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_backbone import CELL, LABELS, Means, photo_of, support_of
from torch import Tensor, nn
from torch.nn import functional

from oshp_bench.baselines.backbones import build_backbone
from oshp_bench.baselines.backbones.vgg16 import VGG16
from oshp_bench.baselines.contract import Batch, Progress
from oshp_bench.baselines.sg_one import BranchFeatures, Representatives, SGOne, SGOneSettings
from oshp_bench.episodes.episodes import Way
from oshp_bench.errors import OshpError

NOW = Progress(0, 1, 0, 1)
PHOTO = photo_of(torch.tensor([[1.0, 0.0], [0.4, 0.6], [0.0, 1.0], [0.2, 0.2]]))
MASK = torch.tensor([[3, 5], [0, 0]]).repeat_interleave(CELL, 0).repeat_interleave(CELL, 1)[None]


def method(way: Way = "k", **settings: Any) -> SGOne:
    torch.manual_seed(1)
    return SGOne(Means(), LABELS, way, SGOneSettings(**settings))


def counting(net: SGOne) -> None:
    """Lets the head vote by hand: background gets 3 - g, the class 2 g, where g is the first guided channel."""
    first, last = net.classify[0], net.classify[2]
    assert isinstance(first, nn.Conv2d) and isinstance(last, nn.Conv2d) and last.bias is not None
    for parameter in (*first.parameters(), *last.parameters()):
        nn.init.zeros_(parameter)
    with torch.no_grad():
        first.weight[0, 0, 1, 1] = 1
        last.weight[:, 0, 0, 0] = torch.tensor([-1.0, 2.0])
        last.bias.copy_(torch.tensor([3.0, 0.0]))


def test_each_class_is_parsed_alone_and_background_is_the_mean_of_their_votes() -> None:
    net = method()
    counting(net)
    # One cell; its guidance (3, 4) has cosines 0.6, 0.8 and 1 with the classes', its segmentation is 10 and 0.
    query = BranchFeatures(
        torch.tensor([3.0, 4.0]).view(1, 2, 1, 1), functional.pad(torch.tensor([10.0]), (0, 127)).view(1, 128, 1, 1)
    )
    vectors = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [0.3, 0.4]]])
    yes = torch.ones(1, 3, dtype=torch.bool)
    logits = net.logits(query, Representatives(vectors, yes, yes))
    # Guided by 6, 8 and 10: background is the mean of -3, -5 and -7.
    assert logits.flatten().tolist() == pytest.approx([-5, 12, 16, 20], rel=1e-5)
    two = net.logits(query, Representatives(vectors, yes, torch.tensor([[True, True, False]])))
    assert two.flatten()[:3].tolist() == pytest.approx([-4, 12, 16], rel=1e-5)


def test_one_class_of_several_is_parsed_as_it_would_be_alone() -> None:
    net = method()
    query = net.encode(photo_of(torch.rand(4, 2)))
    both = net.logits(query, net.adapt(support_of(net, PHOTO, MASK, (3, 5))))
    alone = [net.logits(query, net.adapt(support_of(net, PHOTO, MASK, (each,)))) for each in (3, 5)]
    torch.testing.assert_close(both[:, 1:], torch.cat([each[:, 1:] for each in alone], 1))
    torch.testing.assert_close(both[:, 0], (alone[0][:, 0] + alone[1][:, 0]) / 2)


def test_parsing_shares_what_the_head_makes_of_the_query_and_gives_the_same() -> None:
    net = method()
    queries = [net.encode(photo_of(torch.rand(4, 2))) for _ in range(2)]
    tasks = [net.adapt(support_of(net, PHOTO, MASK, classes)) for classes in ((3, 5), (5,), (3, 5, 7))]
    for query in queries:
        for task in tasks:
            wanted = functional.interpolate(net.logits(query, task), (9, 7), mode="bilinear")[0]
            torch.testing.assert_close(net.parse(query, task, (9, 7)), wanted)


def test_a_class_that_the_support_does_not_show_guides_nowhere() -> None:
    net = method("1")
    task = net.adapt(support_of(net, PHOTO, MASK, (7,)))
    assert not task.vectors.any() and not task.present.any()
    scores = net.parse(net.encode(PHOTO), task, (13, 9))
    assert scores.shape == (2, 13, 9)
    # Nothing is guided, and the head sees zeros.
    counting(net)
    scores = net.parse(net.encode(PHOTO), task, (13, 9))
    torch.testing.assert_close(scores, torch.tensor([3.0, 0.0])[:, None, None].expand(2, 13, 9))


def batch(way: Way) -> Batch:
    generator = torch.Generator().manual_seed(5)
    targets = torch.tensor([[2], [7]] if way == "1" else [[0], [0]])
    labels = torch.tensor([[[0, 1], [2, 255]], [[3, 7], [0, 0]]]).repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)
    shown = torch.tensor([[[1, 3], [2, 0]], [[0, 3], [0, 255]]]).repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)
    images = torch.rand(2, 2, 3, 8, 8, generator=generator)
    return Batch(way, images[0], labels, labels, images[1][:, None], shown[:, None], shown[:, None], targets)


def test_k_way_training_asks_for_the_classes_of_each_support() -> None:
    net, episodes = method(), batch("k")
    loss = net.losses(episodes, NOW)["query"]
    total, pixels = torch.zeros(()), 0
    for number, classes, truth in (
        # The first support shows 1, 2 and 3: the query's 1 and 2 are channels 1 and 2.
        (0, (1, 2, 3), [[0, 1], [2, 255]]),
        # The second shows 3 alone: the query's 7 is background.
        (1, (3,), [[1, 0], [0, 0]]),
    ):
        task = net.adapt(support_of(net, episodes.support_images[number], episodes.support_masks[number], classes))
        scores = net.parse(net.encode(episodes.query_images[number][None]), task, (8, 8))
        wanted = torch.tensor(truth).repeat_interleave(CELL, 0).repeat_interleave(CELL, 1)
        total = total + functional.cross_entropy(scores[None], wanted[None], ignore_index=255, reduction="sum")
        pixels += int((wanted != 255).sum())
    torch.testing.assert_close(loss, total / pixels)


def test_a_target_that_the_supports_crop_lost_is_background() -> None:
    net, episodes = method("1"), batch("1")
    loss = net.losses(episodes, NOW)["query"]
    torch.autograd.backward(loss)
    # The second support does not show class 7, which its query does.
    assert (episodes.query_masks[1] == 7).any()
    task = net.task(net.encode(episodes.support_images[:, 0]), episodes.support_masks[:, 0], episodes.support_targets)
    assert task.present.tolist() == [[True], [False]]
    logits = functional.interpolate(net.logits(net.encode(episodes.query_images), task), (8, 8), mode="bilinear")
    truth = torch.where(episodes.query_masks == 255, 255, (episodes.query_masks == 2).long())
    torch.testing.assert_close(loss, functional.cross_entropy(logits, truth, ignore_index=255))
    assert all(each.grad is None or each.grad.isfinite().all() for each in net.parameters())


def test_the_original_branches_want_three_levels_at_one_stride() -> None:
    assert SGOne(VGG16("sg-one"), LABELS, "1", SGOneSettings("levels")).branches.guidance.in_channels == 512
    with pytest.raises(OshpError, match="last three levels do not have one stride; take vgg16-sg-one, or"):
        SGOne(build_backbone("efficientnet-lite0", pretrained=False), LABELS, "1", SGOneSettings("levels"))


@pytest.mark.parametrize("branches", ["embedding", "levels"])
def test_every_parameter_is_trained_once_at_its_own_rate(branches: Any) -> None:
    net = SGOne(VGG16("sg-one", width=24), LABELS, "k", SGOneSettings(branches))
    groups = net.parameter_groups(0)
    assert [group.lr_scale for group in groups] == [1, 2, 10, 20]
    trained = [parameter for group in groups for parameter in group.parameters]
    assert len(trained) == len(set(trained)) == len(list(net.parameters()))
    guidance = net.branches.guidance
    assert groups[2].parameters == (guidance.weight,) and groups[3].parameters == (guidance.bias,)
    (alike,) = SGOne(VGG16("sg-one"), LABELS, "k", SGOneSettings(branches, multiples=False)).parameter_groups(0)
    assert alike.lr_scale == 1


def test_a_frame_that_sees_nothing_shrinks_the_logits() -> None:
    plain, framed = method(), method(framed=True)
    framed.load_state_dict(plain.state_dict())
    query, task = plain.encode(PHOTO), plain.adapt(support_of(plain, PHOTO, MASK, (3,)))
    inner: Tensor = framed.logits(query, task)
    assert inner.shape[2:] == (4, 4)
    torch.testing.assert_close(inner[:, :, 1:-1, 1:-1], plain.logits(query, task))
    last = framed.classify[2]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    torch.testing.assert_close(inner[0, :, 0, 0], last.bias)
