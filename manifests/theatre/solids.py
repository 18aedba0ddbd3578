"""Simple closed meshes: ellipsoids, capsules, cones and boxes.

A mesh is `[V, 3]` corners in metres and `[F, 3]` triangles, counter-clockwise seen from outside, no edge left open.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manifests.theatre.motion import Array

Ints = NDArray[np.int32]


@dataclass(frozen=True)
class Mesh:
    """`vertices` `[V, 3]` m and `faces` `[F, 3]`."""

    vertices: Array
    faces: Ints

    def turned(self, rotation: ArrayLike, about: ArrayLike = (0.0, 0.0, 0.0)) -> "Mesh":
        """Return the mesh turned by `rotation` `[3, 3]` about a point."""
        centre = np.asarray(about, np.float32)
        moved = (self.vertices - centre) @ np.asarray(rotation, np.float32).T + centre
        return Mesh(moved.astype(np.float32), self.faces)

    def mirrored(self) -> "Mesh":
        """Return the mesh seen in the plane x = 0, its faces turned about so that they still look outwards."""
        return Mesh(self.vertices * np.array([-1, 1, 1], np.float32), self.faces[:, ::-1])


def volume(mesh: Mesh) -> float:
    """Return the enclosed volume, m^3: above zero if the faces look outwards."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]].astype(np.float64) for i in range(3))
    return float(np.einsum("fi,fi->", a, np.cross(b, c)) / 6)


def ellipsoid(centre: ArrayLike, radii: ArrayLike, rings: int = 7, sectors: int = 10) -> Mesh:
    """Return an ellipsoid with its poles up and down; `radii` m along x, y, z (or one number for a ball)."""
    polar = np.linspace(0, np.pi, rings + 1)
    outline = np.stack([np.sin(polar), -np.cos(polar)], axis=1)
    mesh = _turned_on_a_lathe(outline, sectors)
    grown = mesh.vertices * np.asarray(radii, np.float32) + np.asarray(centre, np.float32)
    return Mesh(grown.astype(np.float32), mesh.faces)


def capsule(start: ArrayLike, end: ArrayLike, start_m: float, end_m: float | None = None, sectors: int = 10) -> Mesh:
    """Return a rod with round ends between two points, of radius `start_m` at one and `end_m` (if given) at the
    other."""
    end_m = start_m if end_m is None else end_m
    length = float(np.linalg.norm(np.asarray(end, np.float64) - np.asarray(start, np.float64)))
    angles = np.linspace(0, np.pi / 2, 4)
    below = np.stack([start_m * np.sin(angles), -start_m * np.cos(angles)], axis=1)
    above = np.stack([end_m * np.cos(angles), length + end_m * np.sin(angles)], axis=1)
    return _along(_turned_on_a_lathe(np.concatenate([below, above]), sectors), start, end)


def cone(base: ArrayLike, tip: ArrayLike, base_m: float, tip_m: float = 0.0, sectors: int = 10) -> Mesh:
    """Return a cone from `base` to `tip`; with a radius at the tip a frustum, with equal ones a cylinder."""
    length = float(np.linalg.norm(np.asarray(tip, np.float64) - np.asarray(base, np.float64)))
    outline = [(0.0, 0.0), (base_m, 0.0), (tip_m, length)] + ([(0.0, length)] if tip_m > 0 else [])
    return _along(_turned_on_a_lathe(np.array(outline), sectors), base, tip)


def box(centre: ArrayLike, size: ArrayLike, taper: float = 1.0) -> Mesh:
    """Return a box of `size` m along x, y, z; its upper face is `taper` times as wide and deep as its lower one."""
    corners = np.array([(x, y, z) for y in (-0.5, 0.5) for z in (-0.5, 0.5) for x in (-0.5, 0.5)])
    corners[4:, [0, 2]] *= taper
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    faces = [triangle for a, b, c, d in quads for triangle in ((a, b, c), (a, c, d))]
    vertices = corners * np.asarray(size, np.float64) + np.asarray(centre, np.float64)
    return Mesh(vertices.astype(np.float32), np.array(faces, np.int32))


def _turned_on_a_lathe(outline: NDArray[np.float64], sectors: int) -> Mesh:
    """Turn an outline `[N, 2]` (radius, height; from low to high) about the y axis, on which its ends lie."""
    angle = np.arange(sectors) * 2 * np.pi / sectors
    ring = outline[1:-1]
    x, z = ring[:, :1] * np.cos(angle), ring[:, :1] * np.sin(angle)
    y = np.broadcast_to(ring[:, 1:], x.shape)
    poles = np.zeros((2, 3))
    poles[:, 1] = outline[[0, -1], 1]
    vertices = np.concatenate([poles[:1], np.stack([x, y, z], axis=-1).reshape(-1, 3), poles[1:]])
    faces = []
    last = 1 + len(ring) * sectors
    for i in range(sectors):
        j = (i + 1) % sectors
        faces += [(0, 1 + i, 1 + j), (last, last - sectors + j, last - sectors + i)]
        for row in range(len(ring) - 1):
            low, high = 1 + row * sectors, 1 + (row + 1) * sectors
            faces += [(low + i, high + i, high + j), (low + i, high + j, low + j)]
    return Mesh(vertices.astype(np.float32), np.array(faces, np.int32))


def _along(mesh: Mesh, start: ArrayLike, end: ArrayLike) -> Mesh:
    """Lay a mesh that stands on the y axis from `start` towards `end`."""
    up = np.asarray(end, np.float64) - np.asarray(start, np.float64)
    up /= max(float(np.linalg.norm(up)), 1e-9)
    aside = np.cross(up, [0, 0, 1] if abs(up[2]) < 0.9 else [1, 0, 0])
    aside /= np.linalg.norm(aside)
    rotation = np.stack([aside, up, np.cross(aside, up)], axis=1)
    turned = mesh.turned(rotation)
    return Mesh((turned.vertices + np.asarray(start, np.float32)).astype(np.float32), turned.faces)
