"""Figures that are not human: which kinds there are, how one is made from its name, how it moves.

Each stands at rest with its pelvis above the origin and faces z. Its joints are those of its kind in
`correspondences.CORRESPONDENCES`, which says what drives them.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from manifests.theatre import animals, palette, toys
from manifests.theatre.anatomy import Coat
from manifests.theatre.correspondences import driven
from manifests.theatre.motion import Array, Motion, Paint
from manifests.theatre.names import seeded
from manifests.theatre.rig import Assembly, Rig, pose

BUILDERS: Final[dict[str, Callable[[Assembly, np.random.Generator, Coat], None]]] = {
    "quadruped": animals.quadruped,
    "bird": animals.bird,
    "robot": toys.robot,
    "snowman": toys.snowman,
    "octopus": animals.octopus,
}
KINDS: Final = tuple(BUILDERS)


def creature(name: str, kind: str, number: int) -> Rig:
    """Return the creature of this name; `number` is the name's, which says whether it is held out."""
    rng = seeded("figure", name)
    first, second = (palette.shade(rng, family) for family in palette.families(rng, number))
    body = palette.paint(rng, first, second, 0.45, 1.6)
    limbs = Paint(first, first) if rng.random() < 0.5 else body
    dark = palette.darker(second, 0.5)
    into = Assembly()
    BUILDERS[kind](into, rng, Coat(body, limbs, Paint(second, second), Paint(dark, dark)))
    return into.rig()


def leg_m(rig: Rig) -> float:
    """Return the length, m, of a creature's leg: the bones from thigh to foot, or those of a tentacle that stands."""
    joints = ("thigh", "shin", "foot") if "left_thigh" in rig.joints else ("frontleg1", "frontleg2", "frontleg3")
    return rig.length(*(f"left_{joint}" for joint in joints))


def moved(kind: str, rig: Rig, motion: Motion, clearance: Array) -> Array:
    """Return `[T, V, 3]` m, a creature in a motion.

    Over the ground its pelvis goes where the motion's translation, in lengths of its leg, takes it. How high it is
    follows from the ground: a body of other proportions with its pelvis as high would float where the human stands, or
    sink in where the human lies. So its lowest corner is as far above the ground, in lengths of its leg, as the lowest
    point of the average human is in the same motion: `clearance` `[T]`, 0 or more.
    """
    shift = motion.translation * np.float32(leg_m(rig))
    vertices = pose(rig, driven(kind, rig, motion.rotations), shift).carry(rig.vertices, rig.bone)
    vertices[..., 1] += (clearance * np.float32(leg_m(rig)) - vertices[..., 1].min(axis=1))[:, None]
    return vertices
