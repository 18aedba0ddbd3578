"""MediaPipe 0.10.14 as a pose adapter: its models lie in the wheel, nothing is downloaded.

    finding    the detector on the whole picture and on overlapping squares of it; every candidate is confirmed by the
               landmark model, whose points also give the box; candidates that are the same body are merged
    following  the landmark model is shown a turned square around the person, made of its own landmarks one frame
               before; the first frame of a person is looked at twice
    parts      hands and face are looked for where the body says they are

Scores. Body and feet: visibility x presence of the landmark, as the model gives them, times the presence of the person.
Hands and face: the model gives none a point, so each point has the presence of its hand or face in this frame, as the
model gives it (what is below 0.5 is not seen at all). A hand or face that does not sit where the body has its wrist or
nose is a mistake, and is dropped: the face model finds faces in the backs of heads. A point outside the picture was
not seen: (0, 0, 0).
"""

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.skeleton import BODY, FACE, FEET, LEFT_HAND, POINTS, RIGHT_HAND, Pixels, Points, box_of, same_body
from stages.skeleton import SkeletonConfig, mediapipe_weights
from stages.skeleton_mediapipe_graphs import Body, Detector, Region, Seen
from stages.tracking import Box, iou

# COCO-WholeBody point -> MediaPipe landmark. Body and feet: of the 33 pose landmarks. MediaPipe has no small toe; its
# foot index, near the big one, stands for it with half the score. Face: of the 468 mesh points, the nearest to each of
# the 68. Hands have COCO's order already.
BODY_FROM = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
FEET_FROM = (31, 31, 29, 32, 32, 30)
SMALL_TOES = (18, 21)
FACE_FROM = (
    127, 234, 93, 132, 58, 136, 150, 176, 152, 400, 379, 365, 288, 361, 323, 454, 356, 70, 63, 105, 66, 107, 336, 296,
    334, 293, 300, 168, 197, 5, 4, 75, 97, 2, 326, 305, 33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380, 61,
    39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip
_SMALL_TOE_SHARE = 0.5
_MIN_PRESENCE = 0.8  # of the person, below which a candidate of the detector is none
_SAME_HIPS = 0.25  # candidates whose hips are nearer than this, as a share of the circle's radius, are one body
_FOLLOWED = 0.1  # IoU with the box that is asked for, below which the memory is of somebody else
_NOSE_OF_68, _FACE_REACH = 30, 0.7  # tip of the nose; further than this many face sizes from the body's: no face
_LEFT_WRIST, _RIGHT_WRIST = 9, 10  # COCO
_HAND_REACH = 1.0  # a hand whose wrist is further than this many of its own sizes from the body's wrist is not its


@dataclass
class _Memory:
    """One person being followed: a graph of his own, since it follows hands and face, and where he was."""

    body: Body
    region: Region | None = None
    box: Box | None = None


class MediaPipe:
    """The adapter; see the module's docstring and `stages.skeleton.PoseAdapter`."""

    def __init__(self, config: SkeletonConfig) -> None:
        self.config = config
        self._detector = Detector(config.min_detection)
        self._pose = Body(parts=False)  # for candidates and first looks; has no memory
        self._spare: list[Body] = []
        self._followed: dict[int, _Memory] = {}
        self._found: list[tuple[Box, Region]] = []  # what the last search found

    @classmethod
    def weights(cls, config: SkeletonConfig) -> list[Path]:
        """Return the model files in the wheel."""
        return mediapipe_weights(config.refine_face)

    def reset(self) -> None:
        """Forget everybody: another clip begins."""
        self._found = []
        for track in list(self._followed):
            self.forget(track)

    def forget(self, track: int) -> None:
        """Forget one person."""
        memory = self._followed.pop(track, None)
        if memory is not None:
            self._spare.append(memory.body)

    def people(self, frames: Pixels) -> list[NDArray[np.float32]]:
        """Find the people of each frame on its own: N arrays [n, 5] = x0, y0, x1, y1 px, score 0..1."""
        self._found = []
        _trim()
        return [self._people(frame) for frame in frames]

    def keypoints(self, frames: Pixels, boxes: Sequence[Mapping[int, Box]]) -> list[dict[int, Points]]:
        """Give the points of the people in `boxes`; see the protocol."""
        asked = set().union(*boxes)
        for track in set(self._followed) - asked:
            self.forget(track)
        for track, memory in self._followed.items():  # only the first box is fresh: the others are where he was
            if track in boxes[0] and memory.box is not None and iou(memory.box, boxes[0][track]) < _FOLLOWED:
                memory.region = None
        out = []
        for frame, wanted in zip(frames, boxes, strict=True):
            picture = np.ascontiguousarray(frame)
            found = {track: self._points(picture, track, box) for track, box in wanted.items()}
            out.append({track: points for track, points in found.items() if points is not None})
        return out

    def _people(self, frame: Pixels) -> NDArray[np.float32]:
        height, width = frame.shape[:2]
        candidates = []
        for x, y, w, h in squares(height, width, self.config.tile_share):
            corner = np.array([x, y], np.float32)
            for score, hips, rim in self._detector(frame[y : y + h, x : x + w]):
                candidates.append((score, Region.around(hips + corner, rim + corner)))
        candidates.sort(key=lambda c: (-c[0], c[1].x, c[1].y))
        picture = np.ascontiguousarray(frame)
        tried: list[Region] = []
        found: list[tuple[Points, Box, float, Region]] = []
        for score, region in candidates:
            if any(_same(region, other) for other in tried):
                continue
            tried.append(region)
            seen = self._twice(picture, region)
            if seen.pose is None or seen.region is None or seen.presence < _MIN_PRESENCE:
                continue
            tried.append(seen.region)
            points = to_wholebody(seen, height, width)
            box = box_of(points, self.config.min_score)
            if box is not None:
                found.append((points, box, score * seen.presence, seen.region))
        found = self._bodies(found)
        self._found += [(box, region) for _, box, _, region in found]
        return np.array([[*box, score] for _, box, score, _ in found], np.float32).reshape(-1, 5)

    def _bodies(self, found: list[tuple[Points, Box, float, Region]]) -> list[tuple[Points, Box, float, Region]]:
        """Keep one of those that are the same body: the one of which most is seen."""
        kept: list[tuple[Points, Box, float, Region]] = []
        for one in sorted(found, key=lambda f: -float(f[0][BODY, 2].sum())):
            if not any(same_body(one[0], other[0], self.config.min_score) for other in kept):
                kept.append(one)
        return kept

    def _twice(self, picture: Pixels, region: Region) -> Seen:
        """Look at a region, then at the one that the first look gives: the second is centred and upright."""
        first = self._pose(picture, region)
        return first if first.region is None else self._pose(picture, first.region)

    def _points(self, picture: Pixels, track: int, box: Box) -> Points | None:
        if track not in self._followed:
            self._followed[track] = _Memory(self._fresh_body())
        memory = self._followed[track]
        region = memory.region
        if region is None:
            region = self._region_of(picture, box)
        seen = Seen() if region is None else memory.body(picture, region)
        memory.region, memory.box = seen.region, None
        if seen.pose is None:
            return None
        points = to_wholebody(seen, *picture.shape[:2])
        memory.box = box_of(points, self.config.min_score)
        return points

    def _region_of(self, picture: Pixels, box: Box) -> Region | None:
        """Return where to look for the person in a box: what the search found there, else an upright square around
        the box, moved to where a look at it shows the person."""
        for found, region in self._found:
            if np.array_equal(found, box):
                return region
        x, y = (float(v) for v in (box[:2] + box[2:]) / 2)
        return self._twice(picture, Region(x, y, 1.25 * float(max(box[2:] - box[:2])), 0.0)).region

    def _fresh_body(self) -> Body:
        if not self._spare:
            return Body(parts=True, refine_face=self.config.refine_face)
        body = self._spare.pop()
        body.reset()
        return body


def squares(height: int, width: int, share: float) -> list[tuple[int, int, int, int]]:
    """Return x, y, width, height px of what the detector is shown: the whole picture; squares of the short side,
    unless it is nearly one; and squares of `share` of it. Neighbours overlap: by a half, small ones by a third."""
    out = [(0, 0, width, height)]
    short = min(height, width)
    levels = [(short, short / 2)] if max(height, width) > 1.2 * short else []
    levels += [(round(short * share), short * share * 2 / 3)] if 0 < share < 1 else []
    for side, step in levels:
        out += [(x, y, side, side) for y in _starts(height, side, step) for x in _starts(width, side, step)]
    return out


def _starts(length: int, side: int, step: float) -> list[int]:
    steps = int(np.ceil((length - side) / step))
    return [round(v) for v in np.linspace(0, length - side, steps + 1)]


def to_wholebody(seen: Seen, height: int, width: int) -> Points:
    """Map what MediaPipe saw of a person to the 133 points `[133, 3]`; see the module's docstring for the scores."""
    out = np.zeros((POINTS, 3), np.float32)
    if seen.pose is None:
        return out
    scored = np.concatenate([seen.pose[:, :2], seen.pose[:, 2:3] * seen.pose[:, 3:4] * seen.presence], axis=1)
    out[BODY] = scored[list(BODY_FROM)]
    out[FEET] = scored[list(FEET_FROM)]
    out[list(SMALL_TOES), 2] *= _SMALL_TOE_SHARE
    face = None if seen.face is None else seen.face[list(FACE_FROM)]
    if face is not None and float(np.hypot(*(face[_NOSE_OF_68] - out[0, :2]))) <= _FACE_REACH * _size(face):
        out[FACE] = _with_score(face, seen.face_presence)
    hands = _own_hands(seen, out[_LEFT_WRIST, :2], out[_RIGHT_WRIST, :2])
    for part, hand, presence in zip(
        (LEFT_HAND, RIGHT_HAND), hands, (seen.left_presence, seen.right_presence), strict=True
    ):
        if hand is not None:
            out[part] = _with_score(hand, presence)
    outside = (out[:, :2] < 0).any(axis=1) | (out[:, 0] > width - 1) | (out[:, 1] > height - 1)
    out[outside] = 0
    return np.clip(out, 0, (width - 1, height - 1, 1)).astype(np.float32)


def _with_score(places: NDArray[np.float32], score: float) -> NDArray[np.float32]:
    return np.concatenate([places, np.full((len(places), 1), score, np.float32)], axis=1)


def _own_hands(
    seen: Seen, left_wrist: NDArray[np.float32], right_wrist: NDArray[np.float32]
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Keep a hand only if it hangs on its own arm; if both models found the same hand, only the nearer arm has it."""
    hands, gaps = [], []
    for hand, wrist in ((seen.left_hand, left_wrist), (seen.right_hand, right_wrist)):
        gap = np.inf if hand is None else float(np.hypot(*(hand[0] - wrist))) / _size(hand)
        hands.append(hand if gap <= _HAND_REACH else None)
        gaps.append(gap)
    left, right = hands
    if left is not None and right is not None:
        apart = float(np.hypot(*(left - right).T).mean())
        if apart < 0.5 * min(_size(left), _size(right)):
            return (left, None) if gaps[0] <= gaps[1] else (None, right)
    return left, right


def _size(places: NDArray[np.float32]) -> float:
    return max(float(np.ptp(places, axis=0).max()), 1.0)


def _trim() -> None:
    """Give freed memory back to the system: the graphs' many threads leave some 0.5 GB of it behind."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc; other systems have no need of it
    if trim is not None:
        trim(0)


def _same(a: Region, b: Region) -> bool:
    radius = min(a.side, b.side) / 2.5
    return float(np.hypot(a.x - b.x, a.y - b.y)) < _SAME_HIPS * radius and 0.67 < a.side / b.side < 1.5
