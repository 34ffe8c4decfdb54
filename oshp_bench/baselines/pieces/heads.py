"""The heads of EOP-Net: Attention Guidance Module, Nearest Prototype Module, prototype contrast."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from oshp_bench.baselines.backbones.layers import SeparableConv, kaiming, upsampled
from oshp_bench.baselines.pieces.prototypes import Prototypes, similarity
from oshp_bench.baselines.pieces.recompute import recomputed, recomputes

# The slope that similarities in -1..1 start with on their way to logits.
_SHARPNESS = 10.0


class Affine(nn.Module):
    """One scale and one shift for a map of any shape."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(scale))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        return features * self.weight + self.bias


class ClassHead(nn.Module):
    """phi and phi_bg of eq. (6): [N, C, h, w] -> [N, 2, h, w], a class's logit and its vote for background."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1))
        self.separable = SeparableConv(width, width, activate=True)
        self.classify = nn.Conv2d(width, 2, 1)
        kaiming(self)

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.classify(self.separable(self.convs(features)))
        return out


class AttentionGuidance(nn.Module):
    """Attention Guidance Module (AGM), eqs. (5) to (7): every class is parsed by one shared head.

    Only classes that are present meet the head. A class that is absent but ranked (the release's reading) has A = 0,
    which is the same for all of them: one pass stands for all, unless batch norm learns from every pass.

    Args:
        residual: adds the features to the attended ones.
        fusion: what the averaged background votes go through.
    """

    def __init__(self, width: int, residual: bool = True, fusion: nn.Module | None = None) -> None:
        super().__init__()
        self.head = ClassHead(width)
        self.fusion = fusion or nn.Identity()
        self._residual = residual

    def forward(self, features: Tensor, attention: Tensor, classes: Prototypes) -> Tensor:
        """Logits of background and of every slot: [N, 1 + K, h, w] from features [N, C, h, w], A [N, K, h, w]."""
        met = classes.ranked if self.training else classes.present
        votes = torch.stack(
            [self._votes(features, attention[:, slot, None], met[:, slot]) for slot in range(met.shape[1])], 1
        )
        idle = classes.ranked & ~met
        if idle.any():
            shared = self._votes(features, torch.zeros_like(attention[:, :1]), idle.any(1))
            votes = torch.where(idle[:, :, None, None, None], shared[:, None], votes)
        background = self.fusion(mean_over(votes[:, :, 1], classes.ranked))
        return torch.cat((background, votes[:, :, 0]), 1)

    def _votes(self, features: Tensor, attention: Tensor, chosen: Tensor) -> Tensor:
        """The head's two maps [N, 2, h, w] for one class a sample, zero where a sample is not chosen."""
        if chosen.all():
            return self._met(features, attention)
        samples = chosen.nonzero().squeeze(1)
        shape = (len(features), 2, *features.shape[2:])
        if not len(samples):
            return features.new_zeros(shape)
        votes = self._met(features[samples], attention[samples])
        return votes.new_zeros(shape).index_copy(0, samples, votes)

    def _met(self, features: Tensor, attention: Tensor) -> Tensor:
        head = self.head
        if not recomputes(head):
            out: Tensor = head(self._refined(features, attention))
            return out
        # What both 3x3 convolutions wrote is kept: they are nearly all of the cost.
        first, second = head.convs
        convolved = second(recomputed((self._refined, first), features, attention))
        return recomputed((*head.separable, head.classify), convolved)

    def _refined(self, features: Tensor, attention: Tensor) -> Tensor:
        refined = attention * features  # (5)
        return refined + features if self._residual else refined


class NearestPrototype(nn.Module):
    """Nearest Prototype Module (NPM), eqs. (8) and (9): similarities, scaled and shifted alike for all classes.

    Args:
        foreground, background: omega and omega_bg.
        scaler: a learned factor of all logits, starting here; None for none.
    """

    def __init__(self, foreground: nn.Module, background: nn.Module, scaler: float | None = None) -> None:
        super().__init__()
        self.foreground = foreground
        self.background = background
        self.scaler = None if scaler is None else nn.Parameter(torch.tensor(scaler))

    def forward(self, attention: Tensor, classes: Prototypes) -> Tensor:
        """Logits of background and of every slot: [N, 1 + K, h, w] from A [N, K, h, w]."""
        dissimilar = mean_over(1 - attention, classes.ranked)  # (8)
        logits = torch.cat((self.background(dissimilar), self.foreground(attention)), 1)  # (9)
        return self.scaled(logits)

    def scaled(self, logits: Tensor) -> Tensor:
        """The logits times the learned factor, if there is one."""
        return logits if self.scaler is None else logits * self.scaler


def sharp_nearest() -> NearestPrototype:
    """NPM as it starts: omega and omega_bg have a slope of 10 and no shift."""
    return NearestPrototype(Affine(_SHARPNESS), Affine(_SHARPNESS))


def ranked_logits(logits: Tensor, classes: Prototypes, size: tuple[int, int]) -> Tensor:
    """Logits of background and of every slot, [N, 1 + K, h, w], at image size; -inf for a slot that is not ranked."""
    out = functional.pad(classes.ranked, (1, 0), value=True)
    # Only afterwards -inf: a bilinear weight of 0 would make it NaN.
    return upsampled(logits, size).masked_fill(~out[:, :, None, None], -torch.inf)


def mean_over(maps: Tensor, chosen: Tensor) -> Tensor:
    """The mean of maps [N, K, h, w] over the chosen slots [N, K]: [N, 1, h, w]; 0 where a sample has none."""
    weights = chosen[:, :, None, None].to(maps.dtype)
    return (maps * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp(min=1)


def contrast(query: Tensor, counted: Tensor, support: Tensor, present: Tensor, tau: float) -> Tensor:
    """Prototype contrast, eq. (12): a query's prototype is to be nearest to the support's of its class.

    Args:
        query, support: static prototypes, float [N, K, C].
        counted: bool [N, K]: the query's prototypes to average over; one that the support lacks adds nothing.
        present: bool [N, K]: the support's prototypes.
    """
    cosine = similarity(query.mT[..., None], support)[..., 0].mT / tau  # [N, query slot, support slot]
    chosen = cosine.masked_fill(~present[:, None], -torch.inf).log_softmax(2).diagonal(dim1=1, dim2=2)
    rows = torch.where(counted & present, -chosen, 0).sum(1)
    return (rows / counted.sum(1).clamp(min=1)).mean()
