"""Result files of unknown origin become entries: whose method, on which test pairs, with which figures."""

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


@dataclass(frozen=True)
class Entry:
    """A result on a board.

    Attributes:
        result: without its document, and with only the figures of HEADLINE.
        name: the method's; where the result says none, that of the result's folder.
        identity: equal for the results of one method: a digest of all that is said of it.
        matrices: the file of per-pair matrices beside the result, if there is one.
    """

    result: SavedResult
    name: str
    identity: str
    matrices: Path | None

    @property
    def manifest(self) -> ScoredManifest:
        """What the result was scored on."""
        return self.result.manifest

    @property
    def fold(self) -> int:
        """The fold that it was scored on."""
        return self.manifest.fold

    @property
    def test(self) -> tuple[int, str, int]:
        """Fold, test digest and number of pairs: equal if two entries were scored on the same pairs."""
        return self.fold, self.manifest.test_digest, self.manifest.pairs

    @property
    def card(self) -> MethodCard | None:
        """What its submission says of the method; None where there was none."""
        return self.result.card

    @property
    def ways(self) -> tuple[Way, ...]:
        """The ways that were scored."""
        return tuple(way for way, names in HEADLINE.items() if self.result.figures.keys() & set(names))

    @property
    def is_floor(self) -> bool:
        """Whether this is one of our methods that learn nothing; one that brings a card is somebody's own."""
        return self.card is None and self.name in named("rule")


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
        result = load_result(path)
    except OshpError:
        said = _format_of(path)
        kind = said.partition("/")[0]
        if kind == RESULT_FORMAT.partition("/")[0] and said != RESULT_FORMAT:
            raise OshpError(
                f"{path}: is {shown(said)}, and this version reads {RESULT_FORMAT}; use the oshp-bench that wrote it,"
                " or newer"
            ) from None
        if kind.startswith(_OURS) and said != RESULT_FORMAT:
            return None
        raise
    shown_figures = {name: result.figures[name] for name in chain(*HEADLINE.values()) if name in result.figures}
    if not shown_figures:
        raise OshpError(f"{path}: has none of the figures that a board shows")
    folder = path.resolve().parent
    name = result.method_name or _printable(folder.name)
    about = result.card.to_json() if result.card else [result.method_name, result.method_name or str(folder)]
    # A board may hold thousands of results, so it keeps only what it shows of each.
    kept = replace(result, document={}, figures=shown_figures)
    return Entry(kept, name, content_digest(about), _matrices_beside(path))


def _format_of(path: Path) -> str:
    """What a file that is no result says it is; "" if it says nothing."""
    try:
        document = read_json(path)
    except OshpError:
        return ""
    return str(document.get("format", "")) if isinstance(document, dict) else ""


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
        digest = entry.result.digest
        first = kept.setdefault(digest, entry)
        if first is not entry:
            notes.append(f"{entry.result.path}: the same result as {first.result.path}; it is shown once")
        if entry.matrices and not first.matrices:
            kept[digest] = entry
    return tuple(kept.values()), tuple(notes)
