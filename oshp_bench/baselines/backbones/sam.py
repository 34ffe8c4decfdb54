"""Segment Anything (SAM; Kirillov et al., ICCV 2023): the parts of transformers' SamModel, for PerSAM."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from oshp_bench.baselines.backbones.layers import Backbone
from oshp_bench.baselines.backbones.weights import load_state, read_state
from oshp_bench.errors import MissingPackage, OshpError

WIDTH, PATCH = 256, 16
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
# The mask decoder's layer norm; transformers' own default, 1e-6, shifts logits by up to 1e-3.
_DECODER_EPS = 1e-5
# The encoding of positions, which the library keeps under two names.
_POSITIONS = "prompt_encoder.shared_embedding.positional_embedding"
_POSITIONS_AGAIN = "shared_image_embedding.positional_embedding"
# What transformers calls the tensors of an official file.
_RENAMED = (
    (r"^image_encoder\.", "vision_encoder."),
    (r"patch_embed\.proj\.", "patch_embed.projection."),
    (r"^vision_encoder\.blocks\.", "vision_encoder.layers."),
    (r"\.norm(\d|_final_attn)\.", r".layer_norm\1."),
    (r"\.neck\.0\.", ".neck.conv1."),
    (r"\.neck\.1\.", ".neck.layer_norm1."),
    (r"\.neck\.2\.", ".neck.conv2."),
    (r"\.neck\.3\.", ".neck.layer_norm2."),
    (r"pe_layer\.positional_encoding_gaussian_matrix$", "shared_embedding.positional_embedding"),
    (r"\.point_embeddings\.", ".point_embed."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    (r"(mlps\.\d|iou_prediction_head)\.layers\.0\.", r"\1.proj_in."),
    (r"(mlps\.\d|iou_prediction_head)\.layers\.1\.", r"\1.layers.0."),
    (r"(mlps\.\d|iou_prediction_head)\.layers\.2\.", r"\1.proj_out."),
)


@dataclass(frozen=True)
class SamSize:
    """The image encoder of a SAM; its other parts are the same in all of them.

    Attributes:
        hidden: channels of its `depth` blocks with `heads` heads.
        everywhere: the blocks whose attention sees the whole image; the others see windows.
        image: the side of the square that photos are fitted into, in pixels.
        window: the side of a window, in cells of 16 pixels.
    """

    hidden: int
    depth: int
    heads: int
    everywhere: tuple[int, ...]
    image: int = 1024
    window: int = 14


SIZES = {
    "sam-vit-b": SamSize(768, 12, 12, (2, 5, 8, 11)),
    "sam-vit-l": SamSize(1024, 24, 16, (5, 11, 17, 23)),
    "sam-vit-h": SamSize(1280, 32, 16, (7, 15, 23, 31)),
    "sam-tiny": SamSize(32, 2, 2, (1,), image=256),
}


class Sam(Backbone):
    """SAM with frozen weights, under transformers' names.

    Attributes:
        image: the side of its square, in pixels; `cells` the side of its grid, in cells of 16 pixels.
        vision_encoder, prompt_encoder, mask_decoder: modules of transformers.

    Raises:
        OshpError: transformers is not installed.
    """

    width = WIDTH
    stride = PATCH
    levels = {}
    vision_encoder: Any
    prompt_encoder: Any
    mask_decoder: Any

    def __init__(self, size: SamSize) -> None:
        super().__init__()
        try:
            from transformers import (
                SamConfig,
                SamMaskDecoderConfig,
                SamModel,
                SamPromptEncoderConfig,
                SamVisionConfig,
            )
        except ImportError as error:
            raise MissingPackage("SAM", "transformers", "hub") from error
        model = SamModel(
            SamConfig(
                vision_config=SamVisionConfig(
                    hidden_size=size.hidden,
                    num_hidden_layers=size.depth,
                    num_attention_heads=size.heads,
                    mlp_dim=4 * size.hidden,
                    image_size=size.image,
                    window_size=size.window,
                    global_attn_indexes=list(size.everywhere),
                    num_pos_feats=WIDTH // 2,
                ),
                prompt_encoder_config=SamPromptEncoderConfig(image_size=size.image),
                mask_decoder_config=SamMaskDecoderConfig(layer_norm_eps=_DECODER_EPS),
            )
        )
        self.image = size.image
        self.cells = size.image // PATCH
        self.vision_encoder = model.vision_encoder
        self.prompt_encoder = model.prompt_encoder
        self.mask_decoder = model.mask_decoder
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:  # noqa: ARG002
        """Refuses: the features of SAM's square do not cover a photo as those of other backbones do.

        Raises:
            OshpError: always.
        """
        raise OshpError("SAM is a backbone for persam alone; choose another one, such as efficientnet-lite0")

    def fitted(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size that a photo has in SAM's square: its longer side fills it."""
        scale = self.image / max(size)
        height, width = (max(1, int(side * scale + 0.5)) for side in size)
        return height, width

    def embedded(self, images: Tensor) -> Tensor:
        """The image encoder's embedding of photos, RGB in 0..1, [N, 3, H, W]: [N, 256, cells, cells].

        Photos are scaled as bytes by Pillow (bilinear; it averages when it shrinks), and padded on the right and below.
        """
        height, width = self.fitted((images.shape[2], images.shape[3]))
        photos = (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        scaled = np.stack([np.asarray(scaled_by_pillow(Image.fromarray(photo), (height, width))) for photo in photos])
        mean, std = (images.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
        pixels = (torch.from_numpy(scaled).permute(0, 3, 1, 2).to(images) - mean) / std
        square = functional.pad(pixels, (0, self.image - width, 0, self.image - height))
        features: Tensor = self.vision_encoder(square)[0]
        return features


def scaled_by_pillow(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A picture at another size (height, width), as the official code scales photos and masks."""
    return picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)


def as_photo_value(mask: Tensor) -> Tensor:
    """A mask of 0 and 255 as a photo's red channel is normalised."""
    return (mask - _MEAN[0]) / _STD[0]


def load_sam(backbone: nn.Module, path: Path) -> None:
    """Fills a SAM from an official .pth file, from a file of transformers, or from the folder of one.

    Raises:
        OshpError: it cannot be read, or holds a SAM of another size or something else.
    """
    file = path / "model.safetensors" if path.is_dir() else path
    load_state(backbone, named_as_ours(read_state(file)), file)


def named_as_ours(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an official file, or of transformers' own, under the names of `Sam`."""
    official = any(name.startswith("image_encoder.") for name in state)
    ours = dict(state)
    for theirs, replacement in _RENAMED if official else ():
        ours = {re.sub(theirs, replacement, name): tensor for name, tensor in ours.items()}
    again = ours.pop(_POSITIONS_AGAIN, None)
    if again is not None:
        ours.setdefault(_POSITIONS, again)
    return ours
