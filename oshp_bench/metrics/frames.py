"""Results as data frames for notebooks. They need pandas, the extra `frames`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oshp_bench.errors import MissingPackage, OshpError, raise_problems
from oshp_bench.files import read_json
from oshp_bench.metrics.figures import parse_figure
from oshp_bench.metrics.result import RESULT_FORMAT, Result
from oshp_bench.metrics.result_file import AnyResult, load_result

if TYPE_CHECKING:
    from pandas import DataFrame

_VALUES = ("value", "low", "high")
FIGURE_COLUMNS = ("manifest", "fold", "way", "method", "seed", "figure", "class", "role", *_VALUES, "queries")
PAIR_COLUMNS = (
    *("manifest", "fold", "way", "method", "seed", "pair", "query", "support", "target", "class", "role"),
    *("truth", "predicted", "both", "iou"),
)


def frame(columns: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Sequence[str]) -> DataFrame:
    """A data frame.

    Args:
        numbers: columns of float64. Seed and fold, which may be unknown, are nullable integers.

    Raises:
        OshpError: pandas is not installed.
    """
    try:
        from pandas import DataFrame
    except ModuleNotFoundError as error:
        raise MissingPackage("a data frame", "pandas", "frames") from error
    whole = {name: "Int64" for name in ("seed", "fold") if name in columns}
    return DataFrame(list(rows), columns=list(columns)).astype({**whole, **dict.fromkeys(numbers, "float64")})


def figures_frame(results: Sequence[AnyResult]) -> DataFrame:
    """One row per figure of every result, in the columns of FIGURE_COLUMNS.

    `way` is "k" or "1", `figure` a name of metrics.figures ("novel_miou", "iou"). `class` and `role` are missing for
    figures about several classes. Values are fractions 0..1, missing for 0/0.

    Raises:
        OshpError: pandas is not installed.
    """
    return frame(FIGURE_COLUMNS, (row for result in results for row in _figure_rows(result)), _VALUES)


def pairs_frame(result: Result) -> DataFrame:
    """One row per pair and class, in the columns of PAIR_COLUMNS: pixels of the truth, of the prediction, and of both.

    In k-way the truth is that of the episode: classes that the support lacks have none. In 1-way a pair has one class,
    its target. `iou` is missing for 0/0.

    Raises:
        OshpError: pandas is not installed.
    """
    return frame(PAIR_COLUMNS, _pair_rows(result), ["iou"])


def read_results(folder: Path | str) -> DataFrame:
    """The figures of all result files in a folder and the folders in it, as figures_frame has them.

    The last column, `file`, is the path of the result below the folder. Other JSON files are skipped.

    Raises:
        OshpError: there is no result, pandas is not installed, or every problem of every result, one per line.
    """
    found: list[Sequence[Any]] = []
    problems: list[str] = []
    for path in sorted(Path(folder).rglob("*.json")):
        try:
            document = read_json(path)
            if isinstance(document, dict) and document.get("format") == RESULT_FORMAT:
                name = path.relative_to(folder).as_posix()
                found.extend([*row, name] for row in _figure_rows(load_result(path)))
        except OshpError as error:
            problems.extend(error.problems)
    raise_problems(problems)
    if not found:
        raise OshpError(f"{folder}: no results there; oshp-score --out writes result.json")
    return frame([*FIGURE_COLUMNS, "file"], found, _VALUES)


def _about(result: AnyResult, way: str) -> tuple[Any, ...]:
    card = result.matrices.card if isinstance(result, Result) else result.card
    return result.manifest.name, result.manifest.fold, way, result.method_name, card.seed if card else None


def _figure_rows(result: AnyResult) -> Iterator[Sequence[Any]]:
    classes = {oshp_class.id: (oshp_class.name, oshp_class.role) for oshp_class in result.manifest.classes}
    for name, figure in result.figures.items():
        way, kind, class_id = parse_figure(name)
        about = (None, None) if class_id is None else classes.get(class_id, (None, None))
        yield (*_about(result, way), kind.name, *about, figure.value, figure.low, figure.high, figure.queries)


def _pair_rows(result: Result) -> Iterator[Sequence[Any]]:
    pairs, classes = result.pairs, result.manifest.classes
    names = {oshp_class.id: oshp_class.name for oshp_class in classes}
    for sums in result.per_pair:
        truth, predicted, both = (values.astype(int).tolist() for values in sums.areas())
        for pair, target in enumerate(pairs.target):
            head = (pairs.name(pair), pairs.query[pair], pairs.support[pair], names[target])
            for index, oshp_class in enumerate(classes):
                if sums.way == "k" or oshp_class.id == target:
                    areas = truth[pair][index], predicted[pair][index], both[pair][index]
                    union = areas[0] + areas[1] - areas[2]
                    iou = areas[2] / union if union else None
                    yield (*_about(result, sums.way), *head, oshp_class.name, oshp_class.role, *areas, iou)
