"""Finds the weaknesses of a manifest: what its figures cannot show, or show with less certainty than it seems."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from oshp_bench.console import progress
from oshp_bench.datasets.images import IGNORE, Mask
from oshp_bench.datasets.labels import POOLS
from oshp_bench.datasets.runs import label_counts
from oshp_bench.datasets.sources import Source
from oshp_bench.errors import OshpError
from oshp_bench.manifest.model import Manifest
from oshp_bench.manifest.show import columns, on_one_line

LEVELS = ("ok", "note", "weak")
# A figure of a class rests on too few people with fewer distinct queries than this.
_FEW_QUERIES = 50
# If the n pairs of a query score alike, an error bar over pairs is too narrow by the root of n: here 2.
_CLUSTERED = 4
# Pairs hardly distinguish two classes that occur together in this share of them.
_TOGETHER = 0.95
# A thousandth of a picture is a patch of about 20 x 20 pixels; more than this share of queries with less is weak.
_TINY, _MANY_TINY = 0.001, 0.1
# A class with this share of pairs within one source does not compare with a class with this share across sources.
_ONE_DOMAIN = 0.9


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        topic: such as "distinct queries".
        level: "ok", "note" (to know when reading figures) or "weak" (limits what figures mean).
        text: one line for people.
        figures: the numbers behind it, as JSON.
        classes: class name -> the numbers of the class, as JSON; the same members for every class.
    """

    topic: str
    level: str
    text: str
    figures: Mapping[str, Any]
    classes: Mapping[str, Mapping[str, Any]]

    @property
    def json(self) -> dict[str, Any]:
        """The finding as JSON."""
        return asdict(self)


def audit_manifest(
    manifest: Manifest, masks: Callable[[str], Mask] | None = None, source: Source | None = None
) -> list[Finding]:
    """Checks everything that can be weak in a manifest.

    Args:
        masks: gives a query's mask after the merge, for the class areas.
        source: the dataset, to find equal photos. Every photo is decoded once: about a minute for 15,000.
    """
    return [
        _queries(manifest),
        _reuse(manifest),
        _clustering(manifest),
        _together(manifest),
        _sources(manifest),
        _leakage(manifest, source),
        _areas(manifest, masks),
        _unknown(manifest),
    ]


def finding_lines(findings: Iterable[Finding]) -> Iterator[str]:
    """Findings as lines for people: the level and the text, then a table of the classes."""
    for finding in findings:
        yield f"{finding.level:<5} {finding.topic}: {finding.text}"
        if finding.classes:
            members, *others = finding.classes.values()
            rows = [[name, *map(_short, row.values())] for name, row in finding.classes.items()]
            if others and all(other == members for other in others):
                rows = [["all classes", *rows[0][1:]]]
            yield from (f"      {line}" for line in columns([["class", *members], *rows]))


def _queries(manifest: Manifest) -> Finding:
    pairs = manifest.pairs
    classes = {row["class"]: {key: row[key] for key in ("pairs", "queries", "supports")} for row in manifest.coverage}
    few = [name for name, row in classes.items() if row["queries"] < _FEW_QUERIES]
    figures = {"pairs": len(pairs), "queries": len(pairs.queries), "supports": len(set(pairs.support))}
    text = f"{figures['queries']:,} different queries and {figures['supports']:,} different supports"
    text += f" in {figures['pairs']:,} pairs"
    if few:
        text += f"; {len(few)} of {len(classes)} classes have fewer than {_FEW_QUERIES} queries"
    return Finding("distinct queries", "weak" if few else "ok", text, figures, classes)


def _reuse(manifest: Manifest) -> Finding:
    pairs = manifest.pairs
    of_a_query, of_a_support = _most(pairs.query), _most(pairs.support)
    repeated = len(pairs) - len({*zip(pairs.query, pairs.support, strict=True)})
    figures = {
        "most_pairs_of_a_query": of_a_query,
        "most_pairs_of_a_support": of_a_support,
        "repeated_in_kway": repeated,
    }
    classes = {
        name: {
            "pairs of a query": _most(pairs.query[i] for i in mine),
            "pairs of a support": _most(pairs.support[i] for i in mine),
        }
        for name, mine in _rows_of(manifest).items()
    }
    text = f"a query is used in up to {of_a_query} pairs, a support in up to {of_a_support}"
    if repeated:
        text += f"; {repeated} pairs repeat the query and support of another class and count again in k-way"
    return Finding("reuse", "note" if of_a_support > 1 else "ok", text, figures, classes)


def _clustering(manifest: Manifest) -> Finding:
    queries = manifest.pairs.query
    sizes = Counter(queries).values()
    a_query = len(queries) / len(sizes)
    neighbours = sum(a == b for a, b in pairwise(queries)) / (len(queries) - 1)
    figures = {
        "pairs_per_query": a_query,
        # Kish's effective number of clusters: equally large clusters that many would weigh as much.
        "effective_queries": len(queries) ** 2 / sum(size**2 for size in sizes),
        "neighbours_that_share_a_query": neighbours,
    }
    text = (
        f"{a_query:.1f} pairs per query, worth {figures['effective_queries']:.0f} equally used queries;"
        f" {100 * neighbours:.0f} % of neighbouring pairs share one: error bars must resample queries, not pairs"
    )
    level = "weak" if a_query >= _CLUSTERED else "note" if a_query > 1 else "ok"
    return Finding("clustering", level, text, figures, {})


def _together(manifest: Manifest) -> Finding:
    held, names, pairs = manifest.pools["query_test"], manifest.names, manifest.pairs
    classes: dict[str, dict[str, Any]] = {}
    always: dict[str, list[str]] = {}
    for name, mine in _rows_of(manifest).items():
        both = [set(pairs.support_classes[i]).intersection(held[pairs.query[i]] or ()) for i in mine]
        counts = Counter(names[target] for common in both for target in common)
        others = {other: count / len(both) for other, count in _by_count(counts).items() if other != name}
        always[name] = [other for other, share in others.items() if share >= _TOGETHER]
        classes[name] = {"most often together with": others}
    mutual = [f"{a} + {b}" for a, b in combinations(always, 2) if b in always[a] and a in always[b]]
    text = (
        f"hardly ever apart (both images hold both in {100 * _TOGETHER:.0f} % or more of the pairs of either): "
        + ", ".join(mutual)
        if mutual
        else f"no two classes are together in {100 * _TOGETHER:.0f} % of the pairs of both"
    )
    figures = {"threshold": _TOGETHER, "hardly_ever_apart": mutual, "comes_with": always}
    return Finding("co-occurrence", "note" if mutual else "ok", text, figures, classes)


def _sources(manifest: Manifest) -> Finding:
    source_of, pairs = manifest.dataset.source_of, manifest.pairs
    if not manifest.dataset.source_separator:
        return Finding("source mix", "ok", "the dataset does not distinguish sources", {}, {})
    classes: dict[str, dict[str, Any]] = {}
    for name, mine in _rows_of(manifest).items():
        within = sum(source_of(pairs.query[i]) == source_of(pairs.support[i]) for i in mine) / len(mine)
        classes[name] = {
            "in-domain": within,
            "queries from": _by_count(source_of(query) for query in {pairs.query[i] for i in mine}),
            "supports from": _by_count(source_of(support) for support in {pairs.support[i] for i in mine}),
        }
    in_pools = {pool: _by_count(map(source_of, manifest.pools[pool])) for pool in POOLS}
    figures = {
        "queries": _by_count(map(source_of, pairs.queries)),
        "supports": _by_count(map(source_of, set(pairs.support))),
    }
    within_only = [name for name, row in classes.items() if row["in-domain"] >= _ONE_DOMAIN]
    across_only = [name for name, row in classes.items() if row["in-domain"] <= 1 - _ONE_DOMAIN]
    weak = []
    tested = {*in_pools["query_test"], *in_pools["support_test"]}
    if len(figures["queries"]) < len(tested):
        found = on_one_line(list(figures["queries"]))
        weak.append(f"queries only from {found}, of {len(tested)} sources of test images")
    if within_only and across_only:
        weak.append(f"in-domain {', '.join(within_only)}, but cross-domain {', '.join(across_only)}")
    figures |= in_pools
    text = "; ".join(weak) or "queries from every source of test images, and a like mix in every class"
    return Finding("source mix", "weak" if weak else "ok", text, figures, classes)


def _leakage(manifest: Manifest, source: Source | None) -> Finding:
    pools_of: dict[str, list[str]] = defaultdict(list)
    for pool in POOLS:
        for image in manifest.pools[pool]:
            pools_of[image].append(pool)
    shared = [image for image, pools in pools_of.items() if len(pools) > 1]
    said = [f"{len(shared):,} images are in two pools" if shared else "no image is in two pools"]
    figures: dict[str, Any] = {"images_in_two_pools": shared}
    unread: list[str] = []
    groups: list[list[str]] = []
    if source is None:
        said.append("photos not compared, give --root")
    else:
        copies, unread = _copies(source, sorted(pools_of))
        groups = [group for group in copies if len({pools_of[image][0] for image in group}) > 1]
        # Pools are named query_train, ..., support_test.
        leaks = [group for group in groups if len({pools_of[image][0].endswith("test") for image in group}) > 1]
        said.append(f"{len(groups):,} photos are in two pools under two names, {len(leaks):,} in train and test")
        figures["equal_photos"] = [{image: pools_of[image] for image in group} for group in groups]
        figures["unreadable_photos"] = unread
        if unread:
            said.append(f"{len(unread):,} photos cannot be read (oshp-manifest verify --photos says why)")
    level = "weak" if shared or groups else "note" if unread or source is None else "ok"
    return Finding("leakage", level, "; ".join(said), figures, {})


def _copies(source: Source, images: Iterable[str]) -> tuple[list[list[str]], list[str]]:
    """Groups of images whose photos are equal pixel for pixel; and images whose photos cannot be read."""
    found: dict[bytes, list[str]] = defaultdict(list)
    unread = []
    for image in progress(images, "photos"):
        try:
            photo = source.photo(image)
        except OshpError:
            unread.append(image)
            continue
        digest = hashlib.sha256(str(photo.shape).encode())
        digest.update(np.ascontiguousarray(photo).data)
        found[digest.digest()].append(image)
    return [group for group in found.values() if len(group) > 1], unread


def _areas(manifest: Manifest, masks: Callable[[str], Mask] | None) -> Finding:
    topic = "class areas"
    if masks is None:
        return Finding(topic, "note", "not measured, give --truth or --root", {}, {})
    counts = {query: label_counts(masks(query)) for query in manifest.pairs.queries}
    classes = {}
    for (class_id, name), mine in zip([*manifest.names.items()][1:], _rows_of(manifest).values(), strict=True):
        pixels = np.stack([counts[query] for query in sorted({manifest.pairs.query[i] for i in mine})])
        shares = pixels[:, class_id] / np.maximum(1, pixels.sum(axis=1) - pixels[:, IGNORE])
        classes[name] = {
            "min": float(shares.min()),
            "median": float(np.median(shares)),
            "max": float(shares.max()),
            "tiny": float((shares < _TINY).mean()),
        }
    weak = [name for name, row in classes.items() if row["tiny"] > _MANY_TINY]
    some = [name for name, row in classes.items() if row["tiny"] > 0]
    text = (
        f"less than {100 * _TINY:.1f} % of the picture in some queries of {', '.join(some)}"
        if some
        else f"every class covers {100 * _TINY:.1f} % of the picture or more in all its queries"
    )
    return Finding(topic, "weak" if weak else "note" if some else "ok", text, {"tiny_below": _TINY}, classes)


def _unknown(manifest: Manifest) -> Finding:
    figures = {pool: sum(present is None for present in manifest.pools[pool].values()) for pool in POOLS}
    lacking = [f"{count:,} of {pool}" for pool, count in figures.items() if count]
    text = f"classes unknown for {', '.join(lacking)}" if lacking else "the classes of all images are known"
    if manifest.validation is None:
        text += "; no validation pairs, so checkpoints would be chosen on the test set"
    level = "note" if lacking or manifest.validation is None else "ok"
    return Finding("training images", level, text, figures, {})


def _rows_of(manifest: Manifest) -> dict[str, list[int]]:
    """Class name -> the indices of the pairs drawn for it."""
    rows: dict[str, list[int]] = {spec.name: [] for spec in manifest.classes[1:]}
    for index, target in enumerate(manifest.pairs.target):
        rows[manifest.names[target]].append(index)
    return rows


def _most(items: Iterable[str]) -> int:
    return max(Counter(items).values())


def _by_count(names: Iterable[str]) -> dict[str, int]:
    """Counts names, the most frequent first."""
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def _short(value: Any) -> Any:
    """A cell of the table: of a mapping, the first three members; fractions as percent."""
    if not isinstance(value, Mapping):
        return value
    shown = [f"{key} {f'{100 * n:.0f} %' if isinstance(n, float) else f'{n:,}'}" for key, n in list(value.items())[:3]]
    return ", ".join(shown) + (f" and {len(value) - 3} more" if len(value) > 3 else "")
