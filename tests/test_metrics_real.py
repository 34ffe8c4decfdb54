"""The fast and the slow scorer on real photos' masks, by way of files as a user has them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from metrics_cases import Bench, fast_result, png, values
from slow_scorer import SlowPair, slow_score
from test_metrics_figures import assert_equal_figures

from oshp_bench.datasets.images import IGNORE, Mask
from oshp_bench.datasets.labels import load_spec
from oshp_bench.datasets.sources import Source, find_source
from oshp_bench.manifest import Manifest, OshpClass, Pairs, save_manifest
from oshp_bench.manifest.truth import stride4_classes, write_truth
from oshp_bench.metrics import Resampling, score

pytestmark = pytest.mark.slow

QUERIES, SUPPORTS = 20, 7


@pytest.fixture(scope="module")
def source(test_data: Path) -> Source:
    return find_source(load_spec("ccp").dataset, test_data / "ccp")


@pytest.fixture(scope="module")
def bench(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """20 queries of CCP, each for one or two of its classes, with 7 supports in turn."""
    spec = load_spec("ccp")
    queries, supports = source.lists["all"][:QUERIES], source.lists["all"][120 : 120 + SUPPORTS]
    present = {
        image: tuple(int(each) for each in np.unique(source.merged_mask(image)) if each) for image in queries + supports
    }
    rows: list[tuple[str, str, int, tuple[int, ...]]] = []
    for turn, query in enumerate(queries):
        support = supports[turn % SUPPORTS]
        shared = [each for each in present[query] if each in present[support]]
        rows.extend((query, support, target, present[support]) for target in shared[turn % 2 : turn % 2 + 2])
    novel = spec.folds[1]
    roles = {0: "background", **dict.fromkeys(novel, "novel")}
    folder = tmp_path_factory.mktemp("ccp")
    manifest = Manifest(
        name="ccp_fold1",
        version="1.0.0",
        dataset=spec.dataset,
        fold=1,
        protocol={"name": "by-hand"},
        classes=tuple(OshpClass(each.id, each.name, roles.get(each.id, "base")) for each in spec.dataset.classes),
        pools={pool: {} for pool in spec.pools},
        pairs=Pairs(*(tuple(column) for column in zip(*rows, strict=True))),
        validation=None,
    )
    bench = Bench(manifest, folder / "ccp_fold1.json", folder / "ccp_fold1.truth.zip")
    save_manifest(manifest, bench.manifest_file)
    write_truth(manifest, source, bench.truth_file)
    return bench


def distorted(mask: Mask, generator: np.random.Generator, labels: list[int]) -> Mask:
    """A mask as a method predicts it: moved, a class taken for another, a block and some pixels of noise."""
    result = np.roll(mask, generator.integers(-12, 13, 2), axis=(0, 1))
    first, second = generator.choice(labels, 2)
    result = np.where(result == first, second, result).astype(np.uint8)
    top, left = (int(generator.integers(0, size - size // 4)) for size in mask.shape)
    block = result[top : top + mask.shape[0] // 4, left : left + mask.shape[1] // 4]
    block[...] = generator.choice(labels, block.shape)
    return result


def slow_pairs(bench: Bench, source: Source) -> list[SlowPair]:
    pairs = bench.manifest.pairs
    stride4 = {support: frozenset(stride4_classes(source.merged_mask(support))) for support in set(pairs.support)}
    return [
        SlowPair(query, target, frozenset(present), stride4[support])
        for query, support, target, present in zip(
            pairs.query, pairs.support, pairs.target, pairs.support_classes, strict=True
        )
    ]


def roles_of(bench: Bench) -> dict[int, str]:
    return {each.id: each.role for each in bench.manifest.classes}


def test_files_of_ccp(bench: Bench, source: Source, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    pairs = slow_pairs(bench, source)
    assert len(pairs) > 30
    truth = {query: source.merged_mask(query) for query in bench.manifest.pairs.queries}
    kway = [distorted(truth[pair.query], generator, list(bench.manifest.class_ids)) for pair in pairs]
    oneway = [np.where(mask == pair.target, 255, 0).astype(np.uint8) for mask, pair in zip(kway, pairs, strict=True)]
    for way, masks in (("kway", kway), ("1way", oneway)):
        (tmp_path / way).mkdir()
        for name, mask in zip(bench.manifest.pairs.names, masks, strict=True):
            (tmp_path / way / f"{name}.png").write_bytes(png(mask))
    result = score(bench.manifest, tmp_path, bench.truth_file, resampling=Resampling(0))
    slow = slow_score(pairs, roles_of(bench), frozenset(), truth, kway, oneway, "default")
    assert_equal_figures(values(result), slow)
    assert slow["kway/novel_miou"] is not None


def test_the_official_convention_with_removed_and_ignored_labels(bench: Bench, source: Source) -> None:
    # Every fifth pixel in both directions: the slow scorer takes 59 x 59 looks at each picture.
    generator = np.random.default_rng(2)
    labels = len(source.dataset.labels)
    pairs = slow_pairs(bench, source)
    # One class of every support is lost on the way to the small mask.
    pairs = [replace(pair, stride4_classes=frozenset(sorted(pair.stride4_classes)[1:])) for pair in pairs]
    truth = {query: source.merged_mask(query)[::5, ::5].copy() for query in bench.manifest.pairs.queries}
    kway = [distorted(truth[pair.query], generator, list(range(labels))) for pair in pairs]
    oneway = [(mask == pair.target).astype(np.uint8) for mask, pair in zip(kway, pairs, strict=True)]
    for mask in truth.values():
        mask[:20, :30] = IGNORE
    removed = source.dataset.removed_labels
    result = fast_result(pairs, roles_of(bench), labels, truth, kway, oneway, "official-2023")
    slow = slow_score(pairs, roles_of(bench), removed, truth, kway, oneway, "official-2023")
    assert_equal_figures(values(result), slow)


def test_the_stride4_classes_are_those_of_every_pixel_on_the_small_grid(bench: Bench, source: Source) -> None:
    for support in sorted(set(bench.manifest.pairs.support)):
        mask = source.merged_mask(support)
        (height, width), seen = mask.shape, set()
        small = ((height + 3) // 4, (width + 3) // 4)
        for row in range(small[0]):
            for column in range(small[1]):
                seen.add(int(mask[row * height // small[0], column * width // small[1]]))
        assert set(bench.truth.stride4_classes[support]) == seen - {0}
