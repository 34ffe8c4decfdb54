"""PANet: parity/panet.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch.nn import functional

from oshp_bench.baselines.backbones.layers import stretched
from oshp_bench.baselines.backbones.vgg16 import VGG16
from oshp_bench.baselines.contract import Labels
from oshp_bench.baselines.panet import PANet, PANetSettings, prototypes, query_prototypes
from parity.recorded import Recorded, assert_near, assert_norms, photo

# Features, prototypes, scores and logits; their sums; losses; gradient norms; pixels that may differ.
TOLERANCES = {torch.float64: (1e-8, 1e-8, 1e-8, 1e-8, 0), torch.float32: (1e-4, 5e-4, 1e-5, 1e-2, 5)}


def check(recorded: Recorded, case: Mapping[str, Any], precision: torch.dtype) -> None:
    """Features, prototypes, scores, the alignment loss and both gradients of one episode."""
    near, sums, near_loss, near_norm, pixels = TOLERANCES[precision]
    inputs, outputs = case["inputs"], case["outputs"]
    network = PANet(VGG16(), Labels(256), "k", PANetSettings(background=inputs["mask_rule"]))
    state = recorded.state()
    names = dict(zip(network.state_dict(), state, strict=True))
    network.load_state_dict({ours: state[official] for ours, official in names.items()})
    network.to(precision)
    ways, shots = inputs["n_ways"], inputs["n_shots"]
    fore, back = inputs["fore_mask"].bool(), inputs["back_mask"].bool()
    for shot in range(shots):
        ours = network.masks(inputs["support_labels"][:, shot].long(), torch.tensor(inputs["class_ids"]))
        assert torch.equal(ours[0], fore[:, shot]) and torch.equal(ours[1], back[:, shot])

    supports = network.encode(photo(inputs["support_images"], precision).flatten(0, 1))
    supports = supports.view(ways, shots, *supports.shape[1:])
    query = network.encode(photo(inputs["query_images"], precision))
    vectors = prototypes(supports, fore, back)
    scores = network.scores(query, vectors)
    logits = stretched(scores, inputs["query_labels"].shape[1:])
    assert_near("query features", query, outputs["query_features"], near, sums)
    assert_near("support features", supports, outputs["support_features"], near, sums)
    assert_near("prototypes", vectors, outputs["prototypes"], near)
    assert_near("scores", scores, outputs["scores"], near)
    assert_near("logits", logits, outputs["logits"], near, sums)
    assert torch.equal(scores.argmax(1), outputs["query_pred"].long())
    assert (logits.argmax(1) != outputs["logits"]["argmax"]).sum() <= pixels

    found, predicted = query_prototypes(query, scores)
    wanted = outputs["query_prototypes"]
    assert_near("query prototypes", found[wanted["rows"]], wanted["values"], near)
    assert [way for way in range(1, 1 + ways) if not predicted[way]] == outputs["skipped_ways"]
    losses = {
        "query": functional.cross_entropy(logits, inputs["query_labels"].long(), ignore_index=255),
        "align": network.alignment(supports, fore, back, query, scores),
    }
    losses["total"] = losses["query"] + losses["align"]
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(case["losses"][name], abs=near_loss), name
    for name, norms in (("query", case["grad_norm_query"]), ("total", case["grad_norm"])):
        network.zero_grad()
        torch.autograd.backward(losses[name], retain_graph=True)
        gradients = {names[ours]: parameter.grad for ours, parameter in network.named_parameters()}
        assert_norms(norms, gradients, near_norm, 0.0)
