"""A result as one HTML file: figures, plots, pictures and where they come from.

from oshp_bench.report import report_html
page = report_html(result)
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from oshp_bench.errors import OshpError
from oshp_bench.lazy import imported_at_first_use

if TYPE_CHECKING:
    from oshp_bench.report.page import report_html as report_html

__all__ = ["check_report_extra", "report_html"]
__getattr__ = imported_at_first_use(__name__, {"report_html": "page"})


def check_report_extra() -> None:
    """Makes sure, before time is spent on scoring, that a report can be written.

    Raises:
        OshpError: a package of the extra `report` is not installed.
    """
    lacking = [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]
    if lacking:
        raise OshpError(f"a report needs {' and '.join(lacking)}: pip install oshp-bench[report]")
