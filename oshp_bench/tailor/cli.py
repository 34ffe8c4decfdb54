"""oshp-tailor: makes a manifest from a dataset."""

from __future__ import annotations

import os
from pathlib import Path

import click

from oshp_bench.console import (
    DIRECTORY,
    FILE,
    Command,
    check_outputs,
    echo,
    json_option,
    out_option,
    root_option,
    version_option,
)
from oshp_bench.errors import OshpError


@click.command(cls=Command)
@click.argument("dataset", metavar="NAME|SPEC.toml")
@click.option("--fold", type=click.IntRange(1, 99), required=True, help="Which classes are novel.")
@root_option
@out_option("Folder for manifest and truth.", default=Path(), show_default="here")
@click.option("--protocol", type=click.Choice(["official", "balanced"]), default="official", show_default=True)
@click.option("--seed", type=click.IntRange(0, 10**9), default=0, show_default=True, help="For --protocol balanced.")
@click.option("--no-corrections", "raw", is_flag=True, help="Take the masks without the corrections of the spec.")
@click.option("--masks", type=DIRECTORY, help="Also write tailored training masks as PNGs into this folder.")
@click.option("--pack", type=FILE, help="Also pack training photos and masks into this HDF5 file.")
@json_option
@version_option
def main(
    dataset: str,
    fold: int,
    root: Path | None,
    out: Path,
    protocol: str,
    seed: int,
    raw: bool,
    masks: Path | None,
    pack: Path | None,
    as_json: bool,
) -> None:
    """Tailor a dataset to one-shot human parsing.

    \b
    Writes OUT/<name>.json, the manifest: classes with their roles, image pools, test pairs;
    and OUT/<name>.truth.zip, the truth of its queries, if the dataset's masks are there.

    NAME is atr, lip, cihp, ccp (the only one that can be cloned freely) or demo (the embedded one, which
    needs no download). For a dataset of your own, write a spec: docs/own_dataset.md.
    """
    from oshp_bench.datasets.labels import load_spec
    from oshp_bench.datasets.sources import find_source
    from oshp_bench.files import readable_json
    from oshp_bench.manifest import load_manifest, save_manifest, shipped_manifests
    from oshp_bench.manifest.diff import difference
    from oshp_bench.manifest.pack import write_pack
    from oshp_bench.manifest.truth import truth_path, write_truth
    from oshp_bench.tailor.build import Recipe, build_manifest
    from oshp_bench.tailor.masks import MASKS_INDEX, write_training_masks
    from oshp_bench.tailor.report import TailoringReport

    recipe = Recipe(load_spec(dataset), fold, protocol, seed, raw)
    source = find_source(recipe.tailored_spec.dataset, root)
    if (masks or pack) and not source.has_masks:
        raise OshpError(f"{source.root}: has no masks, only tables; --masks and --pack need masks")
    path = out / f"{recipe.name}.json"
    outputs = [path, truth_path(path), pack, masks and masks / MASKS_INDEX]
    check_outputs(outputs, [Path(dataset), *source.files_among(outputs)])
    # A read-only folder must be noticed before the long scan.
    out.mkdir(parents=True, exist_ok=True)
    if not os.access(out, os.W_OK):
        raise OshpError(f"{out}: cannot be written to; give another folder with --out")
    known = shipped_manifests().get(recipe.name)
    shipped = load_manifest(known) if known else None

    manifest = build_manifest(recipe, source, shipped)
    files = [path]
    if source.has_masks:
        files.append(truth_path(path))
        write_truth(manifest, source, truth_path(path))
    # After its truth, so that where there is a manifest, its truth is complete.
    save_manifest(manifest, path)
    if masks:
        write_training_masks(manifest, source, masks)
        files.append(masks)
    if pack:
        write_pack(manifest, source, pack)
        files.append(pack)
    report = TailoringReport(manifest, source, tuple(files), difference(shipped, manifest) if shipped else None)
    echo(readable_json(report.json) if as_json else "\n".join(report.lines()), nl=not as_json)
