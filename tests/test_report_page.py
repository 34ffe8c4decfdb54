"""The report as a file: whole, self-contained, the same every time, and safe whatever the names in it say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from click.testing import CliRunner, Result
from metrics_cases import Bench, fast_result, make_bench, mask_of, scored
from slow_scorer import SlowPair

from oshp_bench.datasets.labels import Spec
from oshp_bench.errors import OshpError
from oshp_bench.manifest import load_manifest
from oshp_bench.metrics import Matrices, Resampling, score, score_matrices
from oshp_bench.metrics.method_card import MethodCard
from oshp_bench.report import pictures, report_html
from oshp_bench.report.cli import main
from oshp_bench.report.examples import Gallery, PicturedEpisode

pytestmark = pytest.mark.slow

QUICK = "--resamples=60"
VOID = {"meta", "link", "img", "br"}
EVIL = "\u202e<script>alert(1)</script>\" onload='x' {{ 7 * 7 }} \u05e9\u05dc\u05d5\u05dd" + "x" * 10_000


@dataclass
class Page(HTMLParser):
    """The elements and the text of a page; every element must be closed in its order."""

    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    text: str = ""
    open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data

    def all(self, tag: str) -> Iterator[dict[str, str]]:
        return (attributes for name, attributes in self.elements if name == tag)


def parsed(html: str) -> Page:
    page = Page()
    page.feed(html)
    page.close()
    assert page.open == []
    page.text = " ".join(page.text.split())
    return page


def check_alone(html: str) -> Page:
    """Nothing of the page runs or comes from elsewhere; what is drawn is described; ids are unique."""
    page = parsed(html)
    assert not {tag for tag, _ in page.elements} & {"script", "iframe", "object", "embed", "form", "base", "video"}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "data", "action", "poster", "srcset"):
            address = attributes.get(name, "#")
            assert address.startswith(("#", "data:image/", "data:,")) or (tag == "a" and address.startswith("https://"))
    assert "url(" not in re.sub(r"url\(#[a-z0-9-]+\)", "", html)
    assert "@import" not in html
    assert any("default-src 'none'" in each.get("content", "") for each in page.all("meta"))
    assert all(each["alt"] for each in page.all("img"))
    assert all(each["role"] == "img" and each["aria-label"] for each in page.all("svg"))
    ids = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
    assert [name for name, times in ids.items() if times > 1] == []
    targets = [each["href"][1:] for _, each in page.elements if each.get("href", "").startswith("#")]
    assert set(targets) <= ids.keys()
    return page


@pytest.fixture(scope="module")
def bench(tiny_spec: Spec, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tiny_spec, tiny_root, tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def sets(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("sets")
    return bench.write(folder / "first", seed=1), bench.write(folder / "second", seed=2)


def run(bench: Bench, *arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [*map(str, arguments), "--manifest", str(bench.manifest_file), QUICK])
    assert result.exit_code == code, result.output
    return result


def test_one_set(bench: Bench, sets: tuple[Path, Path], tiny_root: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    output = run(bench, sets[0], "--report", file, "--root", tiny_root, "--floor", sets[1])
    assert output.stderr == ""
    html = file.read_text(encoding="utf-8")
    page = check_alone(html)
    result = score(bench.manifest, sets[0], bench.truth_file, resampling=Resampling(60))
    for name, figure in result.figures.items():
        if "/accuracy/" in name:
            continue
        assert figure.value is not None
        assert f"{100 * figure.value:.2f}" in page.text
    headline = result.figures["kway/novel_miou"]
    assert headline.low is not None and headline.high is not None
    assert f"{100 * headline.low:.2f} to {100 * headline.high:.2f}" in page.text
    floor = score(bench.manifest, sets[1], bench.truth_file, resampling=Resampling(0))
    assert f"{100 * (floor.figures['1way/bi_miou'].value or 0):.2f}" in page.text
    for said in (
        result.signature,
        bench.manifest.digest,
        bench.manifest.test_digest,
        result.matrices.digest,
        floor.to_json()["manifest"]["test_digest"],
        "60 resamples, seed 0",
        "numpy " + np.__version__,
        f"--report {file}",
    ):
        assert said in page.text, said
    # Two ways of six episodes: support, its mask, query, truth, prediction and its errors.
    assert len(list(page.all("img"))) == 12 * 6
    sections = {each["id"] for each in page.all("section")}
    assert sections == {"figures", "classes", "bias", "sizes", "confused", "episodes", "source"}
    assert {each["href"][1:] for each in page.all("a") if each["href"].startswith("#")} == sections


def test_two_sets_are_told_apart_and_compared(bench: Bench, sets: tuple[Path, Path], tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    output = run(bench, *sets, "--report", file, "--format", "json")
    page = check_alone(file.read_text(encoding="utf-8"))
    differences = json.loads(output.stdout)["differences"]
    for name, difference in differences.items():
        if "/accuracy/" not in name:
            assert f"{100 * difference['value']:+.2f}" in page.text.replace("\N{MINUS SIGN}", "-")
            assert f"{difference['p_value']:.4f}" in page.text
    # Neither says who made it, so folders give the names.
    assert "second compared with first" in page.text
    assert output.stderr == "note: the report shows only masks; photos need --root\n"
    assert len(list(page.all("img"))) == 12 * 5


def test_the_same_input_gives_the_same_bytes(
    bench: Bench, sets: tuple[Path, Path], tiny_root: Path, tmp_path: Path
) -> None:
    arguments = [str(sets[0]), "--root", str(tiny_root), "--floor", str(sets[1]), "--report", "report.html", QUICK]
    arguments += ["--manifest", str(bench.manifest_file)]
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        # A user's own style must not matter, nor the order of sets and dicts.
        with matplotlib.rc_context({"axes.facecolor": "red", "svg.fonttype": "path", "font.size": 40}):
            assert CliRunner().invoke(main, arguments).exit_code == 0
    finally:
        os.chdir(before)
    again = tmp_path / "again"
    again.mkdir()
    code = "from oshp_bench.report.cli import main; main()"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=again, env=environment, check=True, capture_output=True
    )
    assert (again / "report.html").read_bytes() == (tmp_path / "report.html").read_bytes()


def test_matrices_alone_give_a_report_without_pictures(bench: Bench, sets: tuple[Path, Path], tmp_path: Path) -> None:
    run(bench, sets[0], "--out", tmp_path)
    run(bench, "--from-matrices", tmp_path / "matrices.npz", "--report", tmp_path / "report.html")
    page = check_alone((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert list(page.all("img")) == []
    assert "There are no pictures" in page.text


@pytest.mark.parametrize(("way", "absent"), [("k", {"1-way"}), ("1", {"k-way", "Confusion matrix"})])
def test_one_way_alone(bench: Bench, sets: tuple[Path, Path], tmp_path: Path, way: str, absent: set[str]) -> None:
    run(bench, sets[0], "--way", way, "--report", tmp_path / "report.html")
    page = check_alone((tmp_path / "report.html").read_text(encoding="utf-8"))
    text = page.text.replace("\N{NON-BREAKING HYPHEN}", "-")
    assert not [each for each in absent if each in text]
    assert len(list(page.all("img"))) == 6 * 3


def test_what_is_missing_is_said(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    bench.write(folder)
    for name in bench.manifest.pairs.names[:7]:
        (folder / "kway" / f"{name}.png").unlink()
    page = check_alone(report_html(scored(bench, folder, allow_missing=True)))
    assert "7 of 750 k-way predictions are missing and count as all background" in page.text


def test_names_of_unknown_origin_do_no_harm(bench: Bench, sets: tuple[Path, Path]) -> None:
    results = [scored(bench, path) for path in sets]
    floor = (EVIL[:90] + "floor", results[0])
    page = check_alone(report_html(results, names=(EVIL, "$x^2$ \u6f22\u5b57"), floors=[floor], command=EVIL))
    assert "�<script>alert(1)</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "$x^2$ \u6f22\u5b57" in page.text
    assert "\u202e" not in page.text
    assert "x" * 5_000 not in page.text


def test_the_method_card_stands_there(bench: Bench, sets: tuple[Path, Path]) -> None:
    card = MethodCard(
        name="Net <i>",
        authors="A. Author & B. Author",
        backbone="Xception-65",
        pretraining="ImageNet",
        parameters=1_234_567,
        extra_data="none",
        date="2026-01-31",
        paper="https://example.org/paper?a=1&b=%22",
        code=None,
    )
    result = scored(bench, sets[0])
    html = report_html(replace(result, matrices=replace(result.matrices, card=card)))
    page = check_alone(html)
    for said in ("Net <i>", "A. Author & B. Author", "Xception-65", "ImageNet", "1,234,567", "2026-01-31", card.paper):
        assert said is not None and said in page.text
    (link,) = (each for each in page.all("a") if each["href"].startswith("https://example.org"))
    assert link["href"] == card.paper
    assert "noopener" in link["rel"]


def test_published_rows_stand_beside_the_same_pairs() -> None:
    manifest = load_manifest("atr_fold2")
    size, pairs = len(manifest.class_ids), len(manifest.pairs)
    kway = np.zeros((pairs, size, size + 1), np.int64)
    kway[:, :, 0] = 10
    result = score_matrices(manifest, Matrices(kway, None, {}, {}, ""), resampling=Resampling(0))
    html = report_html(result)
    page = check_alone(html)
    for said in ("EOP-Net", "34.6", "63.3", "93.5 both folds", "Table 2", "official-2023"):
        assert said in page.text, said
    # 1-way was not scored, so its columns and the methods' rows in it are not there.
    assert "83.2" not in page.text
    assert "PerSAM" in page.text


def test_a_report_on_almost_nothing() -> None:
    """One pair whose truth holds no novel class and no second class: no swaps, no sizes, no intervals."""
    pair = SlowPair("q", 1, frozenset({1}), frozenset({1}))
    roles = {0: "background", 1: "base", 2: "novel"}
    mask = mask_of("0 1, 0 1")
    page = check_alone(report_html(fast_result([pair], roles, 3, {"q": mask}, [mask], [mask])))
    assert "There are no intervals" in page.text
    nothing = fast_result([pair], roles, 3, {"q": mask * 0}, [mask * 0], [mask * 0])
    check_alone(report_html([nothing, nothing], names=["a", "b"]))


def test_a_label_that_the_merge_removed_has_its_column() -> None:
    pair = SlowPair("q", 1, frozenset({1, 2}), frozenset({1, 2}))
    roles = {0: "background", 1: "base", 2: "novel"}
    page = check_alone(
        report_html(
            fast_result([pair], roles, 4, {"q": mask_of("1 1, 2 2")}, [mask_of("1 3, 2 2")], None, "official-2023")
        )
    )
    assert "removed label" in page.text
    assert "convention official-2023" in page.text


def test_a_gallery_is_of_every_result(bench: Bench, sets: tuple[Path, Path]) -> None:
    result = scored(bench, sets[0])
    with pytest.raises(OshpError, match="one prediction set per result"):
        report_html(result, gallery=Gallery(bench.truth, (), None))


def test_a_missing_extra_is_said_before_anything_is_scored(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    output = run(bench, "no-such-folder", "--report", tmp_path / "report.html", code=2)
    assert output.stderr == "error: a report needs jinja2: run pip install '.[report]' in a clone of oshp-bench\n"


def test_pictures_are_small_whatever_they_show(bench: Bench) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (1600, 1200, 3), np.uint8)
    mask = np.array(bench.manifest.class_ids, np.uint8)[noise[..., 0] % len(bench.manifest.class_ids)]
    example = PicturedEpisode(0, "q", "s", noise, noise, mask, mask, (mask, mask))
    tiles = list(pictures.tiles(example, bench.manifest))
    assert {(tile.width, tile.height) for tile in tiles} == {(300, 400)}
    # A report shows six episodes a way.
    assert 12 * sum(len(tile.address) for tile in tiles) < 10_000_000
