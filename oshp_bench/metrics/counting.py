"""Counts predictions one after the other, in one process or several. Memory does not grow with their number."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from multiprocessing import get_context, parent_process

import numpy as np
from numpy.typing import NDArray

from oshp_bench.datasets.images import IGNORE, ImageProblem, Mask
from oshp_bench.datasets.runs import label_counts
from oshp_bench.episodes.episodes import way_key
from oshp_bench.errors import OshpError
from oshp_bench.manifest import Manifest
from oshp_bench.manifest.truth import Truth
from oshp_bench.metrics.boundary import banded
from oshp_bench.metrics.confusion import Counts, PreparedTruth, prepare_truth
from oshp_bench.metrics.parts import count_parts
from oshp_bench.metrics.predictions import PredictionSet, illegal_labels, read_prediction
from oshp_bench.metrics.shapes import BOUNDARY, PARTS, PLAIN, ShapedTruth, Shapes, beside_key, prepare_shapes

DEFAULT = "default"
OFFICIAL_2023 = "official-2023"
CONVENTIONS = (DEFAULT, OFFICIAL_2023)


@dataclass(frozen=True)
class PairCounter:
    """Counts one prediction against its query's truth.

    Attributes:
        class_ids: all class ids, background first.
        removed: labels that the merge removed but a prediction may hold (only in official-2023).
        shapes: what is counted beside confusion matrices.
    """

    class_ids: tuple[int, ...]
    removed: tuple[int, ...]
    shapes: Shapes = PLAIN

    @classmethod
    def of(cls, manifest: Manifest, convention: str, shapes: Shapes) -> PairCounter:
        """The counter for the classes of a manifest.

        Args:
            convention: "default" or "official-2023".

        Raises:
            OshpError: unknown convention, or a package is missing that counting needs.
        """
        shapes.check_packages()
        if convention not in CONVENTIONS:
            raise OshpError(f"unknown convention {convention!r}; choose one of {', '.join(CONVENTIONS)}")
        removed = sorted(manifest.dataset.removed_labels) if convention == OFFICIAL_2023 else []
        return cls(manifest.class_ids, tuple(removed), shapes)

    def members(self, way: str) -> dict[str, tuple[int, ...]]:
        """The shapes of all counts of a pair, by their names in a file of matrices: "kway", "kway_boundary" ..."""
        beside = self.shapes.of_pair(*self.shape(way))
        return {way_key(way): self.shape(way), **{beside_key(way, kind): shape for kind, shape in beside.items()}}

    def shape(self, way: str) -> tuple[int, int]:
        """The shape of a pair's matrix: [C, C + 1] for "k", with a last column for removed labels; [C, 2] for "1"."""
        size = len(self.class_ids)
        return (size, size + 1) if way == "k" else (size, 2)

    def count(self, way: str, truth: PreparedTruth, prediction: Mask) -> Counts:
        """The confusion matrix of a pair: int64 [C, C + 1] (k-way) or [C, 2] (1-way), rows by truth.

        Args:
            prediction: uint8 [H, W] of class ids (k-way) or {0, v} (1-way).

        Raises:
            ImageProblem: the prediction has another size than the truth, or illegal labels.
        """
        return self.count_and_largest(way, truth, prediction)[0]

    def count_and_largest(self, way: str, truth: PreparedTruth, prediction: Mask) -> tuple[Counts, int]:
        """As count, and the largest label of the prediction: in 1-way the foreground value."""
        if prediction.shape != truth.shape or prediction.dtype != np.uint8:
            raise ImageProblem(
                f"the prediction is {prediction.dtype} {prediction.shape}, not uint8 {truth.shape} like the truth"
            )
        tally = truth.tally(prediction)
        largest = int(tally.numbers.max(initial=0))
        columns = self._kway_columns if way == "k" else _oneway_columns(largest)
        # One column more than the matrix, for illegal labels, and one row more, for ignored pixels.
        size, width = len(self.class_ids), self.shape(way)[1] + 1
        keys = tally.rows * np.uint16(width)
        keys += columns.take(tally.numbers)
        joint = np.bincount(keys, tally.weights, (size + 1) * width).astype(np.int64).reshape(size + 1, width)
        if joint[:, -1].any():
            raise ImageProblem(illegal_labels(label_counts(prediction) > 0, self._legal, way))
        return joint[:size, :-1], largest

    def count_shapes(self, way: str, truth: ShapedTruth, prediction: Mask) -> dict[str, Counts]:
        """The counts of a pair beside its confusion matrix, by their names in a file of matrices.

        Args:
            prediction: one that count takes.

        Returns:
            "boundary": the confusion matrix of truth and prediction, both in their bands and background elsewhere.
            "parts": int64 [C, 3, 4], see parts.count_parts.
        """
        if way == "1":
            prediction = (prediction > 0).astype(np.uint8)
        counts: dict[str, Counts] = {}
        if truth.bands and self.shapes.boundary:
            # Ignored pixels are edges of both masks, and in no band.
            bands = truth.without_ignored(banded(truth.without_ignored(prediction, IGNORE), self.shapes.boundary), 0)
            counts[beside_key(way, BOUNDARY)] = self.count(way, truth.bands, bands)
        if truth.parts and self.shapes.parts:
            said = truth.without_ignored(prediction, 0)
            counts[beside_key(way, PARTS)] = count_parts(truth.parts, said, way, self.shapes.parts, self.class_ids)
        return counts

    @cached_property
    def _kway_columns(self) -> NDArray[np.uint8]:
        """The column of every number: that of its class, then one for removed labels, then one for illegal labels."""
        columns = np.full(256, len(self.class_ids) + 1, np.uint8)
        columns[list(self.removed)] = len(self.class_ids)
        columns[list(self.class_ids)] = np.arange(len(self.class_ids))
        return columns

    @cached_property
    def _legal(self) -> NDArray[np.bool_]:
        legal = np.zeros(256, np.bool_)
        legal[[*self.class_ids, *self.removed]] = True
        return legal


def _oneway_columns(foreground: int) -> NDArray[np.uint8]:
    """The column of every number: 0 for background, 1 for the foreground value, 2 for illegal labels."""
    columns = np.full(256, 2, np.uint8)
    columns[foreground] = 1
    columns[0] = 0
    return columns


@dataclass(frozen=True)
class QueryCounts:
    """The counts of all predictions of one query.

    Attributes:
        pairs: indices of its pairs.
        counts: name in a file of matrices -> int64 [pairs, C, ...]. Meaningless if there are problems.
        digests: "kway/0000" -> sha256 of the prediction's file; no entry for a missing one.
        problems: every problem, one per line.
        foregrounds: pair -> the foreground value of its 1-way picture, 0 if it has none.
    """

    pairs: tuple[int, ...]
    counts: dict[str, Counts] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    foregrounds: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class QueryCounter:
    """Counts all predictions of a query. Small enough to be sent to another process."""

    counter: PairCounter
    truth: Truth
    predictions: PredictionSet
    names: tuple[str, ...]

    def __call__(self, task: tuple[str, tuple[int, ...]]) -> QueryCounts:
        """Counts one query.

        Args:
            task: the query's id, and the indices of its pairs.
        """
        query, pairs = task
        found = QueryCounts(pairs)
        mask, shaped = self.truth.mask(query), None
        try:
            truth = prepare_truth(mask, self.counter.class_ids)
        except ValueError as error:
            found.problems.append(f"{self.truth.path}: {query}: {error}; make the truth again with oshp-tailor")
            return found
        if self.counter.shapes != PLAIN:
            shaped = prepare_shapes(mask, self.counter.class_ids, self.counter.shapes)
        for way, files in self.predictions.files.items():
            counts = {
                member: np.zeros((len(pairs), *shape), np.int64) for member, shape in self.counter.members(way).items()
            }
            for row, pair in enumerate(pairs):
                name = self.names[pair]
                if name not in files:
                    # A pair without a prediction counts as all background.
                    self._fill(counts, row, way, truth, shaped, np.zeros_like(mask))
                    continue
                try:
                    data = self.predictions.read(way, name, truth.shape)
                    found.digests[f"{way_key(way)}/{name}"] = hashlib.sha256(data).hexdigest()
                    # The picture gets no name here: it would stay in memory while the next one is decoded.
                    largest = self._fill(counts, row, way, truth, shaped, read_prediction(data, truth.shape))
                    if way == "1":
                        found.foregrounds[pair] = largest
                except ImageProblem as problem:
                    found.problems.append(f"{self.predictions.place(way, name)}: {problem}")
            found.counts.update(counts)
        return found

    def _fill(
        self,
        counts: Mapping[str, Counts],
        row: int,
        way: str,
        truth: PreparedTruth,
        shaped: ShapedTruth | None,
        prediction: Mask,
    ) -> int:
        """Counts a prediction into a row of all counts, and returns its largest label."""
        counts[way_key(way)][row], largest = self.counter.count_and_largest(way, truth, prediction)
        if shaped:
            for member, values in self.counter.count_shapes(way, shaped, prediction).items():
                counts[member][row] = values
        return largest


def count_queries(counter: QueryCounter, queries: Sequence[str], jobs: int) -> Iterator[QueryCounts]:
    """Counts the predictions query by query, in any order.

    Args:
        queries: the query of every pair.
        jobs: number of processes, this one included. It counts while the others start.
    """
    pairs_of: dict[str, list[int]] = {}
    for pair, query in enumerate(queries):
        pairs_of.setdefault(query, []).append(pair)
    waiting = deque((query, tuple(pairs)) for query, pairs in pairs_of.items())
    if jobs <= 1:
        yield from map(counter, waiting)
        return
    # Copies without cached open files, which cannot be sent to another process.
    fresh = replace(counter, truth=replace(counter.truth), predictions=replace(counter.predictions))
    pending: set[Future[QueryCounts]] = set()
    with ProcessPoolExecutor(jobs - 1, get_context("spawn"), _take_counter, (fresh,)) as pool:
        while waiting or pending:
            while waiting and len(pending) < 2 * (jobs - 1):
                # Submitting a task may start a process.
                with _without_interrupts():
                    pending.add(pool.submit(_count_task, waiting.popleft()))
            if waiting:
                yield counter(waiting.popleft())
            done, pending = wait(pending, timeout=0 if waiting else None, return_when=FIRST_COMPLETED)
            try:
                yield from [future.result() for future in done]
            except BrokenProcessPool as error:
                raise OshpError("a worker process was killed, perhaps for lack of memory; try fewer --jobs") from error


_worker_counter: list[QueryCounter] = []


def _take_counter(counter: QueryCounter) -> None:
    _worker_counter[:] = [counter]
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this worker when its parent is killed. Otherwise it would wait for tasks forever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Blocks Ctrl-C. Processes that start meanwhile never receive it: their parent handles it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _count_task(task: tuple[str, tuple[int, ...]]) -> QueryCounts:
    return _worker_counter[0](task)
