"""oshp-bench: tailor datasets to one-shot human parsing, run methods, score predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oshp_bench.lazy import imported_at_first_use
from oshp_bench.version import __version__ as __version__

if TYPE_CHECKING:
    from oshp_bench.datasets.sources import find_source as find_source
    from oshp_bench.episodes.episodes import Episode as Episode
    from oshp_bench.episodes.episodes import Episodes as Episodes
    from oshp_bench.episodes.episodes import ImageCache as ImageCache
    from oshp_bench.episodes.episodes import Method as Method
    from oshp_bench.episodes.training_episodes import TrainingEpisodes as TrainingEpisodes
    from oshp_bench.episodes.writer import PredictionWriter as PredictionWriter
    from oshp_bench.errors import OshpError as OshpError
    from oshp_bench.manifest import Manifest as Manifest
    from oshp_bench.manifest import load_manifest as load_manifest

_HOMES = {
    "Episode": "episodes.episodes",
    "Episodes": "episodes.episodes",
    "ImageCache": "episodes.episodes",
    "Method": "episodes.episodes",
    "TrainingEpisodes": "episodes.training_episodes",
    "PredictionWriter": "episodes.writer",
    "find_source": "datasets.sources",
    "OshpError": "errors",
    "Manifest": "manifest",
    "load_manifest": "manifest",
}
__all__ = list(_HOMES)
__getattr__, __dir__ = imported_at_first_use(__name__, _HOMES)
