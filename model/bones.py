"""Other bodies and one place: two changes to a skeleton that leave its motion (METHOD section 2; the paper's 3.3).

`scale_bones` gives the skeleton another build, so that a model cannot read the shape of the reference off the driving
signal. `normalise` puts it into one place and size, so that it cannot read the camera off it either. Both take and give
float32 `[T, P, 133, 3]` (model/skeleton.py) and leave points that were not seen as they are, (0, 0, 0).

Bones are scaled in the picture: the offset of a point from the joint it hangs on, times the factor of its segment. So
each bone keeps its direction in each frame, and a foreshortened bone is scaled as the whole one would be.

    segment       points                                          hang on
    torso         shoulders, hips                                 the point that stays fixed
    head          nose, eyes, ears, the face's 68                 neck: half-way between the shoulders
    upper_arm     elbow                                           shoulder
    forearm       wrist                                           elbow
    hand          the hand's 21                                   wrist
    thigh, shin   knee, ankle                                     hip, knee
    foot          toes and heel                                   ankle
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.skeleton import BODY_NAMES, FACE, LEFT_HAND, POINTS, RIGHT_HAND, Points

Places = NDArray[np.float64]  # [T, P, ..., 2] px
Seen = NDArray[np.bool_]  # [T, P, ...]

SEGMENTS_OF_A_SIDE: Final = ("upper_arm", "forearm", "hand", "thigh", "shin", "foot")


@dataclass(frozen=True)
class Factors:
    """By how much each segment of a body is longer than it was; 1 leaves it as it is.

    Raises:
        ValueError: a factor is not a positive number.
    """

    torso: float = 1.0
    head: float = 1.0
    left_upper_arm: float = 1.0
    right_upper_arm: float = 1.0
    left_forearm: float = 1.0
    right_forearm: float = 1.0
    left_hand: float = 1.0
    right_hand: float = 1.0
    left_thigh: float = 1.0
    right_thigh: float = 1.0
    left_shin: float = 1.0
    right_shin: float = 1.0
    left_foot: float = 1.0
    right_foot: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"the factor of {field.name} is {value}, wanted a positive number")


@dataclass(frozen=True)
class _Bone:
    segment: str  # a field of Factors
    parent: str  # the joint that its points hang on
    points: tuple[int, ...]
    joint: str | None  # the name under which the next bones hang on its end; None for the last


def _bones() -> tuple[_Bone, ...]:
    """Return the tree, parents first."""
    at = BODY_NAMES.index
    found = [_Bone("head", "neck", (*range(5), *range(FACE.start, FACE.stop)), None)]
    for side, hand, foot in (("left", LEFT_HAND, (17, 18, 19)), ("right", RIGHT_HAND, (20, 21, 22))):
        shoulder, elbow, wrist = (f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist"))
        hip, knee, ankle = (f"{side}_{joint}" for joint in ("hip", "knee", "ankle"))
        found += [
            _Bone("torso", "root", (at(shoulder),), shoulder),
            _Bone(f"{side}_upper_arm", shoulder, (at(elbow),), elbow),
            _Bone(f"{side}_forearm", elbow, (at(wrist),), wrist),
            _Bone(f"{side}_hand", wrist, tuple(range(hand.start, hand.stop)), None),
            _Bone("torso", "root", (at(hip),), hip),
            _Bone(f"{side}_thigh", hip, (at(knee),), knee),
            _Bone(f"{side}_shin", knee, (at(ankle),), ankle),
            _Bone(f"{side}_foot", ankle, foot, None),
        ]
    return tuple(found)


_BONES: Final = _bones()
_SHOULDERS: Final = (5, 6)
_HIPS: Final = (11, 12)


def draw_factors(rng: np.random.Generator, low: float = 0.8, high: float = 1.2, tied: bool = True) -> Factors:
    """Return factors drawn from U(low, high), one a segment, for a whole clip.

    `tied`: left and right have the same factor, as bodies do; otherwise each is drawn. How many clips are scaled at all
    (the paper: 30 %) is for the caller to say.

    Raises:
        ValueError: not 0 < low <= high.
    """
    if not 0 < low <= high < np.inf:
        raise ValueError(f"factors are to be drawn between {low} and {high}, wanted 0 < low <= high")
    drawn = {"torso": float(rng.uniform(low, high)), "head": float(rng.uniform(low, high))}
    for segment in SEGMENTS_OF_A_SIDE:
        left = float(rng.uniform(low, high))
        drawn[f"left_{segment}"] = left
        drawn[f"right_{segment}"] = left if tied else float(rng.uniform(low, high))
    return Factors(**drawn)


def scale_bones(skeleton: Points, factors: Factors | Sequence[Factors], min_score: float = 0.3) -> Points:
    """Return the skeleton with the segments of each body scaled, as float32 `[T, P, 133, 3]`.

    A point moves with the joint it hangs on, so joints stay connected, every bone keeps its direction, and a hand, face
    or foot keeps its form. Factors of 1 give the same bits.

    What stays fixed is, for each person, one point of the whole clip: the pelvis (half-way between the hips); where no
    hip is ever seen (half a body) the neck; without shoulders either, the point that is seen in most frames, of equals
    the first in the layout (in a close-up the nose). The frame-to-frame movement of that point is unchanged, in px.
    Half-way between two of which only one is ever seen is that one.

    Missing joints: one that is unseen in a frame but seen in others is taken to lie where its offset from its own
    parent, interpolated in time, puts it, so that what hangs on it does not jump when it comes and goes (it stays
    unseen). One that is never seen in the clip is left out: what hangs on it hangs on its parent, by its own segment's
    factor. Nothing hangs on a point below `min_score`, since detectors guess wildly there; it moves with the rest.

    Args:
        skeleton: `[T, P, 133, 3]`; row p is one person throughout.
        factors: For all people, or a sequence with one for each.
        min_score: Joints count as seen from this score, as in `model.skeleton.draw`.

    Raises:
        ValueError: wrong shape, or another number of factors than of people.
    """
    _check(skeleton)
    people = skeleton.shape[1]
    each = [factors] * people if isinstance(factors, Factors) else list(factors)
    if len(each) != people:
        raise ValueError(f"there are factors for {len(each)} people and {people} in the skeleton: give one for each")
    place, score = skeleton[..., :2].astype(np.float64), skeleton[..., 2]
    seen = (score > 0) & (score >= min_score)
    root = _root(place, seen)
    neck = _follow(*_between(place, seen, _SHOULDERS), root)
    gain = {field.name: np.array([getattr(f, field.name) - 1 for f in each])[:, None] for field in fields(Factors)}
    joints = {"root": (root, np.zeros_like(root)), "neck": (neck, gain["torso"] * (neck - root))}  # place and shift
    shift = np.zeros_like(place)
    for bone in _BONES:
        at, moved = joints[bone.parent]
        points = list(bone.points)
        more = gain[bone.segment]
        shift[:, :, points] = moved[:, :, None] + more[:, None] * (place[:, :, points] - at[:, :, None])
        if bone.joint:
            (point,) = points
            end = _follow(place[:, :, point], seen[:, :, point], at)
            joints[bone.joint] = (end, moved + more * (end - at))
    scaled = skeleton.copy()
    somebody = _ever(np.asarray(seen.any(axis=2)))
    change = ((score > 0) & somebody)[..., None] & (shift != 0)  # adding 0 would turn -0.0 into 0.0
    scaled[..., :2][change] = (place + shift)[change]
    return scaled


def normalise(skeleton: Points, height_px: int, width_px: int, margin: float = 0.1, min_score: float = 0.3) -> Points:
    """Return the skeleton moved and scaled into a picture of `height_px` x `width_px`, as float32 `[T, P, 133, 3]`.

    One scale and one shift for the whole clip, the same on both axes, so that motion, distances between people and the
    aspect ratio are kept:

        scale = min((1 - 2 margin) width_px / box width, (1 - 2 margin) height_px / box height)
        x' = scale (x - middle of the box) + width_px / 2,    y' alike

    The box holds every point of every person in every frame that reaches `min_score`, as what is drawn does: body,
    feet, faces and hands. Points below are moved with the rest. The picture spans 0..width_px and 0..height_px.

    A box without width or height takes its scale from the other side; if all is one point it is centred at scale 1; if
    nobody is seen the skeleton is returned as it was.

    Raises:
        ValueError: wrong shape, a size that is not positive, or a margin outside 0 <= margin < 0.5.
    """
    _check(skeleton)
    if height_px <= 0 or width_px <= 0 or not 0 <= margin < 0.5:
        raise ValueError(
            f"cannot normalise into {height_px} x {width_px} px with margin {margin}: wanted positive sizes and a "
            "margin of at least 0 and below 0.5"
        )
    score = skeleton[..., 2]
    seen = score > 0
    counted = skeleton[seen & (score >= min_score)][:, :2].astype(np.float64)
    if not len(counted):
        return skeleton.copy()
    low, high = counted.min(axis=0), counted.max(axis=0)
    size, wanted = high - low, (1 - 2 * margin) * np.array([width_px, height_px])
    scale = min((float(w / s) for w, s in zip(wanted, size, strict=True) if s > 0), default=1.0)
    place = (skeleton[..., :2] - (low + high) / 2) * scale + np.array([width_px, height_px]) / 2
    moved = skeleton.copy()
    moved[..., :2][seen] = place[seen]
    return moved


def _check(skeleton: Points) -> None:
    if skeleton.ndim != 4 or skeleton.shape[2:] != (POINTS, 3):
        raise ValueError(f"the skeleton has shape {skeleton.shape}, wanted [T, P, {POINTS}, 3]")


def _root(place: Places, seen: Seen) -> Places:
    """Return `[T, P, 2]` the point of each person that stays fixed; zeros for one who is never seen."""
    pelvis, has_pelvis = _between(place, seen, _HIPS)
    neck, has_neck = _between(place, seen, _SHOULDERS)
    most = seen.sum(axis=0).argmax(axis=1)  # [P], the first of equals
    who = np.arange(len(most))
    last = _follow(place[:, who, most], seen[:, who, most], np.zeros_like(pelvis))
    neck = np.where(_ever(has_neck), _follow(neck, has_neck, np.zeros_like(neck)), last)
    return np.where(_ever(has_pelvis), _follow(pelvis, has_pelvis, neck), neck)


def _between(place: Places, seen: Seen, pair: tuple[int, int]) -> tuple[Places, Seen]:
    """Return the midpoint `[T, P, 2]` of two points and whether it is known `[T, P]`: in frames where both are seen;
    for a person of whom that never happens, where one is."""
    both = seen[:, :, pair]
    count = both.sum(axis=2)
    wanted = count.max(axis=0, initial=0)
    middle = (place[:, :, pair] * both[..., None]).sum(axis=2) / np.maximum(count, 1)[..., None]
    return middle, (count == wanted) & (count > 0)


def _follow(place: Places, seen: Seen, parent: Places) -> Places:
    """Return `[T, P, 2]` the place of a joint in all frames: where it is not seen, its offset from its parent is
    interpolated between the frames before and after in which it is, and held before the first and after the last. A
    joint that is never seen lies on its parent."""
    frames = np.arange(len(place))[:, None]
    before = np.maximum.accumulate(np.where(seen, frames, -1), axis=0)
    after = np.minimum.accumulate(np.where(seen, frames, len(place))[::-1], axis=0)[::-1]
    ever = _ever(seen)
    before, after = np.where(before < 0, after, before), np.where(after == len(place), before, after)
    before, after = np.where(ever.T, before, 0), np.where(ever.T, after, 0)
    share = ((frames - before) / np.maximum(after - before, 1))[..., None]
    offset = np.where(ever, place - parent, 0.0)
    who = np.arange(place.shape[1])
    filled = parent + (1 - share) * offset[before, who] + share * offset[after, who]
    return np.where(seen[..., None], place, filled)


def _ever(seen: Seen) -> Seen:
    """Return `[P, 1]`: seen in any frame."""
    return np.asarray(seen.any(axis=0))[:, None]
