"""The figure in a few frames of a clip, or in a picture: where it is, its points, and a mask of its body.

What follows from pixels of a video is measured at a few moments, each with the frame after it: the first of the two for
what stands (points, colours, looks), both for what moves (flow).
"""

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from manifests.media import Clip
from model.skeleton import BODY, Pixels, Points, box_of
from stages.skeleton import PoseAdapter, SkeletonConfig

LEAST_PX: Final = 256
"""Pictures whose long side is shorter are made larger before a person is looked for."""
_BORDER: Final = 0.25  # of the long side
_LIMB_WIDTH: Final = 0.26  # of a limb, as a share of the trunk's length
_THICK: Final = ((5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16))
_TRUNK: Final = (5, 6, 12, 11)
_HEAD: Final = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Figure:
    """A figure in n frames.

    Attributes:
        frames: uint8 `[n, H, W, 3]`.
        after: uint8 `[n, H, W, 3]`, the frame after each; the same frames for a picture.
        points: `[n, 133, 3]`, zeros where it was not found.
        boxes: `[n, 4]` x0, y0, x1, y1 px around its points; where it was not found, where it should be; else that of
            the nearest frame in which it was; else the whole picture.
        found: bool `[n]`.
    """

    frames: Pixels
    after: Pixels
    points: Points
    boxes: NDArray[np.float32]
    found: NDArray[np.bool_]


def moments(frames: int, most: int) -> NDArray[np.int64]:
    """Return up to `most` frame numbers, evenly over a clip, each of which has a frame after it if the clip has two."""
    last = max(frames - 2, 0)
    return np.unique(np.round(np.linspace(0, last, min(most, last + 1))).astype(np.int64))


def chosen(clip: Clip, wanted: NDArray[np.int64]) -> Pixels:
    """Return the frames `wanted` (rising numbers) of a clip, decoded in one pass and a chunk at a time."""
    found: list[Any] = []
    start = 0
    for chunk in clip.chunks():
        found += [chunk[i - start].copy() for i in wanted if start <= i < start + len(chunk)]
        start += len(chunk)
    return np.stack(found)


def figure_of(
    frames: Pixels,
    after: Pixels,
    points: Points,
    min_score: float,
    min_points: int,
    expected: NDArray[np.float32] | None = None,
) -> Figure:
    """Put frames and points together; a figure is found in a frame if `min_points` of its body reach `min_score`.

    `expected` `[n, 4]` px is where a figure should be that is not found.
    """
    found = (points[:, BODY, 2] >= min_score).sum(axis=1) >= min_points
    boxes = np.zeros((len(points), 4), np.float32)
    whole = np.array([0, 0, frames.shape[2], frames.shape[1]], np.float32)
    for i in range(len(points)):
        box = box_of(points[i], min_score) if found[i] else None
        boxes[i] = whole if box is None else box
    there = np.flatnonzero(found)
    for lost in np.flatnonzero(~found):
        if expected is not None:
            boxes[lost] = expected[lost]
        elif len(there):
            boxes[lost] = boxes[there[np.abs(there - lost).argmin()]]
    return Figure(frames, after, np.where(found[:, None, None], points, 0).astype(np.float32), boxes, found)


def points_in(adapter: PoseAdapter, frames: Pixels, config: SkeletonConfig) -> Points:
    """Return `[n, 133, 3]`, the points of the main figure of each frame; zeros where none is seen.

    The main one is the largest in the first frame in which any is found; from there it is followed, and looked for
    again where it is lost. Finders miss figures that fill the picture, and some at one place that they see at another:
    so a second look is taken at the picture with a border, and what was found there is followed there.
    """
    height, width = frames.shape[1:3]
    scale = max(1.0, LEAST_PX / max(height, width))
    size = (round(width * scale), round(height * scale))
    wide = round(max(size) * _BORDER)
    out = np.zeros((len(frames), 133, 3), np.float32)
    adapter.reset()
    last, border = None, 0
    for i, frame in enumerate(frames):
        picture = cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) if scale > 1 else frame
        seen = None if last is None else _at(adapter, _bordered(picture, border), last, config)
        for border_px in () if seen is not None else (0, wide):
            shown = _bordered(picture, border_px)
            adapter.reset()
            box = _nearest(adapter.people(shown[None])[0][:, :4], None if last is None else last + border_px - border)
            seen = None if box is None else _at(adapter, shown, box, config)
            if seen is not None:
                border = border_px
                break
        if seen is not None:
            last = box_of(seen, config.min_score)
            out[i] = _within(seen, border, size)
    out[..., 0] *= width / size[0]
    out[..., 1] *= height / size[1]
    return out


def _bordered(picture: Pixels, border_px: int) -> Pixels:
    if not border_px:
        return picture
    edges = (border_px,) * 4
    return np.asarray(cv2.copyMakeBorder(picture, *edges, cv2.BORDER_REPLICATE), np.uint8)


def _at(adapter: PoseAdapter, picture: Pixels, box: NDArray[np.float32], config: SkeletonConfig) -> Points | None:
    """Return the points `[133, 3]` of the figure in a box, if enough of it is seen."""
    seen = adapter.keypoints(picture[None], [{0: box}])[0].get(0)
    enough = seen is not None and (seen[BODY, 2] >= config.min_score).sum() >= config.min_points
    return seen if enough else None


def _within(points: Points, border_px: int, size_px: tuple[int, int]) -> Points:
    """Return points of a picture with a border in px of the picture; those outside it were not seen."""
    moved = points - np.array([border_px, border_px, 0], np.float32)
    inside = np.all((moved[:, :2] >= 0) & (moved[:, :2] <= np.array(size_px) - 1), axis=1) & (points[:, 2] > 0)
    return np.where(np.asarray(inside)[:, None], moved, 0).astype(np.float32)


def body_mask(points: Points, size_px: tuple[int, int], min_score: float) -> NDArray[np.bool_]:
    """Return bool `[H, W]`: about where the body is, by its points `[133, 3]`: thick limbs, the trunk, the head."""
    mask = np.zeros(size_px, np.uint8)
    unit = trunk_px(points, min_score)
    if unit <= 0:
        return mask.astype(bool)
    wide = max(1, round(_LIMB_WIDTH * unit))
    at = np.round(points[:, :2]).astype(int)
    seen = points[:, 2] >= min_score
    for a, b in _THICK:
        if seen[a] and seen[b]:
            cv2.line(mask, tuple(at[a].tolist()), tuple(at[b].tolist()), 1, wide)
    if seen[list(_TRUNK)].all():
        cv2.fillConvexPoly(mask, cv2.convexHull(at[list(_TRUNK)]), 1)
        for a, b in zip(_TRUNK, (*_TRUNK[1:], _TRUNK[0]), strict=True):
            cv2.line(mask, tuple(at[a].tolist()), tuple(at[b].tolist()), 1, wide)
    head = [i for i in _HEAD if seen[i]]
    if head:
        middle = at[head].mean(axis=0).round().astype(int)
        cv2.circle(mask, tuple(middle.tolist()), max(1, round(0.28 * unit)), 1, -1)
    return mask.astype(bool)


def trunk_px(points: Points, min_score: float) -> float:
    """Return the length of a figure's trunk, shoulders to hips, px; if it is not seen, a third of its box."""
    if (points[list(_TRUNK), 2] >= min_score).all():
        return float(np.linalg.norm(points[[5, 6], :2].mean(axis=0) - points[[11, 12], :2].mean(axis=0)))
    box = box_of(points, min_score)
    return 0.0 if box is None else float(max(box[2] - box[0], box[3] - box[1])) / 3


def _nearest(boxes: NDArray[np.float32], last: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    if not len(boxes):
        return last
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    if last is not None:
        overlap = np.maximum(np.minimum(boxes[:, 2:], last[2:]) - np.maximum(boxes[:, :2], last[:2]), 0).prod(axis=1)
        areas = overlap if overlap.max() > 0 else areas
    nearest: NDArray[np.float32] = boxes[int(areas.argmax())]
    return nearest
