"""What MkDocs does beside mkdocs.yml: pages from outside docs/, links between all of them, and the API reference."""

from __future__ import annotations

import posixpath
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# A page of the site -> its file in the repository, for files outside docs/.
OUTSIDE = {
    "index.md": "README.md",
    "manifests.md": "manifests/README.md",
    "benchmarks.md": "benchmarks/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
PACKAGES = {
    "oshp_bench": "Methods and manifests",
    "oshp_bench.manifest": "Manifests and truth",
    "oshp_bench.metrics": "Scores",
    "oshp_bench.report": "Reports",
    "oshp_bench.leaderboard": "Boards",
}
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages from outside docs/ and the API reference."""
    for name, origin in OUTSIDE.items():
        files.append(File.generated(config, name, content=(ROOT / origin).read_text(encoding="utf-8")))
    files.append(File.generated(config, "api.md", content=api()))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Turns links between files of the repository into links between pages; a file without a page loses its link."""
    name = page.file.src_uri
    origin = OUTSIDE.get(name, f"docs/{name}")
    pages = {f"docs/{file.src_uri}": file.src_uri for file in files} | {file: uri for uri, file in OUTSIDE.items()}

    def linked(match: re.Match[str]) -> str:
        picture, text, link = match.groups()
        path, mark, anchor = link.partition("#")
        if not path or re.match(r"[a-z]+:", link):
            return match[0]
        target = pages.get(posixpath.normpath(posixpath.join(posixpath.dirname(origin), path)))
        if target is None:
            return text
        return f"{picture}[{text}]({posixpath.relpath(target, posixpath.dirname(name) or '.')}{mark}{anchor})"

    return _LINK.sub(linked, markdown)


def api() -> str:
    """A page of the public names, from their docstrings."""
    parts = ["# Python API", "Everything below is public: it changes only with a version and a line in the changes."]
    for package, title in PACKAGES.items():
        module = import_module(package)
        parts.append(f"## {title}: `{package}`")
        parts += [f"::: {package}.{name}" for name in module.__all__]
    return "\n\n".join(parts)
