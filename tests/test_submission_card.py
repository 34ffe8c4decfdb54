"""The method card: everything a reader needs, and nothing that harms the page it stands on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from submission_cases import CARD, card_file

from oshp_bench.errors import OshpError
from oshp_bench.leaderboard.submit_cli import main
from oshp_bench.metrics.method_card import MethodCard, method_card, read_method_card
from oshp_bench.untrusted import Reader

GOOD = MethodCard(
    name="by hand",
    authors="Ada Example and Ben Example",
    paper="https://example.org/paper?id=1",
    code=None,
    backbone="ResNet-50",
    pretraining="ImageNet-1k",
    parameters=23_500_000,
    extra_data="none",
    date="2026-01-31",
)


def refused(path: Path) -> list[str]:
    with pytest.raises(OshpError) as caught:
        read_method_card(path)
    assert caught.value.exit_code == 2
    assert all(line.startswith(f"{path}: ") and line.isprintable() for line in caught.value.problems)
    return [line.removeprefix(f"{path}: ") for line in caught.value.problems]


def test_a_card_is_read_as_written(tmp_path: Path) -> None:
    assert read_method_card(card_file(tmp_path / "method.toml")) == GOOD
    # TOML's own dates, and no member for what there is not.
    path = card_file(tmp_path / "date.toml", date=None, code=None, description="Two lines\\nno more.")
    path.write_text(path.read_text() + "\ndate = 2026-01-31")
    assert read_method_card(path) == replace(GOOD, description="Two lines\\nno more.")


def test_the_template_asks_for_every_member_and_is_refused_unfilled(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["template"])
    assert result.exit_code == 0
    path = tmp_path / "method.toml"
    path.write_text(result.stdout)
    assert [line.split()[0] for line in refused(path)] == [
        *("name", "authors", "backbone", "pretraining", "parameters", "extra_data", "date")
    ]
    filled = result.stdout
    for key, value in CARD.items():
        filled = "\n".join(
            f"{key} = {json.dumps(value)}" if line.startswith(f"{key} = ") else line for line in filled.splitlines()
        )
    path.write_text(filled)
    assert read_method_card(path) == GOOD


def test_every_problem_is_said_at_once(tmp_path: Path) -> None:
    path = card_file(
        tmp_path / "method.toml",
        name="",
        authors=7,
        paper="ftp://a",
        parameters=-3,
        date=None,
        backbone=None,
        year=2026,
    )
    assert refused(path) == [
        "name is empty; fill it in",
        "authors is 7, not a text",
        "paper is 'ftp://a', not an address http://... or https://...",
        "backbone is missing",
        "parameters is -3, not a number from 0 to 1000000000000000",
        "date is missing",
        "unknown member 'year'",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a\nb", "U+000A"),
        ("a\tb", "U+0009"),
        ("a\x1b[31mb", "U+001B"),
        ("a\x9bb", "U+009B"),
        ("abc\u202etxt.exe", "U+202E"),
        ("abc\u2066d\u2069", "U+2066"),
        ("abc\u200e", "U+200E"),
        ("a\u200bb", "U+200B"),
        ("\ufeffa", "U+FEFF"),
        ("a\u00a0b", "U+00A0"),
        ("a\u2028b", "U+2028"),
        ("a\ue000b", "U+E000"),
    ],
)
@pytest.mark.parametrize("key", ["name", "authors", "backbone", "pretraining", "extra_data", "description"])
def test_signs_that_nobody_sees(key: str, text: str, problem: str) -> None:
    reader = Reader({**GOOD.to_json(), key: text}, "card")
    method_card(reader)
    assert reader.problems == [f"card: {key} holds {problem}, which cannot be printed; write one line of plain text"]


def test_lengths(tmp_path: Path) -> None:
    assert read_method_card(card_file(tmp_path / "long.toml", name="n" * 100, backbone="b" * 500)).name == "n" * 100
    path = card_file(
        tmp_path / "longer.toml",
        name="n" * 10_000,
        authors="a" * 501,
        paper=f"https://example.org/{'p' * 490}",
        description="d" * 30_000,
        pretraining=" some",
    )
    assert refused(path) == [
        "name has 10,000 characters; at most 100 are allowed",
        "authors has 501 characters; at most 500 are allowed",
        "paper has 510 characters; at most 500 are allowed",
        "pretraining starts or ends with a space",
        "description is longer than 20000 characters",
    ]


@pytest.mark.parametrize("text", ["<b>bold</b>", "=HYPERLINK(0)", "שיטה", "方法", "a & b | c", "$x_1$", "🧍"])
def test_what_a_board_has_to_escape_is_a_text_as_any_other(tmp_path: Path, text: str) -> None:
    assert read_method_card(card_file(tmp_path / "method.toml", name=text)).name == text


@pytest.mark.parametrize(
    "address",
    [
        *("https://arxiv.org/abs/2105.01241", "http://a.b:8080/x?y=z&t=[1]#part", "HTTPS://EXAMPLE.ORG"),
        "https://doi.org/10.1109/TPAMI.2023.3301672",
    ],
)
def test_addresses(tmp_path: Path, address: str) -> None:
    card = read_method_card(card_file(tmp_path / "method.toml", paper=address, code=address))
    assert (card.paper, card.code) == (address, address)


@pytest.mark.parametrize(
    "address",
    [
        *("javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "//example.org", "example.org", "https://"),
        *("https:///x", "https://user@example.org", "https://arxiv.org@example.org/", "https://a.b\\@c.d/"),
        *('https://a.b/"onclick="x', "https://a.b/<script>", "https://a.b/x y", "https://a.b/{x}", "https://a.b/é"),
        *("https://\u0430pple.com/", "https://.org", "https://a.b:123456/", "https://a.b:x/"),
    ],
)
def test_what_is_no_address(tmp_path: Path, address: str) -> None:
    assert refused(card_file(tmp_path / "method.toml", code=address)) == [
        f"code is {address!r}, not an address http://... or https://..."
    ]


@pytest.mark.parametrize(
    "day", ["2026-02-30", "2026-1-31", "20260131", "2026-W05-6", "31.1.2026", "\u0662\u0660\u0662\u0666-01-31", ""]
)
def test_what_is_no_date(tmp_path: Path, day: str) -> None:
    assert refused(card_file(tmp_path / "method.toml", date=day)) == [f"date is {day!r}, not a date like 2026-01-31"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"name = ", "not valid TOML ("),
        (b"name = '\xff'", "not valid TOML ("),
        (b"[" * 5_000, "n"),
        (b"#" * (2 << 20), "larger than 256 KiB"),
        (b"parameters = " + b"9" * 5_000, "not valid TOML ("),
        (b"date = 2026-01-31T10:00:00", "name is missing"),
    ],
)
def test_what_is_no_card(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "method.toml"
    path.write_bytes(content)
    assert refused(path)[0].startswith(problem)


PRINTABLE = st.text(min_size=1, max_size=100).filter(lambda text: text.isprintable() and text == text.strip())


@pytest.mark.slow
@given(
    texts=st.lists(PRINTABLE, min_size=5, max_size=5),
    parameters=st.integers(0, 10**15),
    day=st.dates(),
    description=st.none() | PRINTABLE,
)
def test_a_card_survives_its_json(texts: list[str], parameters: int, day: object, description: str | None) -> None:
    name, authors, backbone, pretraining, extra = texts
    card = MethodCard(
        name=name,
        authors=authors,
        backbone=backbone,
        pretraining=pretraining,
        parameters=parameters,
        extra_data=extra,
        date=str(day),
        description=description,
    )
    reader = Reader(json.loads(json.dumps(card.to_json())), "card")
    assert method_card(reader) == card
    assert not reader.problems


@given(
    card=st.dictionaries(
        st.sampled_from([*CARD, "description", "x"]),
        st.none() | st.text() | st.integers() | st.sampled_from(list(CARD.values())) | st.lists(st.text()),
    )
)
def test_anything_gives_problems_or_a_good_card(card: dict[str, object]) -> None:
    reader = Reader({**GOOD.to_json(), **card}, "card")
    found = method_card(reader)
    assert all(line.isprintable() for line in reader.problems)
    if not reader.problems:
        again = Reader(found.to_json(), "card")
        assert method_card(again) == found
        assert not again.problems
