"""POPNet's second stage, k-way, on features of its first, against the authors' network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from oshp_bench.baselines.backbones.weights import load_state
from oshp_bench.baselines.backbones.xception65 import Xception65
from oshp_bench.baselines.contract import Labels
from oshp_bench.baselines.pieces.prototypes import channels, class_weights, pooled, present_classes, similarity, to_grid
from oshp_bench.baselines.popnet import POPNet, POPNetSettings
from parity.recorded import Recorded, assert_near, assert_norms, photo

# The authors' names of the second stage's own layers, and ours.
_PREFIXES = {
    "stage2.feature_fusion.0.atrous_convolution.": "infusion.0.",
    "stage2.feature_fusion.1.atrous_convolution.": "infusion.1.",
    "stage2.decoder2.": "agm.head.convs.",
    "stage2.decoder3.0.atrous_convolution.": "agm.head.separable.",
    "stage2.classifier_6.": "agm.head.classify.",
    "stage2.bg_att_fusion.": "agm.fusion.",
    "stage2.after_sim_fg.": "npm.foreground.",
    "stage2.after_sim_bg.": "npm.background.0.",
    "stage2.bg_sim_fusion.": "npm.background.1.",
    "stage2.prototype": "memory.rows",
    "stage2.scaler": "npm.scaler",
    "stage1.": "human.backbone.",
    "stage2.": "backbone.",
}
# Affines of one number, which the authors keep as convolutions.
_SCALARS = ("stage2.bg_", "stage2.after_")
# Layers that no forward pass of these two networks meets.
_UNUSED = (
    *(f"stage{stage}.{name}" for stage in (1, 2) for name in ("aspp", "global_avg_pool", "concat_pro", "decoder1")),
    "stage1.decoder",
)


@dataclass(frozen=True)
class Tolerances:
    """How far from the recorded numbers is near enough.

    Gradient norms are compared where above `least`; labels where the two best logits are further apart than `unsure`.
    """

    features: float
    prototypes: float
    similarity: float
    logits: float
    losses: float
    gradients: float
    least: float
    unsure: float


TOLERANCES = {
    torch.float64: Tolerances(1e-8, 1e-8, 1e-8, 1e-8, 1e-8, 1e-6, 1e-9, 0.0),
    torch.float32: Tolerances(5e-3, 1e-3, 2e-4, 1e-2, 1e-4, 5e-2, 1e-3, 1e-2),
}


def check(recorded: Recorded, case: Mapping[str, Any], precision: torch.dtype) -> None:
    """Computes what a case recorded."""
    near, told, inputs, outputs = TOLERANCES[precision], case["settings"], case["inputs"], case["outputs"]
    network, state = _network(recorded), recorded.state("recipe2")
    network.to(precision)
    network.stage = 1
    network.train(told["train"])
    features: dict[str, Tensor] = {}
    for side in ("query", "support"):
        # Recorded as BGR.
        images = photo(inputs[side].flip(1), precision)
        with torch.no_grad():
            human = network.human.backbone.eval()(images) if told["stage1"] == "network" else None
        if human is not None:
            assert_near(f"first stage of the {side}", human, outputs[f"stage1_{side}"], near.features)
        elif told["stage1"] == "given":
            human = inputs[f"prev_{side}"].to(precision)
        own = network.backbone(images)
        features[side] = own if human is None else network.infused(human, own)
        assert_near(f"infused {side}", features[side], outputs[f"infused_{side}"], near.features)

    query, support = features["query"], features["support"]
    mask = to_grid(inputs["support_mask"].long(), (support.shape[2], support.shape[3]))
    task = network.task(support, mask, present_classes(mask), told["proto_prev_stage"])
    static, _ = pooled(support, class_weights(mask, task.prototypes.ids))
    assert_near("static prototypes", static, outputs["static_prototypes"][:, 1:], near.prototypes)
    vectors = task.prototypes.vectors
    assert_near("used prototypes", vectors, outputs["used_prototypes"][:, 1:], near.prototypes)
    attention = functional.pad(similarity(query, vectors), (0, 0, 0, 0, 1, 0))
    assert_near("similarity", attention, outputs["similarity"], near.similarity)
    label = inputs["query_label"].long()
    size = (label.shape[1], label.shape[2])
    truth = channels(label, task.prototypes.ids, task.prototypes.present)
    losses = {}
    for head, logits in (
        ("agm", network.agm_logits(query, task, size)),
        ("npm", network.npm_logits(query, task, size)),
    ):
        assert_near(head, logits, outputs[head], near.logits)
        best = logits.topk(2, 1).values
        sure = best[:, 0] - best[:, 1] > near.unsure
        assert torch.equal(logits.argmax(1)[sure], outputs[f"{head}_argmax"].long()[sure])
        losses[head] = functional.cross_entropy(logits, truth, ignore_index=255)
        assert_near(f"loss of {head}", losses[head], _number(case["losses"][head]), near.losses)
    total = 0.5 * losses["agm"] + 0.5 * losses["npm"]
    assert_near("total loss", total, _number(case["losses"]["total"]), near.losses)
    if not told["train"]:
        return
    torch.autograd.backward(total)
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    theirs = {name: gradients.get(_our_name(name)) for name in case["grad_norm"]}
    assert_norms(case["grad_norm"], theirs, near.gradients, near.least)
    after = network.state_dict()
    assert_near("stored prototypes", after["memory.rows"][1:], outputs["prototype_after"][1:], near.prototypes)
    for name in state:
        if f"bn_after.{name.removeprefix('stage2.')}" in outputs and name.startswith("stage2."):
            wanted = outputs[f"bn_after.{name.removeprefix('stage2.')}"]
            assert_near(name, after[_our_name(name)], wanted, near.prototypes)


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _network(recorded: Recorded) -> POPNet:
    classes = recorded.numbers["settings"]["n_classes"]
    network = POPNet(Xception65(), Labels(classes), "k", POPNetSettings(weight_shift=False))
    # The recorded network has no classifier of human and background.
    state = {name: tensor for name, tensor in network.state_dict().items() if name.startswith("human.classify.")}
    for name, tensor in recorded.state("recipe2").items():
        if not name.startswith(_UNUSED):
            state[_our_name(name)] = tensor.squeeze() if name.startswith(_SCALARS) else tensor
    load_state(network, state, Path("recorded.pth"))
    return network


def _our_name(name: str) -> str:
    theirs = next(prefix for prefix in _PREFIXES if name.startswith(prefix))
    return _PREFIXES[theirs] + name.removeprefix(theirs)
