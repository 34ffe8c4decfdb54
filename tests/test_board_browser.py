"""The board in a real browser: sorting and filters work, nothing overflows, nothing leaves the page, all can use it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from board_cases import CARD, document, on, write
from browser import DESKTOP, PHONE, Visit, chromium, visit
from click.testing import CliRunner

from oshp_bench.leaderboard.board_cli import main

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from playwright.sync_api import Browser

KWAY = "ccp-official-1.0.0-default-kway"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four methods on CCP beside the published tables, with names that do not make it easy."""
    folder = tmp_path_factory.mktemp("board")
    said = (
        ("Gated", "ResNet-50", "ImageNet-1k", (0.3, 0.5)),
        ("deep " + "x" * 90, "ResNet-101", "COCO", (0.6, None)),
        ("<b>שלום</b>", "ResNet-50", "COCO", (0.2, 0.9)),
    )
    for name, backbone, pretraining, values in said:
        card = {**CARD, "name": name, "backbone": backbone, "pretraining": pretraining, "description": "y" * 300}
        for fold, value in enumerate(values, 1):
            if value is not None:
                content = document(card, fold=fold, figure=value, manifest=on(f"ccp_fold{fold}"))
                write(folder / "results" / f"{name[:4].strip('<')}-{fold}.json", content)
    write(folder / "results" / "floor.json", document("copy-support", figure=0.1, manifest=on("ccp_fold1")))
    for number in range(120):
        write(folder / "many" / f"{number}.json", document(f"method {number}", figure=number / 120))
    for name in ("results", "many"):
        done = CliRunner().invoke(main, ["build", str(folder / name), "-o", str(folder / f"site-{name}")])
        assert done.exit_code == 0, done.output
    return folder


def names(seen: Visit, table: str = KWAY) -> list[str]:
    """The methods of a table's rows that are seen, in order, shortened."""
    found: list[str] = seen.page.evaluate(
        """id => [...document.getElementById(id).tBodies[0].rows]
             .filter(row => row.checkVisibility()).map(row => row.cells[0].dataset.value.slice(0, 5))""",
        table,
    )
    return found


def click_head(seen: Visit, column: int) -> str:
    """Clicks a column's button; what its head then says of the order."""
    head = seen.page.locator(f"[id='{KWAY}'] th[data-sort]").nth(column)
    head.locator("button").click()
    return head.get_attribute("aria-sort") or ""


def address(seen: Visit) -> str:
    found: str = seen.page.evaluate("location.hash")
    return found


@pytest.mark.parametrize(("width", "dark"), [(PHONE, False), (PHONE, True), (DESKTOP, False), (DESKTOP, True)])
def test_everybody_can_read_it_and_it_asks_for_nothing(browser: Browser, site: Path, width: int, dark: bool) -> None:
    with visit(browser, site / "site-results" / "index.html", width=width, dark=dark) as seen:
        assert seen.overflow() == []
        seen.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert seen.overflow() == []
        # The expensive check sees both widths and both themes, but not all four combinations.
        if dark == (width == DESKTOP):
            assert seen.violations() == []
        assert seen.console == []
        assert seen.requests == []


def test_tables_are_sorted_by_a_click(browser: Browser, site: Path) -> None:
    with visit(browser, site / "site-results" / "index.html") as seen:
        # By the average of C_novel; what has none comes last.
        first = ["<b>של", "Gated", "deep ", "copy-"]
        assert names(seen) == first
        assert click_head(seen, 1) == "descending"
        assert names(seen) == ["deep ", "Gated", "<b>של", "copy-"]
        assert click_head(seen, 1) == "ascending"
        assert names(seen) == ["copy-", "<b>של", "Gated", "deep "]
        # What has no figure stands last in both directions.
        assert click_head(seen, 2) == "descending"
        assert names(seen)[:2] == ["<b>של", "Gated"]
        assert click_head(seen, 2) == "ascending"
        assert names(seen)[:2] == ["Gated", "<b>של"]
        assert click_head(seen, 2) == ""
        assert names(seen) == first
        assert click_head(seen, 0) == "ascending"
        assert names(seen) == ["<b>של", "copy-", "deep ", "Gated"]
        assert seen.page.locator("[aria-sort]").count() == 1


def test_filters_leave_what_fits_and_say_how_much(browser: Browser, site: Path) -> None:
    with visit(browser, site / "site-results" / "index.html") as seen:
        page = seen.page
        status = page.locator("#status")
        assert status.text_content() == "50 of 50 rows in 8 of 8 tables"
        page.select_option("[name=dataset]", "ccp")
        assert page.locator("section:visible").count() == 1
        page.select_option("[name=way]", "k")
        assert status.text_content() == "4 of 50 rows in 1 of 8 tables"
        page.select_option("[name=backbone]", "=ResNet-50")
        assert names(seen) == ["<b>של", "Gated"]
        page.select_option("[name=pretraining]", "=COCO")
        assert names(seen) == ["<b>של"]
        page.fill("[name=method]", "gated")
        assert names(seen) == []
        assert page.locator("#nothing").is_visible()
        page.click("button[type=reset]")
        page.wait_for_function("document.getElementById('status').textContent.startsWith('50 of')")
        assert not page.locator("#nothing").is_visible()
        page.select_option("[name=backbone]", "=")
        assert names(seen) == ["copy-"]
        page.select_option("[name=backbone]", "")
        page.select_option("[name=kind]", "published")
        assert status.text_content() == "42 of 50 rows in 6 of 8 tables"


def test_a_view_can_be_linked_to(browser: Browser, site: Path) -> None:
    file = site / "site-results" / "index.html"
    with visit(browser, file) as seen:
        seen.page.select_option("[name=dataset]", "ccp")
        seen.page.fill("[name=method]", "e")
        click_head(seen, 1)
        link, shown = seen.page.url, names(seen)
        assert address(seen) == f"#dataset=ccp&method=e&sort.{KWAY}=1d"
        seen.page.goto("about:blank")
        seen.page.goto(link)
        assert names(seen) == shown == ["deep ", "Gated"]
        assert seen.page.locator("[name=dataset]").input_value() == "ccp"
        assert seen.page.locator("[aria-sort=descending]").count() == 1
        # The link of a dataset is a place on the page and filters nothing.
        seen.page.goto("about:blank")
        seen.page.goto(f"{file.resolve().as_uri()}#dataset-ccp")
        assert seen.page.locator("section:visible").count() == 4
        # Nonsense is no filter and no error.
        seen.page.goto("about:blank")
        seen.page.goto(f"{file.resolve().as_uri()}#dataset=nope&sort.{KWAY}=99x&%E0%A4%A")
        assert len(names(seen)) == 4
        assert seen.console == []


def test_the_keyboard_reaches_everything(browser: Browser, site: Path) -> None:
    with visit(browser, site / "site-results" / "index.html") as seen:
        seen.page.select_option("[name=dataset]", "ccp")
        seen.page.select_option("[name=way]", "k")
        seen.page.evaluate("document.activeElement.blur()")
        reached = seen.focus_order()
        assert reached[0] == "a Skip to the tables"
        assert "button C novel mIoU, fold 1" in reached
        assert sum(stop.startswith("summary") for stop in reached) == 4
        assert any(stop.startswith("div CCP-OS") for stop in reached), "the table's box cannot be scrolled by keys"
        button = seen.page.get_by_role("button", name="C human mIoU, Ave")
        button.focus()
        seen.page.keyboard.press("Enter")
        assert seen.page.locator("th[aria-sort=descending]").inner_text().startswith("Ave")


def test_long_tables_are_drawn_in_part_until_asked_for(browser: Browser, site: Path) -> None:
    with visit(browser, site / "site-many" / "index.html") as seen:
        table = seen.page.locator("[data-dataset=toy] table").first.get_attribute("id") or ""
        assert len(names(seen, table)) == 100
        seen.page.locator("[data-dataset=toy] .rest button").first.click()
        assert len(names(seen, table)) == 120
        seen.page.fill("[name=method]", "method 11")
        assert sorted(names(seen, table)) == ["metho"] * 11
        assert seen.console == []


def test_a_dataset_may_be_called_as_a_part_of_the_page(browser: Browser, tmp_path: Path) -> None:
    write(tmp_path / "results" / "a.json", document(manifest={"dataset": "nothing", "name": "status"}))
    CliRunner().invoke(main, ["build", str(tmp_path / "results"), "-o", str(tmp_path / "site"), "--no-published"])
    with visit(browser, tmp_path / "site" / "index.html") as seen:
        seen.page.fill("[name=method]", "nobody")
        assert seen.page.locator("p#nothing").is_visible()
        seen.page.fill("[name=method]", "hand")
        assert seen.page.locator("section:visible").count() == 1
        assert seen.violations() == []


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_a_jump_lands_on_the_heading_and_unfolds_what_is_below_it(browser: Browser, site: Path, width: int) -> None:
    with visit(browser, site / "site-results" / "index.html", width=width) as seen:
        folded = seen.page.locator("details.published")
        assert folded.count() == 3
        assert not seen.page.locator("[data-dataset=lip] table").first.is_visible()
        for name in ("lip", "ccp", "atr"):
            seen.page.locator(f"nav a[href='#dataset-{name}']").click()
            seen.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            box = seen.page.locator(f"#dataset-{name}").bounding_box()
            assert box
            least = seen.page.evaluate("innerHeight + scrollY - document.documentElement.scrollHeight")
            # 16 pixels of air, unless the page ends before.
            assert abs(box["y"] - 16) < 2 or least > -2, (name, box)
        assert seen.page.locator("[data-dataset=lip] table").first.is_visible()
        assert seen.page.locator(".sideways").first.is_visible() == (width == PHONE)


def test_own_results_come_first(browser: Browser, site: Path) -> None:
    with visit(browser, site / "site-results" / "index.html") as seen:
        titles = seen.page.locator("h2").all_inner_texts()
        assert [title[:4] for title in titles] == ["CCP-", "ATR-", "LIP-", "CIHP", "How "]


def test_on_paper_every_table_is_whole(browser: Browser, site: Path) -> None:
    with visit(browser, site / "site-many" / "index.html", width=680) as seen:
        seen.page.emulate_media(media="print")
        assert seen.overflow() == []
        rows = seen.page.locator("tbody tr")
        assert rows.count() == sum(
            box is not None and box["height"] > 5 for box in (row.bounding_box() for row in rows.all())
        )
        assert seen.page.pdf(format="A4").startswith(b"%PDF")


def test_without_scripts_all_tables_are_there(browser: Browser, site: Path) -> None:
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto((site / "site-results" / "index.html").resolve().as_uri())
    assert page.locator("table").count() == 8
    assert page.locator("tbody tr").count() == 50
    assert not page.locator("form").is_visible()
    assert page.locator("th button").count() == 0
    context.close()
