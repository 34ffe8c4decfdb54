"""The methods by name. Nothing heavy is imported until one is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from oshp_bench.errors import OshpError

if TYPE_CHECKING:
    from oshp_bench.baselines.contract import LearnedMethod
    from oshp_bench.episodes.episodes import Way

Kind = Literal["rule", "frozen", "trained"]

# What oshp-train trains where no method is named.
REFERENCE = "eopnet"


@dataclass(frozen=True)
class KnownMethod:
    """A method that the commands know by name.

    Attributes:
        name: its name in commands, checkpoints and predictions.json.
        summary: one line for --help.
        home: where its code is, as "module.name" of this room: a LearnedMethod; for a "rule", a function
            (Manifest, Source) -> Method.
        kind: a "rule" has no network; "frozen" takes a pretrained network as it is; "trained" has to be trained.
        ways: what it can parse, its usual way first.
    """

    name: str
    summary: str
    home: str
    kind: Kind = "trained"
    ways: tuple[Way, ...] = ("k", "1")

    def load(self) -> Any:
        """What stands at its home; imports torch unless it is a "rule"."""
        module, _, name = self.home.rpartition(".")
        return getattr(import_module(f"oshp_bench.baselines.{module}"), name)


METHODS = {
    known.name: known
    for known in (
        KnownMethod("background", "calls every pixel background", "floor.background", "rule"),
        KnownMethod("class-prior", "the class most frequent there in training", "floor.class_prior", "rule"),
        KnownMethod("copy-support", "stretches the support's mask to the query's size", "floor.copy_support", "rule"),
        KnownMethod("prototype-matching", "nearest mean feature", "prototype_matching.PrototypeMatching", "frozen"),
        KnownMethod("amp", "AMP (Siam et al., ICCV 2019)", "amp.AMP"),
        KnownMethod("ppnet", "PPNet (Liu et al., ECCV 2020)", "ppnet.PPNet", ways=("1",)),
        KnownMethod("pfenet", "PFENet (Tian et al., TPAMI 2020)", "pfenet.PFENet", ways=("1",)),
        KnownMethod("eopnet", "EOP-Net (He et al., TPAMI 2023)", "eopnet.network.EOPNet"),
        KnownMethod("panet", "PANet (Wang et al., ICCV 2019)", "panet.PANet"),
        KnownMethod("sg-one", "SG-One (Zhang et al., TCYB 2020)", "sg_one.SGOne"),
        KnownMethod("eopnet-fg", "ours: EOP-Net with a foreground gate", "eopnet.foreground.EOPNetFG"),
        KnownMethod("popnet", "POPNet (He et al., AAAI 2021)", "popnet.POPNet"),
        KnownMethod("fine-tuning", "OSVOS (Caelles et al., CVPR 2017)", "fine_tuning.FineTuning", ways=("1",)),
        KnownMethod("persam", "PerSAM (Zhang et al., ICLR 2024)", "persam.method.PerSAM", "frozen", ways=("1",)),
    )
}


def named(*kinds: Kind) -> dict[str, KnownMethod]:
    """The methods of these kinds, by name."""
    return {name: known for name, known in METHODS.items() if known.kind in kinds}


def network_class(name: str) -> type[LearnedMethod]:
    """The class of a method with a network; imports torch.

    Raises:
        OshpError: no method with a network has this name.
    """
    known = named("frozen", "trained")
    if name not in known:
        raise OshpError(f"{name}: no such method with a network; known: {', '.join(known)}")
    method: type[LearnedMethod] = known[name].load()
    return method
