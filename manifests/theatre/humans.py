"""People: the convex mannequin of mannequin-x in many builds, dressed, with a face and hair.

mannequin-x (numpy only) gives 52 closed convex links on the joints of SMPL-X and shapes them by its ten shape
coefficients. Here they are made alike on both sides, stretched limb by limb (so that builds differ in the lengths of
their bones, not only in their bulk), painted and given heads that can be told apart.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from mannequin import Mannequin

from manifests.theatre import wardrobe
from manifests.theatre.motion import JOINTS, PARENTS, Array, Paint
from manifests.theatre.names import seeded
from manifests.theatre.points import FINGERS, Markers, markers
from manifests.theatre.rig import Assembly, Rig
from manifests.theatre.rotations import about, matrices
from manifests.theatre.solids import Mesh

# rad that the three joints of a finger bend in a fist, about the axis that lies across the left hand
_FINGER_BEND: Final = (1.35, 1.65, 1.0)
_THUMB_BEND: Final = ((0.5, 0.55, 0.2), (0.1, 0.8, -0.35), (0.1, 0.8, -0.35))


@dataclass(frozen=True)
class Build:
    """Proportions: the ten shape coefficients of SMPL-X, and by how much parts are longer or thicker than they give."""

    shape: tuple[float, ...] = (0.0,) * 10
    height: float = 1.0
    leg: float = 1.0
    arm: float = 1.0
    trunk: float = 1.0
    limb_girth: float = 1.0
    trunk_girth: float = 1.0
    shoulders: float = 1.0
    head: float = 1.0
    hand: float = 1.0
    foot: float = 1.0

    def stretch(self, joint: str) -> Array:
        """Return `[3]`, by how much what hangs on a joint is stretched along x, y, z."""
        name = joint.removeprefix("left_").removeprefix("right_")
        if name in ("hip", "knee"):
            factors = (self.limb_girth, self.leg, self.limb_girth)
        elif name in ("shoulder", "elbow"):
            factors = (self.arm, self.limb_girth, self.limb_girth)
        elif name in ("ankle", "foot"):
            factors = (self.foot,) * 3
        elif name in ("head", "neck"):
            factors = (self.head,) * 3
        elif name in ("pelvis", "spine1", "spine2", "spine3", "collar"):
            wide = self.shoulders if name in ("spine3", "collar") else 1.0
            factors = (self.trunk_girth**0.6 * wide, self.trunk, self.trunk_girth)
        else:
            factors = (self.hand,) * 3
        return np.float32(self.height) * np.array(factors, np.float32)


def draw_build(rng: np.random.Generator) -> Build:
    """Draw proportions: a child, a slender, a stout or a cartoon-like person, or one between them."""
    shape = np.clip(rng.normal(0, 1, 10), -2, 2)
    base = ("plain", "plain", "child", "slender", "stout", "cartoon")[rng.integers(6)]
    height, head, girth, trunk = {
        "plain": (1.0, 1.0, 1.0, 1.0), "child": (0.66, 1.42, 1.05, 0.95), "slender": (1.06, 0.95, 0.82, 1.0),
        "stout": (0.97, 1.05, 1.28, 1.0), "cartoon": (0.85, 1.6, 1.05, 0.85),
    }[base]  # fmt: skip
    leg, arm = np.exp(rng.uniform(-0.26, 0.22, 2))
    if base in ("child", "cartoon"):
        leg *= 0.88

    def near(value: float, spread: float) -> float:
        return float(value * np.exp(rng.uniform(-spread, spread)))

    return Build(
        tuple(float(s) for s in shape), near(height, 0.07), float(leg), float(arm), near(trunk, 0.1),
        near(girth, 0.08), near(girth, 0.12), near(1.0, 0.08), near(head, 0.07), near(1.1, 0.1), near(1.08, 0.1),
    )  # fmt: skip


@dataclass(frozen=True)
class Body:
    """A naked body at rest: the mesh of each link, by the joint it hangs on, and where the joints are."""

    joints: tuple[str, ...]
    parents: tuple[int, ...]
    places: dict[str, Array]
    links: dict[str, Mesh]


def body(build: Build, lod: int = 1) -> Body:
    """Return the body of a build, symmetric; `lod` is mannequin-x's, 0 the finest."""
    joints, parents, places, links = _links(build.shape, lod)
    grown = {joints[0]: places[joints[0]]}
    for joint, parent in zip(joints[1:], parents[1:], strict=True):
        above = joints[parent]
        grown[joint] = grown[above] + build.stretch(above) * (places[joint] - places[above])
    meshes = {
        joint: Mesh((mesh.vertices - places[joint]) * build.stretch(joint) + grown[joint], mesh.faces)
        for joint, mesh in links.items()
    }
    return Body(joints, parents, grown, meshes)


def _links(
    shape: tuple[float, ...], lod: int
) -> tuple[tuple[str, ...], tuple[int, ...], dict[str, Array], dict[str, Mesh]]:
    """Return mannequin-x's joints, their parents, places at rest and links, each the same on both sides."""
    mannequin = Mannequin("convex", lod=lod, shape=np.asarray(shape, np.float32), flat_hand_mean=True)
    rest = mannequin.rest_pose()
    corners, faces = np.asarray(mannequin.vertices(rest)), np.asarray(mannequin.faces)
    joints = tuple(n.lower().replace("l_", "left_", 1).replace("r_", "right_", 1) if n[1] == "_" else n.lower()
                   for n in mannequin.joint_names)  # fmt: skip
    if joints[:22] != JOINTS or mannequin.parents[:22] != PARENTS:
        raise RuntimeError(f"mannequin-x has the joints {joints[:22]}, wanted those of SMPL-X; install version 0.3")
    found = dict(zip(joints, mannequin.joint_transforms(rest)[:, :3, 3], strict=True))
    mirror = np.array([-1, 1, 1], np.float32)
    places = {joint: (found[joint] + mirror * found[_other(joint)]) / 2 for joint in joints}
    # links are closed meshes whose corners follow each other: a new one starts where no triangle reaches across
    spans = np.zeros(len(corners) + 1, np.int64)
    np.add.at(spans, faces.min(axis=1) + 1, 1)
    np.add.at(spans, faces.max(axis=1) + 1, -1)
    starts = [*np.flatnonzero(np.cumsum(spans)[:-1] == 0), len(corners)]
    owner = np.searchsorted(starts, faces[:, 0], side="right") - 1
    links = {
        _joint_of(name): Mesh(corners[starts[i] : starts[i + 1]], faces[owner == i] - starts[i])
        for i, name in enumerate(mannequin.link_names)
    }
    for joint in [j for j in links if not j.startswith("right_")]:
        if joint.startswith("left_"):
            # mannequin-x lets joints differ between the sides, but not links: shift the link with its joint
            mesh = Mesh((links[joint].vertices + places[joint] - found[joint]).astype(np.float32), links[joint].faces)
            links[joint], links[_other(joint)] = mesh, mesh.mirrored()
        else:
            links[joint] = _evened(links[joint])
    return joints, mannequin.parents, places, links


def _joint_of(link: str) -> str:
    """Return the joint of a link, which mannequin-x names like `L_Hip_J1__l_hip` and `Chest_J9__chest_shell`."""
    name = link.split("__")[1]
    shells = {"pelvis_shell": "pelvis", "abdomen_shell": "spine1", "chest_shell": "spine3"}
    return shells.get(name, name.replace("l_", "left_", 1) if name.startswith("l_") else
                      name.replace("r_", "right_", 1) if name.startswith("r_") else name)  # fmt: skip


def _other(joint: str) -> str:
    """Return the same joint of the other side, or the joint itself if it has none."""
    if joint.startswith("left_"):
        return "right_" + joint.removeprefix("left_")
    return "left_" + joint.removeprefix("right_") if joint.startswith("right_") else joint


def _evened(mesh: Mesh) -> Mesh:
    """Return a convex mesh made alike on both sides: half the Minkowski sum of itself and its mirror image, on the
    corners it has."""
    corners = mesh.vertices.astype(np.float64)
    tri = corners[mesh.faces]
    normals = np.zeros_like(corners)
    np.add.at(normals, mesh.faces, np.cross(tri[:, 1] - tri[:, 0], tri[:, 2] - tri[:, 0])[:, None])
    farthest = (corners @ (normals * [-1, 1, 1]).T).argmax(axis=0)
    return Mesh(((corners + corners[farthest] * [-1, 1, 1]) / 2).astype(np.float32), mesh.faces)


@dataclass(frozen=True)
class Human:
    """A person's rig and the 133 points on it."""

    rig: Rig
    markers: Markers


def human(name: str, number: int) -> Human:
    """Return the person of this name; `number` is the name's, which says whether it is held out."""
    rng = seeded("figure", name)
    build = draw_build(rng)
    clothes = wardrobe.dress(rng, number, build.height * 1.7)
    return _assembled(body(build), clothes, wardrobe.draw_head(rng, number, clothes["skin"].first))


@lru_cache(maxsize=1)
def average() -> Human:
    """Return the average person: mannequin-x without shape coefficients, in grey."""
    grey = Paint((0.6, 0.6, 0.6), (0.6, 0.6, 0.6))
    return _assembled(body(Build()), dict.fromkeys(wardrobe.REGIONS, grey), None)


def _assembled(body: Body, clothes: dict[str, Paint], head: wardrobe.Head | None) -> Human:
    assembly = Assembly()
    for joint, parent in zip(body.joints, body.parents, strict=True):
        assembly.joint(joint, None if parent < 0 else body.joints[parent], body.places[joint])
    for joint, mesh in body.links.items():
        assembly.add(joint, mesh, clothes[wardrobe.region(joint)])
    if head is not None:
        wardrobe.furnish(assembly, body.links["head"], head, clothes["skin"])
    rig = assembly.rig()
    # the rig was set down on the ground: take what the points are fixed to along
    down = rig.places()[0] - body.places["pelvis"]
    at = {joint: Mesh(mesh.vertices + down, mesh.faces) for joint, mesh in body.links.items()}
    tips = {}
    for side, out in (("left", 1), ("right", -1)):
        for finger in FINGERS:
            last, ahead = at[f"{side}_{finger}3"].vertices, finger == "thumb"
            tips[f"{side}_{finger}"] = last[(last @ np.array([out, 0, ahead], np.float32)).argmax()]
    return Human(rig, markers(rig, at["head"], (at["left_ankle"], at["left_foot"]), tips))


def bent(joints: tuple[str, ...], body_rotations: Array, curl: Array) -> Array:
    """Return `[T, J, 3, 3]`, local rotations of a human rig.

    Args:
        joints: The rig's joints, of which the first 22 are those of a motion.
        body_rotations: `[T, 22, 3, 3]`.
        curl: `[T, 2]` of the left and the right hand: its fingers' joints bend by this share of their bend in a
            fist.
    """
    local = np.broadcast_to(np.eye(3, dtype=np.float32), (len(curl), len(joints), 3, 3)).copy()
    local[:, :22] = body_rotations
    for side, (hand, mirror) in enumerate((("left", 1.0), ("right", -1.0))):
        for finger in FINGERS:
            for knuckle in range(3):
                x, y, z = _THUMB_BEND[knuckle] if finger == "thumb" else (0.0, 0.0, -_FINGER_BEND[knuckle])
                # in a mirror the component of a turn along the mirrored axis stays, the others change sign
                bend = np.array([x, mirror * y, mirror * z])
                angle = float(np.linalg.norm(bend))
                index = joints.index(f"{hand}_{finger}{knuckle + 1}")
                local[:, index] = matrices(about(bend / angle, angle * curl[:, side].astype(np.float64)))
    return local
