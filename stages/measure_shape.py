"""Whose body is it: does the pseudo video have the character's proportions, or the source's (METHOD.md section 5)?

The source and the pseudo video show one motion from one place, so that a bone's length in the pseudo picture over its
length in the source's, in the same frame, is free of the pose: it is 1 in every bone, but for the size of the whole, if
the source's proportions were copied. What the character's bones should be is known from one picture only, in another
pose, where bones are foreshortened: so the longer of both sides counts there.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.skeleton import Points

BONES: Final[dict[str, tuple[tuple[int, int], ...]]] = {
    "upper_arm": ((5, 7), (6, 8)), "forearm": ((7, 9), (8, 10)), "thigh": ((11, 13), (12, 14)),
    "shin": ((13, 15), (14, 16)), "trunk": ((5, 11), (6, 12)), "shoulders": ((5, 6),), "hips": ((11, 12),),
    "head": ((3, 4), (0, 3), (0, 4)),
}  # fmt: skip
_LEAST_BONES: Final = 3


@dataclass(frozen=True)
class Shape:
    """Logarithms of lengths, `[8]` in the order of `BONES`, NaN where not seen.

    Attributes:
        to_source: ln(pseudo / source), the median over frames and sides.
        pseudo: ln of the pseudo video's own lengths, px: the 80th percentile over frames and sides.
        source: The same of the source's.
        character: ln of the lengths in the character's picture, px, the longer of both sides.
    """

    to_source: NDArray[np.float64]
    pseudo: NDArray[np.float64]
    source: NDArray[np.float64]
    character: NDArray[np.float64]


def shape(pseudo: Points, source: Points, character: Points, min_score: float) -> Shape:
    """Measure bones in points `[n, 133, 3]` of both videos, frame by frame the same moments, and `[133, 3]`."""
    ours, theirs, wanted = (lengths(p, min_score) for p in (pseudo, source, character[None]))
    return Shape(
        np.array([_median(np.log(ours[b]) - np.log(theirs[b])) for b in BONES]),
        np.array([_high(np.log(ours[b])) for b in BONES]),
        np.array([_high(np.log(theirs[b])) for b in BONES]),
        np.array([_high(np.log(wanted[b]), 100) for b in BONES]),
    )


def lengths(points: Points, min_score: float) -> dict[str, NDArray[np.float64]]:
    """Return for each bone `[n, sides]` px, NaN where an end is not seen."""
    out = {}
    for bone, ends in BONES.items():
        each = []
        for a, b in ends:
            long = np.linalg.norm(points[:, a, :2].astype(np.float64) - points[:, b, :2], axis=1)
            seen = (np.minimum(points[:, a, 2], points[:, b, 2]) >= min_score) & (long > 1)
            each.append(np.where(seen, long, np.nan))
        out[bone] = np.stack(each, axis=1)
    return out


def _median(values: NDArray[np.float64]) -> float:
    good = values[np.isfinite(values)]
    return float(np.median(good)) if len(good) else float("nan")


def _high(values: NDArray[np.float64], percentile: float = 80) -> float:
    good = values[np.isfinite(values)]
    return float(np.percentile(good, percentile)) if len(good) else float("nan")
