"""PANet (Wang et al., "PANet: Few-Shot Image Semantic Segmentation with Prototype Alignment", ICCV 2019).

The OSHP paper adapts it in its section 6.3: a training query has a support image for each of its classes; at test one
support image stands for all of them, with one binary mask a class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from oshp_bench.baselines.backbones.layers import Backbone, stretched
from oshp_bench.baselines.contract import Batch, Labels, LearnedMethod, Progress, Support
from oshp_bench.baselines.pieces.full_size import full_size_means
from oshp_bench.baselines.pieces.losses import cross_entropy
from oshp_bench.baselines.pieces.prototypes import EMPTY, channels, similarity
from oshp_bench.datasets.images import IGNORE
from oshp_bench.episodes.episodes import Way
from oshp_bench.errors import raise_problems
from oshp_bench.ranges import Range, outside

# What is added to the number of pixels under a mask.
_EPS = 1e-5


# As the authors train: 30,000 steps of one episode, a tenth of the learning rate after 10,000 and again after 20,000.
# Photos are augmented as OSHP says (section 6.3).
_DEFAULTS: dict[str, dict[str, Any]] = {
    "paper": {"backbone": "vgg16", "batch": 1, "epochs": 30, "episodes": 1000, "schedule": "step", "step_size": 10},
}


@dataclass(frozen=True)
class PANetSettings:
    """What makes one PANet differ from another."""

    scale: Annotated[float, Range(1e-3, 1e4)] = 20.0
    """Factor of all cosines, alpha of the paper."""
    alignment: Annotated[float, Range(0, 1e4)] = 1.0
    """Weight of the alignment loss; 0 leaves it out."""
    background: Literal["complement", "episode"] = "complement"
    """What the background prototype of a class is pooled over. complement: all but the class itself, as in OSHP's
    meta-test. episode: all but the classes of the episode, as in the authors' code for PASCAL."""
    void: Literal["background", "ignored"] = "background"
    """Whether pixels to ignore count as background in a support, as in the authors' code, or not at all."""

    def __post_init__(self) -> None:
        raise_problems(outside(self))


class PANet(LearnedMethod):
    """PANet: every pixel gets the class whose prototype is nearest. It has no parameters but the backbone's.

    Args:
        backbone: all of it is trained.
    """

    supports = "each class"
    settings_type = PANetSettings
    defaults = _DEFAULTS

    def __init__(
        self,
        backbone: Backbone,
        labels: Labels,  # noqa: ARG002
        way: Way,
        settings: PANetSettings | None = None,
    ) -> None:
        super().__init__()
        self.ways = (way,)
        self.settings = settings or PANetSettings()
        self.backbone = backbone

    def encode(self, images: Tensor) -> Tensor:
        """The features: [N, C, h, w]."""
        features: Tensor = self.backbone(images)
        return features

    def adapt(self, support: Support) -> Tensor:
        """Prototypes of background and of every class: [1 + K, C].

        A class of which the support shows nothing has a zero prototype: its score is 0 everywhere.
        """
        ids = torch.tensor(support.classes, device=support.mask.device)
        fore, back = self.masks(support.mask.expand(len(ids), -1, -1), ids)
        return prototypes(support.features.expand(len(ids), -1, -1, -1)[:, None], fore[:, None], back[:, None])

    def parse(self, query: Tensor, task: Tensor, size: tuple[int, int]) -> Tensor:
        """Scaled cosines with the prototypes, which a softmax makes probabilities."""
        return stretched(self.scores(query, task), size)[0]

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:  # noqa: ARG002
        """The loss of the queries, and the alignment loss, which is a mean over episodes.

        A class that no pixel of its support shows, as its crop lost it, is background in the query.
        """
        real, count = batch.support_targets != EMPTY, len(batch.query_images)
        features = self.encode(torch.cat((batch.query_images, batch.support_images[real])))
        supports = torch.split(features[count:], real.sum(1).tolist())
        logits, aligned, present = [], [], torch.zeros_like(real)
        for number, there in enumerate(real):
            fore, back = self.masks(batch.support_masks[number, there], batch.support_targets[number, there])
            episode = supports[number][:, None], fore[:, None], back[:, None]
            query = features[number][None]
            scores = self.scores(query, prototypes(*episode))
            found = stretched(scores, (batch.query_masks.shape[1], batch.query_masks.shape[2]))[0]
            logits.append(functional.pad(found, (0, 0, 0, 0, 0, len(there) + 1 - len(found)), value=-torch.inf))
            aligned.append(self.alignment(*episode, query, scores))
            present[number, there] = fore.flatten(1).any(1)
        truth = channels(batch.query_masks, batch.support_targets, present)
        losses = {"query": cross_entropy(torch.stack(logits), truth)}
        if self.settings.alignment:
            losses["alignment"] = self.settings.alignment * torch.stack(aligned).mean()
        return losses

    def masks(self, masks: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The binary masks of W ways.

        Args:
            masks: int64 [W, H, W'] of class ids, 255 ignore: the mask of each way's support.
            ids: int64 [W]: the ways' classes, all of one episode.

        Returns:
            bool [W, H, W'], twice: foreground and background.
        """
        fore = masks == ids[:, None, None]
        others = torch.isin(masks, ids) if self.settings.background == "episode" else fore
        return fore, ~others if self.settings.void == "background" else ~others & (masks != IGNORE)

    def scores(self, features: Tensor, vectors: Tensor) -> Tensor:
        """Scaled cosines of features [N, C, h, w] and prototypes [P, C]: [N, P, h, w]."""
        return self.settings.scale * similarity(features, vectors.expand(len(features), -1, -1))

    def alignment(self, features: Tensor, fore: Tensor, back: Tensor, query: Tensor, scores: Tensor) -> Tensor:
        """The alignment loss of an episode: the predicted query parses the supports.

        Args:
            features: float [W, K, C, h, w]: of K supports of W ways.
            fore, back: bool [W, K, H, W']; pixels of neither are ignored.
            query: float [N, C, h, w].
            scores: float [N, 1 + W, h, w]: of the query.
        """
        vectors, found = query_prototypes(query, scores)
        ways, shots = fore.shape[:2]
        both = torch.stack((vectors[:1].expand(ways, -1), vectors[1:]), 1).repeat_interleave(shots, 0)
        logits = self.settings.scale * similarity(features.flatten(0, 1), both)
        truth = torch.where(fore, 1, torch.where(back, 0, IGNORE)).flatten(0, 1)
        losses = functional.cross_entropy(
            stretched(logits, (truth.shape[1], truth.shape[2])), truth, ignore_index=IGNORE, reduction="none"
        )
        means = losses.sum((1, 2)) / (truth != IGNORE).sum((1, 2)).clamp(min=1)
        # A way that is predicted nowhere is left out, and still counted.
        return (means * found[1:].repeat_interleave(shots)).sum() / (ways * shots)


def prototypes(features: Tensor, fore: Tensor, back: Tensor) -> Tensor:
    """Prototypes of background and W ways, by masked average pooling: float [1 + W, C].

    They are means over K supports; that of background is a mean over all ways, too.

    Args:
        features: float [W, K, C, h, w].
        fore, back: bool [W, K, H, W'].
    """
    masks = torch.stack((back, fore), 2).flatten(0, 1)
    means = full_size_means(features.flatten(0, 1), masks, _EPS).view(*fore.shape[:2], 2, -1).mean(1)
    return torch.cat((means[:, 0].mean(0, keepdim=True), means[:, 1]))


def query_prototypes(features: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Prototypes of N queries under their own prediction on the feature grid.

    Args:
        features: float [N, C, h, w].
        scores: float [N, 1 + W, h, w].

    Returns:
        float [1 + W, C], and bool [1 + W]: some cell is predicted to be of the class.
    """
    predicted = functional.one_hot(scores.argmax(1), scores.shape[1]).to(features.dtype)
    sums = torch.einsum("nhwp,nchw->pc", predicted, features)
    cells = predicted.sum((0, 1, 2))
    return sums / (cells + _EPS)[:, None], cells > 0
