"""Writes a Codabench bundle: tasks, columns, pages, and a scoring program that contains this package."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path, PurePosixPath
from textwrap import indent
from typing import Any

from oshp_bench.episodes.episodes import way_name
from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.files import BROKEN_ZIP, read_bounded, readable_json, write_bytes
from oshp_bench.leaderboard.drawn import logo
from oshp_bench.manifest import Manifest, load_manifest, manifest_path
from oshp_bench.manifest.truth import load_truth, truth_path
from oshp_bench.metrics.counting import DEFAULT
from oshp_bench.metrics.escapes import markdown
from oshp_bench.metrics.figures import HEADLINE, parse_figure
from oshp_bench.version import __version__

TASK_FORMAT = "oshp-codabench-task/1"
_PAGES = Path(__file__).with_name("competition")
_PACKAGE = Path(__file__).parents[1]
# The files of this package that scoring and its report need. The registry is a list of names; no method comes along.
_FILES = (
    "*.py",
    "baselines/__init__.py",
    "baselines/registry.py",
    "datasets/**/*",
    "manifest/**/*",
    "episodes/**/*",
    "metrics/**/*",
    "report/**/*",
)
# What scoring and its report need besides the packages of the image.
_PACKAGES = ("click", "jinja2", "matplotlib", "pillow")
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_READABLE = 0o100644 << 16
_MAX_FILE = 1 << 30
_IN_IMAGE = ("numpy", "scipy")
_WHEEL = re.compile(r"(?P<name>[^-]+)-[^-]+(-\d[^-]*)?-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)\.whl")
_HONOUR = (
    "The truth of this test is public, as it is for ATR, LIP, CIHP and CCP. So this leaderboard is an honour system: it"
    " cannot know whether the test was used. Read it beside code and papers, not instead of them."
)
_NO_ADDRESS = "Ask the organisers of this competition."
_PRIVATE = "The truth of this test is not public. Reports show no truth mask."
_ANSWERS = {
    "method": ("Method", True),
    "authors": ("Authors", False),
    "backbone": ("Backbone", True),
    "pretraining": ("Pretraining data", True),
    "parameters": ("Parameters", False),
    "extra_data": ("Training data beyond the manifest", True),
    "paper": ("Paper", False),
    "code": ("Code", False),
}
_OPTIONAL = ("paper", "code")


@dataclass(frozen=True)
class Competition:
    """The settings of a competition.

    Attributes:
        start, end: start and end of the phase, "2026-01-31 00:00:00" in UTC.
        image: the docker image that scores.
        way: "k" or "1" to ask only for that way; None for both.
        private: whether only the organisers know the truth.
    """

    title: str
    start: str
    end: str
    image: str
    way: str | None = None
    convention: str = DEFAULT
    private: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The figures on the leaderboard; the first one ranks."""
        return tuple(name for way, names in HEADLINE.items() if self.way in (None, way) for name in names)


@dataclass(frozen=True)
class CompetitionTask:
    """A manifest, and the contents of its file and of its truth file."""

    manifest: Manifest
    manifest_file: bytes
    truth_file: bytes


def load_tasks(manifests: Sequence[str], truths: Sequence[Path]) -> tuple[CompetitionTask, ...]:
    """Loads manifests and their truths.

    Args:
        truths: truth files in the order of the manifests; empty to use those beside the manifests.

    Raises:
        OshpError: every manifest or truth that is missing, damaged, mismatched or given twice, or lacks novel classes.
    """
    if truths and len(truths) != len(manifests):
        raise OshpError(f"{len(manifests)} manifests but {len(truths)} truths; give one --truth for every --manifest")
    problems: list[str] = []
    tasks: dict[str, CompetitionTask] = {}
    for name, given in zip(manifests, truths or (None,) * len(manifests), strict=True):
        try:
            path = manifest_path(name)
            manifest, truth = load_manifest(path), given or truth_path(path)
            load_truth(truth, manifest)
            task = CompetitionTask(manifest, read_bounded(path, _MAX_FILE), read_bounded(truth, _MAX_FILE))
        except OshpError as error:
            problems.extend(error.problems)
            continue
        if manifest.name in tasks:
            problems.append(f"{path}: {manifest.name} is given twice; give it once")
        if not manifest.ids_of("novel"):
            problems.append(f"{path}: has no novel class, but C_novel ranks; choose a manifest with novel classes")
        tasks[manifest.name] = task
    raise_problems(problems)
    return tuple(tasks.values())


def write_bundle(
    competition: Competition, tasks: Sequence[CompetitionTask], out: Path, wheels: Path | None = None
) -> None:
    """Writes the bundle. The same input gives the same bytes, as long as the versions of listed packages are the same.

    Args:
        wheels: a folder of wheels to include, for workers without a network.

    Raises:
        OshpError: every wheel that is damaged or not for Python 3.12 on Linux.
    """
    manifests = [task.manifest for task in tasks]
    about = {
        "format": TASK_FORMAT,
        "way": competition.way,
        "convention": competition.convention,
        "columns": list(competition.columns),
    }
    members = {
        "competition.yaml": readable_json(_competition(competition, manifests)).encode(),
        "logo.png": logo(),
        **_pages(competition, manifests),
        "scoring_program.zip": _zip(_program(wheels)),
        # Without folders, like all data: workers move the content of a zip's first folder up.
        "public_data.zip": _zip({f"{task.manifest.name}.json": task.manifest_file for task in tasks}),
    }
    for task in tasks:
        content = {
            "task.json": readable_json(about).encode(),
            "manifest.json": task.manifest_file,
            "truth.zip": task.truth_file,
        }
        members[_reference(task.manifest)] = _zip(content)
    write_bytes(out, _zip(members))


def _reference(manifest: Manifest) -> str:
    return f"reference_{manifest.name}.zip"


def _competition(competition: Competition, manifests: Sequence[Manifest]) -> dict[str, Any]:
    """The content of competition.yaml, which is written as JSON, a subset of YAML."""
    columns = [
        {"title": column_title(name), "key": name, "index": index, "sorting": "desc", "precision": 2, "hidden": False}
        for index, name in enumerate(competition.columns)
    ]
    tasks = [
        {
            "index": index,
            "name": f"{manifest.name} {manifest.version}",
            "description": f"{len(manifest.pairs):,} pairs, {len(manifest.pairs.queries):,} queries",
            "scoring_program": "scoring_program.zip",
            "reference_data": _reference(manifest),
        }
        for index, manifest in enumerate(manifests)
    ]
    phase = {
        "index": 0,
        "name": "Test",
        "description": "Every submission is scored on every manifest.",
        "start": competition.start,
        "end": competition.end,
        "tasks": list(range(len(manifests))),
        "public_data": "public_data.zip",
        "accepts_only_result_submissions": True,
        "execution_time_limit": 3600,
        "max_submissions": 50,
        "max_submissions_per_day": 2,
    }
    return {
        "version": 2,
        "title": competition.title,
        "description": f"One-shot human parsing, scored by oshp-bench {__version__}",
        "image": "logo.png",
        "terms": "terms.md",
        "registration_auto_approve": True,
        "docker_image": competition.image,
        "enable_detailed_results": True,
        "make_programs_available": True,
        "pages": [
            {"title": "Overview", "file": "overview.md"},
            {"title": "Evaluation", "file": "evaluation.md"},
            {"title": "How to submit", "file": "submitting.md"},
            {"title": "Terms", "file": "terms.md"},
        ],
        "tasks": tasks,
        "phases": [phase],
        "fact_sheet": {
            key: {
                "key": key,
                "type": "text",
                "title": title,
                "selection": "",
                "is_required": "false" if key in _OPTIONAL else "true",
                "is_on_leaderboard": "true" if shown else "false",
            }
            for key, (title, shown) in _ANSWERS.items()
        },
        # The last submission, not the best one: the best of many would be biased.
        "leaderboards": [{"title": "Results", "key": "results", "submission_rule": "Force_Last", "columns": columns}],
    }


def column_title(figure: str) -> str:
    """The title of a column, for example "k-way C_novel mIoU (%)". Codabench keeps 36 characters of title and key."""
    way, kind, _ = parse_figure(figure)
    return f"{way_name(way)} {kind.label} (%)"


def _pages(competition: Competition, manifests: Sequence[Manifest]) -> dict[str, bytes]:
    words = {
        "title": markdown(competition.title),
        "version": __version__,
        "convention": competition.convention,
        "honour": _PRIVATE if competition.private else _HONOUR,
        "tasks": "\n".join(
            f"- **{manifest.name}** {manifest.version}: {markdown(manifest.dataset.title)}, fold {manifest.fold},"
            f" {len(manifest.pairs):,} pairs; novel are"
            f" {', '.join(markdown(oshp_class.name) for oshp_class in manifest.classes if oshp_class.role == 'novel')}"
            for manifest in manifests
        ),
        "columns": "\n".join(f"| {column_title(name)} | `{name}` of oshp-bench |" for name in competition.columns),
        # Indented, a text of any kind is shown as it is.
        "photos": "\n\n".join(
            f"{markdown(dataset.title)}\n\n{indent(dataset.get.strip() or _NO_ADDRESS, '    ')}"
            for dataset in {manifest.dataset.name: manifest.dataset for manifest in manifests}.values()
        ),
        "pack": " ".join(
            (
                "oshp-submit pack",
                *(f"{manifest.name}/" for manifest in manifests),
                *(f"--manifest {manifest.name}.json" for manifest in manifests),
                *([f"--way {competition.way}"] if competition.way else []),
                "--method method.toml -o submission.zip",
            )
        ),
    }
    pages = ("overview", "evaluation", "submitting", "terms")
    return {
        f"{page}.md": (_PAGES / f"{page}.md").read_text(encoding="utf-8").format(**words).encode() for page in pages
    }


def _program(wheels: Path | None) -> dict[str, bytes]:
    files = {
        "score.py": (_PAGES / "score.py").read_bytes(),
        "metadata.yaml": b"command: python3 score.py /app/input /app/output\n",
        "packages.txt": "".join(f"{requirement}\n" for requirement in _packages()).encode(),
    }
    for pattern in _FILES:
        for path in sorted(_PACKAGE.glob(pattern)):
            if path.is_file() and "__pycache__" not in path.parts:
                files[f"{_PACKAGE.name}/{path.relative_to(_PACKAGE).as_posix()}"] = path.read_bytes()
    return files | dict(_unpacked(wheels) if wheels else ())


def _unpacked(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The files of wheels, under packages/. They are unpacked, since shared libraries cannot be imported from a zip."""
    wheels = sorted(folder.glob("*.whl"))
    problems = [] if wheels else [f"{folder}: contains no wheel"]
    for wheel in wheels:
        if not _fits(wheel.name):
            problems.append(f"{wheel}: not a wheel for Python 3.12 on Linux, or part of the image already; remove it")
            continue
        try:
            with zipfile.ZipFile(wheel) as archive:
                for member in archive.infolist():
                    pure = PurePosixPath(member.filename)
                    if pure.is_absolute() or ".." in pure.parts or member.file_size > _MAX_FILE:
                        problems.append(f"{wheel}: {member.filename[:80]!r} is no path for a wheel; download it again")
                    elif not member.is_dir():
                        yield f"packages/{member.filename}", archive.read(member)
        except BROKEN_ZIP as error:
            problems.append(f"{wheel}: not a readable wheel ({error}); download it again")
    raise_problems([*problems, f"fill the folder with {download_command(folder)}"] if problems else [])


def _fits(name: str) -> bool:
    found = _WHEEL.fullmatch(name)
    # Another numpy than the image's would break the image's scipy, and vice versa.
    if not found or found["name"] in _IN_IMAGE:
        return False
    right = "py3" in found["python"].split(".") or found["python"] == "cp312" or "abi3" in found["abi"].split(".")
    return right and (found["platform"] == "any" or ("linux" in found["platform"] and "x86_64" in found["platform"]))


def download_command(folder: Path) -> str:
    """The command that fills a folder with the wheels that the image lacks."""
    return (
        f"pip download -d {folder} --no-deps --only-binary=:all: --python-version 3.12"
        f" --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 {' '.join(_packages())}"
    )


def _packages() -> list[str]:
    """The packages that scoring needs and their requirements, in the installed versions, without those of the image."""
    found: dict[str, str] = {}
    wanted = list(_PACKAGES)
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in found or name in _IN_IMAGE:
            continue
        try:
            found[name] = f"{name}=={version(name)}"
            required = requires(name) or []
        except PackageNotFoundError:
            found[name], required = name, []
        wanted.extend(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in required if "extra ==" not in line)
    return [found[name] for name in sorted(found)]


def _zip(members: Mapping[str, bytes]) -> bytes:
    """A zip with the same bytes everywhere: sorted, without times, and stored, as compressors differ."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, _ZIP_DATE)
            info.external_attr = _READABLE
            info.create_system = 3
            archive.writestr(info, members[name])
    return buffer.getvalue()
