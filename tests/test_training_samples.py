"""Training samples: photo and mask stay aligned, labels are never mixed, and nobody's help changes a number."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from training_cases import SMALL

from oshp_bench.baselines.eopnet.network import EOPNet
from oshp_bench.datasets.images import IGNORE, Mask
from oshp_bench.datasets.labels import Spec
from oshp_bench.datasets.sources import Source, find_source
from oshp_bench.episodes.augmentation import Augmentation
from oshp_bench.episodes.draws import Draw
from oshp_bench.episodes.training_episodes import TrainingEpisodes, augmented
from oshp_bench.episodes.training_photos import Files, TrainingPhotos
from oshp_bench.errors import OshpError
from oshp_bench.manifest import Manifest
from oshp_bench.manifest.pack import Pack, write_pack
from oshp_bench.training.samples import RawBatch, batches, draws_of
from oshp_bench.training.settings import TrainSettings

PLAIN = Augmentation(crop=64, fit="native", scale=(1.0, 1.0), flip=False)
NUMBER = st.floats(0, 1, exclude_max=True)
HOW = st.builds(
    Augmentation,
    crop=st.integers(32, 80),
    fit=st.sampled_from(["square", "longest", "native"]),
    side=st.integers(32, 90),
    scale=st.sampled_from([(0.5, 2.0), (1.0, 1.0), (0.7, 1.4)]),
    one_scale=st.booleans(),
    flip=st.booleans(),
)
# The colour of a label: far from all others, so that a mixture of two is neither.
COLOURS = np.array([[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8)], np.uint8) * 255


@pytest.fixture(scope="module")
def pack(manifest: Manifest, source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packs") / "tiny.h5"
    write_pack(manifest, source, path)
    return path


def blocks(seed: int) -> Mask:
    """A mask of labels 0..7 in blocks of 8 to 24 pixels, of 40..100 x 40..100 pixels."""
    generator = np.random.default_rng(seed)
    heights, widths = generator.integers(8, 25, (2, 5))
    labels = generator.integers(0, 8, (5, 5))
    return labels.repeat(heights, 0).repeat(widths, 1).astype(np.uint8)


def inner(mask: Mask) -> NDArray[np.bool_]:
    """The pixels whose surroundings, two pixels wide, are in the mask and have their label."""
    height, width = mask.shape[0] - 4, mask.shape[1] - 4
    middle = mask[2:-2, 2:-2]
    shifted = [mask[row : row + height, column : column + width] for row in range(5) for column in range(5)]
    return np.pad(np.all([each == middle for each in shifted], axis=0), 2)


@settings(deadline=None)
@given(st.integers(0, 99), HOW, st.lists(NUMBER, min_size=5, max_size=5))
def test_photo_and_mask_stay_aligned_and_labels_pure(seed: int, how: Augmentation, numbers: list[float]) -> None:
    mask = blocks(seed)
    photo, labels = augmented(COLOURS[mask], mask, how, numbers)
    assert photo.shape == (how.crop, how.crop, 3) and labels.shape == (how.crop, how.crop)
    assert photo.dtype == labels.dtype == np.uint8
    filled = labels != IGNORE
    assert set(np.unique(labels[filled])) <= set(np.unique(mask))
    # What the picture does not fill is below and right of it, black.
    rows, columns = filled.any(1), filled.any(0)
    assert (filled == rows[:, None] & columns).all()
    assert not np.diff(rows.astype(int)).max(initial=0) > 0 and not np.diff(columns.astype(int)).max(initial=0) > 0
    assert not photo[~filled].any()
    agreeing = inner(labels) & filled
    assert (photo[agreeing] == COLOURS[labels[agreeing]]).all()


def test_nothing_to_do_gives_the_picture_itself() -> None:
    mask = blocks(3)[:60, :50]
    photo, labels = augmented(COLOURS[mask], mask, PLAIN, [0.9, 0.5, 0.5, 0.5, 0.5])
    assert (labels[:60, :50] == mask).all() and (photo[:60, :50] == COLOURS[mask]).all()
    assert (labels[60:] == IGNORE).all() and (labels[:, 50:] == IGNORE).all()
    mirrored = augmented(COLOURS[mask], mask, replace(PLAIN, flip=True), [0.49, 0.5, 0.5, 0.5, 0.5])
    assert (mirrored[1][:60, :50] == mask[:, ::-1]).all() and (mirrored[0][:60, :50] == COLOURS[mask[:, ::-1]]).all()
    assert (mirrored[1][60:] == IGNORE).all() and (mirrored[1][:, 50:] == IGNORE).all()


@pytest.mark.parametrize(
    ("how", "shape", "size"),
    [
        (Augmentation(crop=64, fit="native"), (0.5, 0.5), (30, 20)),
        (Augmentation(crop=64, fit="native", one_scale=False), (0.5, 1.0), (30, 40)),
        (Augmentation(crop=64, fit="square"), (0.5, 0.5), (32, 32)),
        (Augmentation(crop=64, fit="longest", side=90), (0.5, 0.5), (45, 30)),
        (Augmentation(crop=64, fit="longest", side=90), (1.0, 1.0), (64, 60)),
    ],
)
def test_sizes_by_hand(how: Augmentation, shape: tuple[float, float], size: tuple[int, int]) -> None:
    """A picture of 60 x 40: brought to its size, scaled by the numbers, cut to 64 x 64."""
    low, high = how.scale
    scales = [(each - low) / (high - low) for each in shape]
    _, labels = augmented(np.zeros((60, 40, 3), np.uint8), np.ones((60, 40), np.uint8), how, [0.9, *scales, 0.0, 0.0])
    assert ((labels == 1).any(1).sum(), (labels == 1).any(0).sum()) == size


def test_offsets_reach_from_edge_to_edge() -> None:
    mask = np.arange(100, dtype=np.uint8)[:, None].repeat(90, 1)
    for number, first in ((0.0, 0), (0.5, 18), (1 - 2**-53, 36)):
        _, labels = augmented(COLOURS[mask % 8], mask, PLAIN, [0.9, 0.5, 0.5, number, 0.0])
        assert labels[:, 0].tolist() == list(range(first, first + 64))


def episodes_of(
    manifest: Manifest, photos: TrainingPhotos, how: Augmentation = PLAIN, chosen: TrainSettings = SMALL
) -> TrainingEpisodes:
    return TrainingEpisodes(manifest, photos, chosen.way, chosen.seed, how, draws=draws_of(manifest, chosen))


def test_coarse_is_taken_before_the_merge_and_fine_without_novel_classes(manifest: Manifest, source: Source) -> None:
    merge = manifest.dataset.merge
    episodes = episodes_of(manifest, Files(source, manifest), replace(PLAIN, crop=32))
    seen = set()
    for index in range(20):
        draw, query, supports = episodes.at(index // 4, index % 4)
        for image, sample in zip((draw.query, *draw.supports), (query, *supports), strict=True):
            mask = source.mask(image)
            height, width = mask.shape
            seen |= set(np.unique(mask).tolist())
            fine, coarse = sample.fine[:height, :width], sample.coarse[:height, :width]
            assert (coarse == (mask > 0)).all()
            # Fold 1: dress (label 5) and bag (7) are novel, belt (6) is removed, left and right shoes are one class.
            for label, wanted in {0: 0, 1: 1, 2: 2, 3: 3, 4: 3, 5: 0, 6: 0, 7: 0}.items():
                assert merge[label] == (wanted if label not in (5, 7) else merge[label])
                assert (fine[mask == label] == wanted).all()
            for part in (sample.fine, sample.coarse):
                assert (part[height:] == IGNORE).all() and (part[:, width:] == IGNORE).all()
    assert seen == set(range(8))


def test_query_and_support_are_flipped_and_scaled_each_for_itself(manifest: Manifest, source: Source) -> None:
    """Half of all, and independent: each of the four combinations occurs about as often."""
    mirrored = episodes_of(manifest, Files(source, manifest), replace(PLAIN, crop=32, flip=True))
    found = np.zeros((2, 2), int)
    for index in range(80):
        draw, query, supports = mirrored.at(index // 4, index % 4)
        flips = []
        for image, sample in zip((draw.query, *draw.supports), (query, *supports), strict=True):
            mask = (source.mask(image) > 0).astype(np.uint8)
            coarse = sample.coarse[: mask.shape[0], : mask.shape[1]]
            straight, turned = (coarse == mask).all(), (coarse == mask[:, ::-1]).all()
            assert straight != turned
            flips.append(int(turned))
        found[flips[0], flips[1]] += 1
    assert found.min() > 8
    scaled = episodes_of(manifest, Files(source, manifest), replace(PLAIN, scale=(0.5, 1.0)))
    for index in range(4):
        _, query, (support,) = scaled.at(0, index)
        assert (query.fine != IGNORE).sum() != (support.fine != IGNORE).sum()


def test_numbers_differ_from_place_to_place_and_by_seed(manifest: Manifest, source: Source) -> None:
    how = Augmentation(crop=32, fit="square", scale=(1.0, 2.0), one_scale=False)
    files = Files(source, manifest)
    once = replace(SMALL, redraw=False, episodes=20)
    first = episodes_of(manifest, files, how, once)
    assert not (first.at(0, 0)[1].photo == first.at(1, 0)[1].photo).all()
    same = [index for index in range(20) if first.at(1, index)[0] == first.at(0, 0)[0]]
    assert len(same) == 1
    assert not (first.at(1, same[0])[1].photo == first.at(0, 0)[1].photo).all()


def stacked(batch: RawBatch) -> tuple[tuple[Draw, ...], bytes, bytes]:
    return batch.draws, batch.photos.numpy().tobytes(), batch.masks.numpy().tobytes()


def places(count: int, size: int) -> Iterator[list[tuple[int, int]]]:
    return ([(step, index) for index in range(size)] for step in range(count))


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_batches(manifest: Manifest, source: Source, pack: Path) -> None:
    how, cpu = Augmentation(crop=40, fit="longest", side=50), torch.device("cpu")
    for photos in (Files(source, manifest), Pack(pack, manifest)):
        alone, helped, travelled = (
            [stacked(each) for each in batches(episodes, places(5, 3), workers, cpu)]
            for workers, episodes in (
                (0, episodes_of(manifest, photos, how)),
                (2, episodes_of(manifest, photos, how)),
                (0, pickle.loads(pickle.dumps(episodes_of(manifest, photos, how)))),
            )
        )
        assert len(alone) == 5
        assert alone == helped == travelled


def test_a_batch_s_tensors(manifest: Manifest, source: Source) -> None:
    episodes = episodes_of(manifest, Files(source, manifest), chosen=replace(SMALL, way="1"))
    places_of_one = [(0, 0), (0, 1), (0, 3)]
    (raw,) = batches(episodes, [places_of_one], 0, torch.device("cpu"))
    batch = raw.on(torch.device("cpu"), "1", channels_last=True)
    for number, (draw, query, (support,)) in enumerate(episodes.at(*place) for place in places_of_one):
        assert batch.support_targets[number].tolist() == [draw.targets[0]] != [0]
        for images, masks, coarse, sample in (
            (batch.query_images, batch.query_masks, batch.query_coarse, query),
            (batch.support_images[:, 0], batch.support_masks[:, 0], batch.support_coarse[:, 0], support),
        ):
            assert torch.equal(images[number], torch.tensor(sample.photo).permute(2, 0, 1).float() / 255)
            assert torch.equal(masks[number], torch.tensor(sample.fine).long())
            assert torch.equal(coarse[number], torch.tensor(sample.coarse).long())
            assert images.is_contiguous(memory_format=torch.channels_last)
    assert [part.draws for part in raw.parts(3)] == [(draw,) for draw in raw.draws]
    assert torch.equal(torch.cat([part.photos for part in raw.parts(3)]), raw.photos)
    assert torch.equal(torch.cat([part.masks for part in raw.parts(3)], 1), raw.masks)


def test_episodes_with_fewer_supports_are_padded(
    manifest: Manifest, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EOPNet, "supports", "each class")
    episodes = episodes_of(manifest, Files(source, manifest), replace(PLAIN, crop=32), replace(SMALL, episodes=20))
    drawn = {len(episodes.at(0, index)[2]): (0, index) for index in range(20)}
    assert len(drawn) > 1
    most = max(drawn)
    (raw,) = batches(episodes, [list(drawn.values())], 0, torch.device("cpu"))
    batch = raw.on(torch.device("cpu"), "k", channels_last=True)
    assert batch.support_images.shape == (len(drawn), most, 3, 32, 32)
    for number, place in enumerate(drawn.values()):
        draw, _, supports = episodes.at(*place)
        padding = [-1] * (most - len(supports))
        assert batch.support_targets[number].tolist() == [*draw.targets, *padding]
        assert len({support.photo.tobytes() for support in supports}) == len(set(draw.supports))
        for slot in range(most):
            masks = batch.support_masks[number, slot], batch.support_coarse[number, slot]
            if slot < len(supports):
                sample = supports[slot]
                wanted = torch.tensor(sample.fine).long(), torch.tensor(sample.coarse).long()
                assert all(torch.equal(mask, labels) for mask, labels in zip(masks, wanted, strict=True))
                assert torch.equal(
                    batch.support_images[number, slot], torch.tensor(sample.photo).permute(2, 0, 1).float() / 255
                )
            else:
                assert all((mask == IGNORE).all() for mask in masks) and not batch.support_images[number, slot].any()


def test_the_pack_gives_the_samples_of_the_files(manifest: Manifest, source: Source, pack: Path) -> None:
    how = Augmentation(crop=40, fit="longest", side=50)
    ours, theirs = (episodes_of(manifest, photos, how) for photos in (Files(source, manifest), Pack(pack, manifest)))
    for index in range(20):
        (draw, query, supports), (other, packed_query, packed) = ours.at(0, index % 4), theirs.at(0, index % 4)
        assert draw == other
        for mine, same in zip((query, *supports), (packed_query, *packed), strict=True):
            assert all((getattr(mine, name) == getattr(same, name)).all() for name in mine._fields)


def test_a_shrunk_pack_gives_almost_the_same_samples(
    tiny_spec: Spec, manifest: Manifest, tiny_root: Path, tmp_path: Path
) -> None:
    """Photos of up to 840 pixels, of which the pack keeps 640."""
    few = {pool: dict(list(manifest.pools[pool].items())[:2]) for pool in ("query_train", "support_train")}
    manifest = replace(manifest, pools={**manifest.pools, **few})
    for kind, end in (("photos", "jpg"), ("masks", "png")):
        (tmp_path / kind).mkdir()
        for image in (*few["query_train"], *few["support_train"]):
            picture = Image.open(tiny_root / kind / f"{image}.{end}")
            larger = picture.resize((picture.width * 30, picture.height * 30), Image.Resampling.NEAREST)
            larger.save(tmp_path / kind / f"{image}.{end}")
    source = find_source(tiny_spec.dataset, tmp_path)
    write_pack(manifest, source, tmp_path / "pack.h5")
    how = Augmentation(crop=64, fit="longest", side=64)
    ours, theirs = (
        episodes_of(manifest, photos, how) for photos in (Files(source, manifest), Pack(tmp_path / "pack.h5", manifest))
    )
    for index in range(4):
        (draw, query, supports), (other, packed_query, packed) = ours.at(0, index), theirs.at(0, index)
        assert draw == other
        for mine, same in zip((query, *supports), (packed_query, *packed), strict=True):
            assert np.abs(mine.photo.astype(int) - same.photo).mean() < 4
            assert (mine.fine != same.fine).mean() < 0.04
            assert (mine.coarse != same.coarse).mean() < 0.04


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_file_stops_training_with_one_line_whoever_reads_it(
    tiny_spec: Spec, manifest: Manifest, tiny_root: Path, tmp_path: Path, workers: int
) -> None:
    copy = shutil.copytree(tiny_root, tmp_path / "data")
    episodes = episodes_of(manifest, Files(find_source(tiny_spec.dataset, copy), manifest))
    bad = episodes.at(2, 0)[0].query
    (copy / "photos" / f"{bad}.jpg").write_bytes(b"")
    stream = batches(episodes, places(5, 1), workers, torch.device("cpu"))
    fine = [stacked(each) for each in (next(stream), next(stream))]
    assert len(fine) == 2
    with pytest.raises(OshpError) as raised:
        next(stream)
    assert raised.value.problems == (f"{copy / 'photos' / bad}.jpg: an empty file",)
