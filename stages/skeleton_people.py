"""One clip as it goes by: whose points are whose, and whether the whole can be used."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from model.skeleton import BODY, POINTS, Pixels, Points, box_of, same_body
from stages.looks import Look, look_of_body, look_of_box
from stages.skeleton_flips import EXCHANGED, flipped_frames
from stages.stage import Reject, Row
from stages.tracking import Box, Track, Tracker, alike_and_lost, area, in_order, strain, switches

if TYPE_CHECKING:
    from stages.skeleton import PoseAdapter, SkeletonConfig

_NEARLY = 0.8  # share of a least size from which a box is followed: boxes vary, and only the median must be large


class Film:
    """One clip as it goes by: what is seen of whom. Holds points, boxes and looks, never frames."""

    def __init__(self, config: "SkeletonConfig", adapter: "PoseAdapter", max_gap: int) -> None:
        self.config, self.adapter = config, adapter
        self.tracker = Tracker(max_gap)  # whom a box belongs to, found boxes included
        self.people: dict[int, Track] = {}  # only where points were seen
        self.points: dict[int, dict[int, Points]] = {}  # track -> frame -> [133, 3]
        self.frames = 0
        self._searched = -config.detect_every  # first frame of the last block in which people were looked for
        self._missed = False  # somebody who is followed was not seen in the last frame
        self.size_px = (0, 0)  # height, width
        adapter.reset()

    def take(self, block: Pixels) -> None:
        """Take the next frames, uint8 [n, H, W, 3]."""
        self.size_px = block.shape[1], block.shape[2]
        due = self._due(len(block))
        wanted: list[dict[int, Box]] = [{} for _ in block]
        found = dict(zip(due, self.adapter.people(block[:: due.step]) if due else [], strict=True))
        for k in range(len(block)):
            frame = self.frames + k
            if k in found:
                large = [box for box in found[k] if long_side(box) >= _NEARLY * self.least_px]
                boxes = [box[:4] for box in large]
                looks = [look_of_box(block[k], box) for box in boxes]
                self.tracker.match(frame, boxes, [float(box[4]) for box in large], looks)
            wanted[k] = {t.id: t.box_at(frame) for t in self._followed(frame)}
        for k, people in enumerate(self.adapter.keypoints(block, wanted)):
            self._see(self.frames + k, block[k], people)
        last = self.frames + len(block) - 1
        self._missed = any(last not in self.points.get(track, {}) for track in wanted[-1])
        self.frames += len(block)

    def _due(self, length: int) -> range:
        """The frames of the next block in which people are looked for: all if so wished; else the first, if it is
        time or somebody was lost; or none."""
        if self.config.detect_every == 1:
            return range(length)
        if self._missed or self.frames - self._searched >= self.config.detect_every:
            self._searched = self.frames
            return range(0, length, length)
        return range(0)

    @property
    def least_px(self) -> float:
        """Long side of a box, px, from which a person is large enough."""
        return max(float(self.config.min_person_px), self.config.min_person_share * max(self.size_px))

    def _followed(self, frame: int) -> list[Track]:
        """The largest living tracks: one more than are kept, since the next one may cross or replace them. People far
        behind the largest are not followed: it would cost as much as following the main one."""
        tracks = sorted(self.tracker.living(frame), key=lambda t: (-area(t.boxes[-1]), t.id))
        least = _NEARLY * self.config.min_other_size * max((long_side(t.boxes[-1]) for t in tracks), default=0.0)
        return [t for t in tracks if long_side(t.boxes[-1]) >= least][: self.config.max_people + 1]

    def _see(self, frame: int, picture: Pixels, people: Mapping[int, Points]) -> None:
        kept: dict[int, tuple[Points, Box, Look]] = {}
        for track, points in sorted(people.items()):
            box = box_of(points, self.config.min_score)
            if box is not None and int((points[BODY, 2] >= self.config.min_score).sum()) >= self.config.min_points:
                kept[track] = points, box, look_of_body(picture, points, box)
        for a, b in combinations(sorted(kept), 2):
            if a in kept and b in kept and same_body(kept[a][0], kept[b][0], self.config.min_score):
                lost = self._strained(a, b, frame, kept[a][1], kept[a][2])
                del kept[lost]
                self.adapter.forget(lost)
        for track, (points, box, look) in kept.items():
            score = float(points[BODY, 2].mean())
            self.points.setdefault(track, {})[frame] = points
            self.people.setdefault(track, Track(track)).put(frame, box, score, look)
            self.tracker.see(track, frame, box, score, look_of_box(picture, box))

    def _strained(self, a: int, b: int, frame: int, box: Box, look: Look) -> int:
        """Return which of two tracks that claim one body must let go; if both fit it equally, the younger."""
        return max(a, b, key=lambda i: (round(strain(self.people.get(i), frame, box, look), 6), i))


def verdict(film: Film, config: "SkeletonConfig") -> Row | Reject:
    """Give what the film shows as columns, or the reason why it cannot be used."""
    total = film.frames
    tracks = in_order(list(film.people.values()))
    if not tracks:
        if config.no_person == "empty":
            return _columns(film, [])
        return Reject("no_person", f"No person was found in any of the {total} frames.")
    main = tracks[0]
    least_px = film.least_px
    if person_px(main) < least_px:
        small = f"The largest person is {person_px(main):.0f} px long (median), wanted at least {least_px:.0f} px"
        return Reject("person_too_small", f"{small} in a picture of {film.size_px[1]} x {film.size_px[0]} px.")
    if len(main.frames) < config.min_seen_share * total:
        return Reject("person_lost", _lost(main, tracks, total, config))
    least_px = max(least_px, config.min_other_size * person_px(main))
    others = [t for t in tracks[1:] if len(t.frames) >= config.min_other_share * total and person_px(t) >= least_px]
    if 1 + len(others) > config.max_people and config.on_more_people == "reject":
        return Reject("too_many_people", f"{1 + len(others)} people are seen, wanted at most {config.max_people}.")
    kept = [main, *others][: config.max_people]
    mixed = _mixed(kept, tracks)
    return Reject("identity_switch", mixed) if mixed else _columns(film, kept)


def _lost(main: Track, tracks: Sequence[Track], total: int, config: "SkeletonConfig") -> str:
    share = len(main.frames) / total
    rest = sum(len(t.frames) >= config.min_other_share * total for t in tracks[1:])
    return (
        f"The main person is seen in {len(main.frames)} of {total} frames ({share:.0%}, between frames "
        f"{main.frames[0]} and {main.frames[-1]}), wanted {config.min_seen_share:.0%}; people seen besides: {rest}."
    )


def _mixed(kept: Sequence[Track], tracks: Sequence[Track]) -> str | None:
    """Return a sentence on the first track in which two people were mixed or cannot be told apart, if there is one."""
    ids = {t.id for t in kept}
    rank = {t.id: i + 1 for i, t in enumerate(kept)}
    for switch in switches(tracks):
        if switch.track in ids:
            return (
                f"Person {rank[switch.track]} is another one from frame {switch.frame} on: the look is "
                f"{switch.to_own:.2f} from their own before and {switch.to_other:.2f} from the nearest other person's."
            )
    for a, b, frame in alike_and_lost(tracks):
        if {a, b} & ids:
            return (
                f"Two people who look alike cover each other until frame {frame}: who is who afterwards is not known."
            )
    return None


def _columns(film: Film, kept: Sequence[Track]) -> Row:
    skeleton = np.zeros((film.frames, len(kept), POINTS, 3), np.float32)
    boxes = np.zeros((film.frames, len(kept), 4), np.float32)
    mended = []
    for i, track in enumerate(kept):
        points = film.points[track.id]
        flipped = flipped_frames(points, film.config.min_score) if film.config.mend_flips else []
        mended.append(len(flipped))
        for frame, box in zip(track.frames, track.boxes, strict=True):
            skeleton[frame, i] = points[frame][EXCHANGED] if frame in flipped else points[frame]
            boxes[frame, i] = box
    return {
        "skeleton": skeleton,
        "boxes": boxes,
        "people": len(kept),
        "seen_share": [round(len(t.frames) / film.frames, 4) for t in kept],
        "mean_score": [round(float(np.mean(t.scores)), 4) for t in kept],
        "person_px": [round(person_px(t), 1) for t in kept],
        "mended": mended,
    }


def person_px(track: Track) -> float:
    """Return the median long side of a track's boxes, px."""
    return float(np.median([long_side(box) for box in track.boxes]))


def long_side(box: Box) -> float:
    """Return the long side of x0, y0, x1, y1 px."""
    return float(max(box[2] - box[0], box[3] - box[1]))
