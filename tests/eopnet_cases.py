"""Small EOP-Nets and episodes for tests: a backbone of one convolution, pictures of a few rectangles."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from oshp_bench.baselines.backbones.layers import Backbone
from oshp_bench.baselines.contract import Batch, Labels, LearnedMethod, Progress, Support
from oshp_bench.baselines.eopnet.network import EOPNet
from oshp_bench.baselines.eopnet.settings import EOPNetSettings, Parts
from oshp_bench.episodes.episodes import Way

WIDTH, COUNT, SIZE = 8, 8, 32
LABELS = Labels(COUNT, (1, 2, 3, 7))
MIDDLE = Progress(epoch=20, epochs=50, step=0, steps=1)


class Strided(Backbone):
    """One convolution of stride 4."""

    def __init__(self) -> None:
        super().__init__()
        self.width = WIDTH
        self.conv = nn.Conv2d(3, WIDTH, 5, 4, 2)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.conv(images).relu()
        return out


def network(settings: EOPNetSettings | None = None, way: Way = "k") -> EOPNet:
    """An EOP-Net of classes below 8, the same whenever it is asked for."""
    torch.manual_seed(1)
    return EOPNet.build(Strided(), LABELS, way, settings or EOPNetSettings())


def without(whole: EOPNet, **parts: bool) -> EOPNet:
    """The same network and weights, with parts switched off."""
    cut = network(replace(whole.settings, parts=Parts(**parts)), whole.ways[0])
    cut.load_state_dict({name: tensor for name, tensor in whole.state_dict().items() if name in cut.state_dict()})
    return cut


def blocks(*columns: int) -> Tensor:
    """A mask [SIZE, SIZE] of upright stripes of equal width, background in its upper quarter."""
    mask = torch.tensor(columns).repeat_interleave(SIZE // len(columns)).expand(SIZE, SIZE).clone()
    mask[: SIZE // 4] = 0
    return mask


def batch(way: Way = "k") -> Batch:
    """Two episodes: the first query has a class that its support lacks (5), the second support one more (3)."""
    generator = torch.Generator().manual_seed(2)
    query_masks = torch.stack([blocks(1, 2, 5, 255), blocks(1, 2, 0, 7)])
    support_masks = torch.stack([blocks(2, 1, 7, 0), blocks(7, 1, 3, 2)])
    return Batch(
        way=way,
        query_images=torch.rand(2, 3, SIZE, SIZE, generator=generator),
        support_images=torch.rand(2, 3, SIZE, SIZE, generator=generator)[:, None],
        query_masks=query_masks,
        support_masks=support_masks[:, None],
        query_coarse=torch.where(query_masks == 255, 255, (query_masks > 0).long()),
        support_coarse=(support_masks > 0).long()[:, None],
        support_targets=torch.tensor([[2], [7]]) if way == "1" else torch.zeros(2, 1, dtype=torch.int64),
    )


def support(net: LearnedMethod, episodes: Batch, classes: tuple[int, ...], number: int = 0) -> Support:
    """The support of one episode of a batch, as prediction gives it."""
    mask, coarse = episodes.support_masks[number], episodes.support_coarse[number]
    asked = torch.where(torch.isin(mask, torch.tensor([*classes, 255])), mask, 0)
    return Support(net.encode(episodes.support_images[number]), asked, mask, coarse, classes)


def steps(net: EOPNet, count: int = 3) -> None:
    """A few steps of training at a visible learning rate, the first in warm-up."""
    net.train()
    optimiser = torch.optim.SGD(net.parameters(), 0.05)
    for step in range(count):
        losses = net(batch(net.ways[0]), Progress(min(step, 1) * 20, 50, step, count))
        optimiser.zero_grad()
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
        optimiser.step()
