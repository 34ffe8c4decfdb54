"""What eopnet-fg's training makes of classes: unnamed pixels become some, and some base classes play novel ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from oshp_bench.baselines.contract import Batch
from oshp_bench.baselines.eopnet.coarse import HUMAN
from oshp_bench.baselines.eopnet.settings import Unnamed
from oshp_bench.datasets.images import IGNORE
from oshp_bench.errors import OshpError

# How many regions of a support's unnamed pixels have a prototype, the largest ones: each takes a pass of AGM.
REGIONS = 2


@dataclass(frozen=True)
class Disguise:
    """Gives classes ids that the memory has no row for, so that their prototypes are the support's.

    Class `c` in disguise has the id `count + c`. Unnamed is class 0 in disguise: human pixels without a base class.

    Args:
        count: one more than the largest class id.
        unnamed: see EOPNetFGSettings.
        share: how probable it is that a base class is in disguise, in both images of an episode.

    Raises:
        OshpError: a mask has too few numbers for it.
    """

    count: int
    unnamed: Unnamed
    share: float

    def __post_init__(self) -> None:
        if max(self.unnamed_ids, default=2 * self.count - 1 if self.share else 0) >= IGNORE:
            raise OshpError(
                f"class ids go up to {self.count - 1}, which leaves too few for model.unnamed or model.as_novel; leave"
                " both off"
            )

    def __call__(self, batch: Batch) -> Batch:
        """The batch with other masks and targets; the batch itself where there is nothing to do."""
        if self.unnamed == "off" and not self.share:
            return batch
        ids = torch.arange(IGNORE + 1).repeat(len(batch.query_masks), 1)
        # Drawn on the CPU: the same on every device.
        ids[:, 1 : self.count] += self.count * (torch.rand(len(ids), self.count - 1) < self.share)
        ids = ids.to(batch.query_masks.device)

        def disguised(masks: Tensor, coarse: Tensor) -> Tensor:
            if self.unnamed != "off":
                masks = masks.masked_fill((masks == 0) & (coarse == HUMAN), self.count)
            return ids.gather(1, masks.flatten(1)).view_as(masks)

        supports = disguised(batch.support_masks, batch.support_coarse)
        return replace(
            batch,
            query_masks=disguised(batch.query_masks, batch.query_coarse),
            support_masks=self.by_region(supports) if self.unnamed == "regions" else supports,
            support_targets=ids.gather(1, batch.support_targets),
        )

    @property
    def unnamed_ids(self) -> range:
        """The ids that a support's unnamed pixels have."""
        first, number = {"off": (0, 0), "one": (self.count, 1), "regions": (2 * self.count, REGIONS)}[self.unnamed]
        return range(first, first + number)

    def by_region(self, masks: Tensor) -> Tensor:
        """Gives the largest connected regions of unnamed pixels an id each, and ignores the others.

        Args:
            masks: int64 [N, 1, H, W].
        """
        split = masks.cpu().numpy().copy()
        for mask in split[:, 0]:
            numbered, found = ndimage.label(mask == self.count)
            sizes = np.bincount(numbered.ravel(), minlength=1 + found)[1:]
            ids = np.full(1 + found, IGNORE)
            largest = np.argsort(-sizes, kind="stable")[:REGIONS]
            ids[1 + largest] = self.unnamed_ids[: len(largest)]
            mask[numbered > 0] = ids[numbered[numbered > 0]]
        return torch.from_numpy(split).to(masks.device)
