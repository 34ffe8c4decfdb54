"""EOP-Net with a foreground gate (eopnet-fg): this project's own method, not the paper's.

Novel classes are background in the fine masks of training, though the coarse masks say that they are human: EOP-Net
learns to call them background, and does so at test (the paper's testing bias, Table 5). Four changes, each of which
can be switched off, on the same network and data, at the same cost:

1. ignore: the fine losses leave out pixels that are human and carry no base class.
2. gate: at test, background is what the coarse space says; inside it the nearest prototype wins.
3. rivals: there, the remembered prototypes of base classes that the support lacks compete too; what they win is
   nothing that was asked for, hence background. It is what makes the gate usable in 1-way, too.
4. layout: people are built alike, so the support's mask, brought from its person's box to the query's and blurred,
   adds to the cosines.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from oshp_bench.baselines.backbones.layers import upsampled
from oshp_bench.baselines.contract import Support
from oshp_bench.baselines.eopnet.coarse import HUMAN
from oshp_bench.baselines.eopnet.network import EOPNet, SpaceFeatures, SpacePrototypes
from oshp_bench.baselines.eopnet.settings import EOPNET_DEFAULTS, EOPNetFGSettings
from oshp_bench.baselines.pieces.prototypes import class_weights, similarity, to_grid
from oshp_bench.datasets.images import IGNORE

# Below any cosine with its layout, and finite: a bilinear weight of 0 would make an infinite one NaN.
_NEVER = 1e4
# The layout is blurred over this part of the person's height, twice.
_BLUR = 8


@dataclass(frozen=True)
class LaidOutPrototypes(SpacePrototypes):
    """Prototypes of the classes that were asked for, then of their rivals.

    Attributes:
        layout: float [1, K, h, w]: 1 where the support's mask has a slot's class, cut to the support's person.
    """

    layout: Tensor


class EOPNetFG(EOPNet):
    """EOP-Net with a foreground gate."""

    settings_type = EOPNetFGSettings
    defaults = {name: EOPNET_DEFAULTS[name] for name in ("cpu", "quick")}
    settings: EOPNetFGSettings

    def describe(self) -> dict[str, Any]:
        """As EOPNet's; behind the gate there is neither NPM nor screening."""
        return {"head": "cosine behind the gate", "screening": None} if self.settings.gate else super().describe()

    def truth(self, masks: Tensor, coarse: Tensor, task: SpacePrototypes) -> Tensor:
        """As EOPNet's, but human pixels without a base class are to be ignored."""
        truth = super().truth(masks, coarse, task)
        return truth.masked_fill((masks == 0) & (coarse == HUMAN), IGNORE) if self.settings.ignore else truth

    def adapt(self, support: Support) -> SpacePrototypes:
        """As EOPNet's, with a prototype for every rival after those of the classes, and the support's layout."""
        if not self.settings.gate:
            return super().adapt(support)
        classes, fine = support.classes, support.features.fine
        rivals = sorted(self.learned_classes().difference(classes)) if self.settings.rivals else []
        task = super().adapt(replace(support, classes=(*classes, *rivals)))
        grid = (fine.shape[2], fine.shape[3])
        rows, columns = _box(to_grid(support.coarse, grid)[0] == HUMAN)
        layout = class_weights(to_grid(support.mask, grid), task.asked)[:, :, rows, columns]
        return LaidOutPrototypes(task.fine, task.coarse, task.asked[:, : len(classes)], layout)

    def parse(self, query: SpaceFeatures, task: SpacePrototypes, size: tuple[int, int]) -> Tensor:
        """Cosines and layout: of the classes, and as background's those of the best rival; +inf where no human is."""
        if not isinstance(task, LaidOutPrototypes):
            return super().parse(query, task, size)
        grid = (query.fine.shape[2], query.fine.shape[3])
        human = self.human(query, task, size)
        closeness = similarity(query.fine, task.fine.vectors)
        closeness = closeness + self.settings.layout * _laid_out(task.layout, to_grid(human[None], grid)[0])
        closeness = closeness.masked_fill(~task.fine.present[:, :, None, None], -_NEVER)
        closeness = upsampled(closeness, size)[0]
        classes = task.asked.shape[1]
        nothing = closeness.new_full((1, *size), -_NEVER)
        background = torch.cat((nothing, closeness[classes:])).amax(0, keepdim=True)
        return torch.cat((background.masked_fill(~human, torch.inf), closeness[:classes]))


def _box(human: Tensor) -> tuple[slice, slice]:
    """Rows and columns of the box around a person, bool [h, w]; all of them where there is none."""
    lines = [torch.nonzero(human.any(axis)).flatten().tolist() or [0, human.shape[1 - axis] - 1] for axis in (1, 0)]
    rows, columns = (slice(line[0], line[-1] + 1) for line in lines)
    return rows, columns


def _laid_out(layout: Tensor, human: Tensor) -> Tensor:
    """Brings the support's layout [1, K, a, b] to the query's person, bool [h, w], and blurs it: [1, K, h, w]."""
    rows, columns = _box(human)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    whole = layout.new_zeros(*layout.shape[:2], *human.shape)
    whole[:, :, rows, columns] = functional.interpolate(layout, (height, width), mode="bilinear")
    kernel = height // _BLUR | 1
    for _ in range(2):
        whole = functional.avg_pool2d(whole, kernel, 1, kernel // 2, count_include_pad=False)
    return whole
