"""Light by name: a sun, the light of the sky, and their tints.

    even    nearly no shadow side
    sun     a bright side and a dark side, from anywhere above
    tinted  the same, sun and sky in two colours

The light belongs to the camera's room: its direction is given as seen by the camera, so that every name lights the side
that is seen, from the left, the right or above.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from manifests.theatre.motion import Array
from manifests.theatre.names import numbered, seeded

KINDS: Final = ("even", "sun", "tinted")
_GRID: Final = 40  # cells of the contact shadow, each way
_REACH: Final = 0.08  # heights of the figure over which the shadow of a part fades


@dataclass(frozen=True)
class Light:
    """What is added up on a surface: `sky * (1 + n_up) / 2 + sun * max(n . direction, 0)`, times its colour.

    Attributes:
        direction: `[3]` unit vector to the sun, in the view of the camera's first frame.
        sun: `[3]` RGB.
        sky: `[3]` RGB.
        smooth: Normals are blended over the corners of a part, or one for each triangle.
        shadow: Darkness of the contact shadow on the ground, 0..1.
    """

    direction: Array
    sun: Array
    sky: Array
    smooth: bool
    shadow: float


def light(name: str) -> Light:
    """Return the light `name`.

    Raises:
        UnknownName: There is no such light.
    """
    kind, number = numbered(name, KINDS, "light")
    rng = seeded("light", kind, number)
    side, up, front = rng.uniform(-1.2, 1.2), rng.uniform(0.3, 1.2), rng.uniform(0.4, 1.0)
    direction = np.array([side, -up, -front])
    share = {"even": 0.3, "sun": rng.uniform(0.55, 0.75), "tinted": rng.uniform(0.4, 0.65)}[kind]
    sun, sky = np.ones(3), np.ones(3)
    if kind == "tinted":
        sun, sky = (1 + rng.uniform(-0.25, 0.1, 3) for _ in range(2))
    return Light(
        direction=(direction / np.linalg.norm(direction)).astype(np.float32),
        sun=(sun * share * 1.15).astype(np.float32),
        sky=(sky * (1.1 - share)).astype(np.float32),
        smooth=bool(rng.random() < 0.7),
        shadow=float(rng.uniform(0.25, 0.55)),
    )


def face_normals(corners: NDArray[np.floating]) -> Array:
    """Return the outward unit normals `[..., 3]` of triangles `[..., 3, 3]`; zero for one without area."""
    normal = np.cross(corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :])
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    unit: Array = (normal / np.maximum(length, 1e-12)).astype(np.float32)
    return unit


def shade(normals: Array, to_view: NDArray[np.floating], lit: Light) -> Array:
    """Return the RGB `[N, 3]` by which colours are multiplied, for unit normals `[N, 3]` in the world; `to_view`
    `[3, 3]` is the camera's rotation in its first frame."""
    sun = to_view.astype(np.float32).T @ lit.direction
    facing = np.maximum(normals @ sun, 0)[:, None]
    above = (0.75 + 0.25 * normals[:, 1])[:, None]
    shaded: Array = facing * lit.sun + above * lit.sky
    return shaded


def corner_normals(vertices: Array, faces: NDArray[np.integer]) -> Array:
    """Return unit normals `[T, V, 3]` of vertices `[T, V, 3]`: those of the triangles around them, by area."""
    a, b, c = (vertices[:, faces[:, i]] for i in range(3))
    by_area = np.cross(b - a, c - a)
    order = np.argsort(faces, axis=None, kind="stable")
    used, starts = np.unique(faces.reshape(-1)[order], return_index=True)
    normals = np.zeros_like(vertices)
    normals[:, used] = np.add.reduceat(by_area[:, order // 3], starts, axis=1)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    return normals


def contact_shadow(skin: Array, height_m: float, ground: Array) -> Array:
    """Return how dark the ground is, `[N]` from 0 to 1, at the places `[N, 2]` (x, z m), under a body with points
    `[V, 3]` on it: full where it touches, gone at a quarter of the figure's height, with a soft edge."""
    weight = np.exp(-np.maximum(skin[:, 1], 0) / (_REACH * height_m))
    low = skin[weight > 0.05][:, [0, 2]]
    if not len(low):
        return np.zeros(len(ground), np.float32)
    pad = 0.12 * height_m
    start, cell = low.min(axis=0) - pad, (np.ptp(low, axis=0) + 2 * pad) / _GRID
    span = [(start[i], start[i] + cell[i] * _GRID) for i in range(2)]
    there, _, _ = np.histogram2d(low[:, 0], low[:, 1], bins=_GRID, range=span, weights=weight[weight > 0.05])
    blur = np.exp(-0.5 * (np.arange(_GRID)[:, None] - np.arange(_GRID)) ** 2 * (cell[:, None, None] / pad * 2.5) ** 2)
    soft = blur[0] @ there @ blur[1]
    soft *= float(weight.max()) / max(float(np.sort(soft, axis=None)[-_GRID]), 1e-9)
    at = ((ground - start) / cell).astype(np.int64)
    inside = (ground >= start).all(axis=1) & (at < _GRID).all(axis=1)
    dark = np.zeros(len(ground), np.float32)
    dark[inside] = np.minimum(soft, 1)[at[inside, 0], at[inside, 1]]
    return dark
