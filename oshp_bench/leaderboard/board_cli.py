"""oshp-board: makes a site, tables for a paper, or a Codabench competition from results."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from oshp_bench.console import (
    DIRECTORY,
    FILE,
    Group,
    check_outputs,
    convention_option,
    echo,
    manifest_option,
    out_option,
    version_option,
    way_option,
)

if TYPE_CHECKING:
    from oshp_bench.leaderboard.entries import Entry
    from oshp_bench.leaderboard.standings import Standing
    from oshp_bench.manifest import Manifest

_DATE = click.DateTime(["%Y-%m-%d", "%Y-%m-%d %H:%M:%S"])
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9./:_@-]{0,199}")
results_argument = click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
manifests_option = manifest_option(
    "  Needed for results on your own tailoring, such as of LIP; may be repeated.", "manifests", multiple=True
)
published_option = click.option(
    "--published/--no-published", default=True, show_default=True, help="Show the paper's Tables 2 to 4."
)


@click.group(cls=Group)
@version_option
def main() -> None:
    """Rank results. RESULTS are result files of oshp-score, or folders with such files."""


@main.command("build")
@results_argument
@out_option("Folder of the site.", required=True)
@manifests_option
@published_option
@click.option(
    "--reports/--no-reports", default=True, show_default=True, help="Write a report for every result with matrices."
)
def build_command(
    results: tuple[Path, ...], out: Path, manifests: tuple[str, ...], published: bool, reports: bool
) -> None:
    """Write a static site of RESULTS that any file host can serve, and that opens from disk.

    A result gets a report and a paired test against the row above it if its matrices are beside it: matrices.npz beside
    result.json, or a.npz beside a.json.
    """
    from oshp_bench.leaderboard.board import site_files, write_board
    from oshp_bench.manifest import manifest_path

    entries, known, standings = _standings(results, manifests, published)
    inputs = [path for entry in entries for path in (entry.result.path, entry.matrices)]
    check_outputs(site_files(standings, out), [*filter(Path.is_file, results), *inputs, *map(manifest_path, manifests)])
    written = write_board(standings, known, out, reports=reports)
    rows = sum(len(table.rows) for table in standings)
    echo(f"{out / 'index.html'}: {len(entries):,} results, {rows:,} rows in {len(standings)} tables")
    if written:
        echo(f"{written[0].parent}: {len(written):,} reports")


@main.command("table")
@results_argument
@click.option(
    "--format", "form", type=click.Choice(["markdown", "latex", "csv"]), default="markdown", show_default=True
)
@click.option("--dataset", help="Only this dataset, for example atr.")
@way_option("Show one way only.  [default: both]")
@click.option("--protocol", help="Only this sampling rule, for example official.")
@click.option("--intervals/--no-intervals", default=True, show_default=True)
@manifests_option
@published_option
def table_command(
    results: tuple[Path, ...],
    form: str,
    dataset: str | None,
    way: str | None,
    protocol: str | None,
    intervals: bool,
    manifests: tuple[str, ...],
    published: bool,
) -> None:
    """Print the board's tables of RESULTS for a paper.

    CSV has fractions with full precision, the other formats percent.
    """
    from oshp_bench.errors import OshpError
    from oshp_bench.leaderboard.tables import BOARD_FORMATS

    _, _, standings = _standings(results, manifests, published)
    wanted = {"dataset": dataset, "way": way, "protocol": protocol}
    chosen = [
        standing
        for standing in standings
        if all(value in (None, getattr(standing, key)) for key, value in wanted.items())
    ]
    if not chosen:
        held = ", ".join(dict.fromkeys(f"{table.dataset} {table.protocol}" for table in standings))
        raise OshpError(f"no table matches these options; there are tables for {held}")
    echo(BOARD_FORMATS[form](chosen, intervals=intervals), nl=False)


@main.command("codabench")
@manifest_option("  Each is a task.", "manifests", multiple=True, required=True)
@click.option(
    "--truth",
    "truths",
    type=FILE,
    multiple=True,
    help="Truth of each manifest, in the same order.  [default: the file beside it]",
)
@out_option("The bundle to write.", FILE, required=True)
@click.option("--title", help="Title of the competition.  [default: made from its datasets]")
@way_option("Ask for one way only.  [default: both]")
@convention_option
@click.option("--start", type=_DATE, default="2026-01-01", show_default=True, help="When it opens, UTC.")
@click.option("--end", type=_DATE, default="2099-12-31", show_default=True, help="When it closes, UTC.")
@click.option("--private-labels", is_flag=True, help="The truth is not public: omit the note on the honour system.")
@click.option("--docker-image", default="codalab/codalab-legacy:py312", show_default=True, help="Image that scores.")
@click.option("--wheels", type=DIRECTORY, help="Folder of wheels that the image lacks, for workers without a network.")
def codabench_command(
    manifests: tuple[str, ...],
    truths: tuple[Path, ...],
    out: Path,
    title: str | None,
    way: str | None,
    convention: str,
    start: datetime,
    end: datetime,
    private_labels: bool,
    docker_image: str,
    wheels: Path | None,
) -> None:
    """Write a Codabench competition: a bundle to upload as it is.

    Codabench then shows the figures of oshp-score. The bundle contains the truth: store it only where the truth may be.
    """
    from oshp_bench.leaderboard.codabench import Competition, download_command, load_tasks, write_bundle
    from oshp_bench.manifest import manifest_path
    from oshp_bench.manifest.truth import truth_path

    if end <= start:
        raise click.UsageError("--end must be after --start")
    if not _IMAGE.fullmatch(docker_image):
        raise click.UsageError(f"--docker-image {docker_image!r} is not the name of an image")
    tasks = load_tasks(manifests, truths)
    paths = [manifest_path(name) for name in manifests]
    check_outputs([out], [*paths, *(truths or map(truth_path, paths)), *(wheels.glob("*.whl") if wheels else ())])
    datasets = ", ".join(dict.fromkeys(task.manifest.dataset.title for task in tasks))
    competition = Competition(
        title=" ".join((title or f"One-shot human parsing: {datasets}").split())[:200],
        way=way,
        convention=convention,
        start=str(start),
        end=str(end),
        private=private_labels,
        image=docker_image,
    )
    write_bundle(competition, tasks, out, wheels)
    echo(f"{out}: {', '.join(task.manifest.name for task in tasks)}; columns {', '.join(competition.columns)}")
    if wheels is None:
        echo(
            "note: if the image lacks click, pillow, jinja2 or matplotlib, scoring installs them when it starts, which"
            f" needs a network; for workers without one, run\n  {download_command(Path('wheels'))}\n  and add --wheels"
            " wheels",
            err=True,
        )


def _standings(
    results: tuple[Path, ...], manifests: tuple[str, ...], published: bool
) -> tuple[tuple[Entry, ...], dict[str, Manifest], tuple[Standing, ...]]:
    """The entries, the available manifests, and the tables with their tests. Notes go to stderr."""
    from oshp_bench.leaderboard.entries import load_entries
    from oshp_bench.leaderboard.not_run import load_not_run
    from oshp_bench.leaderboard.significance import with_tests
    from oshp_bench.leaderboard.standings import known_manifests, standings

    entries, notes = load_entries(results)
    for note in notes:
        echo(f"note: {note}", err=True)
    known = known_manifests(entries, manifests)
    unknown = (entry.manifest for entry in entries if entry.manifest.test_digest not in known)
    for name in sorted({f"{manifest.name} {manifest.version}" for manifest in unknown}):
        echo(f"note: {name}: this manifest is missing; give --manifest to check and test its results", err=True)
    tables = standings(entries, known, published=published, not_run=load_not_run(results))
    return entries, known, with_tests(tables, known)
