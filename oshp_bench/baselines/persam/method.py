"""PerSAM and PerSAM-F (Zhang et al., Personalize Segment Anything Model with One Shot, ICLR 2024), training-free."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from oshp_bench.baselines.backbones.layers import Backbone, stretched
from oshp_bench.baselines.backbones.sam import PATCH, Sam, as_photo_value, scaled_by_pillow
from oshp_bench.baselines.contract import Labels, LearnedMethod, Support
from oshp_bench.baselines.persam.decoder import Guidance, Masks, Prompts, decoded
from oshp_bench.baselines.persam.settings import PERSAM_DEFAULTS, PerSAMSettings
from oshp_bench.episodes.episodes import Way
from oshp_bench.errors import OshpError

# Of the focal loss; the weight of pixels of the target.
_ALPHA = 0.25
_ADAMW_EPS = 1e-4


@dataclass(frozen=True)
class EmbeddedPhoto:
    """A photo in SAM.

    Attributes:
        embedding: float [1, 256, cells, cells].
        fitted: the height and width that the photo has in SAM's square.
    """

    embedding: Tensor
    fitted: tuple[int, int]


@dataclass(frozen=True)
class Target:
    """What a support asks for.

    Attributes:
        direction: float [256] of length 1; cells like it are the target.
        embedding: float [256], for target-semantic prompting; None in PerSAM-F.
        weights: float [2] of PerSAM-F, w1 and w2; None in PerSAM.
    """

    direction: Tensor
    embedding: Tensor | None
    weights: Tensor | None


@dataclass(frozen=True)
class Placement:
    """How an image of `size` lies in SAM's square: scaled to `fitted`, at the top left."""

    side: int
    fitted: tuple[int, int]
    size: tuple[int, int]

    def original(self, maps: Tensor) -> Tensor:
        """Maps of SAM's square, [N, M, h, w], at the image's size: [N, M, *size]."""
        square = stretched(maps, (self.side, self.side))
        return stretched(square[..., : self.fitted[0], : self.fitted[1]], self.size)

    def inside(self, points: Tensor) -> Tensor:
        """Points (x, y) of the image, [..., 2], in pixels of the square."""
        (height, width), (tall, wide) = self.size, self.fitted
        return points * points.new_tensor((wide / width, tall / height))


class PerSAM(LearnedMethod):
    """PerSAM; with `fit` PerSAM-F.

    A pass that finds nothing has no box to go on with: the official code stops with an error there, here the passes
    end and the query is background.

    Args:
        backbone: a SAM.

    Raises:
        OshpError: it is another backbone.
    """

    ways = ("1",)
    stages = 0
    settings_type = PerSAMSettings
    defaults = PERSAM_DEFAULTS

    def __init__(self, backbone: Backbone, labels: Labels, way: Way, settings: PerSAMSettings) -> None:  # noqa: ARG002
        super().__init__()
        if not isinstance(backbone, Sam):
            raise OshpError(
                "persam parses with SAM only: oshp-train --method persam --set backbone=sam-vit-h --set weights=PATH"
                " makes a checkpoint; give that to oshp-predict"
            )
        self.backbone = backbone
        self.settings = settings

    def encode(self, images: Tensor) -> EmbeddedPhoto:
        """SAM's image embedding, which is nearly all of the cost."""
        return EmbeddedPhoto(self.backbone.embedded(images), self.backbone.fitted((images.shape[2], images.shape[3])))

    def adapt(self, support: Support) -> Target | None:
        """The target's embedding; in PerSAM-F also the weights of the mask sizes. None if no pixel is the target."""
        mask = support.mask[0] == support.classes[0]
        if not mask.any():
            return None
        features: EmbeddedPhoto = support.features
        target = features.embedding[0][:, self.target_cells(mask, features.fitted)]
        if not self.settings.fit:
            embedding = target.mean(1)
            return Target(functional.normalize(embedding, dim=0), embedding, None)
        direction = functional.normalize((target.amax(1) + target.mean(1)) / 2, dim=0)
        frame = self.frame(features, (mask.shape[0], mask.shape[1]))
        prompts = self.prompts(self.similarity(features, direction, frame), frame, negative=False)
        sizes = decoded(self.backbone, features.embedding, prompts).multiple
        masks = frame.original(sizes.logits)[0]
        weights = fitted_weights(masks, mask, self.settings.steps, self.settings.lr)[-1]
        return Target(direction, None, weights)

    def parse(self, query: EmbeddedPhoto, task: Target | None, size: tuple[int, int]) -> Tensor:
        """0 for background, and the logits of the last pass for the target."""
        scores = query.embedding.new_zeros(2, *size)
        if task is not None:
            frame = self.frame(query, size)
            *_, last = self.passes(query, task, frame)
            scores[1] = frame.original(last.best_logits)[0, 0]
        return scores

    def passes(self, query: EmbeddedPhoto, task: Target, frame: Placement) -> Iterator[Masks]:
        """Cascaded refinement (section 3.2): every pass is prompted with the best mask of the one before.

        PerSAM: a guided pass, one with its mask, one with the next mask and its box. PerSAM-F: a weighted pass, and two
        with mask and box.
        """
        similar = self.similarity(query, task.direction, frame)
        prompts = self.prompts(similar, frame, negative=task.embedding is not None)
        guidance = None if task.embedding is None else Guidance(self.attention(similar), task.embedding)
        first = decoded(self.backbone, query.embedding, prompts, guidance)
        masks = first.single if task.weights is None else weighted(first.multiple, task.weights)
        yield masks
        for boxed in (task.weights is not None, True):
            box = None
            if boxed:
                box = box_of(frame.original(masks.best_logits)[0, 0] > 0)
                if box is None:
                    return
                box = frame.inside(box.to(prompts.points)).flatten()
            refined = Prompts(prompts.points, prompts.positive, box, masks.best_logits)
            masks = decoded(self.backbone, query.embedding, refined).multiple
            yield masks

    def similarity(self, image: EmbeddedPhoto, direction: Tensor, frame: Placement) -> Tensor:
        """How much every pixel of an image is like the target, by cosine: float [*frame.size]."""
        cosine = torch.einsum("c,nchw->nhw", direction, functional.normalize(image.embedding, dim=1))
        finer = functional.interpolate(cosine[None], scale_factor=4, mode="bilinear")
        return frame.original(finer)[0, 0]

    def prompts(self, similar: Tensor, frame: Placement, negative: bool) -> Prompts:
        """The most similar pixel as a positive point, and the least similar one as a negative point."""
        places = [similar.argmax(), similar.argmin()] if negative else [similar.argmax()]
        points = torch.stack([torch.stack((place % similar.shape[1], place // similar.shape[1])) for place in places])
        positive = torch.tensor([1, 0][: len(places)], device=similar.device)
        return Prompts(frame.inside(points.to(similar.dtype)), positive)

    def attention(self, similar: Tensor) -> Tensor:
        """G of target-guided attention: float [cells * cells].

        The map of the photo is stretched over the whole square, padding included, as in the official code.
        """
        standard = (similar - similar.mean()) / similar.std()
        cells = stretched(standard[None, None], (self.backbone.cells, self.backbone.cells))
        return cells.sigmoid().flatten()

    def target_cells(self, mask: Tensor, fitted: tuple[int, int]) -> Tensor:
        """The cells of the grid that show the target, at least one: bool [cells, cells].

        What a cell shows is what its four central pixels show. A part that no cell shows is where it covers most of a
        cell; one that is lost when the mask is scaled, where most of its own pixels are.

        Args:
            mask: bool [H, W]: the target.
            fitted: the size that its photo has in SAM's square.
        """
        side, grid = self.backbone.image, (self.backbone.cells, self.backbone.cells)
        photo = self.settings.mask == "photo"
        picture = Image.fromarray(mask.cpu().numpy().astype(np.uint8) * (255 if photo else 1))
        scaled = torch.from_numpy(np.array(scaled_by_pillow(picture, fitted))).to(mask.device).float()
        padding = (0, side - fitted[1], 0, side - fitted[0])
        values = as_photo_value(scaled) if photo else scaled
        cells = stretched(functional.pad(values, padding)[None, None], grid)[0, 0] > 0
        if not cells.any():
            covered = functional.avg_pool2d(functional.pad(scaled, padding)[None], PATCH)[0]
            if not covered.any():
                rows, columns = mask.nonzero().T * mask.new_tensor(fitted, dtype=torch.int64)[:, None]
                covered = torch.zeros(grid, device=mask.device).index_put(
                    (rows // mask.shape[0] // PATCH, columns // mask.shape[1] // PATCH),
                    torch.ones((), device=mask.device),
                    accumulate=True,
                )
            cells.view(-1)[covered.argmax()] = True
        return cells

    def frame(self, image: EmbeddedPhoto, size: tuple[int, int]) -> Placement:
        """How an image lies in SAM's square."""
        return Placement(self.backbone.image, image.fitted, size)


def weighted(masks: Masks, weights: Tensor) -> Masks:
    """PerSAM-F's one mask of the three sizes: (1 - w1 - w2) M1 + w1 M2 + w2 M3."""
    return Masks(torch.einsum("m,nmhw->nhw", _shares(weights), masks.logits)[:, None], masks.iou[:1])


def box_of(found: Tensor) -> Tensor | None:
    """The first and the last corner (x, y) of a mask [H, W], inclusive: int64 [2, 2]; None if it is empty."""
    if not found.any():
        return None
    places = found.nonzero().flip(1)
    return torch.stack((places.amin(0), places.amax(0)))


@torch.enable_grad()
def fitted_weights(masks: Tensor, truth: Tensor, steps: int, lr: float) -> Tensor:
    """PerSAM-F's fit (section 3.3): dice and focal loss by AdamW, on a cosine schedule.

    Args:
        masks: the logits of the three mask sizes on the support, float [3, H, W].
        truth: bool [H, W]: the target.

    Returns:
        float [steps + 1, 2]: w1 and w2 before every step, and the result.
    """
    weights = torch.full((2,), 1 / 3, dtype=masks.dtype, device=masks.device, requires_grad=True)
    optimiser = torch.optim.AdamW([weights], lr, eps=_ADAMW_EPS)
    history = [weights.detach().clone()]
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
        logits = torch.einsum("m,mhw->hw", _shares(weights), masks)
        optimiser.zero_grad()
        torch.autograd.backward(dice(logits, truth) + focal(logits, truth))
        optimiser.step()
        history.append(weights.detach().clone())
    return torch.stack(history)


def dice(logits: Tensor, truth: Tensor) -> Tensor:
    """1 - (2 |P Y| + 1) / (|P| + |Y| + 1)."""
    probability = logits.sigmoid()
    return 1 - (2 * probability[truth].sum() + 1) / (probability.sum() + truth.sum() + 1)


def focal(logits: Tensor, truth: Tensor) -> Tensor:
    """The mean of a_y (1 - p_y)^2 (-log p_y), where p_y is the probability of the truth."""
    log = functional.logsigmoid(torch.where(truth, logits, -logits))
    share = torch.where(truth, _ALPHA, 1 - _ALPHA)
    return (share * (1 - log.exp()) ** 2 * -log).mean()


def _shares(weights: Tensor) -> Tensor:
    return torch.cat((1 - weights.sum()[None], weights))
