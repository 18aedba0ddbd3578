"""Where the driving skeleton stands in its half of the composite.

    fitted      the box of the whole clip fills the picture (section 3.3): nothing of place and size is told
    aligned     where the figure of the reference stands, and as large (ours)

A base with many tokens learns from `fitted` skeletons where its figure must go. A small one, whose tokens are a quarter
of the picture wide, does not: after 40,000 samples the embedded teacher paid its driving half no heed at all
(`docs/LOG.md`). Where a token of the driving half tells what belongs into its neighbour of the left half, it can.

In training the skeleton is the target's own, so it is aligned as it is. At inference it is another's: it is laid on the
reference's figure, by hips or shoulders and the size of the trunk; where no figure is known in the reference, it is
fitted.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.bones import normalise
from model.geometry import Geometry
from model.skeleton import Points

_SHOULDERS, _HIPS, _NOSE = (5, 6), (11, 12), 0
_FIRST: Final = 12  # frames over which the middle is taken: one alone may be a bow or a leap
_LONGEST: Final = 80  # percentile of a length over the frames: it is foreshortened in the others


def placed(skeleton: Points, geometry: Geometry, reference: Points | None = None, min_score: float = 0.3) -> Points:
    """Return a skeleton `[T, P, 133, 3]` where the driving half shows it, px of one half.

    Args:
        skeleton: Of the driving clip, px of its own picture.
        geometry: Size of a half, and how skeletons are placed.
        reference: `[P, 133, 3]`, the figures of the reference, the main one first, px of the half; None: not known.
        min_score: Points below are not looked at.
    """
    if geometry.placement == "aligned" and reference is not None:
        moved = laid_on(skeleton, reference, min_score)
        if moved is not None:
            return moved
    return normalise(skeleton, geometry.height_px, geometry.width_px, min_score=min_score)


def laid_on(skeleton: Points, reference: Points, min_score: float = 0.3) -> Points | None:
    """Return a skeleton `[T, P, 133, 3]` moved and scaled onto figures `[P', 133, 3]`; None where no figure has
    shoulders that both show.

    One scale and one shift for the whole clip and all people, so that motion and distances are kept:

        scale = exp(median over people of ln(size in the reference / size in the clip))
        shift = mean over people of (middle in the reference - scale * middle in the clip's first frames)

    A figure's size is that of the trunk, or where hips are not seen, of the shoulders, or of nose to shoulders; its
    middle is that of the hips, or of the shoulders.
    """
    ratios, middles = [], []
    for person in range(min(skeleton.shape[1], len(reference))):
        clip, still = skeleton[:, person], reference[person][None]
        ratio, both = _ratio(clip, still, min_score), _middles(clip, still, min_score)
        if ratio is not None and both is not None:
            ratios.append(ratio)
            middles.append(both)
    if not ratios:
        return None
    scale = float(np.exp(np.median(ratios)))
    shift = np.mean([theirs - scale * ours for ours, theirs in middles], axis=0)
    moved = skeleton.copy()
    seen = skeleton[..., 2] > 0
    moved[..., :2][seen] = (scale * skeleton[..., :2] + shift)[seen]
    return moved


def nudged(skeleton: Points, scale: float, shift_px: tuple[float, float], size_px: tuple[int, int]) -> Points:
    """Return a skeleton scaled about the middle of a picture of `size_px` (width, height), then shifted: about as far
    off as an alignment may be."""
    middle = np.array(size_px) / 2
    moved = skeleton.copy()
    seen = skeleton[..., 2] > 0
    moved[..., :2][seen] = ((skeleton[..., :2] - middle) * scale + middle + np.array(shift_px))[seen]
    return moved


def _ratio(clip: Points, still: Points, min_score: float) -> float | None:
    """Return ln(size in the reference / size in the clip) by the first part of the body that both show."""
    for one, other in ((_SHOULDERS, _HIPS), ((5,), (6,)), ((_NOSE,), _SHOULDERS)):
        lengths = [_length(points, one, other, min_score) for points in (still, clip)]
        if all(np.isfinite(length).any() for length in lengths):
            theirs, ours = (float(np.nanpercentile(length, _LONGEST)) for length in lengths)
            if theirs > 0 and ours > 0:
                return float(np.log(theirs / ours))
    return None


def _length(points: Points, one: tuple[int, ...], other: tuple[int, ...], min_score: float) -> NDArray[np.float64]:
    """Return px between the middles of two sets of points in each frame `[T]`, NaN where one of them is not seen."""
    length: NDArray[np.float64] = np.linalg.norm(
        _mean(points, one, min_score) - _mean(points, other, min_score), axis=1
    )
    return length


def _middles(clip: Points, still: Points, min_score: float) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the middle of a person where the clip begins and that of the figure, `[2]` px each, by what both show."""
    for part in (_HIPS, _SHOULDERS):
        ours, theirs = _mean(clip, part, min_score), _mean(still, part, min_score)[0]
        there = ours[np.isfinite(ours).all(axis=1)]
        if len(there) and np.isfinite(theirs).all():
            return np.median(there[:_FIRST], axis=0), theirs
    return None


def _mean(points: Points, which: tuple[int, ...], min_score: float) -> NDArray[np.float64]:
    chosen = points[:, list(which)].astype(np.float64)
    mean: NDArray[np.float64] = chosen[..., :2].mean(axis=1)
    mean[(chosen[..., 2] < min_score).any(axis=1)] = np.nan
    return mean
