"""Tells whether a manifest is intact and fits the data it was made of."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from oshp_bench.datasets import images
from oshp_bench.datasets.images import IGNORE, ImageProblem
from oshp_bench.datasets.labels import POOLS, UNKNOWN
from oshp_bench.datasets.runs import label_counts
from oshp_bench.datasets.sources import Source, unknown_label_problem
from oshp_bench.errors import CheckFailed, OshpError
from oshp_bench.files import read_json
from oshp_bench.manifest.model import Manifest
from oshp_bench.manifest.rules import broken_rules
from oshp_bench.manifest.store import manifest_path, parse_manifest
from oshp_bench.manifest.truth import Truth, stride4_classes


def check_intact(name_or_path: str) -> tuple[Manifest, Path]:
    """Loads a manifest as load_manifest does, and tells a broken one from one that cannot be read.

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


def truth_problems(manifest: Manifest, truth: Truth, progress: Iterable[str]) -> Iterator[str]:
    """Every mask of a truth file that is missing, damaged or not the one its index names.

    Args:
        progress: yields the manifest's queries.
    """
    for query in progress:
        try:
            mask = truth.mask(query)
        except OshpError as error:
            yield from error.problems
            continue
        strange = set(np.unique(mask).tolist()) - {*manifest.class_ids, IGNORE}
        if strange:
            yield f"{truth.path}: {query} holds {', '.join(map(str, sorted(strange)))}, which is no class"


def data_problems(
    manifest: Manifest, source: Source, truth: Truth | None, photos: bool, progress: Iterable[str]
) -> Iterator[str]:
    """Every image that is not as the manifest, and the truth file if there is one, say it is.

    Args:
        photos: decodes every photo whole, instead of reading its size alone.
        progress: yields the images of all pools, see images_of.
    """
    presence = {image: present for pool in POOLS for image, present in manifest.pools[pool].items()}
    shown, allowed = _shown(manifest), _allowed(manifest)
    names = {each.id: each.name for each in manifest.classes}
    threshold = manifest.protocol.get("min_pixels")
    least = threshold if type(threshold) is int else 1
    for image in progress:
        size = yield from _photo_size(source, image, photos)
        try:
            mask = source.mask(image)
        except OshpError as error:
            yield from error.problems
            continue
        place = source.mask_path(image) or image
        if size not in (None, mask.shape):
            yield f"{place}: the mask has {mask.shape} rows and columns, the photo {size}; one was resized or exchanged"
        counts = np.zeros(256, np.int64)
        np.add.at(counts, source.dataset.merge, label_counts(mask))
        if counts[UNKNOWN]:
            yield unknown_label_problem(source, image)
            continue
        counts[[0, IGNORE]] = 0
        held, seen = (tuple(np.flatnonzero(counts >= n).tolist()) for n in (least, 1))
        as_support = tuple(each for each in seen if each in allowed.get(image, ()))
        if presence[image] not in (None, held):
            yield f"{place}: holds {_names(held, names)}; the manifest says {_names(presence[image] or (), names)}"
        elif shown.get(image, {as_support}) != {as_support}:
            said = " and ".join(_names(each, names) for each in sorted(shown[image]))
            yield f"{place}: as a support it shows {_names(as_support, names)}; the pairs say {said}"
        if truth is not None:
            yield from _truth_differs(truth, image, source.dataset.merge[mask], place)


def images_of(manifest: Manifest) -> list[str]:
    """All images of the pools, sorted."""
    return sorted({image for pool in POOLS for image in manifest.pools[pool]})


def listed_problems(manifest: Manifest, listed: Mapping[str, frozenset[int]]) -> Iterator[str]:
    """Every image whose classes are not those of a table of source labels; for a dataset without masks."""
    names = {each.id: each.name for each in manifest.classes}
    merge = manifest.dataset.merge
    for pool in POOLS:
        for image, present in manifest.pools[pool].items():
            if present is None:
                continue
            if image not in listed:
                yield f"{image}: the tables do not list it"
                continue
            held = tuple(sorted({int(merge[label]) for label in listed[image]} - {0}))
            if held != present:
                yield f"{image}: the table says {_names(held, names)}; the manifest says {_names(present, names)}"


def _shown(manifest: Manifest) -> dict[str, set[tuple[int, ...]]]:
    """Every C_s that test and validation pairs give for a support; one, unless the manifest contradicts itself."""
    shown: dict[str, set[tuple[int, ...]]] = {}
    for pairs in (manifest.pairs, manifest.validation):
        if pairs is not None:
            for support, present in zip(pairs.support, pairs.support_classes, strict=True):
                shown.setdefault(support, set()).add(present)
    return shown


def _allowed(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    """The classes that a support's C_s tells of: validation pairs know base classes alone."""
    base = manifest.ids_of("base")
    return {
        **dict.fromkeys(manifest.pools["support_train"], base),
        **dict.fromkeys(manifest.pools["support_test"], manifest.class_ids),
    }


def _photo_size(source: Source, image: str, whole: bool) -> Generator[str, None, tuple[int, ...] | None]:
    try:
        return source.photo(image).shape[:2] if whole else source.photo_size(image)
    except OshpError as error:
        yield from error.problems
    except ImageProblem as problem:
        yield f"{source.photo_path(image)}: {problem}"
    return None


def _truth_differs(truth: Truth, image: str, merged: images.Mask, place: object) -> Iterator[str]:
    if image in truth.digests and truth.digests[image] != images.pixel_digest(merged):
        yield f"{place}: the mask is another than the one in {truth.path}"
    if image in truth.stride4_classes and truth.stride4_classes[image] != stride4_classes(merged):
        yield f"{place}: its classes on the stride-4 grid are others than those in {truth.path}"


def _names(present: Iterable[int], names: Mapping[int, str]) -> str:
    return ", ".join(names.get(each, str(each)) for each in present) or "no class"
