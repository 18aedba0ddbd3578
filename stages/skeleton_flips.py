"""Left and right exchanged for a moment: found and mended.

A model that takes a back for a front names the left side right. In one picture that cannot be seen; in a clip it is a
jump of all limbs at once, there and back. The labelling with the shortest way for all limbs over the clip is found by
dynamic programming (Viterbi) over two states a frame, as named and exchanged; each exchanged frame costs a little, so
that what the model says holds unless the jumps speak against it.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.skeleton import FEET, LEFT_HAND, POINTS, RIGHT_HAND, Points, box_of

_LIMBS: Final = slice(5, FEET.start)  # shoulders to ankles
_COST = 0.03  # of an exchanged frame, in box sizes of mean way: a flip of J box sizes is mended up to 2 J / 0.03 frames
_MAX_GAP = 3  # frames unseen after which nothing is known of the way


def _exchange() -> NDArray[np.intp]:
    order = np.arange(POINTS)
    order[1 : FEET.start] = order[1 : FEET.start].reshape(-1, 2)[:, ::-1].ravel()  # after the nose: left, right, ...
    order[FEET] = np.roll(order[FEET], 3)
    order[LEFT_HAND], order[RIGHT_HAND] = order[RIGHT_HAND].copy(), order[LEFT_HAND].copy()
    return order


EXCHANGED: Final = _exchange()
"""Index of each of the 133 points' counterpart on the other side; the face keeps its own."""


def flipped_frames(seen: Mapping[int, Points], min_score: float) -> list[int]:
    """Return the frames in which left and right are exchanged, of one person: frame -> points [133, 3]."""
    frames = sorted(seen)
    cost = np.array([0.0, _COST])  # of the best way that ends as named, and exchanged
    came: list[NDArray[np.intp]] = []
    for before, now in pairwise(frames):
        same, other = _ways(seen[before], seen[now], min_score) if now - before <= _MAX_GAP else (0.0, 0.0)
        steps = np.array([[same, other], [other, same]]) + cost[:, None]  # [from, to]
        came.append(steps.argmin(axis=0))  # ties: from "as named"
        cost = steps.min(axis=0) + np.array([0.0, _COST])
    state = int(cost.argmin()) if frames else 0
    states = [state]
    for back in reversed(came):
        state = int(back[state])
        states.append(state)
    return [frame for frame, flipped in zip(reversed(frames), states, strict=False) if flipped][::-1]


def _ways(a: Points, b: Points, min_score: float) -> tuple[float, float]:
    """Return the mean way of the limbs from `a` to `b`, and to `b` exchanged, in long sides of the box of `a`."""
    box = box_of(a, min_score)
    swapped = b[EXCHANGED]
    both = (np.minimum(np.minimum(a, b), swapped)[_LIMBS, 2] >= min_score).nonzero()[0]
    if box is None or len(both) == 0:
        return 0.0, 0.0
    size = max(float(box[2] - box[0]), float(box[3] - box[1]), 1.0)
    here = a[_LIMBS][both, :2]
    same, other = (float(np.hypot(*(p[_LIMBS][both, :2] - here).T).mean()) / size for p in (b, swapped))
    return same, other
