"""Links between the pages lead somewhere, and the changelog tells of this version."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from oshp_bench.version import __version__

ROOT = Path(__file__).parents[1]
PAGES = [
    path
    for folder in (".", ".github", "benchmarks", "docs", "manifests")
    for path in sorted((ROOT / folder).glob("*.md" if folder == "." else "**/*.md"))
]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, made as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> Iterator[str]:
    """The links of a page to files or headings that are not there; other sites are not asked."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^()\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Its `code` heading\n")
    (tmp_path / "page.md").write_text(
        "# One, two\n[a](other.md) [b](other.md#its-code-heading) [c](#one-two) [d](https://x.example)\n"
        "[e](gone.md) [f](other.md#gone) [g](#three)\n`[h](gone.md)`\n```\n[i](gone.md)\n# three\n```\n"
    )
    assert list(broken_links(tmp_path / "page.md")) == ["gone.md", "other.md#gone", "#three"]


def test_the_changelog_and_the_citation_tell_of_this_version() -> None:
    sections = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert sections[0] == __version__
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
