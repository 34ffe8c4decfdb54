"""VGG-16 and ResNet-50: sizes and dilations of their layouts, the files of weights that fit, and others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from oshp_bench.baselines.backbones import build_backbone
from oshp_bench.baselines.backbones.resnet50 import ResNet50
from oshp_bench.baselines.backbones.vgg16 import VGG16
from oshp_bench.errors import OshpError

VGG = ("vgg16", "vgg16-sg-one", "vgg16-fcn8s")
RESNET = ("resnet50", "resnet50-deep")
# The convolutions among torchvision's `features`.
CONVS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


def torchvision_name(name: str, deep: bool = False) -> str:
    """What torchvision calls a tensor of our ResNet-50; semseg's deep stem goes on counting."""
    numbers = {0: "conv1", 1: "bn1"} | ({3: "conv2", 4: "bn2", 6: "conv3", 7: "bn3"} if deep else {})
    return re.sub(r"^layer0\.(\d)", lambda found: numbers[int(found[1])], name)


def drawn(name: str, seed: int = 7) -> dict[str, Tensor]:
    """A backbone's tensors with other numbers than a new one has, under torchvision's names, with a classifier."""
    torch.manual_seed(seed)
    state = {
        torchvision_name(key, name.endswith("deep")): torch.rand_like(value) if value.is_floating_point() else value
        for key, value in build_backbone(name, pretrained=False).state_dict().items()
    }
    classifier = "classifier.0" if name in VGG else "fc"
    return {**state, f"{classifier}.weight": torch.rand(2, 2), f"{classifier}.bias": torch.rand(2)}


def test_vgg_has_torchvisions_names_and_as_many_parameters_as_table_8_says() -> None:
    for name in VGG:
        backbone = build_backbone(name, pretrained=False)
        wanted = [f"features.{index}.{kind}" for index in CONVS for kind in ("weight", "bias")]
        assert list(backbone.state_dict()) == wanted
        # 14.7 M in the paper.
        assert sum(each.numel() for each in backbone.parameters()) == 14_714_688


def test_resnet_has_as_many_parameters_as_torchvisions_without_the_classifier() -> None:
    assert sum(each.numel() for each in ResNet50().parameters()) == 23_508_032
    # 3x3 convolutions 3-64-64-128 for one of 7x7 from 3 to 64, two batch norms more, one of them wider, and a first
    # block that reads 64 channels more.
    more = 27 * 64 + 9 * 64 * 64 + 9 * 64 * 128 - 147 * 64 + 2 * (64 + 128) + 64 * (64 + 256)
    assert sum(each.numel() for each in ResNet50(deep_stem=True).parameters()) == 23_508_032 + more


def dilations(module: nn.Module) -> dict[str, int]:
    return {
        name: each.dilation[0]
        for name, each in module.named_modules()
        if isinstance(each, nn.Conv2d) and each.dilation != (1, 1)
    }


@pytest.mark.slow
def test_the_layouts_differ_in_dilation_pooling_and_last_relu() -> None:
    assert dilations(VGG16("panet")) == {f"features.{index}": 2 for index in (24, 26, 28)}
    assert dilations(VGG16("sg-one")) == {}
    assert dilations(VGG16("fcn8s")) == {"features.21": 2, "features.24": 2, "features.26": 4, "features.28": 4}
    third, fourth = ({f"layer{layer}.{i}.conv2": rate for i in range(n)} for layer, n, rate in ((3, 6, 2), (4, 3, 4)))
    assert dilations(ResNet50(dilated_first=True)) == third | fourth
    carried = third | fourth | {"layer4.0.conv2": 2}
    del carried["layer3.0.conv2"]
    assert dilations(ResNet50()) == carried
    torch.manual_seed(0)
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        least = {name: build_backbone(name, pretrained=False).eval()(images).min().item() for name in (*VGG, *RESNET)}
    assert {name for name, value in least.items() if value < 0} == {"vgg16", "resnet50"}
    pools = {
        layout: [each.kernel_size for each in VGG16(layout).features if isinstance(each, nn.MaxPool2d)]
        for layout in ("panet", "sg-one", "fcn8s")
    }
    assert pools == {"panet": [3] * 4, "sg-one": [3] * 5, "fcn8s": [2] * 3}


def test_a_photo_is_normalised_by_imagenets_mean_and_deviation() -> None:
    photo = torch.tensor([0.485, 0.456 + 0.224, 0.0]).view(1, 3, 1, 1)
    assert VGG16().normalised(photo).flatten().tolist() == pytest.approx([0, 1, -0.406 / 0.225], abs=1e-6)
    assert torch.equal(VGG16().normalised(photo), ResNet50().normalised(photo))


def test_another_width_puts_a_convolution_behind_the_features() -> None:
    for name in ("vgg16", "resnet50"):
        backbone = build_backbone(name, width=24, pretrained=False)
        assert backbone.stride == 8
        assert backbone(torch.rand(2, 3, 32, 32)).shape == (2, 24, 4, 4)


@pytest.mark.parametrize("name", [*VGG, *RESNET])
def test_weights_load_by_torchvisions_names(name: str, tmp_path: Path) -> None:
    state = drawn(name)
    # The oldest files do not count batches, and parallel training puts a word before each name.
    old = {f"module.{key}": value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth")
    backbone = build_backbone(name, weights=tmp_path / "old.pth", width=16)
    assert backbone.width == 16
    for key, value in backbone.state_dict().items():
        if not key.startswith("neck."):
            assert torch.equal(value, state[torchvision_name(key, name.endswith("deep"))]), key


@pytest.mark.slow
def test_weights_load_by_semsegs_own_names(tmp_path: Path) -> None:
    network = ResNet50(deep_stem=True)
    torch.save(network.state_dict(), tmp_path / "semseg.pth")
    assert {"layer0.0.weight", "layer0.7.bias", "layer1.0.conv1.weight"} <= network.state_dict().keys()
    loaded = build_backbone("resnet50-deep", weights=tmp_path / "semseg.pth")
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in loaded.state_dict().items())


def refused(name: str, state: dict[str, Tensor], path: Path) -> str:
    torch.save(state, path)
    with pytest.raises(OshpError) as raised:
        build_backbone(name, weights=path)
    return str(raised.value)


@pytest.mark.slow
def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    # A ResNet-101 has all of a ResNet-50's tensors, and more.
    larger = drawn("resnet50") | {"layer3.6.conv1.weight": torch.rand(256, 1024, 1, 1)}
    assert refused("resnet50", larger, path) == f"{path}: has an unknown tensor layer3.6.conv1.weight"
    stem = refused("resnet50-deep", drawn("resnet50"), path)
    assert f"{path}: lacks the tensor layer0.3.weight; it is of another architecture" in stem
    half = {name: value for name, value in drawn("vgg16").items() if name not in ("features.26.weight",)}
    assert "lacks the tensor features.26.weight" in refused("vgg16", half, path)
    half = drawn("vgg16") | {"features.28.weight": torch.rand(512, 256, 3, 3)}
    assert refused("vgg16", half, path) == (
        f"{path}: features.28.weight has shape [512, 256, 3, 3], not [512, 512, 3, 3]"
    )
    assert "lacks the tensor" in refused("vgg16", drawn("resnet50"), path)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("vgg16", "vgg16 needs a file of pretrained weights, such as torchvision's vgg16-397923af.pth"),
        ("resnet50-deep", "resnet50-deep needs a file of pretrained weights, such as semseg's resnet50_v2.pth"),
    ],
)
def test_weights_have_to_be_given(name: str, line: str) -> None:
    with pytest.raises(OshpError, match=line):
        build_backbone(name)
