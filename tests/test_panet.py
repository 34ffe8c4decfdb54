"""PANet by hand: what OSHP adds to the numbers of the official code, which tests/parity/panet.py checks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_backbone import CELL, LABELS, Means, photo_of, support_of
from torch import Tensor
from torch.nn import functional

from oshp_bench.baselines.contract import Batch, Progress
from oshp_bench.baselines.panet import PANet, PANetSettings
from oshp_bench.baselines.pieces.full_size import full_size_means, spread
from oshp_bench.episodes.episodes import Way
from oshp_bench.errors import OshpError

NOW = Progress(0, 1, 0, 1)
# Features of the four cells of a support of 8 x 8 pixels, row by row.
CELLS = torch.tensor([[1.0, 0.0], [0.4, 0.6], [0.0, 1.0], [0.2, 0.2]])
SUPPORT = photo_of(CELLS)
# Class 3 in the first quarter, class 5 in the second.
MASK = torch.tensor([[3, 5], [0, 0]]).repeat_interleave(CELL, 0).repeat_interleave(CELL, 1)[None]


def method(way: Way = "k", **settings: object) -> PANet:
    return PANet(Means(), LABELS, way, replace(PANetSettings(), **settings))  # type: ignore[arg-type]


# Of a row of 8 pixels over 2 cells, bilinear interpolation gives the left cell 1, 1, 7/8, 5/8, 3/8, 1/8, 0, 0: the left
# half of the pixels weighs 3.5 on the left cell and 0.5 on the right one. A quarter of the picture weighs 12.25 on its
# own cell, 1.75 on its neighbours and 0.25 on the one across.
QUARTERS = torch.tensor(
    [[12.25, 1.75, 1.75, 0.25], [1.75, 12.25, 0.25, 1.75], [1.75, 0.25, 12.25, 1.75], [0.25, 1.75, 1.75, 12.25]]
)


def test_a_mask_weighs_cells_as_its_pixels_see_them() -> None:
    quarters = torch.eye(4).view(4, 2, 2).repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)
    torch.testing.assert_close(spread(quarters, (2, 2)).flatten(1), QUARTERS)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(13, 9), (2, 40), (5, 7)])
def test_means_at_image_size_need_no_features_at_image_size(size: tuple[int, int], align_corners: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    features = torch.rand(2, 6, 5, 7, dtype=torch.float64, generator=generator)
    masks = torch.rand(2, 3, *size, generator=generator) < 0.3
    large = functional.interpolate(features, size, mode="bilinear", align_corners=align_corners)
    wanted = (large[:, None] * masks[:, :, None]).sum((3, 4)) / (masks.sum((2, 3)) + 1e-5).clamp(min=1)[..., None]
    torch.testing.assert_close(full_size_means(features, masks, 1e-5, align_corners), wanted)


@pytest.mark.parametrize(
    ("background", "behind_3", "behind_5"),
    [("complement", (1, 2, 3), (0, 2, 3)), ("episode", (2, 3), (2, 3))],
)
def test_the_background_prototype_of_a_support_that_stands_for_all_classes(
    background: str, behind_3: tuple[int, ...], behind_5: tuple[int, ...]
) -> None:
    net = method(background=background)
    vectors = net.adapt(support_of(net, SUPPORT, MASK, (3, 5)))
    # With the complement, each class lies in the other one's background.
    behind = [(QUARTERS[list(each)].sum(0) @ CELLS) / (16 * len(each)) for each in (behind_3, behind_5)]
    wanted = torch.stack([(behind[0] + behind[1]) / 2, QUARTERS[0] @ CELLS / 16, QUARTERS[1] @ CELLS / 16])
    torch.testing.assert_close(vectors, wanted, rtol=1e-5, atol=1e-6)


def test_pixels_to_ignore_count_as_background_or_not() -> None:
    mask = MASK.clone()
    mask[:, CELL:, CELL:] = 255
    ways = torch.tensor([3, 5])
    for void, behind in (("background", 48), ("ignored", 32)):
        fore, back = method(void=void).masks(mask.expand(2, -1, -1), ways)
        assert fore.flatten(1).sum(1).tolist() == [16, 16]
        assert back.flatten(1).sum(1).tolist() == [behind, behind]
    _, back = method(void="ignored", background="episode").masks(mask.expand(2, -1, -1), ways)
    assert back.flatten(1).sum(1).tolist() == [16, 16]


def test_scores_are_scaled_cosines_and_a_class_that_is_not_there_has_0() -> None:
    net = method("1", scale=10.0)
    task = net.adapt(support_of(net, SUPPORT, MASK, (7,)))
    query = net.encode(photo_of(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [1.0, 1.0]])))
    scores = net.parse(query, task, (2, 2))
    # Nothing shows class 7, so that all four cells are background: (1.6, 1.8) / 4.
    length = (1.6**2 + 1.8**2) ** 0.5
    wanted = [1.6 / length, 1.8 / length, (0.6 * 1.6 + 0.8 * 1.8) / length, 3.4 / length / 2**0.5]
    assert scores[0].flatten().tolist() == pytest.approx([10 * each for each in wanted], rel=1e-5)
    assert not scores[1].any()
    assert net.parse(query, task, (13, 9)).shape == (2, 13, 9)


def episodes(way: Way) -> Batch:
    """Two episodes of 16 x 16 pixels, drawn alike every time: three supports and two, or one each."""
    generator = torch.Generator().manual_seed(6)
    targets = torch.tensor([[1, 2, 3], [2, 7, -1]] if way == "k" else [[2], [7]])

    def masks(*shape: int) -> Tensor:
        labels = torch.tensor([0, 1, 2, 3, 7, 255])[torch.randint(0, 6, (*shape, 4, 4), generator=generator)]
        return labels.repeat_interleave(4, -2).repeat_interleave(4, -1)

    def images(*shape: int) -> Tensor:
        return torch.rand(*shape, 3, 16, 16, generator=generator)

    padding = (targets == -1)[:, :, None, None]
    shown = masks(*targets.shape).masked_fill(padding, 255)
    query = masks(2)
    return Batch(way, images(2), query, query.clamp(max=1), images(*targets.shape), shown, shown.clamp(max=1), targets)


def mean_of(features: Tensor, mask: Tensor) -> Tensor:
    """Masked average pooling of features [C, h, w] at the mask's size, as the authors compute it."""
    large = functional.interpolate(features[None], mask.shape, mode="bilinear", align_corners=False)[0]
    return (large * mask).sum((1, 2)) / (mask.sum() + 1e-5)


def literally(net: PANet, batch: Batch, episode: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, truth and alignment loss of one episode, in so many words: one support image a class, complements."""
    query = net.encode(batch.query_images[episode][None])[0]
    ids = [each for each in batch.support_targets[episode].tolist() if each != -1]
    supports = [net.encode(batch.support_images[episode, way][None])[0] for way in range(len(ids))]
    fores = [(batch.support_masks[episode, way] == target).float() for way, target in enumerate(ids)]
    classes = [mean_of(features, fore) for features, fore in zip(supports, fores, strict=True)]
    behind = [mean_of(features, 1 - fore) for features, fore in zip(supports, fores, strict=True)]
    vectors = [torch.stack(behind).mean(0), *classes]

    def maps(features: Tensor, vectors: list[Tensor]) -> Tensor:
        return torch.stack([20 * functional.cosine_similarity(features, each[:, None, None], 0) for each in vectors])

    def large(scores: Tensor) -> Tensor:
        return functional.interpolate(scores[None], (16, 16), mode="bilinear", align_corners=False)[0]

    scores = maps(query, vectors)
    truth = torch.zeros_like(batch.query_masks[episode])
    for channel, (target, fore) in enumerate(zip(ids, fores, strict=True), 1):
        if fore.any():
            truth[batch.query_masks[episode] == target] = channel
    truth[batch.query_masks[episode] == 255] = 255
    predicted = scores.argmax(0)
    means = [(query * (predicted == c)).sum((1, 2)) / ((predicted == c).sum() + 1e-5) for c in range(1 + len(ids))]
    terms = [
        functional.cross_entropy(large(maps(supports[way], [means[0], means[1 + way]]))[None], fores[way][None].long())
        for way in range(len(ids))
        if (predicted == 1 + way).any()
    ]
    return large(scores), truth, torch.stack([*terms, query.new_zeros(())]).sum() / len(ids)


@pytest.mark.parametrize("way", ["k", "1"])
def test_training_with_one_support_a_class(way: Way) -> None:
    torch.manual_seed(2)
    net, batch = method(way), episodes(way)
    # Class 1's crop lost it; the query's pixels of it are background.
    batch.support_masks[0, 0][batch.support_masks[0, 0] == batch.support_targets[0, 0]] = 0
    assert (batch.query_masks[0] == batch.support_targets[0, 0]).any()
    assert net.supports == "each class"
    losses = net.losses(batch, NOW)
    first, second = (literally(net, batch, episode) for episode in range(2))
    counted = [(truth != 255).sum() for _, truth, _ in (first, second)]
    sums = [
        functional.cross_entropy(logits[None], truth[None], ignore_index=255, reduction="sum")
        for logits, truth, _ in (first, second)
    ]
    torch.testing.assert_close(losses["query"], (sums[0] + sums[1]) / (counted[0] + counted[1]))
    torch.testing.assert_close(losses["alignment"], (first[2] + second[2]) / 2)
    assert losses["alignment"] > 0
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    gradient = next(net.parameters()).grad
    assert gradient is not None and gradient.isfinite().all() and gradient.any()


def test_alignment_can_be_weighed_and_left_out() -> None:
    batch = episodes("k")
    whole = method().losses(batch, NOW)
    half = method(alignment=0.5).losses(batch, NOW)
    assert half["alignment"].item() == pytest.approx(whole["alignment"].item() / 2)
    assert method(alignment=0.0).losses(batch, NOW).keys() == {"query"}


def test_supports_that_show_nothing_give_finite_losses() -> None:
    batch = episodes("k")
    batch.support_masks[:] = 255
    batch.query_masks[:] = 255
    net = method()
    losses = net.losses(batch, NOW)
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    assert losses["query"].item() == 0 and losses["alignment"].isfinite()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in net.parameters())


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(OshpError, match="scale is 0"):
        PANetSettings(scale=0)
