"""The report as a reader meets it: on a phone and a desk, in the light and the dark, by keyboard and on paper."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from browser import DESKTOP, PHONE, chromium, visit
from metrics_cases import Bench, make_bench, scored

from oshp_bench.datasets.labels import Spec
from oshp_bench.datasets.sources import find_source
from oshp_bench.manifest import load_manifest
from oshp_bench.metrics import Matrices, Resampling, Result, score_matrices
from oshp_bench.metrics.predictions import open_predictions
from oshp_bench.report import report_html
from oshp_bench.report.examples import Gallery

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

EVIL = "\u202e<b>Net</b> \u05e9\u05dc\u05d5\u05dd " + "x" * 10_000
# The colours of text and what it stands on (theme.css).
TEXT = [("ink", "paper"), ("muted", "paper"), ("accent", "paper"), ("ink", "sheet"), ("ink", "heat")]
TEXT += [("ink", part) for part in ("right", "same", "other", "void", "removed")]
# Lines and dots that say something.
MARKS = [("edge", "paper"), ("accent", "paper"), ("better", "paper"), ("worse", "paper")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tiny_spec: Spec, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report with photos, one that compares two hostile names, and one beside published rows."""
    folder = tmp_path_factory.mktemp("pages")
    bench: Bench = make_bench(tiny_spec, tiny_root, folder, pairs=300)
    sets = [bench.write(folder / str(seed), seed=seed) for seed in (1, 2)]
    results = [scored(bench, path) for path in sets]
    source = find_source(tiny_spec.dataset, tiny_root)
    found = [open_predictions(path, None, bench.manifest) for path in sets]
    floors = [("floor " + "y" * 300, results[1])]
    one = report_html(
        results[0], floors=floors, gallery=Gallery(bench.truth, (found[0],), source), command="oshp-score " + "x" * 900
    )
    two = report_html(results, names=(EVIL, "other"), gallery=Gallery(bench.truth, tuple(found), source))
    html = {"one": one, "two": two, "published": report_html(_on_atr())}
    for name, text in html.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in html}


def _on_atr() -> Result:
    manifest = load_manifest("atr_fold1")
    size, pairs = len(manifest.class_ids), len(manifest.pairs)
    generator = np.random.default_rng(2)
    kway, oneway = generator.integers(0, 500, (pairs, size, size + 1)), generator.integers(0, 500, (pairs, size, 2))
    kway[:, :, -1] = 0
    return score_matrices(manifest, Matrices(kway, oneway, {}, {}, ""), resampling=Resampling(100))


@pytest.mark.parametrize(
    ("name", "width", "dark"), list(product(("one", "two", "published"), (PHONE, DESKTOP), (False, True)))
)
def test_it_fits_and_is_quiet(browser: Browser, pages: dict[str, Path], name: str, width: int, dark: bool) -> None:
    with visit(browser, pages[name], width=width, dark=dark) as seen:
        assert seen.overflow() == []
        open_all(seen.page)
        assert seen.overflow() == []
        # The expensive check sees both widths and both themes, but not all four combinations.
        if dark == (width == DESKTOP):
            assert seen.violations() == []
        broken = seen.page.evaluate("[...document.images].filter(each => !each.naturalWidth).length")
        assert broken == 0
        assert seen.console == []
        assert seen.requests == []


@pytest.mark.parametrize("dark", [False, True])
def test_contrast_of_what_is_drawn(browser: Browser, pages: dict[str, Path], dark: bool) -> None:
    """axe-core reads no text in SVG, and knows no marks: the theme's colours are measured here."""
    with visit(browser, pages["two"], dark=dark) as seen:
        for pairs, least in ((TEXT, 4.5), (MARKS, 3.0)):
            for front, back in pairs:
                ratio = contrast(colour(seen.page, front), colour(seen.page, back))
                assert ratio >= least, f"{front} on {back}: {ratio:.2f}"
        fills = seen.page.evaluate(
            "[...new Set([...document.querySelectorAll('svg text')].map(each => getComputedStyle(each).fill))]"
        )
        allowed = {rgb(colour(seen.page, name)) for name in ("ink", "muted", "accent")}
        assert set(fills) <= allowed


def test_dark_and_light_are_two_looks(browser: Browser, pages: dict[str, Path]) -> None:
    papers = []
    for dark in (False, True):
        with visit(browser, pages["one"], dark=dark) as seen:
            papers.append(luminance(colour(seen.page, "paper")))
    assert papers[0] > 0.85
    assert papers[1] < 0.05


def test_everything_is_reached_by_keyboard(browser: Browser, pages: dict[str, Path]) -> None:
    with visit(browser, pages["two"], width=PHONE) as seen:
        order = seen.focus_order()
        assert order[0] == "a To the figures"
        assert order[1] == "a One-shot human parsing"
        links = seen.page.locator("nav a").all_inner_texts()
        assert order[2 : 2 + len(links)] == [f"a {text}" for text in links]
        assert order.count("summary The numbers") == seen.page.locator("summary").count() > 0
        # What scrolls by itself can be scrolled without a mouse.
        assert sum(each.startswith("div Confusion matrix") for each in order) == 2
        first = seen.page.locator("details").first
        first.locator("summary").focus()
        seen.page.keyboard.press("Enter")
        assert first.get_attribute("open") is not None
        seen.page.locator("nav a", has_text="Episodes").focus()
        seen.page.keyboard.press("Enter")
        top = seen.page.evaluate("document.getElementById('episodes').getBoundingClientRect().top")
        # 16 pixels of air above a heading.
        assert abs(top - 16) < 5


@pytest.mark.parametrize("name", ["one", "two"])
def test_on_paper(browser: Browser, pages: dict[str, Path], name: str) -> None:
    with visit(browser, pages[name], width=680, dark=True) as seen:
        seen.page.emulate_media(media="print")
        assert seen.overflow() == []
        assert luminance(colour(seen.page, "paper")) == 1
        assert not seen.page.locator("nav").is_visible()
        # What is folded on a screen is open on paper.
        assert seen.page.locator("details td").first.bounding_box()
        pdf = seen.page.pdf(format="A4")
        assert pdf.startswith(b"%PDF")


def test_names_stand_there_as_text(browser: Browser, pages: dict[str, Path]) -> None:
    with visit(browser, pages["two"]) as seen:
        title = seen.page.locator("h1").inner_text()
        assert title.startswith("other compared with")
        assert "�<b>Net</b>" in title
        assert seen.page.locator("h1 b").count() == 0


def open_all(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")


def colour(page: Page, name: str) -> tuple[int, int, int]:
    """One of the theme's colours as it is seen now."""
    text: str = page.evaluate("name => getComputedStyle(document.documentElement).getPropertyValue(name)", f"--{name}")
    red, green, blue = bytes.fromhex(text.strip().removeprefix("#"))
    return red, green, blue


def rgb(channels: tuple[int, int, int]) -> str:
    return "rgb({}, {}, {})".format(*channels)


def luminance(channels: tuple[int, int, int]) -> float:
    """Relative luminance as WCAG 2 defines it."""
    red, green, blue = (
        each / 255 / 12.92 if each / 255 <= 0.04045 else ((each / 255 + 0.055) / 1.055) ** 2.4 for each in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
