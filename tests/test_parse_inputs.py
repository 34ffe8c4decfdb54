"""oshp-parse with what people have: several examples, no person, a single pixel, many classes, grey and huge photos."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from network_cases import card_of, save_drawn
from PIL import Image

from oshp_bench import Manifest
from oshp_bench.baselines.checkpoints import load_checkpoint, save_checkpoint
from oshp_bench.datasets.images import read_mask
from oshp_bench.parse.cli import main

SIZE = (40, 30)


@pytest.fixture(scope="module")
def here(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An eopnet-fg with rows for 59 classes, two annotated photos and one to parse."""
    folder = tmp_path_factory.mktemp("inputs")
    save_drawn(folder / "fg.safetensors", card_of(manifest, method="eopnet-fg", model={}, count=60, test_side=48))
    generator = np.random.default_rng(4)
    for name in "abq":
        Image.fromarray(generator.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    stripes = np.arange(SIZE[0]) // 8
    for name, first in (("a", 10), ("b", 13)):
        mask = np.broadcast_to((first + stripes)[:, None], SIZE).astype(np.uint8)
        Image.fromarray(mask).save(folder / f"{name}_mask.png")
    return folder


def parse(here: Path, out: Path, *options: object, mask: Path | None = None, photo: Path | None = None) -> Result:
    arguments = ["--checkpoint", here / "fg.safetensors", "-o", out, "--support", here / "a.png"]
    arguments += ["--mask", mask or here / "a_mask.png", photo or here / "q.png", *options]
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_several_examples_add_up(here: Path, tmp_path: Path) -> None:
    """Classes 10 to 14 by the first, 13 to 17 by the second; one that both show takes the better of both."""
    more = ("--support", here / "b.png", "--mask", here / "b_mask.png")
    result = parse(here, tmp_path / "both", *more)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("eopnet-fg parses class 10 (by the example), ")
    assert "class 17 (by the example)" in result.stdout
    both = read_mask(tmp_path / "both" / "q_mask.png")
    assert {*np.unique(both).tolist()} & {15, 16, 17} and {*np.unique(both).tolist()} & {10, 11, 12}
    # An example of no class that is asked for changes nothing, nor does the same one again.
    assert parse(here, tmp_path / "one").exit_code == 0
    assert parse(here, tmp_path / "again", "--support", here / "a.png", "--mask", here / "a_mask.png").exit_code == 0
    one, again = (read_mask(tmp_path / name / "q_mask.png") for name in ("one", "again"))
    assert (one == again).all()
    chosen = [option for number in range(10, 13) for option in ("--class", number)]
    assert parse(here, tmp_path / "chosen", *more, *chosen).exit_code == 0
    assert parse(here, tmp_path / "alone", *chosen).exit_code == 0
    chosen_mask, alone = (read_mask(tmp_path / name / "q_mask.png") for name in ("chosen", "alone"))
    assert (chosen_mask == alone).all()


def test_names_come_from_an_annotation_in_json(here: Path, tmp_path: Path) -> None:
    shapes = [
        {"label": name, "points": [[0, 20 * row], [29, 20 * row + 19]], "shape_type": "rectangle"}
        for row, name in enumerate(("hair", "cape"))
    ]
    document = {"shapes": shapes, "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
    (tmp_path / "m.json").write_text(json.dumps(document))
    result = parse(here, tmp_path / "out", mask=tmp_path / "m.json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("eopnet-fg parses hair (as learned), cape (by the example)")


def test_a_class_of_a_single_pixel_disturbs_no_other(here: Path, tmp_path: Path) -> None:
    mask = read_mask(here / "a_mask.png").copy()
    mask[0, 0] = 99
    Image.fromarray(mask).save(tmp_path / "m.png")
    result = parse(here, tmp_path / "out", mask=tmp_path / "m.png")
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(np.unique(read_mask(tmp_path / "out" / "q_mask.png"))) > 3


def test_twenty_classes(here: Path, tmp_path: Path) -> None:
    mask = np.broadcast_to(np.repeat(np.arange(21, 41), 2)[:, None], SIZE).astype(np.uint8)
    Image.fromarray(mask).save(tmp_path / "m.png")
    result = parse(here, tmp_path / "out", "--json", mask=tmp_path / "m.png")
    assert [known["number"] for known in json.loads(result.stdout)["classes"]] == list(range(21, 41))


def test_a_photo_without_a_person_holds_nothing(here: Path, tmp_path: Path) -> None:
    """The coarse space of this network sees no human anywhere."""
    loaded = load_checkpoint(here / "fg.safetensors")
    last = "coarse.guidance.head.classify"
    state = loaded.network.state_dict()
    state |= {f"{last}.weight": torch.zeros_like(state[f"{last}.weight"]), f"{last}.bias": torch.tensor([-1.0, 1.0])}
    loaded.network.load_state_dict(state)
    save_checkpoint(tmp_path / "fg.safetensors", loaded.card, loaded.network)
    for name in ("a.png", "a_mask.png", "q.png"):
        (tmp_path / name).write_bytes((here / name).read_bytes())
    result = parse(tmp_path, tmp_path / "out")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[1] == f"{tmp_path / 'q.png'}: nothing of it"
    assert not read_mask(tmp_path / "out" / "q_mask.png").any()


def test_grey_photos_are_as_good_as_their_colours(here: Path, tmp_path: Path) -> None:
    grey = Image.open(here / "q.png").convert("L")
    grey.save(tmp_path / "q.png")
    grey.convert("RGB").save(tmp_path / "r.png")
    for name in "qr":
        assert parse(here, tmp_path / "out", photo=tmp_path / f"{name}.png").exit_code == 0
    assert (tmp_path / "out" / "q_mask.png").read_bytes() == (tmp_path / "out" / "r_mask.png").read_bytes()


@pytest.mark.slow
def test_a_photo_of_40_megapixels_gets_a_mask_of_its_size(here: Path, tmp_path: Path) -> None:
    Image.open(here / "q.png").resize((5000, 8000)).save(tmp_path / "q.jpg")
    result = parse(here, tmp_path / "out", photo=tmp_path / "q.jpg")
    assert (result.exit_code, result.stderr) == (0, "")
    mask = read_mask(tmp_path / "out" / "q_mask.png")
    assert mask.shape == (8000, 5000) and len(np.unique(mask)) > 2
