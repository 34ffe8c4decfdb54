"""Parses episodes with a network: what depends on one image alone, or on one support alone, is computed once."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from oshp_bench.baselines.contract import LearnedMethod, Support
from oshp_bench.datasets.images import Mask, Photo
from oshp_bench.errors import OshpError

_Thing = TypeVar("_Thing")

# Two maps of a photo of 825x550 pixels with 256 channels at stride 4 take 58 MB; a support's prototypes some KB.
_FEATURE_BYTES = 512 << 20
_TASK_BYTES = 128 << 20
# What a RuntimeError says when memory is too small: torch's, C++'s, CUDA's, and oneDNN's, which gives no reason. Where
# oneDNN cannot *describe* a primitive, something else is wrong.
_NO_MEMORY = re.compile(
    r"allocate memory|bad_alloc|out of memory|_ALLOC_FAILED|could not (create|execute) a (primitive(?! d)|memory )"
)


class Pictures(Protocol):
    """What a network is shown: the part of an Episode that is not the manifest's business."""

    @property
    def query_id(self) -> str: ...
    @property
    def support_id(self) -> str: ...
    @property
    def classes(self) -> tuple[int, ...]: ...
    @property
    def query_size(self) -> tuple[int, int]: ...
    @property
    def query_photo(self) -> Photo: ...
    @property
    def support_photo(self) -> Photo: ...
    @property
    def support_mask(self) -> Mask: ...
    @property
    def support_whole(self) -> Mask: ...
    @property
    def support_human(self) -> Mask: ...


class NetworkMethod:
    """A network as a method of oshp-predict: uint8 [H, W] of class ids, by the argmax of `LearnedMethod.parse`.

    The latest features and tasks are kept, within a bound on memory: a query is encoded once for all of its pairs that
    follow each other, and a support is adapted to once for all queries that it meets. Nothing that is kept depends on
    earlier episodes, so predictions do not either, to the last bit.

    Args:
        network: put into evaluation mode; its device is where everything is computed.
        side: the longer side that photos are brought to, in pixels; None for native size.
        feature_bytes: what may be kept of photos; the last one is kept in any case.
    """

    def __init__(self, network: LearnedMethod, side: int | None, feature_bytes: int = _FEATURE_BYTES) -> None:
        self._network = network.eval()
        self._side = side
        self._device = next(network.parameters()).device
        self._features: _Kept[Any] = _Kept(feature_bytes)
        self._tasks: _Kept[Any] = _Kept(_TASK_BYTES)

    def __call__(self, episode: Pictures) -> Mask:
        """Parses the query of an episode.

        Raises:
            OshpError: a picture is missing or damaged, or memory is too small.
        """
        # Of equal scores both take the first, but argmax over any dimension but the last is five times slower on a CPU.
        best = self.scores(episode).max(0).indices.to(torch.uint8)
        labels = np.array((0, *episode.classes), np.uint8)
        return labels.take(best.cpu().numpy())

    # Not inference_mode: its tensors are lost for a method that fine-tunes in `adapt`.
    @torch.no_grad()
    def scores(self, episode: Pictures) -> Tensor:
        """Scores of background and every class: float [1 + len(classes), H, W] at the query's native size.

        Raises:
            OshpError: as above.
        """
        with _told_of_memory(episode, self._device):
            task = self._tasks.get((episode.support_id, episode.classes), lambda: self._task(episode))
            query = self._encoded(episode.query_id, lambda: episode.query_photo)
            return self._network.parse(query, task, episode.query_size)

    def _task(self, episode: Pictures) -> Any:
        features = self._encoded(episode.support_id, lambda: episode.support_photo)
        support = Support(
            features,
            mask=self._labels(episode.support_mask),
            whole=self._labels(episode.support_whole),
            coarse=self._labels(episode.support_human),
            classes=episode.classes,
        )
        # What is drawn while adapting is drawn alike for every support, whichever came before.
        with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(0)
            return self._network.adapt(support)

    def _encoded(self, image_id: str, photo: Callable[[], Photo]) -> Any:
        return self._features.get(image_id, lambda: self._network.encode(self._tensor(photo())))

    def _tensor(self, photo: Photo) -> Tensor:
        height, width = self._size(photo)
        if (height, width) != photo.shape[:2]:
            photo = np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR))
        tensor = torch.tensor(photo, device=self._device)
        return tensor.permute(2, 0, 1)[None].float().div(255)

    def _labels(self, mask: Mask) -> Tensor:
        """A mask at its own size: methods bring it to their grid in one step."""
        return torch.tensor(mask, device=self._device)[None].long()

    def _size(self, photo: Photo) -> tuple[int, int]:
        height, width = photo.shape[:2]
        factor = 1.0 if self._side is None else self._side / max(height, width)
        return max(1, round(height * factor)), max(1, round(width * factor))


class _Kept(Generic[_Thing]):
    """Things by key: the last one, and of those before it as many as their tensors fit these bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._things: OrderedDict[Hashable, tuple[_Thing, int]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], _Thing]) -> _Thing:
        if key not in self._things:
            thing = make()
            self._things[key] = thing, _tensor_bytes(thing)
            held = sum(size for _, size in self._things.values())
            while held > self._most and len(self._things) > 1:
                held -= self._things.popitem(last=False)[1][1]
        self._things.move_to_end(key)
        return self._things[key][0]


def _tensor_bytes(thing: Any) -> int:
    """The bytes of the tensors in nested dataclasses, modules, tables and lists."""
    if isinstance(thing, Tensor):
        return thing.numel() * thing.element_size()
    if isinstance(thing, torch.nn.Module):
        return _tensor_bytes(thing.state_dict())
    if is_dataclass(thing):
        return _tensor_bytes(vars(thing))
    if isinstance(thing, Mapping):
        return sum(map(_tensor_bytes, thing.values()))
    return sum(map(_tensor_bytes, thing)) if isinstance(thing, list | tuple) else 0


def usable_device(name: str | None, gpu: int = 0) -> torch.device:
    """The device of a name such as "cpu" or "cuda:1".

    Args:
        name: None takes a GPU where there is one.
        gpu: the number of the GPU where the name gives none.

    Raises:
        OshpError: no such device, or none that computes here.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", gpu)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).partition("\n")[0][:120]
        raise OshpError(f"--device {name}: cannot be used here ({why}); leave it away, or say --device cpu") from error
    return device


def out_of_memory(error: Exception) -> bool:
    """Whether this is what torch raises where memory is too small."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or bool(_NO_MEMORY.search(str(error)))


@contextmanager
def _told_of_memory(episode: Pictures, device: torch.device) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        height, width = episode.query_size
        raise OshpError(
            f"out of memory on {device}: query {episode.query_id} ({width}x{height} pixels), support"
            f" {episode.support_id}; smaller photos need less (--side here, the setting test_side in oshp-train), and"
            " so does a narrower backbone" + ("" if device.type == "cpu" else "; --device cpu may have more")
        ) from error
