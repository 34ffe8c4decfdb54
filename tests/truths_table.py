"""The digests of shipped manifests' truths. To write manifests/truths.json: python tests/truths_table.py CCP_FOLDER"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from oshp_bench.datasets.sources import find_source
from oshp_bench.files import readable_json, write_text
from oshp_bench.manifest import load_manifest, shipped_manifests
from oshp_bench.manifest.truth import load_truth, write_truth
from oshp_bench.manifest.truth_digests import entry_of

TABLE = Path(__file__).parents[1] / "manifests" / "truths.json"


def entries(dataset: str, root: Path | None) -> dict[str, Any]:
    """Test digest -> entry of the truth of each shipped manifest of a dataset."""
    found = {}
    for name in shipped_manifests():
        if name.startswith(f"{dataset}_"):
            manifest = load_manifest(name)
            with TemporaryDirectory() as folder:
                path = Path(folder) / "truth.zip"
                write_truth(manifest, find_source(manifest.dataset, root), path)
                truth = load_truth(path, manifest)
            found[manifest.test_digest] = {"manifest": name, **entry_of(truth.digests, truth.stride4_classes)}
    return found


if __name__ == "__main__":
    table = {**entries("ccp", Path(sys.argv[1])), **entries("demo", None)}
    write_text(TABLE, readable_json({"format": "oshp-truths/1", "truths": table}))
