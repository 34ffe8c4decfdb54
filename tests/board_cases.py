"""Result files made by hand, for the tests of the board."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oshp_bench.files import content_digest, readable_json
from oshp_bench.leaderboard.entries import Entry, load_entries
from oshp_bench.manifest import load_manifest

CARD = {
    "name": "by hand",
    "authors": "Ada Example and Ben Example",
    "paper": "https://example.org/paper",
    "code": None,
    "backbone": "ResNet-50",
    "pretraining": "ImageNet-1k",
    "parameters": 23_500_000,
    "extra_data": "none",
    "date": "2026-01-31",
    "description": None,
}
# Novel, human and accuracy in k-way; novel, human and Bi-mIoU in 1-way.
FIGURES = (
    "kway/novel_miou",
    "kway/human_miou",
    "kway/overall_accuracy",
    "1way/novel_miou",
    "1way/human_miou",
    "1way/bi_miou",
)


def document(
    method: str | Mapping[str, Any] | None = "by hand",
    values: Mapping[str, float | None] | None = None,
    *,
    fold: int = 1,
    figure: float = 0.25,
    **changes: Mapping[str, Any],
) -> dict[str, Any]:
    """A result's JSON without its digest.

    Args:
        method: its name, its card, or None for a result from before results had one.
        values: figures; by default all are `figure`.
        changes: members of a table that differ, such as manifest={"version": "2.0.0"}.
    """
    values = dict.fromkeys(FIGURES, figure) if values is None else values
    content: dict[str, Any] = {
        "format": "oshp-result/1",
        "signature": "made by hand",
        "manifest": {
            "name": f"toy_fold{fold}",
            "version": "1.0.0",
            "digest": "sha256:" + "0" * 64,
            "test_digest": f"sha256:{fold:064x}",
            "dataset": "toy",
            "fold": fold,
            "protocol": "official",
            "pairs": 30,
            "queries": 10,
        },
        "predictions": {
            "digest": content_digest([method, fold, dict(values)]),
            "method": method if isinstance(method, str) else "",
            "missing": {},
        },
        "options": {"convention": "default", "level": 0.95, "resamples": 100, "seed": 0, "interval": "by hand"},
        "classes": [{"id": 0, "name": "background", "role": "background"}],
        "figures": {name: _figure(value) for name, value in values.items()},
        "diagnosis": {},
        "tool": "oshp-bench 0.0.0",
    }
    if method is not None:
        content["method"] = {"name": method} if isinstance(method, str) else dict(method)
    for table, members in changes.items():
        content[table] = {**content[table], **members}
    return content


def _figure(value: float | None) -> dict[str, float | int | None]:
    low, high = (None, None) if value is None else (max(0.0, value - 0.01), min(1.0, value + 0.01))
    return {"value": value, "low": low, "high": high, "queries": 10}


def write(path: Path, content: Mapping[str, Any]) -> Path:
    """Writes a result with the digest that fits it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(readable_json({**content, "digest": content_digest(content)}), encoding="utf-8")
    return path


def entries_of(folder: Path, *documents: Mapping[str, Any]) -> tuple[Entry, ...]:
    """The entries of these results, in order."""
    for number, content in enumerate(documents):
        write(folder / f"{number:04d}.json", content)
    return load_entries([folder])[0]


def on(manifest_name: str) -> dict[str, Any]:
    """The member "manifest" of a result on a shipped manifest."""
    manifest = load_manifest(manifest_name)
    return {
        "name": manifest.name,
        "version": manifest.version,
        "digest": manifest.digest,
        "test_digest": manifest.test_digest,
        "dataset": manifest.dataset.name,
        "fold": manifest.fold,
        "protocol": manifest.protocol["name"],
        "pairs": len(manifest.pairs),
    }
