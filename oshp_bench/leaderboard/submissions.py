"""Packs checked predictions into a submission, and checks a submission of unknown origin; the scorer is the judge."""

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
    """Predictions (a folder, a zip or a submission), and the manifest and truth that they are held against."""

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
    """Writes a submission; the same card and predictions give the same bytes on any machine.

    Args:
        method: the method's card, a TOML file.
        way: "k" or "1" to pack that way alone; None for all there are.
        convention: the one in which the predictions are legal.

    Raises:
        OshpError: every problem of the card and of the predictions; nothing is written.
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
        ways = tuple(each for each in WAYS if each in opened.files)
        sets.append(SubmittedSet(task.manifest.name, task.manifest.version, task.manifest.test_digest, ways))
        members |= _members(task, opened)
    submission = Submission(card, tuple(sets))
    members[SUBMISSION_FILE] = readable_json(submission.to_json()).encode
    with written_whole(out) as file, zipfile.ZipFile(file, "w") as archive:
        written = {name: _add(archive, name, members[name]()) for name in sorted(members)}
        for task in tasks:
            if digests[task.manifest.name] != _digest_of(written, f"{task.manifest.name}/"):
                raise OshpError(f"{task.predictions}: changed while it was packed; pack it again")
    return submission


def read_submission(path: Path) -> Submission:
    """Reads what a zip (or that zip unpacked) of unknown origin says it holds; no prediction is read.

    Raises:
        CheckFailed: no submission, hostile, or every problem of its submission.json.
    """
    try:
        if SUBMISSION_FILE in file_names(path):
            return read_index(path)
    except OshpError as error:
        raise CheckFailed(*error.problems) from error
    raise CheckFailed(f"{path}: holds no {SUBMISSION_FILE}; make a submission with oshp-submit pack")


def check(tasks: Sequence[SubmissionPart], *, convention: str = DEFAULT, jobs: int = 1) -> None:
    """Checks a submission.

    Args:
        tasks: for every manifest that the submission names.
        convention: the one in which the predictions are legal.

    Raises:
        CheckFailed: every problem for which the scorer refuses it, a line each.
    """
    _, problems = _judged(tasks, None, convention, jobs)
    if problems:
        raise CheckFailed(*problems)


def _judged(
    tasks: Sequence[SubmissionPart], way: str | None, convention: str, jobs: int
) -> tuple[dict[str, str], tuple[str, ...]]:
    """By manifest name the digests of the predictions that the scorer takes, and the problems of the others."""
    digests: dict[str, str] = {}
    problems: dict[str, None] = {}
    for task in tasks:
        try:
            counted = count_predictions(
                task.manifest, task.truth, task.predictions, way=way, convention=convention, jobs=jobs
            )
        except OshpError as error:
            # A submission's own problems are found with each of its manifests.
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
                    f" {other.version}; a submission holds one prediction set for each"
                )


def _members(task: SubmissionPart, predictions: PredictionSet) -> dict[str, Callable[[], bytes]]:
    """Name within the zip -> what reads its content."""
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
    """Adds a file and gives its sha256. PNGs are compressed already, and what deflate gives differs between builds."""
    member = zipfile.ZipInfo(name, _ZIP_DATE)
    member.create_system, member.external_attr = _UNIX, _READABLE_FILE
    archive.writestr(member, content)
    return hashlib.sha256(content).hexdigest()


def _digest_of(written: Mapping[str, str], top: str) -> str:
    """The digest that the scorer gives predictions of these hashes."""
    return content_digest(
        {
            name.removeprefix(top).removesuffix(".png"): sha256
            for name, sha256 in written.items()
            if name.startswith(top) and name.endswith(".png")
        }
    )
