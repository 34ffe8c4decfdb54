"""From a drawn episode to tensors: augmented photos, fine and coarse masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from oshp_bench.baselines.contract import Batch
from oshp_bench.baselines.pieces.prototypes import EMPTY
from oshp_bench.datasets.images import COARSE, IGNORE, Mask, Photo
from oshp_bench.episodes.episodes import Way
from oshp_bench.errors import OshpError
from oshp_bench.manifest import Manifest
from oshp_bench.randomness import Stream
from oshp_bench.training.draws import Draw, Draws
from oshp_bench.training.photos import TrainingPhotos
from oshp_bench.training.settings import Augmentation, TrainSettings

# Of one side: flip, two scales, two offsets.
_NUMBERS = 5


@dataclass(frozen=True)
class Sample:
    """One augmented side of an episode: photo uint8 [crop, crop, 3], masks uint8 [crop, crop], 255 = ignore.

    Attributes:
        fine: class ids, novel classes as background.
        coarse: 1 wherever the source mask has a label but background, taken before merge and removal.
    """

    photo: Photo
    fine: Mask
    coarse: Mask


class TrainingSamples:
    """Augmented training episodes by (epoch, index); they do not depend on which process asks, nor in which order."""

    def __init__(self, manifest: Manifest, photos: TrainingPhotos, draws: Draws, settings: TrainSettings) -> None:
        self._photos = photos
        self._draws = draws
        self._augmentation = settings.augmentation
        self._seed = settings.seed
        self._fine = manifest.training_classes

    def __getitem__(self, place: tuple[int, int]) -> tuple[Draw, Sample, list[Sample]]:
        """The episode of an (epoch, index): its draw, its query, and its supports."""
        draw = self._draws.draw(*place)
        images = (draw.query, *draw.supports)
        words = Stream("oshp-train", "augment", self._seed, *place).words(len(images) * _NUMBERS)
        numbers = ((words >> np.uint64(11)) / 2.0**53).reshape(-1, _NUMBERS).tolist()
        query, *supports = map(self._sample, images, numbers)
        return draw, query, supports

    def _sample(self, image: str, numbers: list[float]) -> Sample:
        photo, mask = self._photos.read(image)
        photo, mask = augmented(photo, mask, self._augmentation, numbers)
        return Sample(photo, self._fine.take(mask), COARSE.take(mask))


def augmented(photo: Photo, mask: Mask, how: Augmentation, numbers: list[float]) -> tuple[Photo, Mask]:
    """Scales, crops and mirrors a photo and its mask alike.

    The crop is cut first and then resized once, photos with an antialiasing bilinear filter, masks by the nearest
    pixel's centre, so no label is ever mixed.

    Args:
        photo: uint8 [H, W, 3]; mask: uint8 [H, W].
        numbers: five in [0, 1): flip, scale of height and width, offset of the crop.

    Returns:
        uint8 [crop, crop, 3] and uint8 [crop, crop].
    """
    flip, *scales, top, left = numbers
    low, high = how.scale
    scale_y, scale_x = (low + (high - low) * part for part in (scales[0], scales[0 if how.one_scale else 1]))
    height, width = mask.shape
    fitted_height, fitted_width = _fitted(height, width, how)
    rows = _window(max(1, round(fitted_height * scale_y)), how.crop, top)
    columns = _window(max(1, round(fitted_width * scale_x)), how.crop, left)
    box = (columns.begin * width, rows.begin * height, columns.end * width, rows.end * height)
    cut = Image.fromarray(photo).resize((columns.pixels, rows.pixels), Image.Resampling.BILINEAR, box)
    nearest = mask[rows.nearest(height)[:, None], columns.nearest(width)]
    step = -1 if how.flip and flip < 0.5 else 1
    whole = np.zeros((how.crop, how.crop, 3), np.uint8)
    whole[: rows.pixels, : columns.pixels] = np.asarray(cut)[:, ::step]
    labels = np.full((how.crop, how.crop), IGNORE, np.uint8)
    labels[: rows.pixels, : columns.pixels] = nearest[:, ::step]
    return whole, labels


@dataclass(frozen=True)
class _Window:
    """What a crop shows of one axis: from `begin` to `end` in parts of the whole, in so many pixels."""

    begin: float
    end: float
    pixels: int

    def nearest(self, length: int) -> NDArray[np.intp]:
        """For every pixel the index of the source pixel whose area holds its centre."""
        centres = self.begin + (np.arange(self.pixels) + 0.5) * (self.end - self.begin) / self.pixels
        return np.minimum((centres * length).astype(np.intp), length - 1)


def _window(length: int, crop: int, offset: float) -> _Window:
    pixels = min(length, crop)
    begin = int(offset * (length - pixels + 1))
    return _Window(begin / length, (begin + pixels) / length, pixels)


def _fitted(height: int, width: int, how: Augmentation) -> tuple[float, float]:
    """The size of a photo before it is scaled."""
    if how.fit == "square":
        return how.crop, how.crop
    factor = how.side / max(height, width) if how.fit == "longest" else 1.0
    return height * factor, width * factor


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
        targets = [draw.targets + (EMPTY,) * (most - len(draw.targets)) for draw in self.draws]
        return Batch(
            way=way,
            query_images=photos[:, 0].contiguous(memory_format=order),
            query_masks=fine[:, 0],
            query_coarse=coarse[:, 0],
            support_images=supports.view(-1, most, *supports.shape[1:]),
            support_masks=fine[:, 1:],
            support_coarse=coarse[:, 1:],
            support_targets=torch.tensor(targets, device=device),
        )


def collated(episodes: list[tuple[Draw, Sample, list[Sample]]]) -> RawBatch:
    """Stacks episodes; those with fewer supports than others are padded."""
    draws, queries, supports = zip(*episodes, strict=True)
    most = max(map(len, supports))
    crop = len(queries[0].fine)
    padding = Sample(np.zeros((crop, crop, 3), np.uint8), *(np.full((crop, crop), IGNORE, np.uint8) for _ in range(2)))
    rows = [
        [query, *samples, *[padding] * (most - len(samples))] for query, samples in zip(queries, supports, strict=True)
    ]
    photos = np.stack([[sample.photo.transpose(2, 0, 1) for sample in row] for row in rows])
    masks = np.stack([[[vars(sample)[kind] for sample in row] for row in rows] for kind in ("fine", "coarse")])
    return RawBatch(draws, torch.from_numpy(photos), torch.from_numpy(masks))


class _Batches(Dataset[RawBatch | OshpError]):
    """Batches by the places of their episodes. An error is returned, as a worker would garble what it raises."""

    def __init__(self, samples: TrainingSamples) -> None:
        self._samples = samples

    def __getitem__(self, places: list[tuple[int, int]]) -> RawBatch | OshpError:
        try:
            return collated([self._samples[place] for place in places])
        except OshpError as error:
            return error


def batches(
    samples: TrainingSamples, places: Iterable[list[tuple[int, int]]], workers: int, device: torch.device
) -> Iterator[RawBatch]:
    """Loads batches in order, each given by the (epoch, index) of its episodes.

    Raises:
        OshpError: a photo or mask that cannot be used.
    """
    loader = DataLoader(
        _Batches(samples),
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
