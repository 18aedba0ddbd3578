"""Unit quaternions (w, x, y, z; float64; any leading shape), and only what a motion needs of them.

A quaternion q turns v into q v q*; `multiply(a, b)` turns by b first, then by a, as matrices do.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Quaternions = NDArray[np.float64]
Vectors = NDArray[np.float64]

X, Y, Z = np.eye(3)
MIRRORED: Final = np.array([1.0, 1.0, -1.0, -1.0])
"""Times a quaternion: the same turn seen in a mirror at x = 0."""


def unit(quaternions: Quaternions) -> Quaternions:
    """Return `[..., 4]` at length one."""
    return np.asarray(quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True))


def about(axis: Vectors, angle: float | Vectors) -> Quaternions:
    """Return the turn by `angle` radians `[...]` about the unit vector `axis` `[3]` or `[..., 3]`."""
    half = np.asarray(angle, np.float64)[..., None] / 2
    return np.asarray(np.concatenate([np.cos(half), np.sin(half) * axis], axis=-1))


def multiply(first: Quaternions, second: Quaternions) -> Quaternions:
    """Return the Hamilton product: turn by `second`, then by `first`."""
    aw, ax, ay, az = np.moveaxis(first, -1, 0)
    bw, bx, by, bz = np.moveaxis(second, -1, 0)
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )


def inverse(quaternions: Quaternions) -> Quaternions:
    """Return the turn back of unit quaternions."""
    return np.asarray(quaternions * np.array([1.0, -1.0, -1.0, -1.0]))


def rotate(quaternions: Quaternions, vectors: Vectors) -> Vectors:
    """Return `vectors` `[..., 3]` turned."""
    axis = quaternions[..., 1:]
    across = np.cross(axis, vectors)
    return np.asarray(vectors + 2 * (quaternions[..., :1] * across + np.cross(axis, across)))


def share(quaternions: Quaternions, part: float | Vectors) -> Quaternions:
    """Return the `part`-th part of each turn (the power of the quaternion), taken the short way round."""
    short = np.where(quaternions[..., :1] < 0, -quaternions, quaternions)
    length = np.linalg.norm(short[..., 1:], axis=-1)
    axis = short[..., 1:] / np.where(length > 1e-12, length, 1.0)[..., None]
    return about(axis, 2 * np.arctan2(length, short[..., 0]) * part)


def slerp(first: Quaternions, second: Quaternions, part: float | Vectors) -> Quaternions:
    """Return the turn `part` of the way from `first` to `second` along the shorter great arc (Shoemake 1985)."""
    return unit(multiply(share(multiply(second, inverse(first)), part), first))


def heading(quaternions: Quaternions) -> Quaternions:
    """Return the turn about the vertical in each turn (its twist about y), which leaves no heading when taken away."""
    twist = quaternions * np.array([1.0, 0.0, 1.0, 0.0])
    length = np.linalg.norm(twist, axis=-1, keepdims=True)
    return np.where(length > 1e-9, twist / np.where(length > 1e-9, length, 1.0), np.array([1.0, 0.0, 0.0, 0.0]))


def matrices(quaternions: Quaternions) -> NDArray[np.float64]:
    """Return `[..., 3, 3]` rotation matrices."""
    w, x, y, z = np.moveaxis(quaternions, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def from_matrices(rotations: NDArray[np.floating]) -> Quaternions:
    """Return the quaternions of `[..., 3, 3]` rotation matrices.

    By the largest of the four squares, so that no small number is divided by (Shepperd 1978).
    """
    m = np.asarray(rotations, np.float64)
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    yz, zx, xy = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    sx, sy, sz = m[..., 2, 1] + m[..., 1, 2], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 0] + m[..., 0, 1]
    candidates = np.stack(
        [
            np.stack([1 + xx + yy + zz, yz, zx, xy], axis=-1),
            np.stack([yz, 1 + xx - yy - zz, sz, sy], axis=-1),
            np.stack([zx, sz, 1 - xx + yy - zz, sx], axis=-1),
            np.stack([xy, sy, sx, 1 - xx - yy + zz], axis=-1),
        ],
        axis=-2,
    )
    best = np.argmax(np.diagonal(candidates, axis1=-2, axis2=-1), axis=-1)
    return unit(np.take_along_axis(candidates, best[..., None, None], axis=-2)[..., 0, :])
