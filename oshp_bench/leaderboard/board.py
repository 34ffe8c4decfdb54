"""Writes the board: a static site of results that any file host can serve."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from oshp_bench.console import progress
from oshp_bench.episodes.episodes import WAYS, way_name
from oshp_bench.errors import MissingPackage
from oshp_bench.files import write_text
from oshp_bench.leaderboard import tables
from oshp_bench.leaderboard.entries import Entry
from oshp_bench.leaderboard.significance import load_scored
from oshp_bench.leaderboard.standings import Standing
from oshp_bench.manifest import Manifest
from oshp_bench.report.published import published_tables
from oshp_bench.version import __version__

_SITE = Path(__file__).with_name("site")
_INDEX = "index.html"
_REPORTS, _TABLES = "reports", "tables"


def write_board(
    standings: Sequence[Standing], manifests: Mapping[str, Manifest], out: Path, *, reports: bool = True
) -> tuple[Path, ...]:
    """Writes index.html, tables/*.csv and reports/*.html. The same input gives the same bytes.

    Args:
        manifests: the available manifests, by test digest.
        reports: whether to write a report for every result whose matrices and manifest are available.

    Returns:
        The files of the reports.

    Raises:
        OshpError: a package is missing, or matrices are damaged or belong to another result.
    """
    if find_spec("jinja2") is None:
        raise MissingPackage("a board", "jinja2", "report")
    known = _entries(table for table in standings if table.known)
    with_report = [entry for entry in known if reports and entry.matrices]
    written = _write_reports(with_report, known, manifests, out) if with_report else ()
    for table in standings:
        write_text(out / _TABLES / f"{table.key}.csv", tables.csv_table([table]))
    links = {entry.result.digest: f"{_REPORTS}/{_report_name(entry)}" for entry in with_report}
    write_text(out / _INDEX, _page(standings, links))
    return written


def site_files(standings: Sequence[Standing], out: Path) -> list[Path]:
    """The files that write_board writes, reports of all results included."""
    reports = [out / _REPORTS / _report_name(entry) for entry in _entries(standings)]
    return [out / _INDEX, *(out / _TABLES / f"{table.key}.csv" for table in standings), *reports]


def _entries(standings: Iterable[Standing]) -> list[Entry]:
    """The results in some tables, without repetition."""
    rows = (row for table in standings for row in table.rows)
    return list({entry.result.digest: entry for row in rows for entry in row.results}.values())


def _write_reports(
    wanted: Sequence[Entry], known: Sequence[Entry], manifests: Mapping[str, Manifest], out: Path
) -> tuple[Path, ...]:
    from oshp_bench.metrics.intervals import Resampling
    from oshp_bench.metrics.result import score_matrices
    from oshp_bench.metrics.result_file import same_test
    from oshp_bench.report import check_report_extra, report_html

    check_report_extra()
    floor = [entry for entry in known if entry.is_floor]
    written = []
    for entry in progress(wanted, "reports", total=len(wanted)):
        manifest = manifests[entry.manifest.test_digest]
        matrices = load_scored(entry, manifest).matrices
        result = score_matrices(
            manifest, matrices, convention=entry.result.convention, resampling=Resampling(level=entry.result.level)
        )
        beside = [
            (other.name, other.result)
            for other in floor
            if other is not entry and same_test(other.result, entry.result)
        ]
        path = out / _REPORTS / _report_name(entry)
        write_text(path, report_html(result, names=[entry.name], floors=beside, back=f"../{_INDEX}"))
        written.append(path)
    return tuple(written)


def _report_name(entry: Entry) -> str:
    return f"{entry.manifest.name}-{entry.result.digest[7:19]}.html"


def _page(standings: Sequence[Standing], links: Mapping[str, str]) -> str:
    from markupsafe import Markup

    from oshp_bench.leaderboard.drawn import task_pictures
    from oshp_bench.report.templates import filled

    script = (_SITE / "board.js").read_text(encoding="utf-8")
    entries = _entries(standings)
    published = {row.name for table in standings for row in table.rows if row.kind == "published"}
    return filled(
        _SITE / "board.html.j2",
        datasets=_by_dataset(standings),
        results=len(entries),
        methods=len({entry.name for entry in entries}),
        published=len(published),
        paper=published_tables()[0],
        backbones=_distinct(entry.card.backbone for entry in entries if entry.card),
        pretrainings=_distinct(entry.card.pretraining for entry in entries if entry.card),
        links=links,
        pictures=[(_data_address(picture), words) for picture, words in task_pictures()],
        text=tables,
        way_names={way: way_name(way) for way in WAYS},
        table_folder=_TABLES,
        version=__version__,
        script=Markup(script),
        # Only this script may run, so that text from result files never can.
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _by_dataset(standings: Iterable[Standing]) -> dict[str, list[list[Standing]]]:
    """The tables by dataset and test, datasets with results first. The two ways of a test share one heading."""
    datasets: dict[str, dict[str, list[Standing]]] = {}
    scored = {table.dataset for table in standings if table.tests}
    for table in sorted(standings, key=lambda table: table.dataset not in scored):
        test = table.key.rpartition("-")[0]
        datasets.setdefault(table.dataset, {}).setdefault(test, []).append(table)
    return {dataset: list(tests.values()) for dataset, tests in datasets.items()}


def _distinct(texts: Iterable[str]) -> list[str]:
    return sorted(set(texts), key=lambda text: (text.casefold(), text))


def _data_address(picture: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(picture).decode()
