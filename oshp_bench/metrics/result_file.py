"""Writes result files, and reads result files of unknown origin strictly."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from oshp_bench.datasets.labels import NAME_PATTERN, VERSION_PATTERN
from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.files import DIGEST, content_digest, read_json, readable_json, write_text
from oshp_bench.manifest import OshpClass
from oshp_bench.manifest.truth_digests import same_truth
from oshp_bench.metrics.counting import CONVENTIONS
from oshp_bench.metrics.figures import parse_figure
from oshp_bench.metrics.method_card import MethodCard, method_card, name_problem
from oshp_bench.metrics.result import RESULT_FORMAT, Figure, Result
from oshp_bench.untrusted import Reader, shown

_TOOL = re.compile(r"oshp-bench [0-9A-Za-z.+-]{1,80}")


@dataclass(frozen=True)
class ScoredManifest:
    """The manifest of a result, as far as the result describes it.

    Attributes:
        protocol: the name of the sampling rule, "" if the manifest has none.
        pairs, queries: numbers of scored pairs and queries.
    """

    name: str
    version: str
    test_digest: str
    dataset: str
    fold: int
    protocol: str
    pairs: int
    queries: int
    classes: tuple[OshpClass, ...]


@dataclass(frozen=True)
class SavedResult:
    """A result that was read from a file.

    Attributes:
        document: the file's JSON. Only what the other attributes hold was checked.
        method_name: None if it is unknown.
        card: the method card of the submission; None if the predictions were not part of one.
        level: level of the intervals, 0..1.
        figures: the figures that this version knows, by full name.
        predictions: the digest of the predictions; "" if they were counted from arrays.
        truth: the digest of the truth; "" in results of versions before 0.2, and from arrays.
        missing: way -> names of the pairs without a prediction. They count as all background.
        tool: name and version of the scorer.
    """

    path: Path
    document: Mapping[str, Any]
    digest: str
    manifest: ScoredManifest
    method_name: str | None
    card: MethodCard | None
    convention: str
    level: float
    figures: Mapping[str, Figure]
    predictions: str
    truth: str
    missing: Mapping[str, tuple[str, ...]]
    tool: str


AnyResult = Result | SavedResult


def same_test(first: AnyResult, second: AnyResult) -> bool:
    """Whether two results were scored on the same pairs and truth, in the same convention, so that they compare."""
    mine, theirs = ((result.manifest.test_digest, result.convention) for result in (first, second))
    return mine == theirs and same_truth(truth_of(first), truth_of(second))


def truth_of(result: AnyResult) -> str:
    """The digest of the truth that a result was scored on; "" if it is unknown."""
    return result.matrices.truth if isinstance(result, Result) else result.truth


def save_result(result: Result, path: Path, run: Mapping[str, Any]) -> None:
    """Writes a result. `run` (timings, machine) is added to the file but not covered by the digest."""
    machine = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "platform": platform.platform(),
    }
    write_text(path, readable_json({**result.document, "run": {**machine, **run}}))


def load_result(path: Path) -> SavedResult:
    """Reads a result file of unknown origin.

    Older results have no member "method". It is added to the document after the digest was checked. Results of
    versions before 0.2 do not say which truth they were scored on.

    Raises:
        OshpError: not a result, edited or damaged; or every wrong member, one per line.
    """
    document = read_json(path)
    if not isinstance(document, dict) or document.get("format") != RESULT_FORMAT:
        raise OshpError(f'{path}: not a result (its "format" is not "{RESULT_FORMAT}")')
    content = {key: value for key, value in document.items() if key not in ("digest", "run")}
    if document.get("digest") != content_digest(content):
        raise OshpError(f"{path}: the digest does not match the content: the file was edited or damaged; score again")
    reader = Reader(document, str(path))
    predictions = reader.table("predictions")
    document.setdefault("method", {"name": predictions.everything().get("method") or None})
    method_name, card = _method(reader.table("method"))
    options = reader.table("options")
    convention, level = options.text("convention"), options.everything().get("level")
    options.wrong_if(
        convention and convention not in CONVENTIONS, f"convention {shown(convention)} is unknown to this version"
    )
    options.wrong_if(not isinstance(level, float) or not 0 < level < 1, f"level is {shown(level)}, not between 0 and 1")
    saved = SavedResult(
        path=path,
        document=document,
        digest=reader.text("digest"),
        manifest=_manifest(reader),
        method_name=method_name,
        card=card,
        convention=convention,
        level=level if isinstance(level, float) else 0.0,
        figures=_figures(reader.table("figures")),
        predictions=_text(predictions, "digest", DIGEST),
        truth="" if reader.absent("truth") else _text(reader, "truth", DIGEST),
        missing=dict(predictions.table("missing").lists_of_text()),
        tool=_text(reader, "tool", _TOOL),
    )
    raise_problems(reader.problems)
    return saved


def _method(reader: Reader) -> tuple[str | None, MethodCard | None]:
    if len(reader) > 1:
        card = method_card(reader)
        return card.name, card
    name = reader.everything().get("name")
    problem = name_problem(name) if "name" in reader else "is missing"
    reader.wrong_if(problem, f"name {problem}")
    return (name or None) if isinstance(name, str) else None, None


def _manifest(reader: Reader) -> ScoredManifest:
    manifest = reader.table("manifest")
    return ScoredManifest(
        dataset=_text(manifest, "dataset", NAME_PATTERN),
        name=_text(manifest, "name", NAME_PATTERN),
        version=_text(manifest, "version", VERSION_PATTERN),
        test_digest=_text(manifest, "test_digest", DIGEST),
        fold=manifest.integer("fold", least=1, most=99),
        protocol="" if manifest.absent("protocol") else _text(manifest, "protocol", NAME_PATTERN),
        pairs=manifest.integer("pairs", least=0),
        queries=manifest.integer("queries", least=0),
        classes=tuple(
            OshpClass(table.integer("id", least=0, most=253), table.text("name"), table.text("role"))
            for table in reader.tables("classes")
        ),
    )


def _figures(reader: Reader) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    for name in reader:
        table = reader.table(name)
        said = table.everything()
        for key in ("value", "low", "high"):
            value = said.get(key, "missing")
            number = value is None or (type(value) in (int, float) and 0 <= value <= 1)
            table.wrong_if(not number, f"{key} is {shown(value)}, not a fraction from 0 to 1")
        try:
            parse_figure(name)
        except ValueError:
            continue
        queries = table.integer("queries", least=0, default=0)
        figures[name] = Figure(said.get("value"), said.get("low"), said.get("high"), queries)
    return figures


def _text(reader: Reader, key: str, pattern: re.Pattern[str]) -> str:
    value = reader.text(key)
    reader.wrong_if(value and not pattern.fullmatch(value), f"{key} {shown(value)} is malformed")
    return value
