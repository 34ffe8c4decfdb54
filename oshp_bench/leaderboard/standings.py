"""Sorts entries into tables in the form of the paper's Tables 2 to 4. Only comparable results share a table."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean, stdev

from oshp_bench.datasets.labels import builtin_specs, load_spec
from oshp_bench.episodes.episodes import Way, way_key
from oshp_bench.files import content_digest
from oshp_bench.leaderboard.entries import Entry
from oshp_bench.leaderboard.not_run import NotRun
from oshp_bench.manifest import Manifest, load_manifest, shipped_manifests
from oshp_bench.manifest.truth_digests import same_truth, shipped_digest
from oshp_bench.metrics.figures import HEADLINE
from oshp_bench.metrics.intervals import Difference
from oshp_bench.report.published import PublishedMethod, PublishedTable, published_tables

_PAPERS_RULE = "official"


@dataclass(frozen=True)
class Cell:
    """A figure as a fraction 0..1.

    Attributes:
        low, high: its interval; None for averages and published figures.
        printed: the average that the paper prints, if it is not the mean of its folds.
        spread: the standard deviation over training runs; None of a single run and for averages.
    """

    value: float
    low: float | None = None
    high: float | None = None
    printed: float | None = None
    spread: float | None = None


@dataclass(frozen=True)
class PairedTest:
    """A test of a row's C_novel in one fold against a row above.

    Attributes:
        against: the name of the row above.
        difference: this row minus that one; None if one of the two has no matrices.
        holm: the p-value corrected for the number of tests of the table (Holm); None without a p-value.
    """

    fold: int
    against: str
    difference: Difference | None
    holm: float | None = None


@dataclass(frozen=True)
class Row:
    """A method in a table.

    Attributes:
        kind: "entry", "floor", "published" or "missing".
        cells: (figure, fold) -> cell; fold None is the average over all folds, if there are several.
        entries: fold -> the results, one for each training run; empty for published rows.
        namesakes: number of rows of the table with this name.
        twins: names of the other rows with the same predictions.
        reason: why a missing row has no figures.
    """

    name: str
    kind: str
    cells: Mapping[tuple[str, int | None], Cell]
    entries: Mapping[int, tuple[Entry, ...]] = field(default_factory=dict)
    tests: tuple[PairedTest, ...] = ()
    namesakes: int = 1
    twins: tuple[str, ...] = ()
    reason: str = ""

    @property
    def entry(self) -> Entry | None:
        """One of the results; they all describe the method alike. None for published rows."""
        return next(iter(self.results), None)

    @property
    def results(self) -> tuple[Entry, ...]:
        """All results, fold by fold."""
        return tuple(entry for entries in self.entries.values() for entry in entries)

    @property
    def runs(self) -> int:
        """Number of training runs, in the fold that has most."""
        return max(map(len, self.entries.values()), default=0)

    @property
    def about_runs(self) -> str:
        """What the figures of several training runs are; "" for one."""
        return f"mean and standard deviation of {self.runs} training runs" if self.runs > 1 else ""

    @property
    def remarks(self) -> tuple[str, ...]:
        """Warnings that readers need to judge the row."""
        missing = sum(len(names) for entry in self.results for names in entry.result.missing.values())
        levels = sorted({entry.result.level for entry in self.results} - {0.95})
        said = {
            f"{missing:,} predictions are missing and count as background": missing,
            f"intervals of {' and '.join(f'{100 * level:g}' for level in levels)} %": levels,
            f"one of {self.namesakes} rows of this name": self.namesakes > 1,
            f"the same predictions as {', '.join(self.twins)}": self.twins,
            f"not run: {self.reason}": self.reason,
        }
        return tuple(text for text, holds in said.items() if holds)


@dataclass(frozen=True)
class Standing:
    """A table of one dataset, rule, manifest version, convention and way.

    Attributes:
        folds: the dataset's folds, ascending.
        convention: "" if all rows are published ones.
        tests: fold -> test digest, number of pairs, and digest of the truth ("" if it is unknown).
        known: whether its manifests are available, so that names and digests were checked.
        apart: whether another table has the same name but other test pairs or another truth, so that the digests must
            be shown.
        published: the paper's table whose rows are part of it.
    """

    dataset: str
    title: str
    protocol: str
    version: str
    convention: str
    way: Way
    folds: tuple[int, ...]
    tests: Mapping[int, tuple[str, int, str]]
    known: bool
    apart: bool
    rows: tuple[Row, ...]
    published: PublishedTable | None = None

    @property
    def figures(self) -> tuple[str, ...]:
        """The figures in the order of the columns. The first one ranks."""
        return HEADLINE[self.way]

    @property
    def columns(self) -> tuple[tuple[str, int | None], ...]:
        """The columns: for every figure all folds, then the average."""
        return tuple((figure, fold) for figure in self.figures for fold in (*self.folds, None))

    @cached_property
    def key(self) -> str:
        """A unique name for files and links."""
        apart = content_digest([*self.tests.items()])[7:19] if self.apart else ""
        parts = (self.dataset, self.protocol, self.version, self.convention, apart, way_key(self.way))
        return "-".join(part for part in parts if part)


def known_manifests(entries: Iterable[Entry], given: Sequence[str]) -> dict[str, Manifest]:
    """The shipped manifests that results name, and those that the user gives, by test digest.

    Raises:
        OshpError: a manifest cannot be read.
    """
    shipped = shipped_manifests()
    wanted = [shipped[name] for name in sorted({entry.manifest.name for entry in entries}) if name in shipped]
    loaded = [*map(load_manifest, wanted), *map(load_manifest, given)]
    return {manifest.test_digest: manifest for manifest in reversed(loaded)}


def standings(
    entries: Iterable[Entry],
    manifests: Mapping[str, Manifest],
    *,
    published: bool = True,
    not_run: Sequence[NotRun] = (),
) -> tuple[Standing, ...]:
    """All tables: the paper's datasets in its order, then other datasets by name; the paper's sampling rule first.

    Results share a table if dataset, rule, version, convention and the test pairs of every fold are the same. If two
    sets of test pairs have the same name, they get separate tables.

    Args:
        manifests: the available manifests, by test digest.
        published: adds the paper's rows to tables on the paper's test, or as tables of their own if there are none.
        not_run: methods that get a row without figures.
    """
    papers = published_tables() if published else ()
    tables = [
        table for group in _comparable(entries, manifests) for table in _tables(*group, manifests, papers, not_run)
    ]
    beside = [table.published for table in tables]
    for paper in papers:
        if paper not in beside:
            tables.extend(_paper_alone(paper))
    order = {paper.dataset: number for number, paper in enumerate(papers)}
    return tuple(
        sorted(
            tables,
            key=lambda table: (
                order.get(table.dataset, len(order)),
                table.dataset,
                table.protocol != _PAPERS_RULE,
                not table.known,
                table.key.rpartition("-")[0],
                table.way != "k",
            ),
        )
    )


def _comparable(entries: Iterable[Entry], manifests: Mapping[str, Manifest]) -> Iterator[tuple[list[Entry], bool]]:
    """Groups of comparable entries, and whether other entries have the same name but other test pairs."""
    groups: defaultdict[tuple[object, ...], list[Entry]] = defaultdict(list)
    for entry in entries:
        known = _manifest_of(entry, manifests) is not None
        scored = entry.manifest
        groups[scored.dataset, scored.protocol, scored.version, entry.result.convention, known].append(entry)
    for group in groups.values():
        yield from _apart(group, list(manifests))


def _manifest_of(entry: Entry, manifests: Mapping[str, Manifest]) -> Manifest | None:
    """An entry's manifest, if it is available and the entry describes it correctly."""
    said = entry.manifest
    manifest = manifests.get(said.test_digest)
    if manifest is None or not same_truth(entry.result.truth, shipped_digest(said.test_digest)):
        return None
    rule = manifest.protocol.get("name", "")
    held = (manifest.dataset.name, rule, manifest.version, manifest.fold, len(manifest.pairs))
    return manifest if held == (said.dataset, said.protocol, said.version, said.fold, said.pairs) else None


def _apart(group: list[Entry], order: list[str]) -> Iterator[tuple[list[Entry], bool]]:
    """Splits a group so that every fold has one set of pairs and one truth: known pairs first, then most results."""
    said = Counter((entry.test, entry.result.truth) for entry in group if entry.result.truth)
    # The truth that most results name. Results of versions before 0.2 name none and join them.
    usual = {test: truth for (test, truth), _ in sorted(said.items(), key=lambda item: (item[1], item[0]))}
    tests = [(*entry.test, entry.result.truth or usual.get(entry.test, "")) for entry in group]
    uses = Counter(tests)
    place_of = {digest: place for place, digest in enumerate(order)}
    ranked = sorted(uses, key=lambda use: (place_of.get(use[1], len(order)), -uses[use], use))
    places = {use: sum(other[0] == use[0] for other in ranked[:rank]) for rank, use in enumerate(ranked)}
    of_place: defaultdict[tuple[int, int], list[Entry]] = defaultdict(list)
    for entry, test in zip(group, tests, strict=True):
        place = places[test]
        # With several tests per fold it is unknown which belong together, so only the first ones are combined.
        of_place[place, entry.fold if place else 0].append(entry)
    for (place, _), apart in sorted(of_place.items(), key=lambda item: item[0]):
        yield apart, place > 0


def _tables(
    group: list[Entry],
    apart: bool,
    manifests: Mapping[str, Manifest],
    papers: Sequence[PublishedTable],
    not_run: Sequence[NotRun],
) -> Iterator[Standing]:
    first = group[0].manifest
    spec = load_spec(first.dataset) if first.dataset in builtin_specs() else None
    folds = tuple(sorted(spec.folds if spec else {entry.fold for entry in group}))
    held = [manifest for entry in group if (manifest := _manifest_of(entry, manifests))]
    title = held[0].dataset.title if held else spec.dataset.title if spec else first.dataset
    paper = next((table for table in papers if held and all(table.fits(manifest) for manifest in held)), None)
    for way, names in HEADLINE.items():
        rows = [_row(entries, folds, names) for entries in _methods(entry for entry in group if way in entry.ways)]
        if not rows:
            continue
        if paper:
            rows += _published_rows(paper, names)
        rows += [
            Row(method.method, "missing", {}, reason=method.reason)
            for method in not_run
            if (method.dataset, method.protocol) == (first.dataset, first.protocol) and way in method.ways
        ]
        yield Standing(
            dataset=first.dataset,
            title=title,
            protocol=first.protocol,
            version=first.version,
            convention=group[0].result.convention,
            way=way,
            folds=folds,
            tests={
                fold: (digest, pairs, truth)
                for (fold, digest, pairs), truth in sorted((entry.test, entry.result.truth) for entry in group)
            },
            known=bool(held),
            apart=apart or not held,
            rows=_ranked(rows, names, folds),
            published=paper,
        )


def _paper_alone(paper: PublishedTable) -> Iterator[Standing]:
    folds = tuple(sorted(paper.novel))
    for way, names in HEADLINE.items():
        yield Standing(
            dataset=paper.dataset,
            title=load_spec(paper.dataset).dataset.title if paper.dataset in builtin_specs() else paper.title,
            protocol=_PAPERS_RULE,
            version="",
            convention="",
            way=way,
            folds=folds,
            tests={},
            known=True,
            apart=False,
            rows=_ranked(_published_rows(paper, names), names, folds),
            published=paper,
        )


def _methods(entries: Iterable[Entry]) -> Iterator[Mapping[int, tuple[Entry, ...]]]:
    """The results of each method by fold. With two of one fold and one run, every result becomes its own row."""
    of: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        of[entry.identity].append(entry)
    for found in of.values():
        if len({(entry.fold, entry.run) for entry in found}) < len(found):
            yield from ({entry.fold: (entry,)} for entry in found)
            continue
        by_fold: defaultdict[int, list[Entry]] = defaultdict(list)
        for entry in sorted(found, key=lambda entry: (entry.fold, str(entry.run), entry.result.digest)):
            by_fold[entry.fold].append(entry)
        yield {fold: tuple(runs) for fold, runs in by_fold.items()}


def _row(entries: Mapping[int, tuple[Entry, ...]], folds: Sequence[int], names: Sequence[str]) -> Row:
    cells: dict[tuple[str, int | None], Cell] = {}
    for name in names:
        for fold, runs in entries.items():
            figures = [run.result.figures.get(name) for run in runs]
            values = [figure.value for figure in figures if figure and figure.value is not None]
            if len(values) < len(runs):
                continue
            alone = figures[0]
            if alone and len(values) == 1:
                cells[name, fold] = Cell(values[0], alone.low, alone.high)
            else:
                cells[name, fold] = Cell(fmean(values), spread=stdev(values))
        values = [cells[name, fold].value for fold in folds if (name, fold) in cells]
        if 1 < len(values) == len(folds):
            cells[name, None] = Cell(sum(values) / len(values))
    first = next(iter(entries.values()))[0]
    return Row(first.name, "floor" if first.is_floor else "entry", cells, entries)


def _published_rows(paper: PublishedTable, names: Sequence[str]) -> list[Row]:
    """The paper's methods that have a figure among these: its k-way columns hold dashes for methods of 1-way alone."""
    return [row for row in (_published_row(method, names) for method in paper.methods) if row.cells]


def _published_row(method: PublishedMethod, names: Sequence[str]) -> Row:
    cells: dict[tuple[str, int | None], Cell] = {}
    for name in names:
        figure = method.figures.get(name)
        if figure:
            # The paper prints one decimal of a percent; rounding removes the error of dividing by 100.
            cells |= {(name, fold): Cell(round(value, 4)) for fold, value in figure.folds.items()}
            printed = round(figure.printed_average, 4) if figure.corrected else None
            cells[name, None] = Cell(round(figure.average, 4), printed=printed)
    return Row(method.name, "published", cells)


def _ranked(rows: Iterable[Row], names: Sequence[str], folds: Sequence[int]) -> tuple[Row, ...]:
    """Sorts rows: best average first, then by folds, then by the other figures."""

    def rank(row: Row) -> tuple[object, ...]:
        cells = [row.cells.get((name, fold)) for name in names for fold in (None, *folds)]
        return (*((cell is None, -cell.value if cell else 0.0) for cell in cells), row.kind, row.name, _digests(row))

    rows = sorted(rows, key=rank)
    times = Counter(row.name for row in rows if row.kind != "published")
    owners: defaultdict[tuple[int, str], dict[str, None]] = defaultdict(dict)
    for row in rows:
        for predictions in _predictions(row):
            owners[predictions][row.name] = None
    return tuple(replace(row, namesakes=times.get(row.name, 1), twins=_twins(row, owners)) for row in rows)


def _predictions(row: Row) -> list[tuple[int, str]]:
    """Fold and digest of a row's predictions; figures that were counted from arrays have no digest."""
    return [(entry.fold, entry.result.predictions) for entry in row.results if entry.result.predictions]


def _twins(row: Row, owners: Mapping[tuple[int, str], Mapping[str, None]]) -> tuple[str, ...]:
    """The names of other rows with a row's predictions."""
    names = (name for predictions in _predictions(row) for name in owners[predictions])
    return tuple(dict.fromkeys(name for name in names if name != row.name))


def _digests(row: Row) -> tuple[str, ...]:
    return tuple(entry.result.digest for entry in row.results)
