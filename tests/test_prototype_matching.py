"""Prototype matching by hand; and docs/methods.md, after which it was written, holds word by word."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from eopnet_cases import SIZE, batch
from tiny import manifest_of
from torch import Tensor, nn
from torch.nn import functional

from oshp_bench.baselines import prototype_matching, registry
from oshp_bench.baselines.backbones.layers import Backbone, Level
from oshp_bench.baselines.cli import main as oshp_predict
from oshp_bench.baselines.contract import Labels, NoSettings, Progress, Support
from oshp_bench.baselines.prototype_matching import PrototypeMatching
from oshp_bench.datasets.labels import Spec
from oshp_bench.episodes.episodes import WAYS, Way
from oshp_bench.manifest import save_manifest
from oshp_bench.report.cli import main as oshp_score
from oshp_bench.training.cli import main as oshp_train

COMMANDS = {"oshp-train": oshp_train, "oshp-predict": oshp_predict, "oshp-score": oshp_score}
GUIDE = (Path(__file__).parents[1] / "docs" / "methods.md").read_text()
SOURCES = {kind: re.findall(rf"^```{kind}\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE) for kind in ("python", "sh")}


class Means(Backbone):
    """The mean red and green of squares of 4 x 4 pixels, with weights."""

    width = 2
    levels = {"means": Level(2, 4)}

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Conv2d(2, 2, 4, 4, groups=2, bias=False)
        nn.init.constant_(self.mean.weight, 1 / 16)

    def normalised(self, images: Tensor) -> Tensor:
        return images[:, :2]

    def stage(self, _: str) -> nn.Module:
        return self.mean


def photo(*cells: tuple[float, float]) -> Tensor:
    """A photo of 8 x 8 pixels in four squares of one red and green each, row by row."""
    colours = torch.tensor([[*cell, 0.0] for cell in cells]).view(2, 2, 3).permute(2, 0, 1)
    return colours.repeat_interleave(4, 1).repeat_interleave(4, 2)[None]


def mask_of(*rows: str) -> Tensor:
    """A mask of 8 x 8 pixels from four rows of four labels, each 2 x 2 pixels; x is to be ignored."""
    labels = torch.tensor([[255 if each == "x" else int(each) for each in row] for row in rows])
    return labels.repeat_interleave(2, 0).repeat_interleave(2, 1)[None]


@pytest.fixture
def method() -> PrototypeMatching:
    return PrototypeMatching(Means(), Labels(8), "k", NoSettings())


SUPPORT = photo((1.0, 0.0), (0.4, 0.6), (0.0, 1.0), (0.2, 0.2))


def adapted(method: PrototypeMatching, mask: Tensor, *classes: int) -> Tensor:
    return method.adapt(Support(method.encode(SUPPORT), mask, mask, (mask > 0).long(), classes))


def test_prototypes_are_means_over_the_covered_parts_of_cells(method: PrototypeMatching) -> None:
    # Class 3 has all of the first cell and half of the second; class 5 a quarter of the third; the fourth is ignored.
    mask = mask_of("3330", "3330", "5000", "0000").clone()
    mask[:, 4:, 4:] = 255
    vectors = adapted(method, mask, 3, 5)
    three = [(1.0 + 0.5 * 0.4) / 1.5, (0.0 + 0.5 * 0.6) / 1.5]
    background = [(0.5 * 0.4 + 0.0) / 1.25, (0.5 * 0.6 + 0.75 * 1.0) / 1.25]
    # A quarter of a cell alone gives its feature's direction, which is all that a cosine sees.
    five = [0.0, 1.0]
    assert vectors[0, 0].tolist() == pytest.approx(background)
    assert vectors[0, 1].tolist() == pytest.approx(three)
    assert functional.normalize(vectors[0, 2], dim=0).tolist() == pytest.approx(five)


def test_a_class_of_one_pixel_has_a_prototype(method: PrototypeMatching) -> None:
    mask = torch.zeros(1, 8, 8, dtype=torch.int64)
    mask[0, 7, 0] = 5
    vectors = adapted(method, mask, 5)
    assert functional.normalize(vectors[0, 1], dim=0).tolist() == pytest.approx([0.0, 1.0])


def test_every_pixel_gets_the_nearest_prototype(method: PrototypeMatching) -> None:
    mask = mask_of("3300", "3300", "5500", "5500")
    task = adapted(method, mask, 3, 5)
    # Background is the mean of (0.4, 0.6) and (0.2, 0.2): (0.3, 0.4), of length 0.5.
    query = photo((0.5, 0.0), (0.3, 0.4), (0.0, 0.1), (0.6, 0.8))
    scores = method.parse(method.encode(query), task, (2, 2))
    assert scores[0].tolist() == [pytest.approx([0.6, 1.0]), pytest.approx([0.8, 1.0])]
    assert scores[1].tolist() == [pytest.approx([1.0, 0.6]), pytest.approx([0.0, 0.6], abs=1e-6)]
    assert scores[2].tolist() == [pytest.approx([0.0, 0.8], abs=1e-6), pytest.approx([1.0, 0.8])]
    assert method.parse(method.encode(query), task, (13, 9)).shape == (3, 13, 9)


def test_nothing_is_trained(method: PrototypeMatching) -> None:
    assert method.stages == 0
    assert not any(each.requires_grad for each in method.parameters())


def test_the_guide_shows_the_method_and_its_line() -> None:
    file, line, _ = SOURCES["python"]
    assert file == Path(str(prototype_matching.__file__)).read_text()
    assert line.strip() in Path(str(registry.__file__)).read_text()


@pytest.mark.parametrize("way", WAYS)
def test_the_guides_method_that_learns_does(way: Way) -> None:
    names: dict[str, Any] = {}
    exec(compile(SOURCES["python"][2], "docs/methods.md", "exec"), names)
    torch.manual_seed(1)
    backbone = Means()
    method = names["TrainedMatching"](backbone, Labels(8), way, names["TrainedSettings"](sharpness=5.0))
    # Photos whose classes differ in colour, and one colour that says nothing.
    episodes = batch(way)
    for masks, images in (
        (episodes.query_masks, episodes.query_images),
        (episodes.support_masks[:, 0], episodes.support_images[:, 0]),
    ):
        images[:, 0] = masks / 8
        assert images.shape[-2:] == (SIZE, SIZE)
    optimiser = torch.optim.SGD(method.parameters(), 0.5)
    found = []
    for step in range(20):
        losses = method(episodes, Progress(0, 1, step, 20))
        optimiser.zero_grad()
        losses["query"].backward()
        optimiser.step()
        found.append(losses["query"].item())
    assert found[-1] < 0.99 * found[0]


@pytest.fixture(scope="module")
def run(tiny_spec: Spec, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guide's commands, run in a folder with the tiny dataset in place of the one that they name."""
    folder = tmp_path_factory.mktemp("guide")
    manifest = manifest_of(tiny_spec, tiny_root)
    save_manifest(manifest, folder / "ccp_fold1.json")
    (commands,) = SOURCES["sh"]
    for line in commands.splitlines():
        assert run_as_shown(line, folder, tiny_root) == 0, line
    return folder


def run_as_shown(line: str, folder: Path, root: Path) -> int:
    ours = {"path/to/clothing-co-parsing": str(root), "ccp_fold1": str(folder / "ccp_fold1.json")}
    name, *arguments = [ours.get(each, each) for each in shlex.split(line)]
    paths = [str(folder / each) if each.startswith(("run/", "preds/")) else each for each in arguments]
    return CliRunner().invoke(COMMANDS[name], paths).exit_code


@pytest.mark.slow
def test_the_guides_commands_train_at_once_and_predict_both_ways(run: Path) -> None:
    assert {each.name for each in (run / "run").iterdir()} == {"last.safetensors", "run.json", "settings.toml"}
    card = json.loads((run / "preds" / "predictions.json").read_text())
    assert card["method"] == "prototype-matching"
    for way in WAYS:
        assert len(list((run / "preds" / f"{way}way").iterdir())) == 750


@pytest.mark.slow
def test_by_its_name_it_is_the_same_method(run: Path, tiny_root: Path) -> None:
    train = "oshp-train --method prototype-matching --manifest ccp_fold1 --root path/to/clothing-co-parsing"
    assert run_as_shown(f"{train} --set test_side=none -o run/native", run, tiny_root) == 0
    predict = "oshp-predict {} --manifest ccp_fold1 --root path/to/clothing-co-parsing --way k -o preds/{}"
    assert run_as_shown(predict.format("run/native/last.safetensors", "trained"), run, tiny_root) == 0
    assert run_as_shown(predict.format("prototype-matching", "named"), run, tiny_root) == 0
    trained, named = (sorted((run / "preds" / each / "kway").iterdir()) for each in ("trained", "named"))
    assert [each.read_bytes() for each in trained] == [each.read_bytes() for each in named]
