"""Means of features under masks at image size, without bringing the features there."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def spread(masks: Tensor, grid: tuple[int, int], align_corners: bool = False) -> Tensor:
    """What each cell of the feature grid weighs in a sum over pixels: float [..., H, W] -> [..., *grid].

    Bilinear interpolation is linear, so that a sum over the pixels of upsampled features is a sum over the cells of
    the features themselves. The weights of a mask add up to its sum.

    Args:
        align_corners: as in torch's interpolate.
    """
    rows, columns = (
        functional.interpolate(
            torch.eye(cells, dtype=masks.dtype, device=masks.device)[None],
            size=pixels,
            mode="linear",
            align_corners=align_corners,
        )[0]
        for cells, pixels in zip(grid, masks.shape[-2:], strict=True)
    )
    return rows @ masks @ columns.T


def full_size_means(features: Tensor, masks: Tensor, eps: float = 0.0, align_corners: bool = False) -> Tensor:
    """Masked average pooling of features that are upsampled bilinearly to the size of their masks.

    Args:
        features: float [N, C, h, w].
        masks: bool [N, K, H, W].
        eps: added to the number of a mask's pixels.

    Returns:
        float [N, K, C], float32 or better; zero for an empty mask.
    """
    with torch.autocast(features.device.type, enabled=False):
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        weights = spread(masks.to(features.dtype), (features.shape[2], features.shape[3]), align_corners)
        sums = torch.einsum("nkhw,nchw->nkc", weights, features)
        pixels = masks.sum((2, 3))[:, :, None].to(features.dtype)
        return sums / (pixels + eps).clamp(min=1)
