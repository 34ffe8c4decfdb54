"""PerSAM: its steps by hand, its weights of unknown origin, and a whole run with random weights."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from oshp_bench.baselines.backbones import build_backbone
from oshp_bench.baselines.backbones.sam import SIZES, Sam
from oshp_bench.baselines.contract import Labels, Support
from oshp_bench.baselines.persam.decoder import Prompts, decoded
from oshp_bench.baselines.persam.method import PerSAM, Placement, box_of, dice, fitted_weights, focal, weighted
from oshp_bench.baselines.persam.settings import PerSAMSettings
from oshp_bench.errors import OshpError

pytest.importorskip("transformers")
TINY = SIZES["sam-tiny"]
CELLS = TINY.image // 16


@cache
def sam() -> Sam:
    """A tiny SAM with drawn weights, the same whenever it is asked for; nobody may change it."""
    torch.manual_seed(1)
    made = Sam(TINY)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made.eval()


def method(**settings: Any) -> PerSAM:
    return PerSAM(sam(), Labels(8), "1", PerSAMSettings(**settings)).eval()


def photo(seed: int, height: int, width: int) -> Tensor:
    return torch.randint(256, (1, 3, height, width), generator=torch.Generator().manual_seed(seed)) / 255


def support(made: PerSAM, mask: Tensor, target: int = 3) -> Support:
    """A photo of the mask's size, and the mask as 1-way episodes have it."""
    features = made.encode(photo(2, mask.shape[0], mask.shape[1]))
    return Support(features, mask[None], mask[None], (mask[None] > 0).long(), (target,))


def square(height: int = 60, width: int = 40, target: int = 3) -> Tensor:
    mask = torch.zeros(height, width, dtype=torch.int64)
    mask[10:40, 5:25] = target
    return mask


@torch.no_grad()
def scores(made: PerSAM, mask: Tensor, size: tuple[int, int] = (48, 64)) -> Tensor:
    return made.parse(made.encode(photo(5, *size)), made.adapt(support(made, mask)), size)


@pytest.mark.parametrize("fit", [False, True])
def test_a_query_is_parsed_at_its_size_and_alike_every_time(fit: bool) -> None:
    made = method(fit=fit, steps=3)
    first = scores(made, square())
    assert first.shape == (2, 48, 64) and first.isfinite().all() and not first[0].any()
    scores(made, square(80, 30), (30, 30))
    assert torch.equal(scores(made, square()), first)


def test_what_is_not_the_target_does_not_count() -> None:
    """Other ids and 255 are not the target."""
    mask = square()
    mask[50:] = 255
    assert torch.equal(scores(method(), mask), scores(method(), square()))


def test_a_cell_is_the_targets_if_one_of_its_four_central_pixels_is() -> None:
    """A photo of 256 x 256 fills SAM's square as it is; the centre of cell (1, 2) is where pixels 23 and 24, 39 and 40
    meet."""
    made = method()
    mask = torch.zeros(256, 256, dtype=torch.bool)
    mask[24, 39] = True
    # So much of cell (4, 4) is covered, but not its centre.
    mask[64:71, 64:80] = True
    assert made.target_cells(mask, (256, 256)).nonzero().tolist() == [[1, 2]]


def test_a_part_beside_every_centre_is_where_it_covers_most() -> None:
    """15 pixels of cell (4, 4), 16 of cell (5, 4)."""
    mask = torch.zeros(256, 256, dtype=torch.bool)
    mask[64, 64:79] = True
    mask[80, 64:80] = True
    assert method().target_cells(mask, (256, 256)).nonzero().tolist() == [[5, 4]]


def test_a_part_that_scaling_loses_is_where_its_pixels_are() -> None:
    """A quarter of the size: one pixel becomes 1/16 at most, and 0 as a byte. Pixel (700, 500) lies in the row
    700 // 4 // 16 = 10 and column 500 // 4 // 16 = 7 of cells."""
    mask = torch.zeros(1024, 768, dtype=torch.bool)
    mask[700, 500] = True
    assert method().target_cells(mask, (256, 192)).nonzero().tolist() == [[10, 7]]


def test_a_mask_read_like_a_photo_loses_what_a_quarter_of_its_centre_does_not_carry() -> None:
    """In the official code one central pixel of four gives (255/4 - 123.675)/58.395 < 0, two give more than 0."""
    mask = torch.zeros(256, 256, dtype=torch.bool)
    mask[24, 39] = True
    mask[103:105, 103] = True
    assert method().target_cells(mask, (256, 256)).nonzero().tolist() == [[1, 2], [6, 6]]
    assert method(mask="photo").target_cells(mask, (256, 256)).nonzero().tolist() == [[6, 6]]


def test_a_support_without_the_target_finds_nothing() -> None:
    made = method()
    empty = torch.zeros(60, 40, dtype=torch.int64)
    assert made.adapt(support(made, empty)) is None
    assert not scores(made, empty).any()


@pytest.mark.parametrize("fit", [False, True])
def test_a_pass_that_finds_nothing_ends_the_passes(fit: bool) -> None:
    """Without its last layer's weights every mask has the logit 0, which is not above 0."""
    made = copy.deepcopy(method(fit=fit, steps=1))
    for name, parameter in made.backbone.mask_decoder.output_hypernetworks_mlps.named_parameters():
        if "proj_out" in name:
            parameter.zero_()
    query = made.encode(photo(5, 48, 64))
    task = made.adapt(support(made, square()))
    assert task is not None
    assert len(list(made.passes(query, task, made.frame(query, (48, 64))))) == (1 if fit else 2)
    assert not scores(made, square()).argmax(0).any()


def test_the_guidance_changes_the_first_pass_alone() -> None:
    made = method()
    query = made.encode(photo(5, 48, 64))
    task = made.adapt(support(made, square()))
    assert task is not None and task.embedding is not None
    frame = made.frame(query, (48, 64))
    prompts = made.prompts(made.similarity(query, task.direction, frame), frame, negative=True)
    plain = decoded(made.backbone, query.embedding, prompts).single
    first, second, _ = made.passes(query, task, frame)
    assert not torch.allclose(first.logits, plain.logits)
    again = Prompts(prompts.points, prompts.positive, None, first.best_logits)
    assert torch.equal(decoded(made.backbone, query.embedding, again).multiple.logits, second.logits)


def test_points_are_the_most_and_the_least_similar_pixel() -> None:
    """A query of 128 x 64 is scaled by 2, so (x, y) = (3, 1) becomes (6, 2)."""
    made = method()
    similar = torch.zeros(128, 64)
    similar[1, 3], similar[100, 60] = 1.0, -1.0
    frame = Placement(256, (256, 128), (128, 64))
    prompts = made.prompts(similar, frame, negative=True)
    assert prompts.points.tolist() == [[6.0, 2.0], [120.0, 200.0]] and prompts.positive.tolist() == [1, 0]
    assert made.prompts(similar, frame, negative=False).points.tolist() == [[6.0, 2.0]]


def test_the_box_of_a_mask_has_its_first_and_last_pixel() -> None:
    mask = torch.zeros(6, 8, dtype=torch.bool)
    assert box_of(mask) is None
    mask[2, 5] = mask[4, 1] = True
    box = box_of(mask)
    assert box is not None and box.tolist() == [[1, 2], [5, 4]]


def test_dice_and_focal_loss_by_hand() -> None:
    """p = (1/2, 3/4), y = (1, 0): dice 1 - (2 * 1/2 + 1)/(5/4 + 1 + 1) = 5/13; focal the mean of
    1/4 (1/2)^2 log 2 and 3/4 (3/4)^2 log 4."""
    logits, truth = torch.tensor([1.0, 3.0]).log(), torch.tensor([True, False])
    torch.testing.assert_close(dice(logits, truth), torch.tensor(5 / 13))
    wanted = (torch.tensor(2.0).log() / 16 + 27 / 64 * torch.tensor(4.0).log()) / 2
    torch.testing.assert_close(focal(logits, truth), wanted)


def test_the_first_step_of_the_fit_by_hand() -> None:
    """AdamW's first step is lr g/(|g| + eps) beside the decay: w = 1/3 (1 - lr/100) - lr g/(|g| + 1e-4).

    The second size fits the truth and the third is its opposite, so w1 rises and w2 falls.
    """
    truth = torch.tensor([[True, False]])
    good = torch.tensor([[4.0, -4.0]])
    masks = torch.stack((torch.zeros(1, 2), good, -good))
    steps = fitted_weights(masks, truth, 1, 0.1)
    weights = torch.full((2,), 1 / 3, requires_grad=True)
    mixed = weights[0] * good[0] - weights[1] * good[0]
    (gradient,) = torch.autograd.grad(dice(mixed[None], truth) + focal(mixed[None], truth), weights)
    assert gradient[0] < 0 < gradient[1]
    wanted = 1 / 3 * (1 - 0.1 / 100) - 0.1 * gradient / (gradient.abs() + 1e-4)
    torch.testing.assert_close(steps, torch.stack((torch.full((2,), 1 / 3), wanted)))


def test_the_weighted_mask_by_hand() -> None:
    """w = (0.5, 0.2): 0.3 * 1 + 0.5 * 2 + 0.2 * 4 = 2.1."""
    made = method()
    query = made.encode(photo(5, 48, 64))
    prompts = Prompts(torch.tensor([[10.0, 10.0]]), torch.tensor([1]))
    masks = decoded(made.backbone, query.embedding, prompts).multiple
    same = replace(masks, logits=torch.ones_like(masks.logits) * torch.tensor([1.0, 2.0, 4.0])[:, None, None])
    torch.testing.assert_close(weighted(same, torch.tensor([0.5, 0.2])).logits, torch.full((1, 1, 64, 64), 2.1))


def test_nothing_of_sam_is_trained() -> None:
    made = method(fit=True, steps=2)
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    scores(made, square())
    assert made.stages == 0 and not [each for each in made.parameters() if each.requires_grad]
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict().items())


def test_another_backbone_is_refused() -> None:
    with pytest.raises(OshpError, match="persam parses with SAM only: oshp-train --method persam"):
        PerSAM(build_backbone("efficientnet-lite0", pretrained=False), Labels(8), "1", PerSAMSettings())


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(OshpError) as caught:
        build_backbone("sam-tiny", pretrained=False)
    assert str(caught.value) == "SAM needs transformers: run pip install '.[hub]' in a clone of oshp-bench"


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"lr": 0.0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(OshpError, match=next(iter(wrong))):
        PerSAMSettings(**wrong)  # type: ignore[arg-type]
