"""oshp-submit: packs predictions and a method card into one file, and checks such files."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import click

from oshp_bench.console import (
    FILE,
    Group,
    check_outputs,
    convention_option,
    echo,
    jobs_option,
    json_option,
    manifest_option,
    out_option,
    root_option,
    version_option,
    way_option,
)
from oshp_bench.errors import CheckFailed, raise_problems, shortened

if TYPE_CHECKING:
    from oshp_bench.leaderboard.submissions import SubmissionPart
    from oshp_bench.manifest import Manifest
    from oshp_bench.metrics.submission import Submission

_PATH = click.Path(exists=True, path_type=Path)
truths_option = click.option(
    "--truth",
    "truths",
    type=FILE,
    multiple=True,
    help="Truth file of each --manifest, in the same order.  [default: the file beside it, else built from --root]",
)


@click.group(cls=Group)
@version_option
def main() -> None:
    """Make and check submissions: one zip with the predictions of one method for one or more manifests."""


@main.command("template")
def template_command() -> None:
    """Print a method card to fill in: oshp-submit template > method.toml"""
    echo(Path(__file__).with_name("method.toml").read_text(encoding="utf-8"), nl=False)


@main.command("pack")
@click.argument("predictions", nargs=-1, required=True, type=_PATH)
@manifest_option("  Give one for each of PREDICTIONS, in the same order.", "manifests", required=True, multiple=True)
@click.option("--method", type=FILE, required=True, help="The method's card; oshp-submit template prints one.")
@out_option("The zip to write.", FILE, required=True)
@way_option("Pack one way only.  [default: both]")
@truths_option
@root_option
@convention_option
@jobs_option
def pack_command(
    predictions: tuple[Path, ...],
    manifests: tuple[str, ...],
    method: Path,
    out: Path,
    way: str | None,
    truths: tuple[Path, ...],
    root: Path | None,
    convention: str,
    jobs: int,
) -> None:
    """Check PREDICTIONS (folders or zips) like the scorer, and write a submission.

    Put several folds of a dataset into one submission:

    oshp-submit pack preds1 preds2 --manifest atr_fold1 --manifest atr_fold2 --method method.toml -o submission.zip
    """
    from oshp_bench.leaderboard.submissions import pack
    from oshp_bench.manifest import load_manifest, manifest_path
    from oshp_bench.manifest.truth import truth_path

    if len(predictions) != len(manifests):
        raise click.UsageError("give one --manifest for each prediction set, in the same order")
    _check_truths(truths, manifests)
    paths = [manifest_path(name) for name in manifests]
    check_outputs([out], [*predictions, method, *paths, *(truths or map(truth_path, paths))])
    loaded = [(name, load_manifest(name)) for name in manifests]
    submission = pack(_tasks(loaded, predictions, truths, root), method, out, way=way, convention=convention, jobs=jobs)
    echo(f"{click.format_filename(out)}: {submission.method.name}, {out.stat().st_size / 1e6:.1f} MB")
    _print_sets(submission)
    for name in manifests:
        echo(f"Score it: {shlex.join(('oshp-score', click.format_filename(out), '--manifest', name))}")


@main.command("check")
@click.argument("submission", type=_PATH)
@manifest_option("  Not needed for shipped ones, whose names the submission holds.", "manifests", multiple=True)
@truths_option
@root_option
@convention_option
@jobs_option
@json_option
@click.pass_context
def check_command(
    context: click.Context,
    submission: Path,
    manifests: tuple[str, ...],
    truths: tuple[Path, ...],
    root: Path | None,
    convention: str,
    jobs: int,
    as_json: bool,
) -> None:
    """Check whether oshp-score would accept SUBMISSION.

    Exit code 0: yes. 1: no, with a list of all problems. 2: a manifest or truth that is needed is missing.
    """
    from oshp_bench.leaderboard.submissions import check, read_submission
    from oshp_bench.manifest import load_manifest

    _check_truths(truths, manifests)
    given = [(name, load_manifest(name)) for name in manifests]
    said: Submission | None = None
    try:
        said = read_submission(submission)
        given.extend(
            (name, load_manifest(name)) for name in _shipped(said, submission, [manifest for _, manifest in given])
        )
        check(_tasks(given, [submission] * len(given), truths, root), convention=convention, jobs=jobs)
    except CheckFailed as failed:
        if not as_json:
            raise
        _print_verdict(said, failed.problems)
        context.exit(failed.exit_code)
    if as_json:
        _print_verdict(said, ())
        return
    echo(f"{click.format_filename(submission)}: {said.method.name}; oshp-score takes it")
    _print_sets(said)


def _check_truths(truths: Sequence[Path], manifests: Sequence[str]) -> None:
    if truths and len(truths) != len(manifests):
        raise click.UsageError("give one --truth for each --manifest, in the same order, or no --truth")


def _shipped(submission: Submission, path: Path, given: Sequence[Manifest]) -> list[str]:
    """The files of the shipped manifests that a submission needs besides those given."""
    from oshp_bench.manifest import shipped_manifests

    known = {manifest.test_digest for manifest in given} | {manifest.name for manifest in given}
    names = [listed.manifest for listed in submission.sets if not known & {listed.test_digest, listed.manifest}]
    shipped = shipped_manifests()
    unknown = [name for name in names if name not in shipped]
    raise_problems(
        shortened(
            [
                f"{path}: lists {name}, which is not a shipped manifest; give its file with --manifest"
                for name in unknown
            ]
        )
    )
    return [str(shipped[name]) for name in names]


def _tasks(
    manifests: Sequence[tuple[str, Manifest]], predictions: Sequence[Path], truths: Sequence[Path], root: Path | None
) -> list[SubmissionPart]:
    from oshp_bench.leaderboard.submissions import SubmissionPart
    from oshp_bench.manifest import manifest_path
    from oshp_bench.manifest.truth import find_truth

    return [
        SubmissionPart(manifest, find_truth(manifest, manifest_path(name), truth, root), path)
        for (name, manifest), path, truth in zip_longest(manifests, predictions, truths)
    ]


def _print_sets(submission: Submission) -> None:
    from oshp_bench.episodes.episodes import way_name

    for listed in submission.sets:
        echo(f"  {listed.manifest} {listed.version}: {' and '.join(way_name(way) for way in listed.ways)}")


def _print_verdict(submission: Submission | None, problems: Sequence[str]) -> None:
    import json

    said = submission and submission.to_json()
    echo(json.dumps({"passed": not problems, "problems": problems, "submission": said}, indent=1))
