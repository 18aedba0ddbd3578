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
    "shin": ((13, 15), (14, 16)), "trunk": ((5, 11), (6, 12)), "head": ((3, 4), (0, 3), (0, 4)),
}  # fmt: skip
_LEAST_BONES: Final = 3
# How far `wanted` is from what a clean pair shows (planted pairs, seed 0): forearms come towards the camera, heads
# turn. What is told badly weighs little; shoulders and hips, which turn with the body, are left out.
_DEVIATION: Final = np.array([0.12, 0.36, 0.07, 0.08, 0.10, 0.24])
_DOUBT: Final = 1.0  # weight of "nothing leaked" against bones that hardly differ
_LEGS: Final = [list(BONES).index(bone) for bone in ("thigh", "shin")]


@dataclass(frozen=True)
class Shape:
    """Logarithms of lengths, `[6]` in the order of `BONES`, NaN where not seen.

    Attributes:
        to_source: ln(pseudo / source), the median over frames and sides.
        wanted: ln(character / source): the longer side in the character's picture over the 80th percentile of the
            source's frames and sides.
    """

    to_source: NDArray[np.float64]
    wanted: NDArray[np.float64]

    def leak(self) -> float:
        """Return how far the bones are on the way from the character's (0) to the source's (1); 0 too if both are
        alike, NaN if fewer than three are seen, or no leg: arms alone tell nothing, since they are foreshortened
        otherwise in each picture (planted pairs: AUC 0.6).

        With weights w, lengths free of the size of the whole (their weighted mean is 0), x to the source's and d
        wanted: sum w (d - x) d / (sum w d^2 + doubt).
        """
        parted = self._parted()
        if parted is None:
            return float("nan")
        weight, x, d = parted
        return float((weight * (d - x) * d).sum() / ((weight * d * d).sum() + _DOUBT))

    def margin(self) -> float:
        """Return (a - b) / (a + b + 1), a the distance to the source's bones and b to the character's, in deviations;
        -1..1, NaN as `leak`."""
        parted = self._parted()
        if parted is None:
            return float("nan")
        weight, x, d = parted
        a, b = (float(np.sqrt((weight * v * v).sum())) for v in (x, d - x))
        return (a - b) / (a + b + 1)

    def _parted(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
        good = np.isfinite(self.to_source) & np.isfinite(self.wanted)
        if good.sum() < _LEAST_BONES or not good[_LEGS].any():
            return None
        weight = 1 / _DEVIATION[good] ** 2
        x, d = (v[good] - np.average(v[good], weights=weight) for v in (self.to_source, self.wanted))
        return weight, x, d


def shape(pseudo: Points, source: Points, character: Points, min_score: float) -> Shape:
    """Measure bones in points `[n, 133, 3]` of both videos, frame by frame the same moments, and `[133, 3]`."""
    ours, theirs, still = (lengths(p, min_score) for p in (pseudo, source, character[None]))
    return Shape(
        np.array([_percentile(np.log(ours[b]) - np.log(theirs[b]), 50) for b in BONES]),
        np.array([_percentile(np.log(still[b]), 100) - _percentile(np.log(theirs[b]), 80) for b in BONES]),
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


def _percentile(values: NDArray[np.float64], percent: float) -> float:
    good = values[np.isfinite(values)]
    return float(np.percentile(good, percent)) if len(good) else float("nan")
