"""Seeded mutations of every format that is read: a right result, or an error in printable lines, and nothing else."""

from __future__ import annotations

import json
import operator
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from board_cases import document
from bounds import within_bounds
from click.testing import CliRunner, Result
from metrics_cases import Bench, make_bench, scored
from PIL import Image
from submission_cases import card_file

from oshp_bench.baselines.settings import as_toml
from oshp_bench.datasets.images import ImageProblem, read_mask, read_mat_mask
from oshp_bench.datasets.labels import Spec, builtin_specs, load_spec
from oshp_bench.datasets.sources import Source
from oshp_bench.episodes.writer import PredictionWriter
from oshp_bench.errors import OshpError
from oshp_bench.files import content_digest, parse_json
from oshp_bench.leaderboard.board_cli import main as board_command
from oshp_bench.leaderboard.entries import load_entries
from oshp_bench.manifest import Manifest, load_manifest
from oshp_bench.manifest.cli import main as manifest_command
from oshp_bench.manifest.pack import Pack, write_pack
from oshp_bench.manifest.truth import load_truth, write_truth
from oshp_bench.metrics.listing import file_names
from oshp_bench.metrics.matrices import count_predictions, save_matrices
from oshp_bench.metrics.method_card import read_method_card
from oshp_bench.metrics.submission import read_index
from oshp_bench.report.cli import main as score_command

pytestmark = pytest.mark.slow

MUTATIONS = 200
# Predictions of a whole test would be read 200 times; commands take no smaller one.
PAIRS = 12

Change = Callable[[bytes, random.Random], bytes]
# A value of JSON or TOML, or the beginning of a table or list.
TOKEN = re.compile(rb'"(?:[^"\\\n]|\\.)*"|-?\b\d[\w.+-]*|\btrue\b|\bfalse\b|\bnull\b|[\[{]')
ODD = [
    *b"null true -1 0 1e999 1e-5 0.5 99999999999999999999 9223372036854775807 [] {} [[]] [1,2] [[[[[[[]]]]]]]".split(),
    *rb'nan "" "\ud800" "\u0000" "\u001b[2J" "\n" "../../etc" "=1+1" "9" "k" {"a":{"a":1}}'.split(),
    b'"' + b"x" * 30_000 + b'"',
    b"[" * 2_000 + b"]" * 2_000,
]


def mutated(data: bytes, dice: random.Random) -> bytes:
    """One to four changes: bytes set, cut out, doubled, or the end cut off."""
    content = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        start = dice.randrange(len(content) + 1)
        length = dice.choice((1, 2, 4, 8, 64))
        match dice.randrange(4):
            case 0:
                content[start : start + length] = dice.randbytes(length)
            case 1:
                del content[start : start + length]
            case 2:
                content[start:start] = content[start : start + length]
            case _ if dice.random() < 0.2:
                del content[start:]
    return bytes(content)


def misspelt(data: bytes, dice: random.Random) -> bytes:
    """A document with one value replaced by an odd one, which leaves most documents well-formed; or mutated bytes."""
    if dice.random() < 0.2:
        return mutated(data, dice)
    token = dice.choice([*TOKEN.finditer(data)])
    odd = dice.choice(ODD)
    whole = token.end() if token[0] not in (b"[", b"{") else token.start()
    return data[: token.start()] + odd + data[whole:]


def with_digest(data: bytes, dice: random.Random) -> bytes:
    """A misspelt result whose digest was made to fit again."""
    changed = misspelt(data, dice)
    try:
        content = json.loads(changed)
        content["digest"] = content_digest({key: value for key, value in content.items() if key != "digest"})
        return json.dumps(content).encode()
    except (ValueError, TypeError, RecursionError):
        return changed


def attack(
    data: bytes,
    path: Path,
    read: Callable[[Path], object],
    change: Change = mutated,
    equal: Callable[[Any, Any], bool] | None = None,
) -> None:
    """Reads all mutations of a file, or has a command read them.

    Args:
        equal: for formats whose checksums cover all content: whether an accepted mutation gave what the file gives.
    """
    path.write_bytes(data)
    done = right = read(path)
    assert not (isinstance(done, Result) and told(done)), "it is refused without a mutation, too"
    dice = random.Random(path.suffix)
    refused = 0
    for number in range(MUTATIONS):
        path.write_bytes(change(data, dice))
        with within_bounds(number):
            try:
                done = read(path)
            except OshpError as error:
                assert error.exit_code in (1, 2) and error.problems, number
                assert all(problem.isprintable() for problem in error.problems), number
                refused += 1
            except ImageProblem as problem:
                assert str(problem).isprintable(), number
                refused += 1
            else:
                if isinstance(done, Result) and told(done):
                    refused += 1
                else:
                    assert equal is None or equal(done, right), f"mutation {number} was accepted with another content"
    assert refused > MUTATIONS // 20, "the mutations change nothing that is read"


def told(done: Result) -> bool:
    """Whether a command refused its input; if so, in lines."""
    assert done.exit_code in (0, 1, 2), done.exception
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert all(line.isprintable() for line in done.output.splitlines())
    return done.exit_code > 0


def command(main: object, *arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def bench(tiny_spec: Spec, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tiny_spec, tiny_root, tmp_path_factory.mktemp("bench"), PAIRS)


@pytest.fixture
def predictions(bench: Bench, tmp_path: Path) -> Path:
    """A folder of predictions with the digests of its files."""
    folder = bench.write(tmp_path / "preds", seed=1)
    said = {"format": "oshp-predictions/1", "method": "by hand", "manifest": bench.manifest.name}
    said |= {"version": bench.manifest.version, "test_digest": bench.manifest.test_digest}
    (folder / "predictions.json").write_text(json.dumps(said))
    PredictionWriter(folder, bench.manifest, "by hand", "k").finish()
    PredictionWriter(folder, bench.manifest, "by hand", "1").finish()
    return folder


def test_masks(tmp_path: Path) -> None:
    Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30) % 9).save(tmp_path / "mask.png")
    attack((tmp_path / "mask.png").read_bytes(), tmp_path / "mask.png", read_mask, equal=np.array_equal)


def test_matlab_masks(tmp_path: Path) -> None:
    for compressed in (False, True):
        scipy.io.savemat(
            tmp_path / "mask.mat", {"other": np.eye(90), "truth": np.eye(9, dtype=np.uint8)}, do_compression=compressed
        )
        assert read_mat_mask(tmp_path / "mask.mat", "truth").shape == (9, 9)
        attack((tmp_path / "mask.mat").read_bytes(), tmp_path / "mask.mat", lambda path: read_mat_mask(path, "truth"))


@pytest.mark.parametrize("change", [mutated, misspelt])
def test_specs(tmp_path: Path, change: Change) -> None:
    data = builtin_specs()["ccp"].read_bytes()
    attack(data, tmp_path / "spec.toml", lambda path: load_spec(str(path)), change)


@pytest.mark.parametrize("change", [mutated, misspelt])
def test_manifests(manifest_file: Path, tmp_path: Path, change: Change) -> None:
    data = manifest_file.read_bytes()
    attack(data, tmp_path / "manifest.json", lambda path: command(manifest_command, "show", path), change)


def test_manifests_whose_digests_fit(manifest_file: Path, tmp_path: Path) -> None:
    attack(manifest_file.read_bytes(), tmp_path / "manifest.json", load_manifest, with_digest)


@pytest.mark.parametrize("change", [misspelt, with_digest])
def test_results(tmp_path: Path, change: Change) -> None:
    content = document()
    data = json.dumps({**content, "digest": content_digest(content)}).encode()
    attack(data, tmp_path / "result.json", lambda path: load_entries([path]), change)


@pytest.mark.parametrize("reader", ["scorer", "writer"])
def test_cards_of_predictions(bench: Bench, predictions: Path, reader: str) -> None:
    def score(path: Path) -> object:
        return scored(bench, path.parent)

    def write(path: Path) -> object:
        writer = PredictionWriter(path.parent, bench.manifest, "by hand", "k")
        writer.finish()
        return writer

    path = predictions / "predictions.json"
    attack(path.read_bytes(), path, score if reader == "scorer" else write, misspelt)


def test_method_cards(tmp_path: Path) -> None:
    data = card_file(tmp_path / "method.toml").read_bytes()
    attack(data.replace(b"'''", b'"'), tmp_path / "method.toml", read_method_card, misspelt)


def test_indices_of_submissions(tmp_path: Path, manifest: Manifest) -> None:
    index = {
        "format": "oshp-submission/1",
        "method": {**read_method_card(card_file(tmp_path / "method.toml")).to_json()},
        "manifests": [{"name": "a", "version": "1.0.0", "test_digest": manifest.test_digest, "ways": ["k"]}],
        "made_by": "oshp-bench 0.2.0",
    }
    (tmp_path / "submission.json").write_text(json.dumps(index))
    assert read_index(tmp_path).sets
    data = (tmp_path / "submission.json").read_bytes()
    attack(data, tmp_path / "submission.json", lambda path: read_index(path.parent), misspelt)


def test_training_settings(tmp_path: Path) -> None:
    settings = pytest.importorskip("oshp_bench.training.settings")

    def read(path: Path) -> object:
        return settings.resolved("paper", settings.read_changes(path, (), {}))

    (tmp_path / "settings.toml").write_text(as_toml(settings.preset("paper")))
    read(tmp_path / "settings.toml")
    attack((tmp_path / "settings.toml").read_bytes(), tmp_path / "settings.toml", read, misspelt)


@pytest.mark.parametrize("part", ["file", "about", "array"])
def test_matrices(tiny_spec: Spec, tiny_root: Path, tmp_path: Path, part: str) -> None:
    """The whole file; or one of its members in a zip whose checksums fit."""
    bench = make_bench(tiny_spec, tiny_root, tmp_path)
    path = tmp_path / "matrices.npz"
    counted = count_predictions(bench.manifest, bench.truth, bench.write(tmp_path / "preds", seed=1))
    save_matrices(counted, bench.manifest, "default", path)
    options = ("--manifest", bench.manifest_file, "--truth", bench.truth_file, "--resamples", 0)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def change(data: bytes, dice: random.Random) -> bytes:
        if part == "file":
            return mutated(data, dice)
        if part == "about":
            text = misspelt(members["about.npy"][128:], dice)
            np.save(tmp_path / "about.npy", np.frombuffer(text, np.uint8))
            changed = {"about.npy": (tmp_path / "about.npy").read_bytes()}
        else:
            changed = {"kway.npy": mutated(members["kway.npy"][:160], dice) + members["kway.npy"][160:]}
        with zipfile.ZipFile(tmp_path / "changed.zip", "w") as archive:
            for name, content in {**members, **changed}.items():
                archive.writestr(name, content)
        return (tmp_path / "changed.zip").read_bytes()

    attack(
        path.read_bytes(),
        path,
        lambda path: command(score_command, "--from-matrices", path, *options),
        change,
        (lambda done, right: done.stdout == right.stdout) if part == "file" else None,
    )


@pytest.mark.parametrize("read", ["truth", "listing"])
def test_zips(manifest: Manifest, source: Source, tmp_path: Path, read: str) -> None:
    def masks(path: Path) -> object:
        truth = load_truth(path, manifest)
        return [truth.mask(query).tobytes() for query in manifest.pairs.queries]

    path = tmp_path / "truth.zip"
    write_truth(manifest, source, path)
    if read == "listing":
        attack(path.read_bytes(), path, file_names)
    else:
        attack(path.read_bytes(), path, masks, equal=operator.eq)


def test_zips_of_predictions(bench: Bench, predictions: Path, tmp_path: Path) -> None:
    path = tmp_path / "preds.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(predictions.rglob("*.*")):
            archive.write(file, file.relative_to(predictions))
    attack(
        path.read_bytes(),
        path,
        lambda path: scored(bench, path),
        equal=lambda done, right: done.figures == right.figures,
    )


def test_tensors(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    weights = pytest.importorskip("oshp_bench.baselines.backbones.weights")
    numpy.save_file({"a": np.eye(3, dtype=np.float32), "b": np.zeros(5)}, tmp_path / "a.safetensors")
    attack((tmp_path / "a.safetensors").read_bytes(), tmp_path / "a.safetensors", weights.read_state)
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.eye(3), "b": torch.zeros(5)}, tmp_path / "a.pth")
    attack((tmp_path / "a.pth").read_bytes(), tmp_path / "a.pth", weights.read_state)


def test_packs(manifest: Manifest, source: Source, tmp_path: Path) -> None:
    path = tmp_path / "pack.h5"
    write_pack(manifest, source, path)

    def read(path: Path) -> None:
        pack = Pack(path, manifest)
        pack.read("090")

    attack(path.read_bytes(), path, read)
    attack(path.read_bytes(), path, read, lambda data, dice: mutated(data[:30_000], dice) + data[30_000:])


def test_texts(tmp_path: Path) -> None:
    """Values of any kind, in any place of a JSON document."""
    data = b'{"a": [1, "b", {"c": null}], "d": -0.5, "e": {"f": true}}'
    attack(data, tmp_path / "a.json", lambda path: parse_json(path.read_bytes(), str(path)), misspelt)


def test_cards_of_checkpoints(manifest: Manifest, tmp_path: Path) -> None:
    """The card in a checkpoint whose weights fit it."""
    pytest.importorskip("torch")
    from network_cases import card_of, save_drawn  # imports torch

    from oshp_bench.baselines.checkpoints import load_checkpoint

    path = save_drawn(tmp_path / "best.safetensors", card_of(manifest))
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    card = header["__metadata__"]["oshp"].encode()

    def change(_: bytes, dice: random.Random) -> bytes:
        text = misspelt(card, dice).decode(errors="replace")
        changed = json.dumps({**header, "__metadata__": {"oshp": text}}).encode()
        return len(changed).to_bytes(8, "little") + changed + data[8 + length :]

    attack(data, path, load_checkpoint, change)


@pytest.mark.parametrize("change", [misspelt, with_digest])
def test_results_on_a_board(tmp_path: Path, change: Change) -> None:
    """What a person types, with a result that was changed."""
    content = document()
    data = json.dumps({**content, "digest": content_digest(content)}).encode()
    site = tmp_path / "site"
    attack(data, tmp_path / "result.json", lambda path: command(board_command, "build", path, "-o", site), change)
