"""Reads nested tables of unknown origin and collects all mistakes, with their places."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from oshp_bench.errors import OshpError, printable, shortened

_MOST_TEXT = 20_000
_MOST_SHOWN, _MOST_QUOTED = 500, 60
_MOST_PROBLEMS = 1_000
# No manifest has more pairs or images, and no document of ours more tables in a list.
_MOST_ITEMS, _MOST_MEMBERS, _MOST_TABLES = 250_000, 110_000, 1_000
_TABLES = "a list of tables"


class Reader:
    """A table and the problems found in it.

    A member that is missing or of the wrong type adds a problem and gives a harmless value, so that reading goes on.

    Args:
        content: the table.
        origin: the file's name; every problem starts with it.
        place: the table's name in the file.
        noted: where problems are noted; that of the table that it stands in.
    """

    def __init__(
        self, content: Mapping[str, Any], origin: str, place: str = "", noted: dict[str, None] | None = None
    ) -> None:
        self._content = content if len(content) <= _MOST_MEMBERS else {}
        self._origin = origin
        self._place = place
        self._seen: set[str] = set()
        self._tables: list[Reader] = []
        # A dict as an ordered set; nested tables share it.
        self._noted: dict[str, None] = {} if noted is None else noted
        self.wrong_if(len(content) > _MOST_MEMBERS, f"has {len(content):,} members, more than any table of ours")

    def __iter__(self) -> Iterator[str]:
        self._seen.update(self._content)
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __contains__(self, key: str) -> bool:
        return key in self._content

    @property
    def problems(self) -> list[str]:
        """All problems so far, here and in nested tables."""
        return list(self._noted)

    def wrong(self, what: str) -> None:
        """Notes a problem.

        Raises:
            OshpError: there are so many that reading on would take long.
        """
        what = f"{self._place}: {what}" if self._place else what
        what = printable(what if len(what) <= _MOST_SHOWN else what[:_MOST_SHOWN] + " ...")
        self._noted[f"{self._origin}: {what}"] = None
        if len(self._noted) == _MOST_PROBLEMS:
            raise OshpError(*shortened(self.problems, rest="more problems; reading stopped there"))

    def wrong_if(self, condition: object, what: str) -> None:
        """Notes a problem if the condition holds."""
        if condition:
            self.wrong(what)

    def unknown_members(self) -> None:
        """Notes the members that were not read, here and in nested tables: most are misspelt."""
        for key in sorted(self._content.keys() - self._seen):
            self.wrong(f"unknown member {shown(key)}")
        for table in self._tables:
            table.unknown_members()

    def text(self, key: str, *, optional: bool = False) -> str:
        value = self._get(key, str, "a text", "", optional)
        self.wrong_if(len(value) > _MOST_TEXT, f"{key} is longer than {_MOST_TEXT} characters")
        # Lines and columns may be drawn in it, such as a tree of files.
        strange = next((sign for sign in value if not sign.isprintable() and sign not in "\n\t\xa0"), None)
        self.wrong_if(
            strange, f"{key} holds U+{ord(strange or ' '):04X}, which cannot be printed; write one line of plain text"
        )
        return str(value[:_MOST_TEXT])

    def integer(self, key: str, *, least: int, most: int = 10**9, default: int | None = None) -> int:
        value = self._get(key, int, "a whole number", least if default is None else default, default is not None)
        if not least <= value <= most:
            self.wrong(f"{key} is {value}, not a number from {least} to {most}")
            return least
        return int(value)

    def texts(self, key: str, *, optional: bool = False) -> tuple[str, ...]:
        return self._texts(key, self._get(key, list, "a list of texts", [], optional))

    def lists_of_text(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        for key in self:
            yield key, self._texts(key, self._get(key, list, "a list of texts", [], False))

    def integers(self, key: str) -> tuple[int, ...]:
        values = self._get(key, list, "a list of whole numbers", [], False)
        numbers = tuple(value for value in values if type(value) is int)
        self.wrong_if(len(numbers) < len(values), f"{key} holds something other than whole numbers")
        return numbers

    def ranges(self, key: str) -> tuple[tuple[int, int], ...]:
        ranges = []
        for item in self._get(key, list, "a list of [start, stop]", [], False):
            if (
                isinstance(item, list)
                and len(item) == 2
                and all(type(n) is int for n in item)
                and 0 <= item[0] < item[1]
            ):
                ranges.append((item[0], item[1]))
            else:
                self.wrong(f"{key} holds {shown(item)}, not [start, stop] with 0 <= start < stop")
        return tuple(ranges)

    def everything(self) -> dict[str, Any]:
        """All members as they are, whatever their names and types."""
        return {key: self._content[key] for key in self}

    def absent(self, key: str) -> bool:
        """Whether a member is missing or null."""
        self._seen.add(key)
        return self._content.get(key) is None

    def class_id_list(self, key: str) -> tuple[int, ...]:
        values = self._get(key, list, "a list of class ids", [], False)
        return self._checked_class_ids(key, values)

    def class_ids_by_name(self) -> Iterator[tuple[str, tuple[int, ...] | None]]:
        """All members of a table of lists of class ids, where null stands for an unknown list."""
        for key in self:
            ids = self._content[key]
            if ids is not None and type(ids) is not list:
                self.wrong(f"{key} is {shown(ids)}, not a list of class ids")
                ids = []
            yield key, None if ids is None else self._checked_class_ids(key, ids)

    def class_id_lists(self, key: str) -> tuple[tuple[int, ...], ...]:
        values = self._get(key, list, "a list of lists of class ids", [], False)
        lists = [ids for ids in values if type(ids) is list]
        self.wrong_if(len(lists) < len(values), f"{key} holds something other than lists of class ids")
        return tuple(self._checked_class_ids(key, ids) for ids in lists)

    def table(self, key: str, *, optional: bool = False) -> Reader:
        return self._nested(self._get(key, dict, "a table", {}, optional), key)

    def tables(self, key: str, *, optional: bool = False) -> Iterator[Reader]:
        for number, item in enumerate(self._get(key, list, _TABLES, [], optional), 1):
            if isinstance(item, dict):
                yield self._nested(item, f"{key} {number}")
            else:
                self.wrong(f"{key} {number} is not a table")

    def relative_path(self, key: str) -> str | None:
        value = self.text(key, optional=True)
        if not value:
            return None
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or "\\" in value or "\0" in value:
            self.wrong(f"{key} {shown(value)} leaves the dataset's folder")
            return None
        return value

    def pattern(self, key: str) -> str | None:
        value = self.relative_path(key)
        once = value is None or (value.count("{id}") == 1 and "{id}" in PurePosixPath(value).name)
        self.wrong_if(not once, f"{key} {shown(value)} must contain {{id}} once, in the file's name")
        return value

    def _nested(self, content: Mapping[str, Any], key: str) -> Reader:
        nested = Reader(content, self._origin, f"{self._place}.{key}" if self._place else key, self._noted)
        self._tables.append(nested)
        return nested

    def _get(self, key: str, kind: type, kind_name: str, default: Any, optional: bool) -> Any:
        self._seen.add(key)
        if key not in self._content:
            self.wrong_if(not optional, f"{key} is missing")
            return default
        value = self._content[key]
        if type(value) is not kind:
            self.wrong(f"{key} is {shown(value)}, not {kind_name}")
            return default
        if isinstance(value, list) and len(value) > (_MOST_TABLES if kind_name == _TABLES else _MOST_ITEMS):
            self.wrong(f"{key} lists {len(value):,} things, more than any file of ours")
            return default
        return value

    def _checked_class_ids(self, key: str, values: list[Any]) -> tuple[int, ...]:
        # Manifests hold many of these lists.
        if not values or ({*map(type, values)} == {int} and min(values) > 0 and max(values) < 254):
            return tuple(values)
        self.wrong(f"{key} holds something other than class ids from 1 to 253")
        return ()

    def _texts(self, key: str, values: list[Any]) -> tuple[str, ...]:
        for value in values:
            if not isinstance(value, str):
                self.wrong(f"{key} holds {shown(value)}, not a text")
        return tuple(value for value in values if isinstance(value, str))


def shown(value: object) -> str:
    """A value of unknown origin as at most 60 characters of one line."""
    return re.sub(r"\s+", " ", repr(_beginning(value)))[:_MOST_QUOTED]


def _beginning(value: object, depth: int = 6) -> object:
    """A value without what would not be shown, as it may be larger than its text may become."""
    if isinstance(value, str):
        return value[:_MOST_QUOTED]
    if isinstance(value, list):
        return [_beginning(item, depth - 1) for item in value[:_MOST_QUOTED]] if depth else ...
    if isinstance(value, dict):
        members = islice(value.items(), _MOST_QUOTED)
        return {_beginning(key): _beginning(member, depth - 1) for key, member in members} if depth else ...
    return value
