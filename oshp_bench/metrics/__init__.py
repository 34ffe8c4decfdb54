"""Scores predictions: manifest, truth and predictions in, a result out.

from oshp_bench import load_manifest
from oshp_bench.metrics import score
result = score(load_manifest("atr_fold1.json"), "preds/", truth="atr_fold1.truth.zip")
print(result.figures["kway/novel_miou"].value)
"""

from typing import TYPE_CHECKING

from oshp_bench.lazy import imported_at_first_use

if TYPE_CHECKING:
    from oshp_bench.metrics.counting import CONVENTIONS as CONVENTIONS
    from oshp_bench.metrics.counting import DEFAULT as DEFAULT
    from oshp_bench.metrics.counting import OFFICIAL_2023 as OFFICIAL_2023
    from oshp_bench.metrics.frames import figures_frame as figures_frame
    from oshp_bench.metrics.frames import pairs_frame as pairs_frame
    from oshp_bench.metrics.frames import read_results as read_results
    from oshp_bench.metrics.intervals import Difference as Difference
    from oshp_bench.metrics.intervals import Resampling as Resampling
    from oshp_bench.metrics.matrices import Accumulator as Accumulator
    from oshp_bench.metrics.matrices import Matrices as Matrices
    from oshp_bench.metrics.matrices import count_predictions as count_predictions
    from oshp_bench.metrics.matrices import load_matrices as load_matrices
    from oshp_bench.metrics.matrices import save_matrices as save_matrices
    from oshp_bench.metrics.result import Figure as Figure
    from oshp_bench.metrics.result import Result as Result
    from oshp_bench.metrics.result import compare as compare
    from oshp_bench.metrics.result import score as score
    from oshp_bench.metrics.result import score_matrices as score_matrices
    from oshp_bench.metrics.shapes import Shapes as Shapes

_HOMES = {
    "CONVENTIONS": "counting",
    "DEFAULT": "counting",
    "OFFICIAL_2023": "counting",
    "figures_frame": "frames",
    "pairs_frame": "frames",
    "read_results": "frames",
    "Difference": "intervals",
    "Resampling": "intervals",
    "Accumulator": "matrices",
    "Matrices": "matrices",
    "count_predictions": "matrices",
    "load_matrices": "matrices",
    "save_matrices": "matrices",
    "Figure": "result",
    "Result": "result",
    "compare": "result",
    "score": "result",
    "score_matrices": "result",
    "Shapes": "shapes",
}
__all__ = list(_HOMES)
__getattr__, __dir__ = imported_at_first_use(__name__, _HOMES)
