"""Submissions of predictions, boards of results, and Codabench bundles.

from oshp_bench.leaderboard import board_frame
table = board_frame("results", format="long")
"""

from typing import TYPE_CHECKING

from oshp_bench.lazy import imported_at_first_use

if TYPE_CHECKING:
    from oshp_bench.leaderboard.frames import board_frame as board_frame

__all__ = ["board_frame"]
__getattr__, __dir__ = imported_at_first_use(__name__, {"board_frame": "frames"})
