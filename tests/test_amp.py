"""AMP: what OSHP adds to it by hand: several novel rows, classes that are not asked for, refinement on the query."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from ladder import SIZE, Ladder, batch, stripes
from torch import Tensor

from oshp_bench.baselines.amp import AMP, AMPSettings, Depths, imprinted, proxies, row_numbers
from oshp_bench.baselines.contract import Labels, Progress, Support
from oshp_bench.errors import OshpError

# Base classes 1 and 2 have rows 1 and 2; 5 and 7 are novel.
LABELS = Labels(8, (1, 2))
START = Progress(0, 1, 0, 1)


def network(**settings: Any) -> AMP:
    """An AMP whose embedding is the photo at stride 2, as all of its levels are."""
    torch.manual_seed(3)
    net = AMP(Ladder(), LABELS, "k", AMPSettings(**{"width": 3, "refine": False} | settings))
    torch.nn.init.dirac_(net.embed.weight)
    torch.nn.init.zeros_(net.embed.get_parameter("bias"))
    return net.eval()


def photo(*columns: tuple[float, float, float]) -> Tensor:
    """A photo [1, 3, SIZE, SIZE] of upright stripes of these colours."""
    return torch.tensor(columns).T.repeat_interleave(SIZE // len(columns), 1)[None, :, None].expand(-1, -1, SIZE, -1)


def support_of(net: AMP, whole: Tensor, classes: tuple[int, ...], image: Tensor) -> Support:
    mask = torch.where(torch.isin(whole, torch.tensor([*classes, 255])), whole, 0)[None]
    return Support(net.encode(image), mask, whole[None], (mask > 0).long(), classes)


def test_a_proxy_is_the_mean_over_the_pixels_of_a_label() -> None:
    features = torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)
    # Four pixels take the cells 0 0 1 1. Label 1: (1 + 3 + 3) / 3; label 0: 1; label 2 has no pixel.
    means = proxies(features, torch.tensor([[[1, 0, 1, 1]]]), 3)
    assert means.flatten().tolist() == pytest.approx([1.0, 7 / 3, 0.0])
    # 255 counts for nobody.
    means = proxies(features, torch.tensor([[[1, 255, 1, 0]]]), 2)
    assert means.flatten().tolist() == pytest.approx([3.0, 2.0])


def test_an_image_without_a_label_counts_as_zero_in_its_mean_over_images() -> None:
    features = torch.tensor([1.0, 3.0, 5.0, 7.0]).view(2, 1, 1, 2)
    means = proxies(features, torch.tensor([[[0, 1]], [[0, 0]]]), 2)
    assert means.flatten().tolist() == pytest.approx([(1 + 6) / 2, (3 + 0) / 2])


@pytest.mark.slow
def test_a_single_pixel_that_no_cell_would_take_still_makes_a_proxy() -> None:
    features = torch.rand(1, 4, 8, 8)
    labels = torch.zeros(1, 64, 64, dtype=torch.int64)
    labels[0, 37, 61] = 1
    torch.testing.assert_close(proxies(features, labels, 2)[1], features[0, :, 4, 7])


def test_imprinting_moves_background_and_what_is_shown_and_appends_all_new_rows_at_once() -> None:
    # One channel pair a cell: cells of background, class 1, novel 3 and novel 4. Class 2 is not shown.
    features = torch.tensor([[2.0, 0.0], [0.0, 4.0], [3.0, 4.0], [5.0, 0.0]]).T.view(1, 2, 1, 4)
    rows = torch.tensor([[0.0, 2.0], [6.0, 0.0], [7.0, 7.0]])
    depths: Depths = (rows, rows, rows)
    (got, *_), shown = imprinted(depths, (features,) * 3, torch.tensor([[[0, 1, 3, 4]]]), 2, alpha=0.5)
    # Row 0: (0, 1) + (1, 0) = (1, 1), of length 1; row 1: (3, 0) + (0, 2) = (3, 2); row 2 stays as it is.
    root = 13**0.5
    wanted = [[0.5**0.5, 0.5**0.5], [3 / root, 2 / root], [7.0, 7.0], [0.6, 0.8], [1.0, 0.0]]
    torch.testing.assert_close(got, torch.tensor(wanted))
    assert shown.tolist() == [True, True, False, True, True]


def test_a_new_row_does_not_depend_on_the_others_and_a_missing_one_is_zero() -> None:
    torch.manual_seed(1)
    features: Depths = (torch.rand(1, 3, 4, 4), torch.rand(1, 5, 4, 4), torch.rand(1, 3, 4, 4))
    rows: Depths = (torch.rand(2, 3), torch.rand(2, 5), torch.rand(2, 3))
    labels = torch.tensor([[0, 1, 2, 3]]).expand(4, -1)[None]
    both, _ = imprinted(rows, features, labels, 2, 0.3)
    for new, alone in ((2, torch.where(labels == 3, 255, labels)), (3, torch.where(labels == 2, 255, labels))):
        single, _ = imprinted(rows, features, torch.where(alone == 3, 2, alone), 1, 0.3)
        for together, one in zip(both, single, strict=True):
            assert torch.equal(together[[0, 1, new]], one)
    missing, shown = imprinted(rows, features, labels.clamp(max=2), 2, 0.3)
    assert not missing[1][3].any() and shown.tolist() == [True, True, True, False]


def test_rows_and_proxies_of_length_1_are_mixed_for_cosines() -> None:
    features = torch.tensor([[0.0, 5.0], [9.0, 0.0]]).T.view(1, 2, 1, 2)
    rows = torch.tensor([[2.0, 0.0]])
    (got, *_), _ = imprinted((rows,) * 3, (features,) * 3, torch.tensor([[[0, 1]]]), 1, alpha=0.5, unit=True)
    torch.testing.assert_close(got, torch.tensor([[0.5**0.5, 0.5**0.5], [1.0, 0.0]]))


def test_logits_of_cosines_are_their_sum_over_the_depths_times_the_factor() -> None:
    net = network(cosine=True)
    with torch.no_grad():
        features = net.encode(torch.rand(1, 3, 4, 4))
        rows: Depths = (torch.rand(2, 3), torch.rand(2, 3), torch.rand(2, 3))
        cosines = [
            torch.nn.functional.cosine_similarity(feature, depth[1][None, :, None, None])
            for feature, depth in zip(features, rows, strict=True)
        ]
        torch.testing.assert_close(net.logits(features, rows)[:, 1], 20 * torch.stack(cosines).sum(0))


def test_masks_become_row_numbers() -> None:
    masks = torch.tensor([[[0, 2, 5, 1, 7, 255]]])
    assert row_numbers(masks, (1, 2)).tolist() == [[[0, 2, 0, 1, 0, 255]]]
    assert row_numbers(masks, (1, 2, 7)).tolist() == [[[0, 2, 0, 1, 3, 255]]]


def test_asked_classes_get_their_rows_and_the_best_other_row_is_background() -> None:
    net, whole = network(), stripes(1, 2, 5, 7)
    image = photo((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.5, 0.5, 0.0))
    with torch.no_grad():
        task = net.adapt(support_of(net, whole, (2, 5, 7), image))
        query = net.encode(photo((1.0, 0.0, 0.0), (0.0, 0.0, 1.0)))
        scores = net.parse(query, task, (SIZE, SIZE))
        logits = net.at_size(net.logits(query, task.rows), (SIZE, SIZE))[0]
    assert task.asked == (2, 3, 4) and task.novel == (3, 4)
    # Rows 0 (background) and 1 (a base class that is not asked for) are the others.
    assert torch.equal(scores, torch.stack((logits[:2].amax(0), *logits[2:])))
    # Novel rows are the colours of their stripes, at every depth.
    torch.testing.assert_close(task.rows[0][3], torch.tensor([0.0, 0.0, 1.0]))
    torch.testing.assert_close(task.rows[2][4], torch.tensor([0.5, 0.5, 0.0]) * 2**0.5)
    net.settings = replace(net.settings, others="absent")
    with torch.no_grad():
        assert torch.equal(net.parse(query, task, (SIZE, SIZE)), logits[[0, 2, 3, 4]])


def test_what_is_not_asked_for_is_imprinted_or_background() -> None:
    image = photo((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.5, 0.5, 0.0))
    with torch.no_grad():
        whole, asked = (network(imprints=each) for each in ("whole", "asked"))
        tasks = [net.adapt(support_of(net, stripes(1, 2, 5, 7), (5,), image)) for net in (whole, asked)]
    before = whole.rows()[0]
    # Novel class 7 is background for either; base classes 1 and 2 move, or are background, too.
    assert [not torch.equal(task.rows[0][1], before[1]) for task in tasks] == [True, False]
    assert [task.rows[0].shape[0] for task in tasks] == [4, 4]
    torch.testing.assert_close(tasks[0].rows[0][3], tasks[1].rows[0][3])
    assert not torch.equal(tasks[0].rows[0][0], tasks[1].rows[0][0])


def test_a_novel_class_without_a_pixel_is_never_predicted_and_a_base_class_keeps_its_row() -> None:
    net = network()
    with torch.no_grad():
        task = net.adapt(support_of(net, stripes(1, 1, 0, 0), (2, 5), photo((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))))
        scores = net.parse(net.encode(torch.rand(1, 3, SIZE, SIZE)), task, (SIZE, SIZE))
    assert torch.equal(task.rows[1][2], net.rows()[1][2])
    assert scores[:2].isfinite().all() and scores[2].isneginf().all()


def test_the_classifiers_are_as_before_after_any_support() -> None:
    net = network(refine=True)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with torch.no_grad():
        support = support_of(net, stripes(1, 2, 5, 7), (1, 5, 7), torch.rand(1, 3, SIZE, SIZE))
        query = net.encode(torch.rand(1, 3, SIZE, SIZE))
        first = net.parse(query, net.adapt(support), (SIZE, SIZE))
        assert torch.equal(net.parse(query, net.adapt(support), (SIZE, SIZE)), first)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_refinement_by_hand() -> None:
    net = network(refine=True, refine_above=0.5)
    with torch.no_grad():
        image = photo((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.5, 0.5, 0.0))
        task = net.adapt(support_of(net, stripes(0, 0, 5, 0), (5,), image))
        query = net.encode(photo((0.0, 0.0, 4.0), (0.0, 2.0, 0.0)))
        labels, first, second = net.refined(query, task, (SIZE, SIZE))
        probability = net.logits(query, task.rows).softmax(1)[0, 3, 0]
        # The blue half is surely class 5, in row 3; the green half is not.
        assert probability[0] > 0.5 > probability[-1]
        assert labels[0, 0].tolist() == [3] * 16 + [0] * 16
        row, background = task.rows[0][3], task.rows[0][0]
        moved = 0.9 * row + 0.1 * torch.tensor([0.0, 0.0, 4.0])
        torch.testing.assert_close(first[0][3], moved / moved.norm())
        step = 0.9 * background + 0.1 * torch.tensor([0.0, 2.0, 0.0])
        step = step / step.norm()
        torch.testing.assert_close(first[0][0], step)
        # Then all of it is background: its mean is (0, 1, 2).
        step = 0.9 * step + 0.1 * torch.tensor([0.0, 1.0, 2.0])
        torch.testing.assert_close(second[0][0], step / step.norm())
        assert torch.equal(second[0][1:], first[0][1:])


def test_without_a_novel_class_there_is_nothing_to_refine() -> None:
    image, scores = torch.rand(1, 3, SIZE, SIZE), []
    for net in (network(refine=True), network()):
        with torch.no_grad():
            task = net.adapt(support_of(net, stripes(1, 2, 5, 7), (1, 2), image))
            scores.append(net.parse(net.encode(image), task, (SIZE, SIZE)))
    assert torch.equal(*scores)


def test_training_shows_queries_and_supports_with_novel_classes_as_background() -> None:
    net, episodes = network(dropout=0.0), batch("k")
    loss = net.losses(episodes, START)["classes"]
    images = torch.cat((episodes.query_images, episodes.support_images[:, 0]))
    masks = torch.cat((episodes.query_masks, episodes.support_masks[:, 0]))
    logits = net.at_size(net.logits(net.encode(images), net.rows()), (SIZE, SIZE))
    truth = torch.where((masks == 1) | (masks == 2) | (masks == 255), masks, 0)
    wanted = torch.nn.functional.cross_entropy(logits, truth, ignore_index=255)
    torch.testing.assert_close(loss, wanted)


def test_human_pixels_without_a_base_class_may_be_ignored() -> None:
    net, episodes = network(dropout=0.0, novel="ignored"), batch("k")
    hidden = replace(
        episodes,
        query_masks=torch.where((episodes.query_masks == 5) | (episodes.query_masks == 7), 255, episodes.query_masks),
        support_masks=torch.where(episodes.support_masks > 2, 255, episodes.support_masks),
    )
    losses = [each.losses(hidden, START)["classes"] for each in (net, network(dropout=0.0))]
    torch.testing.assert_close(net.losses(episodes, START)["classes"], losses[1])
    torch.testing.assert_close(*losses)


def test_the_way_of_a_batch_changes_nothing_in_training() -> None:
    losses = [network(dropout=0.0).losses(batch(way), START)["classes"].item() for way in ("k", "1")]
    assert losses[0] == losses[1]


def test_base_classes_have_to_be_known() -> None:
    with pytest.raises(OshpError, match="manifest"):
        AMP(Ladder(), Labels(8), "k", AMPSettings())
