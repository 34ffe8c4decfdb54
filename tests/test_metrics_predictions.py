"""Broken prediction sets: every problem is listed, nothing is scored."""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metrics_cases import Bench, make_bench, mask_of, png, problems, scored
from PIL import Image

from oshp_bench.datasets.images import ImageProblem
from oshp_bench.datasets.labels import Spec
from oshp_bench.errors import OshpError
from oshp_bench.metrics.predictions import read_prediction


@pytest.fixture(scope="module")
def bench(tiny_spec: Spec, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tiny_spec, tiny_root, tmp_path_factory.mktemp("bench"), 6)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_header() -> bytes:
    """A PNG of a few bytes that says it is 60,000 x 60,000."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")
    )


def animated(mask: Image.Image) -> bytes:
    return encoded(mask, save_all=True, append_images=[Image.fromarray(255 - np.asarray(mask))])


KWAY_FILES: dict[str, tuple[Callable[[Image.Image], bytes], str]] = {
    "wrong-size": (lambda mask: encoded(mask.resize((7, 5))), "7x5, but the query is "),
    "turned": (lambda mask: encoded(mask.transpose(Image.Transpose.ROTATE_90)), "predict at the query's native size"),
    "rgb": (lambda mask: encoded(mask.convert("RGB")), "mode RGB, looks like a colour picture"),
    "rgba": (lambda mask: encoded(mask.convert("RGBA")), "mode RGBA, looks like a colour picture"),
    "la": (lambda mask: encoded(mask.convert("LA")), "mode LA"),
    "16-bit": (lambda mask: encoded(Image.fromarray(np.asarray(mask).astype(np.uint16))), "16 bits a channel"),
    "binary": (
        lambda mask: encoded(mask.point(lambda v: 255 * (v > 0))),
        "holds 255, .*; with 0 and 255 only, is this 1-way?",
    ),
    "unmerged": (
        lambda mask: encoded(mask.point(lambda v: 4 if v == 3 else v)),
        "looks like unmerged labels: .* after",
    ),
    "removed": (lambda mask: encoded(mask.point(lambda v: v or 6)), "holds 6, .* looks like unmerged labels"),
    "grey-picture": (lambda mask: encoded(mask.point(lambda v: 255 - 3 * v)), "looks like a colour or grey picture"),
    "truncated": (lambda mask: encoded(mask)[:-20], "truncated: the PNG's end is missing"),
    "cut-in-half": (lambda mask: encoded(mask)[:60], "truncated: the PNG's end is missing"),
    "a-bit-flipped": (lambda mask: encoded(mask).replace(b"IDAT", b"IDAU"), "damaged: a checksum"),
    "empty": (lambda mask: b"", "an empty file"),  # noqa: ARG005
    "animated": (animated, "animated"),
    "60000x60000": (lambda mask: huge_header(), "60000x60000 pixels are more than we read"),  # noqa: ARG005
    "jpeg": (lambda mask: encoded(mask, "JPEG"), "a JPEG, not a PNG; JPEG changes numbers"),
    "gif": (lambda mask: encoded(mask, "GIF"), "not a PNG, or damaged"),
    "text": (lambda mask: b"0 1 1 0\n", "not a PNG, or damaged"),  # noqa: ARG005
    "too-large": (lambda mask: encoded(mask) + bytes(2 << 20), "the file is larger than 10.. KiB, more than a"),
}


@pytest.mark.parametrize(("damage", "problem"), KWAY_FILES.values(), ids=KWAY_FILES)
def test_a_file_that_is_no_kway_prediction(
    bench: Bench, tmp_path: Path, damage: Callable[[Image.Image], bytes], problem: str
) -> None:
    folder = bench.write(tmp_path / "preds")
    (folder / "kway" / "0002.png").write_bytes(damage(Image.fromarray(bench.kway(2))))
    (found,) = problems(bench, folder)
    assert found.startswith("kway/0002.png: ")
    assert re.search(problem, found)


def test_oneway_takes_one_foreground_value_of_any_number(bench: Bench, tmp_path: Path) -> None:
    folder = bench.write(tmp_path / "preds")
    perfect = scored(bench, folder).figures
    for pair, value in enumerate((255, 1, 7, 100, 254, 6)):
        mask = bench.oneway(pair)
        (folder / "1way" / f"{pair:04d}.png").write_bytes(png(mask * np.uint8(value)))
    # 1 bit a pixel, too.
    (folder / "1way" / "0001.png").write_bytes(encoded(Image.fromarray(bench.oneway(1) > 0)))
    assert scored(bench, folder).figures == perfect
    assert perfect["1way/bi_miou"].value == perfect["kway/overall_accuracy"].value == 1
    (folder / "1way" / "0003.png").write_bytes(png(bench.kway(3)))
    (found,) = problems(bench, folder)
    assert found.startswith("1way/0003.png: holds 1, ")
    assert found.endswith("besides 0, but 1-way has one foreground value; is this a k-way prediction?")


def test_palette_and_low_bit_depths_hold_the_index(bench: Bench, tmp_path: Path) -> None:
    folder = bench.write(tmp_path / "preds")
    perfect = scored(bench, folder).figures
    for pair, bits in enumerate((8, 8, 4, 4, 8, 4)):
        image = Image.fromarray(bench.kway(pair))
        image.putpalette(bytes(reversed(range(256))) * 3)
        (folder / "kway" / f"{pair:04d}.png").write_bytes(encoded(image, bits=bits))
    assert scored(bench, folder).figures == perfect


def test_all_problems_are_listed_at_once(bench: Bench, tmp_path: Path) -> None:
    folder = bench.write(tmp_path / "preds")
    (folder / "kway" / "0000.png").unlink()
    (folder / "kway" / "0001.png").write_bytes(b"")
    (folder / "1way" / "0005.png").rename(folder / "1way" / "0006.png")
    (folder / "1way" / "0002.png").write_bytes(png(mask_of("0 1")))
    (folder / "notes.txt").write_text("made on a rainy day")
    (folder / "kway.zip").write_bytes(b"PK")
    (folder / "kway" / "more").mkdir()
    (folder / "kway" / "more" / "0000.png").write_bytes(png(bench.kway(0)))
    assert sorted(line.split(";")[0].split(",")[0] for line in problems(bench, folder)) == [
        "1way/0002.png: 2x1",
        "1way/0006.png: tiny_fold1 has no pair of this name",
        "1way: 0005.png is missing",
        "kway.zip: not a prediction",
        "kway/0001.png: an empty file",
        "kway/more/0000.png: not a prediction",
        "kway: 0000.png is missing",
        "notes.txt: not a prediction",
    ]


def test_a_long_list_of_problems_is_cut(bench: Bench, tmp_path: Path) -> None:
    folder = bench.write(tmp_path / "preds")
    for number in range(200):
        (folder / "kway" / f"x{number}.png").write_bytes(b"")
    with pytest.raises(OshpError) as caught:
        scored(bench, folder)
    assert len(caught.value.problems) == 51
    assert caught.value.problems[-1] == "... and 150 more problems"


def test_missing_predictions_can_count_as_background(bench: Bench, tmp_path: Path) -> None:
    folder = bench.write(tmp_path / "preds")
    background = np.zeros_like(bench.kway(4))
    (folder / "kway" / "0004.png").write_bytes(png(background))
    (folder / "1way" / "0000.png").write_bytes(png(np.zeros_like(bench.kway(0))))
    written = scored(bench, folder)
    (folder / "kway" / "0004.png").unlink()
    (folder / "1way" / "0000.png").unlink()
    result = scored(bench, folder, allow_missing=1)
    assert result.figures == written.figures
    assert result.matrices.missing == {"k": ("0004",), "1": ("0000",)}
    assert result.to_json()["predictions"]["missing"] == {"k": ["0004"], "1": ["0000"]}
    assert result.matrices.digest != written.matrices.digest


def test_a_flat_folder_needs_the_way(bench: Bench, tmp_path: Path) -> None:
    folder = bench.write(tmp_path / "preds")
    perfect = scored(bench, folder)
    assert scored(bench, folder / "kway", "k").matrices.digest == scored(bench, folder, "k").matrices.digest
    assert scored(bench, folder / "1way", "1").figures["1way/bi_miou"] == perfect.figures["1way/bi_miou"]
    assert "give --way k or --way 1" in problems(bench, folder / "kway")[0]
    # The k-way predictions are no broken 1-way ones.
    (folder / "kway" / "0000.png").unlink()
    assert scored(bench, folder, "1").figures.keys() == scored(bench, folder / "1way", "1").figures.keys()
    assert problems(bench, folder / "kway", "k") == ["0000.png is missing"]


def test_what_is_no_set_of_predictions(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("0")
    assert problems(bench, tmp_path / "empty") == ["holds no kway/*.png and no 1way/*.png"]
    assert problems(bench, tmp_path / "empty", "1") == ["holds no 1way/*.png"]
    reasons = {
        "file": "(File is not a zip file); pack it again",
        "nowhere": "(No such file or directory); check the path",
    }
    for name, reason in reasons.items():
        assert problems(bench, tmp_path / name) == [f"neither a folder nor a readable zip {reason}"]


def test_folders_links_and_pipes_in_the_place_of_predictions(bench: Bench, tmp_path: Path) -> None:
    folder = bench.write(tmp_path / "preds")
    kway = folder / "kway"
    perfect = scored(bench, folder)
    # A link inside the folder is taken as its file.
    (kway / "0003.png").unlink()
    (kway / "0003.png").symlink_to("0004.png")
    (kway / "0004.png").write_bytes(png(bench.kway(3)))
    assert scored(bench, folder).figures["kway/human_miou"].value is not None
    (kway / "0003.png").unlink()
    (kway / "0003.png").mkdir()
    assert problems(bench, folder) == ["kway: 0003.png is missing"]
    (kway / "0003.png").rmdir()
    (tmp_path / "outside.png").write_bytes(png(bench.kway(3)))
    # Out of the folder, out of it to nothing, to itself, to nothing.
    for target in (tmp_path / "outside.png", tmp_path / "others", Path("0003.png"), Path("9999.png")):
        (kway / "0003.png").symlink_to(target)
        assert problems(bench, folder) == [
            "kway/0003.png: a link that leads out of the folder or nowhere; put the file itself there"
        ]
        (kway / "0003.png").unlink()
    os.mkfifo(kway / "0003.png")
    assert problems(bench, folder) == ["kway/0003.png: neither a file nor a folder; remove it"]
    (kway / "0003.png").unlink()
    (kway / "0003.png").write_bytes(png(bench.kway(3)))
    (kway / "0004.png").write_bytes(png(bench.kway(4)))
    (folder / "again").symlink_to(folder)
    assert "again/kway/0000.png: not a prediction; remove it" in problems(bench, folder)
    (folder / "again").unlink()
    assert scored(bench, folder).to_json() == perfect.to_json()


@pytest.mark.parametrize(
    ("card", "problem"),
    [
        (
            '{"manifest": "other", "test_digest": "sha256:00"}',
            "these are predictions for 'other', whose test pairs differ",
        ),
        ('{"test_digest": 5, "manifest": "a\\nb"}', r"these are predictions for 'a\nb', whose test pairs differ"),
        ('{"test_digest": NaN}', "not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("", "not valid JSON"),
    ],
    ids=["another", "two-lines", "nan", "deep", "empty"],
)
def test_the_card_of_other_predictions(bench: Bench, tmp_path: Path, card: str, problem: str) -> None:
    folder = bench.write(tmp_path / "preds", ways=("kway",))
    (folder / "predictions.json").write_text(card)
    (found,) = problems(bench, folder)
    assert found.startswith("predictions.json: ")
    assert problem in found


def test_the_card_names_the_method(bench: Bench, tmp_path: Path) -> None:
    folder = bench.write(tmp_path / "preds", ways=("kway",))
    card = f'{{"method": "by hand", "test_digest": "{bench.manifest.test_digest}"}}'
    (folder / "predictions.json").write_text(card)
    assert scored(bench, folder).to_json()["predictions"]["method"] == "by hand"


GOOD = png(mask_of("0 1 2 3, 5 7 0 0, 1 1 1 1"))
CHANGES = st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=6)


def read_or_refused(data: bytes) -> None:
    """A damaged picture gives a mask of the right shape or an ImageProblem, nothing else."""
    try:
        mask = read_prediction(data, (3, 4))
    except ImageProblem as problem:
        assert str(problem).isprintable()
    else:
        assert mask.shape == (3, 4)
        assert mask.dtype == np.uint8


@given(changes=CHANGES, stop=st.integers(1, len(GOOD) * 2))
def test_random_bytes_in_a_png(changes: list[tuple[int, int]], stop: int) -> None:
    data = bytearray(GOOD)
    for place, value in changes:
        data[place] = value
    read_or_refused(bytes(data[:stop]))


@given(changes=CHANGES, kind=st.sampled_from([b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"zTXt", b"iCCP", b"eXIf", b"pHYs"]))
def test_random_bytes_in_a_png_whose_checksums_fit(changes: list[tuple[int, int]], kind: bytes) -> None:
    parts, start = [], 8
    while start < len(GOOD):
        (length,) = struct.unpack_from(">I", GOOD, start)
        parts.append((GOOD[start + 4 : start + 8], bytearray(GOOD[start + 8 : start + 8 + length])))
        start += 12 + length
    if kind not in (b"IHDR", b"IDAT"):
        parts.insert(1, (kind, bytearray(b"a\0\0" + zlib.compress(bytes(40)))))
    damaged = next(content for name, content in parts if name == kind)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    read_or_refused(GOOD[:8] + b"".join(chunk(name, bytes(content)) for name, content in parts))
