"""oshp-manifest: shows, audits, compares and verifies manifests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oshp_bench.console import DIRECTORY, FILE, Group, echo, json_option, version_option
from oshp_bench.errors import CheckFailed, OshpError, shortened

if TYPE_CHECKING:
    from oshp_bench.manifest import Manifest
    from oshp_bench.manifest.truth import Truth

# Neither command reads a dataset unless it is asked to.
_root_option = click.option("--root", type=DIRECTORY, help="The dataset's folder, or one above it.")
_truth_option = click.option("--truth", "truth_file", type=FILE, help="The truth file.  [default: beside the manifest]")


@click.group(cls=Group)
@version_option
def main() -> None:
    """Inspects manifests. MANIFEST is a file, or the name of a shipped one such as atr_fold1."""


@main.command()
@click.argument("manifest")
@json_option
def show(manifest: str, as_json: bool) -> None:
    """Show what MANIFEST contains."""
    from oshp_bench.manifest import load_manifest
    from oshp_bench.manifest.show import describe, show_lines

    loaded = load_manifest(manifest)
    _print(describe(loaded) if as_json else show_lines(loaded))


@main.command()
@click.argument("manifest")
@_truth_option
@_root_option
@json_option
def audit(manifest: str, truth_file: Path | None, root: Path | None, as_json: bool) -> None:
    """Find the weaknesses of MANIFEST.

    Checks distinct queries, reuse, clustering, co-occurrence, source mix, leakage and class areas. Class areas come
    from the truth file, else from the masks under --root. With --root, every photo is decoded to find equal photos in
    different pools (about a minute for 15,000).
    """
    from oshp_bench.datasets.sources import find_source
    from oshp_bench.manifest import load_manifest, manifest_path
    from oshp_bench.manifest.audit import LEVELS, audit_manifest, finding_lines

    loaded = load_manifest(manifest)
    truth = _truth(loaded, manifest_path(manifest), truth_file)
    source = find_source(loaded.dataset, root) if root else None
    masks = truth.mask if truth else source.merged_mask if source and source.has_masks else None
    findings = audit_manifest(loaded, masks, source)
    if as_json:
        found = [finding.json for finding in findings]
        _print({"manifest": loaded.name, "version": loaded.version, "findings": found})
        return
    counts = {level: sum(finding.level == level for finding in findings) for level in LEVELS}
    _print([f"{loaded.name} {loaded.version}: {counts['weak']} weak, {counts['note']} to note, {counts['ok']} ok", ""])
    _print(finding_lines(findings))


@main.command()
@click.argument("a")
@click.argument("b")
@json_option
@click.pass_context
def diff(context: click.Context, a: str, b: str, as_json: bool) -> None:
    """Compare manifests A and B.

    Also says whether their scores compare. Exit code 0 if they are equal, 1 if they differ, 2 if one cannot be read.
    """
    from oshp_bench.manifest import load_manifest
    from oshp_bench.manifest.diff import difference, difference_lines

    found = difference(load_manifest(a), load_manifest(b))
    _print(found.json if as_json else difference_lines(found))
    context.exit(0 if found.equal else 1)


@main.command()
@click.argument("manifest")
@_root_option
@_truth_option
@click.option("--photos", is_flag=True, help="Decode every photo, instead of reading only its header and end.")
@json_option
@click.pass_context
def verify(
    context: click.Context, manifest: str, root: Path | None, truth_file: Path | None, photos: bool, as_json: bool
) -> None:
    """Check that MANIFEST is intact and fits its data.

    It must fit its truth file, if there is one, and the dataset, if --root is given. Exit code 0 if it does, 1 if not,
    2 if it cannot be read.
    """
    if photos and not root:
        raise OshpError("--photos reads the photos of the dataset; give --root")
    try:
        said = _verify(manifest, root, truth_file, photos)
    except CheckFailed as failed:
        if not as_json:
            raise CheckFailed(*shortened(failed.problems, rest="more problems (all with --json)")) from failed
        _print({"verified": False, "checked": [], "problems": failed.problems})
        context.exit(failed.exit_code)
    _print({"verified": True, "checked": said, "problems": []} if as_json else said)


def _verify(name: str, root: Path | None, truth_file: Path | None, photos: bool) -> list[str]:
    from oshp_bench.datasets.sources import find_source
    from oshp_bench.manifest.verify import check_intact, data_problems, listed_problems, truth_problems

    manifest, path = check_intact(name)
    source = find_source(manifest.dataset, root) if root else None
    said = [f"{manifest.name} {manifest.version} is intact: schema, digests and rules ({manifest.digest})"]
    problems: list[str] = []
    try:
        truth = _truth(manifest, path, truth_file)
    except OshpError as error:
        truth, problems = None, [*error.problems]
    if truth:
        problems += truth_problems(manifest, truth)
        said.append(f"fits its truth {truth.path}: {len(manifest.pairs.queries):,} masks")
    if source and source.has_masks:
        problems += data_problems(manifest, source, truth, photos)
        how = "decoded whole" if photos else "of the masks' sizes"
        images = sum(map(len, manifest.pools.values()))
        said.append(f"fits the dataset in {source.root}: {images:,} masks, and photos {how}")
    elif source:
        problems += listed_problems(manifest, source.presence)
        said.append(f"fits the tables in {source.root}, which has no masks")
    if problems:
        raise CheckFailed(*problems)
    return said


def _truth(manifest: Manifest, path: Path, given: Path | None) -> Truth | None:
    """The given truth file, else the one beside the manifest if there is one."""
    from oshp_bench.manifest.truth import load_truth, truth_path

    file = given or truth_path(path)
    return load_truth(file, manifest) if given or file.exists() else None


def _print(content: dict[str, Any] | Iterable[str]) -> None:
    """Prints JSON, or lines."""
    lines = [json.dumps(content, indent=1, ensure_ascii=False)] if isinstance(content, dict) else content
    for line in lines:
        echo(line)
