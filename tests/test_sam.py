"""SAM: how photos come into its square, and which files of weights it takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bounds import within_bounds
from safetensors.torch import save_file
from torch import Tensor

from oshp_bench.baselines.backbones import build_backbone
from oshp_bench.baselines.backbones.sam import SIZES, Sam, SamSize
from oshp_bench.errors import OshpError

pytest.importorskip("transformers")
State = dict[str, Tensor]
# From the names of this project, which are those of transformers, to those of the official files.
OFFICIAL = (
    (r"^vision_encoder\.", "image_encoder."),
    (r"patch_embed\.projection", "patch_embed.proj"),
    (r"^image_encoder\.layers", "image_encoder.blocks"),
    (r"neck\.conv1", "neck.0"),
    (r"neck\.layer_norm1", "neck.1"),
    (r"neck\.conv2", "neck.2"),
    (r"neck\.layer_norm2", "neck.3"),
    (r"shared_embedding\.positional_embedding", "pe_layer.positional_encoding_gaussian_matrix"),
    (r"encoder\.point_embed\.", "encoder.point_embeddings."),
    (r"mask_embed\.conv1", "mask_downscaling.0"),
    (r"mask_embed\.layer_norm1", "mask_downscaling.1"),
    (r"mask_embed\.conv2", "mask_downscaling.3"),
    (r"mask_embed\.layer_norm2", "mask_downscaling.4"),
    (r"mask_embed\.conv3", "mask_downscaling.6"),
    (r"upscale_conv1", "output_upscaling.0"),
    (r"upscale_layer_norm", "output_upscaling.1"),
    (r"upscale_conv2", "output_upscaling.3"),
    (r"layer_norm", "norm"),
    (r"((mlps\.\d|prediction_head)\.)layers\.0", r"\1layers.1"),
    (r"proj_in", "layers.0"),
    (r"proj_out", "layers.2"),
)
POSITIONS = "prompt_encoder.shared_embedding.positional_embedding"


def drawn(seed: int = 1) -> State:
    torch.manual_seed(seed)
    return {name: torch.randn_like(tensor) for name, tensor in Sam(SIZES["sam-tiny"]).state_dict().items()}


def official(state: State) -> State:
    named = dict(state)
    for ours, theirs in OFFICIAL:
        named = {re.sub(ours, theirs, name): tensor for name, tensor in named.items()}
    return named


def as_transformers_saves(state: State) -> State:
    """The encoding of positions under its other name; of the two that share it one is saved."""
    return {
        "shared_image_embedding.positional_embedding" if name == POSITIONS else name: tensor
        for name, tensor in state.items()
    }


def a_pth_file(path: Path, state: State) -> Path:
    torch.save(official(state), path / "sam.pth")
    return path / "sam.pth"


def a_safetensors_file(path: Path, state: State) -> Path:
    save_file(as_transformers_saves(state), path / "sam.safetensors")
    return path / "sam.safetensors"


def a_folder(path: Path, state: State) -> Path:
    both = as_transformers_saves(state) | {POSITIONS: state[POSITIONS].clone()}
    save_file(both, path / "model.safetensors")
    return path


@pytest.mark.parametrize("write", [a_pth_file, a_safetensors_file, a_folder])
def test_weights_of_every_kind_are_taken(write: Callable[[Path, State], Path], tmp_path: Path) -> None:
    state = drawn()
    backbone = build_backbone("sam-tiny", weights=write(tmp_path, state))
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_the_official_names_are_those_of_the_description() -> None:
    names = official(drawn())
    assert {
        "image_encoder.blocks.1.attn.rel_pos_h",
        "image_encoder.blocks.0.norm2.weight",
        "image_encoder.neck.3.bias",
        "prompt_encoder.point_embeddings.3.weight",
        "prompt_encoder.mask_downscaling.6.weight",
        "mask_decoder.transformer.layers.1.cross_attn_image_to_token.out_proj.bias",
        "mask_decoder.transformer.norm_final_attn.weight",
        "mask_decoder.output_upscaling.3.weight",
        "mask_decoder.output_hypernetworks_mlps.3.layers.2.weight",
        "mask_decoder.iou_prediction_head.layers.1.weight",
    } <= names.keys()


def problems_of(path: Path | None) -> tuple[str, ...]:
    with pytest.raises(OshpError) as caught:
        build_backbone("sam-tiny", weights=path)
    return caught.value.problems


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    torch.manual_seed(1)
    narrower, deeper = (Sam(size).state_dict() for size in (SamSize(16, 2, 2, (1,), 256), SamSize(32, 3, 2, (1,), 256)))
    found = problems_of(a_pth_file(tmp_path, narrower))
    assert any("vision_encoder.patch_embed.projection.weight has shape [16, 3, 16, 16]" in line for line in found)
    found = problems_of(a_pth_file(tmp_path, deeper))
    assert all("has an unknown tensor vision_encoder.layers.2." in line for line in found[:-1])


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    """The image encoder alone, and everything cut off in the middle."""
    part = {name: tensor for name, tensor in drawn().items() if name.startswith("vision_encoder.")}
    assert all("lacks the tensor mask_decoder." in line for line in problems_of(a_pth_file(tmp_path, part))[:-1])
    for write in (a_pth_file, a_safetensors_file):
        file = write(tmp_path, drawn())
        file.write_bytes(file.read_bytes()[:-1000])
        (line,) = problems_of(file)
        assert line.startswith(f"{file}: no file of plain tensors (cut off,")


def test_a_file_that_is_no_sam_is_refused(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(3)}, tmp_path / "other.pth")
    assert any("lacks the tensor" in line for line in problems_of(tmp_path / "other.pth"))
    torch.save({"model": print}, tmp_path / "code.pth")
    (line,) = problems_of(tmp_path / "code.pth")
    assert "with code inside" in line


def test_missing_weights_are_one_line(tmp_path: Path) -> None:
    (line,) = problems_of(tmp_path)
    assert line == f"{tmp_path / 'model.safetensors'}: cannot be read (No such file or directory); check the path"
    (line,) = problems_of(None)
    assert line.startswith("sam-tiny needs a file of pretrained weights")


def test_a_photo_fills_the_square_with_its_longer_side() -> None:
    """256/97 * 65 = 171.5, half a pixel rounds up; a photo of one row keeps one."""
    sam = Sam(SIZES["sam-tiny"])
    assert sam.fitted((97, 65)) == (256, 172)
    assert sam.fitted((300, 200)) == (256, 171)
    assert sam.fitted((1, 2000)) == (1, 256)
    assert sam.embedded(torch.rand(2, 3, 40, 30)).shape == (2, 256, 16, 16)


def test_no_other_method_takes_sam_for_features() -> None:
    with pytest.raises(OshpError, match="SAM is a backbone for persam alone"):
        build_backbone("sam-tiny", pretrained=False)(torch.rand(1, 3, 64, 64))


def test_a_width_is_refused() -> None:
    with pytest.raises(OshpError, match="sam-tiny has 256 channels, not 64; remove the width"):
        build_backbone("sam-tiny", width=64, pretrained=False)


@pytest.mark.parametrize(
    ("name", "parameters"), [("sam-vit-b", 93_735_472), ("sam-vit-l", 312_342_832), ("sam-vit-h", 641_090_608)]
)
def test_the_published_sizes_have_their_parameters(name: str, parameters: int) -> None:
    """As the official models count them, which keep the encoding of positions as a buffer."""
    with torch.device("meta"):
        sam = Sam(SIZES[name])
    assert sum(tensor.numel() for known, tensor in sam.named_parameters() if known != POSITIONS) == parameters


def test_a_wrong_path_is_refused_before_the_largest_sam_is_built(tmp_path: Path) -> None:
    # SAM ViT-H has 632 million parameters: 2.5 GB.
    with within_bounds("sam-vit-h"), pytest.raises(OshpError, match=r"nowhere\.pth: cannot be read"):
        build_backbone("sam-vit-h", weights=tmp_path / "nowhere.pth")
