"""What is in a manifest and what is weak in it, by hand-made cases and by the published test list."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from oshp_bench.datasets.images import Mask
from oshp_bench.datasets.labels import Spec, load_spec
from oshp_bench.datasets.sources import find_source
from oshp_bench.manifest import Manifest, Pairs, save_manifest
from oshp_bench.manifest.audit import Finding, audit_manifest
from oshp_bench.manifest.cli import main
from oshp_bench.manifest.show import columns, describe
from oshp_bench.manifest.truth import truth_path, write_truth
from oshp_bench.tailor.build import Recipe, build_manifest


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def finding(findings: list[Finding], topic: str) -> Finding:
    (found,) = (each for each in findings if each.topic == topic)
    return found


Rows = list[tuple[str, str, int, tuple[int, ...]]]


def small(manifest: Manifest, rows: Rows, **held: tuple[int, ...]) -> Manifest:
    """The manifest with these pairs alone, and queries that hold what is given; it need not keep the rules."""
    pairs = Pairs(*(tuple(column) for column in zip(*rows, strict=True)))
    classes = tuple(each for each in manifest.classes if each.id in {0, *pairs.target})
    return replace(manifest, pairs=pairs, classes=classes, pools={**manifest.pools, "query_test": held})


def test_clustering_is_counted_by_hand(manifest: Manifest) -> None:
    rows: Rows = [("q1", "a", 1, (1,)), ("q1", "b", 1, (1,)), ("q1", "c", 1, (1,)), ("q2", "a", 1, (1,))]
    findings = audit_manifest(small(manifest, rows, q1=(1,), q2=(1,)))
    figures = finding(findings, "clustering").figures
    # 4 pairs of 2 queries; (3 + 1)^2 / (3^2 + 1^2) = 1.6; of 3 neighbourhoods 2 share a query.
    assert figures == {
        "pairs_per_query": 2.0,
        "effective_queries": 1.6,
        "neighbours_that_share_a_query": pytest.approx(2 / 3),
    }
    assert finding(findings, "clustering").level == "note"
    assert finding(findings, "distinct queries").figures == {"pairs": 4, "queries": 2, "supports": 3}
    assert finding(findings, "reuse").figures == {
        "most_pairs_of_a_query": 3,
        "most_pairs_of_a_support": 2,
        "repeated_in_kway": 0,
    }


def test_pairs_of_queries_of_their_own_are_not_clustered(manifest: Manifest) -> None:
    rows: Rows = [(f"q{n}", f"s{n}", 1, (1,)) for n in range(60)]
    findings = audit_manifest(small(manifest, rows, **{f"q{n}": (1,) for n in range(60)}))
    assert {each.topic: each.level for each in findings} == {
        "distinct queries": "ok",
        "reuse": "ok",
        "clustering": "ok",
        "co-occurrence": "ok",
        "source mix": "ok",
        "leakage": "note",
        "class areas": "note",
        "training images": "ok",
    }


def test_co_occurrence_counts_classes_in_both_images(manifest: Manifest) -> None:
    # Hat (1) and hair (2) are in both images of every pair; shoes (3) in both of the first and the last.
    rows: Rows = [("q1", "a", 1, (1, 2, 3)), ("q2", "b", 1, (1, 2)), ("q1", "c", 2, (1, 2)), ("q2", "d", 2, (1, 2, 3))]
    rows.append(("q1", "e", 3, (1, 2, 3)))
    found = finding(audit_manifest(small(manifest, rows, q1=(1, 2, 3), q2=(1, 2))), "co-occurrence")
    assert found.classes == {
        "hat": {"most often together with": {"hair": 1.0, "shoes": 0.5}},
        "hair": {"most often together with": {"hat": 1.0}},
        "shoes": {"most often together with": {"hair": 1.0, "hat": 1.0}},
    }
    assert (found.level, found.figures["hardly_ever_apart"]) == ("note", ["hat + hair"])
    assert found.figures["comes_with"] == {"hat": ["hair"], "hair": ["hat"], "shoes": ["hair", "hat"]}


def test_areas_leave_ignored_pixels_out(manifest: Manifest) -> None:
    def masks(query: str) -> Mask:
        mask = np.zeros((20, 100), np.uint8)
        mask[0] = 255
        # Of 1,900 pixels that count: 19 = 1 %, or 1 = 0.05 %.
        mask.flat[100 : 119 if query == "q1" else 101] = 1
        return mask

    rows: Rows = [("q1", "a", 1, (1,)), ("q2", "b", 1, (1,)), ("q1", "c", 1, (1,))]
    found = finding(audit_manifest(small(manifest, rows, q1=(1,), q2=(1,)), masks), "class areas")
    assert found.classes["hat"] == {
        "min": pytest.approx(1 / 1900),
        "median": pytest.approx(10 / 1900),
        "max": pytest.approx(0.01),
        "tiny": 0.5,
    }
    assert found.level == "weak"


def test_equal_photos_in_two_pools_are_found(
    manifest: Manifest, tiny_spec: Spec, tiny_root: Path, tmp_path: Path
) -> None:
    for folder in ("masks", "photos"):
        (tmp_path / folder).mkdir()
        for path in (tiny_root / folder).iterdir():
            (tmp_path / folder / path.name).write_bytes(path.read_bytes())
    photos = tmp_path / "photos"
    # The first test query is a training photo again, byte for byte; a support is a query with other metadata.
    (photos / "090.jpg").write_bytes((photos / "000.jpg").read_bytes())
    content = (photos / "001.jpg").read_bytes()
    (photos / "060.jpg").write_bytes(content[:2] + b"\xff\xfe\x00\x06copy" + content[2:])
    (photos / "100.jpg").write_bytes(b"")
    found = finding(audit_manifest(manifest, None, find_source(tiny_spec.dataset, tmp_path)), "leakage")
    assert found.level == "weak"
    assert found.figures == {
        "images_in_two_pools": [],
        "equal_photos": [
            {"000": ["query_test"], "090": ["query_train"]},
            {"001": ["query_test"], "060": ["support_test"]},
        ],
        "unreadable_photos": ["100"],
    }
    assert "2 photos are in two pools under two names, 1 in train and test" in found.text


def test_images_in_two_pools_are_found(manifest: Manifest) -> None:
    pools = {**manifest.pools, "support_train": {**manifest.pools["support_train"], "001": (1,)}}
    found = finding(audit_manifest(replace(manifest, pools=pools)), "leakage")
    assert (found.level, found.figures["images_in_two_pools"]) == ("weak", ["001"])


def test_unknown_training_images_are_noted(manifest: Manifest) -> None:
    pools = {**manifest.pools, "query_train": dict.fromkeys(manifest.pools["query_train"])}
    found = finding(audit_manifest(replace(manifest, pools=pools, validation=None)), "training images")
    assert (found.level, found.figures["query_train"], found.figures["support_train"]) == ("note", 20, 0)
    assert "no validation pairs" in found.text


@pytest.fixture(scope="module")
def atr(test_data: Path) -> Manifest:
    spec = load_spec("atr")
    return build_manifest(Recipe(spec, 1), find_source(spec.dataset, test_data / "lists"))


def test_the_official_atr_list_shows_its_known_weaknesses(atr: Manifest) -> None:
    findings = audit_manifest(atr)
    assert finding(findings, "distinct queries").figures == {"pairs": 1650, "queries": 110, "supports": 1650}
    assert finding(findings, "distinct queries").level == "weak"
    assert finding(findings, "clustering").figures == {
        "pairs_per_query": 15.0,
        "effective_queries": 110.0,
        # 110 runs of 15 pairs: 110 x 14 of 1,649 neighbourhoods.
        "neighbours_that_share_a_query": 1540 / 1649,
    }
    mix = finding(findings, "source mix")
    assert mix.level == "weak"
    assert mix.figures["queries"] == {"2500": 110}
    assert set(mix.figures["support_test"]) == {"2500", "dataset10k", "fash"}
    assert {"2500", "dataset10k", "4565", "997", "Multi"} == {*mix.figures["query_train"]}
    for name in ("pants", "face", "legs", "arms"):
        row = {"in-domain": 0.0, "queries from": {"2500": 10}, "supports from": {"dataset10k": 150}}
        assert mix.classes[name] == row
    for name in ("dress", "skirt", "bag", "shoes"):
        row = {"in-domain": 1.0, "queries from": {"2500": 10}, "supports from": {"2500": 150}}
        assert mix.classes[name] == row


def test_show_tells_what_is_in_it(manifest: Manifest, manifest_file: Path) -> None:
    shown = describe(manifest)
    assert json.loads(run("show", manifest_file, "--json")) == json.loads(json.dumps(shown))
    assert shown["classes"][3] == {"id": 3, "name": "shoes", "role": "base", "labels": ["left-shoe", "right-shoe"]}
    assert shown["classes"][0]["labels"] == ["background"]
    assert shown["removed_labels"] == ["belt"]
    assert shown["pools"]["query_test"] == {"images": 52, "classes_known": 52}
    assert (shown["pairs"]["pairs"], shown["validation"]["pairs"]) == (750, 9)
    text = run("show", manifest_file)
    for piece in (manifest.digest, manifest.test_digest, "left-shoe, right-shoe", "belt", "by-hand", "750 of "):
        assert piece in text


def test_audit_takes_areas_from_the_truth_beside_the_manifest_or_the_masks(
    manifest: Manifest, tiny_spec: Spec, tiny_root: Path, tmp_path: Path
) -> None:
    save_manifest(manifest, tmp_path / "tiny_fold1.json")
    from_masks = areas(run("audit", tmp_path / "tiny_fold1.json", "--root", tiny_root, "--json"))
    assert areas(run("audit", tmp_path / "tiny_fold1.json", "--json"))["classes"] == {}
    write_truth(manifest, find_source(tiny_spec.dataset, tiny_root), truth_path(tmp_path / "tiny_fold1.json"))
    from_truth = areas(run("audit", tmp_path / "tiny_fold1.json", "--json"))
    assert set(from_truth["classes"]) == {"hat", "hair", "shoes", "dress", "bag"}
    assert from_truth == from_masks
    assert "weak  distinct queries: " in run("audit", tmp_path / "tiny_fold1.json")


def areas(output: str) -> dict[str, Any]:
    (found,) = (each for each in json.loads(output)["findings"] if each["topic"] == "class areas")
    assert isinstance(found, dict)
    return found


def test_a_wrong_truth_file_is_no_source_of_areas(manifest_file: Path, tmp_path: Path) -> None:
    (tmp_path / "t.zip").write_bytes(b"no zip")
    assert "not a readable truth file" in run("audit", manifest_file, "--truth", tmp_path / "t.zip", code=2)


def test_columns_are_aligned() -> None:
    assert columns([["class", "n", "share"], ["hat", 1234, 0.5], ["upper", 7, 0.0012]]) == [
        "class      n   share",
        "hat    1,234  50.0 %",
        "upper      7  0.12 %",
    ]


def test_text_of_a_manifest_cannot_steer_a_terminal(manifest: Manifest, tmp_path: Path) -> None:
    save_manifest(replace(manifest, protocol={"name": "\x1b[2J\nfake"}), tmp_path / "m_fold1.json")
    text = run("show", tmp_path / "m_fold1.json")
    assert "\x1b" not in text
    assert "\\x1b[2J\\nfake" in text


def test_photos_of_the_embedded_dataset_all_differ() -> None:
    spec = load_spec("demo")
    source = find_source(spec.dataset, None)
    photos = [np.asarray(Image.fromarray(source.photo(image))).tobytes() for image in source.lists["all"][:12]]
    assert len(set(photos)) == 12
