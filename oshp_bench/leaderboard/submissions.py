"""Packs predictions into a submission, and checks submissions of unknown origin, with the checks of the scorer."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from oshp_bench.datasets.images import ImageProblem
from oshp_bench.episodes.episodes import WAYS, way_key
from oshp_bench.episodes.writer import CARD
from oshp_bench.errors import CheckFailed, OshpError, raise_problems
from oshp_bench.files import content_digest, readable_json, written_whole
from oshp_bench.manifest import Manifest
from oshp_bench.manifest.truth import Truth
from oshp_bench.metrics.counting import DEFAULT
from oshp_bench.metrics.listing import file_names
from oshp_bench.metrics.matrices import count_predictions
from oshp_bench.metrics.method_card import read_method_card
from oshp_bench.metrics.predictions import PredictionSet, open_predictions
from oshp_bench.metrics.submission import SUBMISSION_FILE, Submission, SubmittedSet, read_index

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX, _READABLE_FILE = 3, 0o100644 << 16


@dataclass(frozen=True)
class SubmissionPart:
    """Predictions (a folder, a zip or a submission) with their manifest and truth."""

    manifest: Manifest
    truth: Truth
    predictions: Path


def pack(
    tasks: Sequence[SubmissionPart],
    method: Path,
    out: Path,
    *,
    way: str | None = None,
    convention: str = DEFAULT,
    jobs: int = 1,
) -> Submission:
    """Writes a submission. The same card and predictions give the same bytes on any machine.

    Args:
        method: the method card, a TOML file.
        way: "k" or "1" to pack only that way; None for every way that is there.
        convention: the convention that the predictions follow.

    Raises:
        OshpError: every problem of the card and of the predictions. Nothing is written then.
    """
    problems = list(_given_twice([task.manifest for task in tasks]))
    try:
        card = read_method_card(method)
    except OshpError as error:
        problems.extend(error.problems)
    digests, found = _judged(tasks, way, convention, jobs)
    raise_problems((*problems, *found))
    tasks = sorted(tasks, key=lambda task: task.manifest.name)
    sets: list[SubmittedSet] = []
    members: dict[str, Callable[[], bytes]] = {}
    for task in tasks:
        opened = open_predictions(task.predictions, way, task.manifest)
        ways = tuple(way for way in WAYS if way in opened.files)
        sets.append(SubmittedSet(task.manifest.name, task.manifest.version, task.manifest.test_digest, ways))
        members |= _members(task, opened)
    submission = Submission(card, tuple(sets))
    members[SUBMISSION_FILE] = readable_json(submission.to_json()).encode
    with written_whole(out) as file, zipfile.ZipFile(file, "w") as archive:
        written = {name: _add(archive, name, members[name]()) for name in sorted(members)}
        for task in tasks:
            if digests[task.manifest.name] != _digest_of(written, f"{task.manifest.name}/"):
                raise OshpError(f"{task.predictions}: changed while it was being packed; pack it again")
    return submission


def read_submission(path: Path) -> Submission:
    """Reads the index of a submission of unknown origin, a zip or that zip unpacked. Predictions are not read.

    Raises:
        CheckFailed: not a submission, hostile names, or every problem of submission.json.
    """
    try:
        if SUBMISSION_FILE in file_names(path):
            return read_index(path)
    except OshpError as error:
        raise CheckFailed(*error.problems) from error
    raise CheckFailed(f"{path}: contains no {SUBMISSION_FILE}; make a submission with oshp-submit pack")


def check(tasks: Sequence[SubmissionPart], *, convention: str = DEFAULT, jobs: int = 1) -> None:
    """Checks a submission.

    Args:
        tasks: one part for every manifest that the submission lists.
        convention: the convention that the predictions follow.

    Raises:
        CheckFailed: every problem for which the scorer would refuse it, one per line.
    """
    _, problems = _judged(tasks, None, convention, jobs)
    if problems:
        raise CheckFailed(*problems)


def _judged(
    tasks: Sequence[SubmissionPart], way: str | None, convention: str, jobs: int
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Counts all parts. Returns the digests of valid predictions by manifest name, and all problems."""
    digests: dict[str, str] = {}
    problems: dict[str, None] = {}
    for task in tasks:
        try:
            counted = count_predictions(
                task.manifest, task.truth, task.predictions, way=way, convention=convention, jobs=jobs
            )
        except OshpError as error:
            # A dict, since every part reports the problems of the submission itself.
            problems |= dict.fromkeys(error.problems)
        else:
            digests[task.manifest.name] = counted.digest
    return digests, tuple(problems)


def _given_twice(manifests: Sequence[Manifest]) -> Iterator[str]:
    for number, manifest in enumerate(manifests):
        for other in manifests[:number]:
            if manifest.name == other.name or manifest.test_digest == other.test_digest:
                yield (
                    f"{manifest.name} {manifest.version}: has the name or the test pairs of {other.name}"
                    f" {other.version}; a submission has one prediction set per manifest; give it once"
                )


def _members(task: SubmissionPart, predictions: PredictionSet) -> dict[str, Callable[[], bytes]]:
    """Name within the zip -> a function that reads the content."""
    top, pairs = task.manifest.name, task.manifest.pairs
    members: dict[str, Callable[[], bytes]] = {}
    if predictions.card:
        members[f"{top}/{CARD}"] = readable_json(dict(predictions.card)).encode
    for way in predictions.files:
        for name, query in zip(pairs.names, pairs.query, strict=True):
            members[f"{top}/{way_key(way)}/{name}.png"] = partial(
                _read, predictions, way, name, task.truth.sizes[query]
            )
    return members


def _read(predictions: PredictionSet, way: str, name: str, shape: tuple[int, int]) -> bytes:
    try:
        return predictions.read(way, name, shape)
    except ImageProblem as problem:
        raise OshpError(f"{predictions.place(way, name)}: {problem}") from problem


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> str:
    """Adds a file and returns its sha256. It is stored: PNGs are compressed, and deflate differs between builds."""
    member = zipfile.ZipInfo(name, _ZIP_DATE)
    member.create_system, member.external_attr = _UNIX, _READABLE_FILE
    archive.writestr(member, content)
    return hashlib.sha256(content).hexdigest()


def _digest_of(written: Mapping[str, str], top: str) -> str:
    """The digest that the scorer computes from these hashes of predictions."""
    return content_digest(
        {
            name.removeprefix(top).removesuffix(".png"): sha256
            for name, sha256 in written.items()
            if name.startswith(top) and name.endswith(".png")
        }
    )
