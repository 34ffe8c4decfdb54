"""Result files of unknown origin become entries: whose method, on which test pairs, with which figures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oshp_bench.datasets.labels import NAME_PATTERN, VERSION_PATTERN
from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.files import content_digest, read_json
from oshp_bench.metrics.counting import CONVENTIONS
from oshp_bench.metrics.figures import HEADLINE
from oshp_bench.metrics.method_card import MethodCard
from oshp_bench.metrics.result import FORMAT, Figure, load_result
from oshp_bench.untrusted import Reader, shown

MOST_FILES = 20_000
# What learns nothing: the floor of every table.
FLOOR = ("background", "class-prior", "copy-support")
_OURS = "oshp-"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """A result, as far as a board shows it.

    Attributes:
        path: the result file.
        digest: of the result.
        name: the method's.
        card: what its submission says of the method; None where there was none.
        identity: equal for the results of one method: a digest of all that is said of it.
        protocol: the sampling rule's name, "" if the manifest has none.
        pairs, queries: how many were scored.
        predictions: the digest of the predictions.
        figures: of HEADLINE, those that the result has.
        level: of the intervals, 0..1.
        missing: predictions that were missing and count as background.
        tool: name and version of the scorer.
        matrices: the file of per-pair matrices beside the result, if there is one.
    """

    path: Path
    digest: str
    name: str
    card: MethodCard | None
    identity: str
    dataset: str
    manifest: str
    version: str
    test_digest: str
    fold: int
    protocol: str
    convention: str
    predictions: str
    pairs: int
    queries: int
    figures: Mapping[str, Figure]
    level: float
    missing: int
    tool: str
    matrices: Path | None

    @property
    def ways(self) -> tuple[str, ...]:
        """The ways that were scored: "k", "1" or both."""
        return tuple(way for way, names in HEADLINE.items() if self.figures.keys() & set(names))

    @property
    def is_floor(self) -> bool:
        """Whether this is a method of the floor; one that brings a card is somebody's own."""
        return self.card is None and self.name in FLOOR


def load_entries(paths: Sequence[Path]) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """Reads all results among files and in folders.

    In folders, other files of this tool (manifests, comparisons) are passed over.

    Returns:
        The entries in order of their files, every result once; and notes on those that stand there twice.

    Raises:
        OshpError: every problem of every file, a line each.
    """
    entries: list[Entry] = []
    problems: list[str] = []
    for path in _files(paths, problems):
        try:
            entry = _load(path)
        except OshpError as error:
            problems.extend(error.problems)
            continue
        if entry:
            entries.append(entry)
    if not entries and not problems:
        problems.append(f"{', '.join(map(str, paths))}: no result there; oshp-score --out writes result.json")
    raise_problems(problems)
    return _without_copies(entries)


def _files(paths: Sequence[Path], problems: list[str]) -> list[Path]:
    found: dict[Path, Path] = {}
    for path in paths:
        inside = sorted(path.rglob("*.json")) if path.is_dir() else [path]
        hidden = {each for each in inside if any(part.startswith(".") for part in each.relative_to(path).parts)}
        if path.is_dir() and len(inside) == len(hidden):
            problems.append(f"{path}: holds no .json file; give files or folders of results (oshp-score --out)")
        found |= {each.resolve(): each for each in inside if each not in hidden}
    if len(found) > MOST_FILES:
        problems.append(f"{len(found):,} files are more than the {MOST_FILES:,} that a board holds")
        return []
    return list(found.values())


def _load(path: Path) -> Entry | None:
    try:
        document = load_result(path)
    except OshpError:
        said = _format_of(path)
        kind = said.partition("/")[0]
        if kind == FORMAT.partition("/")[0] and said != FORMAT:
            raise OshpError(
                f"{path}: is {shown(said)}, and this version reads {FORMAT}; use the oshp-bench that wrote it, or newer"
            ) from None
        if kind.startswith(_OURS) and said != FORMAT:
            return None
        raise
    return _entry(path, document)


def _format_of(path: Path) -> str:
    """What a file that is no result says it is; "" if it says nothing."""
    try:
        document = read_json(path)
    except OshpError:
        return ""
    return str(document.get("format", "")) if isinstance(document, dict) else ""


def _entry(path: Path, document: dict[str, Any]) -> Entry:
    reader = Reader(document, str(path))
    manifest, options, predictions = (reader.table(key) for key in ("manifest", "options", "predictions"))
    convention, level = options.text("convention"), options.everything().get("level")
    options.wrong_if(convention not in CONVENTIONS, f"convention {shown(convention)} is not known here")
    options.wrong_if(not isinstance(level, float) or not 0 < level < 1, f"level is {shown(level)}, not between 0 and 1")
    said, figures = document["method"], document["figures"]
    name = said.get("name")
    entry = Entry(
        path=path,
        digest=reader.text("digest"),
        name=name or _printable(path.resolve().parent.name),
        card=MethodCard(**{key: said.get(key) for key in MethodCard.__dataclass_fields__}) if len(said) > 1 else None,
        identity=content_digest(said if name else str(path.resolve().parent)),
        dataset=_text(manifest, "dataset", NAME_PATTERN),
        manifest=_text(manifest, "name", NAME_PATTERN),
        version=_text(manifest, "version", VERSION_PATTERN),
        test_digest=_text(manifest, "test_digest", _DIGEST),
        fold=manifest.integer("fold", least=1, most=99),
        protocol="" if manifest.absent("protocol") else _text(manifest, "protocol", NAME_PATTERN),
        convention=convention,
        predictions=_text(predictions, "digest", _DIGEST),
        pairs=manifest.integer("pairs", least=0),
        queries=manifest.integer("queries", least=0),
        figures={name: _figure(figures[name]) for names in HEADLINE.values() for name in names if name in figures},
        level=level if isinstance(level, float) else 0.0,
        missing=sum(len(names) for _, names in predictions.table("missing").lists_of_text()),
        tool=_printable(reader.text("tool")),
        matrices=_matrices_beside(path),
    )
    reader.wrong_if(not entry.ways, "has none of the figures that a board shows")
    raise_problems(reader.problems)
    return entry


def _figure(said: Mapping[str, Any]) -> Figure:
    return Figure(said["value"], said["low"], said["high"])


def _text(reader: Reader, key: str, pattern: re.Pattern[str]) -> str:
    value = reader.text(key)
    reader.wrong_if(value and not pattern.fullmatch(value), f"{key} {shown(value)} is not written as ours are")
    return value


def _printable(text: str) -> str:
    return "".join(sign for sign in text if sign.isprintable())[:100] or "unnamed"


def _matrices_beside(path: Path) -> Path | None:
    """oshp-score writes result.json and matrices.npz; collected results have names of their own: a.json and a.npz."""
    names = [path.with_suffix(".npz"), *([path.with_name("matrices.npz")] if path.stem == "result" else [])]
    return next((each for each in names if each.is_file()), None)


def _without_copies(entries: Iterable[Entry]) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    kept: dict[str, Entry] = {}
    notes: list[str] = []
    for entry in entries:
        first = kept.setdefault(entry.digest, entry)
        if first is not entry:
            notes.append(f"{entry.path}: the same result as {first.path}; it is shown once")
        if entry.matrices and not first.matrices:
            kept[entry.digest] = entry
    return tuple(kept.values()), tuple(notes)
