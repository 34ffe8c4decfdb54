"""The methods that learn, by name: what oshp-train can train. Nothing heavy is imported until one is built."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from oshp_bench.errors import OshpError

if TYPE_CHECKING:
    from oshp_bench.baselines.backbones.layers import Backbone
    from oshp_bench.baselines.contract import LearnedMethod
    from oshp_bench.episodes.episodes import Way


@dataclass(frozen=True)
class Learner:
    """How a method that learns is made.

    Attributes:
        name: what stands in checkpoints and in predictions.json.
        summary: one line for --help.
        home: its class, a LearnedMethod, as "module.Class" of this room.
    """

    name: str
    summary: str
    home: str

    @property
    def settings(self) -> Any:
        """The method's own settings at their defaults."""
        return self._method().settings_type()

    def build(self, backbone: Backbone, count: int, way: Way, settings: Any) -> LearnedMethod:
        """Makes the method; see LearnedMethod."""
        return self._method()(backbone, count, way, settings)

    def _method(self) -> type[LearnedMethod]:
        module, _, name = self.home.rpartition(".")
        method: type[LearnedMethod] = getattr(import_module(f"oshp_bench.baselines.{module}"), name)
        return method

    def settings_from(self, others: Any) -> Any:
        """Those of a preset, as far as this method's extend them; else the method's defaults."""
        own = self.settings
        return replace(own, **vars(others)) if isinstance(own, type(others)) else own


def find_learner(name: str) -> Learner:
    """The learned method of a name.

    Raises:
        OshpError: there is none.
    """
    if name not in LEARNERS:
        raise OshpError(f"{name}: no method that learns; known: {', '.join(LEARNERS)}")
    return LEARNERS[name]


LEARNERS = {
    each.name: each
    for each in (
        Learner("eopnet", "EOP-Net (He et al., TPAMI 2023)", "eopnet.network.EOPNet"),
        Learner("eopnet-fg", "ours: EOP-Net with a foreground gate", "eopnet.foreground.EOPNetFG"),
        Learner("prototype-matching", "nearest mean feature, frozen backbone", "prototype_matching.PrototypeMatching"),
    )
}
