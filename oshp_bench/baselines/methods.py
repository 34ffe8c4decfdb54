"""The methods that oshp-predict knows, by name or by checkpoint. Nothing heavy is imported until one is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from oshp_bench.baselines.registry import LEARNERS
from oshp_bench.errors import OshpError

if TYPE_CHECKING:
    from oshp_bench.baselines.checkpoints import Checkpoint
    from oshp_bench.datasets.images import Mask
    from oshp_bench.datasets.sources import Source
    from oshp_bench.episodes.episodes import Episode, Way
    from oshp_bench.manifest import Manifest

_CHECKPOINTS = (".safetensors", ".pth", ".pt")


class Method(Protocol):
    """Parses the query of an episode: uint8 [H, W] of the query's size, k-way and 1-way.

    The result holds labels of `episode.classes` and 0. Episodes of one query come one after the other, so what a
    method computes for a query can be kept for the pairs that follow; the result may not depend on it.
    """

    def __call__(self, episode: Episode) -> Mask: ...


@dataclass(frozen=True)
class Recipe:
    """How a method is made.

    Attributes:
        name: what stands in predictions.json.
        summary: one line for --help.
        build: makes the method ready for a manifest, reading training images where it learns from them.
        ways: what it can parse.
        about: what predictions.json says of a network that makes them; None where there is none.
        manifest: the shipped manifest that a checkpoint was trained on, by name; None where there is none.
        check: refuses a manifest that the method is not made for.
    """

    name: str
    summary: str
    build: Callable[[Manifest, Source], Method]
    ways: tuple[Way, ...] = ("k", "1")
    about: Mapping[str, Any] | None = None
    manifest: str | None = None
    check: Callable[[Manifest], None] = lambda _: None


def find_method(
    text: str,
    device: str | None = None,
    screening: bool = True,
    texts: Sequence[str] = (),
    side: int | None = None,
) -> Recipe:
    """The method that a user names, or that a checkpoint holds.

    Args:
        text: a name, or the path of a checkpoint.
        device, screening, texts, side: see `open_network`.

    Raises:
        OshpError: there is none of that name; see also `open_network`.
    """
    if text in METHODS:
        if device is not None or not screening or texts or side is not None:
            raise OshpError(f"{text} has no network; leave --device, --no-screening, --set and --side away")
        return METHODS[text]
    checkpoint = open_network(text, device, screening, texts, side)

    def build(_manifest: Manifest, _source: Source) -> Method:
        from oshp_bench.baselines.inference import NetworkMethod

        return NetworkMethod(checkpoint.network, checkpoint.card.test_side)

    return Recipe(
        name=checkpoint.card.method,
        summary="",
        build=build,
        ways=checkpoint.network.ways,
        about=checkpoint.about(),
        manifest=_shipped(checkpoint),
        check=checkpoint.check,
    )


def open_network(text: str, device: str | None, screening: bool, texts: Sequence[str], side: int | None) -> Checkpoint:
    """A network on its device, from a checkpoint of oshp-train or of EOP-Net's authors, or one that needs no training.

    Args:
        text: the path of a checkpoint, or the name of a method that needs no training.
        device: such as "cpu" or "cuda:1"; None takes a GPU where there is one.
        screening: False switches coarse screening off.
        texts: settings that are changed, such as "layout=0"; only those that training does not look at may be.
        side: the longer side that photos are brought to, in pixels, instead of the checkpoint's; None leaves that.

    Raises:
        OshpError: no such checkpoint or method, torch is missing, the device cannot be used, there is no screening, or
            what is wrong with the texts.
    """
    path = Path(text)
    if text not in LEARNERS and path.suffix not in _CHECKPOINTS and not path.exists():
        raise OshpError(f"{text}: no such method and no checkpoint; known: {', '.join((*METHODS, *LEARNERS))}")
    try:
        import safetensors  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise OshpError(f"{text} needs {error.name}: pip install 'oshp-bench[train]'") from error

    from oshp_bench.baselines.checkpoints import load_checkpoint, untrained
    from oshp_bench.baselines.inference import usable_device

    place = usable_device(device)
    checkpoint = untrained(text, texts) if text in LEARNERS else load_checkpoint(path, texts)
    if not screening:
        if checkpoint.network.screening is None:
            raise OshpError(f"{text}: {checkpoint.card.method} has no coarse screening; leave --no-screening away")
        checkpoint.network.screening = False
    checkpoint.network.to(place)
    return checkpoint if side is None else replace(checkpoint, card=replace(checkpoint.card, test_side=side))


def _shipped(checkpoint: Checkpoint) -> str | None:
    """The shipped manifest with the test pairs of the one that a checkpoint was trained on."""
    from oshp_bench.manifest import load_manifest, shipped_manifests

    trained_on = checkpoint.card.manifest
    if trained_on is None or trained_on.name not in shipped_manifests():
        return None
    return trained_on.name if load_manifest(trained_on.name).test_digest == trained_on.test_digest else None


def _background(_manifest: Manifest, _source: Source) -> Method:
    from oshp_bench.baselines.floor import background

    return background


def _class_prior(manifest: Manifest, source: Source) -> Method:
    from oshp_bench.baselines.floor import ClassPrior

    return ClassPrior.of_training_masks(manifest, source)


def _copy_support(_manifest: Manifest, _source: Source) -> Method:
    from oshp_bench.baselines.floor import copy_support

    return copy_support


METHODS = {
    recipe.name: recipe
    for recipe in (
        Recipe("background", "calls every pixel background", _background),
        Recipe("class-prior", "gives every pixel the class that is most frequent there in training", _class_prior),
        Recipe("copy-support", "stretches the support's mask to the query's size", _copy_support),
    )
}
