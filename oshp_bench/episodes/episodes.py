"""Episodes: the input of a method for every pair of a manifest, without the query's truth."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from oshp_bench.datasets.images import COARSE, IGNORE, Mask, Photo
from oshp_bench.datasets.runs import label_counts
from oshp_bench.datasets.sources import Source
from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.manifest import Pairs

Way = Literal["k", "1"]
WAYS: tuple[Way, ...] = ("k", "1")


def way_key(way: str) -> str:
    """A way as files name it, "kway" or "1way": the folder of its predictions, and the first part of figure names."""
    return f"{way}way"


def way_name(way: str) -> str:
    """A way as people read it: "k-way" or "1-way"."""
    return f"{way}-way"


_KEPT_BYTES = 64 << 20
# Query photo, support photo and support mask of one episode are kept whatever their size.
_KEPT_AT_LEAST = 3


class ImageCache:
    """The photos and merged masks of a source; the last used ones stay decoded, in at most 64 MiB.

    A query has 15 supports in a row, so its photo is decoded once. The pictures are shared and read-only.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._kept: OrderedDict[tuple[str, str], Photo | Mask] = OrderedDict()
        self._sizes: dict[str, tuple[int, int]] = {}

    def size(self, image_id: str) -> tuple[int, int]:
        """Height and width of a photo, from its header.

        Raises:
            OshpError: missing, cut off or not a photo.
        """
        if image_id not in self._sizes:
            self._sizes[image_id] = self.source.photo_size(image_id)
        return self._sizes[image_id]

    def photo(self, image_id: str) -> Photo:
        """A photo: uint8 [H, W, 3] RGB.

        Raises:
            OshpError: missing, truncated or not a photo.
        """
        return self._kept_or("photo", image_id, self.source.photo)

    def mask(self, image_id: str) -> Mask:
        """A mask after the merge: uint8 [H, W] of class ids; 255 = ignore.

        Raises:
            OshpError: missing, damaged, or not of its photo's size.
        """
        return self._kept_or("mask", image_id, self._checked_mask)

    def human(self, image_id: str) -> Mask:
        """The coarse mask: uint8 [H, W], 1 wherever the annotation has a label but background; 255 = ignore.

        Raises:
            OshpError: as mask().
        """
        return self._kept_or("human", image_id, self._coarse_mask)

    def _coarse_mask(self, image_id: str) -> Mask:
        return COARSE.take(self.source.mask(image_id))

    def _checked_mask(self, image_id: str) -> Mask:
        mask = self.source.merged_mask(image_id)
        self.source.check_size(image_id, mask, self.size(image_id))
        return mask

    def _kept_or(self, kind: str, image_id: str, read: Callable[[str], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        key = (kind, image_id)
        if key not in self._kept:
            picture = read(image_id)
            picture.flags.writeable = False
            self._kept[key] = picture
            held = sum(kept.nbytes for kept in self._kept.values())
            while held > _KEPT_BYTES and len(self._kept) > _KEPT_AT_LEAST:
                held -= self._kept.popitem(last=False)[1].nbytes
        self._kept.move_to_end(key)
        return self._kept[key]


@dataclass(frozen=True)
class Episode:
    """A support with its mask, a query, and the classes to parse in the query; pictures are read on access.

    Attributes:
        index: the pair's index in its list.
        name: the name of the pair and of its prediction file, such as "0000".
        way: "k" or "1".
        query_id, support_id: image ids.
        classes: the class ids to parse, ascending: C_s for k-way, the target alone for 1-way.
    """

    index: int
    name: str
    way: Way
    query_id: str
    support_id: str
    classes: tuple[int, ...]
    _images: ImageCache = field(repr=False, compare=False)

    @property
    def query_size(self) -> tuple[int, int]:
        """Height and width of the query and of its prediction, without decoding a pixel."""
        return self._images.size(self.query_id)

    @property
    def query_photo(self) -> Photo:
        """The query: uint8 [H, W, 3] RGB, read-only.

        Raises:
            OshpError: the file is missing or damaged.
        """
        return self._images.photo(self.query_id)

    @property
    def support_photo(self) -> Photo:
        """The support: uint8 [h, w, 3] RGB, read-only."""
        return self._images.photo(self.support_id)

    @property
    def support_mask(self) -> Mask:
        """The support's mask: uint8 [h, w] of `classes`, everything else 0; 255 = ignore.

        Raises:
            OshpError: missing, damaged, not of the photo's size, or without a class that it has by the manifest.
        """
        merged = self._images.mask(self.support_id)
        counts = label_counts(merged)
        absent = [str(label) for label in self.classes if not counts[label]]
        if absent:
            raise OshpError(
                f"pair {self.name}: the support {self.support_id} holds no class {', '.join(absent)}, but the manifest"
                " says so; other masks than it was made from? Check with oshp-manifest verify"
            )
        wanted = np.zeros(256, np.uint8)
        for label in (*self.classes, IGNORE):
            wanted[label] = label
        return wanted.take(merged)

    @property
    def support_whole(self) -> Mask:
        """The support's mask with every class that it shows, to be parsed or not: uint8 [h, w]; 255 = ignore."""
        return self._images.mask(self.support_id)

    @property
    def support_human(self) -> Mask:
        """The support's coarse mask, taken before merge and removal: uint8 [h, w]: 1 human, 0 not, 255 = ignore."""
        return self._images.human(self.support_id)


class Method(Protocol):
    """Parses the query of an episode: uint8 [H, W] of the query's size, with labels of `episode.classes` and 0.

    Episodes of one query come one after the other, so a method may keep what it computed for a query for the next
    pairs. The result may not depend on it.
    """

    def __call__(self, episode: Episode) -> Mask: ...


class Episodes:
    """The episodes of a list of pairs in order: a sequence to iterate over and index, with a len().

    Args:
        pairs: `manifest.pairs` to test, `manifest.validation` to choose checkpoints.
        source: the dataset, or an ImageCache of it that several Episodes share.
        way: "k" or "1".
        indices: the pairs to use, such as PredictionWriter.missing(); None uses all.
    """

    def __init__(
        self, pairs: Pairs, source: Source | ImageCache, way: Way, indices: Iterable[int] | None = None
    ) -> None:
        self._pairs = pairs
        self._images = source if isinstance(source, ImageCache) else ImageCache(source)
        self._way = way
        self._indices = range(len(pairs)) if indices is None else tuple(indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> Episode:
        index, pairs = self._indices[position], self._pairs
        return Episode(
            index=index,
            name=pairs.name(index),
            way=self._way,
            query_id=pairs.query[index],
            support_id=pairs.support[index],
            classes=pairs.support_classes[index] if self._way == "k" else (pairs.target[index],),
            _images=self._images,
        )

    def __iter__(self) -> Iterator[Episode]:
        return (self[position] for position in range(len(self)))

    def check_files(self) -> None:
        """Looks for every photo and mask that the episodes need, so that a long run does not stop halfway.

        Raises:
            OshpError: every photo that is missing or cut off and every mask that is missing.
        """
        queries = dict.fromkeys(self._pairs.query[index] for index in self._indices)
        supports = dict.fromkeys(self._pairs.support[index] for index in self._indices)
        raise_problems(self._images.source.file_problems((*queries, *supports), supports, "support"))
