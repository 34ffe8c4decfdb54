"""Measures speed and memory as ratios within one run, and prints them beside their bars.

Run: python benchmarks/speed.py        (README.md in this folder tells what the rows are)
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import textbook
from numpy.typing import NDArray
from PIL import Image
from rows import Row, print_rows, ratio, seconds
from workload import Workload, real_looking_workload

from oshp_bench.datasets.images import decode, open_image, read_mask
from oshp_bench.episodes.episodes import way_key
from oshp_bench.manifest.truth import load_truth
from oshp_bench.metrics import Resampling, Result, Shapes, count_predictions, score_matrices
from oshp_bench.metrics.intervals import query_indices, resampled_figures
from oshp_bench.metrics.scores import Statistics
from oshp_bench.metrics.scores import statistics as pair_statistics


def decode_only(work: Workload, kind: str, way: str) -> None:
    """Reads and decodes every prediction and each distinct truth mask once, as scoring does, and does nothing else."""
    for path in sorted((work.predictions[kind] / way_key(way)).iterdir()):
        decode(open_image(path.read_bytes(), ("PNG",)))
    with zipfile.ZipFile(work.truth) as truth:
        for name in truth.namelist():
            if name.endswith(".png"):
                decode(open_image(truth.read(name), ("PNG",)))


def score_all(work: Workload, kind: str, way: str | None, jobs: int = 1, shapes: Shapes | None = None) -> Result:
    """Everything from the files to the figures, without intervals; of both ways where none is named."""
    truth = load_truth(work.truth, work.manifest)
    matrices = count_predictions(work.manifest, truth, work.predictions[kind], way=way, jobs=jobs, shapes=shapes)
    return score_matrices(work.manifest, matrices, resampling=Resampling(0))


def scoring_rows(work: Workload) -> Iterator[Row]:
    for way, name in (("k", "k-way"), ("1", "1-way")):
        for kind, bar in (("real-looking", 1.4), ("noise", 2.2)):
            measured = ratio(partial(score_all, work, kind, way), partial(decode_only, work, kind, way))
            yield Row(f"scoring, {name}, {kind}, over decoding alone", measured, bar, "x")
    one, two = (partial(score_all, work, "real-looking", None, jobs) for jobs in (1, 2))
    faster = ratio(one, two, time.perf_counter)
    yield Row("scoring both ways with 1 job over 2 jobs", faster, 1.6, "x", at_least=True)
    yield Row(
        "results that differ between 1 and 2 jobs",
        float(json.dumps(one().to_json()) != json.dumps(two().to_json())),
        0,
        "",
    )


def shape_rows(work: Workload) -> Iterator[Row]:
    """Boundaries and parts over plain scoring, of both ways."""
    few = work.first(330)
    plain = partial(score_all, few, "real-looking", None)
    for name, shapes in (
        ("--boundary", Shapes(boundary=0.005)),
        ("--parts", Shapes(parts=25)),
        ("--boundary --parts", Shapes(boundary=0.005, parts=25)),
    ):
        measured = ratio(partial(plain, shapes=shapes), plain, rounds=3)
        yield Row(f"scoring with {name} over scoring", measured, 3, "x")


def textbook_rows(work: Workload) -> Iterator[Row]:
    """The textbook scorer keeps everything, so it gets the first 330 pairs, and so do we."""
    few = work.first(330)
    size = max(few.manifest.class_ids) + 1
    # A table of 18 labels, as ATR has; which classes they give costs the textbook the same.
    merge = {label: label if label < size else 0 for label in range(18)}
    pairs = few.manifest.pairs
    masks = few.source_masks

    def kway() -> None:
        queries = ((masks / f"{q}.png", masks / f"{s}.png") for q, s in zip(pairs.query, pairs.support, strict=True))
        textbook.kway_matrix(few.predictions["real-looking"] / "kway", queries, merge, size)

    def oneway() -> None:
        queries = ((masks / f"{q}.png", target) for q, target in zip(pairs.query, pairs.target, strict=True))
        textbook.oneway_matrices(few.predictions["real-looking"] / "1way", queries, merge)

    for way, name, peer in (("k", "k-way", kway), ("1", "1-way", oneway)):
        measured = ratio(peer, partial(score_all, few, "real-looking", way), rounds=3)
        yield Row(f"textbook scorer over ours, {name}", measured, 10, "x", at_least=True)
    beside = torchmetrics_ratio(few)
    if beside is not None:
        yield Row("torchmetrics' confusion matrix over ours, k-way", beside, 1, "x", at_least=True)


def torchmetrics_ratio(work: Workload) -> float | None:
    try:
        import torch
        from torchmetrics.functional.classification import multiclass_confusion_matrix
    except ImportError:
        return None
    folder = work.predictions["real-looking"] / "kway"
    truth = load_truth(work.truth, work.manifest)
    size = max(work.manifest.class_ids) + 1

    def peer() -> None:
        total = torch.zeros(size, size, dtype=torch.int64)
        for pair, query in enumerate(work.manifest.pairs.query):
            target = torch.from_numpy(truth.mask(query).astype(np.int64))
            prediction = torch.from_numpy(np.asarray(Image.open(folder / f"{pair:04d}.png")).astype(np.int64))
            total += multiclass_confusion_matrix(prediction, target, size, validate_args=False)

    return ratio(peer, partial(score_all, work, "real-looking", "k"), rounds=3)


def scan_row(work: Workload) -> Row:
    from oshp_bench.tailor.presence import find_presence

    ids = sorted(path.stem for path in work.source_masks.iterdir())

    def scan() -> None:
        find_presence(work.png_source, ids, 1)

    def masks_alone() -> None:
        for image in ids:
            read_mask(work.source_masks / f"{image}.png")

    return Row("tailoring scan over decoding alone", ratio(scan, masks_alone), 1.35, "x")


def bootstrap_rows(work: Workload) -> Iterator[Row]:
    truth = load_truth(work.truth, work.manifest)
    both = count_predictions(work.manifest, truth, work.predictions["real-looking"])
    counted = list(pair_statistics(both, work.manifest, work.manifest.pairs, "default"))
    clusterings = {
        f"{len(work.manifest.pairs.queries)} queries": query_indices(work.manifest.pairs.query),
        f"{len(work.manifest.pairs)} queries": np.arange(len(work.manifest.pairs)),
    }
    for name, query in clusterings.items():
        taken = seconds(partial(bootstrap, counted, query))
        yield Row(f"bootstrap, 10,000 resamples of all figures, {name}", taken, 3, "s")


def bootstrap(counted: list[Statistics], query: NDArray[np.intp]) -> None:
    for single in counted:
        resampled_figures(single.by_query(query), Resampling())


def memory_rows(work: Workload) -> Iterator[Row]:
    """Peak memory of scoring in a process of its own (on Linux), for all pairs and for the first fifth."""
    if not Path("/proc/self/status").exists():
        return
    peaks = []
    for part in (work.first(330), work):
        code = (
            "import sys; from pathlib import Path\n"
            "from oshp_bench.manifest import load_manifest; from oshp_bench.manifest.truth import load_truth\n"
            "from oshp_bench.manifest.store import parse_manifest; from oshp_bench.files import read_json\n"
            "from oshp_bench.metrics import count_predictions, score_matrices\n"
            "manifest = parse_manifest(read_json(Path(sys.argv[1])), sys.argv[1])\n"
            "truth = load_truth(Path(sys.argv[2]), manifest)\n"
            "matrices = count_predictions(manifest, truth, Path(sys.argv[3]))\n"
            "score_matrices(manifest, matrices)\n"
            # ru_maxrss would also count this benchmark, which the process was forked from.
            "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
        )
        arguments = [str(part.manifest_file), str(part.truth), str(part.predictions["real-looking"])]
        done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
        peaks.append(int(done.stdout) / 1024)
    yield Row(f"peak memory of scoring {len(work.manifest.pairs)} pairs", peaks[1], 250, "MiB")
    yield Row("peak memory of all pairs over a fifth of them", peaks[1] / peaks[0], 1.25, "x")


def help_row() -> Row:
    def ask() -> None:
        subprocess.run([str(Path(sys.executable).with_name("oshp-score")), "--help"], check=True, capture_output=True)

    return Row("oshp-score --help", statistics.median(seconds(ask) for _ in range(7)), 0.25, "s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="keep the generated pictures in this folder and use them again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = real_looking_workload(options.keep or Path(temporary))
        print_rows(
            work.about,
            scoring_rows(work),
            shape_rows(work),
            textbook_rows(work),
            memory_rows(work),
            iter([scan_row(work)]),
            bootstrap_rows(work),
            iter([help_row()]),
        )


if __name__ == "__main__":
    main()
