"""A score says which truth it was made on: another truth is refused where it is known, and compares with nothing."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from board_cases import document, entries_of, on, write
from click.testing import CliRunner
from metrics_cases import Bench, make_bench, scored
from truths_table import TABLE, entries

from oshp_bench.datasets.images import mask_png, pixel_digest
from oshp_bench.datasets.labels import Spec
from oshp_bench.datasets.palette import palette_bytes
from oshp_bench.errors import OshpError
from oshp_bench.files import content_digest
from oshp_bench.leaderboard.standings import Standing, known_manifests, standings
from oshp_bench.manifest import load_manifest
from oshp_bench.manifest.truth import load_truth
from oshp_bench.manifest.truth_digests import shipped_truths
from oshp_bench.metrics import compare, load_matrices, save_matrices
from oshp_bench.metrics.result_file import load_result, same_test, save_result
from oshp_bench.report.cli import main


@pytest.fixture(scope="module")
def bench(tiny_spec: Spec, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tiny_spec, tiny_root, tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def forged(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The same bench, but for some pixels of one truth mask; the index of the truth file fits them."""
    path = tmp_path_factory.mktemp("forged") / "forged.truth.zip"
    query = bench.manifest.pairs.queries[0]
    mask = bench.truth.mask(query).copy()
    mask[:4, :4] = 1 + (mask[:4, :4] == 1)
    with zipfile.ZipFile(bench.truth_file) as old, zipfile.ZipFile(path, "w") as new:
        members = {name: old.read(name) for name in old.namelist()}
        index = json.loads(members["truth.json"])
        index["queries"][query]["digest"] = pixel_digest(mask)
        members["truth.json"] = json.dumps(index).encode()
        members[f"masks/{query}.png"] = mask_png(mask, palette_bytes(bench.manifest.names))
        for name, content in members.items():
            new.writestr(name, content)
    return replace(bench, truth_file=path)


@pytest.fixture(scope="module")
def predictions(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bench.write(tmp_path_factory.mktemp("sets") / "preds", seed=1)


def test_the_digest_is_that_of_the_queries_pixels(bench: Bench) -> None:
    pixels = {}
    for query in bench.manifest.pairs.queries:
        mask = bench.truth.mask(query)
        text = f"{mask.shape[0]}x{mask.shape[1]}:".encode() + mask.tobytes()
        pixels[query] = "sha256:" + hashlib.sha256(text).hexdigest()
    canonical = json.dumps(pixels, sort_keys=True, separators=(",", ":"))
    assert bench.truth.digest == "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def test_scores_on_other_pixels_do_not_compare(bench: Bench, forged: Bench, predictions: Path, tmp_path: Path) -> None:
    result, other = scored(bench, predictions), scored(forged, predictions)
    assert result.manifest.test_digest == other.manifest.test_digest
    assert result.figures != other.figures
    assert result.signature != other.signature
    assert (result.document["truth"], other.document["truth"]) == (bench.truth.digest, forged.truth.digest)
    with pytest.raises(OshpError, match="cannot be compared, since they were scored on different truths"):
        compare(result, other)
    for found, name in ((result, "ours"), (other, "theirs")):
        save_result(found, tmp_path / f"{name}.json", {})
        save_matrices(found.matrices, found.manifest, found.convention, tmp_path / f"{name}.npz")
    loaded = load_matrices(tmp_path / "theirs.npz", bench.manifest)[0]
    assert loaded.truth == forged.truth.digest
    assert not same_test(load_result(tmp_path / "ours.json"), load_result(tmp_path / "theirs.json"))
    command = ["--manifest", bench.manifest_file, "--from-matrices", tmp_path / "ours.npz", "--resamples=0"]
    for more in (["--from-matrices", tmp_path / "theirs.npz"], ["--floor", tmp_path / "theirs.json"]):
        refused = CliRunner().invoke(main, [*map(str, command), *map(str, more)])
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "cannot be compared" in refused.stderr
        assert forged.truth.digest[7:19] in refused.stderr


def test_files_from_before_truths_had_digests_are_read(bench: Bench, predictions: Path, tmp_path: Path) -> None:
    result = scored(bench, predictions)
    save_matrices(result.matrices, result.manifest, result.convention, tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as content:
        arrays = dict(content)
    about = json.loads(bytes(arrays.pop("about")))
    del about["truth"]
    np.savez(tmp_path / "old.npz", about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)
    old = replace(result, matrices=load_matrices(tmp_path / "old.npz", bench.manifest)[0])
    assert "|truth:unknown|" in old.signature
    assert {difference.value for difference in compare(old, result).values()} <= {0.0, None}
    content = {key: value for key, value in result.document.items() if key not in ("digest", "truth")}
    assert load_result(write(tmp_path / "old.json", content)).truth == ""
    with pytest.raises(OshpError, match="truth 'sha256:5' is malformed"):
        load_result(write(tmp_path / "bad.json", {**content, "truth": "sha256:5"}))


def index_of(name: str, path: Path, queries: Mapping[str, str] = {}, **changes: Any) -> Path:
    """A truth file of a shipped manifest that has only its index; `queries` are the digests that differ."""
    manifest = load_manifest(name)
    digests = {**shipped_truths()[manifest.test_digest]["queries"], **queries}
    with zipfile.ZipFile(path, "w") as archive:
        index = {
            "format": "oshp-truth/1",
            "test_digest": manifest.test_digest,
            "queries": {query: {"size": [600, 400], "digest": digest} for query, digest in digests.items()},
            "stride4_classes": {support: [1] for support in manifest.pairs.support},
            **changes,
        }
        archive.writestr("truth.json", json.dumps(index))
    return path


def test_a_shipped_manifest_takes_its_own_truth_alone(tmp_path: Path) -> None:
    manifest = load_manifest("ccp_fold1")
    first, second = sorted(manifest.pairs.queries)[3:5]
    wrong = dict.fromkeys((first, second), "sha256:" + "0" * 64)
    with pytest.raises(OshpError) as refused:
        load_truth(index_of("ccp_fold1", tmp_path / "t.zip", wrong), manifest)
    assert refused.value.problems == (
        f"{tmp_path}/t.zip: the masks of 2 queries are not those that ccp_fold1 was published with: {first}, {second};"
        f" take {manifest.dataset.title} as its authors distribute it",
    )
    with pytest.raises(OshpError, match="stride4_classes are not those of the supports' masks"):
        load_truth(index_of("ccp_fold1", tmp_path / "t.zip"), manifest)


def test_matrices_of_another_truth_than_the_published_one(tmp_path: Path) -> None:
    manifest = load_manifest("demo_fold1")
    size = len(manifest.class_ids)
    about = {
        "format": "oshp-matrices/1",
        "manifest": "demo_fold1",
        "test_digest": manifest.test_digest,
        "convention": "default",
        "predictions": "",
        "method": "",
        "missing": {},
        "stride4_classes": {},
    }
    kway = np.zeros((len(manifest.pairs), size, size + 1), np.int64)
    for truth, problem in (
        ("sha256:" + "0" * 64, "counted on another truth, not on the one that demo_fold1 was published with"),
        ("", "counted on an unknown truth, not on the one that demo_fold1 was published with"),
        ("sha256:5", "truth 'sha256:5' is no digest"),
        (5, "truth 5 is no digest"),
    ):
        text = json.dumps({**about, "truth": truth}).encode()
        np.savez(tmp_path / "m.npz", about=np.frombuffer(text, np.uint8), kway=kway)
        with pytest.raises(OshpError, match=problem):
            load_matrices(tmp_path / "m.npz", manifest)


def kway_tables(folder: Path, *documents: Mapping[str, Any]) -> list[Standing]:
    found = entries_of(folder, *documents)
    return [table for table in standings(found, known_manifests(found, ()), published=False) if table.way == "k"]


def test_a_board_keeps_truths_apart(tmp_path: Path) -> None:
    def result(name: str, truth: str | None, **changes: Any) -> dict[str, Any]:
        return {**document(name, **changes), **({"truth": truth} if truth else {})}

    usual, other = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    said = [result("a", usual), result("b", usual), result("c", other), result("old", None)]
    tables = kway_tables(tmp_path / "toy", *said)
    assert sorted(sorted(row.name for row in table.rows) for table in tables) == [["a", "b", "old"], ["c"]]
    assert len({table.key for table in tables}) == 2
    shipped = content_digest(shipped_truths()[load_manifest("ccp_fold1").test_digest]["queries"])
    on_ccp = {"manifest": on("ccp_fold1")}
    said = [result("true", shipped, **on_ccp), result("forged", other, **on_ccp), result("old", None, **on_ccp)]
    tables = kway_tables(tmp_path / "ccp", *said)
    assert sorted((sorted(row.name for row in table.rows), table.known) for table in tables) == [
        (["forged"], False),
        (["old", "true"], True),
    ]


def table_of(dataset: str) -> dict[str, Any]:
    truths = json.loads(TABLE.read_text())["truths"]
    return {digest: entry for digest, entry in truths.items() if entry["manifest"].startswith(f"{dataset}_")}


def test_shipped_digests_are_those_of_the_embedded_dataset() -> None:
    assert entries("demo", None) == table_of("demo")


@pytest.mark.slow
def test_shipped_digests_are_those_of_real_masks(test_data: Path) -> None:
    assert entries("ccp", test_data / "ccp") == table_of("ccp")
