"""A manifest reads back as it was written, and every broken one is refused with its reasons."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oshp_bench.errors import MOST_PROBLEMS, OshpError
from oshp_bench.files import parse_json
from oshp_bench.manifest import Manifest, OshpClass, Pairs, load_manifest, manifest_path, save_manifest
from oshp_bench.manifest.rules import broken_rules
from oshp_bench.manifest.store import manifest_text, parse_manifest


@pytest.fixture(scope="module")
def text(manifest: Manifest) -> str:
    return manifest_text(manifest)


def problems_of(document: Any) -> list[str]:
    with pytest.raises(OshpError) as refused:
        parse_manifest(document, "m.json")
    for problem in refused.value.problems:
        assert problem.isprintable()
        assert len(problem) < 1_000
    return list(refused.value.problems)


def test_a_manifest_reads_back(manifest: Manifest, tmp_path: Path) -> None:
    save_manifest(manifest, tmp_path / "m.json")
    loaded = load_manifest(tmp_path / "m.json")
    assert loaded == manifest
    assert (loaded.digest, loaded.test_digest) == (manifest.digest, manifest.test_digest)
    save_manifest(loaded, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "m.json").read_bytes()


def test_coverage_is_counted(manifest: Manifest) -> None:
    for row, each in zip(manifest.coverage, manifest.classes[1:], strict=True):
        mine = [index for index, target in enumerate(manifest.pairs.target) if target == each.id]
        assert (row["class"], row["pairs"], row["queries"]) == (each.name, 150, 10)
        uses = [manifest.pairs.support[index] for index in mine]
        assert row["most_uses_of_a_support"] == max(uses.count(support) for support in uses)
        assert row["distinct_pairs"] == len({(manifest.pairs.query[i], manifest.pairs.support[i]) for i in mine})


def test_the_test_digest_ignores_training_images(manifest: Manifest) -> None:
    unknown = dict.fromkeys(manifest.pools["query_train"])
    other = replace(manifest, pools={**manifest.pools, "query_train": unknown}, validation=None)
    assert other.test_digest == manifest.test_digest
    assert other.digest != manifest.digest
    roles = tuple(OshpClass(each.id, each.name, "base" if each.id == 7 else each.role) for each in manifest.classes)
    assert replace(manifest, classes=roles).test_digest != manifest.test_digest


def test_names_of_pairs_grow_with_their_number() -> None:
    def pairs(count: int) -> Pairs:
        return Pairs(("q",) * count, ("s",) * count, (1,) * count, ((1,),) * count)

    assert pairs(1650).names[:2] == ("0000", "0001")
    assert pairs(10_000).name(9_999) == "9999"
    assert pairs(10_001).name(10_000) == "10000"
    assert pairs(10_001).name(7) == "00007"


def test_a_folder_with_a_manifests_name_does_not_hide_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no_fold1").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OshpError, match="no such file and no shipped manifest"):
        manifest_path("no_fold1")
    with pytest.raises(OshpError, match="cannot be read"):
        load_manifest("other.json")


Document = dict[str, Any]

FAULTS: list[tuple[Callable[[Document], object], str]] = [
    (lambda d: d.pop("format"), 'not a manifest (its "format" is not "oshp-manifest/1")'),
    (lambda d: d.update(format="oshp-manifest/2"), "not a manifest"),
    (lambda d: d.update(name="../m"), "name '../m' is not lower-case"),
    (lambda d: d.update(name=7), "name is 7, not a text"),
    (lambda d: d.update(version="1"), "version '1' is not like 1.0.0"),
    (lambda d: d.update(version="1.0.0\n"), "is not like 1.0.0"),
    (lambda d: d.pop("digest"), "digest is missing"),
    (lambda d: d.update(digest="sha256:0"), "digest does not fit the content (says 'sha256:0', is sha256:"),
    (lambda d: d.update(test_digest="x"), "test_digest does not fit the content"),
    (lambda d: d.update(version="1.0.1"), "digest does not fit the content"),
    (lambda d: d.update(fold=0), "fold is 0, not a number from 1 to 99"),
    (lambda d: d.update(fold=True), "fold is True, not a whole number"),
    (lambda d: d.update(fold=1.0), "fold is 1.0, not a whole number"),
    (lambda d: d.update(protocol=["official"]), "protocol is ['official'], not a table"),
    (lambda d: d["protocol"].update(name="other"), "digest does not fit the content"),
    (lambda d: d.update(classes={}), "classes is {}, not a list of tables"),
    (lambda d: d["classes"].append(3), "classes 7 is not a table"),
    (lambda d: d["classes"][1].update(role="rare"), "classes 2: role 'rare' is none of background, base, novel"),
    (lambda d: d["classes"][1].update(id="1"), "classes 2: id is '1', not a whole number"),
    (lambda d: d["classes"][1].update(color=1), "classes 2: unknown member 'color'"),
    (lambda d: d["dataset"].update(color=1), "dataset: unknown member 'color'"),
    (lambda d: d["dataset"]["labels"].append("hat"), "dataset: label 'hat' is in labels twice"),
    (lambda d: d["dataset"]["layouts"][0]["parts"][0].update(mask="/{id}"), "leaves the dataset's folder"),
    (lambda d: d.update(pools=[]), "pools is [], not a table"),
    (lambda d: d["pools"].pop("query_test"), "pools: query_test is missing"),
    (lambda d: d["pools"].update(extra={}), "pools: unknown member 'extra'"),
    (lambda d: d["pools"]["query_test"].update({"../x": [1]}), "pools.query_test: '../x' is no image id"),
    (lambda d: d["pools"]["query_test"].update({"/etc/passwd": [1]}), "'/etc/passwd' is no image id"),
    (lambda d: d["pools"]["query_test"].update({"a\0b": None}), "'a\\x00b' is no image id"),
    (lambda d: d["pools"]["query_test"].update({"000": "hat"}), "pools.query_test: 000 is 'hat', not a list"),
    (lambda d: d["pools"]["query_test"].update({"000": [0]}), "000 holds something other than class ids from 1 to 253"),
    (lambda d: d["pools"]["query_test"].update({"000": [True]}), "000 holds something other than class ids"),
    (lambda d: d["pairs"]["query"].append("001"), "pairs: columns of different lengths [750, 751]"),
    (lambda d: d["pairs"]["query"].append(3), "pairs: query holds 3, not a text"),
    (lambda d: d["pairs"]["class"].append(2**60), "pairs: class holds something other than class ids"),
    (
        lambda d: d["pairs"]["support_classes"].append(3),
        "pairs: support_classes holds something other than lists of class ids",
    ),
    (lambda d: d["pairs"].update(weight=[]), "pairs: unknown member 'weight'"),
    (lambda d: d.update(pairs=None), "pairs is None, not a table"),
    (lambda d: d.update(validation=[]), "validation is [], not a table"),
    (lambda d: d.update(coverage=[]), "the coverage table does not fit the pairs"),
    (lambda d: d["coverage"][0].update(queries=50), "the coverage table does not fit the pairs"),
    (lambda d: d.update(note="x"), "unknown member 'note'"),
    (lambda d: d.update({"\x1b[31m": 1}), "unknown member '\\x1b[31m'"),
]


@pytest.mark.parametrize(("change", "problem"), FAULTS)
def test_every_fault_is_named(text: str, change: Callable[[Document], object], problem: str) -> None:
    document = json.loads(text)
    change(document)
    found = problems_of(document)
    assert any(problem in each for each in found), found


@pytest.mark.parametrize("document", [[], None, 3, "oshp-manifest/1", ["format", "oshp-manifest/1"]])
def test_what_is_no_manifest_is_refused(document: object) -> None:
    assert "not a manifest" in problems_of(document)[0]


def test_many_faults_are_all_reported_up_to_a_bound(text: str) -> None:
    document = json.loads(text)
    document["name"], document["version"] = "A", "1"
    document["pools"]["query_test"] |= {f"../{number}": [1] for number in range(20_000)}
    found = problems_of(document)
    assert len(found) == MOST_PROBLEMS + 1
    assert "name 'A'" in found[0]
    assert "version '1'" in found[1]
    assert found[-1] == "... and 950 more problems; reading stopped there"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"fold": 1', '"fold": NaN'),
        ('"fold": 1', '"fold": 1e999'),
        ('"fold": 1', '"fold": ' + "9" * 5_000),
        ('"fold": 1', '"fold": 1, "fold": 1'),
        ('"fold": 1', '"fold": ' + "[" * 1_000_000),
        ('"name": "by-hand"', '"name": 1e999'),
        ('"name": "by-hand"', '"deep": ' + "[" * 900 + "]" * 900),
        ('"name": "by-hand"', '"name": "\\udc00"'),
    ],
)
def test_strange_json_is_one_problem(text: str, old: str, new: str, tmp_path: Path) -> None:
    assert text.count(old) == 1
    (tmp_path / "m.json").write_text(text.replace(old, new))
    with pytest.raises(OshpError) as refused:
        load_manifest(tmp_path / "m.json")
    assert len(refused.value.problems) == 1


def with_pair(manifest: Manifest, index: int, **cells: Any) -> Manifest:
    columns = {name: list(getattr(manifest.pairs, name)) for name in ("query", "support", "target", "support_classes")}
    for name, cell in cells.items():
        columns[name][index] = cell
    return replace(manifest, pairs=Pairs(**{name: tuple(column) for name, column in columns.items()}))


def with_pool(manifest: Manifest, pool: str, images: dict[str, tuple[int, ...] | None]) -> Manifest:
    return replace(manifest, pools={**manifest.pools, pool: images})


def test_a_sound_manifest_breaks_no_rule(manifest: Manifest) -> None:
    assert broken_rules(manifest) == []


def test_every_rule_about_pairs_is_checked(manifest: Manifest) -> None:
    pairs = manifest.pairs
    shown = pairs.support_classes[0]
    held = manifest.pools["query_test"][pairs.query[0]] or ()
    absent = next(each for each in manifest.class_ids[1:] if each not in held)
    cases: list[tuple[Manifest, str]] = [
        (with_pair(manifest, 0, query="100"), "pairs: query is not in the pool query_test: 0000"),
        (with_pair(manifest, 0, support="001"), "pairs: support is not in the pool support_test: 0000"),
        (
            with_pair(manifest, 1, query=pairs.query[0], support=pairs.support[0], support_classes=shown),
            "pairs: pair is listed twice: 0001",
        ),
        (with_pair(manifest, 0, target=9), "pairs: class is not allowed here: 0000"),
        (with_pair(manifest, 0, support_classes=(*shown, 9)), "support_classes hold a class that is not allowed"),
        (with_pair(manifest, 0, support_classes=shown[::-1]), "support_classes are not ascending: 0000"),
        (with_pair(manifest, 0, support_classes=(shown[0], *shown)), "support_classes are not ascending: 0000"),
        (with_pair(manifest, 0, support_classes=()), "class is not in support_classes: 0000"),
        (with_pair(manifest, 0, support_classes=shown[:1]), "support_classes lack a class that the pool lists"),
        (with_pair(manifest, 0, target=absent), "query does not hold the class: 0000"),
        (with_pair(manifest, 0, target=2), "hat has 149 different pairs; every class needs 150"),
    ]
    for broken, rule in cases:
        assert any(rule in each for each in broken_rules(broken)), rule


def test_every_rule_about_classes_and_pools_is_checked(manifest: Manifest) -> None:
    background, hat, *others = manifest.classes
    test = dict(manifest.pools["query_test"])
    cases: list[tuple[Manifest, str]] = [
        (replace(manifest, classes=(background, *others)), "classes are not those of the merge table"),
        (replace(manifest, classes=(hat, background, *others)), "classes are not those of the merge table"),
        (
            replace(manifest, classes=(background, OshpClass(1, "hat", "background"), *others)),
            "class 0, and no other, has the role background",
        ),
        (
            replace(manifest, classes=(background, *(OshpClass(e.id, e.name, "base") for e in manifest.classes[1:]))),
            "no class has the role novel",
        ),
        (with_pool(manifest, "query_train", {}), "the pool query_train is empty"),
        (with_pool(manifest, "query_train", {"099": None, "080": None}), "the pool query_train is not sorted"),
        (with_pool(manifest, "query_train", {"001": None}), "an image stands in more than one pool: 001"),
        (with_pool(manifest, "query_test", {**test, "000": (9,)}), "query_test lists classes that do not exist: 000"),
    ]
    for broken, rule in cases:
        assert any(rule in each for each in broken_rules(broken)), rule


def test_validation_pairs_know_base_classes_alone(manifest: Manifest) -> None:
    assert manifest.validation is not None
    novel = replace(manifest.validation, target=(5, *manifest.validation.target[1:]))
    test = replace(manifest.validation, query=("001", *manifest.validation.query[1:]))
    for validation, rule in [(novel, "class is not allowed here"), (test, "query is not in the pool query_train")]:
        assert any(f"validation: {rule}" in each for each in broken_rules(replace(manifest, validation=validation)))


def test_broken_rules_stop_the_loading(manifest: Manifest, tmp_path: Path) -> None:
    save_manifest(with_pair(manifest, 0, target=2), tmp_path / "m.json")
    with pytest.raises(OshpError, match=r"m\.json: hat has 149 different pairs"):
        load_manifest(tmp_path / "m.json")


VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 254, 10**18, 1.5, "", "x", "..", "a\0b", "\x1b[31m", [], {}, [[]], [{}], [None], ["001"], [[1]]]
)


@pytest.mark.slow
@given(st.data(), VALUES, st.booleans())
@settings(max_examples=120, deadline=None)
def test_any_value_anywhere_is_a_manifest_or_a_list_of_problems(
    text: str, data: st.DataObject, value: Any, drop: bool
) -> None:
    document = parse_json(text.encode(), "m.json")
    place = document
    while True:
        key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            break
        place = inner
    if drop:
        del place[key]
    else:
        place[key] = copy.deepcopy(value)
    try:
        broken_rules(parse_manifest(document, "m.json"))
    except OshpError as error:
        assert error.problems
        assert all(problem.isprintable() and len(problem) < 1_000 for problem in error.problems)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_changed_bytes_are_never_taken_for_the_manifest(text: str, data: st.DataObject) -> None:
    content = bytearray(text.encode())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255))
    try:
        manifest = parse_manifest(parse_json(bytes(content), "m.json"), "m.json")
    except OshpError:
        return
    # What no digest covers may have changed, and white space.
    assert manifest.digest == json.loads(text)["digest"]
