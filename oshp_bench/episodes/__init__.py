"""Episodes and prediction folders: the API of any method, without torch."""

from typing import TYPE_CHECKING

from oshp_bench.lazy import imported_at_first_use

if TYPE_CHECKING:
    from oshp_bench.episodes.augmentation import Augmentation as Augmentation
    from oshp_bench.episodes.draws import Draws as Draws
    from oshp_bench.episodes.training_episodes import TrainingEpisodes as TrainingEpisodes

_HOMES = {"Augmentation": "augmentation", "Draws": "draws", "TrainingEpisodes": "training_episodes"}
__all__ = list(_HOMES)
__getattr__, __dir__ = imported_at_first_use(__name__, _HOMES)
