"""The shipped manifests: intact, as their README says, and what tailoring gives again."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from oshp_bench.datasets.labels import load_spec
from oshp_bench.datasets.sources import find_source
from oshp_bench.manifest import load_manifest, shipped_manifests
from oshp_bench.manifest.rules import broken_rules
from oshp_bench.manifest.store import manifest_text
from oshp_bench.tailor.build import Recipe, build_manifest

ROOTS = {"atr": "lists", "cihp": "lists", "ccp": "ccp"}
REAL = [
    f"{dataset}_fold{fold}{end}" for dataset in ("atr", "ccp", "cihp") for fold in (1, 2) for end in ("", "_balanced")
]
NAMES = [*REAL, "demo_fold1", "demo_fold2"]
README = Path(__file__).parents[1] / "manifests" / "README.md"


def test_all_are_there() -> None:
    assert sorted(shipped_manifests()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_intact_and_as_the_readme_says(name: str) -> None:
    manifest = load_manifest(name)
    assert manifest.name == name
    assert broken_rules(manifest) == []
    readme = README.read_text()
    full = re.search(rf"^{name} +(\S+) +digest +(\S+)\n +test_digest +(\S+)$", readme, re.MULTILINE)
    assert full and full.groups() == (manifest.version, manifest.digest, manifest.test_digest)
    (row,) = re.findall(rf"^\| `{name}` \|(.*)\|$", readme, re.MULTILINE)
    novel = ", ".join(each.name for each in manifest.classes if each.role == "novel")
    assert [cell.strip() for cell in row.split("|")] == [
        manifest.version,
        novel,
        f"{len(manifest.pairs):,}",
        f"{len(manifest.pairs.queries):,}",
        f"{len(set(manifest.pairs.support)):,}",
        f"`{manifest.digest[7:19]}`",
        f"`{manifest.test_digest[7:19]}`",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_balanced_has_enough_queries(name: str) -> None:
    manifest = load_manifest(name)
    for target, row in zip(manifest.class_ids[1:], manifest.coverage, strict=True):
        assert row["distinct_pairs"] == 150
        holders = sum(target in (classes or ()) for classes in manifest.pools["query_test"].values())
        assert row["queries"] == (min(150, holders) if name.endswith("balanced") else 10)


def assert_tailored_again(name: str, root: Path | None) -> None:
    dataset, fold, protocol = re.fullmatch(r"(\w+)_fold(\d)(?:_(balanced))?", name).groups()  # type: ignore[union-attr]
    recipe = Recipe(load_spec(dataset), int(fold), protocol or "official")
    source = find_source(recipe.spec.dataset, root and root / ROOTS[dataset])
    shipped = load_manifest(name)
    # The tool's version and the known layouts stand in the file and go on; what a digest covers may not.
    again = replace(build_manifest(recipe, source), made_by=shipped.made_by, dataset=shipped.dataset)
    assert manifest_text(again) == shipped_manifests()[name].read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_tailoring_gives_the_same_bytes(test_data: Path, name: str) -> None:
    assert_tailored_again(name, test_data)


@pytest.mark.slow
def test_tailoring_the_embedded_dataset_gives_the_same_bytes() -> None:
    """Of fold 2; the README's first command tailors fold 1, and says whether it is the shipped one."""
    assert_tailored_again("demo_fold2", None)
