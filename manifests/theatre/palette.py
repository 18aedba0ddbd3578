"""Colours that go together, and which of them are kept for held-out figures."""

import colorsys
from typing import Final

import numpy as np

from manifests.theatre.motion import Paint
from manifests.theatre.names import HELD_OUT_FROM

Colour = tuple[float, float, float]

FAMILIES: Final = 14
"""Twelve hues, 30 degrees apart, then nearly white and nearly black."""
WHITE: Final = 12
BLACK: Final = 13
SKINS: Final[tuple[Colour, ...]] = (
    (0.98, 0.82, 0.71), (0.93, 0.72, 0.57), (0.84, 0.61, 0.45), (0.69, 0.46, 0.31), (0.51, 0.33, 0.22),
    (0.36, 0.23, 0.16),
)  # fmt: skip
HAIRS: Final[tuple[Colour, ...]] = (
    (0.08, 0.07, 0.07), (0.25, 0.15, 0.08), (0.45, 0.26, 0.11), (0.85, 0.66, 0.29), (0.72, 0.28, 0.08),
    (0.72, 0.72, 0.74), (0.86, 0.18, 0.46), (0.16, 0.42, 0.84),
)  # fmt: skip


def is_held_out(first: int, second: int) -> bool:
    """Say whether two families together are for held-out figures only: 28 of the 196 pairs, each family in two of
    them as the first and in two as the second."""
    return (first + 3 * second) % 7 == 0


def families(rng: np.random.Generator, number: int) -> tuple[int, int]:
    """Draw the families of a figure's two main colours, unlike each other; `number` is the figure's, which says whether
    it is held out."""
    while True:
        first, second = (int(i) for i in rng.integers(FAMILIES, size=2))
        apart = min((first - second) % 12, (second - first) % 12) if max(first, second) < WHITE else 12
        if apart > 1 and first != second and is_held_out(first, second) == (number >= HELD_OUT_FROM):
            return first, second


def shade(rng: np.random.Generator, family: int) -> Colour:
    """Draw a colour of a family: hues stay within 8 degrees of its own."""
    if family == WHITE:
        grey = rng.uniform(0.88, 0.97)
        return float(grey), float(grey), float(grey * rng.uniform(0.95, 1))
    if family == BLACK:
        grey = rng.uniform(0.1, 0.17)
        return float(grey), float(grey), float(grey * rng.uniform(1, 1.3))
    hue = family / 12 + rng.uniform(-8, 8) / 360
    return colorsys.hsv_to_rgb(float(hue % 1), float(rng.uniform(0.72, 0.95)), float(rng.uniform(0.72, 0.98)))


def paint(rng: np.random.Generator, first: Colour, second: Colour, plain: float, size_m: float = 1.0) -> Paint:
    """Draw a paint of two colours: without a pattern with probability `plain`, else one whose period suits a figure of
    height `size_m`, and is wide enough to be told at 64 px."""
    if rng.random() < plain:
        return Paint(first, first)
    pattern = ("stripes", "hoops", "dots", "checks")[rng.integers(4)]
    return Paint(first, second, pattern, float(max(0.12, size_m * rng.uniform(0.08, 0.14))))


def darker(colour: Colour, share: float = 0.6) -> Colour:
    """Return a colour at a share of its brightness."""
    red, green, blue = (float(c * share) for c in colour)
    return red, green, blue
