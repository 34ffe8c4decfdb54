"""Training episodes: drawn, augmented, and without novel classes; a Dataset as PyTorch's DataLoader takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oshp_bench.datasets.images import COARSE, IGNORE, Mask, Photo
from oshp_bench.datasets.sources import Source
from oshp_bench.episodes.augmentation import Augmentation
from oshp_bench.episodes.draws import Draw, Draws
from oshp_bench.episodes.episodes import Way
from oshp_bench.episodes.training_photos import Files, TrainingPhotos
from oshp_bench.errors import OshpError
from oshp_bench.manifest import Manifest
from oshp_bench.randomness import Stream

Transform = Callable[[Photo, Mask, np.random.Generator], tuple[Photo, Mask]]
"""Own augmentation of one side of an episode: photo uint8 [H, W, 3] and masks uint8 [H, W, 2], fine and coarse, to both
in another size; all random numbers come from the generator. The arrays may be read-only."""

# Of one side: flip, two scales, two offsets.
_NUMBERS = 5


class Sample(NamedTuple):
    """One augmented side of an episode: photo uint8 [H, W, 3], masks uint8 [H, W], 255 = ignore.

    Attributes:
        fine: base classes; novel classes are background.
        coarse: 1 wherever the source mask has a label but background, taken before merge and removal.
    """

    photo: Photo
    fine: Mask
    coarse: Mask


class TrainingEpisode(NamedTuple):
    """A drawn episode: its ids, its query, and its supports in the order of the draw."""

    draw: Draw
    query: Sample
    supports: tuple[Sample, ...]


@dataclass(frozen=True)
class EpisodeBatch:
    """N episodes as arrays; index 0 of the second axis of a photo or mask is the query, then come the S supports.

    Attributes:
        photos: uint8 [N, 1 + S, 3, H, W], RGB.
        masks: uint8 [2, N, 1 + S, H, W]: fine and coarse; 255 = ignore. Episodes with fewer supports than others are
            padded with black photos whose masks are 255.
    """

    draws: tuple[Draw, ...]
    photos: NDArray[np.uint8]
    masks: NDArray[np.uint8]

    @property
    def targets(self) -> NDArray[np.int64]:
        """See padded_targets."""
        return padded_targets(self.draws, self.photos.shape[1] - 1)


def padded_targets(draws: Sequence[Draw], supports: int) -> NDArray[np.int64]:
    """int64 [N, S]: the class that each support was drawn for; 0 for all that it shows, -1 for padding."""
    return np.array([draw.targets + (-1,) * (supports - len(draw.targets)) for draw in draws], np.int64)


class TrainingEpisodes:
    """The training episodes of an epoch: a sequence with a len(), of base classes alone.

    An episode depends on seed, epoch and index alone, not on the process that asks for it, nor on the order. With the
    same seed and settings they are the episodes of oshp-train.

    Args:
        manifest: knows the classes of its training images, as manifests do that were tailored from masks.
        source: the dataset; or its training images in another form, such as a Pack.
        way: "k" or "1". A 1-way episode parses its target alone (`draw.targets`), but its masks show all base classes.
        seed: of episodes and augmentation.
        transform: built-in augmentation with its settings (the default is the paper's, section 6.1), or your own.
        draws: which episodes, if not those of Draws(manifest, way, seed).

    Raises:
        OshpError: see Draws.
    """

    def __init__(
        self,
        manifest: Manifest,
        source: Source | TrainingPhotos,
        way: Way = "k",
        seed: int = 0,
        transform: Augmentation | Transform = Augmentation(),  # noqa: B008
        *,
        draws: Draws | None = None,
    ) -> None:
        self._photos = Files(source, manifest) if isinstance(source, Source) else source
        self._draws = draws or Draws(manifest, way, seed)
        self._seed = seed
        self._transform = transform
        self._fine = manifest.training_classes
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch, counted from 0; to be called before a DataLoader starts its workers for the epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._draws)

    def __getitem__(self, index: int) -> TrainingEpisode:
        """An episode of the epoch.

        Raises:
            IndexError: there are fewer.
            OshpError: a photo or mask that cannot be used.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"episode {index} of {len(self)}")
        return self.at(self._epoch, index)

    def __iter__(self) -> Iterator[TrainingEpisode]:
        return map(self.__getitem__, range(len(self)))

    def at(self, epoch: int, index: int) -> TrainingEpisode:
        """The episode of an epoch and index, both counted from 0, whatever set_epoch chose."""
        draw = self._draws.draw(epoch, index)
        images = (draw.query, *draw.supports)
        words = Stream("oshp-train", "augment", self._seed, epoch, index).words(len(images) * _NUMBERS)
        numbers = ((words >> np.uint64(11)) / 2.0**53).reshape(-1, _NUMBERS).tolist()
        query, *supports = map(self._sample, images, numbers)
        return TrainingEpisode(draw, query, tuple(supports))

    @staticmethod
    def collate(episodes: Sequence[TrainingEpisode]) -> EpisodeBatch:
        """Stacks episodes, as DataLoader's collate_fn.

        Raises:
            OshpError: their samples differ in size.
        """
        most = max(len(episode.supports) for episode in episodes)
        first = episodes[0].query
        padding = Sample(np.zeros_like(first.photo), *(np.full_like(first.fine, IGNORE) for _ in range(2)))
        rows = [[query, *supports, *[padding] * (most - len(supports))] for _, query, supports in episodes]
        sizes = {sample.photo.shape for row in rows for sample in row}
        if len(sizes) > 1:
            raise OshpError(f"the photos of a batch have the shapes {sorted(sizes)}; let transform give them one size")
        photos = np.stack([[sample.photo.transpose(2, 0, 1) for sample in row] for row in rows])
        masks = np.stack([[[sample[kind] for sample in row] for row in rows] for kind in (1, 2)])
        return EpisodeBatch(tuple(episode.draw for episode in episodes), photos, masks)

    def _sample(self, image: str, numbers: list[float]) -> Sample:
        photo, mask = self._photos.read(image)
        if isinstance(self._transform, Augmentation):
            photo, mask = augmented(photo, mask, self._transform, numbers)
            return Sample(photo, self._fine.take(mask), COARSE.take(mask))
        masks = np.stack([self._fine.take(mask), COARSE.take(mask)], axis=2)
        photo, masks = self._transform(photo, masks, np.random.default_rng([int(part * 2**53) for part in numbers]))
        return Sample(photo, masks[..., 0], masks[..., 1])


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
