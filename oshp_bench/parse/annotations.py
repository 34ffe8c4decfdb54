"""Annotated examples of people's own: masks as PNG, or as the JSON of labelme or COCO, whose classes have names.

Polygons are drawn by Pillow, and run lengths are decoded here: pycocotools reads memory beyond a damaged file's data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from oshp_bench.datasets.images import IGNORE, Mask
from oshp_bench.errors import OshpError, raise_problems, shortened
from oshp_bench.files import read_json
from oshp_bench.parse.own_photos import Example, class_name_problem, example_of, read_example, read_upright
from oshp_bench.untrusted import Reader, shown

# Drawing takes as long as polygons have corners, for every row of the photo.
_MOST_CORNERS, _FARTHEST = 10_000, 1e5
# The names that labelme gives to what is no class.
_NO_CLASS = {"_background_": 0, "__ignore__": IGNORE}

Drawing = Callable[[Image.Image, int], None]


@dataclass(frozen=True)
class _Region:
    """A part of an annotation: the name of its class, and what draws it."""

    name: str
    draw: Drawing


def read_examples(
    supports: Sequence[Path], masks: Sequence[Path], names: Mapping[int, str]
) -> tuple[list[Example], dict[int, str]]:
    """Reads annotated photos, whose masks are all PNGs or all JSON.

    A class of a JSON file has the number that the user's names give it, else the lowest that is free, in order of
    appearance. In a JSON file, what comes later covers what came before.

    Args:
        names: by number, those that the user gave.

    Returns:
        The examples, and the names of numbers: the user's, and those of JSON files.

    Raises:
        OshpError: everything that is wrong with the files.
    """
    if len(supports) != len(masks):
        raise OshpError(f"{len(supports)} supports and {len(masks)} masks; give a --mask for every --support, in order")
    described = [path.suffix.lower() == ".json" for path in masks]
    if not any(described):
        return [read_example(*pair) for pair in zip(supports, masks, strict=True)], dict(names)
    if not all(described):
        raise OshpError("some masks are PNGs and some are JSON; give all in one format, as only JSON has names")
    photos = [read_upright(path) for path in supports]
    regions = [
        _regions(mask, support, (photo.shape[0], photo.shape[1]))
        for mask, support, photo in zip(masks, supports, photos, strict=True)
    ]
    numbers = _numbered((region.name for drawn in regions for region in drawn), names)
    examples = []
    for path, photo, drawn in zip(masks, photos, regions, strict=True):
        image = Image.new("L", (photo.shape[1], photo.shape[0]))
        for region in drawn:
            region.draw(image, numbers[region.name])
        examples.append(example_of(photo, np.asarray(image), path))
    return examples, {**names, **{number: name for name, number in numbers.items() if name not in _NO_CLASS}}


def _numbered(found: Iterable[str], names: Mapping[int, str]) -> dict[str, int]:
    numbers = _NO_CLASS | {name: number for number, name in names.items()}
    free = (number for number in count(1) if number not in names)
    for name in found:
        if name not in numbers:
            numbers[name] = next(free)
    if any(number >= IGNORE for name, number in numbers.items() if name not in _NO_CLASS):
        raise OshpError(f"the masks have {len(numbers) - len(_NO_CLASS)} classes; a mask has numbers for 254")
    return numbers


def _regions(path: Path, photo: Path, size: tuple[int, int]) -> list[_Region]:
    """The regions of a JSON file, in their order.

    Args:
        size: height and width of the upright photo.
    """
    document = read_json(path)
    known = isinstance(document, dict) and ("shapes" in document or {"images", "annotations"} <= document.keys())
    if not known:
        raise OshpError(f"{path}: no annotation of labelme (shapes) or COCO (images, annotations, categories)")
    reader = Reader(document, str(path))
    regions = list(_labelme(reader, size) if "shapes" in document else _coco(reader, photo, size))
    raise_problems(shortened(reader.problems, 5))
    return regions


def _labelme(reader: Reader, size: tuple[int, int]) -> Iterator[_Region]:
    _check_size(reader, size, "imageHeight", "imageWidth")
    for shape in reader.tables("shapes"):
        name, kind = _name(shape, "label"), shape.text("shape_type", optional=True) or "polygon"
        corners = _corners(shape, shape.everything().get("points"))
        enough = {"polygon": len(corners) > 2, "rectangle": len(corners) == 2, "circle": len(corners) == 2}
        shape.wrong_if(kind not in enough, f"a {shown(kind)}; draw polygons, rectangles or circles")
        shape.wrong_if(not enough.get(kind, True), f"a {kind} of {len(corners)} points")
        yield _Region(name, _outlined(kind, corners))


def _coco(reader: Reader, photo: Path, size: tuple[int, int]) -> Iterator[_Region]:
    images = {image.text("file_name"): image for image in reader.tables("images")}
    fitting = [image for name, image in images.items() if Path(name).name == photo.name] or list(images.values())
    if len(fitting) != 1:
        reader.wrong(f"has {len(images)} images, and {len(fitting)} may be {photo.name}; give each its own file")
        return
    _check_size(fitting[0], size, "height", "width")
    image_id = fitting[0].integer("id", least=0)
    names = {entry.integer("id", least=0): _name(entry, "name") for entry in reader.tables("categories")}
    for entry in reader.tables("annotations"):
        if entry.integer("image_id", least=0) != image_id:
            continue
        category = entry.integer("category_id", least=0)
        entry.wrong_if(category not in names, f"category_id {category} is none of the categories")
        shape = entry.everything().get("segmentation")
        if isinstance(shape, dict):
            yield _Region(names.get(category, ""), _pasted(_decoded(entry, shape, size)))
            continue
        for polygon in shape if isinstance(shape, list) and shape else [None]:
            whole = polygon if isinstance(polygon, list) and len(polygon) % 2 == 0 else [None, None]
            corners = _corners(entry, list(zip(whole[::2], whole[1::2], strict=True)))
            entry.wrong_if(len(corners) < 3, "segmentation has a polygon of fewer than three points")
            yield _Region(names.get(category, ""), _outlined("polygon", corners))


def _check_size(reader: Reader, size: tuple[int, int], height: str, width: str) -> None:
    given = tuple(reader.integer(name, least=1) for name in (height, width))
    reader.wrong_if(
        given != size, f"{given[1]}x{given[0]} pixels, but its photo has {size[1]}x{size[0]} when it is upright"
    )


def _name(reader: Reader, member: str) -> str:
    name = reader.text(member)
    reader.wrong_if(problem := class_name_problem(name), str(problem))
    return name


def _corners(reader: Reader, points: Any) -> list[tuple[float, float]]:
    """Points as pairs of finite numbers; a problem and no point where they are none."""
    pairs: list[Any] = points if isinstance(points, list) else [None]
    fine = len(pairs) <= _MOST_CORNERS and all(
        isinstance(pair, list | tuple)
        and len(pair) == 2
        and all(type(place) in (int, float) and abs(place) <= _FARTHEST for place in pair)
        for pair in pairs
    )
    reader.wrong_if(not fine, f"points are not up to {_MOST_CORNERS:,} pairs of numbers within the photo")
    return [(float(x), float(y)) for x, y in pairs] if fine else []


def _outlined(kind: str, corners: list[tuple[float, float]]) -> Drawing:
    def draw(image: Image.Image, number: int) -> None:
        canvas = ImageDraw.Draw(image)
        if kind == "polygon":
            canvas.polygon(corners, fill=number, outline=number)
            return
        (x, y), (right, bottom) = corners
        if kind == "circle":
            # Its centre, and a point on it.
            radius = math.hypot(right - x, bottom - y)
            canvas.ellipse([x - radius, y - radius, x + radius, y + radius], fill=number, outline=number)
        else:
            canvas.rectangle([min(x, right), min(y, bottom), max(x, right), max(y, bottom)], fill=number)

    return draw


def _pasted(inside: Mask) -> Drawing:
    """Draws where a mask, uint8 [H, W], is 255."""
    return lambda image, number: image.paste(number, mask=Image.fromarray(inside))


def _decoded(reader: Reader, shape: Mapping[str, Any], size: tuple[int, int]) -> Mask:
    """COCO's run lengths, column by column, as a mask: uint8 [H, W] of 0 and 255."""
    height, width = size
    runs = _runs(shape.get("counts"))
    if shape.get("size") != [height, width] or runs is None or sum(runs) != height * width:
        reader.wrong(f"segmentation is no run lengths of {width}x{height} pixels")
        return np.zeros(size, np.uint8)
    return np.repeat(np.arange(len(runs)) % 2, runs).astype(np.uint8).reshape(size, order="F") * np.uint8(255)


def _runs(counts: Any) -> list[int] | None:
    """Run lengths from a list, or from COCO's text: six bits a letter, from the fourth run on as what is added to the
    run before the last. None if they are none."""
    if isinstance(counts, list):
        return counts if all(type(run) is int and run >= 0 for run in counts) else None
    if not isinstance(counts, str):
        return None
    runs: list[int] = []
    value = shift = 0
    for letter in counts:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 30:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << shift - 4
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs if not shift and all(run >= 0 for run in runs) else None
