"""The methods that oshp-predict knows, by name. Nothing heavy is imported until a method is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from oshp_bench.errors import OshpError

if TYPE_CHECKING:
    from oshp_bench.baselines.episodes import Episode
    from oshp_bench.datasets.images import Mask
    from oshp_bench.datasets.sources import Source
    from oshp_bench.manifest import Manifest


class Method(Protocol):
    """Parses the query of an episode: uint8 [H, W] of the query's size, k-way and 1-way.

    The result holds labels of `episode.classes` and 0. Episodes come in the manifest's order, so what a method
    computes for a query can be kept for the pairs that follow; the result may not depend on it.
    """

    def __call__(self, episode: Episode) -> Mask: ...


@dataclass(frozen=True)
class Recipe:
    """How a method is made.

    Attributes:
        name: what stands in predictions.json.
        summary: one line for --help.
        build: makes the method ready for a manifest, reading training images where it learns from them.
    """

    name: str
    summary: str
    build: Callable[[Manifest, Source], Method]


def find_method(text: str) -> Recipe:
    """The method that a user names.

    Raises:
        OshpError: there is none of that name.
    """
    if text not in METHODS:
        raise OshpError(f"{text}: no such method; known: {', '.join(METHODS)}")
    return METHODS[text]


def _background(_manifest: Manifest, _source: Source) -> Method:
    from oshp_bench.baselines.trivial import background

    return background


def _class_prior(manifest: Manifest, source: Source) -> Method:
    from oshp_bench.baselines.trivial import ClassPrior

    return ClassPrior.of_training_masks(manifest, source)


def _copy_support(_manifest: Manifest, _source: Source) -> Method:
    from oshp_bench.baselines.trivial import copy_support

    return copy_support


METHODS = {
    recipe.name: recipe
    for recipe in (
        Recipe("background", "calls every pixel background", _background),
        Recipe("class-prior", "gives every pixel the class that is most frequent there in training", _class_prior),
        Recipe("copy-support", "stretches the support's mask to the query's size", _copy_support),
    )
}
