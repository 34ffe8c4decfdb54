"""Describes a manifest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from oshp_bench.datasets.labels import POOLS
from oshp_bench.errors import printable
from oshp_bench.manifest.model import Manifest, Pairs


def describe(manifest: Manifest) -> dict[str, Any]:
    """A manifest as JSON: head, classes with their labels, counts of pools and pairs, coverage."""
    background, *others = manifest.dataset.classes
    # Removed labels are listed apart from background's own label.
    labels = {0: background.labels[:1], **{spec.id: spec.labels for spec in others}}
    return {
        "name": manifest.name,
        "version": manifest.version,
        "digest": manifest.digest,
        "test_digest": manifest.test_digest,
        "made_by": manifest.made_by,
        "dataset": {"name": manifest.dataset.name, "title": manifest.dataset.title},
        "fold": manifest.fold,
        "protocol": dict(manifest.protocol),
        "classes": [
            {"id": spec.id, "name": spec.name, "role": spec.role, "labels": list(labels[spec.id])}
            for spec in manifest.classes
        ],
        "removed_labels": list(background.labels[1:]),
        "pools": {pool: _pool(manifest.pools[pool].values()) for pool in POOLS},
        "pairs": _pairs(manifest.pairs),
        "validation": None if manifest.validation is None else _pairs(manifest.validation),
        "coverage": [dict(row) for row in manifest.coverage],
    }


def show_lines(manifest: Manifest) -> Iterator[str]:
    """A manifest as lines for people."""
    shown = describe(manifest)
    pairs, validation = shown["pairs"], shown["validation"]
    yield from columns(
        [
            ["manifest", f"{manifest.name} {manifest.version}{manifest.made_by and f', made by {manifest.made_by}'}"],
            ["dataset", f"{manifest.dataset.title}, fold {manifest.fold}"],
            ["digest", manifest.digest],
            ["test digest", manifest.test_digest],
            ["pairs", _counted(pairs)],
            ["validation", _counted(validation) if validation else "none"],
            ["removed", ", ".join(shown["removed_labels"]) or "no label"],
        ]
    )
    yield from ("", "protocol")
    yield from columns([[f"  {key}", on_one_line(value)] for key, value in manifest.protocol.items()])
    yield from ("", "classes")
    yield from columns(
        [
            ["  id", "name", "role", "labels"],
            *([f"  {spec['id']}", spec["name"], spec["role"], ", ".join(spec["labels"])] for spec in shown["classes"]),
        ]
    )
    yield from ("", "pools")
    yield from columns(
        [
            ["  pool", "images", "classes known", "first", "last"],
            *(
                [f"  {pool}", counts["images"], counts["classes_known"], *_ends(manifest.pools[pool])]
                for pool, counts in shown["pools"].items()
            ),
        ]
    )
    yield from ("", "coverage")
    heads = [key.replace("_", " ") for key in manifest.coverage[0]]
    rows = [[f"  {name}", *figures] for name, *figures in (row.values() for row in manifest.coverage)]
    yield from columns([[f"  {heads[0]}", *heads[1:]], *rows])


def columns(rows: Iterable[Sequence[object]]) -> list[str]:
    """Rows as aligned lines; numbers are aligned to the right, fractions written as percent."""
    rows = list(rows)
    cells = [[_cell(value) for value in row] for row in rows]
    right = [any(isinstance(value, int | float) for value in column) for column in zip(*rows, strict=True)]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]


def on_one_line(value: object) -> str:
    """A JSON value on one line, as people write it."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, Mapping):
        return ", ".join(f"{on_one_line(key)} {on_one_line(member)}" for key, member in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(on_one_line, value)) or "none"
    return printable(str(value))


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{100 * value:.2f} %" if 0 < value < 0.01 else f"{100 * value:.1f} %"
    return f"{value:,}" if type(value) is int else on_one_line(value)


def _pool(present: Iterable[tuple[int, ...] | None]) -> dict[str, int]:
    known = [classes is not None for classes in present]
    return {"images": len(known), "classes_known": sum(known)}


def _pairs(pairs: Pairs) -> dict[str, int]:
    return {"pairs": len(pairs), "queries": len(pairs.queries), "supports": len(set(pairs.support))}


def _counted(counts: Mapping[str, int]) -> str:
    return f"{counts['pairs']:,} of {counts['queries']:,} queries and {counts['supports']:,} supports"


def _ends(images: Mapping[str, object]) -> tuple[str, str]:
    names = list(images)
    return names[0], names[-1]
