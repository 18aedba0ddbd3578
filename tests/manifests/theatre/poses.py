"""Motions for the tests of figures, made of axis times angle, and what the tests measure with."""

import numpy as np
from numpy.typing import NDArray

from manifests.theatre.motion import JOINTS, Array, Motion
from manifests.theatre.rotations import about, matrices

Floats = NDArray[np.float64]


def turn(vector: Floats) -> Array:
    """Return `[..., 3, 3]`, the rotations by axis times angle `[..., 3]`."""
    angle = np.linalg.norm(vector, axis=-1)
    return matrices(about(vector / np.maximum(angle, 1e-12)[..., None], angle)).astype(np.float32)


def motion(*poses: dict[str, tuple[float, float, float]]) -> Motion:
    """Return a motion of one frame a pose: axis times angle by joint, and `translation`."""
    vectors = np.zeros((len(poses), len(JOINTS), 3))
    translation = np.zeros((len(poses), 3), np.float32)
    for frame, pose in enumerate(poses):
        for joint, vector in pose.items():
            if joint == "translation":
                translation[frame] = vector
            else:
                vectors[frame, JOINTS.index(joint)] = vector
    return Motion("test", 8.0, turn(vectors), translation, np.zeros((len(poses), 2), np.float32))


def wild(seed: int, frames: int = 6, rad: float = 0.9) -> Motion:
    """Return a motion in which every joint is turned at random, and the pelvis by any angle."""
    rng = np.random.default_rng(seed)
    vectors = rng.uniform(-rad, rad, (frames, len(JOINTS), 3))
    vectors[:, 0] *= 2
    curl = rng.uniform(0, 1, (frames, 2)).astype(np.float32)
    return Motion("wild", 8.0, turn(vectors), rng.uniform(-0.5, 0.5, (frames, 3)).astype(np.float32), curl)


def pieces(vertices: int, faces: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return `[V]`, a number for each connected piece of a mesh."""
    label = np.arange(vertices)
    while True:
        least = label.copy()
        np.minimum.at(least, faces, label[faces].min(axis=1)[:, None])
        least = least[least]
        if (least == label).all():
            return label
        label = least


def winding(points: Floats, corners: Floats) -> Floats:
    """Return `[N]` how often closed surfaces, triangles `[F, 3, 3]`, wind round points `[N, 3]`: 0 outside, 1 or more
    inside (the sum of signed solid angles over 4 pi; van Oosterom and Strackee 1983)."""
    a, b, c = (corners[None, :, i].astype(np.float64) - points[:, None] for i in range(3))
    la, lb, lc = (np.linalg.norm(x, axis=2) for x in (a, b, c))
    above = np.einsum("pfi,pfi->pf", a, np.cross(b, c))
    below = la * lb * lc + (a * b).sum(2) * lc + (b * c).sum(2) * la + (c * a).sum(2) * lb
    return np.asarray(2 * np.arctan2(above, below).sum(axis=1) / (4 * np.pi))
