"""oshp-score: scores predictions and shows the result as tables, files or one HTML page."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import is_zipfile

import click
from click.core import ParameterSource

from oshp_bench.console import (
    DIRECTORY,
    FILE,
    Command,
    check_outputs,
    convention_option,
    echo,
    jobs_option,
    manifest_option,
    out_option,
    version_option,
    way_option,
)
from oshp_bench.errors import OshpError

if TYPE_CHECKING:
    from oshp_bench.datasets.sources import Source
    from oshp_bench.manifest import Manifest
    from oshp_bench.manifest.truth import Truth
    from oshp_bench.metrics.intervals import Difference, Resampling
    from oshp_bench.metrics.result import Result
    from oshp_bench.metrics.result_file import AnyResult
    from oshp_bench.metrics.shapes import Shapes
    from oshp_bench.report.examples import Gallery

FORMATS = ("table", "json", "csv", "latex", "markdown")


@dataclass(frozen=True)
class _Request:
    """What the options ask for."""

    manifest_name: str
    truth_file: Path | None
    root: Path | None
    way: str | None
    convention: str
    allow_missing: bool | int
    jobs: int
    shapes: Shapes

    @cached_property
    def manifest(self) -> Manifest:
        from oshp_bench.manifest import load_manifest

        return load_manifest(self.manifest_name)

    @cached_property
    def truth(self) -> Truth:
        from oshp_bench.manifest import manifest_path
        from oshp_bench.manifest.truth import find_truth

        return find_truth(self.manifest, manifest_path(self.manifest_name), self.truth_file, self.root)

    @cached_property
    def source(self) -> Source | None:
        """The dataset; None if it is not found and no --root was given."""
        from oshp_bench.datasets.sources import find_source

        try:
            return find_source(self.manifest.dataset, self.root)
        except OshpError:
            if self.root:
                raise
            return None

    @property
    def inputs(self) -> list[Path]:
        """The files of manifest and truth."""
        from oshp_bench.manifest import manifest_path
        from oshp_bench.manifest.truth import truth_path

        path = manifest_path(self.manifest_name)
        return [path, self.truth_file or truth_path(path)]

    def result(self, path: Path, resampling: Resampling) -> tuple[Result, dict[str, Any]]:
        """The result of a prediction set or a matrices file (.npz), and timings of the run."""
        from oshp_bench.metrics.matrices import count_predictions, load_matrices
        from oshp_bench.metrics.result import score_matrices
        from oshp_bench.metrics.shapes import Shapes

        started = time.perf_counter()
        if path.suffix == ".npz":
            matrices, counted_as = load_matrices(path, self.manifest)
            if counted_as != self.convention:
                raise OshpError(f"{path}: counted in the convention {counted_as}; give --convention {counted_as}")
            if self.shapes != Shapes() and matrices.shapes != self.shapes:
                held = matrices.shapes.signature or "none"
                raise OshpError(f"{path}: holds other boundaries or parts ({held}); score the predictions again")
        else:
            matrices = count_predictions(
                self.manifest,
                self.truth,
                path,
                way=self.way,
                convention=self.convention,
                shapes=self.shapes,
                allow_missing=self.allow_missing,
                jobs=self.jobs,
            )
        counted = time.perf_counter()
        result = score_matrices(self.manifest, matrices, convention=self.convention, resampling=resampling)
        seconds = {"counting": round(counted - started, 3), "figures": round(time.perf_counter() - counted, 3)}
        return result, {"predictions": click.format_filename(path), "jobs": self.jobs, "seconds": seconds}

    def floor(self, path: Path, beside: Result) -> AnyResult:
        """The result of a set that is shown beside another: read from its file, or scored without intervals."""
        from oshp_bench.metrics.intervals import Resampling
        from oshp_bench.metrics.result_file import load_result, same_test, truth_of

        # Prediction sets and matrices are folders or zips.
        saved = path.is_file() and not is_zipfile(path)
        floor = load_result(path) if saved else self.result(path, Resampling(0))[0]
        if not same_test(floor, beside):
            its, other = (
                f"{result.manifest.name} {result.manifest.version}, convention {result.convention}, truth"
                f" {truth_of(result)[7:19] or 'unknown'}"
                for result in (floor, beside)
            )
            raise OshpError(f"{path}: a result on {its}; it cannot be compared with results on {other}")
        return floor


class _Optional(click.ParamType[Any]):
    """A number that may be left out.

    Args:
        number: the type of the number.
        what: what the number is, for the error.
    """

    def __init__(self, number: click.ParamType[Any], what: str) -> None:
        self.name, self.number, self.what = number.name, number, what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and not value.replace(".", "", 1).isdecimal():
            self.fail(f"{value!r} is no number; give {self.what}, or another option next")
        return value if isinstance(value, bool) else self.number.convert(value, param, ctx)


@click.command(cls=Command)
@click.argument("predictions", nargs=-1, type=click.Path(path_type=Path))
@manifest_option(name="manifest_name", required=True)
@click.option("--truth", type=FILE, help="Truth file.  [default: the one beside the manifest, else built from --root]")
@click.option("--root", type=DIRECTORY, help="Folder of the dataset, for the truth and for photos.")
@way_option("Score one way only; its PNGs may be in the folder itself.  [default: both]")
@convention_option
@click.option(
    "--allow-missing",
    type=_Optional(click.IntRange(0), "the number of missing predictions"),
    is_flag=False,
    flag_value=True,
    default=False,
    metavar="[N]",
    help="Score missing predictions as all background: N of a way, without a number up to a tenth of the pairs.",
)
@click.option(
    "--boundary",
    type=_Optional(click.FloatRange(0, 0.5, min_open=True), "the width of bands as a share of the diagonal"),
    is_flag=False,
    flag_value=0.005,
    metavar="[RATIO]",
    help="Also score Boundary IoU, in bands as wide as this share of the diagonal, without a number 0.005.",
)
@click.option(
    "--parts",
    type=_Optional(click.IntRange(1, 10**8), "the pixels that a part needs to be counted"),
    is_flag=False,
    flag_value=25,
    metavar="[N]",
    help="Also count found and spurious parts of at least N pixels, without a number 25. Needs scikit-image.",
)
@click.option(
    "--resamples", type=click.IntRange(0, 1_000_000), default=10_000, show_default=True, help="0 = no intervals."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the resampling.")
@jobs_option
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
@out_option("Folder to write result.json, matrices.npz, pairs.csv and figures.csv to.")
@click.option("--sheet", type=FILE, help="Draw k-way episodes from best to worst as a PNG. Needs --root.")
@click.option(
    "--floor",
    "floors",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Also show this result file of oshp-score, or this prediction set. Repeatable.",
)
@click.option(
    "--from-matrices", "matrix_files", type=FILE, multiple=True, help="Score matrices.npz instead of pictures."
)
@click.option("--report", type=FILE, help="Write an HTML page with plots, and pictures where the photos are available.")
@version_option
def main(
    predictions: tuple[Path, ...],
    manifest_name: str,
    truth: Path | None,
    root: Path | None,
    way: str | None,
    convention: str,
    allow_missing: bool | int,
    boundary: float | None,
    parts: int | None,
    resamples: int,
    seed: int,
    jobs: int,
    form: str,
    out: Path | None,
    sheet: Path | None,
    floors: tuple[Path, ...],
    matrix_files: tuple[Path, ...],
    report: Path | None,
) -> None:
    """Score PREDICTIONS: a folder or zip with kway/0000.png ... and 1way/0000.png ..., or a submission.

    Two prediction sets are compared: second minus first, with intervals and p-values. Of more sets, all are compared
    with the first.
    """
    given = [*predictions, *matrix_files]
    if bool(predictions) == bool(matrix_files):
        raise click.UsageError("give prediction sets, or --from-matrices")
    if report and len(given) > 2:
        raise click.UsageError("--report shows one set or compares two; give fewer, or show others with --floor")
    strange = [path for path in matrix_files if path.suffix != ".npz"]
    if strange:
        raise click.UsageError(f"{strange[0]}: --from-matrices takes the matrices.npz of an earlier --out")

    from oshp_bench.metrics.intervals import Resampling
    from oshp_bench.metrics.result import compare
    from oshp_bench.metrics.shapes import Shapes
    from oshp_bench.report import outputs as written

    if report:
        from oshp_bench.report import check_report_extra

        check_report_extra()
    request = _Request(
        manifest_name, truth, root, way, convention, allow_missing, jobs, Shapes(boundary=boundary, parts=parts)
    )
    names = ("result.json", "matrices.npz", "pairs.csv", "figures.csv")
    outputs = [sheet, report, *(folder / name for folder in written.folders(out, len(given)) for name in names)]
    pictured = [path for path in (sheet, report) if path and path.exists()]
    photos = request.source.files_among(pictured) if pictured and request.source else []
    check_outputs(outputs, [*given, *floors, *request.inputs, *photos])
    results, runs = zip(*(request.result(path, Resampling(resamples, seed)) for path in given), strict=True)
    differences = [compare(results[0], other) for other in results[1:]]
    floor_sets = [(click.format_filename(path), request.floor(path, results[0])) for path in floors]
    if out:
        written.write_results(out, results, runs, differences)
    if sheet:
        _draw(request, results[0], predictions[:1], sheet)
    written.print_notes(results, given)
    sets = [(click.format_filename(path), result) for path, result in zip(given, results, strict=True)]
    if report:
        gallery = _gallery(request, predictions) if predictions else None
        _write_report(report, sets, floor_sets, differences[0] if differences else None, gallery)
    written.print_results(form, sets, floor_sets, differences)


def _draw(request: _Request, result: Result, predictions: tuple[Path, ...], sheet: Path) -> None:
    from oshp_bench.datasets.sources import find_source
    from oshp_bench.report.sheet import write_sheet

    if not predictions:
        raise click.UsageError("--sheet needs predictions; it cannot draw from --from-matrices")
    source = find_source(request.manifest.dataset, request.root)
    write_sheet(result, predictions[0], request.truth, source, sheet)


def _gallery(request: _Request, predictions: tuple[Path, ...]) -> Gallery:
    """The source of a report's pictures: photos and masks if the dataset is found, else only masks."""
    from oshp_bench.metrics.predictions import open_predictions
    from oshp_bench.report.examples import Gallery

    if request.source is None:
        echo("note: the report shows only masks; photos need --root", err=True)
    sets = tuple(open_predictions(path, request.way, request.manifest) for path in predictions)
    return Gallery(request.truth, sets, request.source)


def _write_report(
    file: Path,
    sets: Sequence[tuple[str, Result]],
    floors: Sequence[tuple[str, AnyResult]],
    differences: Mapping[str, Difference] | None,
    gallery: Gallery | None,
) -> None:
    from oshp_bench.files import write_text
    from oshp_bench.report import report_html

    page = report_html(
        [result for _, result in sets],
        names=[name for name, _ in _titled(sets)],
        floors=_titled(floors),
        differences=differences,
        gallery=gallery,
        command=_typed(click.get_current_context()),
    )
    write_text(file, page)


def _titled(sets: Sequence[tuple[str, AnyResult]]) -> list[tuple[str, AnyResult]]:
    """Results with their methods' names instead of their paths, or with both if two methods have one name."""
    names = [result.method_name or Path(path).name for path, result in sets]
    return [
        (f"{name}, {path}" if names.count(name) > 1 else name, result)
        for name, (path, result) in zip(names, sets, strict=True)
    ]


def _typed(context: click.Context) -> str:
    """A command line that gives the same options as the one that was typed."""
    words = ["oshp-score"]
    for parameter in context.command.params:
        name = str(parameter.name)
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            value = context.params[name]
            for one in value if isinstance(value, tuple) else (value,):
                words += parameter.opts[-1:] if isinstance(parameter, click.Option) else []
                words += [] if one is True else [click.format_filename(str(one))]
    return shlex.join(words)
