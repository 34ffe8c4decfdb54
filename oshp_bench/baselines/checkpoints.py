"""Checkpoints: weights as safetensors, with everything that is needed to use them inside."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from oshp_bench.baselines.backbones import build_backbone
from oshp_bench.baselines.backbones.weights import MAX_BYTES, load_state
from oshp_bench.baselines.card import CARD_FORMAT, Card, read_card
from oshp_bench.baselines.contract import LearnedMethod
from oshp_bench.baselines.eopnet.published import load_published
from oshp_bench.baselines.registry import network_class
from oshp_bench.baselines.settings import as_table, changed, changed_at_test
from oshp_bench.errors import OshpError
from oshp_bench.files import canonical_json, open_to_read, parse_json, write_bytes
from oshp_bench.manifest import Manifest
from oshp_bench.version import __version__

_KEY = "oshp"
_MOST_HEADER = 8 << 20
_MOST_NAMED = 5


@dataclass(frozen=True)
class Checkpoint:
    """A network ready to predict.

    Attributes:
        card: what the file says of it.
        network: in evaluation mode, on the CPU.
        file: the file's name; None for a method that needs no training.
        digest: "sha256:..." of the file; None without one.
        learned: the ids of the classes that it met in training.
        changed: settings of the network that are not the card's: name -> value.
    """

    card: Card
    network: LearnedMethod
    file: str | None = None
    digest: str | None = None
    learned: frozenset[int] = field(default_factory=frozenset)
    changed: Mapping[str, Any] = field(default_factory=dict)

    def about(self) -> dict[str, Any]:
        """What predictions.json keeps of what made them; nothing but `checkpoint` changes with the file's name."""
        trained_on, epoch = self.card.manifest, (self.card.training or {}).get("epoch")
        return {
            "checkpoint": self.file,
            "digest": self.digest,
            "epoch": epoch if isinstance(epoch, int) else None,
            "trained_on": None if trained_on is None else f"{trained_on.name} {trained_on.version}",
            "backbone": self.card.backbone,
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            **self.network.describe(),
            "photo_side": self.card.test_side,
            **({"changed": dict(self.changed)} if self.changed else {}),
        }

    def summary(self) -> str:
        """The same in a line for people."""
        about = self.about()
        digest, side = about["digest"], about["photo_side"]
        parts = (
            f"{self.file} ({digest[:19]})" if digest else "no checkpoint",
            f"epoch {about['epoch']} on {about['trained_on']}" if about["trained_on"] else None,
            f"{about['backbone']}, {about['parameters']:,} parameters",
            *self.network.described(),
            f"changed: {', '.join(f'{name}={json.dumps(value)}' for name, value in self.changed.items())}"
            if self.changed
            else None,
            f"photos at {f'{side} pixels' if side else 'native size'}, predictions at native size",
        )
        return "; ".join(part for part in parts if part)

    def check(self, manifest: Manifest) -> None:
        """Refuses a manifest whose classes are not those that the network was trained for, or whose test it has seen.

        Raises:
            OshpError: other classes; another fold, so that classes that are novel in the manifest were met in training;
                or training images among the manifest's test images.
        """
        trained_on, names = self.card.manifest, {shown.id: shown.name for shown in manifest.classes}
        if self.file is None:
            return
        if trained_on is None:
            differing = [] if self.card.count == len(manifest.dataset.labels) else [f"{self.card.count} class ids"]
        else:
            known = {trained.id: trained.name for trained in trained_on.classes}
            differing = sorted({f"{number} {name}" for number, name in known.items() ^ names.items()})
        if differing:
            raise OshpError(
                f"{self.file}: trained for other classes than those of {manifest.name} (one of them alone has"
                f" {_listed(differing)}); take a checkpoint that was trained on this dataset"
            )
        leaked = [names[number] for number in manifest.ids_of("novel") if number in self.learned]
        if leaked:
            raise OshpError(
                f"{self.file}: learned {_listed(leaked)} in training, novel in {manifest.name}: its figures would not"
                " be of one-shot parsing; take a checkpoint of this fold, or the manifest of the checkpoint's fold"
            )
        seen = trained_on.tested_on(manifest) if trained_on else []
        if seen:
            raise OshpError(
                f"{self.file}: {len(seen)} test images of {manifest.name} were training images: {_listed(seen)}; take a"
                " checkpoint that was trained on this manifest"
            )
        unknown = [names[number] for number in manifest.ids_of("base") if trained_on and number not in self.learned]
        if unknown:
            raise OshpError(
                f"{self.file}: never learned {_listed(unknown)}, base in {manifest.name}; take one of this fold"
            )


def build_network(card: Card) -> LearnedMethod:
    """The network that a card describes, with weights still to be filled.

    Raises:
        OshpError: an unknown method, backbone or setting.
    """
    backbone = build_backbone(card.backbone, width=card.width, pretrained=False, architecture=card.architecture)
    return network_class(card.method).build(backbone, card.labels, card.way, _settings(card))


def save_checkpoint(path: Path, card: Card, network: LearnedMethod, *, half: bool = False) -> None:
    """Writes weights and card, whole or not at all; the same give the same bytes.

    Args:
        half: in float16, in half the space.

    Raises:
        OshpError: numbers that float16 cannot hold.
    """
    about = {"format": CARD_FORMAT, "made_by": f"oshp-bench {__version__}", **as_table(card)}
    if card.architecture is None:
        del about["architecture"]
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    if half:
        weights = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
        large = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
        if large:
            raise OshpError(f"{_listed(large)} hold numbers that float16 cannot; keep the weights in float32")
    write_bytes(path, save(weights, {_KEY: canonical_json(about).decode()}))


def load_checkpoint(path: Path, texts: Iterable[str] = ()) -> Checkpoint:
    """Loads a checkpoint of ours, or one that EOP-Net's authors published, on the CPU; no code in it is run.

    Args:
        texts: settings of its method that are changed, such as "layout=0"; see `settings.changed_at_test`.

    Raises:
        OshpError: missing, cut off, of another format or architecture, or with NaN or infinite numbers; or what is
            wrong with the texts.
    """
    try:
        if path.exists() and not path.is_file():
            raise OshpError(f"{path}: no file; give a checkpoint, such as the best.safetensors of a run of oshp-train")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise OshpError(f"{path}: larger than {MAX_BYTES >> 30} GiB; these are not weights of a network of ours")
        with open_to_read(path) as file:
            head = file.read(9)
    except OSError as error:
        raise OshpError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    name = os.fsencode(path.name).decode(errors="replace")
    if head[8:] == b"{":
        header = int.from_bytes(head[:8], "little")
        card = _card(path, size, header)
        with _found_in(path):
            own = _settings(card)
        chosen, changes = _changed(card, own, texts)
        with _found_in(path):
            network = build_network(chosen)
        # Weights may be of twice our precision.
        most = 2 * sum(tensor.nbytes for tensor in network.state_dict().values())
        if size - header - 8 > most:
            raise OshpError(f"{path}: larger than the weights of {card.method} with {card.backbone}; get it again")
        load_state(network, _weights(path), path)
        learned = frozenset(card.labels.base)
    else:
        card, network = load_published(path, size, texts)
        _, changes = _changed(card, _settings(card), texts)
        learned = network.learned_classes()
    wrong = [name for name, tensor in network.state_dict().items() if not tensor.isfinite().all()]
    if wrong:
        raise OshpError(
            f"{path}: {_listed(wrong)} hold NaN or infinite numbers; training failed, or the file is damaged"
        )
    with open_to_read(path) as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    return Checkpoint(card, network.eval(), name, digest, learned, changes)


def untrained(method: str, texts: Iterable[str] = ()) -> Checkpoint:
    """A method that needs no training, on the pretrained backbone that comes with the package's extra "train".

    Args:
        texts: as for `load_checkpoint`.

    Raises:
        OshpError: the backbone's weights are missing; or what is wrong with the texts.
    """
    method_class, backbone = network_class(method), "efficientnet-lite0"
    own = method_class.settings_type()
    # What has no pretrained weights is drawn, always alike.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = build_backbone(backbone)
        card = Card(method, "k", backbone, built.width, 255, as_table(own))
        chosen, changes = _changed(card, own, texts)
        network = method_class.build(built, card.labels, card.way, _settings(chosen))
    return Checkpoint(card, network.eval(), changed=changes)


def _settings(card: Card) -> Any:
    return changed(network_class(card.method).settings_type(), card.model, "the checkpoint's model")


@contextmanager
def _found_in(path: Path) -> Iterator[None]:
    try:
        yield
    except OshpError as error:
        raise OshpError(*(f"{path}: {problem}" for problem in error.problems)) from error


def _changed(card: Card, own: Any, texts: Iterable[str]) -> tuple[Card, dict[str, Any]]:
    """A card, whose model has its own settings, with the texts' instead; and those of them that were others before."""
    before, after = as_table(own), as_table(changed_at_test(own, texts, card.method))
    return replace(card, model=after), {name: value for name, value in after.items() if value != before[name]}


def _card(path: Path, size: int, header: int) -> Card:
    if header > min(_MOST_HEADER, size):
        raise OshpError(f"{path}: cut off, or no safetensors file; get it again")
    with _opened(path) as file:
        text = (file.metadata() or {}).get(_KEY)
    if text is None:
        raise OshpError(f"{path}: says nothing of how it was trained; no checkpoint of oshp-train")
    return read_card(parse_json(text.encode(), str(path)), str(path))


def _weights(path: Path) -> dict[str, Tensor]:
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise OshpError(f"{path}: cut off or damaged ({error}); get it again") from error


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
