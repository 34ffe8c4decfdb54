"""oshp-board from end to end: what a maintainer types and what comes out."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from board_cases import CARD, document, on, write
from click.testing import CliRunner, Result

from oshp_bench.leaderboard.board_cli import main
from oshp_bench.metrics.result_file import load_result
from oshp_bench.report.published import published_tables

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


class Page(HTMLParser):
    """A page's elements and what a reader sees of it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._texts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = "".join(self._texts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self._texts.append(data)

    def values(self, tag: str, attribute: str) -> list[str]:
        return [value for name, attrs in self.elements if name == tag and (value := attrs.get(attribute))]


def test_the_projects_results_stand_beside_the_papers_tables(tmp_path: Path) -> None:
    output = run("build", RESULTS, "-o", tmp_path / "site", "--no-reports")
    assert re.fullmatch(r".*index\.html: \d+ results, \d+ rows in \d+ tables\n", output.stdout)
    page = Page(tmp_path / "site" / "index.html")
    methods = {load_result(path).method_name for path in RESULTS.rglob("ccp_*.json")}
    assert methods >= {"background", "class-prior", "copy-support"}
    published = {method.name for table in published_tables() for method in table.methods}
    assert len(published) == 9
    assert set(page.values("th", "data-value")) >= methods | published
    assert page.values("section", "data-dataset") == ["ccp", "demo", "atr", "lip", "cihp"]
    tables = page.values("table", "id")
    assert tables == sorted(set(tables), key=tables.index)
    assert {f"{name}.csv" for name in tables} == {path.name for path in (tmp_path / "site" / "tables").iterdir()}
    assert page.text.count("the mean of its folds is") == 5


def test_the_same_results_give_the_same_site(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run("build", RESULTS / "demo", "-o", tmp_path / name, "--no-reports")
    one, two = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("one", "two")
    )
    assert one == two
    assert Path("index.html") in one


def test_a_page_asks_for_nothing_and_a_stranger_puts_nothing_into_it(tmp_path: Path) -> None:
    hostile = {
        **CARD,
        "name": "<img src=x onerror=alert(1)>",
        "authors": '"><script>alert(2)</script>',
        "backbone": "</option></select><b>",
        "pretraining": "{{ 7 * 7 }}",
        "description": "</style><script>alert(3)</script>",
    }
    write(tmp_path / "a.json", document(hostile))
    run("build", tmp_path / "a.json", "-o", tmp_path / "site")
    page = Page(tmp_path / "site" / "index.html")
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert not [attrs for _, attrs in page.elements if any(name.startswith("on") for name in attrs)]
    assert all(source.startswith("data:image/png;base64,") for source in page.values("img", "src"))
    assert all(words for words in page.values("img", "alt"))
    links = page.values("a", "href")
    assert all(
        link.startswith(("#", "tables/", "https://example.org/paper", "https://arxiv.org/abs/2105.01241"))
        for link in links
    )
    assert not [tag for tag, _ in page.elements if tag in ("link", "iframe", "object", "embed", "base")]
    for shown in (hostile["name"], hostile["authors"], hostile["backbone"], hostile["description"]):
        assert str(shown) in page.text
    assert "{{ 7 * 7 }}" in page.text


def test_problems_of_all_files_are_listed_and_nothing_is_written(tmp_path: Path) -> None:
    write(tmp_path / "results" / "a.json", document("x" * 10_000))
    (tmp_path / "results" / "b.json").write_text("no")
    write(tmp_path / "results" / "c.json", document())
    output = run("build", tmp_path / "results", "-o", tmp_path / "site", code=2)
    assert len(output.stderr.splitlines()) == 2
    assert output.stdout == ""
    assert not (tmp_path / "site").exists()


def test_strange_results_are_noted(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.json", document())
    output = run("build", tmp_path, "-o", tmp_path / "site")
    assert output.stderr.splitlines() == [
        f"note: {tmp_path / 'b.json'}: the same result as {tmp_path / 'a.json'}; it is shown once",
        "note: toy_fold1 1.0.0: this manifest is missing; give --manifest to check and test its results",
    ]


@pytest.mark.slow
def test_two_thousand_entries(tmp_path: Path) -> None:
    tests = {fold: on(f"ccp_fold{fold}") for fold in (1, 2)}
    for number in range(1000):
        card = {**CARD, "name": f"method {number}", "backbone": f"backbone {number % 7}"}
        for fold, test in tests.items():
            content = document(card, fold=fold, figure=number / 1000, manifest=test)
            write(tmp_path / "results" / f"{number}-{fold}.json", content)
    output = run("build", tmp_path / "results", "-o", tmp_path / "site", "--no-published")
    assert output.stdout.endswith("2,000 results, 2,000 rows in 2 tables\n")
    names = Page(tmp_path / "site" / "index.html").values("th", "data-value")
    assert names == [f"method {number}" for number in reversed(range(1000))] * 2


@pytest.mark.slow
def test_tables_for_a_paper(tmp_path: Path) -> None:
    markdown = run("table", RESULTS, "--dataset", "ccp", "--protocol", "official", "--way", "k").stdout
    assert "| copy-support (floor) | 21.97 [19.39, 24.11] | 15.99 [14.71, 17.17] | 18.98 |" in markdown
    assert markdown.count("**CCP-OS") == 1
    latex = run("table", RESULTS, "--dataset", "atr", "--format", "latex", "--no-intervals").stdout
    assert latex.count(r"\begin{tabular}{lrrrrrrrrr}") == latex.count(r"\end{tabular}") == 2
    rows = list(csv.DictReader(io.StringIO(run("table", RESULTS, "--format", "csv").stdout)))
    assert {row["kind"] for row in rows} >= {"floor", "published"}
    assert {row["dataset"] for row in rows} == {"atr", "lip", "cihp", "ccp", "demo"}
    write(tmp_path / "a.json", document())
    problem = run("table", tmp_path, "--dataset", "nope", code=2).stderr
    assert problem.splitlines()[-1].startswith(
        "error: no table matches these options; there are tables for atr official"
    )


def test_the_page_on_the_board_tells_the_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(RESULTS.parent)
    blocks = (RESULTS.parent / "board.md").read_text().split("```console\n$ oshp-board ")[1:]
    assert len(blocks) == 2
    for block in blocks:
        command, *shown = block.split("```")[0].splitlines()
        quick = ["--no-reports"] if command.startswith("build") else []
        printed = run(*command.split(), *quick).stdout.splitlines()
        assert not [line for line in shown if line != "..." and line not in printed]


@pytest.mark.parametrize("arguments", [(), ("build",), ("build", "x"), ("table", "x", "--format", "html"), ("rank",)])
def test_wrong_usage_is_told(arguments: tuple[str, ...]) -> None:
    assert "Usage:" in run(*arguments, code=2).output


def test_help_needs_no_heavy_import() -> None:
    code = "import sys, oshp_bench.leaderboard.board_cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"numpy", "scipy", "h5py", "PIL", "torch", "tqdm", "jinja2", "matplotlib"} & set(loaded)
