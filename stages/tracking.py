"""Boxes of people, frame by frame, to tracks: one track a person.

Three jobs: join new boxes to tracks (overlap with where the track was, and likeness of looks); decide who is who when
two tracks claim one body; and, when all is seen, find tracks in which two people were mixed. All of it is
deterministic: ties go to the older track.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stages.looks import Look, mean_look, unlike

Box = NDArray[np.float32]  # x0, y0, x1, y1 px

MIN_OVERLAP = 0.1  # IoU from which a box may continue a track by its place alone
REACH = 0.5  # a box further than this many box sizes from the track's last place does not continue it
UNLIKE = 0.5  # looks further apart than this are two people
LIKE = 0.15  # looks nearer than this cannot be told apart
MARGIN = 0.1  # by how much another person's look must fit better before it counts as a switch
CONTACT = 0.1  # IoU of two tracks from which their looks may be mixed
ENOUGH = 3  # frames alone, before and after a contact, to know a look
MEMORY = 12  # frames before and after a contact that are compared


@dataclass
class Track:
    """One person: in which frames seen, where, and how he looked. The four lists have one entry a frame seen."""

    id: int
    frames: list[int] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)

    def put(self, frame: int, box: Box, score: float, look: Look) -> None:
        """Add what was seen in `frame`, which must come after all others."""
        self.frames.append(frame)
        self.boxes.append(box)
        self.scores.append(score)
        self.looks.append(look)

    @property
    def size(self) -> float:
        """Area x time: the sum of the box areas over the frames seen, px^2."""
        return float(sum(area(box) for box in self.boxes))

    def box_at(self, frame: int) -> Box:
        """Return where the person probably is in `frame`: the last place, moved on by at most three frames' motion."""
        box = self.boxes[-1]
        if len(self.frames) < 2 or frame <= self.frames[-1]:
            return box
        back = max(0, len(self.frames) - 4)
        speed = (centre(box) - centre(self.boxes[back])) / (self.frames[-1] - self.frames[back])
        moved = speed * min(frame - self.frames[-1], 3)
        return (box + np.tile(moved, 2)).astype(np.float32)

    def look(self) -> Look:
        """Return the mean look over the last frames."""
        return mean_look(self.looks[-MEMORY:])


def area(box: Box) -> float:
    """Return the area of a box, px^2; 0 if it is turned inside out."""
    return float(max(box[2] - box[0], 0) * max(box[3] - box[1], 0))


def centre(box: Box) -> NDArray[np.float32]:
    """Return the middle of a box, `[2]` px."""
    middle: NDArray[np.float32] = ((box[:2] + box[2:]) / 2).astype(np.float32)
    return middle


def iou(a: Box, b: Box) -> float:
    """Return intersection over union of two boxes, 0..1."""
    inner = np.concatenate([np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])])
    shared = area(inner)
    return shared / max(area(a) + area(b) - shared, 1e-9)


class Tracker:
    """Joins boxes to tracks online. `max_gap` is how many frames a person may be unseen before the track ends."""

    def __init__(self, max_gap: int) -> None:
        self.max_gap = max_gap
        self.tracks: dict[int, Track] = {}

    def living(self, frame: int) -> list[Track]:
        """Return the tracks that may go on in `frame`, the oldest first."""
        return [t for t in self.tracks.values() if frame - t.frames[-1] <= self.max_gap]

    def match(self, frame: int, boxes: Sequence[Box], scores: Sequence[float], looks: Sequence[Look]) -> list[int]:
        """Give each box found in `frame` the id of its track, an old one or a new one, and record it there.

        Greedy: the cheapest of all (track, box) first, cost = (1 - IoU) + distance of looks.
        """
        offers = []
        for track in self.living(frame):
            for i, (box, look) in enumerate(zip(boxes, looks, strict=True)):
                cost = _cost(track, frame, box, look)
                if cost is not None:
                    offers.append((cost, track.id, i))
        ids: dict[int, int] = {}
        taken: set[int] = set()
        for _, track_id, i in sorted(offers):
            if i not in ids and track_id not in taken:
                ids[i] = track_id
                taken.add(track_id)
        for i in range(len(boxes)):
            if i not in ids:
                ids[i] = len(self.tracks)
                self.tracks[ids[i]] = Track(ids[i])
            self.see(ids[i], frame, boxes[i], scores[i], looks[i])
        return [ids[i] for i in range(len(boxes))]

    def see(self, track_id: int, frame: int, box: Box, score: float, look: Look) -> None:
        """Record a box of a known track. A second box for its last frame replaces the first; one for an earlier frame
        is no news."""
        track = self.tracks[track_id]
        if not track.frames or track.frames[-1] < frame:
            track.put(frame, box, score, look)
        elif track.frames[-1] == frame:
            track.boxes[-1], track.scores[-1], track.looks[-1] = box, score, look


def strain(track: Track | None, frame: int, box: Box, look: Look) -> float:
    """Return how badly a box with this look fits the past of a track: (1 - IoU) + distance of looks; 2 if it has none.

    When two tracks claim one body, the one under the greater strain must let go.
    """
    if track is None or not track.frames:
        return 2.0
    return (1 - iou(track.box_at(frame), box)) + unlike(track.look(), look)


def _cost(track: Track, frame: int, box: Box, look: Look) -> float | None:
    last = track.box_at(frame)
    overlap = iou(last, box)
    distance = unlike(track.look(), look)
    size = max(np.sqrt(area(last)), np.sqrt(area(box)), 1.0)
    near = float(np.hypot(*(centre(last) - centre(box)))) / size
    if distance > UNLIKE or (overlap < MIN_OVERLAP and (near > REACH or distance > UNLIKE / 2)):
        return None
    return (1 - overlap) + distance


def in_order(tracks: Sequence[Track]) -> list[Track]:
    """Return the tracks with the main one first: largest x longest (`Track.size`), then the older."""
    return sorted(tracks, key=lambda t: (-t.size, t.id))


@dataclass(frozen=True)
class Switch:
    """Two people in one track: which, from which frame, and the distances of looks that tell."""

    track: int
    frame: int
    to_own: float  # distance of the look after the contact from the track's own before it
    to_other: float  # distance from the other person's look before it; 1 if there is no other


def switches(tracks: Sequence[Track]) -> list[Switch]:
    """Find the tracks in which two people were mixed.

    After each contact (two boxes overlap, or the person was unseen for a while) and each sudden change, the look of
    each person is compared with his own and with the other's before it. A switch is: the other's fits better by
    `MARGIN`; or nobody's fits and the own one not at all (`UNLIKE`). A track whose look is not known on both sides
    (`ENOUGH` frames alone) is not judged there.
    """
    found = []
    for track in tracks:
        alone = _alone(track, tracks)
        for start, end, others in _doubtful(track, tracks):
            before = [lk for f, lk in zip(track.frames, track.looks, strict=True) if f < start and f in alone][-MEMORY:]
            after = [lk for f, lk in zip(track.frames, track.looks, strict=True) if f > end and f in alone][:MEMORY]
            if min(len(before), len(after)) < ENOUGH:
                continue
            to_own = unlike(mean_look(before), mean_look(after))
            to_other = min((_to(other, tracks, start, mean_look(after)) for other in others), default=1.0)
            if to_other + MARGIN < to_own or to_own > UNLIKE:
                found.append(Switch(track.id, end + 1, to_own, to_other))
    return found


def alike_and_lost(tracks: Sequence[Track]) -> list[tuple[int, int, int]]:
    """Find contacts after which nobody can say who is who: (track, other, frame).

    The two look alike (`LIKE`), their boxes covered each other, and at least one was unseen meanwhile or just after.
    """
    found = []
    for track in tracks:
        for start, end, others in _contacts(track, tracks):
            for other in (t for t in tracks if t.id in others and t.id > track.id):
                mine = [lk for f, lk in zip(track.frames, track.looks, strict=True) if f < start][-MEMORY:]
                theirs = [lk for f, lk in zip(other.frames, other.looks, strict=True) if f < start][-MEMORY:]
                if min(len(mine), len(theirs)) < ENOUGH or unlike(mean_look(mine), mean_look(theirs)) > LIKE:
                    continue
                later = track.frames[-1] > end and other.frames[-1] > end
                span = range(start, min(end, track.frames[-1], other.frames[-1]) + 1)
                if later and any(f not in track.frames or f not in other.frames for f in span):
                    found.append((track.id, other.id, end))
    return found


def _places(track: Track) -> dict[int, Box]:
    """Return the box in every frame of the track's life; while unseen, the person is where he was last."""
    seen = dict(zip(track.frames, track.boxes, strict=True))
    out, last = {}, track.boxes[0]
    for frame in range(track.frames[0], track.frames[-1] + 1):
        last = out[frame] = seen.get(frame, last)
    return out


def _touching(a: Track, b: Track) -> set[int]:
    """Return the frames in which the two overlap, seen or not."""
    mine, theirs = _places(a), _places(b)
    return {frame for frame in mine.keys() & theirs.keys() if iou(mine[frame], theirs[frame]) > CONTACT}


def _alone(track: Track, tracks: Sequence[Track]) -> set[int]:
    touched = set().union(*(_touching(track, other) for other in tracks if other.id != track.id), set())
    return set(track.frames) - touched


def _contacts(track: Track, tracks: Sequence[Track]) -> list[tuple[int, int, set[int]]]:
    """Return the spells (first frame, last frame, others met) in which the track overlaps another or is unseen.

    Spells with fewer than `ENOUGH` frames between them are one.
    """
    met: dict[int, set[int]] = {frame: set() for frame in set(_places(track)) - set(track.frames)}
    for other in tracks:
        if other.id != track.id:
            for frame in _touching(track, other):
                met.setdefault(frame, set()).add(other.id)
    spells: list[tuple[int, int, set[int]]] = []
    for frame in sorted(met):
        if spells and frame - spells[-1][1] <= ENOUGH:
            start, _, others = spells[-1]
            spells[-1] = (start, frame, others | met[frame])
        else:
            spells.append((frame, frame, set(met[frame])))
    return spells


def _doubtful(track: Track, tracks: Sequence[Track]) -> list[tuple[int, int, set[int]]]:
    """Return the contacts, and outside of them, as spells of no length, the frames from which a person looks like
    nobody of the frame before."""
    contacts = _contacts(track, tracks)
    pairs = zip(track.frames[1:], track.looks, track.looks[1:], strict=False)
    jumps = [frame for frame, before, after in pairs if unlike(before, after) > UNLIKE]
    apart = [f for f in jumps if not any(start - 1 <= f <= end + 1 for start, end, _ in contacts)]
    return [*contacts, *((frame, frame - 1, set[int]()) for frame in apart)]


def _to(other_id: int, tracks: Sequence[Track], start: int, look: Look) -> float:
    other = next(t for t in tracks if t.id == other_id)
    alone = _alone(other, tracks)
    before = [lk for f, lk in zip(other.frames, other.looks, strict=True) if f < start and f in alone][-MEMORY:]
    return unlike(mean_look(before), look) if len(before) >= ENOUGH else 1.0
