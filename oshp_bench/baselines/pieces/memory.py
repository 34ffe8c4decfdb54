"""Prototypes remembered over training: of the classes that it shows."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from oshp_bench.baselines.pieces.prototypes import EMPTY
from oshp_bench.distributed import of_all_processes


class StaticPrototypes(nn.Module):
    """Uses the support's own prototypes: momentum switched off."""

    def forward(self, static: Tensor, present: Tensor, ids: Tensor, fresh: bool) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """See MomentumPrototypes."""
        return static, present


class MomentumPrototypes(StaticPrototypes):
    """Momentum-updated prototypes, eq. (3), of the classes seen in training.

    A class without a row, whose id is `count` or more, is never remembered: its prototypes are static.

    The memory goes through the samples one after the other, so that the second sample of a batch meets what the
    first one left; with several processes it goes through all their samples, in order of rank, and stays the same
    everywhere.

    Args:
        count: one more than the largest class id.
        alpha: the momentum of the memory, in 0..1.

    Attributes:
        rows: float [count, C], by class id; a zero row was never stored, as those of novel classes.
    """

    rows: Tensor

    def __init__(self, count: int, width: int, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.register_buffer("rows", torch.zeros(count, width))

    def forward(self, static: Tensor, present: Tensor, ids: Tensor, fresh: bool) -> tuple[Tensor, Tensor]:
        """The prototypes to use. In training they are also stored; the gradient flows through the static part.

        Args:
            static: float [N, K, C], the samples' own prototypes.
            present: bool [N, K]: which of them there are.
            ids: int64 [N, K].
            fresh: warm-up: static prototypes are used and stored as they are.

        Returns:
            float [N, K, C] and bool [N, K]: which slots have a prototype.
        """
        if not self.training:
            return self.recalled(static, present, ids, fresh)
        used = self.mixed(self._advanced(static, present, ids, fresh), static, fresh)
        return torch.where(present[..., None], used, 0), present

    def recalled(self, static: Tensor, present: Tensor, ids: Tensor, fresh: bool) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """At test a stored prototype stands for its class whether or not the support shows it."""
        stored = self.rows[ids.clamp(min=0)]
        known = (stored != 0).any(-1) & (ids > EMPTY)
        return torch.where(known[..., None], stored, static), present | known

    def mixed(self, stored: Tensor, static: Tensor, fresh: bool) -> Tensor:
        """Eq. (3): alpha p^d + (1 - alpha) p; p itself where nothing is stored yet, and in warm-up."""
        if fresh:
            return static
        known = (stored != 0).any(-1, keepdim=True)
        return torch.where(known, self.alpha * stored + (1 - self.alpha) * static, static)

    @torch.no_grad()
    def _advanced(self, static: Tensor, present: Tensor, ids: Tensor, fresh: bool) -> Tensor:
        """Lets the memory learn all samples of all processes; what it held before each of ours: [N, K, C]."""
        count, width = self.rows.shape
        # One row a class instead of one a slot, so that all processes give tensors of one shape.
        place = torch.where(present & (ids < count), ids, count)
        dense = static.new_zeros(len(static), count + 1, width)
        dense.scatter_(1, place[..., None].expand(-1, -1, width), static)
        seen = torch.zeros_like(dense[..., 0], dtype=torch.bool).scatter_(1, place, True)
        samples, first = of_all_processes(dense[:, :count])
        shown, _ = of_all_processes(seen[:, :count])
        rows, before = self.rows.clone(), []
        for sample, there in zip(samples, shown, strict=True):
            before.append(rows)
            rows = torch.where(there[:, None], self.mixed(rows, sample, fresh), rows)
        self.rows.copy_(rows)
        # The row after the last one is nobody's, and empty.
        mine = functional.pad(torch.stack(before)[first : first + len(static)], (0, 0, 0, 1))
        return mine.gather(1, place[..., None].expand(-1, -1, width))
