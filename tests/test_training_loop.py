"""Whole runs in one process: they learn, repeat to the last bit, go on where they stopped, and mind their folders."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import manifest_of
from torch import Tensor
from training_cases import SMALL, Probe, Probing, rows, run_of, trained, weights

from oshp_bench.baselines.checkpoints import load_checkpoint
from oshp_bench.baselines.contract import Batch, Progress
from oshp_bench.baselines.eopnet.settings import EOPNetSettings
from oshp_bench.baselines.registry import METHODS
from oshp_bench.datasets.images import IGNORE, Mask
from oshp_bench.datasets.labels import Spec
from oshp_bench.datasets.sources import Source, find_source
from oshp_bench.episodes.episodes import Episode, ImageCache
from oshp_bench.errors import OshpError
from oshp_bench.manifest import Manifest
from oshp_bench.manifest.pack import Pack, write_pack
from oshp_bench.training.loop import train
from oshp_bench.training.validation import validate, validation_pairs


@pytest.fixture(scope="module")
def done(manifest: Manifest, source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has ended, validated after both of its epochs."""
    folder = tmp_path_factory.mktemp("runs") / "done"
    trained(manifest, source, folder, validate_every=1)
    return folder


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def refusal(call: Callable[[], object]) -> tuple[str, ...]:
    with pytest.raises(OshpError) as raised:
        call()
    return raised.value.problems


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_run_leaves_what_a_person_can_follow(done: Path, manifest: Manifest) -> None:
    names = sorted(str(path.relative_to(done)) for path in done.rglob("*") if path.is_file())
    assert names == [
        "best.safetensors",
        "curves.png",
        "last.pt",
        "last.safetensors",
        "metrics.csv",
        "run.json",
        "settings.toml",
        "sheets/epoch-0001.png",
        "sheets/epoch-0002.png",
        "validation.csv",
    ]
    metrics = table(done / "metrics.csv")
    assert ",".join(metrics[0]) == (
        "stage,epoch,at_epoch,step,loss,agm,npm,coarse,contrast,lr,beta,steps_per_second,peak_memory_mib"
    )
    assert [(row["epoch"], row["step"], row["beta"]) for row in metrics] == [
        ("1", "1", "1.0"),
        ("1", "2", "1.0"),
        ("2", "3", "0.5"),
        ("2", "4", "0.5"),
    ]
    assert [float(row["lr"]) for row in metrics] == pytest.approx(
        [SMALL.lr * (1 - step / 4) ** 0.9 for step in range(4)], abs=1e-7
    )
    assert [row["epoch"] for row in table(done / "validation.csv")] == ["1", "2"]
    run = json.loads((done / "run.json").read_text())
    assert (run["manifest"], run["digest"]) == ("tiny_fold1", manifest.digest)
    computer = {"torch": torch.__version__, "threads": torch.get_num_threads(), "processes": 1, "device": "cpu"}
    assert run["computer"] == computer
    for name in ("curves.png", "sheets/epoch-0001.png"):
        assert (done / name).read_bytes().startswith(b"\x89PNG")


def test_the_best_epoch_is_the_one_that_validates_best(done: Path, manifest: Manifest, source: Source) -> None:
    figures = [float(row["kway/base_miou"]) for row in table(done / "validation.csv")]
    best = load_checkpoint(done / "best.safetensors").card
    assert best.training is not None and best.manifest is not None
    assert best.training["epoch"] == 1 + int(np.argmax(figures))
    assert best.training["validation"]["kway/base_miou"] == pytest.approx(max(figures), abs=1e-6)
    assert best.manifest.digest == manifest.digest
    assert (best.method, best.way, best.width, best.count, best.test_side) == ("eopnet", "k", 8, 8, 32)
    last = load_checkpoint(done / "last.safetensors")
    assert last.card.training is not None and last.card.training["epoch"] == 2
    assert same(last.network.state_dict(), weights(done))
    outcome = trained(manifest, source, done, validate_every=1)
    assert (outcome.checkpoint, outcome.epoch) == (done / "best.safetensors", best.training["epoch"])
    assert outcome.figure == best.training["validation"]["kway/base_miou"]


@pytest.mark.slow
def test_checkpoints_stay_if_asked_for(done: Path, manifest: Manifest, source: Source, tmp_path: Path) -> None:
    trained(manifest, source, tmp_path, validate_every=0, keep_every=1)
    assert sorted(path.name for path in (tmp_path / "epochs").iterdir()) == ["0001.safetensors", "0002.safetensors"]
    kept = load_checkpoint(tmp_path / "epochs" / "0001.safetensors")
    assert kept.card.training is not None and kept.card.training["epoch"] == 1
    last = load_checkpoint(tmp_path / "epochs" / "0002.safetensors").network.state_dict()
    assert same(last, weights(tmp_path))
    assert same(last, weights(done))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_run_gives_the_same_bits(
    done: Path, manifest: Manifest, source: Source, tmp_path: Path, workers: int
) -> None:
    trained(manifest, source, tmp_path, validate_every=1, workers=workers)
    assert rows(tmp_path) == rows(done)
    assert same(weights(tmp_path), weights(done))
    for name in ("validation.csv", "sheets/epoch-0002.png"):
        assert (tmp_path / name).read_bytes() == (done / name).read_bytes()
    if not workers:
        for name in ("best.safetensors", "last.safetensors", "settings.toml"):
            assert (tmp_path / name).read_bytes() == (done / name).read_bytes()


@pytest.mark.slow
def test_validation_changes_nothing_in_training(done: Path, manifest: Manifest, source: Source, tmp_path: Path) -> None:
    trained(manifest, source, tmp_path, validate_every=0)
    assert rows(tmp_path) == rows(done)
    assert same(weights(tmp_path), weights(done))


@pytest.mark.parametrize(
    ("part", "gone", "first_changes"),
    [
        ("contrast", "contrast", {}),
        ("coarse", "coarse", {}),
        ("momentum", None, {}),
        # At the first step beta is 1: all of AGM's loss counts, none of NPM's.
        ("weight_shift", None, {"agm": 0.5, "beta": 0.5}),
    ],
)
def test_a_part_that_is_switched_off_leaves_the_other_losses_of_the_first_step_alone(
    done: Path, manifest: Manifest, source: Source, tmp_path: Path, part: str, gone: str | None, first_changes: Any
) -> None:
    whole = EOPNetSettings()
    model = replace(whole, alpha=0.99, parts=replace(whole.parts, **{part: False}))
    trained(manifest, source, tmp_path, validate_every=0, epochs=1, episodes=2, model=model)
    (row,) = ({name: float(value) for name, value in each.items()} for each in rows(tmp_path))
    first = {name: float(value) for name, value in rows(done)[0].items() if name != gone}
    assert row.keys() == first.keys()
    losses = {"agm", "npm", "coarse", "contrast"} & row.keys()
    for name in losses - {"npm"} | {"lr", "beta"}:
        assert row[name] == pytest.approx(first[name] * first_changes.get(name, 1), abs=1e-6)
    assert (row["npm"] > 0) == (part == "weight_shift")
    assert row["loss"] == pytest.approx(sum(row[name] for name in losses), abs=1e-6)
    whole_names, names = weights(done).keys(), weights(tmp_path).keys()
    dropped = {"coarse": ("coarse.",), "momentum": ("memory.", "coarse.memory.")}.get(part, ())
    assert whole_names - names == {name for name in whole_names if name.startswith(dropped)}


def test_a_run_that_has_ended_does_nothing_more(done: Path, manifest: Manifest, source: Source, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "again")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "again").rglob("*")}
    trained(manifest, source, tmp_path / "again", validate_every=1, workers=1)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "again").rglob("*")} == before


@pytest.mark.slow
def test_training_lowers_the_losses(manifest: Manifest, source: Source, tmp_path: Path) -> None:
    trained(manifest, source, tmp_path, episodes=60, lr=1e-2, validate_every=0)
    losses = [float(row["coarse"]) for row in rows(tmp_path)]
    assert np.mean(losses[-15:]) < 0.8 * np.mean(losses[:3])
    assert not (tmp_path / "validation.csv").exists()
    assert not (tmp_path / "best.safetensors").exists()


@pytest.mark.slow
def test_one_way_trains_and_validates(manifest: Manifest, source: Source, tmp_path: Path) -> None:
    outcome = trained(manifest, source, tmp_path, way="1", epochs=1)
    assert load_checkpoint(outcome.checkpoint).card.way == "1"
    (row,) = table(tmp_path / "validation.csv")
    assert outcome.figure == pytest.approx(float(row["1way/base_miou"]), abs=1e-6)


@pytest.mark.slow
def test_the_pack_trains_to_the_same_bits_and_needs_no_dataset(
    manifest: Manifest, source: Source, tmp_path: Path
) -> None:
    write_pack(manifest, source, tmp_path / "pack.h5")
    trained(manifest, source, tmp_path / "files", validate_every=0)
    run = run_of(manifest, source, tmp_path / "packed", Pack(tmp_path / "pack.h5", manifest), validate_every=0)
    train(replace(run, source=None))
    assert same(weights(tmp_path / "files"), weights(tmp_path / "packed"))
    assert rows(tmp_path / "files") == rows(tmp_path / "packed")


@pytest.mark.slow
def test_validation_never_sees_a_test_image(
    tiny_spec: Spec, tiny_root: Path, manifest: Manifest, done: Path, tmp_path: Path
) -> None:
    """The test images are not even there."""
    used = {image for pool in ("query_train", "support_train") for image in manifest.pools[pool]}
    for kind in ("photos", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for path in (tiny_root / kind).iterdir():
            if path.stem in used:
                shutil.copy(path, tmp_path / "data" / kind)
    trained(manifest, find_source(tiny_spec.dataset, tmp_path / "data"), tmp_path / "run", validate_every=1)
    for name in ("validation.csv", "best.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (done / name).read_bytes()


def test_validation_scores_base_classes_of_training_images(manifest: Manifest, source: Source) -> None:
    pairs = validation_pairs(manifest, None)
    assert pairs == manifest.validation and len(pairs) == 9
    # What a dataclass remembers beside its columns is no column.
    assert len(pairs.names) == 9 and pairs.queries
    four = validation_pairs(manifest, 4)
    assert four.query == tuple(pairs.query[index] for index in (0, 3, 5, 8))
    assert four.support_classes == tuple(pairs.support_classes[index] for index in (0, 3, 5, 8))
    images = ImageCache(source)
    asked: list[Episode] = []

    def knows_all(episode: Episode) -> Mask:
        asked.append(episode)
        truth = images.mask(episode.query_id)
        return np.where(np.isin(truth, episode.classes), truth, 0).astype(np.uint8)

    for way in ("k", "1"):
        asked.clear()
        found = validate(knows_all, manifest, four, images, way)  # type: ignore[arg-type]
        assert (found.chosen_by, found.figure) == (f"{way}way/base_miou", 1.0)
        assert [each.query_id for each in asked] == list(four.query)
        assert {each for episode in asked for each in episode.classes} <= set(manifest.ids_of("base"))
        assert len(found.rows) == 4 and {len(row) for row in found.rows} == {5}
        for row, episode in zip(found.rows, asked, strict=True):
            truth = images.mask(episode.query_id)
            legal = (0, IGNORE, *episode.classes)
            assert (row[3].picture == np.where(np.isin(truth, legal), truth, 0)).all()
    found = validate(lambda episode: np.zeros(episode.query_size, np.uint8), manifest, four, images, "k")  # type: ignore[arg-type]
    assert found.figure == 0.0
    without = replace(manifest, validation=None)
    assert refusal(lambda: validation_pairs(without, None)) == (
        "tiny_fold1: has no validation list; tailor it from your own masks, or set validate_every=0",
    )


def test_a_folder_of_another_run_is_refused_with_what_differs(
    done: Path, tiny_spec: Spec, tiny_root: Path, manifest: Manifest, source: Source
) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*")}
    settings = done / "settings.toml"
    assert refusal(
        lambda: trained(manifest, source, done, validate_every=1, lr=0.25, clip=None, way="1", workers=3)
    ) == tuple(
        f"{settings}: in the run there {difference}; choose another folder"
        for difference in ('way is "k", not "1"', f"lr is {SMALL.lr}, not 0.25", 'clip is 5.0, not "none"')
    )
    other = manifest_of(tiny_spec, tiny_root, fold=2)
    assert refusal(lambda: trained(other, source, done, validate_every=1)) == (
        f"{done / 'run.json'}: a run on tiny_fold1 1.0.0 {manifest.digest[:40]}, not on tiny_fold2 1.0.0"
        f" {other.digest[:40]}; choose another folder",
    )
    assert {path: path.stat().st_mtime_ns for path in done.rglob("*")} == before


@pytest.mark.parametrize("content", [b"", b"no state", None])
def test_a_damaged_state_is_refused(
    done: Path, manifest: Manifest, source: Source, tmp_path: Path, content: bytes | None
) -> None:
    shutil.copytree(done, tmp_path / "run")
    state = tmp_path / "run" / "last.pt"
    state.write_bytes(state.read_bytes()[:5000] if content is None else content)
    assert refusal(lambda: trained(manifest, source, tmp_path / "run", validate_every=1)) == (
        f"{state}: damaged; remove it to train from the beginning",
    )
    (tmp_path / "run" / "run.json").unlink()
    assert refusal(lambda: trained(manifest, source, tmp_path / "run", validate_every=1)) == (
        f"{state}: of a run whose run.json is missing; choose another folder",
    )


def test_a_start_that_cannot_work_leaves_no_folder(manifest: Manifest, source: Source, tmp_path: Path) -> None:
    for settings, problem in (
        (
            {"backbone": "xception65", "pretrained": True, "width": None},
            "xception65 needs a file of pretrained weights",
        ),
        ({"backbone": "xception65", "width": 8}, "xception65 has 256 channels, not 8"),
    ):
        (line,) = refusal(lambda settings=settings: trained(manifest, source, tmp_path / "run", **settings))  # type: ignore[misc]
        assert problem in line
    assert not (tmp_path / "run").exists()


class Interrupted(Probe):
    """A probe that is interrupted at one of its steps, once."""

    def __init__(self, at: list[tuple[int, int]], stages: int = 1) -> None:
        super().__init__(gradient=0.1, dropout=0.5)
        self.stages = stages
        self.seen: list[tuple[int, int]] = []
        self._at = at

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        self.seen.append((progress.stage, progress.step))
        if self._at and (progress.stage, progress.step) == self._at[0]:
            raise KeyboardInterrupt(self._at.pop())
        return super().losses(batch, progress)


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Probe]], None]:
    """Puts a probe into the table of methods."""

    def put(build: Callable[[], Probe]) -> None:
        monkeypatch.setitem(METHODS, "probe", Probing("probe", "", "", make=build))

    return put


def probe_run(manifest: Manifest, source: Source, folder: Path, **settings: Any) -> None:
    trained(manifest, source, folder, method="probe", epochs=3, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("stages", [1, 2])
def test_random_numbers_and_stages_go_on_where_they_stopped(
    probed: Callable[[Callable[[], Probe]], None], manifest: Manifest, source: Source, tmp_path: Path, stages: int
) -> None:
    """Interrupted in the first epoch, and in the middle of the second epoch of the last stage."""
    at: list[tuple[int, int]] = []
    built: list[Interrupted] = []

    def build() -> Probe:
        built.append(Interrupted(at, stages))
        return built[-1]

    probed(build)
    probe_run(manifest, source, tmp_path / "whole")
    assert built[0].seen == [(stage, step) for stage in range(stages) for step in range(6)]
    last = stages - 1
    for stop, seen in (
        ((0, 1), [(0, 0), (0, 1)]),
        ((last, 3), [(stage, step) for stage in range(stages) for step in range(6) if (stage, step) <= (last, 3)]),
    ):
        at.append(stop)
        with pytest.raises(KeyboardInterrupt):
            probe_run(manifest, source, tmp_path / "parts")
        assert built[-1].seen == seen
    probe_run(manifest, source, tmp_path / "parts")
    assert built[-1].seen == [(last, step) for step in range(2, 6)]
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")
    losses = [float(row["probe"]) for row in rows(tmp_path / "whole")]
    assert len(set(losses)) == len(losses), "dropout makes every step another"
    assert [row["epoch"] for row in rows(tmp_path / "whole")[::2]] == [str(each) for each in range(1, 3 * stages + 1)]
    # A method that is not fully trained is not validated.
    assert [row["epoch"] for row in table(tmp_path / "whole" / "validation.csv")] == [str(3 * stages)]


def test_a_method_without_training_is_saved_as_it_is(
    probed: Callable[[Callable[[], Probe]], None], manifest: Manifest, source: Source, tmp_path: Path
) -> None:
    at: list[tuple[int, int]] = []
    probed(lambda: Interrupted(at, stages=0))
    outcome = trained(manifest, source, tmp_path, method="probe")
    assert (outcome.checkpoint.name, outcome.epoch, outcome.figure) == ("last.safetensors", 0, None)
    assert outcome.checkpoint.exists() and not (tmp_path / "metrics.csv").exists()
