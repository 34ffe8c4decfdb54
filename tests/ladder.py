"""A backbone for tests of methods: three levels that are easily computed by hand, and episodes to train on."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from oshp_bench.baselines.backbones.layers import Backbone, Level
from oshp_bench.baselines.contract import Batch
from oshp_bench.episodes.episodes import Way

SIZE = 32


class Ladder(Backbone):
    """Three stages: each averages 2 x 2 pixels (the first), or passes on what it gets, through a 1x1 convolution.

    As long as the convolutions are not drawn, all levels are the photo at stride 2.
    """

    width, stride = 3, 2
    levels = {name: Level(3, 2) for name in ("low", "middle", "high")}

    def __init__(self, drawn: bool = False) -> None:
        super().__init__()
        self.convs = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3) if drawn else nn.Identity())
                for name in self.levels
            }
        )
        if not drawn:
            for conv in self.convs.values():
                nn.init.dirac_(conv.get_parameter("0.weight"))
                nn.init.zeros_(conv.get_parameter("0.bias"))

    def forward(self, images: Tensor) -> Tensor:
        return self.level_features(images, ("high",))["high"]

    def normalised(self, images: Tensor) -> Tensor:
        return functional.avg_pool2d(images, 2)

    def stage(self, name: str) -> nn.Module:
        return self.convs[name]


def stripes(*columns: int) -> Tensor:
    """A mask [SIZE, SIZE] of upright stripes of equal width, background in its upper quarter."""
    mask = torch.tensor(columns).repeat_interleave(SIZE // len(columns)).expand(SIZE, SIZE).clone()
    mask[: SIZE // 4] = 0
    return mask


def batch(way: Way) -> Batch:
    """Two episodes of photos that show the masks: the first query has a class that its support lacks."""
    query_masks = torch.stack([stripes(1, 2, 5, 255), stripes(1, 2, 0, 7)])
    support_masks = torch.stack([stripes(2, 1, 7, 0), stripes(7, 1, 3, 2)])[:, None]
    generator = torch.Generator().manual_seed(2)
    query_images, support_images = (
        (masks[..., None, :, :] % 255 / 8 + torch.rand(*masks.shape[:-2], 3, SIZE, SIZE, generator=generator)) / 2
        for masks in (query_masks, support_masks)
    )
    return Batch(
        way=way,
        query_images=query_images,
        query_masks=query_masks,
        query_coarse=torch.where(query_masks == 255, 255, (query_masks > 0).long()),
        support_images=support_images,
        support_masks=support_masks,
        support_coarse=(support_masks > 0).long(),
        support_targets=torch.tensor([[2], [7]]) if way == "1" else torch.zeros(2, 1, dtype=torch.int64),
    )
