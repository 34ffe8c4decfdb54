"""Results as tables and as one HTML page.

from oshp_bench.report import report_html
page = report_html(result)
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from oshp_bench.errors import MissingPackage
from oshp_bench.lazy import imported_at_first_use

if TYPE_CHECKING:
    from oshp_bench.report.page import report_html as report_html

__all__ = ["check_report_extra", "report_html"]
__getattr__, __dir__ = imported_at_first_use(__name__, {"report_html": "page"})


def check_report_extra() -> None:
    """Checks that the packages of the extra `report` are installed. Call it before scoring, which takes time.

    Raises:
        OshpError: one is missing.
    """
    lacking = [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]
    if lacking:
        raise MissingPackage("a report", " and ".join(lacking), "report")
