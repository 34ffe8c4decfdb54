"""What eopnet-fg's training makes of classes: unnamed pixels become one, and some base classes play novel ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from oshp_bench.baselines.contract import Batch
from oshp_bench.baselines.eopnet.coarse import HUMAN
from oshp_bench.datasets.images import IGNORE
from oshp_bench.errors import OshpError


@dataclass(frozen=True)
class Disguise:
    """Gives classes ids that the memory has no row for, so that their prototypes are the support's.

    Class `c` in disguise has the id `count + c`. Unnamed is class 0 in disguise: human pixels without a base class.

    Args:
        count: one more than the largest class id.
        unnamed: these pixels are a class of their own.
        share: how probable it is that a base class is in disguise, in both images of an episode.

    Raises:
        OshpError: a mask has too few numbers for it.
    """

    count: int
    unnamed: bool
    share: float

    def __post_init__(self) -> None:
        if (self.unnamed and self.count >= IGNORE) or (self.share and 2 * self.count > IGNORE):
            raise OshpError(
                f"class ids go up to {self.count - 1}, which leaves too few for model.unnamed or model.as_novel; leave"
                " both off"
            )

    def __call__(self, batch: Batch) -> Batch:
        """The batch with other masks and targets; the batch itself where there is nothing to do."""
        if not (self.unnamed or self.share):
            return batch
        ids = torch.arange(IGNORE + 1).repeat(len(batch.query_masks), 1)
        # Drawn on the CPU: the same on every device.
        ids[:, 1 : self.count] += self.count * (torch.rand(len(ids), self.count - 1) < self.share)
        ids = ids.to(batch.query_masks.device)

        def disguised(masks: Tensor, coarse: Tensor) -> Tensor:
            if self.unnamed:
                masks = masks.masked_fill((masks == 0) & (coarse == HUMAN), self.count)
            return ids.gather(1, masks.flatten(1)).view_as(masks)

        return replace(
            batch,
            query_masks=disguised(batch.query_masks, batch.query_coarse),
            support_masks=disguised(batch.support_masks, batch.support_coarse),
            support_targets=ids.gather(1, batch.support_targets),
        )
