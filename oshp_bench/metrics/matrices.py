"""Counts predictions into confusion matrices, one per pair. Everything else is computed from these."""

from __future__ import annotations

import json
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from oshp_bench.console import progress
from oshp_bench.datasets.images import MAX_PIXELS, Mask
from oshp_bench.episodes.episodes import WAYS, way_key
from oshp_bench.episodes.writer import CARD, DIGEST_DIGITS
from oshp_bench.errors import OshpError, raise_problems, shortened
from oshp_bench.files import (
    BOUNDED_ZIP_METHODS,
    BROKEN_ZIP,
    DIGEST,
    content_digest,
    open_zip,
    parse_json,
    written_whole,
)
from oshp_bench.manifest import Manifest, Pairs
from oshp_bench.manifest.truth import Truth
from oshp_bench.manifest.truth_digests import shipped_digest
from oshp_bench.metrics.confusion import Counts, PreparedTruth, prepare_truth
from oshp_bench.metrics.counting import CONVENTIONS, DEFAULT, PairCounter, QueryCounter, count_queries
from oshp_bench.metrics.method_card import MethodCard, method_card, name_problem
from oshp_bench.metrics.predictions import PredictionSet, open_predictions
from oshp_bench.metrics.shapes import BESIDE, BOUNDARY, PARTS, PLAIN, Shapes, beside_key, prepare_shapes
from oshp_bench.metrics.suspicions import suspicions
from oshp_bench.untrusted import Reader, shown

_FORMAT = "oshp-matrices/1"
# What numpy raises for a damaged .npz. It parses array headers as Python source.
_BROKEN_NPZ = (
    *BROKEN_ZIP,
    TypeError,
    AttributeError,
    MemoryError,
    OverflowError,
    SyntaxError,
    tokenize.TokenError,
)


@dataclass(frozen=True)
class Matrices:
    """Per-pair confusion matrices in pixels, rows by truth, before C_s is applied.

    Attributes:
        kway: int64 [pairs, C, C + 1] or None. Rows and columns are in the order of the manifest's class ids. The last
            column counts labels that the merge removed, which only the convention official-2023 allows.
        oneway: int64 [pairs, C, 2] or None. Columns are predicted background and foreground.
        stride4_classes: support id -> its C_s in the convention official-2023.
        missing: way -> names of pairs without a prediction, counted as all background.
        digest: of the prediction files.
        method: the method's name, "" if predictions.json does not give it.
        card: the submission's method card, None if the predictions are not part of a submission.
        truth: the digest of the truth's pixels; "" if they were counted from arrays, or by a version before 0.2.
        notes: what looks like a mistake in the predictions, one line each. No figure depends on them.
        shapes: what was counted beside the confusion matrices.
        beside: these counts, "kway_boundary" -> int64 [pairs, ...]; PairCounter.count_shapes defines them.
    """

    kway: Counts | None
    oneway: Counts | None
    stride4_classes: Mapping[str, tuple[int, ...]]
    missing: Mapping[str, tuple[str, ...]]
    digest: str
    method: str = ""
    card: MethodCard | None = None
    truth: str = ""
    notes: tuple[str, ...] = ()
    shapes: Shapes = PLAIN
    beside: Mapping[str, Counts] = field(default_factory=dict)

    def of(self, way: str) -> Counts | None:
        """The matrices of a way, "k" or "1"."""
        return self.kway if way == "k" else self.oneway

    def beside_of(self, way: str, kind: str) -> Counts | None:
        """What was counted beside the confusion matrices of a way: "boundary" or "parts"."""
        return self.beside.get(beside_key(way, kind))


class Accumulator:
    """Fills matrices from arrays, pair by pair, for example in a training loop.

    Args:
        manifest: the manifest with the classes.
        pairs: the pairs that are scored, for example `manifest.pairs` or `manifest.validation`.
        convention: "default" or "official-2023".
        shapes: what is counted beside confusion matrices.
    """

    def __init__(
        self, manifest: Manifest, pairs: Pairs, convention: str = DEFAULT, shapes: Shapes | None = None
    ) -> None:
        self._counter = PairCounter.of(manifest, convention, shapes or PLAIN)
        self._counts: dict[str, dict[int, Counts]] = {}
        self._pairs = pairs

    def add(self, way: str, pair: int, truth: PreparedTruth | Mask, prediction: Mask) -> None:
        """Counts a prediction.

        Args:
            way: "k" or "1".
            pair: the pair's index.
            truth: the query's mask after the merge, uint8 [H, W] of class ids, 255 = ignore; or the same mask prepared
                by prepare_truth.
            prediction: uint8 [H, W] of class ids (k-way) or {0, v} (1-way).

        Raises:
            ImageProblem: the prediction has another size than the truth, or illegal labels.
            ValueError: the truth is not such a mask.
        """
        if not isinstance(truth, PreparedTruth):
            truth = prepare_truth(truth, self._counter.class_ids)
        counts = {way_key(way): self._counter.count(way, truth, prediction)}
        if self._counter.shapes != PLAIN:
            shaped = prepare_shapes(truth.mask, self._counter.class_ids, self._counter.shapes)
            counts |= self._counter.count_shapes(way, shaped, prediction)
        for member, values in counts.items():
            self._counts.setdefault(member, {})[pair] = values

    def matrices(self, stride4_classes: Mapping[str, tuple[int, ...]] | None = None) -> Matrices:
        """The matrices of all pairs. A way without any counted pair is None.

        Args:
            stride4_classes: support id -> truth.stride4_classes of its mask. Only k-way in official-2023 needs it.

        Raises:
            OshpError: only some pairs of a way were counted.
        """
        stacked: dict[str, Counts] = {}
        for member, counts in self._counts.items():
            if counts.keys() != set(range(len(self._pairs))):
                raise OshpError(f"{member}: {len(counts)} of {len(self._pairs)} pairs were counted; count all")
            stacked[member] = np.stack([counts[pair] for pair in range(len(self._pairs))])
        kway, oneway = (stacked.pop(way_key(way), None) for way in WAYS)
        return Matrices(kway, oneway, stride4_classes or {}, {}, "", shapes=self._counter.shapes, beside=stacked)


def count_predictions(
    manifest: Manifest,
    truth: Truth,
    path: Path,
    *,
    way: str | None = None,
    convention: str = DEFAULT,
    shapes: Shapes | None = None,
    allow_missing: bool | int = False,
    jobs: int = 1,
) -> Matrices:
    """Checks and counts a folder or zip of predictions, or a submission's predictions for the manifest.

    Args:
        way: "k", "1", or None for every way that is there.
        shapes: what is counted beside confusion matrices.
        allow_missing: counts missing predictions as all background instead of refusing the set: so many of a way, with
            True up to a tenth of the pairs.
        jobs: number of processes. It does not change the result.

    Raises:
        OshpError: every problem of the set, one per line. A set with problems is not scored.
    """
    predictions = open_predictions(path, way, manifest)
    names = manifest.pairs.names
    missing = {way: tuple(name for name in names if name not in found) for way, found in predictions.files.items()}
    problems = list(_set_problems(predictions, manifest))
    allowed = len(names) // 10 if allow_missing is True else int(allow_missing)
    for folder, lacking in ((predictions.folder(way), lacking) for way, lacking in missing.items()):
        if allow_missing is False:
            problems.extend(f"{folder}: {name}.png is missing" for name in lacking)
        elif len(lacking) > allowed:
            problems.append(
                f"{folder}: {len(lacking)} of {len(names)} predictions are missing, more than {allowed}; to count them"
                f" as all background, give --allow-missing {len(lacking)}"
            )
    counter = PairCounter.of(manifest, convention, shapes or PLAIN)
    counts = {
        member: np.zeros((len(names), *shape), np.int64)
        for found in predictions.files
        for member, shape in counter.members(found).items()
    }
    digests: dict[str, str] = {}
    foregrounds: dict[int, int] = {}
    broken: list[str] = []
    counted = count_queries(QueryCounter(counter, truth, predictions, names), manifest.pairs.query, jobs)
    for part in progress(counted, "scoring", total=len(manifest.pairs.queries)):
        broken.extend(part.problems)
        digests.update(part.digests)
        foregrounds.update(part.foregrounds)
        for member, values in part.counts.items():
            counts[member][list(part.pairs)] = values
    # Queries come in any order when several processes count.
    problems.extend([*sorted(broken), *_foreign(predictions, digests)])
    if problems:
        raise OshpError(*shortened(problems))
    kway, oneway = (counts.pop(way_key(way), None) for way in WAYS)
    return Matrices(
        kway=kway,
        oneway=oneway,
        stride4_classes=truth.stride4_classes,
        missing={way: lacking for way, lacking in missing.items() if lacking},
        digest=content_digest(digests),
        method=predictions.card.get("method") or "",
        card=predictions.method,
        truth=truth.digest,
        notes=(*predictions.notes, *suspicions(manifest, kway, oneway, foregrounds)),
        shapes=counter.shapes,
        beside=counts,
    )


def save_matrices(matrices: Matrices, manifest: Manifest, convention: str, path: Path) -> None:
    """Writes matrices with everything needed to score them again. The same matrices give the same bytes."""
    about = {
        "format": _FORMAT,
        "manifest": manifest.name,
        "version": manifest.version,
        "test_digest": manifest.test_digest,
        "convention": convention,
        "predictions": matrices.digest,
        "truth": matrices.truth,
        "method": matrices.method,
        "card": matrices.card and matrices.card.to_json(),
        "missing": {way: list(names) for way, names in matrices.missing.items()},
        "stride4_classes": {support: list(classes) for support, classes in matrices.stride4_classes.items()},
        "class_ids": list(manifest.class_ids),
        **matrices.shapes.to_json(),
    }
    arrays = {way_key(way): counts for way in WAYS if (counts := matrices.of(way)) is not None}
    arrays.update(matrices.beside)
    text = np.frombuffer(json.dumps(about, sort_keys=True).encode(), np.uint8)
    with written_whole(path) as file:
        np.savez_compressed(file, allow_pickle=False, about=text, **arrays)


def load_matrices(path: Path, manifest: Manifest) -> tuple[Matrices, str]:
    """Reads a matrices file of unknown origin. Returns the matrices and the convention that they were counted in.

    Raises:
        OshpError: not a matrices file, or a file for another manifest.
    """
    pairs, size = len(manifest.pairs), len(manifest.class_ids)
    try:
        with open_zip(path, 16) as archive:
            most = 8 * pairs * size * (size + 1) + (64 << 20)
            for member in archive.infolist():
                if member.file_size > most or member.compress_type not in BOUNDED_ZIP_METHODS:
                    raise OshpError(
                        f"{path}: larger than the matrices of {manifest.name} can be; score the predictions again"
                    )
        with np.load(path, allow_pickle=False) as content:
            about = parse_json(bytes(content["about"]), str(path))
            shapes = _shapes(about)
            counter = PairCounter(manifest.class_ids, (), shapes)
            ways = [way for way in WAYS if way_key(way) in content]
            wanted = {member: shape for way in ways for member, shape in counter.members(way).items()}
            arrays = {name: content[name] for name in wanted}
        if about["format"] != _FORMAT:
            raise ValueError(f'its "format" is not "{_FORMAT}"')
        if about["test_digest"] != manifest.test_digest:
            raise OshpError(
                f"{path}: these are matrices of {shown(about['manifest'])}, not of {manifest.name} {manifest.version}"
                " (their test_digests differ); give its own manifest"
            )
        for name, counts in arrays.items():
            shape = (pairs, *wanted[name])
            if counts.dtype != np.int64 or counts.shape != shape or not _are_pixels(counts):
                raise ValueError(f"{name} is not int64 {shape} of pixel counts")
        first_of: dict[str, int] = {}
        first = [first_of.setdefault(query, pair) for pair, query in enumerate(manifest.pairs.query)]
        _check_truths(arrays, ways, first)
        if about["convention"] not in CONVENTIONS:
            raise ValueError(f"unknown convention {shown(about['convention'])}")
        missing = {way: tuple(names) for way, names in about["missing"].items()}
        if not missing.keys() <= set(WAYS) or not set().union(*missing.values()) <= set(manifest.pairs.names):
            raise ValueError("the names of missing predictions are not names of pairs")
        if problem := name_problem(about["method"]):
            raise ValueError(f"method {problem}")
        kway, oneway = (arrays.pop(way_key(way), None) for way in WAYS)
        matrices = Matrices(
            kway=kway,
            oneway=oneway,
            stride4_classes={str(key): tuple(map(int, classes)) for key, classes in about["stride4_classes"].items()},
            missing=missing,
            digest=str(about["predictions"]),
            method=about["method"] or "",
            card=_card(about, path),
            truth=_truth(about, manifest, path),
            notes=tuple(suspicions(manifest, kway, oneway, {})),
            shapes=shapes,
            beside=arrays,
        )
    except _BROKEN_NPZ as error:
        why = " ".join(str(error).split())[:200]
        raise OshpError(f"{path}: not a readable matrices file ({why}); score the predictions again") from error
    return matrices, about["convention"]


def _shapes(about: Mapping[str, Any]) -> Shapes:
    try:
        return Shapes(**{name: about[name] for name in (BOUNDARY, PARTS) if name in about})
    except OshpError as error:
        raise ValueError(error.problems[0]) from error


def _check_truths(arrays: Mapping[str, Counts], ways: Sequence[str], first: Sequence[int]) -> None:
    """Checks that counts agree about the truth, which pairs of one query share in both ways.

    Args:
        first: the first pair with the query of every pair.

    Raises:
        ValueError: they do not.
    """
    pixels = [arrays[way_key(way)].sum(axis=2) for way in ways]
    of_kind = {kind: [arrays[key] for way in ways if (key := beside_key(way, kind)) in arrays] for kind in BESIDE}
    bands = [counts.sum(axis=2) for counts in of_kind[BOUNDARY]]
    for truths in (pixels, bands, [counts[..., 0] for counts in of_kind[PARTS]]):
        if len({truth.tobytes() for truth in truths}) > 1 or any((truth != truth[first]).any() for truth in truths):
            raise ValueError("pairs of one query have different numbers of true pixels or parts")
    if any((band[:, 1:] > whole[:, 1:]).any() for band, whole in zip(bands, pixels, strict=False)):
        raise ValueError("a band holds more pixels than its class")
    if any((counts[..., 1::2] > counts[..., ::2]).any() for counts in of_kind[PARTS]):
        raise ValueError("more parts are found than there are")


def _card(about: dict[str, Any], path: Path) -> MethodCard | None:
    reader = Reader(about, str(path))
    if reader.absent("card"):
        return None
    card = method_card(reader.table("card"))
    raise_problems(reader.problems)
    return card


def _truth(about: dict[str, Any], manifest: Manifest, path: Path) -> str:
    truth: Any = about.get("truth", "")
    published = shipped_digest(manifest.test_digest)
    if truth != "" and not (isinstance(truth, str) and DIGEST.fullmatch(truth)):
        raise ValueError(f"truth {shown(truth)} is no digest")
    if published and truth != published:
        raise OshpError(
            f"{path}: counted on {'another' if truth else 'an unknown'} truth, not on the one that {manifest.name} was"
            " published with; score the predictions again"
        )
    return str(truth)


def _are_pixels(counts: Counts) -> bool:
    """Whether counts are small enough that their sums cannot overflow."""
    return bool(((counts >= 0) & (counts <= MAX_PIXELS)).all())


def _foreign(predictions: PredictionSet, digests: Mapping[str, str]) -> Iterator[str]:
    """Tells of predictions that have changed since predictions.json recorded their digests."""
    recorded = predictions.card.get("files")
    for way, files in predictions.files.items():
        said = recorded.get(way_key(way)) if isinstance(recorded, dict) else None
        if not isinstance(said, dict):
            continue
        read = {name: digests.get(f"{way_key(way)}/{name}", "") for name in files}
        other = sorted(name for name, digest in read.items() if digest and digest[:DIGEST_DIGITS] != said.get(name))
        if other:
            yield (
                f"{predictions.folder(way)}: {len(other)} of {len(files)} files, such as {other[0]}.png, are not those"
                f' that {CARD} lists; are they of another run? If they are right, remove "files" from {CARD}'
            )


def _set_problems(predictions: PredictionSet, manifest: Manifest) -> Iterator[str]:
    said = predictions.card.get("test_digest", manifest.test_digest)
    if said != manifest.test_digest:
        yield (
            f"{predictions.card_place}: these are predictions for {shown(predictions.card.get('manifest'))}, whose"
            f" test pairs differ from those of {manifest.name} {manifest.version}; give their own manifest"
        )
    problem = name_problem(predictions.card.get("method"))
    if problem:
        yield f"{predictions.card_place}: method {problem}"
    known = set(manifest.pairs.names)
    for found in predictions.files.values():
        for name in sorted(found.keys() - known):
            yield f"{predictions.path / found[name]}: {manifest.name} has no pair of this name; remove it"
    for name in predictions.extra:
        yield f"{predictions.path / name}: not a prediction; remove it"
