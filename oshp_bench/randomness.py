"""Random numbers that never change: SHAKE-256 streams named by a key.

The generators of numpy may change between versions; a published list of pairs may not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Item = TypeVar("_Item")

GENERATOR = "shake256-counter/1"
_BLOCK_BYTES = 1 << 16


class Stream:
    """A stream of 64-bit words that depends only on its key.

    Block i of the stream is SHAKE-256 of the key's parts and i, joined by NUL, read as little-endian words.

    Args:
        key: the stream's name; equal keys give equal streams on every machine and in every version.
    """

    def __init__(self, *key: str | int) -> None:
        self._key = "\0".join((GENERATOR, *map(str, key)))
        self._block = 0
        self._words: NDArray[np.uint64] = np.empty(0, np.uint64)

    def words(self, count: int) -> NDArray[np.uint64]:
        """Takes the next words: uint64 [count]."""
        parts = [self._words]
        have = len(self._words)
        while have < count:
            digest = hashlib.shake_256(f"{self._key}\0{self._block}".encode()).digest(_BLOCK_BYTES)
            parts.append(np.frombuffer(digest, "<u8"))
            have += _BLOCK_BYTES // 8
            self._block += 1
        words = np.concatenate(parts)
        self._words = words[count:]
        return words[:count]

    def integers(self, bound: int, count: int) -> NDArray[np.int64]:
        """Draws integers from 0 to bound - 1: int64 [count]. The bias is below bound / 2^32 (bound < 2^31)."""
        return ((self.words(count) >> np.uint64(32)) * np.uint64(bound) >> np.uint64(32)).astype(np.int64)

    def integer(self, low: int, high: int) -> int:
        """Draws one integer from low to high, both included."""
        return low + int(self.integers(high - low + 1, 1)[0])

    def shuffled(self, items: Sequence[_Item]) -> list[_Item]:
        """Returns the items in random order (sorted by one word each, ties in the given order)."""
        order = np.argsort(self.words(len(items)), kind="stable")
        return [items[i] for i in order]
