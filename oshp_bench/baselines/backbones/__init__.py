"""The backbones by name. Nothing heavy is imported until one is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oshp_bench.errors import OshpError

if TYPE_CHECKING:
    from oshp_bench.baselines.backbones.layers import Backbone
    from oshp_bench.baselines.backbones.vgg16 import VGGLayout
    from oshp_bench.baselines.backbones.xception65 import Depth

# What begins the name of a backbone of the transformers library.
HUB = "hub:"
HUB_WIDTH = 256
HUB_SUMMARY = "any backbone of transformers, such as DINOv2, from a folder or the Hugging Face hub"


@dataclass(frozen=True)
class BackboneRecipe:
    """How a backbone is made.

    Attributes:
        summary: one line for a person.
        width: its channels, unless another number is asked for.
        build: makes it with random weights, for a width.
        load: gives it pretrained weights from a file, in place; None takes those that an installed package carries.
        files: the files that can be given to it, for a person; "" where none has to be.
    """

    summary: str
    width: int
    build: Callable[[int], Backbone]
    load: Callable[[Backbone, Path | None], None]
    files: str = ""


def build_backbone(
    name: str,
    *,
    width: int | None = None,
    weights: Path | None = None,
    pretrained: bool = True,
    architecture: Mapping[str, Any] | None = None,
) -> Backbone:
    """Makes a backbone.

    Args:
        name: a key of BACKBONES, or "hub:" with a folder or a name on the Hugging Face hub.
        width: the channels of its features; None takes the backbone's own.
        weights: a file of pretrained weights; None takes those of the installed package, if the backbone has one.
        pretrained: False leaves the weights as drawn from torch's generator, for a checkpoint to fill.
        architecture: what a checkpoint says of a backbone of the hub; None asks the hub or the folder.

    Raises:
        OshpError: no such backbone, a width that it cannot have, or weights that are missing or do not fit.
    """
    recipe = _hub(name.removeprefix(HUB), architecture) if name.startswith(HUB) else BACKBONES.get(name)
    if recipe is None:
        raise OshpError(f"{name}: no such backbone; known: {', '.join(BACKBONES)}, {HUB}NAME")
    if pretrained and weights is None and recipe.files:
        raise OshpError(
            f"{name} needs a file of pretrained weights, such as {recipe.files}; or ask for a start from random weights"
        )
    if pretrained and weights and not (name.startswith(HUB) or weights.exists()):  # before a large network is built
        raise OshpError(f"{weights}: cannot be read (No such file or directory); check the path")
    backbone = recipe.build(width or recipe.width)
    if pretrained:
        recipe.load(backbone, weights)
    return backbone


def _xception(depth: Depth) -> BackboneRecipe:
    def build(width: int) -> Backbone:
        from oshp_bench.baselines.backbones.xception65 import Xception65

        if width != Xception65.width:
            raise OshpError(f"xception65 has {Xception65.width} channels, not {width}; leave the width away")
        return Xception65(depth)

    def load(backbone: Backbone, path: Path | None) -> None:
        from oshp_bench.baselines.backbones.weights import load_encoder

        assert path is not None
        load_encoder(backbone, path, ("xception_features.",))

    layers = "mid-level features" if depth == 62 else "with ASPP"
    files = "that of DeepLabV3+ trained on COCO, or a checkpoint of EOP-Net's authors"
    return BackboneRecipe(f"DeepLabV3+ Xception-65, {depth} layers ({layers})", 256, build, load, files)


def _efficientnet_lite0() -> BackboneRecipe:
    def build(width: int) -> Backbone:
        from oshp_bench.baselines.backbones.efficientnet_lite0 import EfficientNetLite0

        return EfficientNetLite0(width)

    def load(backbone: Backbone, path: Path | None) -> None:
        from oshp_bench.baselines.backbones.weights import load_encoder, packaged_efficientnet_lite0

        load_encoder(backbone, path or packaged_efficientnet_lite0(), ("_conv_stem.", "_bn0.", "_blocks."))

    return BackboneRecipe("EfficientNet-Lite0 up to stride 16, ImageNet weights; for CPUs", 128, build, load)


def _vgg16(layout: VGGLayout, whose: str) -> BackboneRecipe:
    def build(width: int) -> Backbone:
        from oshp_bench.baselines.backbones.vgg16 import VGG16

        return VGG16(layout, width)

    def load(backbone: Backbone, path: Path | None) -> None:
        from oshp_bench.baselines.backbones.weights import load_renamed

        assert path is not None
        load_renamed(backbone, path, str, "classifier.")

    file = "torchvision's vgg16-397923af.pth"
    return BackboneRecipe(f"VGG-16, output stride 8, as {whose} has it", 512, build, load, file)


def _resnet50(deep: bool, whose: str) -> BackboneRecipe:
    def build(width: int) -> Backbone:
        from oshp_bench.baselines.backbones.resnet50 import ResNet50

        return ResNet50(deep, dilated_first=deep, last_relu=deep, width=width)

    def load(backbone: Backbone, path: Path | None) -> None:
        from oshp_bench.baselines.backbones.resnet50 import our_name
        from oshp_bench.baselines.backbones.weights import load_renamed

        assert path is not None
        load_renamed(backbone, path, our_name, "fc.")

    stem = ", deep stem" if deep else ""
    file = "semseg's resnet50_v2.pth" if deep else "torchvision's resnet50-19c8e357.pth"
    return BackboneRecipe(f"ResNet-50{stem}, output stride 8, as {whose} has it", 2048, build, load, file)


def _sam(name: str, what: str, files: str) -> BackboneRecipe:
    def build(width: int) -> Backbone:
        from oshp_bench.baselines.backbones.sam import SIZES, WIDTH, Sam

        if width != WIDTH:
            raise OshpError(f"{name} has {WIDTH} channels, not {width}; remove the width")
        return Sam(SIZES[name])

    def load(backbone: Backbone, path: Path | None) -> None:
        from oshp_bench.baselines.backbones.sam import load_sam

        assert path is not None
        load_sam(backbone, path)

    return BackboneRecipe(f"Segment Anything with {what}, for persam", 256, build, load, files)


def _hub(where: str, architecture: Mapping[str, Any] | None) -> BackboneRecipe:
    def build(width: int) -> Backbone:
        from oshp_bench.baselines.backbones.hub import Hub, architecture_of

        return Hub(architecture or architecture_of(where), width)

    def load(backbone: Backbone, path: Path | None) -> None:
        from oshp_bench.baselines.backbones.hub import Hub

        if path is not None:
            raise OshpError(f"{HUB}{where} comes with its own weights; leave away the file {path}")
        assert isinstance(backbone, Hub)
        backbone.load_pretrained(where)

    return BackboneRecipe(HUB_SUMMARY, HUB_WIDTH, build, load)


def is_backbone(name: str) -> bool:
    """Whether `build_backbone` knows the name; a name on the hub may still not exist."""
    return name in BACKBONES or (name.startswith(HUB) and name != HUB)


def usual_width(name: str) -> int:
    """The channels of a backbone's features, unless another number is asked for."""
    return BACKBONES[name].width if name in BACKBONES else HUB_WIDTH


BACKBONES = {
    "xception65": _xception(62),
    "xception65-69": _xception(69),
    "xception65-74": _xception(74),
    "efficientnet-lite0": _efficientnet_lite0(),
    "vgg16": _vgg16("panet", "PANet"),
    "vgg16-sg-one": _vgg16("sg-one", "SG-One"),
    "vgg16-fcn8s": _vgg16("fcn8s", "AMP"),
    "resnet50": _resnet50(False, "PPNet"),
    "resnet50-deep": _resnet50(True, "PFENet"),
    "sam-vit-b": _sam("sam-vit-b", "ViT-B", "sam_vit_b_01ec64.pth or the folder of facebook/sam-vit-base"),
    "sam-vit-l": _sam("sam-vit-l", "ViT-L", "sam_vit_l_0b3195.pth or the folder of facebook/sam-vit-large"),
    "sam-vit-h": _sam("sam-vit-h", "ViT-H", "sam_vit_h_4b8939.pth or the folder of facebook/sam-vit-huge"),
    "sam-tiny": _sam("sam-tiny", "two layers, to try the pipeline", "one that was made for a test"),
}
