"""The site of the documentation: it builds without a warning, its links lead somewhere, it asks nothing of others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


class Links(HTMLParser):
    """What a page refers to, and the places in it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.places: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        self.places.add(said.get("id", ""))
        if tag == "a" and "href" in said:
            self.links.append(said["href"])
        elif tag in ("img", "script", "link") and said.get("rel") != "canonical":
            self.loaded.append(said.get("src") or said.get("href") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. mkdocs.yml asks for strictness: a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def test_links_lead_somewhere_and_nothing_is_loaded_from_others(site: Path) -> None:
    pages = {page: Links(page) for page in site.rglob("*.html")}
    assert len(pages) > 20
    problems = []
    for page, found in pages.items():
        # The page for wrong addresses refers from the root of wherever the site lies.
        if page.name == "404.html":
            continue
        for link in [*found.links, *found.loaded]:
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            elsewhere = re.match(r"[a-z]+:", link) is not None
            gone = not target.is_file() or bool(anchor and target in pages and anchor not in pages[target].places)
            if link in found.loaded if elsewhere else gone:
                problems.append(f"{page.name}: {link}")
    assert problems == []


@pytest.mark.parametrize("package", ["oshp_bench", "oshp_bench.manifest", "oshp_bench.metrics", "oshp_bench.report"])
def test_the_reference_has_every_public_name(site: Path, package: str) -> None:
    places = Links(site / "api.html").places
    assert [name for name in import_module(package).__all__ if f"{package}.{name}" not in places] == []
