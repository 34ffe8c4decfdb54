"""Checks that a manifest is intact and fits the data that it was made from."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from oshp_bench.console import progress
from oshp_bench.datasets import images
from oshp_bench.datasets.images import IGNORE
from oshp_bench.datasets.labels import POOLS
from oshp_bench.datasets.sources import Source
from oshp_bench.errors import CheckFailed, OshpError
from oshp_bench.files import read_json
from oshp_bench.manifest.model import Manifest
from oshp_bench.manifest.rules import broken_rules
from oshp_bench.manifest.store import manifest_path, parse_manifest
from oshp_bench.manifest.truth import Truth, stride4_classes


def check_intact(name_or_path: str) -> tuple[Manifest, Path]:
    """Loads a manifest as load_manifest does, but distinguishes a broken one from one that cannot be read.

    Raises:
        CheckFailed: a document whose schema, digests or rules are broken.
        OshpError: no such file, or not JSON.
    """
    path = manifest_path(name_or_path)
    document = read_json(path)
    try:
        manifest = parse_manifest(document, str(path))
    except OshpError as error:
        raise CheckFailed(*error.problems) from error
    broken = broken_rules(manifest)
    if broken:
        raise CheckFailed(*(f"{path}: {problem}" for problem in broken))
    return manifest, path


def truth_problems(manifest: Manifest, truth: Truth) -> Iterator[str]:
    """Every mask of a truth file that is missing, damaged or not the one that its index names."""
    for query in progress(manifest.pairs.queries, "truth"):
        try:
            mask = truth.mask(query)
        except OshpError as error:
            yield from error.problems
            continue
        strange = set(np.unique(mask).tolist()) - {*manifest.class_ids, IGNORE}
        if strange:
            yield f"{truth.path}: {query} holds {', '.join(map(str, sorted(strange)))}, which is no class"


def data_problems(manifest: Manifest, source: Source, truth: Truth | None, photos: bool) -> Iterator[str]:
    """Every image that differs from what the manifest, and the truth file if there is one, say about it.

    Args:
        photos: decodes every photo, instead of reading its size alone.
    """
    presence = {image: present for pool in POOLS for image, present in manifest.pools[pool].items()}
    shown, allowed = _shown(manifest), _allowed(manifest)
    threshold = manifest.protocol.get("min_pixels")
    least = threshold if type(threshold) is int else 1
    for image in progress(sorted(presence), "images"):
        size = yield from _photo_size(source, image, photos)
        try:
            mask = source.mask(image)
            if size is not None:
                yield from _size_problem(source, image, mask, size)
            counts = source.class_counts(image, mask)
        except OshpError as error:
            yield from error.problems
            continue
        place = source.mask_name(image)
        counts[[0, IGNORE]] = 0
        held, seen = (tuple(np.flatnonzero(counts >= pixels).tolist()) for pixels in (least, 1))
        as_support = tuple(label for label in seen if label in allowed.get(image, ()))
        if presence[image] not in (None, held):
            promised = _named(presence[image] or (), manifest.names)
            yield f"{place}: holds {_named(held, manifest.names)}; the manifest says {promised}"
        elif shown.get(image, {as_support}) != {as_support}:
            promised = " and ".join(_named(classes, manifest.names) for classes in sorted(shown[image]))
            yield f"{place}: as a support it shows {_named(as_support, manifest.names)}; the pairs say {promised}"
        if truth is not None:
            yield from _truth_differs(truth, image, source.dataset.merge[mask], place)


def listed_problems(manifest: Manifest, listed: Mapping[str, frozenset[int]]) -> Iterator[str]:
    """Every image whose classes are not those of a table of source labels; for a dataset without masks."""
    merge, names = manifest.dataset.merge, manifest.names
    for pool in POOLS:
        for image, present in manifest.pools[pool].items():
            if present is None:
                continue
            if image not in listed:
                yield f"{image}: the tables do not list it"
                continue
            held = tuple(sorted({int(merge[label]) for label in listed[image]} - {0}))
            if held != present:
                yield f"{image}: the table says {_named(held, names)}; the manifest says {_named(present, names)}"


def _shown(manifest: Manifest) -> dict[str, set[tuple[int, ...]]]:
    """Support -> every C_s that test and validation pairs give for it; one, unless the manifest contradicts itself."""
    shown: dict[str, set[tuple[int, ...]]] = {}
    for pairs in (manifest.pairs, manifest.validation):
        if pairs is not None:
            for support, present in zip(pairs.support, pairs.support_classes, strict=True):
                shown.setdefault(support, set()).add(present)
    return shown


def _allowed(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    """Support -> the classes that its C_s may contain: in validation pairs, base classes only."""
    base = manifest.ids_of("base")
    return {
        **dict.fromkeys(manifest.pools["support_train"], base),
        **dict.fromkeys(manifest.pools["support_test"], manifest.class_ids),
    }


def _photo_size(source: Source, image: str, decoded: bool) -> Generator[str, None, tuple[int, ...] | None]:
    try:
        return source.photo(image).shape[:2] if decoded else source.photo_size(image)
    except OshpError as error:
        yield from error.problems
    return None


def _size_problem(source: Source, image: str, mask: images.Mask, size: tuple[int, ...]) -> Iterator[str]:
    try:
        source.check_size(image, mask, size)
    except OshpError as error:
        yield from error.problems


def _truth_differs(truth: Truth, image: str, merged: images.Mask, place: str) -> Iterator[str]:
    if image in truth.digests and truth.digests[image] != images.pixel_digest(merged):
        yield f"{place}: the mask is another than the one in {truth.path}"
    if image in truth.stride4_classes and truth.stride4_classes[image] != stride4_classes(merged):
        yield f"{place}: its classes on the stride-4 grid are others than those in {truth.path}"


def _named(present: Iterable[int], names: Mapping[int, str]) -> str:
    return ", ".join(names.get(label, str(label)) for label in present) or "no class"
