"""What a motion and a figure are: the two halves of a performance, and how one drives the other.

World: metres, x to the figure's left, y up, z to where it faces at rest; the ground is y = 0. All rotations are local
(child in its parent's frame) and identity in the T-pose, as in SMPL-X, whose 22 body joints are the joints of a motion.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

JOINTS: Final = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
)  # fmt: skip
PARENTS: Final = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)


@dataclass(frozen=True)
class Motion:
    """A motion of T frames, free of any body: the same one drives figures of every size and kind.

    Attributes:
        name: The name under which `motions.motion` makes it again.
        fps: Frames a second.
        rotations: `[T, 22, 3, 3]`, local, in the order of `JOINTS`; that of the pelvis turns the whole figure.
        translation: `[T, 3]` shift of the pelvis from its place when the figure stands in rest, in leg lengths (hip to
            ankle along the bones), so that a child takes shorter steps than a giant.
        curl: `[T, 2]` how far the left and the right hand are closed, 0 flat to 1 fist.
    """

    name: str
    fps: float
    rotations: Array
    translation: Array
    curl: Array

    def __len__(self) -> int:
        return len(self.rotations)


@dataclass(frozen=True)
class Paint:
    """Colours of one part. `pattern` is one of `plain`, `stripes`, `hoops`, `dots`, `checks`; it alternates `first` and
    `second` (RGB, 0..1) along the part's own coordinates, `period_m` metres from one stripe to its like."""

    first: tuple[float, float, float]
    second: tuple[float, float, float]
    pattern: str = "plain"
    period_m: float = 0.1


@dataclass(frozen=True)
class Figure:
    """A body of rigid parts on a tree of joints, with its paints.

    Attributes:
        name: The name under which `figures.figure` makes it again.
        kind: `human`, or a kind of `creatures` (`quadruped`, `bird`, ...).
        vertices: `[V, 3]` m, in the rest pose, feet on the ground, pelvis above the origin.
        faces: `[F, 3]` triangles, counter-clockwise seen from outside.
        part: `[F]` index into `paints`.
        paints: The paint of each part.
        leg_m: Leg length, hip to ankle along the bones, which scales a motion's translation.
        height_m: Height in rest.
    """

    name: str
    kind: str
    vertices: Array
    faces: NDArray[np.int32]
    part: NDArray[np.int32]
    paints: tuple[Paint, ...]
    leg_m: float
    height_m: float


@dataclass(frozen=True)
class Performance:
    """A figure in a motion.

    Attributes:
        vertices: `[T, V, 3]` m.
        points: `[T, 133, 3]` m, the 133 points of COCO-WholeBody. For a figure that is not human: those of the human
            who drives it (an average body in the same motion, scaled to the figure's leg length), since that is the
            skeleton that a pose-driven model would be given.
        given: `[133]` bool, the points that exist.
    """

    vertices: Array
    points: Array
    given: NDArray[np.bool_]
