"""AMP against its official code: embeddings, proxies, imprinted and refined rows, logits, losses, gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from oshp_bench.baselines.amp import AMP, AMPSettings, Depths, ImprintedRows, imprinted, proxies
from oshp_bench.baselines.backbones.vgg16 import VGG16
from oshp_bench.baselines.contract import Batch, Labels, Progress
from parity.recorded import Recorded, assert_near, assert_norms, photo

# The levels as the file names them, in our order.
LEVELS = ("f5", "f4", "f3")
NOVEL = 16
BASE = tuple(range(1, NOVEL))
# The numbers of torchvision's layers that begin the blocks.
BLOCKS = {1: 0, 2: 5, 3: 10, 4: 17, 5: 24}
HEADS = {"fconv_block": "embed", "classifier": "classify.0", "score_pool4": "classify.1", "score_pool3": "classify.2"}
# The official code's id of pixels to ignore in base training.
IGNORED = 250


@dataclass(frozen=True)
class Tolerances:
    features: float
    rows: float
    logits: float
    sums: float
    losses: float
    gradients: float


TOLERANCES = {
    torch.float64: Tolerances(1e-8, 1e-8, 1e-8, 1e-8, 1e-8, 1e-8),
    torch.float32: Tolerances(1e-4, 1e-6, 5e-4, 5e-4, 1e-5, 1e-2),
}


def check(recorded: Recorded, case: Mapping[str, Any], precision: torch.dtype) -> None:
    """One case: an episode with imprinting and refinement, and the loss of a training image."""
    network = network_of(recorded, precision).eval()
    _check_episode(network, case["inputs"], case["outputs"], TOLERANCES[precision], precision)
    for dropout in (False, True):
        _check_training(network, case, dropout, TOLERANCES[precision], precision)


def network_of(recorded: Recorded, precision: torch.dtype) -> AMP:
    """The network with the recorded weights."""
    network = AMP(VGG16("fcn8s"), Labels(NOVEL + 1, BASE), "1", AMPSettings())
    network.load_state_dict({ours(name): tensor for name, tensor in recorded.state().items()})
    return network.to(precision)


def ours(name: str) -> str:
    """Our name of an official parameter."""
    part, layer, *kind = name.split(".")
    if part.startswith("conv_block"):
        return ".".join(("backbone", "features", str(BLOCKS[int(part[-1])] + int(layer)), *kind))
    return f"{HEADS[part]}.{name.rpartition('.')[2]}"


@torch.no_grad()
def _check_episode(
    network: AMP, inputs: Mapping[str, Any], outputs: Mapping[str, Any], near: Tolerances, precision: torch.dtype
) -> None:
    query = network.encode(photo(inputs["query_image"], precision)[None])
    for level, feature in zip(LEVELS, query, strict=True):
        wanted = outputs["query_embeddings"][level]
        assert_near(level, feature[0], wanted, near.features, near.sums)
    size = (inputs["query_image"].shape[1], inputs["query_image"].shape[2])
    _check_logits(network, query, network.rows(), outputs["logits_base"], size, near)

    labels = inputs["support_labels"].long()
    support = network.encode(photo(inputs["support_images"], precision))
    wanted = outputs["proxies"]
    for level, feature in zip(LEVELS, support, strict=True):
        means = proxies(feature, labels, NOVEL + 1)
        assert_near(f"proxies {level}", means[wanted["classes"]], wanted[level], near.features)
    rows, shown = imprinted(network.rows(), support, labels, 1, inputs["alpha"])
    assert shown.nonzero().flatten().tolist() == list(wanted["classes"])
    for level, depth in zip(LEVELS, rows, strict=True):
        assert_near(f"imprinted {level}", depth, outputs["weights_imprint"][level], near.rows)
    _check_logits(network, query, rows, outputs["logits_imprint"], size, near)

    task = ImprintedRows(rows, (NOVEL,), (NOVEL,), torch.tensor([False]))
    pseudo, *steps = network.refined(query, task, size)
    assert torch.equal(pseudo[0], outputs["pseudo_label"].long())
    for name, refined in zip(("weights_pseudo", "weights_refine"), steps, strict=True):
        wanted = outputs[name]
        for level, depth, before in zip(LEVELS, refined, rows, strict=True):
            assert_near(f"{name} {level}", depth[wanted["rows"]], wanted[level], near.rows)
            assert torch.equal(depth[1:NOVEL], before[1:NOVEL])
    _check_logits(network, query, steps[-1], outputs["logits_refine"], size, near)
    # What parse gives for the class: its own logit, and for background the best of all others.
    scores = network.parse(query, task, size)
    assert torch.equal(scores.argmax(0) == 1, outputs["logits_refine"]["argmax"] == NOVEL)


def _check_logits(
    network: AMP, query: Depths, rows: Depths, wanted: Mapping[str, Any], size: tuple[int, int], near: Tolerances
) -> None:
    logits = network.logits(query, rows)
    assert_near("grid logits", logits[0], wanted["grid"], near.logits)
    whole = network.at_size(logits, size)[0]
    assert_near("logits", whole, wanted, near.logits, near.sums)
    assert torch.equal(whole.argmax(0), wanted["argmax"].long())


def _check_training(
    network: AMP, case: Mapping[str, Any], dropout: bool, near: Tolerances, precision: torch.dtype
) -> None:
    inputs, name = case["inputs"], "dropout" if dropout else "no_dropout"
    mask = inputs["dropout_mask"].to(precision)[None, :, None, None]

    def dropped(module: torch.nn.Module, arguments: tuple[Tensor], output: Tensor) -> Tensor:  # noqa: ARG001
        return arguments[0] * mask if dropout else arguments[0]

    hook = network.dropout.register_forward_hook(dropped)
    network.zero_grad()
    loss = network.losses(_batch(inputs, precision), Progress(0, 1, 0, 1))["classes"]
    torch.autograd.backward(loss)
    hook.remove()
    wanted = case["losses"][name]
    # The official mean over no pixel is no number; ours is 0.
    assert abs(loss.item() - (0.0 if math.isnan(wanted) else wanted)) <= near.losses, name
    parameters = dict(network.named_parameters())
    norms = case["grad_norm_dropout" if dropout else "grad_norm"]
    assert_norms(norms, {each: parameters[ours(each)].grad for each in norms}, near.gradients, 0.0)


def _batch(inputs: Mapping[str, Any], precision: torch.dtype) -> Batch:
    """The training image as the query of a batch without supports."""
    image, label = photo(inputs["train_image"], precision)[None], inputs["train_label"].long()[None]
    mask = torch.where(label == IGNORED, 255, label)
    none = mask.new_zeros(1, 0, *mask.shape[1:])
    return Batch("1", image, mask, mask, image.new_zeros(1, 0, *image.shape[1:]), none, none, mask.new_zeros(1, 0))
