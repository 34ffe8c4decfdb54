"""How a network is used at test: screening, other settings that may change, the photos' side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from network_cases import TODO, begun, card_of, done, predict, save_drawn, write_files

from oshp_bench import Manifest
from oshp_bench.datasets.images import read_mask


@pytest.fixture(scope="module")
def files(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("files"), manifest)


@pytest.fixture(scope="module")
def predicted(
    files: Path, manifest: Manifest, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Result]:
    """The k-way predictions of a run that nothing disturbed."""
    folder = begun(tmp_path_factory.mktemp("preds") / "preds", manifest, tiny_root, files / "k.safetensors", "k")
    return folder, predict(files / "k.safetensors", folder, files, tiny_root)


@pytest.mark.slow
def test_screening_can_be_switched_off(
    predicted: tuple[Path, Result], files: Path, manifest: Manifest, tiny_root: Path, tmp_path: Path
) -> None:
    folder = begun(tmp_path / "preds", manifest, tiny_root, files / "k.safetensors", "k", changes=("screening=false",))
    result = predict(files / "k.safetensors", folder, files, tiny_root, "--set", "screening=false")
    assert "; screening off; " in result.stdout
    assert json.loads((folder / "predictions.json").read_text())["kway"]["screening"] is False
    screened = removed = 0
    for index in TODO:
        with_it, without = (
            read_mask(each / "kway" / f"{index:04d}.png") for each in (predicted[0], folder)
        )  # fmt: skip
        # Screening takes classes away and puts none in another's place.
        assert ((with_it == without) | (with_it == 0)).all()
        screened += int((with_it > 0).sum())
        removed += int((with_it != without).sum())
    assert screened and removed


@pytest.mark.slow
def test_settings_that_only_matter_at_test_can_be_changed(
    files: Path, manifest: Manifest, tiny_root: Path, tmp_path: Path
) -> None:
    """As if the network had been made so; the folder says it, and nothing else goes on there."""
    cards = {
        name: card_of(manifest, method="eopnet-fg", test_side=40, model=model)
        for name, model in {"trained": {}, "made": {"rivals": False, "layout": 0.0}}.items()
    }
    paths = {name: save_drawn(tmp_path / f"{name}.safetensors", card) for name, card in cards.items()}
    options = ("--set", "layout=0", "--set", "rivals=false", "--way", "k")
    changed = begun(
        tmp_path / "changed", manifest, tiny_root, paths["trained"], "k", changes=("layout=0", "rivals=false")
    )
    result = predict(paths["trained"], changed, files, tiny_root, *options)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "; changed: rivals=false, layout=0.0; " in result.stdout
    network = json.loads((changed / "predictions.json").read_text())["kway"]
    assert network["changed"] == {"rivals": False, "layout": 0.0}
    others = {name: begun(tmp_path / name, manifest, tiny_root, path, "k") for name, path in paths.items()}
    for name, path in paths.items():
        assert predict(path, others[name], files, tiny_root, "--way", "k").exit_code == 0
    assert done(changed, "k") == done(others["made"], "k") != done(others["trained"], "k")
    for folder, more in (
        (changed, ("--way", "k")),
        (others["trained"], options),
        (changed, ("--set", "layout=0", "--way", "k")),
    ):
        result = predict(paths["trained"], folder, files, tiny_root, *more)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert "come from another network, or another use of it (changed is " in result.stderr
    result = predict(paths["trained"], tmp_path / "none", files, tiny_root, "--set", "alpha=1", "--set", "gate=2")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        "error: --set: 'alpha' is no setting of eopnet-fg that may change after training; screening, gate, rivals,"
        " layout, offset, mirror, centre, self_support can be set",
        "error: --set: gate is 2, not true or false",
    ]


@pytest.mark.slow
def test_photos_can_have_another_side_than_in_validation(
    files: Path, manifest: Manifest, tiny_root: Path, tmp_path: Path
) -> None:
    """As if the checkpoint had been validated so; a folder keeps to one side."""
    made = save_drawn(tmp_path / "k.safetensors", card_of(manifest, "k", test_side=64))
    as_made = begun(tmp_path / "made", manifest, tiny_root, made, "k")
    other = begun(tmp_path / "other", manifest, tiny_root, files / "k.safetensors", "k", side=64)
    own = begun(tmp_path / "own", manifest, tiny_root, files / "k.safetensors", "k")
    assert predict(made, as_made, files, tiny_root).exit_code == 0
    assert predict(files / "k.safetensors", other, files, tiny_root, "--side", "64").exit_code == 0
    assert predict(files / "k.safetensors", own, files, tiny_root).exit_code == 0
    assert done(other, "k") == done(as_made, "k") != done(own, "k")
    assert json.loads((other / "predictions.json").read_text())["kway"]["photo_side"] == 64
    result = predict(files / "k.safetensors", other, files, tiny_root)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "(photo_side is 64, not 40)" in result.stderr


def test_what_has_no_network_refuses_the_options_of_networks(files: Path, tiny_root: Path, tmp_path: Path) -> None:
    refusal = "error: copy-support has no network; remove --device, --set and --side\n"
    for option in (["--device", "cpu"], ["--set", "layout=0"], ["--side", "64"]):
        result = predict("copy-support", tmp_path / "preds", files, tiny_root, *option)
        assert result.stderr == refusal
    assert not (tmp_path / "preds").exists()
