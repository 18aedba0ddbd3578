"""Does the pseudo video move as its source does? By points that were found again in it, free of the body's shape."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.skeleton import Points
from stages.skeleton_flips import EXCHANGED

LIMBS: Final = ((5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16))
"""Upper arms and forearms, then thighs and shins, as pairs of COCO body points."""
_GROUPS: Final = (slice(0, 4), slice(4, 8))  # arms, legs: standing legs must not outvote arms that do something else
_JOINTS: Final = tuple(range(5, 17))
_NEAR: Final = 0.1  # PCK: within this share of the box's long side
_SHORT: Final = 0.25  # limbs that are shorter than this share of the median limb have no clear direction
_LEAST_FRAMES: Final = 2  # in which a group is seen


@dataclass(frozen=True)
class Agreement:
    """How the motions agree; NaN where no limb was seen in both.

    Attributes:
        angle_deg: Angle between limbs, 0..180: of arms and of legs the median over frames, and of both the greater.
        cosine: Mean cosine of the angle over all limbs and frames, -1..1.
        pck: Share of joints within a tenth of the box's long side of their place, 0..1, boxes laid on each other.
    """

    angle_deg: float
    cosine: float
    pck: float


@dataclass(frozen=True)
class _Frame:
    """Angles, degrees, of arms and of legs; the mean angle and cosine of all; NaN where none is seen."""

    groups: tuple[float, float]
    angle_deg: float
    cosine: float


def agreement(pseudo: Points, source: Points, min_score: float) -> Agreement:
    """Compare the points `[n, 133, 3]` of a pseudo video with those of its source, frame by frame.

    Left and right may be exchanged in a whole frame, as the finder of points exchanges them in people seen from behind:
    the better of both counts.
    """
    frames, hits = [], []
    for seen, wanted in zip(pseudo, source, strict=True):
        either = [_frame(p, wanted, min_score) for p in (seen, seen[EXCHANGED])]
        frames.append(min(either, key=lambda f: np.inf if np.isnan(f.angle_deg) else f.angle_deg))
        hits.append([_pck(p, wanted, min_score) for p in (seen, seen[EXCHANGED])])
    groups = np.array([f.groups for f in frames])
    angles = [
        float(np.median(each[np.isfinite(each)]))
        for each in groups.T
        if np.isfinite(each).sum() >= min(_LEAST_FRAMES, len(each))
    ]
    shares = [max(each) for each in hits if np.isfinite(each).all()]
    return Agreement(
        max(angles, default=float("nan")),
        _mean(np.array([f.cosine for f in frames])),
        _mean(np.array(shares)),
    )


def _frame(seen: Points, wanted: Points, min_score: float) -> _Frame:
    """Compare the limbs of one frame, each weighted by the square of how long it is seen: what comes towards the camera
    is short, and points anywhere."""
    a, b = (np.stack([p[j, :2] - p[i, :2] for i, j in LIMBS]).astype(np.float64) for p in (seen, wanted))
    both = np.array([min(p[i, 2], p[j, 2]) >= min_score for p in (seen, wanted) for i, j in LIMBS]).reshape(2, -1)
    long_a, long_b = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    unit_a, unit_b = max(float(np.median(long_a)), 1e-6), max(float(np.median(long_b)), 1e-6)
    share = np.minimum(long_a / unit_a, long_b / unit_b)
    weight = np.where(both.all(axis=0) & (share > _SHORT), share**2, 0.0)
    cosine = np.clip((a * b).sum(axis=1) / np.maximum(long_a * long_b, 1e-9), -1, 1)
    angle = np.degrees(np.arccos(cosine))
    arms, legs = (_weighted(angle[group], weight[group]) for group in _GROUPS)
    return _Frame((arms, legs), _weighted(angle, weight), _weighted(cosine, weight))


def _weighted(values: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    return float(np.average(values, weights=weight)) if weight.sum() > 0 else float("nan")


def _pck(seen: Points, wanted: Points, min_score: float) -> float:
    joints = [j for j in _JOINTS if min(seen[j, 2], wanted[j, 2]) >= min_score]
    if len(joints) < 4:
        return float("nan")
    a, b = (_boxed(p[joints, :2].astype(np.float64)) for p in (seen, wanted))
    return float((np.linalg.norm(a - b, axis=1) <= _NEAR).mean())


def _boxed(places: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = places.min(axis=0), places.max(axis=0)
    boxed: NDArray[np.float64] = (places - (low + high) / 2) / max(float((high - low).max()), 1e-6)
    return boxed


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
