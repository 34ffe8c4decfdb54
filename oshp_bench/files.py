"""Reads JSON and TOML of unknown origin within bounds; writes files completely or not at all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import math
import os
import re
import secrets
import stat
import struct
import tomllib
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from oshp_bench.errors import OshpError

MAX_JSON_BYTES = 16 << 20
# A manifest of 100,000 pairs has 1.1 million values in 200,000 tables and lists; predictions.json as many keys.
_MOST_VALUES, _MOST_NESTED, _MOST_KEYS = 1_300_000, 250_000, 250_000
# tomllib takes microseconds for every byte; our specs have 5 kB.
MAX_TOML_BYTES = 256 << 10
# The end record of a zip and its comment are within so many bytes of its end.
_ZIP_END = 1 << 17
# Lists of members of zips: the shipped manifests have up to 1,800 pairs. A member costs a kilobyte and 50 us.
_MAX_DIRECTORY_BYTES, _MOST_MEMBERS = 8 << 20, 30_000
# What zipfile raises for an archive that is damaged, encrypted or forged.
BROKEN_ZIP = (OSError, zipfile.BadZipFile, zlib.error, struct.error, ValueError, KeyError, RuntimeError, EOFError)
# zipfile inflates these in bounded steps, other methods in one step of any size.
BOUNDED_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What content_digest returns.
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LINE_WIDTH = 110
_MAX_DEPTH = 50
# A dotted key of more parts than tables may be nested; tomllib's time and memory grow with the square of their number.
_LONG_KEY = re.compile(rf"""(?<![\w.-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){{{_MAX_DEPTH}}}""")
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


def open_to_read(path: Path | str) -> io.BufferedReader:
    """Opens a regular file; a FIFO or a device, which could be waited for without end, is refused at once.

    Raises:
        OSError: it cannot be opened, or it is something else than a file.
    """
    # The scorer opens thousands of files, and building a Path costs it as much as reading one.
    return open(path, "rb", opener=_regular_only)


def _regular_only(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor


def open_zip(path: Path, most: int = _MOST_MEMBERS) -> zipfile.ZipFile:
    """Opens a zip of unknown origin, whose list of members is bounded before it is read.

    Args:
        most: the most members that it may list.

    Raises:
        Those of BROKEN_ZIP: it cannot be read, is no zip, or lists too many members.
    """
    with open_to_read(path) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - _ZIP_END))
        listed = _directory_bytes(file.read())
        many = listed > _MAX_DIRECTORY_BYTES
        if not many:
            # The list ends where the end record begins; each member begins with this mark.
            file.seek(max(0, size - _ZIP_END - listed))
            many = file.read().count(b"PK\x01\x02") > most
    if many:
        raise zipfile.BadZipFile("it lists far more members than a set of predictions has")
    return zipfile.ZipFile(path)


def _directory_bytes(end: bytes) -> int:
    """The size of a zip's list of members: the largest that any end record in its last bytes gives."""
    sizes = [end[found.start() + 12 : found.start() + 16] for found in re.finditer(rb"PK\x05\x06", end)]
    sizes += [end[found.start() + 40 : found.start() + 48] for found in re.finditer(rb"PK\x06\x06", end)]
    # All ones mean that the 64-bit record gives the size.
    return max((int.from_bytes(size, "little") for size in sizes if size != b"\xff" * 4), default=0)


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file for writing that gets its name only when it is complete.

    Until then its name is `.NAME.part`, so that a rerun writes over what a killed run left. While one run writes there,
    another takes a name of its own, so that two never write into one file; the last to finish wins.

    Raises:
        OshpError: a device, a FIFO or a folder stands in the place; it would be replaced by a file.
    """
    if path.exists() and not path.is_file():
        raise OshpError(f"{path}: not a regular file, so nothing is written there; choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, file = _locked_part(path)
    try:
        with file:
            yield file
            # Buffered bytes are written before the file takes its name.
            file.flush()
            partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            # A full disk is noticed by a write, which does not know the file's name.
            error.filename = error.filename or str(path)
        raise


def _locked_part(path: Path) -> tuple[Path, IO[bytes]]:
    """An empty file beside a place, locked for as long as it is open."""
    partial = path.with_name(f".{path.name}.part")
    while True:
        file = _locked(partial)
        if file is not None:
            file.truncate(0)
            return partial, file
        partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")


def _locked(path: Path) -> IO[bytes] | None:
    """Opens a file, which is made if there is none, and locks it; None while another run has it."""
    while True:
        file = open(path, "rb+", opener=_made_if_missing)  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
        if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
            return file
        # Between opening and locking it, another run finished and took this name away.
        file.close()


def _made_if_missing(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o666)


@contextmanager
def reserved(folder: Path) -> Iterator[None]:
    """Keeps other runs out of a folder; the system frees it when this process ends, however it ends.

    Raises:
        OshpError: another run is in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    file = _locked(path)
    if file is None:
        owner = read_bounded(path, 100).decode("ascii", "replace") if path.exists() else ""
        raise OshpError(f"{folder}: process {owner} writes there; wait for it, or choose another folder")
    with file:
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            # A run that failed before it wrote anything leaves no folder.
            with suppress(OSError):
                folder.rmdir()


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
    with open_to_read(path) as file:
        # Not read(most + 1): that sets so much memory aside for every small file.
        return file.read(min(os.fstat(file.fileno()).st_size, most) + 1)


def read_bounded(path: Path, most: int) -> bytes:
    """Reads a file of at most this many bytes."""
    try:
        content = read_at_most(path, most)
    except OSError as error:
        raise OshpError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if len(content) > most:
        size = f"{most >> 20} MiB" if most >> 20 else f"{most >> 10} KiB"
        raise OshpError(f"{path}: larger than {size}; this is not a file of ours")
    return content


def parse_json(content: bytes, origin: str) -> Any:
    """Parses strict JSON: UTF-8, finite numbers, no duplicate keys, integers within 64 bits, at most 50 levels.

    Args:
        origin: the file's name, for the error.
    """
    # Python needs up to 240 bytes for an empty table, and 3 us for a key; so many are refused before they are parsed.
    nested = content.count(b"{") + content.count(b"[")
    if content.count(b",") > _MOST_VALUES or nested > _MOST_NESTED or content.count(b":") > _MOST_KEYS:
        raise OshpError(f"{origin}: holds more values than any file of ours")
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
    """Reads a JSON file of at most 16 MiB; see parse_json."""
    return parse_json(read_bounded(path, MAX_JSON_BYTES), str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """Reads a TOML file of at most 256 KiB."""
    with _valid("TOML", str(path)):
        text = read_bounded(path, MAX_TOML_BYTES).decode()
        if _LONG_KEY.search(text):
            raise RecursionError
        content = tomllib.loads(text)
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
    if len(members) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice!r} stands there twice")
    return members
