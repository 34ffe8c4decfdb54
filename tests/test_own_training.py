"""TrainingEpisodes for own code: the episodes of oshp-train without novel classes; the guide runs."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader
from training_cases import SMALL

from oshp_bench.datasets.images import COARSE, IGNORE, Mask, Photo
from oshp_bench.datasets.sources import Source
from oshp_bench.episodes import Augmentation, Draws, TrainingEpisodes
from oshp_bench.episodes.episodes import WAYS, Way
from oshp_bench.errors import OshpError
from oshp_bench.manifest import Manifest
from oshp_bench.training.samples import draws_of

GUIDE = Path(__file__).parents[1] / "docs" / "own_training.md"
CODE = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
CROP = Augmentation(crop=32, fit="longest", side=32)


def padded(photo: Photo, masks: Mask, random: np.random.Generator) -> tuple[Photo, Mask]:
    """Own augmentation: a random shift on a canvas of 40 x 40 pixels."""
    top, left = random.integers(0, 12, 2)
    canvas, labels = np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 2), IGNORE, np.uint8)
    canvas[top : top + len(photo), left : left + photo.shape[1]] = photo
    labels[top : top + len(photo), left : left + photo.shape[1]] = masks
    return canvas, labels


@pytest.mark.parametrize("way", WAYS)
def test_they_are_the_episodes_of_oshp_train(manifest: Manifest, source: Source, way: Way) -> None:
    settings = replace(SMALL, way=way, episodes=None, batch=1)
    data = TrainingEpisodes(manifest, source, way, settings.seed, settings.augmentation)
    theirs = draws_of(manifest, settings)
    for epoch in (0, 3):
        data.set_epoch(epoch)
        episodes = list(data)
        assert [episode.draw for episode in episodes] == [theirs.draw(epoch, index) for index in range(len(theirs))]
        assert len({episode.query.photo.tobytes() for episode in episodes}) > len(data) // 2
    assert len(data) == len(theirs)
    with pytest.raises(IndexError):
        data[len(data)]


@pytest.mark.parametrize("transform", [CROP, padded])
def test_no_mask_shows_a_novel_class(manifest: Manifest, source: Source, transform: Augmentation) -> None:
    base = {0, IGNORE, *manifest.ids_of("base")}
    hidden = 0
    for episode in TrainingEpisodes(manifest, source, transform=transform):
        for sample in (episode.query, *episode.supports):
            assert set(np.unique(sample.fine).tolist()) <= base
            hidden += int(((sample.fine == 0) & (sample.coarse == 1)).sum())
    # Novel classes are there: people without a base class.
    assert hidden > 100


def test_own_augmentation_gets_masks_without_novel_classes_and_the_same_numbers_again(
    manifest: Manifest, source: Source
) -> None:
    seen: list[tuple[Photo, Mask]] = []

    def spy(photo: Photo, masks: Mask, random: np.random.Generator) -> tuple[Photo, Mask]:
        seen.append((photo, masks))
        return padded(photo, masks, random)

    data = TrainingEpisodes(manifest, source, seed=4, transform=spy)
    first = data[2]
    for image, (photo, masks) in zip((first.draw.query, *first.draw.supports), seen, strict=True):
        assert (photo == source.photo(image)).all()
        assert (masks[..., 0] == manifest.training_classes[source.mask(image)]).all()
        assert (masks[..., 1] == COARSE[source.mask(image)]).all()
    again = pickle.loads(pickle.dumps(TrainingEpisodes(manifest, source, seed=4, transform=padded)))[2]
    assert again.draw == first.draw and (again.query.photo == first.query.photo).all()
    # Query and support are moved each for itself, and otherwise in another epoch or with another seed.
    places = {
        tuple(np.argwhere(sample.fine != IGNORE)[0].tolist())
        for seed in (4, 5)
        for epoch in range(3)
        for episode in [TrainingEpisodes(manifest, source, seed=seed, transform=padded).at(epoch, 2)]
        for sample in (episode.query, *episode.supports)
    }
    assert len(places) > 6


@pytest.mark.slow
def test_a_data_loader_takes_them_with_any_number_of_workers(manifest: Manifest, source: Source) -> None:
    draws = Draws(manifest, "k", supports="each class", episodes=6)
    data = TrainingEpisodes(manifest, source, transform=CROP, draws=draws)
    alone, helped = (
        list(DataLoader(data, 3, num_workers=workers, collate_fn=data.collate))  # type: ignore[arg-type]
        for workers in (0, 2)
    )
    assert len(alone) == 2
    for batch, other in zip(alone, helped, strict=True):
        assert batch.draws == other.draws
        assert (batch.photos == other.photos).all() and (batch.masks == other.masks).all()
        episodes, most = len(batch.draws), max(len(draw.supports) for draw in batch.draws)
        assert batch.photos.shape == (episodes, 1 + most, 3, 32, 32)
        assert batch.masks.shape == (2, episodes, 1 + most, 32, 32)
        for draw, targets in zip(batch.draws, batch.targets.tolist(), strict=True):
            assert targets == [*draw.targets, *[-1] * (most - len(draw.targets))]


def test_samples_of_different_sizes_are_refused(manifest: Manifest, source: Source) -> None:
    data = TrainingEpisodes(manifest, source, transform=lambda photo, masks, _: (photo, masks))
    with pytest.raises(OshpError, match=r"a batch have the shapes \[\(\d+, \d+, 3\), .*let transform give them one"):
        data.collate(list(data))


@pytest.mark.slow
def test_the_loop_of_the_guide_trains(manifest: Manifest, manifest_file: Path, tiny_root: Path, tmp_path: Path) -> None:
    script, preds = tmp_path / "my_training.py", tmp_path / "preds"
    script.write_text(CODE[0])
    command = [sys.executable, "-W", "error", str(script), str(manifest_file), str(preds), str(tiny_root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [re.fullmatch(r"epoch \d: loss ([\d.]+), validation ([\d.]+) %", line) for line in done.stdout.splitlines()]
    losses = [float(line[1]) for line in lines if line]
    assert len(losses) == len(lines) > 2
    assert losses[-1] < losses[0]
    assert [path.stem for path in sorted((preds / "kway").iterdir())] == list(manifest.pairs.names)


def test_the_own_augmentation_of_the_guide_runs(manifest: Manifest, source: Source) -> None:
    space: dict[str, Callable[..., tuple[Photo, Mask]]] = {}
    exec(CODE[1], space)
    data = TrainingEpisodes(manifest, source, transform=space["my_augmentation"])
    batch = data.collate([data[0], data[1]])
    assert batch.photos.shape[-2:] == batch.masks.shape[-2:]
    assert set(np.unique(batch.masks[0]).tolist()) <= {0, IGNORE, *manifest.ids_of("base")}
