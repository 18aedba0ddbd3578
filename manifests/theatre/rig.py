"""Rigid parts on a tree of joints: how figures are put together and how they move.

Every joint's frame is parallel to the world's in the rest pose, so that an offset, a part's corners and a rotation are
all stated in the same axes: x to the figure's left, y up, z to its front.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from manifests.theatre.motion import Array, Paint
from manifests.theatre.solids import Ints, Mesh


@dataclass(frozen=True)
class Rig:
    """Joints and the rigid parts on them.

    Attributes:
        joints: Names; the first is the root.
        parents: Index of each joint's parent, -1 for the root; a parent comes before its children.
        offsets: `[J, 3]` m, each joint's place in its parent's frame; the root's place in the world at rest.
        vertices: `[V, 3]` m, in the frame of the joint that carries it.
        bone: `[V]` index of that joint.
        faces: `[F, 3]`.
        part: `[F]` index into `paints`.
        paints: The paints.
    """

    joints: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: Array
    vertices: Array
    bone: Ints
    faces: Ints
    part: Ints
    paints: tuple[Paint, ...]

    def places(self) -> Array:
        """Return `[J, 3]` m, where the joints are at rest."""
        places = self.offsets.copy()
        for joint, parent in enumerate(self.parents[1:], start=1):
            places[joint] += places[parent]
        return places

    def length(self, *chain: str) -> float:
        """Return the length, m, of the bones that join the named joints, each the parent of the next."""
        return float(sum(np.linalg.norm(self.offsets[self.joints.index(name)]) for name in chain[1:]))


@dataclass(frozen=True)
class Pose:
    """Where the joints of a rig are: `places` `[T, J, 3]` m and `turns` `[T, J, 3, 3]`, both in the world."""

    places: Array
    turns: Array

    def carry(self, points: Array, bone: Ints) -> Array:
        """Return `[T, N, 3]` m, the points `[N, 3]` given in the frames of the joints `bone` `[N]`, in the world."""
        moved = np.empty((len(self.places), len(points), 3), np.float32)
        for joint in np.unique(bone):
            mine = bone == joint
            moved[:, mine] = points[mine] @ self.turns[:, joint].transpose(0, 2, 1) + self.places[:, None, joint]
        return moved


def pose(rig: Rig, rotations: Array, shift: Array) -> Pose:
    """Return where the joints are, given local rotations `[T, J, 3, 3]` and the shift of the root `[T, 3]` m."""
    places, turns = np.empty((*rotations.shape[:2], 3), np.float32), np.empty(rotations.shape, np.float32)
    turns[:, 0], places[:, 0] = rotations[:, 0], rig.offsets[0] + shift
    for joint, parent in enumerate(rig.parents[1:], start=1):
        turns[:, joint] = turns[:, parent] @ rotations[:, joint]
        places[:, joint] = places[:, parent] + turns[:, parent] @ rig.offsets[joint]
    return Pose(places, turns)


class Assembly:
    """A rig under construction: joints and parts are given where they are in the rest pose."""

    def __init__(self) -> None:
        self._places: dict[str, Array] = {}
        self._parents: list[int] = []
        self._meshes: list[tuple[int, Mesh, int]] = []
        self._paints: list[Paint] = []

    def joint(self, name: str, parent: str | None, place: ArrayLike) -> None:
        """Add a joint at `place` `[3]` m; the first has no parent."""
        self._parents.append(-1 if parent is None else list(self._places).index(parent))
        self._places[name] = np.asarray(place, np.float32)

    def place(self, name: str) -> Array:
        """Return where a joint is, `[3]` m."""
        return self._places[name]

    def add(self, joint: str, mesh: Mesh, paint: Paint) -> None:
        """Hang a mesh on a joint."""
        if paint not in self._paints:
            self._paints.append(paint)
        self._meshes.append((list(self._places).index(joint), mesh, self._paints.index(paint)))

    def rig(self) -> Rig:
        """Return the rig, set down so that its lowest corner is at y = 0 and its root above the origin."""
        places = np.stack(list(self._places.values()))
        low = min(float(mesh.vertices[:, 1].min()) for _, mesh, _ in self._meshes)
        places = places - np.array([places[0, 0], low, places[0, 2]]).astype(np.float32)
        offsets = places.copy()
        offsets[1:] -= places[self._parents[1:]]
        was = list(self._places.values())
        starts = np.cumsum([0] + [len(mesh.vertices) for _, mesh, _ in self._meshes])
        arrays = (
            offsets.astype(np.float32),
            np.concatenate([mesh.vertices - was[joint] for joint, mesh, _ in self._meshes]).astype(np.float32),
            np.concatenate([np.full(len(mesh.vertices), joint, np.int32) for joint, mesh, _ in self._meshes]),
            np.concatenate([m.faces + s for (_, m, _), s in zip(self._meshes, starts[:-1], strict=True)]),
            np.concatenate([np.full(len(mesh.faces), paint, np.int32) for _, mesh, paint in self._meshes]),
        )
        return Rig(tuple(self._places), tuple(self._parents), arrays[0], arrays[1], arrays[2],
                   arrays[3].astype(np.int32), arrays[4], tuple(self._paints))  # fmt: skip
