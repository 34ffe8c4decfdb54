"""Methods that look at no photo: the floor of every table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oshp_bench.console import progress
from oshp_bench.datasets.images import IGNORE, Mask, resize_nearest
from oshp_bench.datasets.sources import Source
from oshp_bench.episodes.episodes import Episode, Method
from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.manifest import Manifest

# Rows and columns of the grid that the class prior is counted on.
GRID = 128


def background(_manifest: Manifest, _source: Source) -> Method:
    """The method that calls every pixel background."""
    return lambda episode: np.zeros(episode.query_size, np.uint8)


def copy_support(_manifest: Manifest, _source: Source) -> Method:
    """The method that takes the support's mask for the query's."""
    return parse_by_copy


def parse_by_copy(episode: Episode) -> Mask:
    """Stretches the support's mask to the query's size by nearest neighbour: uint8 [H, W]; ignore becomes 0."""
    copied = resize_nearest(episode.support_mask, *episode.query_size)
    copied[copied == IGNORE] = 0
    return copied


@dataclass(frozen=True)
class ClassPrior:
    """Gives every place the class that is most frequent there in the training masks, all stretched to one grid.

    Attributes:
        counts: int64 [classes, GRID, GRID]: the number of training masks that hold a class at a place; novel classes
            count as background.
        class_ids: the class of every row of counts, ascending, 0 first.
    """

    counts: NDArray[np.int64]
    class_ids: tuple[int, ...]

    @classmethod
    def of_training_masks(cls, manifest: Manifest, source: Source) -> ClassPrior:
        """Counts the classes of all training masks: query_train and support_train.

        Raises:
            OshpError: every mask that is missing or damaged.
        """
        class_ids = manifest.class_ids
        row = np.full(256, len(class_ids), np.intp)
        row[list(class_ids)] = np.arange(len(class_ids))
        row[list(manifest.ids_of("novel"))] = 0
        # The last row takes pixels to ignore and is dropped.
        counts = np.zeros((len(class_ids) + 1, GRID, GRID), np.int64)
        places = np.indices((GRID, GRID))
        problems: list[str] = []
        training = (*manifest.pools["query_train"], *manifest.pools["support_train"])
        for image_id in progress(training, "training masks"):
            try:
                mask = source.merged_mask(image_id)
            except OshpError as error:
                problems.extend(error.problems)
                continue
            counts[row[resize_nearest(mask, GRID, GRID)], *places] += 1
        raise_problems(problems)
        return cls(counts[:-1], class_ids)

    def __call__(self, episode: Episode) -> Mask:
        """Parses by place. Classes that were not asked for count as background; ties go to the lower id."""
        parsed = [self.class_ids.index(label) for label in episode.classes]
        asked = self.counts[parsed]
        rest = self.counts.sum(axis=0) - asked.sum(axis=0)
        labels = np.array((0, *episode.classes), np.uint8)
        best = labels[np.concatenate((rest[None], asked)).argmax(axis=0)]
        return resize_nearest(best, *episode.query_size)


class_prior = ClassPrior.of_training_masks
