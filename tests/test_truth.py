"""The truth file holds the merged masks of the queries, fits one manifest, and shows every damage."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oshp_bench.datasets.images import mask_png
from oshp_bench.datasets.labels import Spec
from oshp_bench.datasets.palette import palette_bytes
from oshp_bench.datasets.sources import Source, find_source
from oshp_bench.errors import OshpError
from oshp_bench.manifest import Manifest
from oshp_bench.manifest.truth import find_truth, load_truth, stride4_classes, truth_path, write_truth


@pytest.fixture(scope="module")
def truth_file(manifest: Manifest, source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("truth") / "tiny_fold1.truth.zip"
    write_truth(manifest, source, path)
    return path


def test_the_masks_are_those_of_the_dataset(manifest: Manifest, source: Source, truth_file: Path) -> None:
    truth = load_truth(truth_file, manifest)
    assert set(truth.sizes) == set(manifest.pairs.query)
    for query in manifest.pairs.queries:
        assert np.array_equal(truth.mask(query), source.merged_mask(query))
        assert truth.sizes[query] == source.photo_size(query)
    for support in set(manifest.pairs.support):
        assert truth.stride4_classes[support] == stride4_classes(source.merged_mask(support))


def test_the_same_masks_give_the_same_bytes(
    manifest: Manifest, source: Source, truth_file: Path, tmp_path: Path
) -> None:
    write_truth(manifest, source, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == truth_file.read_bytes()


def test_the_stride_4_grid_is_that_of_the_release() -> None:
    mask = np.zeros((9, 10), np.uint8)
    # 9 rows give 3 (0, 3, 6), 10 columns give 3 (0, 3, 6): class 1 is on the grid, class 2 beside it.
    mask[3, 6], mask[4, 7], mask[0, 3] = 1, 2, 255
    assert stride4_classes(mask) == (1,)


def test_another_manifests_truth_is_refused(manifest: Manifest, truth_file: Path) -> None:
    other = replace(manifest, name="other_fold1", pairs=replace(manifest.pairs, target=manifest.pairs.target[::-1]))
    with pytest.raises(OshpError, match=r"the truth of 'tiny_fold1' '1\.0\.0', not of other_fold1"):
        load_truth(truth_file, other)


def rewritten(old: Path, new: Path, change: Callable[[dict[str, bytes]], object]) -> Path:
    with zipfile.ZipFile(old) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(new, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return new


def index_changed(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, bytes]], None]:
    def apply(members: dict[str, bytes]) -> None:
        index = json.loads(members["truth.json"])
        change(index)
        members["truth.json"] = json.dumps(index).encode()

    return apply


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.pop("truth.json"), "not a readable truth file"),
        (lambda m: m.update({"truth.json": b"[" * 10**5}), "nested too deeply"),
        (lambda m: m.update({"truth.json": b" " * (17 << 20)}), "larger than 16 MiB"),
        (lambda m: m.update({"truth.json": b"[]"}), "not a truth file"),
        (index_changed(lambda i: i.update(format="oshp-truth/2")), "not a truth file"),
        (index_changed(lambda i: i.update(test_digest="sha256:0")), "not of tiny_fold1"),
        (index_changed(lambda i: i.pop("test_digest")), "not of tiny_fold1"),
        (index_changed(lambda i: i.update(queries=[])), r"queries is \[\], not a table"),
        (index_changed(lambda i: i["queries"].pop("001")), "lacks 1 images of the manifest, 001"),
        (index_changed(lambda i: i["stride4_classes"].pop("052")), "lacks 1 images of the manifest, 052"),
        (
            index_changed(lambda i: i["stride4_classes"].update({"052": [0]})),
            "052 holds something other than class ids",
        ),
        (index_changed(lambda i: i["queries"]["001"].update(size=[21])), "queries.001: size is not"),
        (index_changed(lambda i: i["queries"]["001"].update(size=[2**40, 2**40])), "queries.001: size is not"),
        (index_changed(lambda i: i["queries"]["001"].update(digest=5)), "queries.001: digest is 5, not a text"),
    ],
)
def test_a_broken_index_is_refused(
    manifest: Manifest, truth_file: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], object], reason: str
) -> None:
    path = rewritten(truth_file, tmp_path / "t.zip", change)
    with pytest.raises(OshpError, match=reason) as refused:
        load_truth(path, manifest)
    assert all(problem.isprintable() for problem in refused.value.problems)


def png_of(value: int, height: int = 21, width: int = 17) -> bytes:
    return mask_png(np.full((height, width), value, np.uint8), palette_bytes({}))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "masks/001.png"),
        (b"", "an empty file"),
        (png_of(1)[:40], "truncated"),
        (png_of(1), "the pixels do not fit the digest"),
        (png_of(1, 17, 21), "size or mode differ"),
    ],
)
def test_a_broken_mask_is_refused(
    manifest: Manifest, truth_file: Path, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    def change(members: dict[str, bytes]) -> None:
        del members["masks/001.png"]
        if content is not None:
            members["masks/001.png"] = content

    truth = load_truth(rewritten(truth_file, tmp_path / "t.zip", change), manifest)
    assert truth.sizes["001"] == (21, 17)
    with pytest.raises(OshpError, match=reason):
        truth.mask("001")
    assert truth.mask("002").any()


def test_a_compression_that_we_do_not_write_is_refused(manifest: Manifest, truth_file: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w", zipfile.ZIP_LZMA) as archive, zipfile.ZipFile(truth_file) as old:
        archive.writestr("truth.json", old.read("truth.json"))
    with pytest.raises(OshpError, match="compressed with another method than deflate"):
        load_truth(tmp_path / "t.zip", manifest)


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip at all" * 100])
def test_other_files_are_refused(manifest: Manifest, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.zip").write_bytes(content)
    with pytest.raises(OshpError, match="not a readable truth file"):
        load_truth(tmp_path / "t.zip", manifest)
    with pytest.raises(OshpError, match="does not exist"):
        load_truth(tmp_path / "none.zip", manifest)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_gives_the_right_masks_or_none(
    manifest: Manifest, source: Source, truth_file: Path, tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(truth_file.read_bytes())
    directory = content.index(b"PK\x01\x02")
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.sampled_from([0, directory, len(content) - 40]))
        content[data.draw(st.integers(start, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "t.zip").write_bytes(content)
    try:
        truth = load_truth(tmp_path / "t.zip", manifest)
    except OshpError:
        return
    for query in manifest.pairs.queries[:3]:
        try:
            # A digest in the index may be what is damaged, never a mask that it still names.
            assert np.array_equal(truth.mask(query), source.merged_mask(query))
        except OshpError as error:
            assert len(error.problems) == 1


def test_truth_is_found_beside_the_manifest_or_built_there(
    manifest: Manifest, truth_file: Path, tiny_root: Path, tmp_path: Path
) -> None:
    manifest_file = tmp_path / "tiny_fold1.json"
    assert truth_path(manifest_file) == tmp_path / "tiny_fold1.truth.zip"
    assert find_truth(manifest, manifest_file, truth_file, None).path == truth_file
    built = find_truth(manifest, manifest_file, None, tiny_root)
    assert built.path == truth_path(manifest_file)
    assert built.path.read_bytes() == truth_file.read_bytes()
    assert find_truth(manifest, manifest_file, None, None).path == built.path


def test_a_dataset_with_broken_masks_leaves_no_truth(
    manifest: Manifest, tiny_spec: Spec, tiny_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "masks").mkdir()
    queries = manifest.pairs.queries
    for path in (tiny_root / "masks").iterdir():
        if path.stem != queries[0]:
            (tmp_path / "masks" / path.name).write_bytes(path.read_bytes()[: 40 if path.stem == queries[1] else None])
    with pytest.raises(OshpError) as refused:
        write_truth(manifest, find_source(tiny_spec.dataset, tmp_path), tmp_path / "t.zip")
    assert [problem.split(": ")[1] for problem in refused.value.problems] == ["does not exist", "truncated"]
    assert not list(tmp_path.glob("*t.zip*"))
