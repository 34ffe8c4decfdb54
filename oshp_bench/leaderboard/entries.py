"""Collects result files of unknown origin as entries of a board."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from oshp_bench.baselines.registry import named
from oshp_bench.episodes.episodes import Way
from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.files import content_digest, read_json
from oshp_bench.metrics.figures import HEADLINE
from oshp_bench.metrics.method_card import MethodCard
from oshp_bench.metrics.result import RESULT_FORMAT
from oshp_bench.metrics.result_file import SavedResult, ScoredManifest, load_result
from oshp_bench.untrusted import shown

MOST_FILES = 20_000
_OURS = "oshp-"
# oshp-score --out gives every result a folder of its own, and this name.
_OWN_FOLDER = "result"


@dataclass(frozen=True)
class Entry:
    """A result on a board.

    Attributes:
        result: without its document, and with only the figures of HEADLINE.
        name: the method's; where the result says none, that of the result's folder.
        identity: a digest of all that the result says about its method, so equal for results of one method, whatever
            the training run. Without a card that is a name, which two people may use: then the folder that the results
            lie in counts too.
        matrices: the file of per-pair matrices beside the result, if there is one.
    """

    result: SavedResult
    name: str
    identity: str
    matrices: Path | None

    @property
    def manifest(self) -> ScoredManifest:
        """The manifest that the result was scored on."""
        return self.result.manifest

    @property
    def fold(self) -> int:
        """The fold of the manifest."""
        return self.manifest.fold

    @property
    def test(self) -> tuple[int, str, int]:
        """Fold, test digest and number of pairs: equal if two entries were scored on the same pairs."""
        return self.fold, self.manifest.test_digest, self.manifest.pairs

    @property
    def card(self) -> MethodCard | None:
        """The method card; None if the predictions were not part of a submission."""
        return self.result.card

    @property
    def run(self) -> tuple[int | None, str | None]:
        """Seed and name of the training run, as far as the card says."""
        return (self.card.seed, self.card.run) if self.card else (None, None)

    @property
    def ways(self) -> tuple[Way, ...]:
        """The ways that were scored."""
        return tuple(way for way, names in HEADLINE.items() if self.result.figures.keys() & set(names))

    @property
    def is_floor(self) -> bool:
        """Whether this is one of our methods that learn nothing. A method with a card is somebody's own."""
        return self.card is None and self.name in named("rule")


def load_entries(paths: Sequence[Path]) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """Reads result files, and all results in folders.

    Other files of this package in folders (manifests, comparisons) are skipped.

    Returns:
        The entries in the order of their files, and notes on results that occur twice. These become one entry.

    Raises:
        OshpError: every problem of every file, one per line.
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
        problems.append(f"{', '.join(map(str, paths))}: no results there; oshp-score --out writes result.json")
    raise_problems(problems)
    return _without_copies(entries)


def _files(paths: Sequence[Path], problems: list[str]) -> list[Path]:
    found: dict[Path, Path] = {}
    for path in paths:
        inside = sorted(path.rglob("*.json")) if path.is_dir() else [path]
        hidden = {file for file in inside if any(part.startswith(".") for part in file.relative_to(path).parts)}
        if path.is_dir() and len(inside) == len(hidden):
            problems.append(f"{path}: contains no .json file; give result files or folders of them (oshp-score --out)")
        found |= {file.resolve(): file for file in inside if file not in hidden}
    if len(found) > MOST_FILES:
        problems.append(f"{len(found):,} files are more than a board can hold ({MOST_FILES:,}); give fewer")
        return []
    return list(found.values())


def _load(path: Path) -> Entry | None:
    try:
        result = load_result(path)
    except OshpError:
        said = _format_of(path)
        kind = said.partition("/")[0]
        if kind == RESULT_FORMAT.partition("/")[0] and said != RESULT_FORMAT:
            raise OshpError(
                f"{path}: is {shown(said)}, but this version reads {RESULT_FORMAT}; use the version of"
                " oshp-bench that wrote it, or a newer one"
            ) from None
        if kind.startswith(_OURS) and said != RESULT_FORMAT:
            return None
        raise
    shown_figures = {name: result.figures[name] for name in chain(*HEADLINE.values()) if name in result.figures}
    if not shown_figures:
        raise OshpError(f"{path}: has none of the figures that a board shows")
    folder = path.resolve().parent
    name = result.method_name or _printable(folder.name)
    learns_nothing = result.method_name in (*named("rule"), *named("frozen"))
    where = "" if learns_nothing else str(folder.parent if path.stem == _OWN_FOLDER and result.method_name else folder)
    about = result.card.of_method if result.card else [result.method_name, where]
    # A board may have thousands of results, so an entry keeps only what the board shows.
    kept = replace(result, document={}, figures=shown_figures)
    return Entry(kept, name, content_digest(about), _matrices_beside(path))


def _format_of(path: Path) -> str:
    """The format of a file that is not a result, "" if it has none."""
    try:
        document = read_json(path)
    except OshpError:
        return ""
    return str(document.get("format", "")) if isinstance(document, dict) else ""


def _printable(text: str) -> str:
    return "".join(sign for sign in text if sign.isprintable())[:100] or "unnamed"


def _matrices_beside(path: Path) -> Path | None:
    """The matrices beside a result: matrices.npz beside result.json, or a.npz beside a.json."""
    names = [path.with_suffix(".npz"), *([path.with_name("matrices.npz")] if path.stem == _OWN_FOLDER else [])]
    return next((file for file in names if file.is_file()), None)


def _without_copies(entries: Iterable[Entry]) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    kept: dict[str, Entry] = {}
    notes: list[str] = []
    for entry in entries:
        digest = entry.result.digest
        first = kept.setdefault(digest, entry)
        if first is not entry:
            notes.append(f"{entry.result.path}: the same result as {first.result.path}; it is shown once")
        if entry.matrices and not first.matrices:
            kept[digest] = entry
    return tuple(kept.values()), tuple(notes)
