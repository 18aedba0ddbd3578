"""Motions by name: captured ones and our own, cut, mirrored, faster or slower, turned, at any frame rate.

The grammar of a name, parsed in `parse` and nowhere else:

    name   = base [ "@" start ] [ "~m" ] [ "*" tempo ] [ "^" degrees ]
    base   = a name of `capture.CLIPS`, such as walk, or one of ours: a family of `procedural` and a number, wave-042
    start  = seconds into the motion at which the first frame lies; 0 if not given
    ~m     = mirrored: left and right change places
    tempo  = times as fast, 0.25 to 4; 1 if not given
    degrees = heading of the first frame, to the figure's left; 0 (facing +z) if not given

so `walk@0.6~m*1.3^90` is the mirrored walk from 0.6 s on, 1.3 times as fast, towards the figure's left.
"""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np

from manifests.errors import UserError
from manifests.theatre import capture, looping, procedural
from manifests.theatre import rotations as turn
from manifests.theatre.motion import JOINTS, Motion
from manifests.theatre.rotations import Quaternions, Vectors

_NUMBER: Final = r"\d{1,4}(?:\.\d{1,4})?"
_NAME: Final = re.compile(
    rf"(?P<base>[a-z][a-z0-9_-]*)(?:@(?P<start>{_NUMBER}))?(?P<mirrored>~m)?"
    rf"(?:\*(?P<tempo>{_NUMBER}))?(?:\^(?P<degrees>-?{_NUMBER}))?"
)
_TEMPI: Final = (0.25, 4.0)


class MotionNameError(UserError):
    """No motion has this name."""


@dataclass(frozen=True)
class Name:
    """A parsed name, as in the grammar above."""

    base: str
    start_s: float = 0.0
    mirrored: bool = False
    tempo: float = 1.0
    degrees: float = 0.0


def parse(name: str) -> Name:
    """Return the parts of a name.

    Raises:
        MotionNameError: The name does not follow the grammar, or no motion has its base.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise MotionNameError(
            f"{name!r} is no motion's name; wanted base[@start_s][~m][*tempo][^degrees], such as walk@0.6~m*1.3^90"
        )
    tempo = float(match["tempo"] or 1)
    if not _TEMPI[0] <= tempo <= _TEMPI[1]:
        raise MotionNameError(f"the motion {name!r} has tempo {tempo:g}; wanted {_TEMPI[0]:g} to {_TEMPI[1]:g}")
    if match["base"] not in capture.CLIPS and not procedural.known(match["base"]):
        raise MotionNameError(
            f"there is no motion {match['base']!r}; there are {', '.join(capture.CLIPS)}, and with a number from 000 "
            f"to 999, as in wave-042, {', '.join(procedural.FAMILIES)}"
        )
    return Name(match["base"], float(match["start"] or 0), bool(match["mirrored"]), tempo, float(match["degrees"] or 0))


def motion(name: str, frames: int, fps: float) -> Motion:
    """Make the motion of that name: `frames` frames at `fps`, the same bytes at every call.

    The first frame stands over the origin, facing +z but for `^degrees`. A motion shorter than asked for goes on as
    `looping` says.

    Raises:
        MotionNameError: No motion has this name.
        capture.CaptureError: It is a captured one, and the clips are not installed.
    """
    parts = parse(name)
    times = parts.start_s + np.arange(frames) / fps * parts.tempo
    if parts.base in capture.CLIPS:
        turns, translation, curl = looping.at(capture.clip(parts.base), times)
    else:
        turns, translation, curl = procedural.at(parts.base, times)
    if parts.mirrored:
        turns, translation, curl = mirrored(turns, translation, curl)
    towards = turn.about(turn.Y, np.radians(parts.degrees))
    turns, translation = facing(towards, turns, translation)
    return Motion(
        name,
        float(fps),
        turn.matrices(turns).astype(np.float32),
        translation.astype(np.float32),
        curl.astype(np.float32),
    )


_SIDES: Final = {"left": "right", "right": "left"}
_OTHER: Final = [
    JOINTS.index(_SIDES[side] + "_" + rest if (side := joint.partition("_")[0]) in _SIDES else joint)
    for joint in JOINTS
    for rest in [joint.partition("_")[2]]
]


def mirrored(turns: Quaternions, translation: Vectors, curl: Vectors) -> looping.Frames:
    """Return the motion in a mirror at x = 0: joints change sides, x changes sign, turns about y and z change sense."""
    return turns[:, _OTHER] * turn.MIRRORED, translation * np.array([-1.0, 1.0, 1.0]), curl[:, ::-1]


def facing(towards: Quaternions, turns: Quaternions, translation: Vectors) -> tuple[Quaternions, Vectors]:
    """Turn the whole about the vertical so that the first frame has heading `towards`, and put it over the origin."""
    whole = turn.multiply(towards, turn.inverse(turn.heading(turns[0, 0])))
    turns = turns.copy()
    turns[:, 0] = turn.multiply(whole, turns[:, 0])
    return turns, turn.rotate(whole, translation - translation[0] * np.array([1.0, 0.0, 1.0]))


def with_lead_in(motion: Motion, pose_from: Motion, frames: int) -> Motion:
    """Return `motion` with its first `frames` frames blended from another pose.

    Frame 0 is the pose of the first frame of `pose_from`, under the heading and over the place of `motion`'s frame
    `frames`; from there each joint goes by slerp, with a soft start and end, and frame `frames` and all later ones are
    those of `motion`, to the bit.

    Raises:
        UserError: `motion` has not more than `frames` frames.
    """
    if not 0 < frames < len(motion):
        raise UserError(f"a lead-in of {frames} frames into a motion of {len(motion)}; wanted 1 to {len(motion) - 1}")
    start, goal = turn.from_matrices(pose_from.rotations[0]), turn.from_matrices(motion.rotations[frames])
    level = turn.multiply(turn.heading(goal[0]), turn.inverse(turn.heading(start[0])))
    start[0] = turn.multiply(level, start[0])
    part = np.arange(frames) / frames
    part = part**2 * (3 - 2 * part)
    rotations, translation, curl = motion.rotations.copy(), motion.translation.copy(), motion.curl.copy()
    rotations[:frames] = turn.matrices(turn.slerp(start, goal, part[:, None]))
    place = motion.translation[frames].copy()
    place[1] = pose_from.translation[0, 1]
    translation[:frames] = place + part[:, None] * (motion.translation[frames] - place)
    curl[:frames] = pose_from.curl[0] + part[:, None] * (motion.curl[frames] - pose_from.curl[0])
    return Motion(motion.name, motion.fps, rotations, translation, curl)


_SPLITS: Final = ("train", "held_out")
_HELD_OUT: Final = frozenset({"dance_a", "getup_faceup", "jump", "punch"})  # no other clip holds their poses
_STARTS_EVERY_S: Final = 0.25
_PLAYED: Final = tuple(side + tempo for side in ("", "~m") for tempo in ("*0.7", "*0.85", "", "*1.15", "*1.35"))


def names(split: str, easy: bool = False) -> tuple[str, ...]:
    """Return the names of a split, `train` or `held_out`.

    Whole clips, whole families and, of the other families, whole numbers are held out. The easy ones face the front,
    stay where they are, upright, with their feet on the ground but for small hops; none of the captured ones does.

    Raises:
        UserError: There is no such split, or (unless `easy`) the capture clips are not installed.
    """
    if split not in _SPLITS:
        raise UserError(f"there is no split {split!r} of the motions; there are {' and '.join(_SPLITS)}")
    found = list(procedural.names(split, easy))
    for base in () if easy else capture.CLIPS:
        if (base in _HELD_OUT) == (split == "held_out"):
            starts = np.arange(0, capture.clip(base).seconds - _STARTS_EVERY_S / 2, _STARTS_EVERY_S)
            found += [f"{base}{f'@{start:g}' if start else ''}{played}" for start in starts for played in _PLAYED]
    return tuple(found)
