"""What tests share: the folder of real data, and a tiny dataset drawn from rectangles with its manifest."""

from __future__ import annotations

import os
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image
from tiny import manifest_of

from oshp_bench.datasets.labels import Spec, parse_spec
from oshp_bench.datasets.sources import Source, find_source
from oshp_bench.manifest import Manifest, save_manifest

# No test depends on how busy the machine is.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

TINY = {
    "format": "oshp-dataset/1",
    "name": "tiny",
    "version": "1.0.0",
    "labels": ["background", "hat", "hair", "left-shoe", "right-shoe", "dress", "belt", "bag"],
    "removed": ["belt"],
    "classes": {
        "hat": {"id": 1, "labels": ["hat"]},
        "hair": {"id": 2, "labels": ["hair"]},
        "shoes": {"id": 3, "labels": ["left-shoe", "right-shoe"]},
        "dress": {"id": 5, "labels": ["dress"]},
        "bag": {"id": 7, "labels": ["bag"]},
    },
    "folds": {"1": ["dress", "bag"], "2": ["hat"]},
    "counts": {"all": 120},
    "pools": {
        "query_test": {"list": "all", "stop": 52},
        "support_test": {"list": "all", "start": 52, "stop": 80},
        "query_train": {"list": "all", "start": 80, "stop": 100},
        "support_train": {"list": "all", "start": 100},
    },
    "official": {
        "order": ["hat", "dress", "bag", "shoes", "hair"],
        "queries_per_class": 10,
        "supports_per_query": 15,
        "supports": "cyclic",
        "min_pixels": 1,
    },
    "layouts": [
        {"name": "plain", "parts": [{"list": "all", "photo": "photos/{id}.jpg", "mask": "masks/{id}.png"}]},
    ],
}

# Test modules that need one of these are skipped where it is not installed.
EXTRAS = ("torch", "jinja2", "matplotlib", "nbformat", "pandas", "yaml")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Skips a module that imports an extra that is not installed."""
    report = yield
    error = report.call.excinfo and report.call.excinfo.value.__cause__
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS and find_spec(error.name) is None:
        report.outcome, report.longrepr = "skipped", (str(collector.path), 1, f"Skipped: {error.name} is not installed")
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests come first, so that in the end no process is left alone with them."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real photos, masks and lists; tests that need it are skipped without it."""
    folder = os.environ.get("OSHP_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("OSHP_TEST_DATA names no folder of real data")
    return Path(folder)


@pytest.fixture(scope="session")
def tiny_spec() -> Spec:
    """A dataset of five classes; label 6, belt, is removed, labels 3 and 4 are merged."""
    return parse_spec(TINY, "tiny.toml")


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 photos and masks of 20..28 x 16..22 pixels: blocks of labels, most classes in most images."""
    root = tmp_path_factory.mktemp("tiny")
    (root / "photos").mkdir()
    (root / "masks").mkdir()
    generator = np.random.default_rng(5)
    for index in range(120):
        height, width = 20 + index % 9, 16 + index % 7
        mask = np.zeros((height, width), np.uint8)
        for label in range(1, 8):
            if generator.random() < 0.8:
                top, left = generator.integers(0, height - 5), generator.integers(0, width - 5)
                mask[top : top + 5, left : left + 4] = label
        photo = np.repeat(mask[..., None] * 30 + 20, 3, axis=2).astype(np.uint8)
        Image.fromarray(mask).save(root / "masks" / f"{index:03d}.png")
        Image.fromarray(photo).save(root / "photos" / f"{index:03d}.jpg")
    return root


@pytest.fixture(scope="session")
def source(tiny_spec: Spec, tiny_root: Path) -> Source:
    """The tiny dataset's photos and masks."""
    return find_source(tiny_spec.dataset, tiny_root)


@pytest.fixture(scope="session")
def manifest(tiny_spec: Spec, tiny_root: Path) -> Manifest:
    """The tiny dataset's manifest of fold 1, with 750 test pairs."""
    return manifest_of(tiny_spec, tiny_root)


@pytest.fixture(scope="session")
def manifest_file(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of that manifest, without a truth file beside it; for reading only."""
    path = tmp_path_factory.mktemp("manifests") / "tiny_fold1.json"
    save_manifest(manifest, path)
    return path
