"""oshp-parse: a person's own photos, by an example whose classes have any numbers and names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from network_cases import card_of, save_drawn
from numpy.typing import NDArray
from PIL import Image, ImageOps

from oshp_bench import Manifest
from oshp_bench.baselines.checkpoints import load_checkpoint
from oshp_bench.baselines.inference import NetworkMethod
from oshp_bench.datasets.images import IGNORE, read_mask, read_photo
from oshp_bench.datasets.palette import colour_of
from oshp_bench.episodes.episodes import WAYS
from oshp_bench.parse.cli import main

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def here(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints, an example, and photos. The base classes are hat 1, hair 2, shoes 3; novel are dress 5 and bag 7."""
    folder = tmp_path_factory.mktemp("own")
    for way in WAYS:
        # Without screening, so that drawn weights parse into every class.
        model = {"screening": False}
        save_drawn(folder / f"{way}.safetensors", card_of(manifest, way, model=model, test_side=48))
    generator = np.random.default_rng(4)
    for name, size in (("s", (40, 30)), ("a", (50, 36)), ("b", (24, 64))):
        blocks = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize(size[::-1]).save(folder / f"{name}.png")
    mask = np.zeros((40, 30), np.uint8)
    for row, number in enumerate((1, 2, 3, 5, 7)):
        mask[8 * row : 8 * row + 7, 3:27] = number
    mask[:, :2] = IGNORE
    Image.fromarray(mask).save(folder / "mask.png")
    return folder


def parse(here: Path, out: Path, *arguments: Any, checkpoint: str = "k", mask: str = "mask.png") -> Result:
    given = ["--checkpoint", here / f"{checkpoint}.safetensors", "--support", here / "s.png", "--mask", here / mask]
    return CliRunner().invoke(main, [*map(str, [*given, "-o", out, *arguments])])


def numbers(path: Path) -> set[int]:
    return set(np.unique(read_mask(path)).tolist())


def relabelled(here: Path, changes: dict[int, int], name: str) -> str:
    mask = read_mask(here / "mask.png").copy()
    table = np.arange(256, dtype=np.uint8)
    table[list(changes)] = list(changes.values())
    Image.fromarray(table[mask]).save(here / name)
    return name


def test_photos_are_parsed_into_masks_and_overlays(here: Path, tmp_path: Path) -> None:
    """The shape of the command: queries after --query, as many as there are."""
    result = parse(here, tmp_path / "out", "--query", here / "a.png", here / "b.png")
    assert (result.exit_code, result.stderr) == (0, "")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{name}_{kind}.png" for name in "ab" for kind in ("mask", "overlay")
    }
    first, *lines, last = result.stdout.splitlines()
    assert first == (
        "eopnet parses hat (as learned), hair (as learned), shoes (as learned), dress (by the example), bag (by the"
        " example); head NPM; screening off"
    )
    assert [line.partition(": ")[0] for line in lines] == [str(here / "a.png"), str(here / "b.png")]
    assert last == f"Look at {tmp_path / 'out'}"
    names = {1: "hat", 2: "hair", 3: "shoes", 5: "dress", 7: "bag"}
    for name, line, size in (("a", lines[0], (50, 36)), ("b", lines[1], (24, 64))):
        mask = read_mask(tmp_path / "out" / f"{name}_mask.png")
        assert mask.shape == size
        shares = {names[each]: 100 * (mask == each).mean() for each in np.unique(mask).tolist() if each}
        assert line.partition(": ")[2] == ", ".join(
            f"{each} {shares[each]:.1f} %" for each in names.values() if each in shares
        )
        with Image.open(tmp_path / "out" / f"{name}_mask.png") as image:
            assert image.mode == "P"
            colours = np.asarray(image.convert("RGB"))
        for each, called in names.items():
            assert (colours[mask == each] == colour_of(called)).all()
    assert len(numbers(tmp_path / "out" / "a_mask.png")) > 3


def test_queries_may_be_given_in_every_way_and_others_change_nothing(here: Path, tmp_path: Path) -> None:
    a, b = here / "a.png", here / "b.png"
    commands: list[list[Any]] = [[a, b], ["--query", a, "--query", b], ["--query", b, a]]
    for number, queries in enumerate(commands):
        assert parse(here, tmp_path / str(number), *queries).exit_code == 0
    assert parse(here, tmp_path / "alone", a).exit_code == 0
    for name in ("a_mask.png", "a_overlay.png"):
        assert len({(folder / name).read_bytes() for folder in tmp_path.iterdir()}) == 1
    result = parse(here, tmp_path / "none")
    assert result.stderr == "error: no photo to parse; give one or more, such as --query q1.jpg q2.jpg\n"


def test_it_parses_as_a_pair_of_the_benchmark(here: Path, tmp_path: Path) -> None:
    """With class ids for numbers, the mask is what oshp-predict's method gives for such a pair."""
    assert parse(here, tmp_path, here / "a.png").exit_code == 0
    photo, support = (np.asarray(Image.open(here / f"{name}.png")) for name in ("a", "s"))
    mask = read_mask(here / "mask.png")

    class Pair:
        query_id, support_id, classes, query_size = "a", "s", (1, 2, 3, 5, 7), (50, 36)
        query_photo, support_photo, support_mask, support_whole = photo, support, mask, mask
        support_human = np.where(mask == IGNORE, IGNORE, mask > 0).astype(np.uint8)

    expected = NetworkMethod(load_checkpoint(here / "k.safetensors").network, 48)(Pair())
    assert (read_mask(tmp_path / "a_mask.png") == expected).all()


def test_numbers_without_a_meaning_of_their_own_do_not_matter(here: Path, tmp_path: Path) -> None:
    """Classes that are new to the network go to rows that hold no prototype, whatever they are called."""
    assert parse(here, tmp_path / "ids", here / "a.png").exit_code == 0
    # Each keeps its place among the others, so that even ties fall alike.
    mask = relabelled(here, {5: 40, 7: 254}, "far.png")
    result = parse(here, tmp_path / "far", here / "a.png", "--names", "40=cape,254=boots", mask=mask)
    assert "cape (by the example), boots (by the example)" in result.stdout
    first, second = (read_mask(tmp_path / each / "a_mask.png") for each in ("ids", "far"))
    assert ((first == 5) == (second == 40)).all() and ((first == 7) == (second == 254)).all()
    assert {40, 254} & numbers(tmp_path / "far" / "a_mask.png")
    rest = ~np.isin(first, (5, 7))
    assert (first[rest] == second[rest]).all()


def test_a_learned_class_may_have_another_number_and_another_name_makes_it_new(here: Path, tmp_path: Path) -> None:
    assert parse(here, tmp_path / "ids", here / "a.png").exit_code == 0
    mask = relabelled(here, {2: 90}, "hair.png")
    result = parse(here, tmp_path / "hair", here / "a.png", "--names", "90=hair", mask=mask)
    assert "hair (as learned)" in result.stdout
    first, second = (read_mask(tmp_path / each / "a_mask.png") for each in ("ids", "hair"))
    assert ((first == 2) == (second == 90)).all() and 2 in first
    result = parse(here, tmp_path / "wig", here / "a.png", "--names", "2=wig")
    assert "wig (by the example)" in result.stdout
    assert (read_mask(tmp_path / "wig" / "a_mask.png") != first).any()


def test_a_one_way_network_parses_class_by_class(here: Path, tmp_path: Path) -> None:
    """A pixel that several classes claim goes to the one furthest above background."""
    result = parse(here, tmp_path, here / "a.png", checkpoint="1")
    assert (result.exit_code, result.stderr) == (0, "")
    together = read_mask(tmp_path / "a_mask.png")
    alone = {}
    for number in (1, 2, 3, 5, 7):
        assert parse(here, tmp_path / str(number), here / "a.png", "--class", number, checkpoint="1").exit_code == 0
        alone[number] = read_mask(tmp_path / str(number) / "a_mask.png") == number
        assert numbers(tmp_path / str(number) / "a_mask.png") <= {0, number}
    claims = np.stack([*alone.values()])
    assert ((together > 0) == claims.any(0)).all()
    for number, claim in alone.items():
        assert claim[together == number].all()
    assert claims.sum(0).max() > 1 and len(np.unique(together)) > 2, "weights for which it makes a difference"


def test_some_classes_may_be_chosen(here: Path, tmp_path: Path) -> None:
    result = parse(here, tmp_path, here / "a.png", "--class", 5, "--class", 2, "--class", 5, "--json")
    told = json.loads(result.stdout)
    assert told["classes"] == [
        {"number": 2, "name": "hair", "learned": True},
        {"number": 5, "name": "dress", "learned": False},
    ]
    assert numbers(tmp_path / "a_mask.png") <= {0, 2, 5}
    mask = read_mask(tmp_path / "a_mask.png")
    assert told["photos"] == [
        {
            "query": str(here / "a.png"),
            "mask": str(tmp_path / "a_mask.png"),
            "overlay": str(tmp_path / "a_overlay.png"),
            "shares": {str(each): round(float((mask == each).mean()), 6) for each in (0, 2, 5)},
        }
    ]
    assert told["network"]["checkpoint"] == "k.safetensors"
    result = parse(here, tmp_path, here / "a.png", "--class", 4, "--class", 9)
    assert result.stderr == f"error: {here / 'mask.png'}: holds no class 4, 9; it has 1, 2, 3, 5, 7\n"


def test_without_a_checkpoint_it_parses_by_the_example_alone(tmp_path: Path) -> None:
    """The support itself, with a method that needs no training: most of it is found again."""
    photo = np.full((160, 120, 3), 255, np.uint8)
    mask = np.zeros((160, 120), np.uint8)
    for row, (number, colour) in enumerate({77: (200, 30, 30), 12: (20, 160, 60)}.items()):
        mask[80 * row + 10 : 80 * row + 70, 20:100] = number
        photo[mask == number] = colour
    Image.fromarray(photo).save(tmp_path / "s.png")
    Image.fromarray(mask).save(tmp_path / "m.png")
    Image.fromarray(photo[:, ::-1]).save(tmp_path / "q.png")
    arguments = ["--support", tmp_path / "s.png", "--mask", tmp_path / "m.png", "-o", tmp_path / "out"]
    result = CliRunner().invoke(main, [*map(str, arguments), "--query", str(tmp_path / "q.png")])
    assert (result.exit_code, result.stderr) == (0, "")
    first = "prototype-matching parses class 12 (by the example), class 77 (by the example)"
    assert result.stdout.splitlines()[0] == first
    found = read_mask(tmp_path / "out" / "q_mask.png")
    assert (found == mask[:, ::-1]).mean() > 0.8


def test_photos_are_turned_upright(here: Path, tmp_path: Path) -> None:
    """A photo that a camera stored lying, with a note, is parsed as the upright one is."""
    with Image.open(here / "a.png") as upright:
        lying, note = upright.transpose(Image.Transpose.ROTATE_90), Image.Exif()
        note[0x0112] = 6
        lying.save(tmp_path / "a.png", exif=note)
    assert parse(here, tmp_path / "stored", tmp_path / "a.png").exit_code == 0
    assert parse(here, tmp_path / "upright", here / "a.png").exit_code == 0
    for name in ("a_mask.png", "a_overlay.png"):
        assert (tmp_path / "stored" / name).read_bytes() == (tmp_path / "upright" / name).read_bytes()


@pytest.mark.parametrize("orientation", range(10))
def test_every_exif_orientation_is_understood(tmp_path: Path, orientation: int) -> None:
    note = Image.Exif()
    note[0x0112] = orientation
    pixels = np.random.default_rng(orientation).integers(0, 256, (10, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png", exif=note)
    with Image.open(tmp_path / "p.png") as stored:
        assert np.array_equal(read_photo(tmp_path / "p.png", upright=True), np.asarray(ImageOps.exif_transpose(stored)))
    assert np.array_equal(read_photo(tmp_path / "p.png"), pixels)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01"]
)
def test_damaged_exif_data_say_nothing(tmp_path: Path, exif: bytes) -> None:
    Image.new("RGB", (7, 10)).save(tmp_path / "p.jpg", exif=exif)
    assert read_photo(tmp_path / "p.jpg", upright=True).shape == (10, 7, 3)


def test_every_photo_that_cannot_be_read_is_told_before_anything_is_computed(here: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "text.png").write_text("text")
    result = parse(
        here, tmp_path / "out", here / "a.png", tmp_path / "none.jpg", tmp_path / "cut.jpg", tmp_path / "text.png"
    )
    assert (result.exit_code, result.stdout) == (2, "")
    assert [line.partition(": ")[2].partition(":")[0] for line in result.stderr.splitlines()] == [
        str(tmp_path / name) for name in ("none.jpg", "cut.jpg", "text.png")
    ]
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_over_an_input_or_twice(here: Path, tmp_path: Path) -> None:
    for name in ("a.png", "s.png"):
        (tmp_path / name).write_bytes((here / name).read_bytes())
    (tmp_path / "a_mask.png").write_bytes((here / "mask.png").read_bytes())
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    result = CliRunner().invoke(
        main,
        [
            *("--checkpoint", str(here / "k.safetensors"), "--support", str(tmp_path / "s.png")),
            *("--mask", str(tmp_path / "a_mask.png"), "-o", str(tmp_path), str(tmp_path / "a.png")),
        ],
    )
    assert result.stderr.startswith(f"error: {tmp_path / 'a_mask.png'}: would be overwritten")
    result = parse(here, tmp_path, here / "a.png", tmp_path / "a.png")
    assert result.stderr.count("there is more than one photo called a; rename one") == 2
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("mask", "why"),
    [
        (np.zeros((40, 30), np.uint8), "holds no class (numbers from 1 to 254)"),
        (np.full((40, 30), 255, np.uint8), "holds no class (numbers from 1 to 254)"),
        (np.ones((30, 40), np.uint8), "40x30 pixels, but"),
        (np.ones((40, 30), np.uint16) * 300, "16 bits a channel; 8 are needed"),
        (np.indices((40, 30, 3)).sum(0).astype(np.uint8), "a colour picture, not a label mask"),
        (None, "does not exist"),
    ],
)
def test_a_mask_that_is_none_is_one_line(here: Path, tmp_path: Path, mask: Pixels | None, why: str) -> None:
    path = tmp_path / "m.png"
    if mask is not None:
        Image.fromarray(mask).save(path)
    result = parse(here, tmp_path / "out", here / "a.png", mask=str(path))
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith(f"error: {path}: ") and why in result.stderr


def test_help_needs_no_heavy_import() -> None:
    code = "import sys, oshp_bench.parse.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"numpy", "scipy", "h5py", "PIL", "torch", "tqdm"} & set(loaded)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="file limits of POSIX")
def test_a_full_disk_leaves_no_half_file(here: Path, tmp_path: Path) -> None:
    code = (
        "import resource\nfrom oshp_bench.parse.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))\nmain()"
    )
    arguments = ["--checkpoint", here / "k.safetensors", "--support", here / "s.png", "--mask", here / "mask.png"]
    ran = subprocess.run(
        [sys.executable, "-c", code, *map(str, (*arguments, "-o", tmp_path / "out", here / "a.png"))],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert ran.stderr.startswith(f"error: {tmp_path / 'out' / 'a_overlay.png'}: File too large")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a_mask.png"]
