"""Contact sheets of takes: moments of each clip side by side, and under them the same with its truth drawn in."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from manifests.theatre.motion import Array
from manifests.theatre.scene import HIDDEN, Rendered

Pixels = NDArray[np.uint8]

BONES: Final = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10), (0, 5),
    (0, 6), (15, 17), (16, 20),
)  # fmt: skip
"""Pairs of COCO-WholeBody's points that are joined on a sheet, in this order: legs, trunk, arms, head, feet."""
_SEEN: Final = ((255, 60, 60), (60, 160, 255))  # lines of the first and the second figure
_HIDDEN: Final = (250, 220, 60)
_GAP_PX: Final = 3


def sheet(clips: Sequence[Rendered], moments: int = 6, scale: int = 2, truth: bool = True) -> Pixels:
    """Return a picture, uint8 `[H, W, 3]`, of clips of one size, one below the other.

    Args:
        clips: What to show.
        moments: Frames of each, evenly spaced from the first to the last.
        scale: Every pixel becomes a square of this side, so that small pictures can be judged as they are.
        truth: Under each row, the same frames darkened outside the masks, with the skeletons: red and blue lines for
            the first and the second figure, yellow where an end is hidden.
    """
    rows = []
    for clip in clips:
        chosen = np.linspace(0, len(clip.frames) - 1, moments).round().astype(int)
        plain = [np.asarray(_larger(clip.frames[t], scale)) for t in chosen]
        rows.append(_beside(plain))
        if truth:
            rows.append(_beside([_with_truth(clip, int(t), scale) for t in chosen]))
    gap = np.full((_GAP_PX, rows[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for row in rows for part in (row, gap)][:-1])


def save(path: str | Path, clips: Sequence[Rendered], moments: int = 6, scale: int = 2, truth: bool = True) -> None:
    """Write the sheet as a PNG; see `sheet`."""
    Image.fromarray(sheet(clips, moments, scale, truth)).save(path, format="PNG")


def _larger(frame: Pixels, scale: int) -> Image.Image:
    height, width = frame.shape[:2]
    return Image.fromarray(frame).resize((width * scale, height * scale), Image.Resampling.NEAREST)


def _beside(pictures: Sequence[Pixels]) -> Pixels:
    gap = np.full((len(pictures[0]), _GAP_PX, 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, gap)][:-1], axis=1)


def _with_truth(clip: Rendered, t: int, scale: int) -> Pixels:
    figures = clip.masks[t].any(axis=0)[..., None]
    canvas = _larger(np.where(figures, clip.frames[t], clip.frames[t] // 3), scale)
    pen = ImageDraw.Draw(canvas)
    for person, points in enumerate(clip.skeleton[t]):
        _lines(pen, points, _SEEN[person % len(_SEEN)], scale)
    return np.asarray(canvas)


def _lines(pen: ImageDraw.ImageDraw, points: Array, colour: tuple[int, int, int], scale: int) -> None:
    for first, second in BONES:
        ends = points[[first, second]]
        if ends[:, 2].min() > 0:
            line = [(float(x) * scale, float(y) * scale) for x, y in ends[:, :2]]
            pen.line(line, fill=_HIDDEN if ends[:, 2].min() <= HIDDEN else colour, width=max(1, scale // 2))
