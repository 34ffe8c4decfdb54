"""What oshp-tailor prints when it is done, for programs and for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from oshp_bench.datasets.labels import POOLS
from oshp_bench.datasets.sources import Source
from oshp_bench.manifest import Manifest
from oshp_bench.manifest.diff import ManifestDifference, difference_lines
from oshp_bench.manifest.show import columns

# The protocol "balanced" notes classes with fewer distinct queries.
_FEW_QUERIES = 50
_COLUMNS = ("role", "pairs", "queries", "supports", "most_uses_of_a_support", "pairs_with_class_in_both")
_HEADINGS = ("  class", "role", "pairs", "queries", "supports", "most uses of one", "pairs with it in both")


@dataclass(frozen=True)
class TailoringReport:
    """The result of tailoring.

    Attributes:
        files: the files and folders written.
        shipped: the difference from the shipped manifest of this name (a) to this one (b); None if none is shipped.
    """

    manifest: Manifest
    source: Source
    files: tuple[Path, ...]
    shipped: ManifestDifference | None

    @property
    def json(self) -> dict[str, Any]:
        """The report as JSON members."""
        manifest = self.manifest
        return {
            "manifest": manifest.name,
            "version": manifest.version,
            "digest": manifest.digest,
            "test_digest": manifest.test_digest,
            "dataset": manifest.dataset.title,
            "root": str(self.source.root),
            "layout": self.source.layout.name,
            "fold": manifest.fold,
            "protocol": manifest.protocol["name"],
            "pools": {pool: len(manifest.pools[pool]) for pool in POOLS},
            "classes": {role: list(manifest.names_of(role)) for role in ("base", "novel")},
            "pairs": len(manifest.pairs),
            "validation_pairs": None if manifest.validation is None else len(manifest.validation),
            "coverage": list(manifest.coverage),
            "notes": list(self._notes()),
            "files": [str(path) for path in self.files],
            "shipped": None if self.shipped is None else self.shipped.json,
        }

    def lines(self) -> Iterator[str]:
        """The report for people."""
        manifest, validation = self.manifest, self.manifest.validation
        yield f"{manifest.name} {manifest.version}: {manifest.dataset.title}"
        yield from columns(
            [
                ["  from", f"{self.source.root} ({self.source.layout.name})"],
                ["  digest", manifest.digest],
                ["  test digest", manifest.test_digest],
                ["  protocol", f"{manifest.protocol['name']}, fold {manifest.fold}"],
                ["  images", ", ".join(f"{pool} {len(manifest.pools[pool]):,}" for pool in POOLS)],
                *([f"  {role}", ", ".join(manifest.names_of(role))] for role in ("base", "novel")),
                ["  pairs", f"{len(manifest.pairs):,} for the test, {len(validation or ()) or 'none'} for validation"],
            ]
        )
        yield ""
        yield from columns([_HEADINGS, *([f"  {row['class']}", *map(row.get, _COLUMNS)] for row in manifest.coverage)])
        yield ""
        yield from self._notes()
        yield from (f"wrote {path}" for path in self.files)
        if self.shipped is not None and self.shipped.equal:
            yield f"It is the shipped {manifest.name}."
        elif self.shipped is not None:
            yield f"It is not the shipped {manifest.name}; from the shipped one (a) to this one (b):"
            # This one is not published, so it breaks no promise.
            yield from (f"  {line}" for line in difference_lines(replace(self.shipped, broken_promise=False)))

    def _notes(self) -> Iterator[str]:
        manifest = self.manifest
        if manifest.protocol["name"] == "balanced":
            holders = Counter(target for classes in manifest.pools["query_test"].values() for target in classes or ())
            for target, row in zip(manifest.class_ids[1:], manifest.coverage, strict=True):
                if row["queries"] < _FEW_QUERIES:
                    yield (
                        f"{row['class']} has {row['queries']} distinct queries, fewer than {_FEW_QUERIES}: the query"
                        f" pool has {holders[target]} images of it"
                    )
            yield from _sources(manifest)
        if manifest.validation is None:
            yield "no validation pairs: the classes of the training images are unknown without their masks"
        if not self.source.has_masks:
            yield "no truth file: there are no masks; oshp-score makes it from the masks (--root)"


def _sources(manifest: Manifest) -> Iterator[str]:
    """The least and the greatest number of pairs of a class whose queries, and supports, come from every source."""
    sources = sorted({manifest.dataset.source_of(image) for image in manifest.pools["query_test"]})
    if len(sources) < 2:
        return
    for kind, images in (("queries", manifest.pairs.query), ("supports", manifest.pairs.support)):
        found = Counter(
            (target, manifest.dataset.source_of(image))
            for target, image in zip(manifest.pairs.target, images, strict=True)
        )
        shares = []
        for name in sources:
            counts = [found[target, name] for target in manifest.class_ids[1:]]
            shares.append(f"{name} {min(counts)}" + (f" to {max(counts)}" if max(counts) > min(counts) else ""))
        yield f"{kind} of a class by source: {', '.join(shares)}"
