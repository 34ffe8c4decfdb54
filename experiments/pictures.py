"""Matplotlib drawings at print quality, in the colours of every other picture of the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from oshp_bench.datasets.images import IGNORE, Mask, Photo
from oshp_bench.datasets.palette import colour_of
from oshp_bench.files import written_whole
from oshp_bench.manifest import Manifest

_WIDTH, _HEIGHT = 1.35, 1.8  # inches of a panel
_DPI = 300
# Smaller regions are edges of one and the same part.
_LEAST_SHARE = 0.002
# Okabe and Ito's colours, told apart by readers of any colour vision.
_LINES = ("#0072B2", "#D55E00", "#56B4E9", "#E69F00")


@dataclass(frozen=True)
class Panel:
    """A photo (uint8 [H, W, 3]) or a mask (uint8 [H, W] of class ids) with a caption.

    Attributes:
        differs: bool [H, W], pixels to mark: a box is drawn around the largest region.
    """

    picture: Photo | Mask | None
    caption: str
    differs: NDArray[np.bool_] | None = None


def draw_panels(rows: Sequence[Sequence[Panel]], manifest: Manifest) -> Any:
    """Rows of panels, with a legend of the classes in them: a Matplotlib figure."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch, Rectangle

    colours = np.full((256, 3), 255, np.uint8)
    colours[[*manifest.names]] = [*map(colour_of, manifest.names.values())]
    colours[IGNORE] = (128, 128, 128)
    wide, high = max(map(len, rows)), len(rows)
    figure = Figure(figsize=(_WIDTH * wide, _HEIGHT * high + 0.5), layout="constrained")
    axes = figure.subplots(high, wide, squeeze=False)
    held: set[int] = set()
    for drawn, row in zip(axes, rows, strict=True):
        for axis, panel in zip(drawn, row, strict=True):
            axis.set_axis_off()
            axis.set_title(panel.caption, fontsize=7)
            if panel.picture is None:
                continue
            if panel.picture.ndim == 2:
                held.update(np.unique(panel.picture).tolist())
            picture = panel.picture if panel.picture.ndim == 3 else colours[panel.picture]
            axis.imshow(picture, interpolation="antialiased" if panel.picture.ndim == 3 else "nearest")
            box = largest_box(panel.differs) if panel.differs is not None else None
            if box:
                top, left, height, width = box
                axis.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor="white", lw=1))
    names = [(class_id, name) for class_id, name in manifest.names.items() if class_id in held]
    patches = [Patch(facecolor="#{:02x}{:02x}{:02x}".format(*colour_of(name)), label=name) for _, name in names]
    figure.legend(
        handles=patches, loc="outside lower center", ncols=min(len(patches), 2 * wide), fontsize=7, frameon=False
    )
    return figure


def largest_box(differs: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """The box around the largest connected region: top, left, height, width; None if there is none worth a mark."""
    regions, count = ndimage.label(differs)
    if not count:
        return None
    sizes = np.bincount(regions.reshape(-1))[1:]
    if sizes.max() < _LEAST_SHARE * differs.size:
        return None
    rows, columns = ndimage.find_objects(regions)[int(sizes.argmax())]
    return rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start


def draw_curves(curves: Mapping[str, Sequence[tuple[int, float, float]]]) -> Any:
    """Lines of (epoch, mean, spread) as fractions, with a band where there is a spread: a Matplotlib figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 3.2), layout="constrained")
    axis = figure.subplots()
    for place, (name, points) in enumerate(curves.items()):
        epochs, means, spreads = (np.array(column, float) for column in zip(*points, strict=True))
        colour = _LINES[place % len(_LINES)]
        axis.plot(
            epochs, 100 * means, color=colour, label=name, marker="o", ms=3, lw=1.2, ls=("-", "--")[place // 2 % 2]
        )
        axis.fill_between(epochs, 100 * (means - spreads), 100 * (means + spreads), color=colour, alpha=0.2, lw=0)
    axis.set_xlabel("epoch")
    axis.set_ylabel("mean accuracy, %")
    axis.legend(fontsize=7, frameon=False)
    return figure


def save(figure: Any, path: Path) -> None:
    """Writes path.pdf, path.svg and path.png; the same drawing gives the same bytes."""
    import matplotlib as mpl

    about = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
    with mpl.rc_context({"svg.hashsalt": "oshp-bench", "pdf.fonttype": 42}):
        for ending, metadata in about.items():
            with written_whole(path.with_name(f"{path.name}.{ending}")) as file:
                figure.savefig(file, format=ending, dpi=_DPI, metadata=metadata)
