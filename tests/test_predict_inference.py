"""Parsing with a network: what is kept changes no bit, episodes may come in any order, photos may be of any size."""

# Stand-ins for methods take what the interface gives.
# ruff: noqa: ARG002

from __future__ import annotations

import copy
import random
import shutil
import threading
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from eopnet_cases import Strided
from network_cases import card_of, save_drawn
from PIL import Image
from torch import Tensor, nn

from oshp_bench import Episode, Episodes, ImageCache, Manifest, OshpError
from oshp_bench.baselines.checkpoints import load_checkpoint
from oshp_bench.baselines.contract import Batch, Labels, LearnedMethod, Progress, Support
from oshp_bench.baselines.eopnet.network import EOPNet
from oshp_bench.baselines.eopnet.settings import RELEASE, EOPNetSettings
from oshp_bench.baselines.inference import NetworkMethod, out_of_memory, usable_device
from oshp_bench.baselines.pieces.memory import MomentumPrototypes
from oshp_bench.datasets.images import Mask, Photo
from oshp_bench.datasets.sources import Source
from oshp_bench.episodes.episodes import WAYS, Way
from oshp_bench.episodes.reading_ahead import ReadingCache

PAIRS = 48


def network(reading: str, way: Way) -> EOPNet:
    """An EOP-Net of one convolution and drawn weights that remembers prototypes of hat, hair and shoes."""
    torch.manual_seed(3)
    made = EOPNet.build(Strided(), Labels(8), way, RELEASE if reading == "release" else EOPNetSettings())
    for module in made.modules():
        if isinstance(module, MomentumPrototypes):
            rows = [0, 1] if len(module.rows) == 2 else [1, 2, 3]
            module.rows[rows] = torch.randn(len(rows), module.rows.shape[1])
    return made.eval()


@pytest.fixture(scope="module")
def uncached(manifest: Manifest, source: Source) -> dict[tuple[str, Way], list[Tensor]]:
    """The scores of every network for the first pairs, each by a NetworkMethod of its own that has nothing to keep."""
    return {
        (reading, way): [
            NetworkMethod(net, None).scores(each) for each in Episodes(manifest.pairs, source, way, range(PAIRS))
        ]
        for reading in ("paper", "release")
        for way in WAYS
        for net in [network(reading, way)]
    }


@pytest.mark.slow
# Room for nothing, for a few photos, or for all.
@pytest.mark.parametrize("room", [0, 5000, 1 << 30])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("reading", ["paper", "release"])
def test_what_is_kept_and_the_order_of_episodes_change_no_bit(
    manifest: Manifest,
    source: Source,
    uncached: dict[tuple[str, Way], list[Tensor]],
    reading: str,
    way: Way,
    room: int,
) -> None:
    expected = uncached[reading, way]
    method = NetworkMethod(network(reading, way), None, room)
    for episode in Episodes(manifest.pairs, source, way, random.Random(room).sample(range(PAIRS), PAIRS)):
        assert torch.equal(method.scores(episode), expected[episode.index])
    # A learned class looks alike with every support, in the paper's reading; the queries are four.
    assert len({each.numpy().tobytes() for each in expected}) >= 4


@dataclass(frozen=True)
class Shown:
    """Pictures without a dataset: photos of one value, a mask of one class."""

    query_id: str
    support_id: str
    classes: tuple[int, ...] = (1,)
    query_size: tuple[int, int] = (8, 8)

    @property
    def query_photo(self) -> Photo:
        return np.zeros((*self.query_size, 3), np.uint8)

    support_photo = query_photo

    @property
    def support_mask(self) -> Mask:
        return np.ones((8, 8), np.uint8)

    support_whole = support_human = support_mask


class Counting(LearnedMethod):
    """Counts what it is asked for; its features pretend to fill `size` bytes."""

    def __init__(self, size: int = 4) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.calls: Counter[str] = Counter()
        self._size = size

    def encode(self, images: Tensor) -> Any:
        self.calls["encode"] += 1
        return {"one": [torch.zeros(1).expand(self._size // 4)]}

    def adapt(self, support: Support) -> Any:
        self.calls["adapt"] += 1
        return len(support.classes)

    def parse(self, query: Any, task: Any, size: tuple[int, int]) -> Tensor:
        self.calls["parse"] += 1
        return torch.zeros(1 + task, *size)

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        raise AssertionError


def test_a_query_is_encoded_once_and_a_support_adapted_to_once(manifest: Manifest, source: Source) -> None:
    """750 pairs: the queries of every class, 15 pairs each, and supports that return with each of them."""
    counting = Counting()
    method = NetworkMethod(counting, None)
    for episode in Episodes(manifest.pairs, source, "k"):
        method(episode)
    pairs = manifest.pairs
    assert counting.calls == {
        "parse": 750,
        "adapt": len(set(pairs.support)),
        "encode": len(set(pairs.support)) + len(set(pairs.query)),
    }


def test_a_class_of_its_own_is_another_task_for_the_same_features() -> None:
    counting = Counting()
    method = NetworkMethod(counting, None)
    for query, classes in (("q", (1,)), ("q", (2,)), ("r", (1,)), ("q", (1, 2))):
        method(Shown(query, "s", classes))
    assert counting.calls == {"parse": 4, "adapt": 3, "encode": 3}


@pytest.mark.parametrize(
    ("size", "kept"),
    [
        # Fine and coarse features of a photo of 825x550 pixels at 256 channels: 138 x 207 cells at stride 4.
        (2 * 4 * 256 * 207 * 138, 9),
        # A photo of 12 megapixels: what was encoded last is kept all the same.
        (2 * 4 * 256 * 1000 * 750, 1),
    ],
)
def test_features_are_kept_within_bounds(size: int, kept: int) -> None:
    counting = Counting(size)
    method = NetworkMethod(counting, None)
    names = [f"q{number}" for number in range(12)]
    for name in names:
        method(Shown(name, "s"))
    # The support came first and is not asked for again, as its task is kept.
    assert counting.calls["encode"] == 13 and counting.calls["adapt"] == 1
    for name in reversed(names[-kept:]):
        method(Shown(name, "s"))
    assert counting.calls["encode"] == 13
    method(Shown(names[-kept - 1], "s"))
    assert counting.calls["encode"] == 14


class FineTuned(Counting):
    """Fine-tunes a copy of its layer on a support, from drawn weights, as some methods do at test."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)

    def encode(self, images: Tensor) -> Any:
        return self.layer(images)

    def adapt(self, support: Support) -> Any:
        head = nn.Conv2d(4, 2, 1)
        copied = copy.deepcopy(head)
        with torch.enable_grad():
            (copied(support.features) ** 2).sum().backward()
        assert copied.weight.grad is not None
        return head.weight - 0.1 * copied.weight.grad

    def parse(self, query: Any, task: Any, size: tuple[int, int]) -> Tensor:
        scores: Tensor = nn.functional.conv2d(query, task)[0]
        return scores


def test_a_method_may_fine_tune_and_draw_while_it_adapts() -> None:
    """Whatever was drawn before, here by another support, a support's head starts alike."""
    torch.manual_seed(5)
    tuned = FineTuned()
    before = {name: tensor.clone() for name, tensor in tuned.state_dict().items()}
    state = torch.get_rng_state()
    alone = NetworkMethod(tuned, None).scores(Shown("q", "s"))
    method = NetworkMethod(tuned, None)
    method(Shown("q", "other"))
    torch.rand(3)
    assert torch.equal(method.scores(Shown("q", "s")), alone)
    assert not alone.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in tuned.state_dict().items())
    torch.set_rng_state(state)


@dataclass(frozen=True)
class Sized(Shown):
    """Photos of a given size, with a pattern, half of the support of class 1."""

    support_size: tuple[int, int] = (8, 8)

    @property
    def query_photo(self) -> Photo:
        height, width = self.query_size
        pattern: Photo = (np.indices((height, width, 3)).sum(0) * 7 % 256).astype(np.uint8)
        return pattern

    @property
    def support_photo(self) -> Photo:
        return replace(self, query_size=self.support_size).query_photo

    @property
    def support_mask(self) -> Mask:
        mask = np.zeros(self.support_size, np.uint8)
        mask[:, : (self.support_size[1] + 1) // 2] = 1
        return mask

    support_whole = support_human = support_mask


@pytest.mark.parametrize("side", [None, 32, 33])
@pytest.mark.parametrize("query", [(1, 1), (1, 90), (90, 2), (5, 7)])
@pytest.mark.parametrize("support", [(1, 1), (64, 1), (17, 33)])
def test_photos_may_have_any_size_and_shape(side: int | None, query: tuple[int, int], support: tuple[int, int]) -> None:
    for way in WAYS:
        method = NetworkMethod(network("paper", way), side)
        parsed = method(Sized("q", "s", (1,), query, support))
        assert parsed.shape == query and parsed.dtype == np.uint8 and set(np.unique(parsed)) <= {0, 1}


def test_photos_are_brought_to_the_side_of_training() -> None:
    seen = []

    class Looking(Counting):
        def encode(self, images: Tensor) -> Any:
            seen.append((tuple(images.shape), float(images.min()) >= 0, float(images.max()) <= 1))
            return super().encode(images)

    NetworkMethod(Looking(), 64)(Sized("q", "s", (1,), (200, 100), (30, 40)))
    assert seen == [((1, 3, 48, 64), True, True), ((1, 3, 64, 32), True, True)]


def test_too_little_memory_is_one_line() -> None:
    class Greedy(Counting):
        def encode(self, images: Tensor) -> Any:
            torch.empty(1 << 60)

    with pytest.raises(OshpError) as caught:
        NetworkMethod(Greedy(), None)(Shown("0017", "0042", query_size=(825, 550)))
    (line,) = caught.value.problems
    assert line.startswith("out of memory on cpu: query 0017 (550x825 pixels), support 0042; ")
    assert "test_side" in line and "--side" in line

    class Wrong(Counting):
        def encode(self, images: Tensor) -> Any:
            raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError, match="a mistake"):
        NetworkMethod(Wrong(), None)(Shown("q", "s"))


@pytest.mark.parametrize(
    ("message", "memory"),
    [
        ("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried", True),
        ("could not create a primitive", True),
        ("could not execute a primitive\nException raised from", True),
        ("Caught RuntimeError in worker 0.\nRuntimeError: could not create a memory object\n", True),
        ("std::bad_alloc", True),
        ("CUDA error: out of memory", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("could not create a primitive descriptor for a convolution forward propagation primitive", False),
        ("The size of tensor a (3) must match the size of tensor b (4)", False),
    ],
)
def test_too_little_memory_is_known_by_what_the_libraries_say(message: str, memory: bool) -> None:
    assert out_of_memory(RuntimeError(message)) == memory
    assert out_of_memory(MemoryError()) and out_of_memory(torch.OutOfMemoryError(message))


def test_a_device_that_cannot_be_used_is_one_line() -> None:
    assert usable_device("cpu") == torch.device("cpu")
    for name in ("banana", "cuda:99", "meta", "cpu:x", ""):
        if name:
            with pytest.raises(OshpError, match=f"--device {name}: cannot be used here"):
                usable_device(name)


def pictures(episode: Episode) -> list[bytes]:
    return [
        each.tobytes()
        for each in (episode.query_photo, episode.support_photo, episode.support_mask, episode.support_human)
    ]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_reading_ahead_gives_the_same_pictures(manifest: Manifest, source: Source, workers: int) -> None:
    wanted = [pictures(each) for each in Episodes(manifest.pairs, ImageCache(source), "k", range(0, 90, 2))]
    images = ReadingCache(source)
    episodes = Episodes(manifest.pairs, images, "k", range(0, 90, 2))
    before = threading.active_count()
    # Every third episode asks for nothing.
    for number, episode in enumerate(images.ahead(episodes, workers)):
        assert episode == episodes[number]
        assert number % 3 == 0 or pictures(episode) == wanted[number]
    assert threading.active_count() == before


def test_what_is_read_ahead_fails_at_its_own_episode(
    manifest: Manifest, source: Source, tiny_root: Path, tmp_path: Path
) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(tiny_root, root)
    (root / "masks" / f"{manifest.pairs.support[4]}.png").write_bytes(b"nothing")
    images = ReadingCache(replace(source, root=root))
    done = []
    with pytest.raises(OshpError, match=r"\.png: not a PNG, or damaged"):
        for episode in images.ahead(Episodes(manifest.pairs, images, "k", range(9)), 4):
            pictures(episode)
            done.append(episode.index)
    assert done == [0, 1, 2, 3]


def test_a_checkpoint_parses_as_the_network_that_was_saved(manifest: Manifest, source: Source, tmp_path: Path) -> None:
    """The backbone that people train with, at a side of its own, through the file."""
    path = save_drawn(tmp_path / "best.safetensors", card_of(manifest, test_side=40))
    loaded = load_checkpoint(path)
    (episode,) = Episodes(manifest.pairs, source, "k", [300])
    scores = NetworkMethod(loaded.network, 40).scores(episode)
    with torch.no_grad():
        sized = [
            torch.tensor(
                np.asarray(Image.fromarray(photo).resize(_fitted(photo), Image.Resampling.BILINEAR))
            ).permute(2, 0, 1)[None] / 255
            for photo in (episode.query_photo, episode.support_photo)
        ]  # fmt: skip
        query, support = (loaded.network.encode(each) for each in sized)
        mask, whole, human = (
            torch.tensor(labels)[None].long()
            for labels in (episode.support_mask, episode.support_whole, episode.support_human)
        )
        task = loaded.network.adapt(Support(support, mask, whole, human, episode.classes))
        assert torch.equal(scores, loaded.network.parse(query, task, episode.query_size))


def _fitted(photo: Photo) -> tuple[int, int]:
    height, width = photo.shape[:2]
    return round(width * 40 / max(height, width)), round(height * 40 / max(height, width))
