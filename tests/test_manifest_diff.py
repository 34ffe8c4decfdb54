"""What differs between two manifests, and whether their scores compare."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from click.testing import CliRunner
from tiny import manifest_of

from oshp_bench.datasets.labels import Spec
from oshp_bench.manifest import Manifest, Pairs, save_manifest
from oshp_bench.manifest.cli import main
from oshp_bench.manifest.diff import difference


def reordered(pairs: Pairs, order: list[int]) -> Pairs:
    columns = (pairs.query, pairs.support, pairs.target, pairs.support_classes)
    query, support, target, classes = (tuple(column[index] for index in order) for column in columns)
    return Pairs(query, support, target, classes)  # type: ignore[arg-type]


def test_a_manifest_equals_itself_wherever_its_files_lie(manifest: Manifest) -> None:
    elsewhere = replace(manifest, dataset=replace(manifest.dataset, layouts=(), get="x"), made_by="another version")
    found = difference(manifest, elsewhere)
    assert (found.equal, found.comparable, found.broken_promise, found.changes) == (True, True, False, {})


def test_folds_differ_in_roles_and_validation_alone(manifest: Manifest, tiny_spec: Spec, tiny_root: Path) -> None:
    found = difference(manifest, manifest_of(tiny_spec, tiny_root, fold=2))
    assert not found.comparable
    assert found.changes["head"] == ["name: tiny_fold1 -> tiny_fold2", "fold: 1 -> 2"]
    assert found.changes["classes"] == [
        "1: hat, base -> hat, novel",
        "5: dress, novel -> dress, base",
        "7: bag, novel -> bag, base",
    ]
    assert set(found.changes) == {"head", "classes", "validation"}


def test_another_protocol_and_version(manifest: Manifest) -> None:
    other = replace(manifest, version="1.1.0", protocol={"name": "other", "rule": {"seed": 1}})
    found = difference(replace(manifest, protocol={"name": "by-hand", "rule": {"seed": 0}, "order": [1]}), other)
    assert found.comparable
    assert found.changes == {
        "head": ["version: 1.0.0 -> 1.1.0"],
        "protocol": ["name: by-hand -> other", "rule.seed: 0 -> 1", "order: 1 -> (not there)"],
    }


def test_another_merge(manifest: Manifest) -> None:
    background, hat, *others = manifest.dataset.classes
    dataset = replace(manifest.dataset, classes=(background, replace(hat, labels=("hat", "cap")), *others))
    found = difference(manifest, replace(manifest, dataset=dataset))
    assert found.changes == {"dataset": ["classes.hat.labels: hat -> hat, cap"]}
    assert (found.comparable, found.broken_promise) == (False, True)


def test_images_that_came_went_moved_or_hold_something_else(manifest: Manifest) -> None:
    query, support = dict(manifest.pools["query_test"]), dict(manifest.pools["support_test"])
    support["000"] = query.pop("000")
    query["001"] = (1,)
    query["200"] = query.pop("050")
    found = difference(
        manifest, replace(manifest, pools={**manifest.pools, "query_test": query, "support_test": support})
    )
    names = {each.id: each.name for each in manifest.classes}
    before = ", ".join(names[each] for each in manifest.pools["query_test"]["001"] or ())
    assert found.changes["pools"] == [
        "query_test: only in a: 1 images, 050",
        "query_test: only in b: 1 images, 200",
        "query_test -> support_test: 1 images, 000",
        f"classes of 001: {before} -> hat",
    ]
    assert found.comparable


def test_pairs_that_came_went_moved_or_show_something_else(manifest: Manifest) -> None:
    pairs, count = manifest.pairs, len(manifest.pairs)
    swapped = difference(manifest, replace(manifest, pairs=reordered(pairs, [1, 0, *range(2, count)])))
    assert swapped.changes["pairs"] == [
        "2 kept pairs stand elsewhere, so predictions of one are named otherwise in the other"
    ]
    shorter = difference(manifest, replace(manifest, pairs=reordered(pairs, list(range(count - 1)))))
    last = f"{pairs.query[-1]} {pairs.support[-1]} hair"
    assert shorter.changes["pairs"] == [
        "750 -> 749 pairs: 749 kept, 1 only in a, 0 only in b",
        f"only in a: 0749 {last}",
    ]
    shown = replace(pairs, support_classes=((1,), *pairs.support_classes[1:]))
    changed = difference(manifest, replace(manifest, pairs=shown))
    assert len(changed.changes["pairs"]) == 1
    assert changed.changes["pairs"][0].startswith(f"C_s of {pairs.query[0]} {pairs.support[0]} hat: hat, ")
    assert changed.changes["pairs"][0].endswith(" -> hat")
    assert not (swapped.comparable or shorter.comparable or changed.comparable)


def test_validation_that_is_missing(manifest: Manifest) -> None:
    assert difference(manifest, replace(manifest, validation=None)).changes == {"validation": ["9 pairs -> none"]}


def test_the_command_says_it_by_its_exit_code(manifest: Manifest, tmp_path: Path) -> None:
    other = replace(manifest, version="2.0.0", pairs=reordered(manifest.pairs, list(range(750))[::-1]))
    for name, each in (("a", manifest), ("b", other), ("c", replace(manifest, validation=None))):
        save_manifest(each, tmp_path / f"{name}.json")

    def run(*arguments: str) -> tuple[int, str]:
        files = [str(tmp_path / each) if each.endswith(".json") else each for each in arguments]
        result = CliRunner().invoke(main, ["diff", *files])
        return result.exit_code, result.output

    code, text = run("a.json", "a.json")
    assert (code, text.splitlines()[0]) == (0, "equal")
    code, text = run("a.json", "b.json")
    assert code == 1
    assert "scores do NOT compare" in text
    assert "750 kept pairs stand elsewhere" in text
    code, text = run("a.json", "c.json")
    assert code == 1
    assert "scores compare" in text
    assert "same name and version, but other content" in text
    code, text = run("a.json", "b.json", "--json")
    assert (code, json.loads(text)["changes"]["head"]) == (1, ["version: 1.0.0 -> 2.0.0"])
    assert run("a.json", "none.json")[0] == 2
