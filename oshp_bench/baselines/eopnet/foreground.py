"""EOP-Net with a foreground gate (eopnet-fg): this project's own method, not the paper's.

Novel classes are background in the fine masks of training, though the coarse masks say that they are human: EOP-Net
learns to call them background, and does so at test (the paper's testing bias, Table 5). Each change below can be
switched off, on the same network and data.

In training (disguise.py):

1. ignore: the fine losses leave out pixels that are human and carry no base class.
2. unnamed: instead, these pixels are a class of their own. It takes part in AGM, NPM and the contrast with the
   support's static prototype, or with one of each of its large regions. It is not remembered, and nobody asks for it
   at test.
3. as_novel: some base classes of an episode are treated as novel ones are at test: they are not remembered, and their
   prototypes are the support's.

At test, behind the gate:

4. gate: background is what the coarse space says; inside it the nearest prototype wins.
5. rivals: there, the remembered prototypes of base classes that the support lacks compete too; what they win is
   nothing that was asked for, hence background. It is what makes the gate usable in 1-way, too.
6. layout: people are built alike, so the support's mask, brought from its person's box to the query's and blurred,
   adds to the cosines.
7. offset: a number is added to the cosines of classes that are not remembered, as the layout raises them above rivals.
8. mirror: prototypes, cosines and coarse logits are means over the photo and its mirror image.
9. centre: cosines are taken after the mean feature of the support's person is subtracted.
10. self_support: prototypes are averaged with those of the query's own pixels, from a first parse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from oshp_bench.baselines.backbones.layers import Backbone, upsampled
from oshp_bench.baselines.contract import Batch, Labels, Progress, Support
from oshp_bench.baselines.eopnet.coarse import HUMAN
from oshp_bench.baselines.eopnet.disguise import Disguise
from oshp_bench.baselines.eopnet.network import EOPNet, SpaceFeatures, SpacePrototypes
from oshp_bench.baselines.eopnet.settings import EOPNET_DEFAULTS, EOPNetFGSettings
from oshp_bench.baselines.pieces.prototypes import Prototypes, class_weights, pooled, similarity, to_grid
from oshp_bench.datasets.images import IGNORE
from oshp_bench.episodes.episodes import WAYS, Way

# Below any cosine with its layout, and finite: a bilinear weight of 0 would make an infinite one NaN.
_NEVER = 1e4
# The layout is blurred over this part of the person's height, twice.
_BLUR = 8


@dataclass
class ViewedFeatures(SpaceFeatures):
    """An image in both spaces, with what its mirror image gave.

    Attributes:
        mirrored: the features of the mirror image, mirrored back.
    """

    mirrored: SpaceFeatures | None = None

    def views(self) -> list[SpaceFeatures]:
        """The image, and its mirror image if there is one."""
        return [self] if self.mirrored is None else [self, self.mirrored]


@dataclass(frozen=True)
class LaidOutPrototypes(SpacePrototypes):
    """Prototypes of the classes that were asked for, then of their rivals.

    Attributes:
        layout: float [1, K, h, w]: 1 where the support's mask has a slot's class, cut to the support's person.
        centre: float [1, C]: what is subtracted from features and prototypes before cosines.
        offset: float [1, K]: what is added to the cosines of classes that are not remembered.
    """

    layout: Tensor
    centre: Tensor
    offset: Tensor


class EOPNetFG(EOPNet):
    """EOP-Net with a foreground gate."""

    settings_type = EOPNetFGSettings
    defaults = {name: EOPNET_DEFAULTS[name] for name in ("cpu", "quick")}
    settings: EOPNetFGSettings

    def __init__(self, backbone: Backbone, labels: Labels, way: Way, settings: EOPNetFGSettings | None = None) -> None:
        settings = settings or EOPNetFGSettings()
        super().__init__(backbone, labels, way, settings)
        # What is asked for competes with all that the network has learned, whether one class is asked for or several.
        if settings.gate and settings.rivals and way == "k":
            self.ways = WAYS
        self.disguise = Disguise(labels.count, settings.unnamed, settings.as_novel)

    def describe(self) -> dict[str, Any]:
        """As EOPNet's; behind the gate there is neither NPM nor screening."""
        return {"head": "cosine behind the gate", "screening": None} if self.settings.gate else super().describe()

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """As EOPNet's, of masks in which unnamed pixels, and classes to be treated as novel, have ids of their own."""
        return super().losses(self.disguise(batch), progress)

    def asked(self, batch: Batch, grid: tuple[int, int]) -> Tensor:
        """As EOPNet's; in 1-way unnamed follows the target."""
        asked = super().asked(batch, grid)
        if batch.way == "k":
            return asked
        unnamed = torch.tensor(self.disguise.unnamed_ids, dtype=asked.dtype, device=asked.device)
        return torch.cat((asked, unnamed.expand(len(asked), -1)), 1)

    def truth(self, masks: Tensor, coarse: Tensor, task: SpacePrototypes) -> Tensor:
        """As EOPNet's; human pixels without a base class belong to the first channel of unnamed, else are ignored."""
        truth = super().truth(masks, coarse, task)
        if self.settings.unnamed == "off":
            return truth.masked_fill((masks == 0) & (coarse == HUMAN), IGNORE) if self.settings.ignore else truth
        slots = self._unnamed(task.fine) & task.fine.present
        channel = torch.where(slots.any(1), 1 + slots.int().argmax(1), IGNORE)
        return torch.where(masks == self.labels.count, channel[:, None, None], truth)

    def agm_logits(self, query: SpaceFeatures, task: SpacePrototypes, size: tuple[int, int]) -> Tensor:
        """As EOPNet's; the regions of unnamed are one in training."""
        return self._as_one(super().agm_logits(query, task, size), task.fine)

    def npm_logits(self, query: SpaceFeatures, task: SpacePrototypes, size: tuple[int, int]) -> Tensor:
        """As EOPNet's; the regions of unnamed are one in training."""
        return self._as_one(super().npm_logits(query, task, size), task.fine)

    def _as_one(self, logits: Tensor, classes: Prototypes) -> Tensor:
        """Sums, in the softmax, the channels of unnamed [N, 1 + K, H, W] in the first of them; the others get -inf."""
        if not self.training or self.settings.unnamed != "regions":
            return logits
        slots = functional.pad(self._unnamed(classes) & classes.present, (1, 0))
        first = (slots & (slots.cumsum(1) == 1))[:, :, None, None]
        others = slots[:, :, None, None] & ~first
        whole = logits.masked_fill(~slots[:, :, None, None], -_NEVER).logsumexp(1, keepdim=True)
        return torch.where(first, whole, logits).masked_fill(others, -torch.inf)

    def _unnamed(self, classes: Prototypes) -> Tensor:
        """Which slots are of unnamed: bool [N, K]."""
        ids = self.disguise.unnamed_ids
        return (classes.ids >= ids.start) & (classes.ids < ids.stop)

    def encode(self, images: Tensor) -> ViewedFeatures:
        """As EOPNet's; at test, with `mirror`, of the mirror image too."""
        seen = ViewedFeatures(**vars(super().encode(images)))
        if not self.training and self.settings.gate and self.settings.mirror:
            other = super().encode(images.flip(3))
            seen.mirrored = SpaceFeatures(other.fine.flip(3), None if other.coarse is None else other.coarse.flip(3))
        return seen

    def adapt(self, support: Support) -> SpacePrototypes:
        """As EOPNet's, with a prototype for every rival after those of the classes, and the support's layout."""
        if not self.settings.gate:
            return super().adapt(support)
        classes, features = support.classes, _merged(support.features)
        rivals = sorted(self.learned_classes().difference(classes)) if self.settings.rivals else []
        task = super().adapt(replace(support, features=features, classes=(*classes, *rivals)))
        grid = (features.fine.shape[2], features.fine.shape[3])
        human = to_grid(support.coarse, grid) == HUMAN
        rows, columns = _box(human[0])
        layout = class_weights(to_grid(support.mask, grid), task.asked)[:, :, rows, columns]
        centre = pooled(features.fine, human[:, None].float())[0][:, 0] * self.settings.centre
        learned = self.learned_classes()
        fresh = torch.tensor([[number not in learned for number in (*classes, *rivals)]], device=centre.device)
        offset = self.settings.offset * fresh
        return LaidOutPrototypes(task.fine, task.coarse, task.asked[:, : len(classes)], layout, centre, offset)

    def coarse_logits(self, query: SpaceFeatures, task: SpacePrototypes, size: tuple[int, int]) -> Tensor:
        """As EOPNet's, averaged over the views of the query."""
        return _mean([super(EOPNetFG, self).coarse_logits(view, task, size) for view in _views(query)])

    def parse(self, query: SpaceFeatures, task: SpacePrototypes, size: tuple[int, int]) -> Tensor:
        """Cosines and layout: of the classes, and as background's those of the best rival; +inf where no human is."""
        if not isinstance(task, LaidOutPrototypes):
            return super().parse(query, task, size)
        grid = (query.fine.shape[2], query.fine.shape[3])
        human = self.human(query, task, size)
        small = to_grid(human[None], grid)
        views = [view.fine - task.centre[:, :, None, None] for view in _views(query)]
        vectors = task.fine.vectors - task.centre[:, None]
        layout = self.settings.layout * _laid_out(task.layout, small[0])

        def closeness(vectors: Tensor) -> Tensor:
            cosines = _mean([similarity(view, vectors) for view in views]) + layout + task.offset[:, :, None, None]
            return cosines.masked_fill(~task.fine.present[:, :, None, None], -_NEVER)

        close = closeness(vectors)
        if self.settings.self_support:
            close = closeness(_supported(vectors, _mean(views), close, small))
        close = upsampled(close, size)[0]
        classes = task.asked.shape[1]
        nothing = close.new_full((1, *size), -_NEVER)
        background = torch.cat((nothing, close[classes:])).amax(0, keepdim=True)
        return torch.cat((background.masked_fill(~human, torch.inf), close[:classes]))


def _views(features: SpaceFeatures) -> list[SpaceFeatures]:
    return features.views() if isinstance(features, ViewedFeatures) else [features]


def _merged(features: SpaceFeatures) -> SpaceFeatures:
    """The mean over an image's views."""
    views = _views(features)
    coarse = [view.coarse for view in views if view.coarse is not None]
    return SpaceFeatures(_mean([view.fine for view in views]), _mean(coarse) if coarse else None)


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    """The mean; of a single tensor the tensor itself."""
    return tensors[0] if len(tensors) == 1 else torch.stack(list(tensors)).mean(0)


def _supported(vectors: Tensor, features: Tensor, closeness: Tensor, human: Tensor) -> Tensor:
    """Prototypes averaged, as unit vectors, with those of the query's own pixels of a first parse.

    Only the half of the person counts where the best class leads the second best by most. A class that wins nothing
    there keeps its prototype.

    Args:
        vectors: float [1, K, C].
        features: float [1, C, h, w].
        closeness: float [1, K, h, w]: what the first parse compares.
        human: bool [1, h, w].
    """
    if not human.any():
        return vectors
    best, second = functional.pad(closeness, (0, 0, 0, 0, 0, 1), value=-_NEVER).topk(2, 1).values.unbind(1)
    lead = best - second
    sure = human & (lead >= lead[human].median())
    found, there = pooled(features, ((closeness == best[:, None]) & sure[:, None]).float())
    ours, theirs = functional.normalize(vectors, dim=2), functional.normalize(found, dim=2)
    return torch.where(there[..., None], ours + theirs, ours)


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
