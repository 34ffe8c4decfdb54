"""The methods that look at no photo, by hand."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from oshp_bench import Episodes, Manifest
from oshp_bench.baselines.floor import GRID, ClassPrior, parse_by_copy
from oshp_bench.datasets.images import IGNORE
from oshp_bench.datasets.sources import Source
from oshp_bench.manifest import Pairs


def test_copy_support_does_not_copy_ignored_pixels(source: Source, tmp_path: Path) -> None:
    shutil.copytree(source.root / "photos", tmp_path / "photos")
    (tmp_path / "masks").mkdir()
    height, width = source.photo_size("060")
    mask = np.full((height, width), 1, np.uint8)
    mask[0] = IGNORE
    Image.fromarray(mask).save(tmp_path / "masks" / "060.png")
    (episode,) = Episodes(Pairs(("060",), ("060",), (1,), ((1,),)), replace(source, root=tmp_path), "k")
    assert parse_by_copy(episode).tolist() == [[0] * width, *[[1] * width] * (height - 1)]


def test_the_class_prior_counts_training_masks_by_place(manifest: Manifest, source: Source, tmp_path: Path) -> None:
    """Four training masks of 2 x 2 pixels, merged (4 is shoes = 3; dress 5 is novel, so background; 255 not counted):

        1 1    1 7    3 1    3 0         top left     1: 2, 3: 2           -> tie, 1
        5 0    1 255  1 4    0 4         top right    1: 2, 0: 2 (7 novel) -> tie, 0
                                         bottom left  1: 2, 0: 2 (5 novel) -> tie, 0
                                         bottom right 3: 2, 0: 1           -> 3
    To parse (3,) alone, hats count as background: top left 0: 2, 3: 2 -> tie, 0.
    """
    masks = {"t0": [[1, 1], [5, 0]], "t1": [[1, 7], [1, 255]], "t2": [[3, 1], [1, 4]], "t3": [[3, 0], [0, 4]]}
    (tmp_path / "masks").mkdir()
    (tmp_path / "photos").mkdir()
    for name, mask in masks.items():
        Image.fromarray(np.array(mask, np.uint8)).save(tmp_path / "masks" / f"{name}.png")
    Image.fromarray(np.zeros((4, 2, 3), np.uint8)).save(tmp_path / "photos" / "q.jpg")
    pools = {**manifest.pools, "query_train": {"t0": None, "t1": None}, "support_train": {"t2": None, "t3": None}}
    own = replace(source, root=tmp_path)
    prior = ClassPrior.of_training_masks(replace(manifest, pools=pools), own)
    corners = prior.counts[:, :: GRID - 1, :: GRID - 1]
    assert prior.class_ids == (0, 1, 2, 3, 5, 7)
    assert corners[0].tolist() == [[0, 2], [2, 1]]
    assert corners[1].tolist() == [[2, 2], [2, 0]]
    assert corners[3].tolist() == [[2, 0], [0, 2]]
    assert not corners[[2, 4, 5]].any()
    pairs = Pairs(("q", "q"), ("s", "s"), (3, 5), ((1, 3), (1, 3, 5)))
    both, with_novel = Episodes(pairs, own, "k")
    assert prior(both).tolist() == [[1, 0], [1, 0], [0, 3], [0, 3]]
    assert prior(with_novel).tolist() == prior(both).tolist()
    shoes, dress = Episodes(pairs, own, "1")
    assert prior(shoes).tolist() == [[0, 0], [0, 0], [0, 3], [0, 3]]
    assert not prior(dress).any()
