"""Whose body is it: does the pseudo video have the character's proportions, or the source's (METHOD.md section 5)?

The source and the pseudo video show one motion from one place, so that a bone's length in the pseudo picture over its
length in the source's, in the same frame, is free of the pose: it is 1 in every bone, but for the size of the whole, if
the source's proportions were copied. What the character's bones should be is known from one picture only, in another
pose, where bones are foreshortened: so that is believed only so far, bone by bone, and some bones not at all.

With logarithms, delta what the character's bones differ from the source's, and g the share of it that leaked away:

    pseudo to source        x = (1 - g) delta + size + error
    character to source     d = delta + another size + error

An error is small in most bones and wide in some: a mixture of two normal distributions. What is known of g follows by
Bayes' rule from all bones, with every size and every delta it could be. Some bodies are alike: theirs cannot leak.
"""

from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.skeleton import Points

Floats = NDArray[np.float64]

BONES: Final[dict[str, tuple[tuple[int, int], ...]]] = {
    "upper_arm": ((5, 7), (6, 8)), "forearm": ((7, 9), (8, 10)), "thigh": ((11, 13), (12, 14)),
    "shin": ((13, 15), (14, 16)), "trunk": ((5, 11), (6, 12)), "shoulders": ((5, 6),),
}  # fmt: skip
_LEAST_BONES: Final = 3
# Deviations of the errors, as planted pairs show them (seed 0): of bones well seen, in the order of BONES, and of
# others.
_OF_PSEUDO: Final = np.array([0.05, 0.07, 0.04, 0.05, 0.03, 0.03])
_OF_PICTURE: Final = np.array([0.07, 0.18, 0.04, 0.06, 0.06, 0.07])  # forearms come towards the camera
_WIDE_OF_PSEUDO, _WIDE_OF_PICTURE = 0.3, 0.6
_WIDE_SHARE_OF_PSEUDO, _WIDE_SHARE_OF_PICTURE = 0.1, 0.25
_UNLIKE, _ALIKE = 0.2, 0.04  # deviation of a bone from one body to another, and to one that is alike
_UNLIKE_SHARE: Final = (
    0.9  # of pairs; with 0.5 one severe leak in three is found, with 1 half of the alike are called one
)
_SIZES: Final = 0.15  # deviation of the size, once the median bone has been laid on 1
_SHARE: Final = np.linspace(0, 1, 11)[:, None, None]
_SIZE: Final = np.linspace(-0.6, 0.6, 25)


@dataclass(frozen=True)
class Shape:
    """Logarithms of lengths, `[6]` in the order of `BONES`, NaN where not seen.

    Attributes:
        to_source: ln(pseudo / source), the median over frames and sides, each weighing as its area: long bones are
            foreshortened less, and told better.
        wanted: ln(character / source): the longer side in the character's picture over the 90th percentile of the
            source's frames and sides.
    """

    to_source: Floats
    wanted: Floats

    def leak(self) -> float:
        """Return how far the bones are on the way from the character's (0) to the source's (1): the mean of what it may
        be, all shares alike before, and 0 where the bodies are alike; NaN if fewer than three bones are seen."""
        if self._good().sum() < _LEAST_BONES:
            return float("nan")
        unlike, alike = (self._log_likelihood(bodies) for bodies in (_UNLIKE, _ALIKE))
        most = max(unlike.max(), alike.max())
        likely = _UNLIKE_SHARE * np.exp(unlike - most)
        total = likely.sum() + (1 - _UNLIKE_SHARE) * np.exp(alike - most).sum()
        return float((likely * _SHARE.ravel()).sum() / total)

    def margin(self) -> float:
        """Return ln p(bones | nothing leaked) - ln p(bones | all leaked): above 0 speaks for the character's; NaN as
        `leak`."""
        if self._good().sum() < _LEAST_BONES:
            return float("nan")
        known = self._log_likelihood(_UNLIKE)
        return float(known[0] - known[-1])

    def _good(self) -> NDArray[np.bool_]:
        return np.isfinite(self.to_source) & np.isfinite(self.wanted)

    def _log_likelihood(self, bodies: float) -> Floats:
        """Return ln p(bones | share) of each share of `_SHARE`, but for a constant that is the same in all."""
        good = self._good()
        x, d = (v[good] - np.median(v[good]) for v in (self.to_source, self.wanted))
        size, other = _SIZE[None, :, None], _SIZE[None, None, :]
        log_p = -(size**2 + other**2) / (2 * _SIZES**2)
        for bone, (of_pseudo, of_picture) in enumerate(zip(_OF_PSEUDO[good], _OF_PICTURE[good], strict=True)):
            log_p = log_p + np.log(_bone(x[bone] - size, d[bone] - other, of_pseudo, of_picture, bodies))
        whole = np.exp(log_p - log_p.max())
        return np.asarray(np.log(whole.sum(axis=(1, 2))) + log_p.max())


def _bone(x: Floats, d: Floats, of_pseudo: float, of_picture: float, bodies: float) -> Floats:
    """Return p(x, d | share) of a bone, `[shares, sizes, other sizes]`: four normal distributions of two numbers."""
    total = np.zeros(1)
    wide = product(
        ((of_pseudo, 1 - _WIDE_SHARE_OF_PSEUDO), (_WIDE_OF_PSEUDO, _WIDE_SHARE_OF_PSEUDO)),
        ((of_picture, 1 - _WIDE_SHARE_OF_PICTURE), (_WIDE_OF_PICTURE, _WIDE_SHARE_OF_PICTURE)),
    )
    kept = 1 - _SHARE
    for (error_x, share_x), (error_d, share_d) in wide:
        xx, dd, xd = (kept * bodies) ** 2 + error_x**2, bodies**2 + error_d**2, kept * bodies**2
        determinant = xx * dd - xd**2
        exponent = (dd * x * x - 2 * xd * x * d + xx * d * d) / determinant
        total = total + share_x * share_d * np.exp(-exponent / 2) / np.sqrt(determinant)
    return total


def shape(pseudo: Points, source: Points, character: Points, min_score: float) -> Shape:
    """Measure bones in points `[n, 133, 3]` of both videos, frame by frame the same moments, and `[133, 3]`."""
    ours, theirs, still = (lengths(p, min_score) for p in (pseudo, source, character[None]))
    return Shape(
        np.array([_median(np.log(ours[b]) - np.log(theirs[b]), theirs[b] ** 2) for b in BONES]),
        np.array([_percentile(np.log(still[b]), 100) - _percentile(np.log(theirs[b]), 90) for b in BONES]),
    )


def lengths(points: Points, min_score: float) -> dict[str, Floats]:
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


def _median(values: Floats, weights: Floats) -> float:
    good = np.isfinite(values)
    if not good.any():
        return float("nan")
    order = np.argsort(values[good])
    before = np.cumsum(weights[good][order])
    return float(values[good][order][np.searchsorted(before, before[-1] / 2)])


def _percentile(values: Floats, percent: float) -> float:
    good = values[np.isfinite(values)]
    return float(np.percentile(good, percent)) if len(good) else float("nan")
