"""PFENet against its official code: levels, prior, pyramid, logits, losses, gradients, batch norm."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from oshp_bench.baselines.backbones.layers import upsampled
from oshp_bench.baselines.backbones.resnet50 import ResNet50
from oshp_bench.baselines.contract import Batch, Labels, Progress
from oshp_bench.baselines.pfenet import PFENet, PFENetSettings, priors
from parity.recorded import Recorded, assert_norms, photo
from parity.relative import Tolerances, near_map, near_statistics

TOLERANCES = {
    torch.float64: Tolerances(1e-8, 1e-9, 1e-7, 1e-9, 0),
    torch.float32: Tolerances(3e-4, 1e-4, 1e-2, 1e-4, 5),
}
# Our names of the parts of the network; layers of the backbone keep theirs.
PARTS = {
    "down_query": "reduce_query",
    "down_supp": "reduce_support",
    "init_merge": "pyramid.merge",
    "alpha_conv": "pyramid.enrich",
    "beta_conv": "pyramid.refine",
    "inner_cls": "pyramid.classify",
    "res1": "pyramid.fuse",
    "res2": "pyramid.last",
    "cls": "classify",
}


def check(recorded: Recorded, case: Mapping[str, Any], precision: torch.dtype) -> None:
    """One case: some episodes in evaluation mode, or as one training step."""
    near, network = TOLERANCES[precision], network_of(recorded, case["settings"]["bins"], precision)
    inputs = case["inputs"]
    _set_dropout(network, case)
    seen = _seen(network)
    objects = inputs["support_label"] == 1
    images = [photo(inputs[name], precision) for name in ("query", "support")]
    if case["mode"] == "train":
        query_masks, support_masks = inputs["query_label"].long(), inputs["support_label"].long()[:, None]
        targets = torch.ones(len(objects), 1, dtype=torch.int64)
        batch = Batch(
            "1", images[0], query_masks, query_masks, images[1][:, None], support_masks, support_masks, targets
        )
        losses = network.train().losses(batch, Progress(0, 1, 0, 1))
        torch.autograd.backward(losses["query"] + losses["auxiliary"])
        _check_training(network, case, losses, near)
    else:
        with torch.no_grad():
            query, support = (network.eval().encode(each) for each in images)
            task = network.task(support.support, support.below, objects)
            merged = network.pyramid(query.query, task.vector, priors(task, query.high))
            network.classify(merged.fused)
            network.pyramid.auxiliary(merged.scales)
    _check_outputs(network, case["outputs"], seen, objects, near)


def network_of(recorded: Recorded, bins: list[float], precision: torch.dtype) -> PFENet:
    """The network with the recorded weights."""
    first, second, third, fourth = map(float, bins)
    settings = PFENetSettings(bins=(first, second, third, fourth), rescue=False)
    network = PFENet(ResNet50(deep_stem=True, dilated_first=True, last_relu=True), Labels(2, (1,)), "1", settings)
    network.load_state_dict({ours(name): tensor for name, tensor in recorded.state().items()})
    return network.to(precision)


def ours(name: str) -> str:
    """Our name of an official parameter or module."""
    part, _, rest = name.partition(".")
    return f"{PARTS[part]}.{rest}" if part in PARTS else f"backbone.{name}"


def _set_dropout(network: PFENet, case: Mapping[str, Any]) -> None:
    """Lets dropout leave out the recorded channels in training, or none."""
    kept = {ours(name): keep for name, keep in case["inputs"]["dropout_keep"].items()}

    def dropped(keep: Tensor | None) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
        def hook(module: nn.Module, arguments: tuple[Tensor], output: Tensor) -> Tensor:  # noqa: ARG001
            assert isinstance(module, nn.Dropout2d)
            (features,) = arguments
            return features if keep is None else features * keep[:, :, None, None].to(features.dtype) / (1 - module.p)

        return hook

    if case["mode"] == "train":
        for name, module in network.named_modules():
            if isinstance(module, nn.Dropout2d):
                module.register_forward_hook(dropped(kept.get(name)))


def _seen(network: PFENet) -> dict[str, list[Any]]:
    """What modules give from now on, call by call; under "vector" and "prior" what the pyramid is given."""
    seen: dict[str, list[Any]] = defaultdict(list)

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:  # noqa: ARG001
            seen[name].append(output)
            if name == "pyramid":
                for given, argument in zip(("query", "vector", "prior"), arguments, strict=True):
                    seen[given].append(argument)

        return hook

    modules = {name: getattr(network, name) for name in ("reduce_query", "reduce_support", "pyramid", "classify")}
    modules |= {f"aux_{number}": each for number, each in enumerate(network.pyramid.classify)}
    for layer in ("layer2", "layer3", "layer4"):
        modules[layer] = list(network.backbone.get_submodule(layer).children())[-1]
    for name, module in modules.items():
        module.register_forward_hook(keep(name))
    return seen


def _check_outputs(
    network: PFENet, outputs: Mapping[str, Any], seen: Mapping[str, list[Any]], objects: Tensor, near: Tolerances
) -> None:
    (merged,), (reduced,), (logits,) = seen["pyramid"], seen["query"], seen["classify"]
    size, grid = (objects.shape[1], objects.shape[2]), (reduced.shape[2], reduced.shape[3])
    # The query passes first, the support last, and its last pass through layer 4 is the masked one.
    got = {
        f"{side}_{layer}": seen[layer][turn]
        for layer in ("layer2", "layer3", "layer4")
        for side, turn in (("query", 0), ("support", -1))
    }
    got |= {f"merged_{number}": upsampled(scale, grid) for number, scale in enumerate(merged.scales)}
    got |= {f"aux_logits_{number}": seen[f"aux_{number}"][0] for number in range(len(merged.scales))}
    got |= {
        "query_reduced": reduced,
        "support_reduced": seen["reduce_support"][-1],
        "support_vector": seen["vector"][0],
        "prior": seen["prior"][0],
        "support_mask": network.on_grid(objects, reduced),
        "final_feature": merged.fused,
        "logits": upsampled(logits, size),
    }
    for name, wanted in outputs.items():
        if name == "argmax":
            assert (got["logits"].argmax(1) != wanted.long()).sum() <= near.pixels
        else:
            near_map(name, got[name], wanted, near.values)


def _check_training(network: PFENet, case: Mapping[str, Any], losses: Mapping[str, Tensor], near: Tolerances) -> None:
    wanted = case["losses"]
    assert losses["query"].item() == pytest.approx(wanted["main"], rel=near.losses)
    assert losses["auxiliary"].item() == pytest.approx(wanted["aux"], rel=near.losses)
    parameters = dict(network.named_parameters())
    gradients = {name: parameters[ours(name)].grad for name in case["grad_norm"]}
    assert_norms(case["grad_norm"], gradients, near.gradients, 1e-6 if near.pixels else 0.0)
    trained = {ours(name) for name in case["grad_norm"]}
    assert trained == {name for name, parameter in parameters.items() if parameter.requires_grad}
    for name, count in network.backbone.named_buffers():
        if name.endswith("num_batches_tracked"):
            assert count == case["bn_after"]["num_batches_tracked"]
    near_statistics(network.backbone, case["bn_after"], "", near.statistics)
