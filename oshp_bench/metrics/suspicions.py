"""What gives predictions away that were stored in another way than they are scored. No figure depends on this.

Each finding is one line for people. A weak method, one that predicts a single class, and the floor give none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from oshp_bench.manifest import Manifest
from oshp_bench.metrics.confusion import Counts

# A mask of one class is often written with these; they do not say which class it shows.
_NO_CLASS = (0, 1, 255)
_ALMOST_ALL = 0.9


def suspicions(
    manifest: Manifest, kway: Counts | None, oneway: Counts | None, foregrounds: Mapping[int, int]
) -> Iterator[str]:
    """Yields a line for everything odd.

    Args:
        kway: int64 [pairs, C, C + 1], or None.
        oneway: int64 [pairs, C, 2], or None.
        foregrounds: pair -> the foreground value of its 1-way picture.
    """
    ids = manifest.class_ids
    targets = np.array([ids.index(class_id) for class_id in manifest.pairs.target], np.intp)
    pairs = np.arange(len(targets))
    if kway is not None and len(set(manifest.pairs.target)) > 1:
        predicted = kway.sum(axis=1)[:, 1:]
        foreground, own = predicted.sum(), predicted[pairs, targets - 1].sum()
        asked = sum(len(classes) > 1 for classes in manifest.pairs.support_classes)
        if asked and foreground and foreground == own:
            yield "every k-way picture holds no other class than its pair's; are these 1-way predictions?"
    if oneway is not None:
        size = oneway.sum(axis=(1, 2))
        own, covered = oneway[pairs, targets], oneway[:, :, 1].sum(axis=1)
        inverted = (2 * covered > size) & (2 * own[:, 1] < own.sum(axis=1))
        shown = own.sum(axis=1) > 0
        if shown.any() and inverted[shown].mean() >= _ALMOST_ALL:
            yield "almost every 1-way picture is foreground but for its class; are 0 and the foreground exchanged?"
    said = {pair: value for pair, value in foregrounds.items() if value not in _NO_CLASS}
    other = [pair for pair, value in said.items() if value != manifest.pairs.target[pair]]
    # One value in all pictures is a way to write masks, too.
    if other and len(set(said.values())) > 1 and set(said.values()) <= set(ids):
        first = min(other)
        name, target = manifest.pairs.names[first], manifest.pairs.target[first]
        yield (
            f"{len(other)} of {len(foregrounds)} 1-way pictures hold the id of another class than their pair's, such as"
            f" {said[first]} instead of {target} in {name}.png; are they in another order?"
        )
