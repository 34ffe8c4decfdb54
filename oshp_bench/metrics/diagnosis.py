"""Measures the challenges that the paper names: testing bias, small sizes, similar parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oshp_bench.manifest import Manifest, Pairs
from oshp_bench.metrics.confusion import Counts
from oshp_bench.metrics.matrices import Matrices
from oshp_bench.metrics.scores import folded

TERCILES = ("small", "medium", "large")
MOST_CONFUSED = 10


def diagnose(matrices: Matrices, manifest: Manifest, pairs: Pairs, convention: str) -> dict[str, Any]:
    """The diagnosis of every way that was counted, as JSON: "kway" and "1way"."""
    found: dict[str, Any] = {}
    if matrices.kway is not None:
        counts = folded(matrices, manifest, pairs, convention)
        hits = np.einsum("pcc->pc", counts[:, :, : len(manifest.classes)])
        unions = counts.sum(axis=2) + counts.sum(axis=1)[:, : len(manifest.classes)] - hits
        found["kway"] = {
            "testing_bias": _testing_bias(counts.sum(axis=0), manifest),
            "sizes": _sizes(manifest, pairs, matrices.kway, hits, unions, counts.sum(axis=2) > 0),
            "similar_parts": _similar_parts(counts.sum(axis=0), manifest),
        }
    if matrices.oneway is not None:
        found["1way"] = _oneway(matrices.oneway, manifest, pairs)
    return found


def pixel_destinations(pooled: Counts, manifest: Manifest, class_ids: Sequence[int]) -> dict[str, int]:
    """Counts what the pixels of some classes of one role are predicted as.

    Args:
        pooled: int64 [C, C + 1], the sum of k-way matrices whose truth is that of the episodes.

    Returns:
        Pixels that are "right", another class of the "same" role, a class of the "other" role, background ("void"), or
        a label that the merge "removed".
    """
    ids = manifest.class_ids
    mine = [ids.index(class_id) for class_id in class_ids]
    roles = {oshp_class.role for oshp_class in manifest.classes if oshp_class.id in class_ids}
    same = [index for index, oshp_class in enumerate(manifest.classes) if oshp_class.role in roles]
    other = [index for index in range(1, len(ids)) if index not in same]
    rows = pooled[mine]
    right = int(pooled[mine, mine].sum())
    return {
        "right": right,
        "same": int(rows[:, same].sum()) - right,
        "other": int(rows[:, other].sum()),
        "void": int(rows[:, 0].sum()),
        "removed": int(rows[:, -1].sum()),
    }


def _testing_bias(pooled: Counts, manifest: Manifest) -> dict[str, Any]:
    """Where the pixels of novel classes go, and beside them those of base classes: shares of the role's pixels."""
    rows: dict[str, Any] = {}
    for role, other in (("novel", "base"), ("base", "novel")):
        pixels = pixel_destinations(pooled, manifest, manifest.ids_of(role)).values()
        names = ("right", f"other {role}", other, "background", "removed label")
        shares = {name: _share(count, sum(pixels)) for name, count in zip(names, pixels, strict=True)}
        rows[role] = {"pixels": sum(pixels), "shares": shares}
    return rows


def _sizes(
    manifest: Manifest, pairs: Pairs, raw: Counts, hits: Counts, unions: Counts, scored: NDArray[np.bool_]
) -> dict[str, Any]:
    """IoU by terciles of the class's share of the query's area.

    For each class, the queries whose truth holds it are ranked by that share and cut into three. Predictions do not
    influence this. IoU is pooled over the pairs of a tercile; the row "mean" is the mean over classes.
    """
    rows = []
    for index in range(1, len(manifest.classes)):
        terciles = _terciles(raw[:, index].sum(axis=1), raw.sum(axis=(1, 2)), pairs.query, scored[:, index])
        rows.append(_size_row(manifest.classes[index].name, terciles, hits[:, index], unions[:, index]))
    return _size_table(rows)


def _terciles(
    pixels: NDArray[np.int64], totals: NDArray[np.int64], queries: Sequence[str], scored: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.intp], float]]:
    """Yields the pairs of each tercile and the largest share in it."""
    held = scored.nonzero()[0].tolist()
    share = {queries[pair]: float(pixels[pair] / totals[pair]) for pair in held}
    ranked = sorted(share, key=lambda query: (share[query], query))
    for part in range(len(TERCILES)):
        mine = ranked[len(ranked) * part // 3 : len(ranked) * (part + 1) // 3]
        within = set(mine)
        chosen = [pair for pair in held if queries[pair] in within]
        yield np.array(chosen, np.intp), share[mine[-1]] if mine else float("nan")


def _size_row(
    name: str,
    terciles: Iterator[tuple[NDArray[np.intp], float]],
    hits: NDArray[np.int64],
    unions: NDArray[np.int64],
) -> dict[str, Any]:
    row: dict[str, Any] = {"class": name}
    for tercile, (chosen, largest) in zip(TERCILES, terciles, strict=True):
        row[tercile] = _share(int(hits[chosen].sum()), int(unions[chosen].sum()))
        row[f"{tercile}_up_to"] = None if np.isnan(largest) else largest
        row[f"{tercile}_pairs"] = len(chosen)
    return row


def _size_table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    mean: dict[str, float | None] = {}
    for tercile in TERCILES:
        values = [row[tercile] for row in rows if row[tercile] is not None]
        mean[tercile] = sum(values) / len(values) if values else None
    return {"mean": mean, "classes": rows}


def _similar_parts(pooled: Counts, manifest: Manifest) -> list[dict[str, Any]]:
    """The foreground classes that are confused most, with the share of both classes' pixels that is swapped."""
    names = [oshp_class.name for oshp_class in manifest.classes]
    rows: list[dict[str, Any]] = []
    for first in range(1, len(names)):
        for second in range(first + 1, len(names)):
            swapped = int(pooled[first, second] + pooled[second, first])
            both = int(pooled[first].sum() + pooled[second].sum())
            if swapped:
                rows.append(
                    {"classes": [names[first], names[second]], "pixels": swapped, "share": _share(swapped, both)}
                )
    rows.sort(key=lambda row: (-row["share"], row["classes"]))
    return rows[:MOST_CONFUSED]


def _oneway(counts: Counts, manifest: Manifest, pairs: Pairs) -> dict[str, Any]:
    """Sizes as in k-way, and for each class which true classes its wrong foreground covers."""
    names = [oshp_class.name for oshp_class in manifest.classes]
    sizes, false_positives = [], []
    targets = np.array(pairs.target)
    for index in range(1, len(names)):
        scored = (targets == manifest.class_ids[index]) & (counts[:, index].sum(axis=1) > 0)
        hits = counts[:, index, 1]
        unions = counts[:, :, 1].sum(axis=1) + counts[:, index, 0]
        terciles = _terciles(counts[:, index].sum(axis=1), counts.sum(axis=(1, 2)), pairs.query, scored)
        sizes.append(_size_row(names[index], terciles, hits, unions))
        covered = counts[targets == manifest.class_ids[index], :, 1].sum(axis=0)
        wrong = int(covered.sum() - covered[index])
        order = sorted((i for i in range(len(names)) if i != index and covered[i]), key=lambda i: (-covered[i], i))
        false_positives.append(
            {
                "class": names[index],
                "wrong_pixels": wrong,
                "share_of_predicted": _share(wrong, int(covered.sum())),
                "lies_on": {names[i]: _share(int(covered[i]), wrong) for i in order[:3]},
            }
        )
    return {"sizes": _size_table(sizes), "false_positives": false_positives}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
