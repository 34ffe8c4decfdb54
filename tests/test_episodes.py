"""Episodes give a method what it may see, once decoded, and nothing else; bad data is told before it is used."""

from __future__ import annotations

import pickle
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import oshp_bench
from oshp_bench import Episodes, ImageCache, Manifest, OshpError, find_source
from oshp_bench.datasets.labels import Layout, Part, Spec, load_spec
from oshp_bench.datasets.sources import Source
from oshp_bench.episodes.episodes import WAYS, Way
from oshp_bench.manifest import Pairs

# Labels of the tiny dataset: 4, right-shoe, becomes 3, shoes; 6, belt, becomes background; 5, dress, is in the mask
# and not among the classes to parse.
SUPPORT = np.array([[0, 1, 1], [4, 3, 6], [255, 5, 0]], np.uint8)
ONE_PAIR = Pairs(query=("q",), support=("s",), target=(3,), support_classes=((1, 3),))


def written(root: Path, photos: dict[str, NDArray[np.uint8]], masks: dict[str, NDArray[np.uint8]]) -> Path:
    """Writes photos, without loss, and masks in the tiny dataset's layout."""
    for folder, ending, pictures in (("photos", "jpg", photos), ("masks", "png", masks)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name, pixels in pictures.items():
            Image.fromarray(pixels).save(root / folder / f"{name}.{ending}", "PNG")
    return root


@pytest.fixture
def one_pair(tiny_spec: Spec, tmp_path: Path) -> Source:
    """A query of 2 x 4 pixels, without a mask, and a support of 3 x 3."""
    photos = {"q": np.arange(24, dtype=np.uint8).reshape(2, 4, 3), "s": np.full((3, 3, 3), 200, np.uint8)}
    return find_source(tiny_spec.dataset, written(tmp_path, photos, {"s": SUPPORT}))


def test_a_k_way_episode_holds_the_classes_of_the_support(one_pair: Source) -> None:
    (episode,) = Episodes(ONE_PAIR, one_pair, "k")
    assert (episode.index, episode.name, episode.way) == (0, "0000", "k")
    assert (episode.query_id, episode.support_id, episode.classes) == ("q", "s", (1, 3))
    assert episode.query_size == (2, 4)
    assert episode.query_photo.tolist() == np.arange(24).reshape(2, 4, 3).tolist()
    assert episode.support_photo.tolist() == [[[200] * 3] * 3] * 3
    assert episode.support_mask.tolist() == [[0, 1, 1], [3, 3, 0], [255, 0, 0]]
    assert episode.support_mask.dtype == episode.query_photo.dtype == np.uint8


def test_a_1_way_episode_holds_the_target_alone(one_pair: Source) -> None:
    (episode,) = Episodes(ONE_PAIR, one_pair, "1")
    assert (episode.way, episode.classes) == ("1", (3,))
    assert episode.support_mask.tolist() == [[0, 0, 0], [3, 3, 0], [255, 0, 0]]


def test_episodes_follow_the_pairs_of_the_manifest(manifest: Manifest, source: Source) -> None:
    pairs, images = manifest.pairs, ImageCache(source)
    k_way, one_way = Episodes(pairs, images, "k"), Episodes(pairs, images, "1")
    assert len(k_way) == len(one_way) == 750
    for index, (k, one) in enumerate(zip(k_way, one_way, strict=True)):
        assert (k.index, k.name, k.query_id, k.support_id) == (
            index,
            f"{index:04d}",
            pairs.query[index],
            pairs.support[index],
        )
        assert (k.classes, one.classes) == (pairs.support_classes[index], (pairs.target[index],))
        with Image.open(source.root / "masks" / f"{k.support_id}.png") as file:
            raw = np.asarray(file)
        merged = np.where(raw == 4, 3, np.where(raw == 6, 0, raw))
        assert (k.support_mask == merged).all()
        assert (one.support_mask == np.where(merged == pairs.target[index], merged, 0)).all()


def test_validation_episodes_hold_base_classes_of_training_images(manifest: Manifest, source: Source) -> None:
    assert manifest.validation is not None
    episodes = Episodes(manifest.validation, source, "k")
    assert len(episodes) == 9
    novel_somewhere = False
    for episode in episodes:
        assert episode.query_id in manifest.pools["query_train"]
        assert episode.support_id in manifest.pools["support_train"]
        assert set(np.unique(episode.support_mask)) - {0} == set(episode.classes)
        assert not {5, 7} & set(episode.classes)
        novel_somewhere |= bool(np.isin(source.merged_mask(episode.support_id), (5, 7)).any())
    assert novel_somewhere


@pytest.mark.parametrize("way", WAYS)
def test_no_mask_of_a_query_is_needed(
    manifest: Manifest, source: Source, tiny_root: Path, tmp_path: Path, way: Way
) -> None:
    """Everything an episode gives stays the same where the queries' masks have never existed."""
    blind = tmp_path / "blind"
    shutil.copytree(tiny_root, blind)
    for query in manifest.pools["query_test"]:
        (blind / "masks" / f"{query}.png").unlink()
    episodes = Episodes(manifest.pairs, replace(source, root=blind), way)
    episodes.check_files()
    for expected, episode in zip(Episodes(manifest.pairs, source, way), episodes, strict=True):
        assert episode == expected
        assert (episode.query_photo == expected.query_photo).all()
        assert (episode.support_photo == expected.support_photo).all()
        assert (episode.support_mask == expected.support_mask).all()


def test_an_episode_offers_nothing_but_what_a_method_may_see(one_pair: Source) -> None:
    (episode,) = Episodes(ONE_PAIR, one_pair, "k")
    offered = {name: getattr(episode, name) for name in dir(episode) if not name.startswith("_")}
    assert offered.keys() == {
        *("index", "name", "way", "query_id", "support_id", "classes"),
        *("query_size", "query_photo", "support_photo", "support_mask", "support_whole", "support_human"),
    }
    assert all(isinstance(each, int | str | tuple | np.ndarray) for each in offered.values())


def test_the_photo_of_a_query_is_decoded_once_for_its_supports(manifest: Manifest, source: Source) -> None:
    images = ImageCache(source)
    of_one_query = list(Episodes(manifest.pairs, images, "k"))[:15]
    assert len({episode.query_id for episode in of_one_query}) == 1
    photo = of_one_query[0].query_photo
    for episode in of_one_query:
        assert episode.support_photo is not photo
        assert episode.query_photo is photo
    assert Episodes(manifest.pairs, images, "1")[7].query_photo is photo
    assert Episodes(manifest.pairs, source, "1")[7].query_photo is not photo


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tiny_spec: Spec, tmp_path: Path) -> None:
    """100 photos of 3 MB are looked at; about 64 MiB of them are held."""
    photo = np.zeros((1000, 1000, 3), np.uint8)
    root = written(tmp_path, {"a0": photo}, {"a0": np.ones((1000, 1000), np.uint8)})
    ids = tuple(f"a{number}" for number in range(100))
    for image_id in ids[1:]:
        for folder, ending in (("photos", "jpg"), ("masks", "png")):
            (root / folder / f"{image_id}.{ending}").hardlink_to(root / folder / f"a0.{ending}")
    pairs = Pairs(query=("a0",) * 100, support=ids, target=(1,) * 100, support_classes=((1,),) * 100)
    episodes = Episodes(pairs, find_source(tiny_spec.dataset, root), "k")
    query = episodes[0].query_photo
    tracemalloc.start()
    try:
        for episode in episodes:
            assert episode.query_photo is query
            assert episode.support_photo.shape == (1000, 1000, 3)
            assert episode.support_mask.all()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 50 << 20 < held < 68 << 20


def test_pictures_cannot_be_changed_for_the_episodes_that_follow(one_pair: Source) -> None:
    (episode,) = Episodes(ONE_PAIR, one_pair, "k")
    for picture in (episode.query_photo, episode.support_photo):
        with pytest.raises(ValueError, match="read-only"):
            picture[0, 0] = 0
    episode.support_mask[:] = 0
    assert episode.support_mask.any()


def test_episodes_can_be_indexed_chosen_and_sent_to_workers(manifest: Manifest, source: Source) -> None:
    some = Episodes(manifest.pairs, source, "1", (740, 3, 9))
    assert [episode.name for episode in some] == ["0740", "0003", "0009"]
    assert (len(some), some[1].index, some[-1].index) == (3, 3, 9)
    with pytest.raises(IndexError):
        some[3]
    copy = pickle.loads(pickle.dumps(some))
    assert copy[1] == some[1]
    assert (copy[1].support_mask == some[1].support_mask).all()


def test_every_missing_or_cut_off_file_is_listed_before_the_start(
    manifest: Manifest, tiny_spec: Spec, tiny_root: Path, tmp_path: Path
) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(tiny_root, root)
    query, support, other = manifest.pairs.query[0], manifest.pairs.support[0], manifest.pairs.support[20]
    query_photo, support_photo = (root / "photos" / f"{image}.jpg" for image in (query, support))
    query_photo.unlink()
    support_photo.write_bytes(support_photo.read_bytes()[:-40])
    (root / "masks" / f"{support}.png").unlink()
    (root / "masks" / f"{other}.png").unlink()
    (root / "masks" / f"{query}.png").unlink()
    episodes = Episodes(manifest.pairs, find_source(tiny_spec.dataset, root), "k")
    with pytest.raises(OshpError) as raised:
        episodes.check_files()
    assert sorted(raised.value.problems) == sorted(
        (
            f"{query_photo}: does not exist",
            f"{support_photo}: truncated: the JPEG's end is missing",
            f"{root / 'masks' / support}.png: does not exist; the mask of the support {support}",
            f"{root / 'masks' / other}.png: does not exist; the mask of the support {other}",
        )
    )
    untouched = [
        index
        for index in range(len(manifest.pairs))
        if manifest.pairs.query[index] != query and manifest.pairs.support[index] not in (support, other)
    ]
    Episodes(manifest.pairs, find_source(tiny_spec.dataset, root), "k", untouched).check_files()


def test_a_dataset_known_from_lists_alone_is_told_in_one_line(one_pair: Source) -> None:
    lists = replace(one_pair, layout=Layout("lists", (Part("all", ids="ids.txt", presence="presence.csv"),)))
    with pytest.raises(OshpError, match="no photos and masks") as raised:
        Episodes(ONE_PAIR, lists, "k").check_files()
    assert len(raised.value.problems) == 1


def test_a_mask_of_another_size_than_its_photo_is_refused(one_pair: Source) -> None:
    written(one_pair.root, {}, {"s": np.ones((3, 5), np.uint8)})
    (episode,) = Episodes(ONE_PAIR, one_pair, "k")
    with pytest.raises(OshpError, match=r"s\.png: 5x3 pixels, but its photo has 3x3"):
        _ = episode.support_mask


def test_a_support_without_the_promised_class_is_refused(one_pair: Source) -> None:
    written(one_pair.root, {}, {"s": np.ones((3, 3), np.uint8)})
    (episode,) = Episodes(ONE_PAIR, one_pair, "k")
    with pytest.raises(OshpError, match="pair 0000: the support s holds no class 3"):
        _ = episode.support_mask


def test_the_public_names_are_those_of_the_modules() -> None:
    assert oshp_bench.Episodes is Episodes
    for name in oshp_bench.__all__:
        assert getattr(oshp_bench, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = oshp_bench.Nothing


def test_real_photos_and_corrected_masks(test_data: Path) -> None:
    """CCP 0131 is on the list of dresses that are skirts: its support mask holds 7, skirt, and no 6, dress."""
    root = test_data / "ccp"
    if not root.is_dir():
        pytest.skip("the folder of real data holds no ccp")
    source = find_source(load_spec("ccp").dataset, root)
    present = tuple(int(each) for each in np.unique(source.merged_mask("0131")) if each)
    assert 7 in present
    assert 6 not in present
    pairs = Pairs(("0001",) * 2, ("0131",) * 2, (7, present[0]), (present,) * 2)
    episodes = Episodes(pairs, source, "1")
    episodes.check_files()
    for episode in episodes:
        assert episode.query_photo.shape == (*episode.query_size, 3)
        assert episode.support_photo.shape[:2] == episode.support_mask.shape
        assert set(np.unique(episode.support_mask)) == {0, *episode.classes}
