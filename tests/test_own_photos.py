"""The parts of oshp-parse: names and numbers of a person's classes, claims of 1-way networks, the overlay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from network_cases import card_of

from oshp_bench import Manifest, OshpError
from oshp_bench.baselines.card import Card
from oshp_bench.baselines.checkpoints import Checkpoint
from oshp_bench.datasets.palette import colour_of
from oshp_bench.parse.overlay import overlay
from oshp_bench.parse.own_photos import claimed, own_classes, read_names


def test_claims_are_weighed_against_background() -> None:
    """Six pixels of classes 1 and 2, by hand:

    neither above background; 1 alone; both, 2 further; no human for either (the infinity of a gate or of screening);
    1 alone, as background is out of the question for it; for both, where the better score wins.
    """
    inf = float("inf")
    one = [[1.0, 0.0, 0.0, inf, -inf, -inf], [0.0, 3.0, 1.0, 5.0, 1.0, 2.0]]
    two = [[1.0, 2.0, -4.0, inf, 0.0, -inf], [1.0, 1.0, -2.0, 5.0, -inf, 3.0]]
    scores = [torch.tensor(each)[:, None] for each in (one, two)]
    assert claimed([([0], scores[0]), ([1], scores[1])], 2).tolist() == [[0, 1, 2, 0, 1, 2]]
    # One answer for both classes, and one more for the second: the better of its two claims counts.
    both = torch.tensor([[1.0, 0.0, 2.0], [3.0, 1.0, 0.0], [2.0, 2.0, 1.0]])[:, None]
    more = torch.tensor([[0.0, 5.0, 0.0], [2.5, 1.0, 0.5]])[:, None]
    # Claims of 1: 2, 1, -2. Claims of 2: 1, 2, -1 and 2.5, -4, 0.5.
    assert claimed([([0, 1], both), ([1], more)], 2).tolist() == [[2, 2, 2]]
    # Differences that single precision loses beside a background that is very far away.
    far = [torch.tensor([[-1e4], [each]])[:, None] for each in (0.5, 0.5001)]
    assert claimed([([0], far[0]), ([1], far[1])], 2).tolist() == [[2]]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("5", ["--names: '' is no name of 1 to 40 printable characters, such as 5=cape"]),
        ("0=a,255=b,x=c,-1=d,1000=e,²=f", ["is no class number; write 1 to 254, such as 5=cape"] * 6),
        ("5=a,05=b", ["--names: the number 5 stands there twice"]),
        ("5=a,6=a", ["--names: the name a stands there twice"]),
        ("5=a\nb", ["is no name of 1 to 40 printable characters"]),
        ("5=" + "a" * 41, ["is no name of 1 to 40 printable characters"]),
        (",", ["is no class number", "is no name"] * 2),
    ],
)
def test_names_that_are_none(text: str, problems: list[str]) -> None:
    with pytest.raises(OshpError) as caught:
        read_names(text)
    # Equal problems of several members are told for each.
    assert len(caught.value.problems) == len(problems)
    for line, problem in zip(caught.value.problems, problems, strict=True):
        assert problem in line and "\n" not in line


def test_names_come_from_a_text_or_a_file(tmp_path: Path) -> None:
    assert read_names("5=cape, 7 = top hat") == {5: "cape", 7: "top hat"}
    (tmp_path / "n.toml").write_text('5 = "cape"\n"7" = "top hat"\n')
    (tmp_path / "n.json").write_text('{"5": "cape", "7": "top hat"}')
    for name in ("n.toml", "n.json"):
        assert read_names(str(tmp_path / name)) == {5: "cape", 7: "top hat"}
    for content, why in (
        ("[1]", "no table of names"),
        ('{"5": 7}', "7 is no name"),
        ('{"5": "a", "5": "b"}', "stands there twice"),
        ("[" * 100_000, "nested too deeply"),
    ):
        (tmp_path / "n.json").write_text(content)
        with pytest.raises(OshpError, match=why):
            read_names(str(tmp_path / "n.json"))
    with pytest.raises(OshpError, match="cannot be read"):
        read_names(str(tmp_path / "none.toml"))


def checkpoint_of(manifest: Manifest | None, learned: set[int], count: int) -> Checkpoint:
    card = Card("eopnet", "k", "b", 8, count, {}) if manifest is None else card_of(manifest, count=count)
    return Checkpoint(card, torch.nn.Identity(), "c", "d", frozenset(learned))  # type: ignore[arg-type]


@given(
    numbers=st.sets(st.integers(1, 254), min_size=1, max_size=12),
    learned=st.sets(st.integers(1, 17), max_size=14),
)
@settings(deadline=None)
def test_every_class_gets_a_row_of_its_own_and_new_ones_none_with_a_memory(
    numbers: set[int], learned: set[int]
) -> None:
    """With an authors' checkpoint, which knows ids alone."""
    checkpoint = checkpoint_of(None, learned, 18)
    new = numbers - learned
    if len(new) > 17 - len(learned):
        with pytest.raises(OshpError, match=f"{len(new)} classes of the mask are new to the network"):
            own_classes(sorted(numbers), {}, checkpoint)
        return
    classes = own_classes(sorted(numbers), {}, checkpoint)
    assert [each.number for each in classes] == sorted(numbers)
    assert len({each.row for each in classes}) == len(classes)
    for each in classes:
        assert each.name == f"class {each.number}" and 0 < each.row < 18
        assert each.learned == (each.number in learned) == (each.row in learned)
        # What the network can call by its own number, it does.
        assert each.row == each.number or each.number > 17


def test_two_numbers_of_one_learned_class_are_refused(manifest: Manifest) -> None:
    checkpoint = checkpoint_of(manifest, {1, 2, 3}, 8)
    with pytest.raises(OshpError) as caught:
        own_classes([1, 2, 9], {9: "hat", 2: "wig"}, checkpoint)
    assert caught.value.problems == ("two numbers of the mask mean hat; give one of them another name with --names",)
    assert [each.learned for each in own_classes([1, 2, 9], {9: "cap", 2: "hair"}, checkpoint)] == [True, True, False]


def test_the_overlay_shows_photo_colours_outlines_and_legend() -> None:
    photo = np.full((600, 400, 3), 200, np.uint8)
    mask = np.zeros((600, 400), np.uint8)
    mask[100:300, 100:300] = 9
    drawn = np.asarray(overlay(photo, mask, {9: "hat", 11: "bag"}))
    assert drawn.shape[1] == 400 and drawn.shape[0] > 600
    assert (drawn[50, 50] == 200).all(), "background shows the photo"
    colour = np.array(colour_of("hat"))
    assert np.abs(drawn[200, 200] - (0.45 * 200 + 0.55 * colour)).max() <= 1
    assert (drawn[100, 150] == colour).all() and (drawn[200, 100] == colour).all()
    below = drawn[600:].reshape(-1, 3)
    assert (below == colour).all(1).any()
    assert not (below == np.array(colour_of("bag"))).all(1).any(), "the legend holds what was found"
    # Small photos leave room for the legend, large ones are shrunk to be looked at.
    assert overlay(photo[:5, :3], mask[:5, :3], {9: "hat"}).width == 320
    large = np.zeros((10, 5000, 3), np.uint8)
    assert overlay(large, large[..., 0], {9: "hat"}).width == 1280
