"""Digests of truths, and those of the shipped manifests, which tell the published masks from all others."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from oshp_bench.files import content_digest, read_json
from oshp_bench.manifest.model import Manifest
from oshp_bench.manifest.store import shipped_file

_MOST_SHOWN = 10


def truth_digest(digests: Mapping[str, str]) -> str:
    """The digest of a truth: "sha256:..." of the canonical JSON of query id -> pixel digest."""
    return content_digest(dict(digests))


def same_truth(first: str, second: str) -> bool:
    """Whether two digests can be of the same truth. An unknown one, "", can be of any."""
    return first == second or "" in (first, second)


def entry_of(digests: Mapping[str, str], stride4_classes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """What the table of shipped truths says about one: digests of its masks and of the supports' stride-4 classes."""
    stride4 = content_digest({support: list(classes) for support, classes in stride4_classes.items()})
    return {"stride4_classes": stride4, "queries": dict(sorted(digests.items()))}


@cache
def shipped_truths() -> Mapping[str, Any]:
    """Test digest -> entry_of its truth, for the shipped manifests whose masks were at hand."""
    path = shipped_file("truths.json")
    return dict(read_json(path)["truths"]) if path else {}


def shipped_digest(test_digest: str) -> str:
    """The digest of the truth of these test pairs; "" if none is shipped."""
    entry = shipped_truths().get(test_digest)
    return truth_digest(entry["queries"]) if entry else ""


def other_truth(
    manifest: Manifest, digests: Mapping[str, str], stride4_classes: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """How a truth differs from the shipped digests, one line each; none if nothing is shipped for these test pairs.

    Args:
        digests: query id -> pixel digest, for the manifest's queries.
        stride4_classes: support id -> its classes on the stride-4 grid, for the manifest's supports.
    """
    shipped = shipped_truths().get(manifest.test_digest)
    if shipped is None:
        return []
    found = entry_of(digests, stride4_classes)
    others = [query for query, digest in shipped["queries"].items() if found["queries"].get(query) != digest]
    problems = []
    if others:
        names = ", ".join(others[:_MOST_SHOWN]) + (", ..." if len(others) > _MOST_SHOWN else "")
        problems.append(
            f"the masks of {len(others)} queries are not those that {manifest.name} was published with: {names};"
            f" take {manifest.dataset.title} as its authors distribute it"
        )
    elif found["stride4_classes"] != shipped["stride4_classes"]:
        problems.append(
            f"stride4_classes are not those of the supports' masks that {manifest.name} was published with; tailor the"
            " truth again"
        )
    return problems
