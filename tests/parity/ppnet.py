"""PPNet against its official code: features, parts, scores, alignment, losses, gradients, batch norm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from oshp_bench.baselines.backbones.layers import upsampled
from oshp_bench.baselines.backbones.resnet50 import ResNet50, our_name
from oshp_bench.baselines.contract import Labels
from oshp_bench.baselines.pieces.prototypes import similarity
from oshp_bench.baselines.ppnet import FINER, ClassParts, PPNet, PPNetSettings
from parity.recorded import Recorded, assert_norms, photo
from parity.relative import Tolerances, near_map, near_rows, near_statistics, near_tensor

TOLERANCES = {
    torch.float64: Tolerances(1e-8, 1e-9, 1e-7, 1e-9, 0),
    torch.float32: Tolerances(3e-4, 1e-4, 2e-2, 1e-4, 5),
}


def check(recorded: Recorded, case: Mapping[str, Any], precision: torch.dtype) -> None:
    """One case: some episodes in evaluation mode, or as one training step."""
    near, network = TOLERANCES[precision], network_of(recorded, precision)
    network.train(case["mode"] == "train")
    inputs, outputs, count = case["inputs"], case["outputs"], len(case["inputs"]["query"])
    with torch.set_grad_enabled(network.training):
        both = network.encode(photo(torch.cat((inputs["support"], inputs["query"])), precision))
        support, query = both[:count], both[count:]
        for name, feature in (("support_feature", support), ("query_feature", query)):
            near_map(name, feature, outputs[name], near.values)
        scores, alignments = [], []
        for number, wanted in enumerate(outputs["episodes"]):
            masks = [inputs[name][number].bool() for name in ("support_bg", "support_fg")]
            episode = Episode(network, support[number], query[number], masks, inputs["init"][number], near)
            scores.append(episode.scores(wanted))
            if network.training:
                alignments.append(episode.alignment(wanted))
        size = (inputs["query"].shape[2], inputs["query"].shape[3])
        logits = upsampled(torch.cat(scores), size)
        near_map("logits", logits, outputs["logits"], near.values)
        assert (logits.argmax(1) != outputs["argmax"].long()).sum() <= near.pixels
        if network.training:
            loss = functional.cross_entropy(logits, inputs["query_label"].long(), ignore_index=255)
            align = torch.stack(alignments).mean()
            _check_losses(network, case, {"query": loss, "align": align, "total": loss + align}, near)


def network_of(recorded: Recorded, precision: torch.dtype) -> PPNet:
    """The network with the recorded weights."""
    network = PPNet(ResNet50(), Labels(2, (1,)), "1", PPNetSettings())
    state = {our_name(name.removeprefix("encoder.")): tensor for name, tensor in recorded.state().items()}
    network.backbone.load_state_dict(state)
    return network.to(precision)


@dataclass(frozen=True)
class Episode:
    """One episode of a case.

    Attributes:
        support, query: features, [2048, h, w].
        masks: of the support's background and foreground, bool [H, W].
        init: the rows that k-means starts from, by what it works on.
    """

    network: PPNet
    support: Tensor
    query: Tensor
    masks: list[Tensor]
    init: Mapping[str, list[int]]
    near: Tolerances

    def scores(self, wanted: Mapping[str, Any]) -> Tensor:
        """The scores of the query, [1, 2, h, w], after everything that leads to them was compared."""
        both = [
            self._parts(name, wanted, mask, finer)
            for name, mask, finer in (("bg", self.masks[0], 1), ("fg", self.masks[1], FINER))
        ]
        return self._scored("", self.query, both, wanted)

    def alignment(self, wanted: Mapping[str, Any]) -> Tensor:
        """The alignment loss, after everything that leads to it was compared."""
        full = (self.masks[0].shape[0], self.masks[0].shape[1])
        predicted = wanted["pred_mask"].bool()
        truth = torch.where(self.masks[1], 1, torch.where(self.masks[0], 0, 255))
        starts = [torch.tensor(self.init[each]) if each in self.init else None for each in ("align_bg", "align_fg")]
        both = []
        for name, mask, begin in zip(("bg", "fg"), (~predicted, predicted), starts, strict=True):
            parts = self.network.predicted_parts(self.query, mask, full, begin)
            if f"align_{name}_prototypes" in wanted:
                # A background without a cell is one zero prototype there, five of them here.
                prototypes = parts.prototypes if begin is not None else parts.prototypes[:1]
                near_rows(f"align_{name}", prototypes, wanted[f"align_{name}_prototypes"], self.near.values)
            if f"kmeans_align_{name}" in wanted:
                self._check_k_means(parts, wanted[f"kmeans_align_{name}"])
            both.append(parts)
        if predicted.any():
            self._scored("align_", self.support, both, wanted)
        loss = self.network.alignment(self.query, self.support, predicted, truth, (starts[0], starts[1]))
        assert loss.item() == pytest.approx(wanted["align_loss"], rel=self.near.losses)
        return loss

    def _parts(self, name: str, wanted: Mapping[str, Any], mask: Tensor, finer: int) -> ClassParts:
        starts = torch.tensor(self.init[name]) if name in self.init else None
        parts = self.network.parts(self.support, mask, finer, starts)
        near_rows(f"{name}_global", parts.mean, wanted[f"{name}_global"], self.near.values)
        self._check_k_means(parts, wanted[f"kmeans_{name}"])
        near_rows(f"{name}_prototypes", parts.prototypes, wanted[f"{name}_prototypes"], self.near.values)
        return parts

    def _check_k_means(self, parts: ClassParts, wanted: Mapping[str, Any]) -> None:
        assert len(parts.rows) == wanted["rows"]
        assert torch.equal(parts.assigned, wanted["assign"].long())
        near_rows("centres", parts.centres, wanted["centres"], self.near.values)

    def _scored(self, prefix: str, features: Tensor, both: Iterable[ClassParts], wanted: Mapping[str, Any]) -> Tensor:
        prototypes = [parts.prototypes for parts in both]
        for name, each in zip(("bg", "fg"), prototypes, strict=True):
            cosines = wanted[f"{prefix}cos_{name}"]
            got = similarity(features[None], each[None])[0, : len(cosines)]
            near_tensor(f"{prefix}cos_{name}", got, cosines, self.near.values)
        scores = self.network.scores(features[None], torch.stack(prototypes))
        near_tensor(f"{prefix}scores", scores[0], wanted[f"{prefix}scores"], self.near.values)
        if not prefix:
            assert torch.equal(scores[0].argmax(0), wanted["pred_mask"].long())
        return scores


def _check_losses(network: PPNet, case: Mapping[str, Any], losses: Mapping[str, Tensor], near: Tolerances) -> None:
    for name, wanted in case["losses"].items():
        assert losses[name].item() == pytest.approx(wanted, rel=near.losses), name
    torch.autograd.backward(losses["total"])
    gradients = {name: parameter.grad for name, parameter in network.backbone.named_parameters()}
    assert {name for name, gradient in gradients.items() if gradient is not None} == {
        name.removeprefix("encoder.") for name in case["grad_norm"]
    }
    norms = {name.removeprefix("encoder."): norm for name, norm in case["grad_norm"].items()}
    assert_norms(norms, gradients, near.gradients, 1e-6 if near.pixels else 0.0)
    for name, count in network.backbone.named_buffers():
        if name.endswith("num_batches_tracked"):
            frozen = name.startswith(("layer0", "layer1", "layer2"))
            assert count == case["bn_after"]["num_batches_tracked"]["frozen" if frozen else "live"]
    near_statistics(network.backbone, case["bn_after"], "encoder.", near.statistics)
