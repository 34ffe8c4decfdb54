"""Reads JSON and TOML of unknown origin within bounds; writes files completely or not at all."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
import struct
import tomllib
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from oshp_bench.errors import OshpError

MAX_JSON_BYTES = 64 << 20
MAX_TOML_BYTES = 1 << 20
# What zipfile raises for an archive that is damaged, encrypted or forged.
BROKEN_ZIP = (OSError, zipfile.BadZipFile, zlib.error, struct.error, ValueError, KeyError, RuntimeError, EOFError)
# zipfile inflates these in bounded steps, other methods in one step of any size.
BOUNDED_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LINE_WIDTH = 110
_MAX_DEPTH = 50
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file for writing that gets its name only when it is complete.

    The temporary name is fixed, so that a rerun of a killed run overwrites what that run left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            # A full disk is noticed by a write, which does not know the file's name.
            error.filename = error.filename or str(path)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file completely or not at all."""
    with written_whole(path) as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """Writes a UTF-8 file completely or not at all."""
    write_bytes(path, content.encode())


def read_at_most(path: Path | str, most: int) -> bytes:
    """Reads a file, or its first most + 1 bytes where it is larger.

    Raises:
        OSError: it cannot be read.
    """
    # The scorer opens thousands of files, and building a Path takes as long as reading one.
    with open(path, "rb") as file:  # noqa: PTH123
        status = os.fstat(file.fileno())
        # read(most + 1) would allocate that much memory even for a small file.
        return file.read((min(status.st_size, most) if stat.S_ISREG(status.st_mode) else most) + 1)


def read_bounded(path: Path, most: int) -> bytes:
    """Reads a file of at most this many bytes."""
    try:
        content = read_at_most(path, most)
    except OSError as error:
        raise OshpError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if len(content) > most:
        raise OshpError(f"{path}: larger than {most >> 20} MiB; this is not a file of ours")
    return content


def parse_json(content: bytes, origin: str) -> Any:
    """Parses strict JSON: UTF-8, finite numbers, no duplicate keys, integers within 64 bits, at most 50 levels.

    Args:
        origin: the file's name, for the error.
    """
    with _valid("JSON", origin):
        text = content.decode()
        value: Any = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_bounded_int,
            object_pairs_hook=_without_duplicates,
        )
        if _HALF_CHARACTER.search(text):
            # Half of an escaped surrogate pair is no character: it could be neither printed nor written.
            json.dumps(value, ensure_ascii=False).encode()
        _check_depth(value)
    return value


def read_json(path: Path) -> Any:
    """Reads a JSON file of at most 64 MiB; see parse_json."""
    return parse_json(read_bounded(path, MAX_JSON_BYTES), str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """Reads a TOML file of at most 1 MiB."""
    with _valid("TOML", str(path)):
        content = tomllib.loads(read_bounded(path, MAX_TOML_BYTES).decode())
        _check_depth(content)
    return content


def canonical_json(value: Any) -> bytes:
    """The bytes of a JSON value that digests are computed from: keys sorted, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def content_digest(value: Any) -> str:
    """The digest of a JSON value: "sha256:" and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(canonical_json(value)).hexdigest()


def readable_json(value: Any) -> str:
    """JSON text that is easy to read and compare: a value that fits on one line, else one child per line."""
    return "".join(_lines(value, 0)) + "\n"


def _lines(value: Any, indent: int) -> Iterator[str]:
    inline = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if not isinstance(value, dict | list) or not value or (indent > 0 and len(inline) + indent <= _LINE_WIDTH):
        yield inline
        return
    inner = " " * (indent + 1)
    items = (
        [(json.dumps(key, ensure_ascii=False) + ": ", child) for key, child in value.items()]
        if isinstance(value, dict)
        else [("", child) for child in value]
    )
    yield "{\n" if isinstance(value, dict) else "[\n"
    for number, (prefix, child) in enumerate(items):
        yield inner + prefix
        yield from _lines(child, indent + 1)
        yield ",\n" if number + 1 < len(items) else "\n"
    yield " " * indent + ("}" if isinstance(value, dict) else "]")


@contextmanager
def _valid(kind: str, origin: str) -> Iterator[None]:
    """Turns what a parser raises into an error with the file's name."""
    try:
        yield
    except RecursionError as error:
        raise OshpError(f"{origin}: nested too deeply to be a file of ours") from error
    except ValueError as error:
        raise OshpError(f"{origin}: not valid {kind} ({error}); was it cut off or edited?") from error


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_MAX_DEPTH + 1):
        nested = [child for child in level if isinstance(child, dict | list)]
        if not nested:
            return
        level = [child for parent in nested for child in (parent.values() if isinstance(parent, dict) else parent)]
    raise RecursionError


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits[:20]} is too large")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _bounded_int(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:
        raise ValueError(f"the number {digits[:20]} does not fit 64 bits")
    return int(digits)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands there twice")
    return members
