"""Lists the files of a folder or zip of unknown origin. Names are checked before anything is read."""

from __future__ import annotations

import os
import stat
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from oshp_bench.errors import OshpError, raise_problems, shortened
from oshp_bench.files import BOUNDED_ZIP_METHODS, BROKEN_ZIP, open_zip, read_bounded

# A zip may inflate to this many times its size plus this many bytes.
_MAX_RATIO, _FREE_BYTES = 200, 64 << 20
# Flags of a member: encrypted, strongly encrypted, encrypted directory.
_ENCRYPTED = 0x1 | 0x40 | 0x2000
# Of a member's name in a zip.
_LONGEST_NAME, _DEEPEST = 300, 8


def file_names(path: Path) -> tuple[str, ...]:
    """The files in a folder or zip, as paths relative to it, without hidden files (".DS_Store").

    Raises:
        OshpError: neither a folder nor a zip; or every name in it that is hostile or ambiguous.
    """
    if path.is_dir():
        return tuple(_in_folder(path))
    return tuple(_in_zip(path))


def read_document(path: Path, name: str, most: int = 1 << 20) -> bytes:
    """Reads a file of at most this many bytes in a folder or zip."""
    if path.is_dir():
        return read_bounded(path / name, most)
    try:
        with open_zip(path) as archive, archive.open(name) as entry:
            content = entry.read(most + 1)
    except BROKEN_ZIP as error:
        raise OshpError(f"{path / name}: cannot be read ({error}); pack it again") from error
    if len(content) > most:
        raise OshpError(
            f"{path / name}: larger than {most >> 20} MiB; oshp-bench writes none that large; check the file"
        )
    return content


def _in_folder(root: Path) -> Iterator[str]:
    problems: list[str] = []
    real_root = root.resolve()
    folders = [""]
    for depth in range(4):
        below = []
        for folder in folders:
            try:
                entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
            except OSError as error:
                raise OshpError(f"{root / folder}: cannot be read ({error.strerror}); check its permissions") from error
            for entry in entries:
                name = f"{folder}{entry.name}"
                if entry.name.startswith("."):
                    continue
                if not entry.name.isprintable():
                    problems.append(
                        f"{root / folder}: {entry.name!r}: the name has characters that cannot be printed; rename it"
                    )
                elif entry.is_symlink() and not _leads_into(real_root, Path(entry.path)):
                    problems.append(
                        f"{entry.path}: a link that leads out of the folder or nowhere; put the file itself there"
                    )
                elif not entry.is_file() and not entry.is_dir():
                    problems.append(f"{entry.path}: neither a file nor a folder; remove it")
                elif entry.is_dir() and depth < 3:
                    below.append(f"{name}/")
                else:
                    yield name
        folders = below
    raise_problems(shortened(problems))


def _leads_into(root: Path, link: Path) -> bool:
    try:
        return link.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):  # to nothing, or in a circle
        return False


def _in_zip(path: Path) -> Iterator[str]:
    try:
        with open_zip(path) as archive:
            members = archive.infolist()
    except OSError as error:
        raise OshpError(
            f"{path}: neither a folder nor a readable zip ({error.strerror or error}); check the path"
        ) from error
    except BROKEN_ZIP as error:
        raise OshpError(f"{path}: neither a folder nor a readable zip ({error}); pack it again") from error
    problems = [
        f"{path}: {member.filename[:80]!r}: a name of {len(member.orig_filename)} characters, or in more than"
        f" {_DEEPEST} folders; shorten it"
        for member in members
        if len(member.orig_filename) > _LONGEST_NAME or member.orig_filename.count("/") > _DEEPEST
    ]
    raise_problems(shortened(problems))
    places = [_place(member.filename) for member in members]
    times = Counter(places)
    for member, place in zip(members, places, strict=True):
        # zipfile cuts a name at a zero byte. Other programs may not, so the whole name is checked.
        problem = _member_problem(member, member.orig_filename)
        name = member.filename
        if problem:
            problems.append(f"{path}: {problem}")
        elif times[place] > 1:
            problems.append(
                f"{path}: {name[:80]}: the name occurs twice, or another differs only in case; pack it again"
            )
        elif not member.is_dir() and not name.rpartition("/")[2].startswith(".") and not name.startswith("__MACOSX/"):
            yield name
    raise_problems(shortened(problems) or _size_problems(path, members))


def _place(name: str) -> str:
    """A member's path on a disk that ignores case."""
    # A PurePosixPath of every member would take as long as zipfile does.
    place = "/".join(part for part in name.split("/") if part not in ("", ".")).casefold()
    return f"/{place}" if name.startswith("/") else place


def _member_problem(member: zipfile.ZipInfo, name: str) -> str | None:
    if name.startswith("/") or ".." in name.split("/") or "\\" in name or ":" in name or not _place(name):
        return f"{name[:80]!r}: the path leads out of the zip; pack it again"
    if not name.isprintable():
        return f"{name[:80]!r}: the name has characters that cannot be printed; rename it"
    mode = member.external_attr >> 16
    if stat.S_ISLNK(mode):
        return f"{name[:80]}: a link; put the file itself there"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return f"{name[:80]}: neither a file nor a folder; remove it"
    if member.flag_bits & _ENCRYPTED:
        return f"{name[:80]}: encrypted; pack it without a password"
    if member.compress_type not in BOUNDED_ZIP_METHODS:
        return f"{name[:80]}: unusual compression; pack it with deflate"
    if member.compress_type == zipfile.ZIP_STORED and member.compress_size != member.file_size:
        return f"{name[:80]}: the zip gives two sizes for it; pack it again"
    return None


def _size_problems(path: Path, members: list[zipfile.ZipInfo]) -> list[str]:
    """Checks sizes by the directory: zipfile never inflates a member beyond the size that stands there."""
    size = path.stat().st_size
    if sum(member.compress_size for member in members) > size:
        return [f"{path}: its members overlap; pack it again"]
    whole = sum(member.file_size for member in members)
    if whole > _MAX_RATIO * size + _FREE_BYTES:
        return [f"{path}: inflates to {whole >> 20} MiB, more than {_MAX_RATIO} times its size; pack it again"]
    return []
