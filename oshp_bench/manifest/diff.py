"""Compares two manifests, and says whether their scores compare."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from oshp_bench.datasets.labels import POOLS
from oshp_bench.manifest.model import Manifest, Pairs, meaning_json
from oshp_bench.manifest.show import on_one_line

_Key = TypeVar("_Key", bound=Hashable)

_MOST_LINES = 10
_MOST_CHARACTERS = 160
_ABSENT = "(not there)"


@dataclass(frozen=True)
class ManifestDifference:
    """The difference between manifests a and b.

    Attributes:
        equal: whether their digests are equal (these cover neither the places of files nor the tool's version).
        comparable: whether their test digests are equal, so that a score on one is a score on the other.
        broken_promise: whether they have the same name and version, but other content.
        changes: section -> lines that say a -> b; only sections with changes.
    """

    equal: bool
    comparable: bool
    broken_promise: bool
    changes: Mapping[str, list[str]]

    @property
    def json(self) -> dict[str, Any]:
        """The whole difference as JSON."""
        return {
            "equal": self.equal,
            "comparable": self.comparable,
            "same_name_and_version_but_other_content": self.broken_promise,
            "changes": {section: list(lines) for section, lines in self.changes.items()},
        }


def difference(a: Manifest, b: Manifest) -> ManifestDifference:
    """Compares two manifests member by member."""
    sections = {
        "head": _members(_head(a), _head(b)),
        "protocol": _members(a.protocol, b.protocol),
        "dataset": _members(meaning_json(a.dataset), meaning_json(b.dataset)),
        "classes": _members(_roles(a), _roles(b)),
        "pools": _pools(a, b),
        "pairs": _pairs(a.pairs, b.pairs, _names(a, b)),
        "validation": _validation(a, b),
    }
    changes = {section: found for section, lines in sections.items() if (found := list(lines))}
    equal = a.digest == b.digest
    promise = (a.name, a.version) == (b.name, b.version) and not equal
    return ManifestDifference(equal, a.test_digest == b.test_digest, promise, changes)


def difference_lines(found: ManifestDifference) -> Iterator[str]:
    """A difference as lines for people; long lines and sections are cut."""
    yield "equal" if found.equal else "different"
    yield (
        "scores compare: labels, merge, classes, roles and test pairs are the same"
        if found.comparable
        else "scores do NOT compare: labels, merge, classes, roles or test pairs differ"
    )
    if found.broken_promise:
        yield "same name and version, but other content: a manifest never changes under its version, so one is wrong"
    for section, lines in found.changes.items():
        yield f"{section}:"
        for line in lines[:_MOST_LINES]:
            yield f"  {line}" if len(line) <= _MOST_CHARACTERS else f"  {line[:_MOST_CHARACTERS]} ..."
        if len(lines) > _MOST_LINES:
            yield f"  ... and {len(lines) - _MOST_LINES:,} more (all with --json)"


def _members(a: Mapping[_Key, Any], b: Mapping[_Key, Any], place: str = "") -> Iterator[str]:
    for key in dict.fromkeys([*a, *b]):
        old, new = a.get(key, _ABSENT), b.get(key, _ABSENT)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _members(old, new, f"{place}{on_one_line(key)}.")
        elif old != new:
            yield f"{place}{on_one_line(key)}: {on_one_line(old)} -> {on_one_line(new)}"


def _head(manifest: Manifest) -> dict[str, Any]:
    return {"name": manifest.name, "version": manifest.version, "fold": manifest.fold}


def _roles(manifest: Manifest) -> dict[int, str]:
    return {spec.id: f"{spec.name}, {spec.role}" for spec in manifest.classes}


def _pools(a: Manifest, b: Manifest) -> Iterator[str]:
    old, new = _places(a), _places(b)
    for pool in POOLS:
        yield from _some(f"{pool}: only in a", [image for image in a.pools[pool] if image not in new])
        yield from _some(f"{pool}: only in b", [image for image in b.pools[pool] if image not in old])
    moves: dict[str, list[str]] = {}
    for image, place in old.items():
        if new.get(image, place) != place:
            moves.setdefault(f"{place} -> {new[image]}", []).append(image)
    for move, images in moves.items():
        yield from _some(move, images)
    names = _names(a, b)
    for image in [image for image in old if image in new]:
        before, after = a.pools[old[image]][image], b.pools[new[image]][image]
        if before != after:
            yield f"classes of {image}: {_classes(before, names)} -> {_classes(after, names)}"


def _validation(a: Manifest, b: Manifest) -> Iterator[str]:
    if a.validation is None or b.validation is None:
        if a.validation is not b.validation:
            yield f"{_count(a.validation)} -> {_count(b.validation)}"
    else:
        yield from _pairs(a.validation, b.validation, _names(a, b))


def _pairs(a: Pairs, b: Pairs, names: Mapping[int, str]) -> Iterator[str]:
    old, new = _indices(a), _indices(b)

    def named(pairs: Pairs, index: int) -> str:
        target = pairs.target[index]
        return f"{pairs.query[index]} {pairs.support[index]} {names.get(target, target)}"

    gone = [index for pair, index in old.items() if pair not in new]
    come = [index for pair, index in new.items() if pair not in old]
    kept = [pair for pair in old if pair in new]
    if gone or come:
        yield f"{len(a):,} -> {len(b):,} pairs: {len(kept):,} kept, {len(gone):,} only in a, {len(come):,} only in b"
    moved = sum(old[pair] != new[pair] for pair in kept)
    if moved:
        yield f"{moved:,} kept pairs stand elsewhere, so predictions of one are named otherwise in the other"
    for pair in kept:
        before, after = a.support_classes[old[pair]], b.support_classes[new[pair]]
        if before != after:
            yield f"C_s of {named(a, old[pair])}: {_classes(before, names)} -> {_classes(after, names)}"
    yield from (f"only in a: {a.name(index)} {named(a, index)}" for index in gone)
    yield from (f"only in b: {b.name(index)} {named(b, index)}" for index in come)


def _indices(pairs: Pairs) -> dict[tuple[str, str, int], int]:
    rows = zip(pairs.query, pairs.support, pairs.target, strict=True)
    return {row: index for index, row in enumerate(rows)}


def _places(manifest: Manifest) -> dict[str, str]:
    return {image: pool for pool in POOLS for image in manifest.pools[pool]}


def _names(a: Manifest, b: Manifest) -> dict[int, str]:
    return {**b.names, **a.names}


def _classes(present: tuple[int, ...] | None, names: Mapping[int, str]) -> str:
    return "unknown" if present is None else ", ".join(names.get(label, str(label)) for label in present) or "none"


def _count(pairs: Pairs | None) -> str:
    return "none" if pairs is None else f"{len(pairs):,} pairs"


def _some(what: str, images: list[str]) -> Iterator[str]:
    if images:
        yield f"{what}: {len(images):,} images, {', '.join(images)}"
