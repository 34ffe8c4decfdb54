"""The result of scoring: figures with intervals, diagnosis and where they come from."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oshp_bench.episodes.episodes import WAYS, way_key
from oshp_bench.errors import OshpError
from oshp_bench.files import content_digest
from oshp_bench.manifest import Manifest, Pairs
from oshp_bench.manifest.truth import load_truth
from oshp_bench.manifest.truth_digests import same_truth
from oshp_bench.metrics.counting import DEFAULT
from oshp_bench.metrics.diagnosis import diagnose
from oshp_bench.metrics.escapes import csv_cell
from oshp_bench.metrics.figures import parse_figure
from oshp_bench.metrics.intervals import (
    Difference,
    Resampling,
    paired_differences,
    percentile_interval,
    query_indices,
    resampled_figures,
)
from oshp_bench.metrics.matrices import Matrices, count_predictions
from oshp_bench.metrics.scores import Statistics, statistics
from oshp_bench.metrics.shapes import Shapes
from oshp_bench.version import __version__

if TYPE_CHECKING:
    from pandas import DataFrame

RESULT_FORMAT = "oshp-result/1"


@dataclass(frozen=True)
class Figure:
    """The value of a figure, a fraction 0..1, with its interval.

    Attributes:
        value: None if the figure is 0/0.
        low, high: the interval; None if nothing was resampled, or if there are too few queries for one.
        queries: number of queries that hold a pixel of the classes that the figure is about.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    queries: int = 0


@dataclass(frozen=True)
class Result:
    """The result of scoring.

    Attributes:
        pairs: the pairs that were scored.
        figures: full name ("kway/human_miou", "1way/iou/16") -> figure; metrics.figures defines them.
    """

    manifest: Manifest
    pairs: Pairs
    matrices: Matrices
    convention: str
    resampling: Resampling
    figures: Mapping[str, Figure]

    @cached_property
    def diagnosis(self) -> dict[str, Any]:
        """Testing bias, sizes and similar parts, as JSON (metrics.diagnosis)."""
        return diagnose(self.matrices, self.manifest, self.pairs, self.convention)

    @cached_property
    def per_pair(self) -> tuple[Statistics, ...]:
        """The additive statistics of all pairs, for each way that was counted."""
        return tuple(statistics(self.matrices, self.manifest, self.pairs, self.convention))

    @property
    def signature(self) -> str:
        """One line that says how the figures were computed. Figures with equal signatures are comparable."""
        ways = "+".join(way for way in WAYS if self.matrices.of(way) is not None)
        boot = f"{self.resampling.resamples}q,seed{self.resampling.seed}" if self.resampling.resamples else "none"
        return (
            f"{self.manifest.name}-{self.manifest.version}|test:{self.manifest.test_digest[7:19]}"
            f"|truth:{self.matrices.truth[7:19] or 'unknown'}|ways:{ways}|convention:{self.convention}|bootstrap:{boot}"
            f"{self.matrices.shapes.signature}|oshp-bench-{__version__}"
        )

    @property
    def method(self) -> dict[str, Any]:
        """The method's card as JSON. Without a card only {"name": ...}, None if the name is unknown."""
        return self.matrices.card.to_json() if self.matrices.card else {"name": self.matrices.method or None}

    @property
    def method_name(self) -> str | None:
        """The method's name, None if it is unknown."""
        name: str | None = self.method["name"]
        return name

    @cached_property
    def document(self) -> dict[str, Any]:
        """to_json(), made once."""
        return self.to_json()

    @property
    def digest(self) -> str:
        """The digest of the result, which is part of its file."""
        return str(self.document["digest"])

    def to_dataframe(self) -> DataFrame:
        """One row per figure: metrics.frames.figures_frame. It needs pandas, the extra `frames`."""
        from oshp_bench.metrics.frames import figures_frame

        return figures_frame([self])

    def to_json(self) -> dict[str, Any]:
        """The result as JSON, "format": "oshp-result/1". The same input gives the same JSON on any machine."""
        content = {
            "format": RESULT_FORMAT,
            "signature": self.signature,
            "manifest": {
                "name": self.manifest.name,
                "version": self.manifest.version,
                "digest": self.manifest.digest,
                "test_digest": self.manifest.test_digest,
                "dataset": self.manifest.dataset.name,
                "fold": self.manifest.fold,
                "protocol": self.manifest.protocol.get("name"),
                "pairs": len(self.pairs),
                "queries": len(self.pairs.queries),
            },
            "truth": self.matrices.truth or None,
            "predictions": {
                "digest": self.matrices.digest,
                "method": self.matrices.method,
                "missing": {way: list(names) for way, names in self.matrices.missing.items()},
            },
            "method": self.method,
            "options": {
                "convention": self.convention,
                "interval": "expanded percentile bootstrap over queries",
                "level": self.resampling.level,
                "resamples": self.resampling.resamples,
                "seed": self.resampling.seed,
                **self.matrices.shapes.to_json(),
            },
            "classes": [
                {"id": oshp_class.id, "name": oshp_class.name, "role": oshp_class.role}
                for oshp_class in self.manifest.classes
            ],
            "figures": {name: asdict(figure) for name, figure in self.figures.items()},
            "diagnosis": self.diagnosis,
            "tool": f"oshp-bench {__version__}",
        }
        return {"format": RESULT_FORMAT, "digest": content_digest(content), **content}


def score(
    manifest: Manifest,
    predictions: Path | str,
    truth: Path | str,
    *,
    way: str | None = None,
    convention: str = DEFAULT,
    shapes: Shapes | None = None,
    resampling: Resampling | None = None,
    allow_missing: bool | int = False,
    jobs: int = 1,
) -> Result:
    """Scores a folder or zip of predictions, or a submission's predictions for the manifest.

    Args:
        manifest: for example `load_manifest("atr_fold1.json")`.
        truth: the manifest's truth file.
        way: "k", "1", or None for every way that is there.
        convention: "default" or "official-2023" (docs/metrics.md).
        shapes: asks for figures of boundaries and parts, `Shapes(boundary=0.005, parts=25)`; None for none.
        resampling: how intervals are made; None for the defaults, `Resampling(resamples=0)` for no intervals.
        allow_missing: counts missing predictions as all background instead of refusing the set: so many of a way, with
            True up to a tenth of the pairs.
        jobs: number of processes. It does not change the result.

    Raises:
        OshpError: every problem of the predictions, one per line.
    """
    matrices = count_predictions(
        manifest,
        load_truth(Path(truth), manifest),
        Path(predictions),
        way=way,
        convention=convention,
        shapes=shapes,
        allow_missing=allow_missing,
        jobs=jobs,
    )
    return score_matrices(manifest, matrices, convention=convention, resampling=resampling)


def score_matrices(
    manifest: Manifest,
    matrices: Matrices,
    *,
    pairs: Pairs | None = None,
    convention: str = DEFAULT,
    resampling: Resampling | None = None,
) -> Result:
    """Scores matrices. No picture is needed.

    Args:
        pairs: the pairs that were counted; None for the manifest's test pairs.
    """
    pairs = manifest.pairs if pairs is None else pairs
    resampling = resampling or Resampling()
    figures: dict[str, Figure] = {}
    query = query_indices(pairs.query)
    for of_pairs in statistics(matrices, manifest, pairs, convention):
        by_query = of_pairs.by_query(query)
        spread = resampled_figures(by_query, resampling) if resampling.resamples else {}
        for name, value in of_pairs.figures().items():
            behind = by_query.queries_behind(name)
            ends = (
                (None, None)
                if value is None or not spread
                else percentile_interval(spread[name], resampling.level, behind)
            )
            figures[name] = Figure(value, *ends, behind)
    return Result(manifest, pairs, matrices, convention, resampling, figures)


def compare(first: Result, second: Result) -> dict[str, Difference]:
    """The paired differences of two results (second minus first), for the ways that both have.

    Raises:
        OshpError: the results have different pairs, truths, conventions, boundaries or parts, or no way in common.
    """
    alike = (first.manifest.test_digest, first.pairs, first.convention) == (
        second.manifest.test_digest,
        second.pairs,
        second.convention,
    )
    ways = {sums.way: sums for sums in second.per_pair}
    if alike and not same_truth(first.matrices.truth, second.matrices.truth):
        raise OshpError(
            f"these results cannot be compared, since they were scored on different truths: {first.signature} and"
            f" {second.signature}"
        )
    if first.matrices.shapes != second.matrices.shapes:
        raise OshpError(
            "these results cannot be compared, since different boundaries or parts were counted:"
            f" {first.signature} and {second.signature}; give --from-matrices of equal options, or the predictions"
        )
    if not alike or not any(sums.way in ways for sums in first.per_pair):
        raise OshpError(f"these results cannot be compared: {first.signature} and {second.signature}")
    query = query_indices(first.pairs.query)
    differences: dict[str, Difference] = {}
    for sums in first.per_pair:
        if sums.way in ways:
            a, b = sums.by_query(query), ways[sums.way].by_query(query)
            observed = {
                name: (figure.value, second.figures[name].value)
                for name, figure in first.figures.items()
                if parse_figure(name).way == sums.way
            }
            differences |= paired_differences(observed, a, b, first.resampling)
    return differences


def per_pair_csv(result: Result) -> str:
    """CSV with one row per pair: ids, class, and the pair's own figures in both ways, fractions with full precision."""
    ways = {sums.way: sums for sums in result.per_pair}
    columns: dict[str, list[object]] = {
        "pair": list(result.pairs.names),
        "query": list(map(csv_cell, result.pairs.query)),
        "support": list(map(csv_cell, result.pairs.support)),
        "class": [csv_cell(_name(result.manifest, target)) for target in result.pairs.target],
        "support_classes": [" ".join(map(str, classes)) for classes in result.pairs.support_classes],
    }
    for sums in result.per_pair:
        for name, where in sums.episode_columns.items():
            cells = [value if valid else "" for value, valid in sums.values[:, where].tolist()]
            columns[f"{way_key(sums.way)}_{name.removeprefix('episode_')}"] = cells
    if "1" in ways:
        for name, label in (("hit", "tp"), ("wrong", "fp"), ("missed", "fn"), ("left", "tn")):
            columns[f"1way_{label}"] = ways["1"].values[:, ways["1"].columns[name]].sum(axis=1).astype(int).tolist()
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return buffer.getvalue()


def _name(manifest: Manifest, class_id: int) -> str:
    return next(oshp_class.name for oshp_class in manifest.classes if oshp_class.id == class_id)
