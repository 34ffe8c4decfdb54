"""SG-One: parity/sg_one.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch.nn import functional

from oshp_bench.baselines.backbones.layers import stretched
from oshp_bench.baselines.backbones.vgg16 import VGG16
from oshp_bench.baselines.contract import Labels
from oshp_bench.baselines.pieces.prototypes import similarity
from oshp_bench.baselines.sg_one import SGOne, SGOneSettings
from parity.recorded import Recorded, assert_near, assert_norms, photo

# Features, vector and logits; cosine and probabilities; loss; gradient norms and the least that is compared.
TOLERANCES = {torch.float64: (1e-8, 1e-8, 1e-8, 1e-8, 0.0), torch.float32: (1e-4, 1e-5, 1e-5, 1e-2, 1e-3)}
# How the official code names what follows the backbone.
PARTS = {
    "netB.cls.0": "branches.guidance",
    "netB.side3_1.0": "branches.cascade.0",
    "netB.side4_1.0": "branches.cascade.1",
    "netB.side5_1.0": "branches.cascade.2",
    "classifier_6.0": "classify.0",
    "exit_layer": "classify.2",
}


def our_names(network: SGOne, official: Mapping[str, object]) -> dict[str, str]:
    """Our name of every official parameter: the backbone's in order, the others by the table."""
    backbone = iter(f"backbone.{name}" for name in network.backbone.state_dict())
    return {
        name: next(backbone) if ".features_" in name else f"{PARTS[module]}.{kind}"
        for name in official
        for module, _, kind in [name.rpartition(".")]
    }


def check(recorded: Recorded, case: Mapping[str, Any], precision: torch.dtype) -> None:
    """Both branches, vector, cosine, logits, prediction, loss and gradients of one episode; learning rates."""
    near, near_cosine, near_loss, near_norm, least = TOLERANCES[precision]
    inputs, outputs = case["inputs"], case["outputs"]
    settings = SGOneSettings(branches="levels", framed=case["settings"]["exit_padding"] == 1)
    network = SGOne(VGG16("sg-one"), Labels(256), "1", settings)
    names = our_names(network, recorded.numbers["shapes"])
    network.load_state_dict({names[name]: tensor for name, tensor in recorded.state("recipe2").items()})
    network.to(precision)
    query, support = (network.encode(photo(inputs[side], precision)[None]) for side in ("query", "support"))
    task = network.task(support, inputs["support_mask"][None].long(), torch.tensor([[1]]))
    cosine = similarity(query.guidance, task.vectors)
    logits = network.logits(query, task)
    truth = inputs["query_mask"].long()
    large = stretched(logits, (truth.shape[0], truth.shape[1]))
    assert_near("guidance of the support", support.guidance, outputs["guidance_support"], near)
    assert_near("guidance of the query", query.guidance, outputs["guidance_query"], near)
    assert_near("segmentation", query.segmentation, outputs["segmentation_query"], near)
    assert_near("vector", task.vectors[0, 0], outputs["vector"], near)
    assert_near("cosine", cosine[0, 0], outputs["cosine"], near_cosine)
    assert_near("logits", logits[0], outputs["logits"], near)
    assert_near("logits at image size", large, outputs["logits_up"], near)
    parsed = network.parse(query, task, (truth.shape[0], truth.shape[1]))
    assert_near("parsed", parsed[None], outputs["logits_up"], near)
    assert_near("probability", large.softmax(1)[0, 1, ::2, ::2], outputs["prob_fg"], near_cosine)
    differing = large[0].argmax(0) != outputs["pred"]
    assert not (differing & ((large[0, 0] - large[0, 1]).abs() >= near)).any()

    loss = functional.cross_entropy(large, truth[None])
    assert loss.item() == pytest.approx(case["losses"]["total"], abs=near_loss)
    torch.autograd.backward(loss)
    gradients = {ours: parameter.grad for ours, parameter in network.named_parameters()}
    assert_norms(case["grad_norm"], {name: gradients[ours] for name, ours in names.items()}, near_norm, least)
    scales = {each: group.lr_scale for group in network.parameter_groups(0) for each in group.parameters}
    parameters = dict(network.named_parameters())
    ours_scales = {name: scales[parameters[ours]] for name, ours in names.items()}
    assert ours_scales == recorded.numbers["settings"]["lr_mult"]
