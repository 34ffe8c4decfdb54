"""Reads manifests of unknown origin strictly, writes them, and finds the shipped ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from oshp_bench.datasets.labels import ID_PATTERN, MOST_PAIRS, NAME_PATTERN, POOLS, VERSION_PATTERN, parse_dataset
from oshp_bench.errors import OshpError, raise_problems, shortened
from oshp_bench.files import read_json, readable_json, write_text
from oshp_bench.manifest.model import MANIFEST_FORMAT, ROLES, Manifest, OshpClass, Pairs, files_json
from oshp_bench.manifest.rules import broken_rules
from oshp_bench.untrusted import Reader, shown

_MOST_IMAGES = 100_000
# Beside the package in a checkout, inside it when installed.
_SHIPPED = (Path(__file__).parents[1] / "manifests", Path(__file__).parents[2] / "manifests")


def shipped_manifests() -> dict[str, Path]:
    """The manifests that come with the package, by name."""
    return {path.stem: path for folder in reversed(_SHIPPED) for path in sorted(folder.glob("*_fold*.json"))}


def shipped_file(name: str) -> Path | None:
    """Another file that is shipped beside the manifests; None if it is not there."""
    return next((folder / name for folder in _SHIPPED if (folder / name).is_file()), None)


def manifest_path(name_or_path: str) -> Path:
    """The file of a manifest given by path or by the name of a shipped one."""
    path = Path(name_or_path)
    if path.suffix == ".json" or path.is_file():
        return path
    shipped = shipped_manifests()
    if name_or_path not in shipped:
        raise OshpError(
            f"{name_or_path}: no such file and no shipped manifest; shipped: {', '.join(shipped) or 'none'}"
        )
    return shipped[name_or_path]


def load_manifest(name_or_path: str | Path) -> Manifest:
    """Loads a manifest by path, or a shipped one by name, and checks its schema, digests and rules.

    Raises:
        OshpError: all problems.
    """
    path = manifest_path(str(name_or_path))
    manifest = parse_manifest(read_json(path), str(path))
    raise_problems(f"{path}: {problem}" for problem in broken_rules(manifest))
    return manifest


def parse_manifest(document: Any, origin: str) -> Manifest:
    """Builds a manifest from its JSON document; checks schema and digests, but not the rules.

    Raises:
        OshpError: all problems.
    """
    if not isinstance(document, dict) or document.get("format") != MANIFEST_FORMAT:
        raise OshpError(f'{origin}: not a manifest (its "format" is not "{MANIFEST_FORMAT}")')
    manifest = _parse(document, origin)
    for member, computed in (("digest", manifest.digest), ("test_digest", manifest.test_digest)):
        if document.get(member) != computed:
            raise OshpError(
                f"{origin}: {member} does not fit the content (says {shown(document.get(member))}, is {computed});"
                " the file was edited or damaged: take a fresh copy or tailor it again"
            )
    return manifest


def save_manifest(manifest: Manifest, path: Path) -> None:
    """Writes a manifest, whole or not at all; the same manifest gives the same bytes."""
    write_text(path, manifest_text(manifest))


def manifest_text(manifest: Manifest) -> str:
    """The text of a manifest's file: head first, long lists last, so that people can read and compare it."""
    content = manifest.content
    head = {key: content[key] for key in ("format", "name", "version")}
    digests = {"digest": manifest.digest, "test_digest": manifest.test_digest, "made_by": manifest.made_by}
    body = {key: value for key, value in content.items() if key not in head}
    body["dataset"] = {**body["dataset"], **files_json(manifest.dataset)}
    return readable_json({**head, **digests, **body})


def _parse(document: dict[str, Any], origin: str) -> Manifest:
    reader = Reader(document, origin)
    name, version = reader.text("name"), reader.text("version")
    reader.wrong_if(not NAME_PATTERN.fullmatch(name), f"name {shown(name)} is not lower-case letters, digits, - and _")
    reader.wrong_if(not VERSION_PATTERN.fullmatch(version), f"version {shown(version)} is not like 1.0.0")
    dataset = parse_dataset(reader.table("dataset"))
    classes = []
    for entry in reader.tables("classes"):
        classes.append(OshpClass(entry.integer("id", least=0, most=253), entry.text("name"), entry.text("role")))
        entry.wrong_if(classes[-1].role not in ROLES, f"role {shown(classes[-1].role)} is none of {', '.join(ROLES)}")
    pools = {pool: tables.table(pool) for tables in [reader.table("pools")] for pool in POOLS}
    if sum(map(len, pools.values())) > _MOST_IMAGES:
        raise OshpError(f"{origin}: more than {_MOST_IMAGES:,} images in its pools; this is not a file of ours")
    manifest = Manifest(
        name=name,
        version=version,
        dataset=dataset,
        fold=reader.integer("fold", least=1, most=99),
        protocol=reader.table("protocol").everything(),
        classes=tuple(classes),
        pools={pool: dict(_pool(table)) for pool, table in pools.items()},
        pairs=_pairs(reader.table("pairs")),
        validation=None if reader.absent("validation") else _pairs(reader.table("validation")),
        made_by=reader.text("made_by", optional=True),
    )
    for member in ("format", "digest", "test_digest"):
        reader.text(member)
    coverage = [entry.everything() for entry in reader.tables("coverage")]
    reader.unknown_members()
    raise_problems(shortened(reader.problems))
    if coverage != manifest.content["coverage"]:
        raise OshpError(f"{origin}: the coverage table does not fit the pairs")
    return manifest


def _pool(images: Reader) -> Iterator[tuple[str, tuple[int, ...] | None]]:
    for image, present in images.class_ids_by_name():
        if not ID_PATTERN.fullmatch(image):
            images.wrong(f"{shown(image)} is no image id")
        yield image, present


def _pairs(reader: Reader) -> Pairs:
    columns = Pairs(
        query=reader.texts("query"),
        support=reader.texts("support"),
        target=reader.class_id_list("class"),
        support_classes=reader.class_id_lists("support_classes"),
    )
    lengths = {len(columns.query), len(columns.support), len(columns.target), len(columns.support_classes)}
    reader.wrong_if(len(lengths) != 1, f"columns of different lengths {sorted(lengths)}")
    reader.wrong_if(max(lengths) > MOST_PAIRS, f"more than {MOST_PAIRS} pairs")
    return columns
