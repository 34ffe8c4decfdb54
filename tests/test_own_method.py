"""The method in docs/own_method.md runs as it stands there, and is worth showing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from slow_scorer import DEFAULT, SlowPair, slow_score
from tiny import manifest_of

from oshp_bench import Episodes, Manifest, Method, find_source
from oshp_bench.baselines.registry import named
from oshp_bench.datasets.labels import Spec
from oshp_bench.manifest import save_manifest

pytestmark = pytest.mark.slow

GUIDE = Path(__file__).parents[1] / "docs" / "own_method.md"
SCORED = range(0, 750, 15)


def scores(manifest: Manifest, root: Path, k_way: list[np.ndarray], one_way: list[np.ndarray]) -> dict[str, float]:
    source, pairs = find_source(manifest.dataset, root), manifest.pairs
    found = slow_score(
        [SlowPair(pairs.query[i], pairs.target[i], frozenset(pairs.support_classes[i]), frozenset()) for i in SCORED],
        {each.id: each.role for each in manifest.classes},
        manifest.dataset.removed_labels,
        {query: source.merged_mask(query) for query in pairs.queries},
        k_way,
        one_way,
        DEFAULT,
    )
    return {name: value or 0.0 for name, value in found.items()}


def scores_of(method: Method, manifest: Manifest, root: Path) -> dict[str, float]:
    source = find_source(manifest.dataset, root)
    k_way, one_way = ([method(each) for each in Episodes(manifest.pairs, source, way, SCORED)] for way in ("k", "1"))
    return scores(manifest, root, k_way, one_way)


def test_the_method_of_the_guide_beats_the_floor(tiny_spec: Spec, tiny_root: Path, tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    assert sum(1 for line in code.splitlines() if line.strip()) <= 30
    script, folder = tmp_path / "my_method.py", tmp_path / "preds"
    script.write_text(code)
    manifest = manifest_of(tiny_spec, tiny_root)
    save_manifest(manifest, tmp_path / "tiny_fold1.json")
    command = [
        sys.executable,
        "-W",
        "error",
        str(script),
        str(tmp_path / "tiny_fold1.json"),
        str(tiny_root),
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    predictions = [
        [np.asarray(Image.open(folder / way / f"{manifest.pairs.name(index)}.png")) for index in SCORED]
        for way in ("kway", "1way")
    ]
    own = scores(manifest, tiny_root, *predictions)
    for known in named("rule").values():
        floor = scores_of(known.load()(manifest, find_source(manifest.dataset, tiny_root)), manifest, tiny_root)
        for figure in ("kway/human_miou", "kway/novel_miou", "1way/human_miou", "1way/novel_miou"):
            assert own[figure] > floor[figure], (known.name, figure)
