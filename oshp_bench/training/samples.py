"""From drawn episodes to tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from oshp_bench.baselines.contract import Batch
from oshp_bench.baselines.registry import network_class
from oshp_bench.episodes.draws import Draw, Draws
from oshp_bench.episodes.episodes import Way
from oshp_bench.episodes.training_episodes import TrainingEpisodes, padded_targets
from oshp_bench.errors import OshpError
from oshp_bench.manifest import Manifest
from oshp_bench.training.settings import TrainSettings


def draws_of(manifest: Manifest, settings: TrainSettings) -> Draws:
    """The episodes that settings ask for.

    Raises:
        OshpError: see Draws.
    """
    return Draws(
        manifest,
        settings.way,
        settings.seed,
        supports=network_class(settings.method).supports,
        queries_per_class=settings.queries_per_class,
        redraw=settings.redraw,
        episodes=settings.episodes,
        batch=settings.batch,
    )


@dataclass(frozen=True)
class RawBatch:
    """The episodes of a step, or of a part of it, as bytes; `on` makes the network's batch of them.

    Attributes:
        photos: uint8 [N, 1 + S, 3, H, W]: of each episode the query, then its supports, padded with black photos.
        masks: uint8 [2, N, 1 + S, H, W]: fine and coarse; padding is 255.
    """

    draws: tuple[Draw, ...]
    photos: Tensor
    masks: Tensor

    def parts(self, count: int) -> list[RawBatch]:
        """The batch in `count` equal parts, in order."""
        size = len(self.draws) // count
        cuts = [slice(i * size, (i + 1) * size) for i in range(count)]
        return [RawBatch(self.draws[cut], self.photos[cut], self.masks[:, cut]) for cut in cuts]

    def pin_memory(self) -> RawBatch:
        """Asked for by DataLoader before a batch goes to a GPU."""
        return RawBatch(self.draws, self.photos.pin_memory(), self.masks.pin_memory())

    def on(self, device: torch.device, way: Way, channels_last: bool) -> Batch:
        """The batch on a device."""
        order = torch.channels_last if channels_last else torch.contiguous_format
        photos = self.photos.to(device, non_blocking=True).float().div_(255)
        fine, coarse = self.masks.to(device, non_blocking=True).long()
        supports = photos[:, 1:].flatten(0, 1).contiguous(memory_format=order)
        most = photos.shape[1] - 1
        return Batch(
            way=way,
            query_images=photos[:, 0].contiguous(memory_format=order),
            query_masks=fine[:, 0],
            query_coarse=coarse[:, 0],
            support_images=supports.view(-1, most, *supports.shape[1:]),
            support_masks=fine[:, 1:],
            support_coarse=coarse[:, 1:],
            support_targets=torch.from_numpy(padded_targets(self.draws, most)).to(device),
        )


class _Batches(Dataset[RawBatch | OshpError]):
    """Batches by the places of their episodes. An error is returned, as a worker would garble what it raises."""

    def __init__(self, episodes: TrainingEpisodes) -> None:
        self._episodes = episodes

    def __getitem__(self, places: list[tuple[int, int]]) -> RawBatch | OshpError:
        try:
            batch = self._episodes.collate([self._episodes.at(*place) for place in places])
        except OshpError as error:
            return error
        return RawBatch(batch.draws, torch.from_numpy(batch.photos), torch.from_numpy(batch.masks))


def batches(
    episodes: TrainingEpisodes, places: Iterable[list[tuple[int, int]]], workers: int, device: torch.device
) -> Iterator[RawBatch]:
    """Loads batches in order, each given by the (epoch, index) of its episodes.

    Raises:
        OshpError: a photo or mask that cannot be used.
    """
    loader = DataLoader(
        _Batches(episodes),
        sampler=places,
        batch_size=None,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        # Else the loader takes a number from the generator that a method's random numbers come from.
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, OshpError):
            raise batch
        yield batch
