"""The checkpoints that come with the package, by name: METHOD-MANIFEST, such as eopnet-fg-demo_fold1."""

from __future__ import annotations

from pathlib import Path

from oshp_bench.errors import OshpError

_FOLDER = Path(__file__).parents[1] / "weights"
# Trained on all classes of a dataset, for people's own photos.
FOR_PHOTOS = "eopnet-fg-ccp_all"


def shipped_checkpoints() -> dict[str, Path]:
    """The files by name."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.safetensors"))}


def checkpoints_of(method: str) -> dict[str, Path]:
    """The files of a method by the names of their manifests, in which there is no "-"."""
    parts = {path: name.rpartition("-") for name, path in shipped_checkpoints().items()}
    return {manifest: path for path, (owner, _, manifest) in parts.items() if owner == method}


def shipped_checkpoint(text: str, manifest: str | None = None) -> Path | None:
    """The shipped checkpoint that a text means; None if it means none.

    Args:
        text: a checkpoint's name; or a method's, for its checkpoint of the manifest, or its only one.
        manifest: the name or file of a manifest.

    Raises:
        OshpError: the method has several, and no manifest says which.
    """
    named, own = shipped_checkpoints().get(text), checkpoints_of(text)
    if named or manifest is not None:
        return named or own.get(Path(manifest or "").stem)
    if len(own) > 1:
        raise OshpError(f"{text} comes with weights for {' and '.join(own)}; give --manifest, or {text}-{min(own)}")
    return next(iter(own.values()), None)
