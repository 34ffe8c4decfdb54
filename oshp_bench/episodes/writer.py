"""Writes predictions in the scorer's format, and refuses at once what the scorer would refuse."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from oshp_bench.datasets import images
from oshp_bench.datasets.images import Mask
from oshp_bench.datasets.palette import palette_bytes
from oshp_bench.datasets.runs import label_counts
from oshp_bench.episodes.episodes import WAYS, Episode, Way, way_key
from oshp_bench.errors import OshpError
from oshp_bench.files import read_json, readable_json, write_text
from oshp_bench.manifest import Manifest
from oshp_bench.untrusted import shown
from oshp_bench.version import __version__

_FORMAT = "oshp-predictions/1"
CARD = "predictions.json"
# So much of a file's SHA-256 stands in predictions.json, which has to stay small with 100,000 pairs.
DIGEST_DIGITS = 32


class PredictionWriter:
    """Writes the predictions of one method on one manifest; existing predictions are kept.

    A k-way prediction is `folder/kway/0000.png`, a 1-way prediction `folder/1way/0000.png`: 8-bit palette PNGs of
    class ids at the query's size. `folder/predictions.json` names method and manifest, and after `finish()` the digest
    of every prediction. Every file is written whole or not at all, so a killed run continues with `missing()`.

    Args:
        folder: created with the first prediction.
        method: the method's name; predictions of another method need another folder.
        way: "k" or "1".
        network: describes the network behind this way's predictions in predictions.json, such as by the digest of its
            checkpoint; predictions of another network need another folder. The two ways may use two networks.

    Raises:
        OshpError: the folder holds predictions of another or an unknown method, network or manifest.
    """

    def __init__(
        self,
        folder: str | Path,
        manifest: Manifest,
        method: str,
        way: Way,
        network: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = Path(folder, way_key(way))
        self._manifest = manifest
        self._way = way
        self._names = manifest.names
        self._palette = palette_bytes(manifest.names)
        self._card_path = Path(folder, CARD)
        self._card = {
            "format": _FORMAT,
            "method": method,
            "manifest": manifest.name,
            "version": manifest.version,
            "test_digest": manifest.test_digest,
            "made_by": f"oshp-bench {__version__}",
        }
        self._network = network
        self._card_written = False
        # The digests of predictions that an earlier run finished and this one does not write again.
        self._kept: dict[str, str] = {}
        self._check_owner()

    def missing(self) -> tuple[int, ...]:
        """The indices of the pairs without a prediction, ascending."""
        there = {path.name for path in self.folder.iterdir()} if self.folder.is_dir() else set()
        return tuple(index for index, name in enumerate(self._manifest.pairs.names) if f"{name}.png" not in there)

    def write(self, episode: Episode, mask: Mask) -> None:
        """Writes the prediction for an episode.

        Args:
            mask: uint8 [H, W] of the query's size: k-way any class ids of the manifest, 1-way the target or 0.

        Raises:
            OshpError: a mask of another type, size or labels, or an episode of another list of pairs.
            OSError: the disk is full or read-only.
        """
        pairs, index = self._manifest.pairs, episode.index
        if index >= len(pairs) or (episode.way, episode.query_id, episode.support_id) != (
            self._way,
            pairs.query[index],
            pairs.support[index],
        ):
            raise OshpError(
                f"pair {episode.name}: not the {self._way}-way pair of that name in {self._manifest.name};"
                " give the writer episodes of its manifest's pairs and of its way"
            )
        problem = self._problem(episode, mask)
        if problem:
            raise OshpError(f"pair {episode.name} ({self._way}-way): {problem}")
        if not self._card_written:
            self._write_card()
        self._kept.pop(episode.name, None)
        images.write_mask(self.folder / f"{episode.name}.png", np.ascontiguousarray(mask), self._palette)

    def finish(self) -> None:
        """Records the digest of every prediction of this way, so that the scorer notices files of another run.

        Raises:
            OshpError: nothing was written yet.
            OSError: the disk is full or read-only.
        """
        card = read_json(self._card_path)
        files = card.pop("files", {})
        if self.folder.name not in files:
            digests = {
                path.stem: self._kept.get(path.stem) or hashlib.sha256(path.read_bytes()).hexdigest()[:DIGEST_DIGITS]
                for path in sorted(self.folder.glob("*.png"))
            }
            files = dict(sorted({**files, self.folder.name: digests}.items()))
            write_text(self._card_path, readable_json({**card, "files": files}))

    def _problem(self, episode: Episode, mask: Mask) -> str | None:
        if not isinstance(mask, np.ndarray):
            return f"the prediction is a {type(mask).__name__}; give a numpy array, uint8 [H, W]"
        if mask.dtype != np.uint8:
            return f"the prediction has dtype {mask.dtype}; class ids fit uint8: give mask.astype(np.uint8)"
        if mask.shape != episode.query_size:
            return (
                f"the prediction has shape {list(mask.shape)}, the query {list(episode.query_size)};"
                " give one class id per pixel, at the query's own size"
            )
        target = episode.classes[0]
        legal = self._names.keys() if self._way == "k" else {0, target}
        illegal = [label for label in np.flatnonzero(label_counts(mask)).tolist() if label not in legal]
        if not illegal:
            return None
        shown = ", ".join(map(str, illegal[:5])) + (", ..." if len(illegal) > 5 else "")
        if self._way == "1":
            return f"the prediction holds {shown}; give {target} where {self._names[target]} is and 0 elsewhere"
        known = ", ".join(map(str, self._names))
        return f"the prediction holds {shown}, no class of {self._manifest.name}; its class ids are {known}"

    def _write_card(self) -> None:
        # Read again: the other way's writer may have written it.
        card: dict[str, Any] = read_json(self._card_path) if self._card_path.exists() else self._card
        mine = card if self._network is None else {**card, self.folder.name: dict(self._network)}
        if self.folder.name in card.get("files", {}):
            files = dict(card["files"])
            self._kept = files.pop(self.folder.name)
            mine = {**mine, "files": files}
        if mine != card or not self._card_path.exists():
            write_text(self._card_path, readable_json(mine))
        self._card_written = True

    def _check_owner(self) -> None:
        folder = self._card_path.parent
        if not self._card_path.exists():
            if any((folder / way_key(way)).exists() for way in WAYS):
                raise OshpError(f"{folder}: holds predictions, but no {CARD}; choose another folder")
            return
        card = read_json(self._card_path)
        if not isinstance(card, dict) or card.get("format") != _FORMAT:
            raise OshpError(f'{self._card_path}: its "format" is not "{_FORMAT}"; choose another folder')
        files = card.get("files", {})
        if not isinstance(files, dict) or not all(isinstance(digests, dict) for digests in files.values()):
            raise OshpError(f'{self._card_path}: "files" does not list digests; choose another folder')
        for member in ("method", "manifest", "version", "test_digest"):
            if card.get(member) != self._card[member]:
                raise OshpError(
                    f"{self._card_path}: the {member} is {str(card.get(member))[:80]!r}, not"
                    f" {self._card[member]!r}; choose another folder"
                )
        if len(self.missing()) < len(self._manifest.pairs):
            self._check_network(card.get(self.folder.name))

    def _check_network(self, found: Any) -> None:
        theirs, ours = (network if isinstance(network, Mapping) else {} for network in (found, self._network))
        for member in (*ours, *theirs):
            # A checkpoint may be moved; its digest identifies it.
            if member != "checkpoint" and theirs.get(member) != ours.get(member):
                raise OshpError(
                    f"{self._card_path}: the {self._way}-way predictions come from another network, or another use of"
                    f" it ({member} is {shown(theirs.get(member))}, not {shown(ours.get(member))}); choose another"
                    " folder"
                )
