"""Backbones of transformers: tiny ones with random weights, written to a folder as the library writes them."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import manifest_of
from training_cases import SMALL, run_of

from oshp_bench.baselines.backbones import build_backbone
from oshp_bench.baselines.backbones.hub import Hub, architecture_of
from oshp_bench.baselines.backbones.layers import Level
from oshp_bench.baselines.checkpoints import load_checkpoint
from oshp_bench.datasets.labels import Spec
from oshp_bench.datasets.sources import find_source
from oshp_bench.errors import OshpError
from oshp_bench.training.loop import train
from oshp_bench.training.settings import preset

transformers = pytest.importorskip("transformers", reason="the extra hub is not installed")

TINY: dict[str, dict[str, Any]] = {
    "Dinov2": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28},
    "ConvNextV2": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "Swin": {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4, "image_size": 64},
}
LEVELS = {
    "Dinov2": {"stage2": Level(16, 14)},
    "ConvNextV2": {f"stage{i + 1}": Level(c, 4 << i) for i, c in enumerate((8, 8, 16, 16))},
    "Swin": {f"stage{i + 1}": Level(c, 4 << i) for i, c in enumerate((8, 16, 32, 64))},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("hub")
    for name, sizes in TINY.items():
        torch.manual_seed(3)
        config = getattr(transformers, f"{name}Config")(**sizes)
        transformers.AutoBackbone.from_config(config).save_pretrained(root / name)
    photos = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
    (root / "Swin" / "preprocessor_config.json").write_text(json.dumps(photos))
    return {name: root / name for name in TINY}


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_levels_strides_and_features(folders: dict[str, Path], name: str) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(f"hub:{folders[name]}", width=24).eval()
    assert dict(backbone.levels) == LEVELS[name]
    images = torch.rand(2, 3, 45, 70)
    with torch.no_grad():
        found = backbone.level_features(images, list(backbone.levels))
        features = backbone(images)
    for key, level in backbone.levels.items():
        assert found[key].shape == (2, level.channels, *(math.ceil(side / level.stride) for side in (45, 70)))
    first = next(iter(backbone.levels.values()))
    assert backbone.stride == first.stride
    assert features.shape == (2, 24, *(math.ceil(side / first.stride) for side in (45, 70)))


def test_features_are_the_librarys(folders: dict[str, Path]) -> None:
    backbone = build_backbone(f"hub:{folders['Swin']}").eval()
    assert isinstance(backbone, Hub)
    config = transformers.AutoConfig.from_pretrained(folders["Swin"])
    config.set_output_features_output_indices(["stage2"], None)
    theirs = transformers.SwinBackbone.from_pretrained(folders["Swin"], config=config).eval()
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        wanted = theirs((images - 0.5) / 0.25).feature_maps[0]
        torch.testing.assert_close(backbone.level_features(images, ["stage2"])["stage2"], wanted)
    # DINOv2's folder says nothing of photos: ImageNet's mean and deviation.
    assert architecture_of(str(folders["Dinov2"]))["mean"] == (0.485, 0.456, 0.406)


def test_a_checkpoint_needs_the_folder_no_more(
    folders: dict[str, Path], tiny_spec: Spec, tiny_root: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in folders["ConvNextV2"].iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    manifest, source = manifest_of(tiny_spec, tiny_root), find_source(tiny_spec.dataset, tiny_root)
    chosen: dict[str, Any] = {
        "method": "panet",
        "backbone": f"hub:{moved}",
        "pretrained": True,
        "validate_every": 0,
        "epochs": 1,
    }
    run = run_of(manifest, source, tmp_path / "run", model=preset("cpu", "panet").model, **chosen)
    outcome = train(replace(run, settings=replace(run.settings, width=SMALL.width)))
    for path in moved.iterdir():
        path.unlink()
    loaded = load_checkpoint(outcome.checkpoint)
    assert loaded.card.width == 8 and loaded.card.architecture is not None
    with torch.no_grad():
        assert loaded.network.encode(torch.rand(1, 3, 33, 32)).shape == (1, 8, 9, 8)


def refused(where: Path | str, **arguments: Any) -> str:
    with pytest.raises(OshpError) as raised:
        build_backbone(f"hub:{where}", **arguments)
    assert all("\n" not in problem for problem in raised.value.problems)
    return str(raised.value)


@pytest.mark.slow
def test_what_does_not_fit_is_refused(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert f"hub:{tmp_path / 'none'}: " in refused(tmp_path / "none")
    assert f"hub:{tmp_path}: " in refused(tmp_path)
    assert "comes with its own weights; leave away the file x.pth" in refused(folders["Swin"], weights=Path("x.pth"))
    # The weights of a shallower network.
    config = json.loads((folders["Dinov2"] / "config.json").read_text())
    for name, change in (
        ("half", {"num_hidden_layers": 3}),
        ("wide", {"hidden_size": 32}),
        ("deep", {"num_hidden_layers": 10**6}),
        ("text", {"model_type": "bert"}),
        ("nothing", {"model_type": "no-such-model"}),
        ("large", {"hidden_size": 1 << 16, "num_hidden_layers": 100}),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config | change))
        (folder / "model.safetensors").write_bytes((folders["Dinov2"] / "model.safetensors").read_bytes())
    assert "lacks the tensor encoder.layer.2" in refused(tmp_path / "half")
    assert "has another shape" in refused(tmp_path / "wide")
    assert "has 1000000 layers; 512 at most work" in refused(tmp_path / "deep")
    assert "parameters; 1,073,741,824 at most work" in refused(tmp_path / "large")
    for name in ("text", "nothing"):
        assert "no backbone of transformers with feature maps" in refused(tmp_path / name)
    with pytest.raises(OshpError, match="one piece: its stages cannot be run"):
        build_backbone(f"hub:{folders['Swin']}").stage("stage4")


@pytest.mark.slow
def test_without_transformers_the_extra_is_named(folders: dict[str, Path]) -> None:
    where = f"hub:{folders['Swin']}"
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "from oshp_bench.baselines.backbones import build_backbone\n"
        "from oshp_bench.errors import OshpError\n"
        f"try: build_backbone({where!r})\n"
        "except OshpError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (
        done.stdout
        == f"{where}: a backbone of the hub needs transformers: run pip install '.[hub]' in a clone of oshp-bench\n"
    )
