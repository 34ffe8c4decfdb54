"""The ground truth of a manifest's queries after the merge, in one small zip beside it."""

from __future__ import annotations

import errno
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from oshp_bench.console import progress
from oshp_bench.datasets import images
from oshp_bench.datasets.images import IGNORE, ImageProblem, Mask
from oshp_bench.datasets.labels import UNKNOWN
from oshp_bench.datasets.palette import palette_bytes
from oshp_bench.datasets.sources import Source, find_source
from oshp_bench.errors import OshpError, raise_problems
from oshp_bench.files import BOUNDED_ZIP_METHODS, BROKEN_ZIP, open_zip, parse_json, readable_json, written_whole
from oshp_bench.manifest import Manifest
from oshp_bench.manifest.truth_digests import other_truth, truth_digest
from oshp_bench.untrusted import Reader, shown

_FORMAT = "oshp-truth/1"
_INDEX = "truth.json"
_MAX_INDEX_BYTES = 16 << 20
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def truth_path(manifest_file: Path) -> Path:
    """The default place of a manifest's truth, beside it: `atr_fold1.json` -> `atr_fold1.truth.zip`."""
    return manifest_file.with_suffix(".truth.zip")


@dataclass(frozen=True)
class Truth:
    """Ground truth of a manifest's queries, read on demand.

    Attributes:
        path: the zip.
        sizes: query id -> (height, width), for the manifest's queries.
        digests: query id -> pixel digest of its merged mask.
        stride4_classes: support id -> classes left when its mask is shrunk to the network's stride-4 grid
            (C_s of the authors' release, convention official-2023), for the manifest's supports.
    """

    path: Path
    sizes: Mapping[str, tuple[int, int]]
    digests: Mapping[str, str]
    stride4_classes: Mapping[str, tuple[int, ...]]

    @property
    def digest(self) -> str:
        """The digest of the pixels of all queries: equal if two truths have the same masks."""
        return truth_digest(self.digests)

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        return open_zip(self.path)

    def mask(self, query: str) -> Mask:
        """Reads a query's mask after the merge: uint8 [H, W] of class ids; 255 = ignore.

        Raises:
            OshpError: missing, damaged, or another mask than the index names.
        """
        name = f"masks/{query}.png"
        try:
            data = _member(self._archive, name, images.MAX_FILE_BYTES)
            image = images.open_image(data, ("PNG",))
            if (image.height, image.width) != self.sizes[query] or image.mode not in ("L", "P"):
                raise ImageProblem("size or mode differ from the index")
            mask = images.decode(image)
        except (*BROKEN_ZIP, ImageProblem) as error:
            raise OshpError(f"{self.path}: {name}: {error}; tailor the truth again") from error
        if images.pixel_digest(mask) != self.digests[query]:
            raise OshpError(
                f"{self.path}: {name}: the pixels do not fit the digest in {_INDEX}; tailor the truth again"
            )
        return mask


def write_truth(manifest: Manifest, source: Source, path: Path) -> None:
    """Writes the truth of a manifest from the dataset's masks; the same masks and encoder give the same bytes.

    Raises:
        OshpError: every mask that is missing or damaged; masks other than those that the manifest was shipped with.
    """
    palette = palette_bytes(manifest.names)
    sizes: dict[str, list[int]] = {}
    digests: dict[str, str] = {}
    problems: list[str] = []
    with written_whole(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for query in progress(manifest.pairs.queries, "writing truth"):
            try:
                mask = source.merged_mask(query)
            except OshpError as error:
                problems.extend(error.problems)
                continue
            sizes[query], digests[query] = list(mask.shape), images.pixel_digest(mask)
            archive.writestr(zipfile.ZipInfo(f"masks/{query}.png", _ZIP_DATE), images.mask_png(mask, palette))
        stride4: dict[str, tuple[int, ...]] = {}
        for support in sorted(set(manifest.pairs.support)):
            try:
                stride4[support] = stride4_classes(source.merged_mask(support))
            except OshpError as error:
                problems.extend(error.problems)
        raise_problems(problems)
        raise_problems(f"{source.root}: {problem}" for problem in other_truth(manifest, digests, stride4))
        index = {
            "format": _FORMAT,
            "manifest": manifest.name,
            "version": manifest.version,
            "test_digest": manifest.test_digest,
            "queries": {query: {"size": size, "digest": digests[query]} for query, size in sizes.items()},
            "stride4_classes": {support: list(classes) for support, classes in stride4.items()},
        }
        archive.writestr(zipfile.ZipInfo(_INDEX, _ZIP_DATE), readable_json(index))


def load_truth(path: Path, manifest: Manifest) -> Truth:
    """Loads the truth of a manifest.

    Raises:
        OshpError: not a truth file, the truth of another manifest, every problem in its index, or other masks than
            those that the manifest was shipped with.
    """
    try:
        with open_zip(path) as archive:
            index = parse_json(_member(archive, _INDEX, _MAX_INDEX_BYTES), f"{path}: {_INDEX}")
    except FileNotFoundError as error:
        raise OshpError(f"{path}: does not exist; give --truth, or --root to build it from the dataset") from error
    except (*BROKEN_ZIP, ImageProblem) as error:
        raise OshpError(f"{path}: not a readable truth file ({error}); tailor it again") from error
    if not isinstance(index, dict) or index.get("format") != _FORMAT:
        raise OshpError(f'{path}: not a truth file (its "format" is not "{_FORMAT}")')
    reader = Reader(index, str(path))
    if index.get("test_digest") != manifest.test_digest:
        raise OshpError(
            f"{path}: the truth of {shown(index.get('manifest'))} {shown(index.get('version'))}, not of"
            f" {manifest.name} {manifest.version} (test_digest {manifest.test_digest[:19]}...); tailor it again"
        )
    sizes, digests = {}, {}
    queries = reader.table("queries")
    for query in queries:
        entry = queries.table(query)
        size = entry.integers("size")
        entry.wrong_if(len(size) != 2 or not 0 < size[0] * size[1] <= images.MAX_PIXELS, "size is not [height, width]")
        sizes[query] = (size[0], size[1]) if len(size) == 2 else (0, 0)
        digests[query] = entry.text("digest")
    table = reader.table("stride4_classes")
    stride4 = {support: table.class_id_list(support) for support in table}
    lacking = [*(set(manifest.pairs.query) - sizes.keys()), *(set(manifest.pairs.support) - stride4.keys())]
    reader.wrong_if(lacking, f"lacks {len(lacking)} images of the manifest, {', '.join(sorted(lacking)[:5])}")
    raise_problems(reader.problems)
    digests = {query: digests[query] for query in manifest.pairs.queries}
    stride4 = {support: stride4[support] for support in sorted(set(manifest.pairs.support))}
    raise_problems(f"{path}: {problem}" for problem in other_truth(manifest, digests, stride4))
    return Truth(path, sizes, digests, stride4)


def find_truth(manifest: Manifest, manifest_file: Path, given: Path | None, root: Path | None) -> Truth:
    """Finds a manifest's truth: the given file, else the one beside the manifest, else built from the dataset.

    A truth that is built is kept beside the manifest, or in the working folder if the manifest's folder is read-only.

    Raises:
        OshpError: none found and none can be built, or one of another manifest.
    """
    if given is not None:
        return load_truth(given, manifest)
    beside = truth_path(manifest_file)
    if beside.exists():
        return load_truth(beside, manifest)
    source = find_source(manifest.dataset, root)
    if not source.has_masks:
        raise OshpError(f"{source.root}: has no masks to build the truth of {manifest.name} from; give --truth")
    for path in (beside, Path.cwd() / beside.name):
        try:
            write_truth(manifest, source, path)
        except PermissionError:
            continue
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            continue
        return load_truth(path, manifest)
    raise OshpError(f"{beside}: cannot be written, nor can {Path.cwd()}; give --truth")


def stride4_classes(mask: Mask) -> tuple[int, ...]:
    """The foreground classes left when a merged mask is shrunk by nearest neighbour to [ceil(H/4), ceil(W/4)].

    Row i of the small mask is row (i * H) // ceil(H/4). The authors' released network sees its support like this.
    """
    height, width = mask.shape
    small = images.resize_nearest(mask, -(-height // 4), -(-width // 4))
    return tuple(label for label in np.unique(small).tolist() if label not in (0, IGNORE, UNKNOWN))


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    info = archive.getinfo(name)
    if info.compress_type not in BOUNDED_ZIP_METHODS:
        raise ImageProblem(f"{name} is compressed with another method than deflate")
    if info.file_size > most:
        raise ImageProblem(f"{name} is larger than {most >> 20} MiB")
    with archive.open(info) as member:
        data = member.read(most + 1)
    if len(data) > most:
        raise ImageProblem(f"{name} is larger than the zip says")
    return data
