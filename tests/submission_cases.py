"""Good submissions of tiny datasets, for the tests that break them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from metrics_cases import Bench

from oshp_bench.errors import CheckFailed, OshpError
from oshp_bench.leaderboard.submissions import SubmissionPart, check, pack
from oshp_bench.metrics import Resampling, score

CARD = {
    "name": "by hand",
    "authors": "Ada Example and Ben Example",
    "paper": "https://example.org/paper?id=1",
    "code": "",
    "backbone": "ResNet-50",
    "pretraining": "ImageNet-1k",
    "parameters": 23_500_000,
    "extra_data": "none",
    "date": "2026-01-31",
}


def card_file(path: Path, **changes: object) -> Path:
    """A method card in TOML; None leaves a member out."""
    members = {key: value for key, value in {**CARD, **changes}.items() if value is not None}
    lines = (
        f"{key} = {value}" if isinstance(value, int) else f"{key} = '''{value}'''" for key, value in members.items()
    )
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def packed(benches: Sequence[Bench], folders: Sequence[Path], path: Path, way: str | None = None) -> Path:
    """Packs prediction sets, one a bench."""
    tasks = [
        SubmissionPart(bench.manifest, bench.truth, folder) for bench, folder in zip(benches, folders, strict=True)
    ]
    pack(tasks, card_file(path.with_suffix(".toml")), path, way=way)
    return path


def refusal(path: Path, *benches: Bench) -> list[str]:
    """The problems for which a submission fails its check, without its path; the scorer refuses it for the same."""
    with pytest.raises(CheckFailed) as failed:
        check([SubmissionPart(bench.manifest, bench.truth, path) for bench in benches])
    scorer: dict[str, None] = {}
    for bench in benches:
        try:
            score(bench.manifest, path, bench.truth_file, resampling=Resampling(0))
        except OshpError as error:
            scorer |= dict.fromkeys(error.problems)
    assert list(failed.value.problems) == list(scorer)
    assert all(line.startswith(str(path)) and line.isprintable() for line in scorer)
    return [line.removeprefix(str(path)).lstrip("/: ") for line in scorer]


def rewritten(path: Path, out: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A copy of a zip whose members were changed, or (None) left out."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return out
