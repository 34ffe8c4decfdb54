"""A manifest of 1,650 pairs with predictions as methods make them, at the size of real photos."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from oshp_bench.console import progress
from oshp_bench.datasets.images import Mask, resize_nearest, write_mask
from oshp_bench.datasets.labels import ClassSpec, Dataset, Layout, Part, load_spec
from oshp_bench.datasets.palette import palette_bytes
from oshp_bench.datasets.sources import Source, find_source
from oshp_bench.episodes.episodes import WAYS, way_key
from oshp_bench.manifest import Manifest, Pairs, load_manifest, save_manifest
from oshp_bench.manifest.truth import load_truth, write_truth
from oshp_bench.tailor.build import Recipe, build_manifest

HEIGHT, WIDTH = 825, 550


@dataclass(frozen=True)
class Workload:
    """What is scored.

    Attributes:
        source_masks: the masks of all test images as palette PNGs, labels merged.
        predictions: "real-looking" or "noise" -> a prediction set with kway/ and 1way/.
    """

    about: str
    manifest: Manifest
    manifest_file: Path
    truth: Path
    source_masks: Path
    predictions: Mapping[str, Path]

    @cached_property
    def png_source(self) -> Source:
        """The masks as a dataset in one folder, in which every label is its own class."""
        part = Part("all", photo="photos/{id}.jpg", mask=f"{self.source_masks.name}/{{id}}.png")
        names = {label.id: label.name for label in self.manifest.classes}
        labels = tuple(names.get(label, f"unused-{label}") for label in range(max(names) + 1))
        unused = tuple(label for label in labels if label.startswith("unused-"))
        classes = tuple(
            ClassSpec(each, name, (name, *unused) if each == 0 else (name,)) for each, name in names.items()
        )
        dataset = Dataset("png", "png", labels, classes, layouts=(Layout("png", (part,)),))
        return Source(dataset, dataset.layouts[0], self.source_masks.parent)

    def first(self, count: int) -> Workload:
        """The first pairs alone, in folders of their own; the manifest then breaks the rule of 150 pairs a class."""
        pairs = self.manifest.pairs
        some = Pairs(pairs.query[:count], pairs.support[:count], pairs.target[:count], pairs.support_classes[:count])
        manifest = replace(self.manifest, pairs=some)
        folder = self.manifest_file.parent / f"first-{count}"
        predictions = {kind: folder / kind for kind in self.predictions}
        for kind, source in self.predictions.items():
            for way in map(way_key, WAYS):
                (predictions[kind] / way).mkdir(parents=True, exist_ok=True)
                for name in manifest.pairs.names:
                    link = predictions[kind] / way / f"{name}.png"
                    if not link.exists():
                        os.link(source / way / f"{name}.png", link)
        save_manifest(manifest, folder / "manifest.json")
        truth = folder / "manifest.truth.zip"
        if not truth.exists():
            write_truth(manifest, self.png_source, truth)
        return replace(
            self, manifest=manifest, manifest_file=folder / "manifest.json", truth=truth, predictions=predictions
        )


def real_looking_workload(folder: Path) -> Workload:
    """Builds the workload, or takes up what an earlier run left in the folder."""
    about, manifest, source = _dataset()
    masks, photos = folder / "masks", folder / "photos"
    palette = palette_bytes(manifest.names)
    images = sorted({*manifest.pools["query_test"], *manifest.pools["support_test"]})
    for image in progress(images, "masks"):
        if not (photos / f"{image}.jpg").exists():
            mask = _enlarged(source.merged_mask(image))
            write_mask(masks / f"{image}.png", mask, palette)
            photos.mkdir(exist_ok=True)
            Image.fromarray(mask).convert("RGB").save(photos / f"{image}.jpg", quality=80)
    file = folder / "manifest.json"
    save_manifest(manifest, file)
    predictions = {kind: folder / kind for kind in ("real-looking", "noise")}
    work = Workload(about, manifest, file, folder / "manifest.truth.zip", masks, predictions)
    if not work.truth.exists():
        write_truth(manifest, work.png_source, work.truth)
    truth = load_truth(work.truth, manifest)
    pairs = manifest.pairs
    ids = np.array(manifest.class_ids, np.uint8)
    for pair in progress(range(len(pairs)), "predictions"):
        if (predictions["noise"] / "1way" / f"{pairs.name(pair)}.png").exists():
            continue
        mask = truth.mask(pairs.query[pair])
        shape, target = mask.shape, np.uint8(pairs.target[pair])
        random = np.random.default_rng(pair)
        drawn: dict[tuple[str, str], Mask] = {}
        drawn["real-looking", "kway"] = _as_a_method_would(mask, random)
        drawn["real-looking", "1way"] = np.where(_as_a_method_would(mask, random) == target, target, 0).astype(np.uint8)
        drawn["noise", "kway"] = ids[random.integers(0, len(ids), shape)]
        drawn["noise", "1way"] = random.integers(0, 2, shape).astype(np.uint8) * target
        for (kind, way), prediction in drawn.items():
            write_mask(predictions[kind] / way / f"{pairs.name(pair)}.png", prediction, palette)
    return work


def _dataset() -> tuple[str, Manifest, Source]:
    data = os.environ.get("OSHP_TEST_DATA")
    if data and Path(data, "ccp").is_dir():
        manifest = load_manifest("ccp_fold1")
        return "real CCP masks, about 825x550", manifest, find_source(manifest.dataset, Path(data))
    spec = load_spec("demo")
    source = find_source(spec.dataset, None)
    return "masks of the embedded dataset, enlarged to 825x550", build_manifest(Recipe(spec, 1), source), source


def _enlarged(mask: Mask) -> Mask:
    if mask.shape[1] >= WIDTH:
        return mask
    # Annotated borders are ragged: every row is shifted by a pixel or two.
    ragged = resize_nearest(mask, HEIGHT, WIDTH)
    shifts = np.random.default_rng(mask.shape[0]).integers(-2, 3, HEIGHT)
    return np.stack([np.roll(row, shift) for row, shift in zip(ragged, shifts, strict=True)])


def _as_a_method_would(mask: Mask, random: np.random.Generator) -> Mask:
    """The truth seen through a network: features at a quarter of the size, displaced, one class taken for another."""
    small = resize_nearest(mask, -(-mask.shape[0] // 4), -(-mask.shape[1] // 4))
    small = np.roll(small, tuple(random.integers(-3, 4, 2)), axis=(0, 1))
    present = np.unique(small)
    small = np.where(small == random.choice(present), random.choice(present), small)
    blobs = resize_nearest(random.integers(0, 12, (12, 8)).astype(np.uint8), *small.shape) == 0
    small = np.where(blobs & (small > 0), 0, small)
    # Bilinear logits have smooth borders: enlarge a soft vote of each class, as upsampled logits do.
    votes = [
        np.asarray(
            Image.fromarray((small == label).astype(np.float32)).resize(mask.shape[::-1], Image.Resampling.BILINEAR)
        )
        for label in present
    ]
    chosen: Mask = present[np.argmax(votes, axis=0)].astype(np.uint8)
    return chosen
