"""Loads the checkpoints that the authors of EOP-Net published, k-way and 1-way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from oshp_bench.baselines.backbones.weights import load_state, read_state
from oshp_bench.baselines.backbones.xception65 import Xception65
from oshp_bench.baselines.card import Card
from oshp_bench.baselines.contract import Labels
from oshp_bench.baselines.eopnet.network import EOPNet
from oshp_bench.baselines.eopnet.settings import RELEASE, EOPNetSettings
from oshp_bench.baselines.settings import as_table, changed_at_test
from oshp_bench.episodes.episodes import Way
from oshp_bench.errors import OshpError

# What tells the two networks from each other and from everything else.
_MARKS: dict[str, Way] = {"npm_class_fg.weight": "k", "npm_class.weight": "1"}
# Their names and ours; what is not listed is the backbone's.
_PREFIXES = {
    "s1_trans.": "coarse.project.",
    "s2_trans.": "project.",
    "s1_conv1.": "coarse.guidance.head.convs.",
    "s1_conv2.atrous_convolution.": "coarse.guidance.head.separable.",
    "s1_semantic.": "coarse.guidance.head.classify.",
    "s1_prototype": "coarse.memory.rows",
    "decoder2.": "agm.head.convs.",
    "decoder3.atrous_convolution.": "agm.head.separable.",
    "agm_class.": "agm.head.classify.",
    "agm_bg_fusion.": "agm.fusion.",
    "npm_class_fg.": "npm.foreground.",
    "npm_class_bg.": "npm.background.0.",
    "npm_bg_fusion.": "npm.background.1.",
    "prototype": "memory.rows",
    "scaler": "npm.scaler",
}
# Scalars that the release keeps as convolutions of one channel.
_SCALARS = ("agm_bg_fusion.", "npm_class_fg.", "npm_class_bg.", "npm_bg_fusion.")
# Layers that every checkpoint carries and no forward pass of the mid-level network meets.
_UNUSED = ("aspp1.", "aspp2.", "aspp3.", "aspp4.", "global_avg_pool.", "concat_projection_", "decoder1.")


def load_published(path: Path, size: int, texts: Iterable[str]) -> tuple[Card, EOPNet]:
    """The card and the network of a published checkpoint.

    Args:
        size: of the file, in bytes.
        texts: changed settings, such as "screening=false"; see `changed_at_test`.

    Raises:
        OshpError: no such checkpoint, or a text is refused.
    """
    state = read_state(path)
    way = released_way(state)
    if way is None:
        raise OshpError(f"{path}: neither a checkpoint of oshp-train nor one of EOP-Net's authors")
    # A few stored numbers can stand for a tensor of any size.
    if sum(tensor.numel() * tensor.element_size() for tensor in state.values()) > size:
        raise OshpError(f"{path}: its tensors are larger than the file; no checkpoint of EOP-Net's authors")
    network = load_released(state, path, changed_at_test(RELEASE, texts, "eopnet"))
    return Card("eopnet", way, "xception65", network.backbone.width, network.labels.count, as_table(RELEASE)), network


def released_way(state: Mapping[str, Tensor]) -> Way | None:
    """Whether these are the weights of the authors' k-way or 1-way network, or of neither."""
    if "xception_features.conv1.weight" not in state:
        return None
    return next((way for mark, way in _MARKS.items() if mark in state), None)


def load_released(state: Mapping[str, Tensor], origin: Path, settings: EOPNetSettings = RELEASE) -> EOPNet:
    """Makes the network of a published checkpoint, in evaluation mode.

    Args:
        state: what `read_state` gives for it.
        origin: its file, for the errors.
        settings: RELEASE, or that with changes that only matter at test.

    Raises:
        OshpError: it is none of the authors', or a tensor is missing, unknown or of another shape.
    """
    way = released_way(state)
    if way is None:
        raise OshpError(f"{origin}: not a checkpoint of EOP-Net's authors (no {' or '.join(_MARKS)})")
    rows = state.get("prototype")
    if rows is None or rows.ndim != 2 or not 2 <= len(rows) <= 255:
        raise OshpError(f"{origin}: lacks the tensor prototype [class ids, 256]; it is of another architecture")
    network = EOPNet.build(Xception65(), Labels(len(rows)), way, settings)
    load_state(network, renamed(state, way), origin)
    return network.eval()


def renamed(state: Mapping[str, Tensor], way: Way) -> dict[str, Tensor]:
    """The tensors of a checkpoint under our names, without those of unused layers.

    Heads of the release give background first where they parse one class; ours always give the class first.
    """
    ours: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.startswith(_UNUSED):
            continue
        if name.startswith("npm_class.") and tensor.numel() == 2:
            kind = name.removeprefix("npm_class.")
            ours[f"npm.background.{kind}"], ours[f"npm.foreground.{kind}"] = tensor.flatten()
        else:
            two_logits = name.startswith("s1_semantic.") or (way == "1" and name.startswith("agm_class."))
            ours[_our_name(name)] = (
                tensor.flip(0)
                if two_logits and tensor.ndim
                else tensor.squeeze()
                if name.startswith(_SCALARS)
                else tensor
            )
    return ours


def _our_name(name: str) -> str:
    for theirs, ours in _PREFIXES.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return f"backbone.{name}"
