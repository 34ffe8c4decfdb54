"""The index of a submission: the method's card, and for which manifests it holds predictions.

A submission is a zip, or that zip unpacked, with `submission.json` and one folder of predictions per manifest, named
like the manifest: `submission.json`, `atr_fold1/kway/0000.png`, `atr_fold1/1way/0000.png`, ...
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oshp_bench.datasets.labels import NAME_PATTERN, VERSION_PATTERN
from oshp_bench.errors import OshpError, raise_problems, shortened
from oshp_bench.files import parse_json
from oshp_bench.manifest import Manifest
from oshp_bench.metrics.listing import read_document
from oshp_bench.metrics.method_card import MethodCard, method_card
from oshp_bench.untrusted import Reader, shown
from oshp_bench.version import __version__

_FORMAT = "oshp-submission/1"
SUBMISSION_FILE = "submission.json"


@dataclass(frozen=True)
class SubmittedSet:
    """Predictions for one manifest.

    Attributes:
        manifest: the manifest's name, which is also the folder's.
        ways: "k", "1" or both.
    """

    manifest: str
    version: str
    test_digest: str
    ways: tuple[str, ...]


@dataclass(frozen=True)
class Submission:
    """A method's card and its prediction sets, by manifest name."""

    method: MethodCard
    sets: tuple[SubmittedSet, ...]

    def to_json(self) -> dict[str, Any]:
        """The content of submission.json."""
        return {
            "format": _FORMAT,
            "method": self.method.to_json(),
            "manifests": [
                {
                    "name": submitted.manifest,
                    "version": submitted.version,
                    "test_digest": submitted.test_digest,
                    "ways": list(submitted.ways),
                }
                for submitted in self.sets
            ],
            "made_by": f"oshp-bench {__version__}",
        }

    def set_of(self, manifest: Manifest, path: Path) -> SubmittedSet:
        """The predictions for a manifest.

        Args:
            path: the submission, for the error.

        Raises:
            OshpError: the submission holds no predictions for the manifest's test pairs.
        """
        for submitted in self.sets:
            if submitted.test_digest == manifest.test_digest:
                return submitted
        for submitted in self.sets:
            if submitted.manifest == manifest.name:
                raise OshpError(
                    f"{path}: holds predictions for {submitted.manifest} {submitted.version}, whose test pairs differ"
                    f" from those of {manifest.name} {manifest.version}; give their own manifest"
                )
        held = ", ".join(shortened([submitted.manifest for submitted in self.sets], 10, "more"))
        raise OshpError(f"{path}: holds no predictions for {manifest.name}, only for {held}")


def read_index(path: Path) -> Submission:
    """Reads submission.json in a folder or zip. The caller has checked the names in it, and that it holds the file.

    Raises:
        OshpError: every problem found, one per line.
    """
    origin = str(path / SUBMISSION_FILE)
    document = parse_json(read_document(path, SUBMISSION_FILE), origin)
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise OshpError(
            f'{origin}: not the index of a submission (its "format" is not "{_FORMAT}"); a newer oshp-bench may read it'
        )
    reader = Reader(document, origin)
    reader.text("format")
    reader.text("made_by", optional=True)
    submission = Submission(
        method_card(reader.table("method")), tuple(_set(table) for table in reader.tables("manifests"))
    )
    reader.wrong_if(not submission.sets, "lists no manifest")
    for key, said in (
        ("name", [submitted.manifest for submitted in submission.sets]),
        ("test_digest", [submitted.test_digest for submitted in submission.sets]),
    ):
        reader.wrong_if(len(set(said)) != len(said), f"two of its manifests have the same {key}")
    reader.unknown_members()
    raise_problems(shortened(reader.problems))
    return submission


def _set(reader: Reader) -> SubmittedSet:
    found = SubmittedSet(reader.text("name"), reader.text("version"), reader.text("test_digest"), reader.texts("ways"))
    named = NAME_PATTERN.fullmatch(found.manifest) and VERSION_PATTERN.fullmatch(found.version)
    reader.wrong_if(
        not named, f"{shown(found.manifest)} {shown(found.version)} is not the name and version of a manifest"
    )
    reader.wrong_if(found.ways not in (("k",), ("1",), ("k", "1")), 'ways must be ["k"], ["1"] or ["k", "1"]')
    return found
