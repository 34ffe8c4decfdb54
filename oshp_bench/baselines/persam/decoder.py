"""SAM's mask decoder with PerSAM's guidance (Zhang et al., ICLR 2024, section 3.2).

transformers' own decoder takes the guidance too, but what it does with it differs between its versions: before version
4.51 as the official code, later with one softmax instead of two, and always without the target's embedding in the last
attention. So its layers are run here, and only their weights are the library's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from oshp_bench.baselines.backbones.sam import Sam


@dataclass(frozen=True)
class Prompts:
    """What SAM is asked with, in pixels of its square.

    Attributes:
        points: float [P, 2] as (x, y).
        positive: int64 [P]: 1 where the object is, 0 where it is not.
        box: float [4], (x, y) of the first and of the last corner; None for none.
        mask: float [1, 1, 4 * cells, 4 * cells], logits of an earlier pass; None for none.
    """

    points: Tensor
    positive: Tensor
    box: Tensor | None = None
    mask: Tensor | None = None


@dataclass(frozen=True)
class Guidance:
    """Where and what the target is.

    Attributes:
        attention: float [cells * cells], row by row; what target-guided attention adds.
        target: float [256], the target's embedding of target-semantic prompting.
    """

    attention: Tensor
    target: Tensor


@dataclass(frozen=True)
class Masks:
    """What one pass gives.

    Attributes:
        logits: float [1, M, 4 * cells, 4 * cells]: the single mask first, then the multiple ones.
        iou: float [M]: how good the decoder thinks each of them.
    """

    logits: Tensor
    iou: Tensor

    @property
    def multiple(self) -> Masks:
        """The multiple masks alone."""
        return Masks(self.logits[:, 1:], self.iou[1:])

    @property
    def single(self) -> Masks:
        """The single mask alone."""
        return Masks(self.logits[:, :1], self.iou[:1])

    @property
    def best(self) -> int:
        """The mask with the highest predicted IoU."""
        return int(self.iou.argmax())

    @property
    def best_logits(self) -> Tensor:
        """Its logits: float [1, 1, 4 * cells, 4 * cells]."""
        return self.logits[:, self.best, None]


def decoded(sam: Sam, features: Tensor, prompts: Prompts, guidance: Guidance | None = None) -> Masks:
    """One pass of the mask decoder.

    Args:
        features: one image's embedding, float [1, 256, cells, cells].
    """
    box, points = prompts.box, prompts.points[None, None]
    sparse, dense = sam.prompt_encoder(
        input_points=points,
        input_labels=prompts.positive[None, None],
        input_boxes=None if box is None else box[None, None],
        input_masks=prompts.mask,
    )
    decoder = sam.mask_decoder
    own = torch.cat((decoder.iou_token.weight, decoder.mask_tokens.weight))
    tokens = torch.cat((own, sparse[0, 0].to(own.dtype)))
    image = (features + dense)[0].flatten(1).T
    tokens, image = _two_way(decoder.transformer, tokens, image, _positions(sam), guidance)
    upscaled = decoder.upscale_conv1(image.T.view_as(features))
    upscaled = decoder.activation(decoder.upscale_layer_norm(upscaled))
    upscaled = decoder.activation(decoder.upscale_conv2(upscaled))
    networks = decoder.output_hypernetworks_mlps
    weights = torch.stack([network(token) for network, token in zip(networks, tokens[1:], strict=False)])
    return Masks(torch.einsum("mc,nchw->nmhw", weights, upscaled), decoder.iou_prediction_head(tokens[0]))


def _two_way(
    transformer: Any, tokens: Tensor, image: Tensor, positions: Tensor, guidance: Guidance | None
) -> tuple[Tensor, Tensor]:
    """SAM's two-way transformer on tokens [T, 256] and image cells [cells * cells, 256].

    The target's embedding is added to the queries before every layer. The official code adds it in place the first
    time, where queries and the tokens' positional term are one tensor, so that this term contains it from then on.
    """
    attention = None if guidance is None else guidance.attention
    target = tokens.new_zeros(()) if guidance is None else guidance.target
    place = tokens + target
    queries = tokens
    for number, layer in enumerate(transformer.layers):
        queries = queries + target
        if number == 0:
            queries = _attention(layer.self_attn, queries, queries, queries)
        else:
            queries = queries + _attention(layer.self_attn, queries + place, queries + place, queries)
        queries = layer.layer_norm1(queries)
        queries = queries + _attention(
            layer.cross_attn_token_to_image, queries + place, image + positions, image, attention
        )
        queries = layer.layer_norm2(queries)
        queries = layer.layer_norm3(queries + layer.mlp(queries))
        image = image + _attention(layer.cross_attn_image_to_token, image + positions, queries + place, queries)
        image = layer.layer_norm4(image)
    asked = queries + place + target
    queries = queries + _attention(transformer.final_attn_token_to_image, asked, image + positions, image)
    return transformer.layer_norm_final_attn(queries), image


def _attention(layer: Any, query: Tensor, key: Tensor, value: Tensor, guidance: Tensor | None = None) -> Tensor:
    """Attention with several heads: [T, C] from queries [T, C], keys and values [K, C].

    Target-guided attention is softmax(softmax(q k / sqrt(d)) + G).
    """
    query, key, value = (
        projected.unflatten(1, (layer.num_attention_heads, -1)).transpose(0, 1)
        for projected in (layer.q_proj(query), layer.k_proj(key), layer.v_proj(value))
    )
    weights = (query @ key.mT / math.sqrt(query.shape[2])).softmax(2)
    if guidance is not None:
        weights = (weights + guidance).softmax(2)
    out: Tensor = layer.out_proj((weights @ value).transpose(0, 1).flatten(1))
    return out


def _positions(sam: Sam) -> Tensor:
    """The encoding of the cells' centres: float [cells * cells, 256]."""
    matrix = sam.prompt_encoder.shared_embedding.positional_embedding
    centres = (torch.arange(sam.cells, device=matrix.device, dtype=matrix.dtype) + 0.5) / sam.cells
    rows, columns = torch.meshgrid(centres, centres, indexing="ij")
    angles = 2 * math.pi * (2 * torch.stack((columns, rows), 2).flatten(0, 1) - 1) @ matrix
    return torch.cat((angles.sin(), angles.cos()), 1)
