"""PerSAM and PerSAM-F on a tiny SAM, against the official scripts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oshp_bench.baselines.backbones.sam import Sam, SamSize, named_as_ours
from oshp_bench.baselines.backbones.weights import load_state
from oshp_bench.baselines.contract import Labels, Support
from oshp_bench.baselines.persam.decoder import Masks, decoded
from oshp_bench.baselines.persam.method import (
    EmbeddedPhoto,
    PerSAM,
    Placement,
    Target,
    box_of,
    dice,
    fitted_weights,
    focal,
)
from oshp_bench.baselines.persam.settings import PerSAMSettings
from parity.recorded import Recorded, assert_near, photo


@dataclass(frozen=True)
class Tolerances:
    """How far from the recorded numbers is near enough; pixels whose logit is nearer to 0 than `unsure` may differ."""

    logits: float
    refined: float
    rest: float
    weights: float
    unsure: float


TOLERANCES = {
    torch.float64: Tolerances(1e-8, 1e-8, 1e-8, 1e-8, 0.0),
    torch.float32: Tolerances(1e-4, 1e-3, 1e-5, 1e-6, 1e-4),
}


@torch.no_grad()
def check(recorded: Recorded, case: Mapping[str, Any], precision: torch.dtype) -> None:
    """Computes what a case recorded."""
    near, inputs, outputs, told = TOLERANCES[precision], case["inputs"], case["outputs"], case["settings"]
    method = PerSAM(_sam(recorded).to(precision), Labels(2), "1", _settings(told))
    reference, query = (method.encode(photo(inputs[name][None], precision)) for name in ("reference", "query"))
    assert_near("reference embedding", reference.embedding, outputs["reference_embedding"], near.rest)
    assert_near("query embedding", query.embedding, outputs["query_embedding"], near.rest)

    mask = inputs["reference_mask"].long()
    cells = method.target_cells(mask > 0, reference.fitted)
    assert torch.equal(cells.long(), outputs["target_cells"].long())
    if told["fallback_cell"] is not None:
        assert cells.nonzero().tolist() == [list(told["fallback_cell"])]
    task = method.adapt(Support(reference, mask[None], mask[None], mask[None], (1,)))
    assert task is not None
    frame = method.frame(query, (inputs["query"].shape[1], inputs["query"].shape[2]))
    similar = method.similarity(query, task.direction, frame)
    assert_near("similarity", similar[None, None], outputs["similarity"], near.rest)
    fit = task.weights is not None
    prompts = method.prompts(similar, frame, negative=not fit)
    points = outputs["point"][None] if fit else outputs["points"]
    assert torch.allclose(prompts.points, frame.inside(points.to(precision)))
    plain = decoded(method.backbone, query.embedding, prompts)
    assert_near("plain logits", plain.logits, outputs["plain_low_res"], near.logits)
    assert_near("plain IoU", plain.iou, outputs["plain_iou"], near.rest)
    if fit:
        _check_fit(method, reference, task, mask > 0, case, near)
        assert_near("first logits", plain.multiple.logits, outputs["first_low_res"], near.logits)
    else:
        assert prompts.positive.tolist() == outputs["labels"].tolist()
        assert task.embedding is not None
        assert_near("target embedding", task.embedding, outputs["target_embedding"], near.rest)
        attention = method.attention(similar).view_as(outputs["attention_guidance"])
        assert_near("attention", attention, outputs["attention_guidance"], near.rest)
    _check_passes(list(method.passes(query, task, frame)), fit, frame, outputs, near)

    scores = method.parse(query, task, frame.size)
    assert_near("final logits", scores[1][None, None], outputs["final_logits"], near.refined)
    sure = scores[1].abs() >= near.unsure
    assert torch.equal(scores.argmax(0)[sure], outputs["final_mask"].long()[sure])


def _check_passes(
    passes: list[Masks], fit: bool, frame: Placement, outputs: Mapping[str, Any], near: Tolerances
) -> None:
    first, second, third = passes
    if fit:
        assert_near("weighted logits", first.logits, outputs["weighted_low_res"], near.logits)
    else:
        _check_pass("first", first, outputs, near.logits, near.rest)
    _check_pass("refine1", second, outputs, near.refined, near.rest)
    _check_pass("refine2", third, outputs, near.refined, near.rest)
    for name, masks in {"box1": first, "box2": second}.items() if fit else [("box", second)]:
        box = box_of(frame.original(masks.best_logits)[0, 0] > 0)
        assert box is not None and box.flatten().tolist() == outputs[name].tolist(), name


def _check_fit(
    method: PerSAM, reference: EmbeddedPhoto, task: Target, truth: Tensor, case: Mapping[str, Any], near: Tolerances
) -> None:
    outputs, told = case["outputs"], case["settings"]
    frame = method.frame(reference, (truth.shape[0], truth.shape[1]))
    similar = method.similarity(reference, task.direction, frame)
    assert_near("reference similarity", similar[None, None], outputs["reference_similarity"], near.rest)
    prompts = method.prompts(similar, frame, negative=False)
    assert torch.allclose(prompts.points[0], frame.inside(outputs["reference_point"].to(similar)))
    sizes = decoded(method.backbone, reference.embedding, prompts).multiple
    assert_near("reference low-resolution logits", sizes.logits, outputs["reference_low_res"], near.logits)
    logits = frame.original(sizes.logits)
    assert_near("reference logits", logits, outputs["reference_logits"], near.logits)
    steps = fitted_weights(logits[0], truth, told["steps"], told["lr"])
    assert_near("weights of every step", steps, outputs["w_steps"], near.weights)
    assert task.weights is not None and torch.equal(task.weights, steps[-1])
    for step, pair in enumerate(outputs["w_steps"][:-1].to(logits)):
        with torch.enable_grad():
            weights = pair.clone().requires_grad_()
            mixed = torch.einsum("m,mhw->hw", torch.cat((1 - weights.sum()[None], weights)), logits[0])
            losses = dice(mixed, truth), focal(mixed, truth)
            (gradient,) = torch.autograd.grad(losses[0] + losses[1], weights)
        assert_near("dice", losses[0], outputs["dice_steps"][step], near.rest)
        assert_near("focal", losses[1], outputs["focal_steps"][step], near.rest)
        assert_near("gradient", gradient, outputs["grad_steps"][step], near.rest)


def _check_pass(name: str, masks: Masks, outputs: Mapping[str, Any], logits: float, rest: float) -> None:
    assert_near(f"{name} logits", masks.logits, outputs[f"{name}_low_res"], logits)
    assert_near(f"{name} IoU", masks.iou, outputs[f"{name}_iou"], rest)
    assert masks.best == outputs[f"{name}_best"]


def _settings(told: Mapping[str, Any]) -> PerSAMSettings:
    settings = PerSAMSettings(mask="photo" if told["mask_path"] == "official" else "binary")
    if told["variant"] == "persam":
        return settings
    return replace(settings, fit=True, steps=told["steps"], lr=told["lr"])


def _sam(recorded: Recorded) -> Sam:
    told = recorded.numbers["settings"]
    size = SamSize(
        told["embed_dim"],
        told["depth"],
        told["num_heads"],
        tuple(told["global_attn_indexes"]),
        told["image_size"],
        told["window_size"],
    )
    sam = Sam(size)
    load_state(sam, named_as_ours(recorded.state("recipe2")), Path("recorded.pth"))
    return sam.eval()
