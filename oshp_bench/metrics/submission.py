"""What a submission says of itself: the method's card, and which predictions of which manifests it holds.

A submission is a zip (or that zip unpacked) with `submission.json` and a folder of predictions for every manifest,
called as the manifest: `submission.json`, `atr_fold1/kway/0000.png`, `atr_fold1/1way/0000.png`, ...
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
        manifest: its name, and that of the folder.
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
        """Its submission.json."""
        return {
            "format": _FORMAT,
            "method": self.method.to_json(),
            "manifests": [
                {
                    "name": each.manifest,
                    "version": each.version,
                    "test_digest": each.test_digest,
                    "ways": list(each.ways),
                }
                for each in self.sets
            ],
            "made_by": f"oshp-bench {__version__}",
        }

    def set_of(self, manifest: Manifest, path: Path) -> SubmittedSet:
        """The predictions for a manifest.

        Args:
            path: the submission, for the error.

        Raises:
            OshpError: there are none for its test pairs.
        """
        for each in self.sets:
            if each.test_digest == manifest.test_digest:
                return each
        for each in self.sets:
            if each.manifest == manifest.name:
                raise OshpError(
                    f"{path}: these are predictions of {each.manifest} {each.version}, whose test pairs are not those"
                    f" of {manifest.name} {manifest.version}"
                )
        held = ", ".join(shortened([each.manifest for each in self.sets], 10, "more"))
        raise OshpError(f"{path}: holds no predictions of {manifest.name}, but of {held}")


def read_index(path: Path) -> Submission:
    """Reads the submission.json of a folder or zip that is known to hold one, and whose names were checked.

    Raises:
        OshpError: every problem found, a line each.
    """
    origin = str(path / SUBMISSION_FILE)
    document = parse_json(read_document(path, SUBMISSION_FILE), origin)
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise OshpError(f'{origin}: not of a submission (its "format" is not "{_FORMAT}"); is the tool up to date?')
    reader = Reader(document, origin)
    reader.text("format")
    reader.text("made_by", optional=True)
    submission = Submission(
        method_card(reader.table("method")), tuple(_set(each) for each in reader.tables("manifests"))
    )
    reader.wrong_if(not submission.sets, "names no manifest")
    for key, said in (
        ("name", [each.manifest for each in submission.sets]),
        ("test_digest", [each.test_digest for each in submission.sets]),
    ):
        reader.wrong_if(len(set(said)) != len(said), f"two of its manifests have the same {key}")
    reader.unknown_members()
    raise_problems(shortened(reader.problems))
    return submission


def _set(reader: Reader) -> SubmittedSet:
    found = SubmittedSet(reader.text("name"), reader.text("version"), reader.text("test_digest"), reader.texts("ways"))
    named = NAME_PATTERN.fullmatch(found.manifest) and VERSION_PATTERN.fullmatch(found.version)
    reader.wrong_if(not named, f"{shown(found.manifest)} {shown(found.version)} is no manifest's name and version")
    reader.wrong_if(found.ways not in (("k",), ("1",), ("k", "1")), 'ways is none of ["k"], ["1"] and ["k", "1"]')
    return found
