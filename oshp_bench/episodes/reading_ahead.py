"""Reads the pictures of coming episodes while earlier ones are parsed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from oshp_bench.episodes.episodes import Episode, Episodes, ImageCache

_Key = tuple[str, str]
_Picture = NDArray[np.uint8]
# Episodes that a thread may be ahead.
_DEPTH = 2


class ReadingCache(ImageCache):
    """An ImageCache that threads fill ahead of time.

    Threads, not processes: photos are decoded outside Python's lock, and decoded pictures need not be sent. A picture
    is read ahead once, for its first episode; later episodes find it, or what was computed from it, in a cache.
    """

    _coming: dict[_Key, Future[_Picture]] | None = None

    def ahead(self, episodes: Episodes, workers: int) -> Iterator[Episode]:
        """The episodes in order, while threads read those that follow; an error is raised at its own episode.

        Args:
            episodes: of this cache.
            workers: number of threads; 0 reads nothing ahead.
        """
        if not workers:
            yield from episodes
            return
        seen: set[_Key] = set()
        submitted = 0
        pool, self._coming = ThreadPoolExecutor(workers), {}
        try:
            for position, episode in enumerate(episodes):
                while submitted < min(len(episodes), position + 1 + _DEPTH * workers):
                    for key, read in self._readers(episodes[submitted]):
                        if key not in seen:
                            self._coming[key] = pool.submit(read, key[1])
                            seen.add(key)
                    submitted += 1
                yield episode
                for key, _ in self._readers(episode):
                    self._coming.pop(key, None)
        finally:
            self._coming = None
            pool.shutdown(cancel_futures=True)

    def _readers(self, episode: Episode) -> Iterator[tuple[_Key, Callable[[str], _Picture]]]:
        """The pictures that a network needs of an episode."""
        yield ("photo", episode.query_id), self.source.photo
        yield ("photo", episode.support_id), self.source.photo
        yield ("mask", episode.support_id), self._checked_mask
        yield ("human", episode.support_id), self._coarse_mask

    def _kept_or(self, kind: str, image_id: str, read: Callable[[str], _Picture]) -> _Picture:
        coming = self._coming.pop((kind, image_id), None) if self._coming else None
        if coming is None:
            return super()._kept_or(kind, image_id, read)
        return super()._kept_or(kind, image_id, lambda _: coming.result())
