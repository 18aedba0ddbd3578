"""How near a posture comes to the ground: the lowest point of a body of balls and foot corners on the 22 joints.

Two bodies of unlike proportions, in the same posture and with their pelvises equally high, do not meet the ground
alike: one floats or the other sinks in. So a captured posture is carried over with its clearance: as far above the
ground as the captured body was, so far is the average one.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from manifests.theatre import rotations as turn
from manifests.theatre.curves import smooth
from manifests.theatre.motion import JOINTS, PARENTS
from manifests.theatre.rotations import Quaternions, Vectors

Place = tuple[float, float, float]


@dataclass(frozen=True)
class Body:
    """Proportions, in leg lengths.

    Attributes:
        offsets: `[22, 3]`, each joint's place in its parent's frame, in the T-pose.
        joints: `[N]`, which joint carries each ball.
        centres: `[N, 3]`, in that joint's frame.
        radii: `[N]`.
    """

    offsets: Vectors
    joints: tuple[int, ...]
    centres: Vectors
    radii: Vectors

    def lowest(self, turns: Quaternions) -> Vectors:
        """Return `[T]`, how high above the pelvis (so below 0) the lowest point is in local turns `[T, 22, 4]`."""
        world, places = [turns[:, 0]], [np.zeros((len(turns), 3))]
        for joint, parent in enumerate(PARENTS[1:], start=1):
            world.append(turn.multiply(world[parent], turns[:, joint]))
            places.append(places[parent] + turn.rotate(world[parent], self.offsets[joint]))
        heights = [
            (places[joint] + turn.rotate(world[joint], centre))[:, 1] - radius
            for joint, centre, radius in zip(self.joints, self.centres, self.radii, strict=True)
        ]
        return np.asarray(np.min(heights, axis=0))

    def height(self) -> float:
        """Return how high the pelvis is when the body stands at rest."""
        rest = np.tile([1.0, 0.0, 0.0, 0.0], (1, len(JOINTS), 1))
        return -float(self.lowest(rest)[0])


def body(unit_m: float, offsets: dict[str, Place], balls: list[tuple[str, Place, float]]) -> Body:
    """Return a body given in units of `unit_m` leg lengths; `left_` joints and balls stand for the right ones too."""
    placed = {joint: np.zeros(3) for joint in JOINTS}
    carried = []
    for joint, place in offsets.items():
        for name, sign in _sides(joint):
            placed[name] = unit_m * np.array(place) * (sign, 1, 1)
    for joint, centre, radius in balls:
        carried += [
            (JOINTS.index(name), unit_m * np.array(centre) * (sign, 1, 1), unit_m * radius)
            for name, sign in _sides(joint)
        ]
    joints, centres, radii = zip(*carried, strict=True)
    return Body(np.stack([placed[joint] for joint in JOINTS]), joints, np.stack(centres), np.array(radii))


def _sides(joint: str) -> tuple[tuple[str, int], ...]:
    if not joint.startswith("left_"):
        return ((joint, 1),)
    return ((joint, 1), (joint.replace("left_", "right_"), -1))


AVERAGE: Final = body(
    1 / 0.7834,  # metres
    {
        "left_hip": (0.061, -0.098, -0.024), "left_knee": (0.050, -0.371, -0.013),
        "left_ankle": (-0.030, -0.407, -0.026), "left_foot": (0.043, -0.058, 0.119),
        "spine1": (0, 0.110, -0.028), "spine2": (0, 0.132, -0.006), "spine3": (0, 0.052, 0.028),
        "neck": (0, 0.165, -0.032), "head": (0, 0.160, 0.020), "left_collar": (0.047, 0.085, -0.010),
        "left_shoulder": (0.111, 0.056, -0.014), "left_elbow": (0.263, -0.054, -0.034),
        "left_wrist": (0.251, 0.009, -0.009),
    },
    [
        ("pelvis", (0, -0.03, 0), 0.11), ("left_hip", (0, 0, -0.02), 0.09), ("left_knee", (0, 0, 0), 0.055),
        ("left_ankle", (0, -0.077, -0.06), 0), ("left_ankle", (-0.02, -0.077, 0.13), 0),
        ("left_ankle", (0.08, -0.077, 0.13), 0), ("left_foot", (0, -0.019, 0.08), 0), ("spine3", (0, 0, 0), 0.12),
        ("left_shoulder", (0, 0, 0), 0.055), ("head", (0, 0.07, 0.02), 0.11), ("left_elbow", (0, 0, 0), 0.04),
        ("left_wrist", (0, 0, 0), 0.03), ("left_wrist", (0.17, 0, 0), 0.015),
    ],
)  # fmt: skip
"""The average person of `mannequin`, rounded."""

CAPTURED: Final = body(
    1 / (1.686184 + 1.639480),  # the units of humanoid.urdf, which is four times as large as life
    {
        "left_hip": (0.339548, 0, 0), "left_knee": (0, -1.686184, 0), "left_ankle": (0, -1.639480, 0),
        "spine1": (0, 0.944604, 0), "neck": (0, 0.895576, 0), "left_shoulder": (0.732440, 0.974, -0.0962),
        "left_elbow": (1.099152, 0, 0), "left_wrist": (1.035788, 0, 0),
    },
    [
        ("pelvis", (0, 0.28, 0), 0.36), ("spine3", (0, 0.48, 0), 0.44), ("head", (0, 0.7, 0), 0.41),
        ("left_hip", (0, -0.24, 0), 0.22), ("left_knee", (0, -0.18, 0), 0.2), ("left_shoulder", (0.2, 0, 0), 0.18),
        ("left_elbow", (0.21, 0, 0), 0.16), ("left_wrist", (0, 0, 0), 0.16),
        *(("left_ankle", (x, -0.2, z), 0.0) for x in (-0.18, 0.18) for z in (-0.174, 0.534)),
        *(("left_ankle", (x, 0.02, z), 0.0) for x in (-0.18, 0.18) for z in (-0.174, 0.534)),
    ],
)  # fmt: skip
"""The figure of the captured clips, with the balls, capsules and boxes by which it collides."""


_NEAR: Final = 0.05  # leg lengths above the ground: up to here the clearance counts
_FAR: Final = 0.8  # from here on, in flight, only the path of the pelvis does


def carried(turns: Quaternions, height: Vectors) -> Vectors:
    """Return the shift up `[T]` of the average pelvis from rest, given that of the captured one above the ground.

    Both in leg lengths; `turns` `[T, 22, 4]` are those of the average body, which are the captured ones in our axes.
    What of the captured body is under the ground comes up to it.
    """
    clearance = height + CAPTURED.lowest(turns)
    near = np.maximum(clearance, 0.0) - AVERAGE.lowest(turns) - AVERAGE.height()
    far = height - CAPTURED.height()
    flight = smooth((clearance - _NEAR) / (_FAR - _NEAR))
    return np.asarray(near + flight * (far - near))
