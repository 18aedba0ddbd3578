"""The 133 points of COCO-WholeBody on a human rig: 17 body, 6 feet, 68 face, 21 of each hand.

Each is fixed to one joint of the rig. Body points are the joints themselves, so they lie inside; those of the head, the
feet and the finger tips lie on the surface. Left and right are the figure's own.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from manifests.theatre.motion import Array
from manifests.theatre.rig import Pose, Rig
from manifests.theatre.solids import Ints, Mesh

COUNT: Final = 133
BODY: Final = slice(0, 17)
FEET: Final = slice(17, 23)
FACE: Final = slice(23, 91)
LEFT_HAND: Final = slice(91, 112)
RIGHT_HAND: Final = slice(112, 133)

LIMB_JOINTS: Final = tuple(
    f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle") for side in ("left", "right")
)
"""The joints that are body points 5 to 16, in their order."""
FINGERS: Final = ("thumb", "index", "middle", "ring", "pinky")
EYE: Final = (0.42, 0.52)
"""Place of the left eye on the head (see `on_head`)."""


@dataclass(frozen=True)
class Markers:
    """Points fixed to joints: `places` `[133, 3]` m in the frames of the joints `bone` `[133]`."""

    places: Array
    bone: Ints

    def carried(self, pose: Pose) -> Array:
        """Return `[T, 133, 3]` m, the points in the world."""
        return pose.carry(self.places, self.bone)


def face_layout() -> NDArray[np.float64]:
    """Return `[68, 2]`, where the points of the face lie on a head (see `on_head`), in the order of iBUG-68, which
    starts at the figure's right: jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, lips 48-67."""
    turn = np.linspace(-1, 1, 17)
    jaw = np.stack([1.45 * turn, 0.5 - 0.47 * np.sqrt(1 - turn**2 * 0.97)], axis=1)
    across = np.linspace(-1, 1, 5)
    brow = np.stack([EYE[0] + 0.24 * across, EYE[1] + 0.13 - 0.025 * across**2 - 0.01 * across], axis=1)
    bridge = np.stack([np.zeros(4), np.linspace(EYE[1], 0.36, 4)], axis=1)
    nostrils = np.stack([0.16 * across, 0.315 - 0.02 * (1 - across**2)], axis=1)
    # inner corner, two above, outer corner, two below
    eye = np.array([(-1, 0), (-0.4, 1), (0.4, 1), (1, 0), (0.4, -1), (-0.4, -1)]) * (0.13, 0.03) + EYE
    mirror = np.array([-1, 1])
    # the right eye runs from its outer corner to its inner one, then back below
    right_eye = eye[[3, 2, 1, 0, 5, 4]] * mirror
    lips = [_loop(7, 0.32, 0.2, 0.045), _loop(5, 0.24, 0.2, 0.015)]
    return np.concatenate([jaw, brow[::-1] * mirror, brow, bridge, nostrils, right_eye, eye, *lips])


def _loop(above: int, half: float, height: float, thick: float) -> NDArray[np.float64]:
    """Return points round a mouth: `above` from the right corner over the top to the left one, then back below."""
    turn = np.linspace(-1, 1, above)
    top = np.stack([half * turn, height + thick * (1 - turn**2)], axis=1)
    return np.concatenate([top, (top * (1, -1) + (0, 2 * height))[-2:0:-1]])


def on_head(head: Mesh, around: NDArray[np.floating], up: NDArray[np.floating]) -> Array:
    """Return `[N, 3]` m, points on the surface of a convex head.

    Args:
        head: The head, facing z.
        around: `[N]` angle about its upright axis, rad, 0 in front, above zero to the figure's left.
        up: `[N]` height, 0 at the lowest and 1 at the highest point of the head.
    """
    low, high = head.vertices.min(axis=0), head.vertices.max(axis=0)
    start = np.broadcast_to((low + high) / 2, (len(around), 3)).astype(np.float64)
    start = np.stack([start[:, 0], low[1] + np.asarray(up) * (high[1] - low[1]), start[:, 2]], axis=1)
    ray = np.stack([np.sin(around), np.zeros(len(around)), np.cos(around)], axis=1)
    corners = head.vertices.astype(np.float64)[head.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    # from inside a convex body a ray leaves by the nearest plane that it moves out through
    speed = ray @ normal.T
    gap = np.einsum("fi,fi->f", corners[:, 0], normal) - start @ normal.T
    leaves = speed > 1e-12
    distance = np.where(leaves, gap / np.where(leaves, speed, 1), np.inf).min(axis=1)
    points: Array = (start + ray * np.maximum(distance, 0)[:, None]).astype(np.float32)
    return points


def markers(rig: Rig, head: Mesh, foot: tuple[Mesh, Mesh], tips: dict[str, Array]) -> Markers:
    """Return the points of a human rig.

    Args:
        rig: Its joints have SMPL-X's names (`left_index1` for the first knuckle, and so on).
        head: The head's mesh at rest, in the world, without hair.
        foot: The meshes of the left foot at rest: from the ankle to the ball, and the toes.
        tips: Place at rest of the tip of each finger, `left_thumb` to `right_pinky`.
    """
    joints, rest = {name: i for i, name in enumerate(rig.joints)}, rig.places()
    bone, place = np.zeros(COUNT, np.int32), np.zeros((COUNT, 3), np.float32)

    around, up = face_layout().T
    bone[FACE], bone[0:5] = joints["head"], joints["head"]
    place[FACE] = on_head(head, around, up)
    heads = np.array([(0.0, 0.36), EYE, (-EYE[0], EYE[1]), (1.55, 0.45), (-1.55, 0.45)])
    place[0:5] = on_head(head, heads[:, 0], heads[:, 1])
    for index, name in enumerate(LIMB_JOINTS, start=5):
        bone[index], place[index] = joints[name], rest[joints[name]]
    _feet(bone, place, joints, foot)
    for side, hand in (("left", LEFT_HAND), ("right", RIGHT_HAND)):
        bone[hand.start], place[hand.start] = joints[f"{side}_wrist"], rest[joints[f"{side}_wrist"]]
        for finger, name in enumerate(FINGERS):
            first = hand.start + 1 + 4 * finger
            knuckles = [joints[f"{side}_{name}{i}"] for i in (1, 2, 3)]
            bone[first : first + 4] = [*knuckles, knuckles[-1]]
            place[first : first + 3], place[first + 3] = rest[knuckles], tips[f"{side}_{name}"]
    return Markers(place - rest[bone], bone)


def _feet(bone: Ints, place: Array, joints: dict[str, int], foot: tuple[Mesh, Mesh]) -> None:
    """Set the points of the feet: extreme corners of the left one, and their mirror images."""
    back, toes = foot
    ends = (
        ("foot", toes.vertices @ np.array([-0.4, 0, 1], np.float32), toes),  # big toe: forward and inward
        ("foot", toes.vertices @ np.array([1, 0, 0.6], np.float32), toes),  # small toe: outward
        ("ankle", back.vertices @ np.array([0, -0.5, -1], np.float32), back),  # heel: backward and down
    )
    for index, (name, reach, mesh) in enumerate(ends):
        point = mesh.vertices[reach.argmax()]
        for start, side, mirror in ((FEET.start, "left", 1), (FEET.start + 3, "right", -1)):
            bone[start + index] = joints[f"{side}_{name}"]
            place[start + index] = point * np.array([mirror, 1, 1], np.float32)
