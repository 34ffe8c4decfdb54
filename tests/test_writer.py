"""The writer of predictions: what the scorer would refuse is refused at its pair, and what is written reads back."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from oshp_bench import Episode, Episodes, Manifest, OshpError, PredictionWriter
from oshp_bench.datasets.images import IGNORE, read_mask
from oshp_bench.datasets.sources import Source
from oshp_bench.episodes.episodes import WAYS, Way
from oshp_bench.files import read_json
from oshp_bench.manifest import Pairs


def of_way(manifest: Manifest, source: Source, way: Way, index: int = 0) -> Episode:
    return Episodes(manifest.pairs, source, way)[index]


def refusal(writer: PredictionWriter, episode: Episode, mask: Any) -> str:
    """The one line that a prediction is refused with; nothing is written."""
    with pytest.raises(OshpError) as raised:
        writer.write(episode, mask)
    assert len(raised.value.problems) == 1
    assert not writer.folder.parent.exists()
    return raised.value.problems[0]


@pytest.mark.parametrize("way", WAYS)
def test_the_writer_refuses_what_the_scorer_would(manifest: Manifest, source: Source, tmp_path: Path, way: Way) -> None:
    writer = PredictionWriter(tmp_path / "preds", manifest, "own", way)
    episode = of_way(manifest, source, way)
    height, width = episode.query_size
    good = np.zeros((height, width), np.uint8)
    for mask, why in (
        (good.tolist(), "is a list; give a numpy array"),
        (good.astype(np.int64), r"has dtype int64; class ids fit uint8: give mask.astype(np.uint8)"),
        (good.astype(np.float32), "has dtype float32"),
        (good == 0, "has dtype bool"),
        (good[..., None], f"has shape [{height}, {width}, 1], the query [{height}, {width}]"),
        (good[:-1], f"has shape [{height - 1}, {width}], the query [{height}, {width}]"),
        (good + 4, "holds 4"),
        (good + IGNORE, "holds 255"),
        (np.resize(np.arange(8, 20, dtype=np.uint8), good.shape), "holds 8, 9, 10, 11, 12, ..."),
    ):
        line = refusal(writer, episode, mask)
        assert line.startswith(f"pair 0000 ({way}-way): the prediction ")
        assert why in line


def test_refused_labels_come_with_what_is_legal(manifest: Manifest, source: Source, tmp_path: Path) -> None:
    episode = of_way(manifest, source, "k")
    line = refusal(
        PredictionWriter(tmp_path / "k", manifest, "own", "k"), episode, np.full(episode.query_size, 4, np.uint8)
    )
    assert "no class of tiny_fold1; its class ids are 0, 1, 2, 3, 5, 7" in line
    episode = of_way(manifest, source, "1", 160)
    line = refusal(
        PredictionWriter(tmp_path / "1", manifest, "own", "1"), episode, np.full(episode.query_size, 1, np.uint8)
    )
    assert line == "pair 0160 (1-way): the prediction holds 1; give 5 where dress is and 0 elsewhere"


def test_a_class_that_the_support_lacks_is_legal(manifest: Manifest, source: Source, tmp_path: Path) -> None:
    """It is simply wrong, and the scorer's business."""
    index = next(i for i, present in enumerate(manifest.pairs.support_classes) if 7 not in present)
    episode = of_way(manifest, source, "k", index)
    writer = PredictionWriter(tmp_path / "preds", manifest, "own", "k")
    writer.write(episode, np.full(episode.query_size, 7, np.uint8))
    assert (read_mask(writer.folder / f"{index:04d}.png") == 7).all()


def test_the_writer_takes_test_pairs_of_its_own_way_alone(manifest: Manifest, source: Source, tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path / "preds", manifest, "own", "k")
    assert manifest.validation is not None
    shorter = replace(manifest, pairs=Pairs((), (), (), ()))
    for owner, stranger in (
        (writer, of_way(manifest, source, "1")),
        (writer, Episodes(manifest.validation, source, "k")[0]),
        (PredictionWriter(tmp_path / "preds", shorter, "own", "k"), of_way(manifest, source, "k")),
    ):
        mask = np.zeros(stranger.query_size, np.uint8)
        assert "pair 0000: not the k-way pair of that name in tiny_fold1" in refusal(owner, stranger, mask)


def test_digests_are_recorded_at_the_end_and_those_of_kept_files_stay(
    manifest: Manifest, source: Source, tmp_path: Path
) -> None:
    def write(*indices: int) -> dict[str, str]:
        writer = PredictionWriter(tmp_path, manifest, "own", "k")
        for index in indices:
            episode = of_way(manifest, source, "k", index)
            writer.write(episode, np.zeros(episode.query_size, np.uint8))
            assert "kway" not in read_json(tmp_path / "predictions.json").get("files", {})
        writer.finish()
        recorded: dict[str, str] = read_json(tmp_path / "predictions.json")["files"]["kway"]
        return recorded

    with pytest.raises(OshpError, match="cannot be read"):
        write()
    first = write(0, 1)
    assert list(first) == ["0000", "0001"] and write() == first
    (tmp_path / "kway" / "0000.png").write_bytes(b"of another run")
    assert write(2) == {**first, "0002": write(2)["0002"]}
    assert write(0)["0000"] == first["0000"]


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_legal_prediction_is_read_back_as_it_was_given(
    data: st.DataObject, manifest: Manifest, source: Source, tmp_path_factory: pytest.TempPathFactory
) -> None:
    way = data.draw(st.sampled_from(WAYS))
    episode = of_way(manifest, source, way, data.draw(st.integers(0, 749)))
    legal = manifest.class_ids if way == "k" else (0, *episode.classes)
    mask = data.draw(arrays(np.uint8, episode.query_size, elements=st.sampled_from(legal)))
    # A transposed view holds its pixels in another order.
    given_mask = np.asfortranarray(mask) if data.draw(st.booleans()) else mask
    folder = tmp_path_factory.mktemp("any")
    writer = PredictionWriter(folder, manifest, "own", way)
    writer.write(episode, given_mask)
    assert (read_mask(writer.folder / f"{episode.name}.png") == mask).all()
    assert writer.missing() == tuple(i for i in range(750) if i != episode.index)
    shutil.rmtree(folder)
