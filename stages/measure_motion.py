"""Does the pseudo video move as its source does? By points that were found again in it, free of the body's shape."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.skeleton import Points
from stages.skeleton_flips import EXCHANGED

LIMBS: Final = ((5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16))
"""Upper arms and forearms, thighs and shins, as pairs of COCO body points."""
_JOINTS: Final = tuple(range(5, 17))
_NEAR: Final = 0.1  # PCK: within this share of the box's long side
_SHORT: Final = 0.25  # limbs that are shorter in the picture, in trunks, have no clear direction


@dataclass(frozen=True)
class Agreement:
    """How the motions agree; NaN where no limb was seen in both.

    Attributes:
        angle_deg: Mean angle between limbs, 0..180.
        cosine: Mean cosine of that angle, -1..1.
        pck: Share of joints within a tenth of the box's long side of their place, 0..1, boxes laid on each other.
        frame_angle_deg: `[n]` mean angle in each frame, NaN where none.
    """

    angle_deg: float
    cosine: float
    pck: float
    frame_angle_deg: NDArray[np.float64]


def agreement(pseudo: Points, source: Points, min_score: float) -> Agreement:
    """Compare the points `[n, 133, 3]` of a pseudo video with those of its source, frame by frame.

    Left and right may be exchanged in a whole frame, as the finder of points exchanges them in people seen from behind:
    the better of both counts.
    """
    angles, cosines, hits = [], [], []
    for seen, wanted in zip(pseudo, source, strict=True):
        options = [_frame(p, wanted, min_score) for p in (seen, seen[EXCHANGED])]
        angle, cosine = min(options, key=lambda o: np.inf if np.isnan(o[0]) else o[0])
        angles.append(angle)
        cosines.append(cosine)
        hits.append(np.nanmax([_pck(p, wanted, min_score) for p in (seen, seen[EXCHANGED])] + [-1.0]))
    each = np.array(angles, np.float64)
    share = np.array([hit if hit >= 0 else np.nan for hit in hits])
    return Agreement(_mean(each), _mean(np.array(cosines)), _mean(share), each)


def _frame(seen: Points, wanted: Points, min_score: float) -> tuple[float, float]:
    """Return the mean angle, degrees, and cosine between the limbs of one frame, each weighted by how long it is."""
    a, b = (np.stack([p[j, :2] - p[i, :2] for i, j in LIMBS]).astype(np.float64) for p in (seen, wanted))
    both = np.array([min(p[i, 2], p[j, 2]) >= min_score for p in (seen, wanted) for i, j in LIMBS]).reshape(2, -1)
    long_a, long_b = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    unit_a, unit_b = max(float(np.median(long_a)), 1e-6), max(float(np.median(long_b)), 1e-6)
    weight = np.minimum(long_a / unit_a, long_b / unit_b)
    good = both.all(axis=0) & (weight > _SHORT)
    if not good.any():
        return float("nan"), float("nan")
    cosine = np.clip((a * b).sum(axis=1)[good] / (long_a * long_b)[good], -1, 1)
    return (
        float(np.average(np.degrees(np.arccos(cosine)), weights=weight[good])),
        float(np.average(cosine, weights=weight[good])),
    )


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
