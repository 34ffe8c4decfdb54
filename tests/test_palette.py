"""Classes are told apart at a glance, with any colour vision, and have one colour everywhere."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from oshp_bench.datasets.labels import builtin_specs, load_spec
from oshp_bench.datasets.palette import colour_of

Floats = NDArray[np.float64]

# Machado, Oliveira and Fernandes 2009: what linear RGB becomes at full severity.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
)
# Classes that meet on a body, in any dataset that has both.
NEIGHBOURS = {
    "hair": "hat face arms upper-clothes coat dress",
    "face": "hat upper-clothes coat dress arms legs torso-skin",
    "arms": "upper-clothes coat dress legs skirt pants bag",
    "legs": "skirt dress pants shoes coat",
    "coat": "upper-clothes dress skirt pants bag",
    "skirt": "upper-clothes pants legwear bag",
    "pants": "upper-clothes shoes bag",
    "shoes": "legwear dress",
}
# Steps of CIEDE2000; a step of 2 is just seen with both colours side by side.
LEAST = {"normal": 16.0, "protanopia": 11.0, "deuteranopia": 10.0, "tritanopia": 9.0}
LEAST_OF_NEIGHBOURS = {"normal": 20.0, "protanopia": 14.0, "deuteranopia": 14.0, "tritanopia": 12.0}


def lab(colour: tuple[int, int, int], vision: str) -> Floats:
    """CIELAB under D65 as somebody with this vision sees it."""
    channels = np.array(colour) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    x, y, z = TO_XYZ @ np.clip(np.array(VISION[vision]) @ linear, 0, 1) / TO_XYZ.sum(axis=1)
    fx, fy, fz = (np.cbrt(part) if part > 216 / 24389 else (24389 / 27 * part + 16) / 116 for part in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


def ciede2000(one: Floats, other: Floats) -> float:
    """Sharma, Wu and Dalal 2005."""
    chroma = (np.hypot(*one[1:]) + np.hypot(*other[1:])) / 2
    stretch = 1 + 0.5 * (1 - np.sqrt(chroma**7 / (chroma**7 + 25**7)))
    (l1, a1, b1), (l2, a2, b2) = one * (1, stretch, 1), other * (1, stretch, 1)
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = np.degrees(np.arctan2(b1, a1)) % 360, np.degrees(np.arctan2(b2, a2)) % 360
    turn = (h2 - h1 + 180) % 360 - 180 if c1 * c2 else 0.0
    d_hue = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2))
    light, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    hue = (h1 + turn / 2) % 360 if c1 * c2 else h1 + h2
    cosines = np.cos(np.radians([hue - 30, 2 * hue, 3 * hue + 6, 4 * hue - 63]))
    scale_l = 1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2)
    scale_c, scale_h = 1 + 0.045 * chroma, 1 + 0.015 * chroma * (1 + cosines @ [-0.17, 0.24, 0.32, -0.2])
    angle = np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2)))
    rotation = -2 * np.sqrt(chroma**7 / (chroma**7 + 25**7)) * np.sin(angle)
    parts = np.array([(l2 - l1) / scale_l, (c2 - c1) / scale_c, d_hue / scale_h])
    return float(np.sqrt(parts @ parts + rotation * parts[1] * parts[2]))


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    # Pairs 1, 7, 17, 25 of the table that Sharma, Wu and Dalal publish for tests.
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 0, 0), (50, -1, 2), 2.3669),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ],
)
def test_the_distance_is_the_published_one(one: tuple[float, ...], other: tuple[float, ...], distance: float) -> None:
    assert ciede2000(np.array(one), np.array(other)) == pytest.approx(distance, abs=1e-4)


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("dataset", builtin_specs())
def test_classes_of_a_dataset_are_told_apart(dataset: str, vision: str) -> None:
    meeting = {frozenset((one, other)) for one, others in NEIGHBOURS.items() for other in others.split()}
    for one, other in combinations(load_spec(dataset).dataset.names.values(), 2):
        close = frozenset(name if name != "skin" else "face" for name in (one, other)) in meeting
        least = (LEAST_OF_NEIGHBOURS if close or "background" in (one, other) else LEAST)[vision]
        distance = ciede2000(lab(colour_of(one), vision), lab(colour_of(other), vision))
        assert distance >= least, f"{one} and {other}: {distance:.1f}"


def test_a_name_that_no_dataset_has_keeps_its_colour() -> None:
    assert colour_of("cape") == colour_of("cape") != colour_of("boot")
