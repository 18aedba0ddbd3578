"""A posture said as people say it (an arm raised forwards, a knee bent, a foot planted), and its 22 local turns.

All angles are radians, all lengths leg lengths, all arrays one number (or row) a frame; left and right are said alike.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from manifests.theatre import legs
from manifests.theatre import rotations as turn
from manifests.theatre.curves import Curve
from manifests.theatre.legs import Foot
from manifests.theatre.looping import Frames
from manifests.theatre.motion import JOINTS
from manifests.theatre.rotations import Quaternions, Vectors

SIDES: Final = {"left": 1, "right": -1}

# limits of the joints, after the ranges that physiotherapists measure
_RAISE: Final = (0.0, 2.95)
_TOWARDS: Final = (-0.7, 2.2)
_TWIST: Final = (-1.75, 1.45)
_ELBOW: Final = (0.03, 2.5)
_WRIST: Final = (-1.0, 1.0)
_SPINE: Final = ((-0.45, 1.0), (-0.6, 0.6), (-0.8, 0.8))
_HEAD: Final = ((-0.6, 0.6), (-0.5, 0.5), (-1.2, 1.2))

_HANGING: Final = turn.about(turn.Z, -np.pi / 2)
_COLLAR_FROM: Final = 0.6  # the collar bone helps to raise an arm from here on, by this share
_COLLAR_SHARE: Final = 0.22


@dataclass
class Arm:
    """One arm.

    Attributes:
        lift: Upper arm from hanging, 0 down, pi/2 level, pi up.
        towards: Where it is lifted to: 0 to its own side, pi/2 to the front, above that across the chest.
        twist: About its own length, above 0 inwards: at 0 a hanging arm bends forwards, one held out sideways too; at
            -pi/2 an arm held out sideways bends upwards.
        elbow: 0 straight.
        bend: Of the wrist, above 0 towards the palm.
        aside: Of the wrist, above 0 towards the thumb.
        curl: 0 flat hand to 1 fist.
    """

    lift: Curve
    towards: Curve
    twist: Curve
    elbow: Curve
    bend: Curve
    aside: Curve
    curl: Curve

    def mixed(self, other: "Arm", part: Curve | float) -> "Arm":
        """Return the arm that is `part` (0 to 1) of the way to another one."""
        mine, theirs = vars(self), vars(other)
        return Arm(**{name: mine[name] + part * (theirs[name] - mine[name]) for name in mine})

    def turns(self, side: int) -> dict[str, Quaternions]:
        """Return local turns `[T, 4]` of `collar`, `shoulder`, `elbow` and `wrist`."""
        lift = np.clip(self.lift, *_RAISE)
        towards = np.clip(self.towards, *_TOWARDS)
        axis = np.stack([-np.sin(towards), np.zeros_like(towards), np.cos(towards)], axis=1)
        twisted = turn.multiply(_HANGING, turn.about(turn.X, np.clip(self.twist, *_TWIST)))
        upper = turn.multiply(turn.about(axis, lift), twisted)
        collar = turn.about(turn.Z, _COLLAR_SHARE * np.maximum(lift - _COLLAR_FROM, 0))
        wrist = turn.multiply(
            turn.about(turn.Z, -np.clip(self.bend, *_WRIST)), turn.about(turn.Y, -np.clip(self.aside, -0.5, 0.4))
        )
        found = {
            "collar": collar,
            "shoulder": turn.multiply(turn.inverse(collar), upper),
            "elbow": turn.about(turn.Y, -np.clip(self.elbow, *_ELBOW)),
            "wrist": wrist,
        }
        return found if side > 0 else {joint: turns * turn.MIRRORED for joint, turns in found.items()}


@dataclass
class Posture:
    """A whole body.

    Attributes:
        pelvis: `[T, 3]` turn of the pelvis: pitch forwards, roll to the left, yaw to the left.
        place: `[T, 3]` shift of the pelvis; y is how much it is lowered (below 0) from as high as the legs allow, or,
            above 0, how far the whole figure is in the air.
        spine: `[T, 3]` from pelvis to chest: forwards, to the left, turned to the left.
        head: `[T, 3]` on the chest: nodding down, tilted to the left, turned to the left.
        arms: The arms by side, 1 left and -1 right.
        feet: The feet by side.
    """

    pelvis: Vectors
    place: Vectors
    spine: Vectors
    head: Vectors
    arms: dict[int, Arm]
    feet: dict[int, Foot]

    def above(self, legs_of: "Posture") -> "Posture":
        """Return this trunk, head and arms on the pelvis and feet of another posture."""
        return replace(self, pelvis=legs_of.pelvis, place=legs_of.place, feet=legs_of.feet)

    def frames(self) -> Frames:
        """Return turns `[T, 22, 4]`, translation `[T, 3]` and curl `[T, 2]`."""
        pelvis = _turned(self.pelvis)
        flying = np.maximum(self.place[:, 1], 0)
        place = self.place * np.array([1.0, 0.0, 1.0])
        place[:, 1] = legs.height(pelvis, place, self.feet) + np.minimum(self.place[:, 1], 0)
        found = {"pelvis": pelvis}
        limits = np.array(_SPINE).T
        third = _turned(np.clip(self.spine, *limits) / 3)
        found |= dict.fromkeys(("spine1", "spine2", "spine3"), third)
        half = _turned(np.clip(self.head, *np.array(_HEAD).T) / 2)
        found |= dict.fromkeys(("neck", "head"), half)
        for name, side in SIDES.items():
            limbs = self.arms[side].turns(side) | legs.joints(pelvis, place, self.feet[side], side)
            found |= {f"{name}_{joint}": turns for joint, turns in limbs.items()}
        place[:, 1] += flying
        curl = np.stack([np.clip(self.arms[side].curl, 0, 1) for side in SIDES.values()], axis=1)
        return np.stack([found[joint] for joint in JOINTS], axis=1), place, curl


def _turned(angles: Vectors) -> Quaternions:
    """Return the turn by `[T, 3]` (forwards, to the left, about the vertical): yaw last, so that leaning is seen from
    the figure's own side."""
    forwards, left, yaw = angles.T
    lean = turn.multiply(turn.about(turn.X, forwards), turn.about(turn.Z, -left))
    return turn.multiply(turn.about(turn.Y, yaw), lean)
