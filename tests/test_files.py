"""JSON and TOML of unknown origin, and files that are written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oshp_bench import files
from oshp_bench.errors import OshpError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=5)
    ),
    max_leaves=30,
)


def refused(content: bytes) -> str:
    with pytest.raises(OshpError) as error:
        files.parse_json(content, "some.json")
    (problem,) = error.value.problems
    assert problem.startswith("some.json: ")
    assert "\n" not in problem
    return problem


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": 9223372036854775808}', "64 bits"),
        (b'{"a": ' + b"9" * 100_000 + b"}", "64 bits"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": "\\ud800"}', "not valid JSON"),
        (b'{"a": "\xed\xa0\x80"}', "not valid JSON"),
        (b"\xff\xfe{\x00}\x00", "not valid JSON"),
        (b'{"a": 1', "cut off"),
        (b"", "cut off"),
        (b"[" * 51 + b"]" * 51, "too deeply"),
        (b"[" * 100_000 + b"]" * 100_000, "too deeply"),
        (b'{"a":' * 100_000, "too deeply"),
        (b"[" * 1_000_000 + b"]" * 1_000_000, "more values than any file of ours"),
        (b'{"a":' * 1_000_000, "more values than any file of ours"),
    ],
)
def test_bad_json_is_one_problem(content: bytes, reason: str) -> None:
    assert reason in refused(content)


def test_the_limits_themselves_are_allowed() -> None:
    assert files.parse_json(b"[" * 50 + b"]" * 50, "x")
    assert files.parse_json(b"[9223372036854775807, -9223372036854775808]", "x") == [2**63 - 1, -(2**63)]
    assert files.parse_json(b'"\\ud83d\\ude00"', "x") == "\N{GRINNING FACE}"


@pytest.mark.slow
@given(JSON)
@settings(max_examples=60, deadline=None)
def test_readable_json_reads_back(value: Any) -> None:
    assert files.parse_json(files.readable_json(value).encode(), "x") == value


@pytest.mark.slow
@given(st.dictionaries(st.text(st.characters(codec="utf-8")), JSON, max_size=6), st.randoms())
@settings(max_examples=60, deadline=None)
def test_digests_do_not_depend_on_the_order_of_keys(value: dict[str, Any], random: Any) -> None:
    keys = list(value)
    random.shuffle(keys)
    assert files.content_digest({key: value[key] for key in keys}) == files.content_digest(value)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_json_or_one_problem(content: bytes) -> None:
    try:
        assert files.parse_json(content, "x") == json.loads(content)
    except OshpError as error:
        assert len(error.problems) == 1


def test_readable_json_keeps_short_things_on_one_line() -> None:
    value = {"short": [1, 2, {"a": "b"}], "long": ["x" * 60, "y" * 60]}
    assert files.readable_json(value) == (
        '{\n "short": [1, 2, {"a": "b"}],\n "long": [\n  "' + "x" * 60 + '",\n  "' + "y" * 60 + '"\n ]\n}\n'
    )


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 20_000,
        "a = " + "{a = " * 20_000,
        ".".join("a" * 2_000) + " = 1",
        "a = 1\na = 2",
        "a = " + "9" * 10_000,
        "a = \x00",
        "= 1",
    ],
)
def test_bad_toml_is_one_problem(tmp_path: Path, text: str) -> None:
    path = tmp_path / "some.toml"
    path.write_text(text)
    with pytest.raises(OshpError, match=r"some\.toml") as error:
        files.read_toml(path)
    assert len(error.value.problems) == 1


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, reason in [(tmp_path / "none.json", "cannot be read"), (tmp_path, "cannot be read")]:
        with pytest.raises(OshpError, match=reason):
            files.read_json(path)
    big = tmp_path / "big.toml"
    big.write_bytes(b"#" * (files.MAX_TOML_BYTES + 1))
    with pytest.raises(OshpError, match="larger than 256 KiB"):
        files.read_toml(big)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_text(path, "old")

    def fail_midway() -> None:
        with files.written_whole(path) as file:
            file.write(b"new, but not all of i")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_midway()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_rerun_writes_over_what_a_killed_run_left(tmp_path: Path) -> None:
    with files.written_whole(tmp_path / "probe") as file:
        (left,) = tmp_path.iterdir()
        file.write(b"x")
    (tmp_path / left.name).write_bytes(b"half a file")
    files.write_text(tmp_path / "probe", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["probe"]
    assert (tmp_path / "probe").read_text() == "whole"
