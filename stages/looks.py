"""How a person looks, as far as it takes to tell two people of one clip apart: a histogram of the colours worn.

A look is float32 `[64]`, non-negative, sum 1: 4 x 4 x 4 soft bins of RGB, so that a small change of light moves a
little weight to the next bin rather than all of it. Two looks are compared by the Hellinger distance,
sqrt(1 - sum(sqrt(p q))): 0 for equal histograms, 1 for disjoint ones.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.skeleton import Pixels, Points

Look = NDArray[np.float32]  # [64]

_BINS = 4  # a channel
_GRID = np.linspace(0.1, 0.9, 12)  # where a torso is sampled, as shares of its sides
_TORSO, _THIGHS = (5, 6, 11, 12), ((11, 13), (12, 14))  # COCO body points
_MIN_SCORE = 0.3


def look_of_box(frame: Pixels, box: NDArray[np.float32]) -> Look:
    """Return the look of the person in a box (x0, y0, x1, y1 px): of its middle, where little background is."""
    x0, y0, x1, y1 = (float(v) for v in box)
    across, down = np.meshgrid(np.linspace(0.35, 0.65, 12), np.linspace(0.2, 0.6, 12))
    return _histogram(frame, x0 + across.ravel() * (x1 - x0), y0 + down.ravel() * (y1 - y0))


def look_of_body(frame: Pixels, points: Points, box: NDArray[np.float32]) -> Look:
    """Return the look of a person with these points `[133, 3]`: of torso and thighs; of the box if no torso is seen."""
    if points[list(_TORSO), 2].min() < _MIN_SCORE:
        return look_of_box(frame, box)
    left_shoulder, right_shoulder, left_hip, right_hip = (points[i, :2] for i in _TORSO)
    across, down = (a.ravel()[:, None] for a in np.meshgrid(_GRID, _GRID))
    top = left_shoulder + across * (right_shoulder - left_shoulder)
    bottom = left_hip + across * (right_hip - left_hip)
    places = [top + down * (bottom - top)]
    for hip, knee in _THIGHS:
        if points[knee, 2] >= _MIN_SCORE:
            along = np.repeat(_GRID, 3)[:, None]
            places.append(points[hip, :2] + along * (points[knee, :2] - points[hip, :2]))
    x, y = np.concatenate(places).T
    return _histogram(frame, x, y)


def unlike(a: Look, b: Look) -> float:
    """Return the Hellinger distance of two looks, 0..1."""
    return float(np.sqrt(max(0.0, 1.0 - float(np.sqrt(a * b).sum()))))


def mean_look(looks: Sequence[Look]) -> Look:
    """Return the mean of looks, again a look."""
    mean: Look = np.mean(np.stack(looks), axis=0).astype(np.float32)
    return mean


def _histogram(frame: Pixels, x: NDArray[np.floating], y: NDArray[np.floating]) -> Look:
    height, width = frame.shape[:2]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    if not inside.any():
        return np.full(_BINS**3, 1 / _BINS**3, np.float32)
    colours = frame[y[inside].astype(int), x[inside].astype(int)].astype(np.float32)
    place = colours / 255 * (_BINS - 1)  # [n, 3], in bins
    low = np.minimum(place.astype(int), _BINS - 2)
    share = place - low
    out = np.zeros(_BINS**3, np.float32)
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(np.array(corner) == 1, share, 1 - share), axis=1)
        np.add.at(out, (low + corner) @ (_BINS * _BINS, _BINS, 1), weight)
    out /= out.sum()
    return out
