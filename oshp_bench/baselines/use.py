"""A method ready to predict, from its name or from a checkpoint. Nothing heavy is imported until one is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oshp_bench.baselines.registry import METHODS, named
from oshp_bench.baselines.shipped import checkpoints_of, shipped_checkpoint
from oshp_bench.errors import MissingPackage, OshpError

if TYPE_CHECKING:
    from oshp_bench.baselines.checkpoints import Checkpoint
    from oshp_bench.datasets.sources import Source
    from oshp_bench.episodes.episodes import Method, Way
    from oshp_bench.manifest import Manifest

_CHECKPOINTS = (".safetensors", ".pth", ".pt")


@dataclass(frozen=True)
class Use:
    """How a network is used at test.

    Attributes:
        device: such as "cpu" or "cuda:1"; None takes a GPU where there is one.
        changes: changed settings, such as "layout=0"; only those that training does not read (`at_test`).
        side: the longer side that photos are resized to, in pixels; None takes the checkpoint's.
    """

    device: str | None = None
    changes: tuple[str, ...] = ()
    side: int | None = None


@dataclass(frozen=True)
class Predictor:
    """A method that is ready for a manifest.

    Attributes:
        name: what stands in predictions.json.
        build: makes the method for a manifest; reads training masks if it needs them.
        ways: what it can parse.
        about, summary: what predictions.json, and a line for people, say of its network; None without one.
        manifest: the name of the shipped manifest that its checkpoint was trained on, if any.
        check: refuses a manifest that the method is not made for.
    """

    name: str
    build: Callable[[Manifest, Source], Method]
    ways: tuple[Way, ...]
    about: Mapping[str, Any] | None = None
    summary: str | None = None
    manifest: str | None = None
    check: Callable[[Manifest], None] = lambda _: None


def find_method(text: str, use: Use, manifest: str | None = None) -> Predictor:
    """The method that a user names, or that a checkpoint holds.

    Args:
        text: a name, or the path of a checkpoint.
        manifest: see `open_network`.

    Raises:
        OshpError: there is none of that name; see also `open_network`.
    """
    if text in named("rule"):
        if use != Use():
            raise OshpError(f"{text} has no network; remove --device, --set and --side")
        return Predictor(text, METHODS[text].load(), METHODS[text].ways)
    checkpoint = open_network(text, use, manifest)

    def build(_manifest: Manifest, _source: Source) -> Method:
        from oshp_bench.baselines.inference import NetworkMethod

        return NetworkMethod(checkpoint.network, checkpoint.card.test_side)

    return Predictor(
        name=checkpoint.card.method,
        build=build,
        ways=checkpoint.network.ways,
        about=checkpoint.about(),
        summary=checkpoint.summary(),
        manifest=_shipped(checkpoint),
        check=checkpoint.check,
    )


def open_network(text: str, use: Use, manifest: str | None = None) -> Checkpoint:
    """A network on its device.

    Args:
        text: the path of a checkpoint, by oshp-train or by EOP-Net's authors; the name of one that comes with the
            package, or of a method that has one; or the name of a "frozen" method.
        manifest: the name or file of the manifest that a method's shipped checkpoint is for.

    Raises:
        OshpError: no such checkpoint or method, torch is missing, the device cannot be used, or a change is refused.
    """
    shipped = shipped_checkpoint(text, manifest)
    path, known = shipped or Path(text), None if shipped else METHODS.get(text)
    if known is None and path.suffix not in _CHECKPOINTS and not path.exists():
        raise OshpError(f"{text}: no such method and no checkpoint; known: {', '.join(METHODS)}")
    if known and known.kind == "trained":
        there = " and ".join(checkpoints_of(text))
        raise OshpError(
            f"{text} has to be trained: oshp-train --method {text} --manifest ..., then give its checkpoint here"
            + (f"; the package has its weights for {there} alone" if there else "")
        )
    if known and known.kind == "rule":
        raise OshpError(f"{text} has no network; give a checkpoint, or {' or '.join(named('frozen'))}")
    try:
        import safetensors  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingPackage(text, str(error.name), "train") from error

    from oshp_bench.baselines.checkpoints import load_checkpoint, untrained
    from oshp_bench.baselines.inference import usable_device

    device = usable_device(use.device)
    checkpoint = untrained(text, use.changes) if known else load_checkpoint(path, use.changes)
    checkpoint.network.to(device)
    return checkpoint if use.side is None else replace(checkpoint, card=replace(checkpoint.card, test_side=use.side))


def _shipped(checkpoint: Checkpoint) -> str | None:
    """The shipped manifest with the test pairs of the one that a checkpoint was trained on."""
    from oshp_bench.manifest import load_manifest, shipped_manifests

    trained_on = checkpoint.card.manifest
    if trained_on is None or trained_on.name not in shipped_manifests():
        return None
    return trained_on.name if load_manifest(trained_on.name).test_digest == trained_on.test_digest else None
