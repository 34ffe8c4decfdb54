"""Training settings: the paper's and the release's to the last default, TOML, --set, every mistake at once."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from settings_page import PAGE, with_tables

from oshp_bench.baselines.backbones import BACKBONES
from oshp_bench.baselines.contract import LearnedMethod, NoSettings
from oshp_bench.baselines.eopnet.settings import EOPNetFGSettings, EOPNetSettings
from oshp_bench.baselines.prototype_matching import PrototypeMatching
from oshp_bench.baselines.registry import METHODS, KnownMethod, named, network_class
from oshp_bench.baselines.settings import as_table, as_toml, explained
from oshp_bench.episodes.augmentation import Augmentation
from oshp_bench.errors import OshpError
from oshp_bench.training.settings import PRESETS, TrainSettings, parsed, preset, read_changes, resolved

PAPER: dict[str, Any] = {
    "method": "eopnet",
    "way": "k",
    "backbone": "xception65",
    "width": None,
    "weights": None,
    "pretrained": True,
    "epochs": 50,
    "episodes": None,
    "queries_per_class": 1500,
    "redraw": True,
    "batch": 2,
    "accumulate": 1,
    "optimiser": "sgd",
    "lr": 1e-3,
    "schedule": "poly",
    "step_size": 10,
    "gamma": 0.1,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "clip": None,
    "freeze_batch_norm": False,
    "precision": "float32",
    "channels_last": True,
    "test_side": None,
    "validate_every": 5,
    "validation_pairs": None,
    "keep_every": 0,
    "workers": 2,
    "seed": 0,
    "augmentation": {
        "crop": 512,
        "fit": "square",
        "side": 512,
        "scale": [0.5, 2.0],
        "one_scale": True,
        "flip": True,
    },
    "model": {
        "reading": "paper",
        "parts": dict.fromkeys(("agm", "npm", "weight_shift", "momentum", "coarse", "contrast"), True),
        "alpha": 0.999,
        "tau": 0.1,
        "warm_up": 3,
        "screening": True,
        "recompute": True,
    },
}


def chosen(
    name: str, file: Path | None, texts: Iterable[str] = (), given: Mapping[str, Any] | None = None
) -> TrainSettings:
    return resolved(name, read_changes(file, texts, given or {}))


def refusal(*texts: str, file: Path | None = None, given: dict[str, Any] | None = None) -> tuple[str, ...]:
    with pytest.raises(OshpError) as raised:
        chosen("paper", file, texts, given or {})
    return raised.value.problems


def test_the_paper_preset_is_the_paper() -> None:
    assert as_table(preset("paper")) == PAPER
    assert preset("paper") == TrainSettings(model=EOPNetSettings())


def test_the_release_preset_departs_from_the_paper_as_the_release_does() -> None:
    release = PAPER | {"redraw": False, "schedule": "staircase"}
    release["augmentation"] = PAPER["augmentation"] | {"fit": "native", "one_scale": False}
    release["model"] = PAPER["model"] | {"reading": "release", "warm_up": 26}
    assert as_table(preset("release")) == release


def test_the_small_presets_train_the_paper_s_method() -> None:
    for name in ("cpu", "quick"):
        small = preset(name)
        # Every part of it, with a shorter memory, as training is.
        assert small.model == replace(
            EOPNetSettings(), alpha=small.model.alpha, warm_up=small.model.warm_up, recompute=small.model.recompute
        )
        assert small.model.alpha < 0.999
        assert (small.backbone, small.pretrained, small.weights) == ("efficientnet-lite0", True, None)
        assert small.augmentation.crop <= 256


def test_layers_win_in_order(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('lr = 0.1\nbatch = 8\nway = "1"\n[augmentation]\ncrop = 64\n[model.parts]\nagm = false\n')
    found = chosen("cpu", file, ["batch=4", "clip=none", "augmentation.scale=[1, 2]"], {"way": "k"})
    cpu = preset("cpu")
    augmentation = replace(cpu.augmentation, crop=64, scale=(1.0, 2.0))
    model = replace(cpu.model, parts=replace(cpu.model.parts, agm=False))
    assert found == replace(cpu, lr=0.1, batch=4, clip=None, way="k", augmentation=augmentation, model=model)


NEITHER = ("model.parts.agm=false", "model.parts.npm=false")


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('learning_rate = 1\nlr = 20\nprecision = "float8"\n[augmentation]\nscale = [2.0, 0.5]\n')
    problems = refusal("epochs", "model.alpha=2", "batch=3", "accumulate=2", "workers=-1", *NEITHER, file=file)
    origin = f"{file}, --set"
    assert problems[0] == "--set 'epochs': give it as name=value, such as lr=0.001"
    assert problems[1].startswith(f"{file}: no setting is called 'learning_rate'; known: accumulate, ")
    assert problems[2:] == (
        f"{file}: precision is 'float8', not one of float32, bfloat16, float16",
        f"{origin}: augmentation: scale is 2.0, 0.5; it must be low, high with 0.1 <= low <= high <= 10",
        f"{origin}: model.parts: EOP-Net needs AGM or NPM to parse with; switch at least one of them on",
        f"{origin}: model: alpha is 2.0; it must be 0 to 1",
        f"{origin}: lr is 20.0; it must be 1e-09 to 10",
        f"{origin}: workers is -1; it must be 0 to 64",
        f"{origin}: accumulate is 2; a batch of 3 does not divide into equal parts",
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("epochs=0", "epochs is 0; it must be 1 to 100000"),
        ("episodes=1", "episodes is 1, less than a batch of 2"),
        ("batch=0", "batch is 0; it must be 1 to 4096"),
        ("lr=0", "lr is 0.0; it must be 1e-09 to 10"),
        ("lr=NaN", "lr is 'NaN', not a number"),
        ("momentum=1", "momentum is 1.0; it must be 0 to 0.9999"),
        ("clip=0", "clip is 0.0; it must be 1e-06 to 1000000"),
        ("width=100000", "width is 100000; it must be 1 to 1024"),
        ("seed=-1", "seed is -1; it must be 0 to 9.22337203685478e+18"),
        ("test_side=16", "test_side is 16; it must be 32 to 8192"),
        ("validation_pairs=0", "validation_pairs is 0; it must be 1 to 1000000000"),
        ("validate_every=-1", "validate_every is -1; it must be 0 to 100000"),
        ("augmentation.crop=16", "augmentation: crop is 16; it must be 32 to 4096"),
        ("augmentation.side=9999", "augmentation: side is 9999; it must be 32 to 4096"),
        (
            "augmentation.scale=[0, 1]",
            "augmentation: scale is 0.0, 1.0; it must be low, high with 0.1 <= low <= high <= 10",
        ),
        ("model.tau=0", "model: tau is 0.0; it must be 0.0001 to 10000"),
        ("model.warm_up=-1", "model: warm_up is -1; it must be 0 to 1000000"),
        ("method=popnets", f"method is 'popnets'; known: {', '.join(named('frozen', 'trained'))}"),
        ("backbone=vgg", f"backbone is 'vgg'; known: {', '.join(BACKBONES)}, hub:NAME"),
        ("model=5", "model is 5, not a table of settings"),
        ("augmentation.crop.x=5", "augmentation.crop is {'x': 5}, not a whole number"),
    ],
)
def test_values_that_cannot_work_are_refused(text: str, problem: str) -> None:
    assert refusal(text) == (f"--set: {problem}",)


def test_the_command_s_own_options_are_named_so() -> None:
    (problem,) = refusal(given={"method": "nothing"})
    assert problem == f"the command line: method is 'nothing'; known: {', '.join(named('frozen', 'trained'))}"


def test_a_method_brings_its_own_settings_to_a_preset(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('method = "eopnet"\n[model]\ntau = 0.2\n')
    for found in (
        chosen("cpu", file, ["method=eopnet-fg"]),
        chosen("cpu", file, [], {"method": "eopnet-fg"}),
        chosen("cpu", file, ["method=eopnet"], {"method": "eopnet-fg"}),
    ):
        assert type(found.model) is EOPNetFGSettings
        assert (found.method, found.model.alpha, found.model.tau) == ("eopnet-fg", 0.9, 0.2)


@pytest.mark.parametrize(
    ("content", "problem"),
    [("lr = ", "not valid TOML"), ("[augmentation]\ncrop = 2024-01-01\n", "crop is datetime.date(2024, 1, 1), not a")],
)
def test_a_bad_file_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    file = tmp_path / "own.toml"
    file.write_text(content)
    (line,) = refusal(file=file)
    assert str(file) in line and problem in line


SETTINGS = st.builds(
    replace,
    st.sampled_from([preset(name) for name in PRESETS]),
    way=st.sampled_from(["k", "1"]),
    width=st.none() | st.integers(1, 1024),
    weights=st.none() | st.sampled_from(["a b.pth", "C:\\\\ü\n\t\x7f\U0001f600", '"quoted"', "#", "="]),
    lr=st.floats(1e-9, 10),
    clip=st.none() | st.floats(1e-6, 1e6),
    seed=st.integers(0, 2**63 - 1),
    augmentation=st.builds(Augmentation, crop=st.integers(32, 4096), flip=st.booleans()),
    model=st.sampled_from([EOPNetSettings(), preset("release").model]),
)


@pytest.mark.slow
@settings(deadline=None)
@given(SETTINGS, st.sampled_from(list(PRESETS)))
def test_the_settings_of_a_run_give_the_run_again_from_any_preset(
    tmp_path_factory: pytest.TempPathFactory, ours: TrainSettings, name: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "settings.toml"
    file.write_bytes(as_toml(ours).encode())
    assert chosen(name, file) == ours
    assert parsed(tomllib.loads(file.read_bytes().decode()), str(file)) == ours


def test_what_an_old_file_leaves_out_is_as_the_paper_says() -> None:
    cpu = preset("cpu")
    lines = [line for line in as_toml(cpu).splitlines() if '"none"' not in line]
    assert parsed(tomllib.loads("\n".join(lines)), "settings.toml") == cpu


@pytest.mark.parametrize("method", named("frozen", "trained"))
def test_every_method_has_presets_that_work(method: str) -> None:
    defaults = network_class(method).defaults
    assert set(defaults) <= set(PRESETS)
    for name, table in PRESETS.items():
        if table is None and name not in defaults:
            with pytest.raises(OshpError) as raised:
                preset(name, method)
            assert raised.value.problems == (f"{method} has no preset {name}; it has paper, cpu, quick",)
        else:
            found = preset(name, method)
            assert (found.method, found.way) == (method, METHODS[method].ways[0])


def test_the_page_tells_the_settings_as_they_are() -> None:
    """Where this fails, run: python tests/settings_page.py"""
    page = PAGE.read_text()
    assert with_tables(page) == page
    assert page.count("made from the code") == 4
    lines = page.splitlines()
    assert "| `lr` | `0.001` | 1e-09 to 10 | Learning rate of the first step. |" in lines
    assert "| `eopnet` | `cpu` | `model.alpha=0.9`, `model.warm_up=1` |" in lines


@pytest.mark.parametrize("method", named("frozen", "trained"))
def test_every_setting_says_what_it_means(method: str) -> None:
    assert [setting.name for setting in explained(preset("paper", method)) if not setting.meaning] == []


@dataclass(frozen=True)
class Served(KnownMethod):
    """A method of a test in the table."""

    served: type[LearnedMethod] = PrototypeMatching

    def load(self) -> type[LearnedMethod]:
        return self.served


class Brief(PrototypeMatching):
    defaults = {"paper": {"lr": 0.01, "schedule": "step", "step_size": 3}, "cpu": {"optimiser": "rmsprop"}}


class Wrong(PrototypeMatching):
    defaults = {"paper": {"learning_rate": 0.01}}


def test_a_method_brings_its_training_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over those of the preset, and below what the user changes."""
    for name, known in {"brief": Brief, "wrong": Wrong}.items():
        monkeypatch.setitem(METHODS, name, Served(name, "", "", ways=("1",), served=known))
    expected = TrainSettings(method="brief", way="1", lr=0.01, schedule="step", step_size=3, model=NoSettings())
    assert preset("paper", "brief") == chosen("paper", None, (), {"method": "brief"}) == expected
    assert chosen("paper", None, ["lr=0.1"], {"method": "brief"}) == replace(expected, lr=0.1)
    cpu = preset("cpu", "prototype-matching")
    assert preset("cpu", "brief") == replace(cpu, method="brief", way="1", optimiser="rmsprop")
    with pytest.raises(OshpError, match=r"^wrong, preset paper: no setting is called 'learning_rate'"):
        preset("paper", "wrong")
    assert refusal(given={"method": "brief", "way": "k"}) == (
        "the command line: way is k; brief can only be trained 1-way",
    )
