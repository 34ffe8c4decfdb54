"""Looks at pages in headless Chromium, for tests; as a command, makes the screenshots of docs/.

python tests/browser.py report.html docs/report.png --width 1280 --dark
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PHONE, DESKTOP = 390, 1440
# Milliseconds; a busy machine is no fault of a page.
_PATIENCE = 180_000
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)
# What sticks out of the window, apart from what lies in a box that scrolls by itself.
_OVERFLOW = """() => {
  const wide = document.documentElement.clientWidth;
  const scrolls = node => node && node !== document.body &&
    (['auto', 'scroll'].includes(getComputedStyle(node).overflowX) || scrolls(node.parentElement));
  return [...document.body.querySelectorAll('*')]
    .filter(node => node.getBoundingClientRect().right > wide + 1 && !scrolls(node))
    .map(node => `${node.tagName.toLowerCase()}.${node.getAttribute('class') || ''} ${node.textContent.slice(0, 40)}`)
    .concat(document.documentElement.scrollWidth > wide ? ['the page itself'] : []);
}"""


@dataclass
class Visit:
    """A page that was opened from disk.

    Attributes:
        console: errors and warnings that it wrote, and exceptions that it threw.
        requests: what it asked for beyond itself and the data: addresses in it.
    """

    page: Page
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def overflow(self) -> list[str]:
        """What is wider than the window."""
        found: list[str] = self.page.evaluate(_OVERFLOW)
        return found

    def violations(self) -> list[str]:
        """What axe-core finds against WCAG 2.2 AA and its own best practices, a line each."""
        # Evaluated from outside, so that the page's own policy against scripts does not matter.
        self.page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text())
        found: dict[str, Any] = self.page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{rule['id']}: {node['html'][:160]} {json.dumps(node['failureSummary'])[:300]}"
            for rule in found["violations"]
            for node in rule["nodes"]
        ]

    def focus_order(self) -> list[str]:
        """What the tab key reaches, in order: "a Difference"; every stop must show that it is focused."""
        reached: list[str] = []
        for _ in range(500):
            self.page.keyboard.press("Tab")
            at: dict[str, str] | None = self.page.evaluate(
                """() => { const node = document.activeElement; if (!node || node === document.body) return null;
                const style = getComputedStyle(node);
                return {name: `${node.tagName.toLowerCase()} ${node.ariaLabel || node.textContent.trim().slice(0, 60)}`,
                        shown: style.outlineStyle !== 'none' && style.outlineWidth !== '0px' ? 'yes' : 'no'}; }"""
            )
            if at is None:
                break
            assert at["shown"] == "yes", f"{at['name']} does not show its focus"
            reached.append(at["name"])
        return reached


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium; the test is skipped where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    pytest.importorskip("playwright", reason="playwright is not installed (extra dev)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=list(_FLAGS), timeout=_PATIENCE)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visit(
    browser: Browser, file: Path, *, width: int = DESKTOP, height: int = 900, dark: bool = False, scale: float = 1
) -> Iterator[Visit]:
    """Opens a page from disk with an empty profile and without a network; nothing that it asks for is sent.

    Args:
        width, height: of the window, in CSS pixels.
        dark: what the system prefers.
        scale: device pixels a CSS pixel.
    """
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        device_scale_factor=scale,
        offline=True,
        reduced_motion="reduce",
    )
    context.set_default_timeout(_PATIENCE)
    page = context.new_page()
    seen = Visit(page)
    own = file.resolve().as_uri()
    page.on(
        "console",
        lambda message: seen.console.append(message.text) if message.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: seen.console.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.split("#")[0] == own or request.url.startswith("data:")
            else seen.requests.append(request.url)
        ),
    )
    try:
        page.goto(own)
        yield seen
    finally:
        context.close()


def main() -> None:
    """Takes one screenshot."""
    parser = argparse.ArgumentParser(description="Takes a screenshot of a page.")
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--whole", action="store_true", help="down to the end of the page")
    parser.add_argument("--at", help="scroll to this id first")
    given = parser.parse_args()
    with (
        chromium() as browser,
        visit(browser, given.page, width=given.width, height=given.height, dark=given.dark, scale=given.scale) as seen,
    ):
        if given.at and not seen.page.locator(f"[id='{given.at}']").count():
            parser.error(f"{given.page} has no place of the name {given.at}")
        if given.at:
            seen.page.evaluate("id => document.getElementById(id).scrollIntoView()", given.at)
        seen.page.screenshot(path=given.picture, full_page=given.whole)


if __name__ == "__main__":
    main()
