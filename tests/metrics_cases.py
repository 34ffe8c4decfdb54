"""Manifests of a few pairs, and the fast scorer behind the slow one's call, for the tests of the metrics."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from slow_scorer import SlowPair
from tiny import manifest_of

from oshp_bench.datasets.images import Mask
from oshp_bench.datasets.labels import ClassSpec, Dataset, Spec
from oshp_bench.datasets.sources import find_source
from oshp_bench.errors import OshpError
from oshp_bench.manifest import Manifest, OshpClass, Pairs, save_manifest
from oshp_bench.manifest.truth import Truth, load_truth, write_truth
from oshp_bench.metrics import Accumulator, Matrices, Resampling, Result, score, score_matrices


def mask_of(text: str) -> Mask:
    """A mask from rows of numbers: "0 1, 2 255" has two rows of two pixels."""
    return np.array([[int(cell) for cell in row.split()] for row in text.split(",")], np.uint8)


def small_manifest(roles: Mapping[int, str], labels: int, pairs: Sequence[SlowPair]) -> Manifest:
    """A manifest of these pairs alone; every pair has a support of its own, s0, s1, ...

    Args:
        roles: class id -> role, background first.
        labels: the number of source labels; those that are no class are removed.
    """
    names = ("background", *(f"label{number}" for number in range(1, labels)))
    removed = tuple(name for number, name in enumerate(names) if number not in roles)
    classes = [ClassSpec(each, f"c{each}" if each else "background", (names[each],)) for each in roles]
    classes[0] = ClassSpec(0, "background", ("background", *removed))
    return Manifest(
        name="small_fold1",
        version="1.0.0",
        dataset=Dataset(name="small", title="small", labels=names, classes=tuple(classes)),
        fold=1,
        protocol={"name": "by-hand"},
        classes=tuple(OshpClass(each.id, each.name, roles[each.id]) for each in classes),
        pools={pool: {} for pool in ("query_train", "support_train", "query_test", "support_test")},
        pairs=Pairs(
            tuple(pair.query for pair in pairs),
            tuple(f"s{index}" for index in range(len(pairs))),
            tuple(pair.target for pair in pairs),
            tuple(tuple(sorted(pair.support_classes)) for pair in pairs),
        ),
        validation=None,
    )


def matrices_of(
    manifest: Manifest,
    pairs: Sequence[SlowPair],
    truth: Mapping[str, Mask],
    kway: Sequence[Mask] | None,
    oneway: Sequence[Mask] | None,
    convention: str = "default",
) -> Matrices:
    """Counts arrays as a training loop would."""
    accumulator = Accumulator(manifest, manifest.pairs, convention)
    for way, predictions in (("k", kway), ("1", oneway)):
        for index, prediction in enumerate(predictions or ()):
            accumulator.add(way, index, truth[pairs[index].query], prediction)
    stride4 = {f"s{index}": tuple(sorted(pair.stride4_classes)) for index, pair in enumerate(pairs)}
    return accumulator.matrices(stride4)


def fast_result(
    pairs: Sequence[SlowPair],
    roles: Mapping[int, str],
    labels: int,
    truth: Mapping[str, Mask],
    kway: Sequence[Mask] | None,
    oneway: Sequence[Mask] | None,
    convention: str = "default",
    resampling: Resampling | None = None,
) -> Result:
    """Scores arrays by the public path; no resampling unless asked for."""
    manifest = small_manifest(roles, labels, pairs)
    matrices = matrices_of(manifest, pairs, truth, kway, oneway, convention)
    return score_matrices(manifest, matrices, convention=convention, resampling=resampling or Resampling(0))


def values(result: Result) -> dict[str, float | None]:
    """The figures of a result without their intervals."""
    return {name: figure.value for name, figure in result.figures.items()}


def png(mask: Mask) -> bytes:
    """A grey PNG."""
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass(frozen=True, repr=False)
class Bench:
    """A manifest with its files: what a user has who is about to score."""

    manifest: Manifest
    manifest_file: Path
    truth_file: Path

    @cached_property
    def truth(self) -> Truth:
        return load_truth(self.truth_file, self.manifest)

    def kway(self, pair: int, generator: np.random.Generator | None = None) -> Mask:
        """The perfect k-way prediction of a pair; with a generator, a random block of it becomes a random class."""
        pairs = self.manifest.pairs
        mask = self.truth.mask(pairs.query[pair]).copy()
        mask[~np.isin(mask, pairs.support_classes[pair])] = 0
        if generator is not None:
            top, left = (int(generator.integers(0, size)) for size in mask.shape)
            mask[top : top + 8, left : left + 8] = generator.choice(self.manifest.class_ids)
        return mask

    def oneway(self, pair: int, generator: np.random.Generator | None = None) -> Mask:
        """The 1-way prediction to kway()."""
        mask: Mask = (self.kway(pair, generator) == self.manifest.pairs.target[pair]).astype(np.uint8)
        return mask

    def write(self, folder: Path, seed: int | None = None, ways: tuple[str, ...] = ("kway", "1way")) -> Path:
        """Writes predictions, perfect ones without a seed."""
        generator = None if seed is None else np.random.default_rng(seed)
        for way in ways:
            (folder / way).mkdir(parents=True)
            for pair, name in enumerate(self.manifest.pairs.names):
                mask = self.kway(pair, generator) if way == "kway" else self.oneway(pair, generator)
                (folder / way / f"{name}.png").write_bytes(png(mask))
        return folder


def make_bench(spec: Spec, root: Path, folder: Path, pairs: int | None = None, fold: int = 1) -> Bench:
    """The bench of a tiny dataset.

    Args:
        pairs: keep the first pairs alone; that breaks the rule of 150 pairs a class, which scoring does not need.
    """
    manifest = manifest_of(spec, root, fold)
    if pairs is not None:
        kept = manifest.pairs
        columns = (kept.query[:pairs], kept.support[:pairs], kept.target[:pairs], kept.support_classes[:pairs])
        manifest = replace(manifest, pairs=Pairs(*columns))
    bench = Bench(manifest, folder / f"{manifest.name}.json", folder / f"{manifest.name}.truth.zip")
    save_manifest(manifest, bench.manifest_file)
    write_truth(manifest, find_source(spec.dataset, root), bench.truth_file)
    return bench


def scored(bench: Bench, path: Path, way: str | None = None, allow_missing: bool | int = False) -> Result:
    """The result of a set of predictions, without intervals."""
    return score(bench.manifest, path, bench.truth_file, way=way, allow_missing=allow_missing, resampling=Resampling(0))


def problems(bench: Bench, path: Path, way: str | None = None) -> list[str]:
    """The problems for which a set is refused, one line each, without the path of the set that they start with."""
    with pytest.raises(OshpError) as caught:
        scored(bench, path, way)
    assert caught.value.exit_code == 2
    assert all(line.startswith(str(path)) and line.isprintable() for line in caught.value.problems)
    return [line.removeprefix(str(path)).lstrip("/: ") for line in caught.value.problems]
