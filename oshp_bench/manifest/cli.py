"""oshp-manifest: what is in a manifest, what is weak in it, what differs between two, is it intact."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oshp_bench.console import DIRECTORY, FILE, Group, progress
from oshp_bench.errors import CheckFailed, OshpError, shortened
from oshp_bench.version import __version__

if TYPE_CHECKING:
    from oshp_bench.manifest import Manifest
    from oshp_bench.manifest.truth import Truth


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs instead of text for people.")
root_option = click.option("--root", type=DIRECTORY, help="The dataset's folder, or one above it.")
truth_option = click.option("--truth", "truth_file", type=FILE, help="The truth file.  [default: beside the manifest]")


@click.group(cls=Group)
@click.version_option(__version__, prog_name="oshp-bench")
def main() -> None:
    """Looks into manifests. MANIFEST is a file, or the name of a shipped one such as atr_fold1."""


@main.command()
@click.argument("manifest")
@as_json
def show(manifest: str, as_json: bool) -> None:
    """Tell what is in MANIFEST."""
    from oshp_bench.manifest import load_manifest
    from oshp_bench.manifest.show import describe, show_lines

    loaded = load_manifest(manifest)
    _print(describe(loaded) if as_json else show_lines(loaded))


@main.command()
@click.argument("manifest")
@truth_option
@root_option
@as_json
def audit(manifest: str, truth_file: Path | None, root: Path | None, as_json: bool) -> None:
    """Tell what is weak in MANIFEST.

    Looks at distinct queries, reuse, clustering, co-occurrence, source mix, leakage and class areas. Class areas are
    taken from the truth file, else from the masks under --root. With --root, every photo is decoded to find equal
    ones in different pools (a minute or so for 15,000).
    """
    from oshp_bench.datasets.sources import find_source
    from oshp_bench.manifest import load_manifest, manifest_path
    from oshp_bench.manifest.audit import LEVELS, finding_lines
    from oshp_bench.manifest.audit import audit as look

    loaded = load_manifest(manifest)
    truth = _truth(loaded, manifest_path(manifest), truth_file)
    source = find_source(loaded.dataset, root) if root else None
    masks = truth.mask if truth else source.merged_mask if source and source.has_masks else None
    findings = look(loaded, masks, source, lambda images: progress(images, "photos"))
    if as_json:
        _print({"manifest": loaded.name, "version": loaded.version, "findings": [each.json for each in findings]})
        return
    counts = {level: sum(each.level == level for each in findings) for level in LEVELS}
    _print([f"{loaded.name} {loaded.version}: {counts['weak']} weak, {counts['note']} to note, {counts['ok']} ok", ""])
    _print(finding_lines(findings))


@main.command()
@click.argument("a")
@click.argument("b")
@as_json
@click.pass_context
def diff(context: click.Context, a: str, b: str, as_json: bool) -> None:
    """Tell what differs between A and B.

    Also tells whether their scores compare. Exit code 0 if they are equal, 1 if they differ, 2 if one cannot be read.
    """
    from oshp_bench.manifest import load_manifest
    from oshp_bench.manifest.diff import difference, difference_lines

    found = difference(load_manifest(a), load_manifest(b))
    _print(found.json if as_json else difference_lines(found))
    context.exit(0 if found.equal else 1)


@main.command()
@click.argument("manifest")
@root_option
@truth_option
@click.option("--photos", is_flag=True, help="Decode every photo whole; else only its header and end are read.")
@as_json
@click.pass_context
def verify(
    context: click.Context, manifest: str, root: Path | None, truth_file: Path | None, photos: bool, as_json: bool
) -> None:
    """Tell whether MANIFEST is intact and fits.

    It must fit its truth file, where there is one, and the dataset, where --root is given. Exit code 0 if so, 1 if
    not, 2 if it cannot be read at all.
    """
    if photos and not root:
        raise OshpError("--photos reads the dataset's photos; give --root")
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
    from oshp_bench.manifest.verify import (
        check_intact,
        data_problems,
        images_of,
        listed_problems,
        truth_problems,
    )

    manifest, path = check_intact(name)
    source = find_source(manifest.dataset, root) if root else None
    said = [f"{manifest.name} {manifest.version} is intact: schema, digests and rules ({manifest.digest})"]
    problems: list[str] = []
    try:
        truth = _truth(manifest, path, truth_file)
    except OshpError as error:
        truth, problems = None, [*error.problems]
    if truth:
        problems += truth_problems(manifest, truth, progress(manifest.pairs.queries, "truth"))
        said.append(f"fits its truth {truth.path}: {len(manifest.pairs.queries):,} masks")
    if source and source.has_masks:
        images = images_of(manifest)
        problems += data_problems(manifest, source, truth, photos, progress(images, "images"))
        how = "decoded whole" if photos else "of the masks' sizes"
        said.append(f"fits the dataset in {source.root}: {len(images):,} masks, and photos {how}")
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
        click.echo(line)
