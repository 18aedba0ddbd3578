"""Furniture of a cluttered room: boxes that stand on the floor between the figures and the wall."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manifests.theatre.camera import Camera
from manifests.theatre.light import face_normals
from manifests.theatre.motion import Array
from manifests.theatre.names import seeded
from manifests.theatre.raster import rasterise
from manifests.theatre.solids import box

Floats = NDArray[np.float64]
Colours = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Furniture:
    """Boxes in the world: `vertices` `[V, 3]` m, `faces` `[F, 3]`, `colours` uint8 `[F, 3]`, shade and all."""

    vertices: Array
    faces: NDArray[np.int32]
    colours: NDArray[np.uint8]


def furniture(name: str, colours: Colours, camera: Camera, aside: Floats, onward: Floats, wall_m: float) -> Furniture:
    """Return the furniture of the background `name`, one box for each colour.

    Args:
        name: Name of the background.
        colours: RGB of each box.
        camera: Its first frame says how high and wide the picture is there: boxes end within it.
        aside: `[3]`, the camera's right on the ground.
        onward: `[3]`, from the camera to the wall, along the ground.
        wall_m: How far the wall is from the first eye. Figures are nearer than three quarters of that.
    """
    rng = seeded("furniture", name)
    picture_m = wall_m / float(camera.focal[0])
    middle = camera.position[0] + camera.rotation[0][2] * wall_m
    meshes, shades = [], []
    for colour in colours:
        depth = 0.06 * wall_m
        centre = middle - onward * wall_m * rng.uniform(0.04, 0.16) + aside * rng.uniform(-0.75, 0.75) * picture_m
        top = max(float(middle[1] + rng.uniform(-0.45, 0.15) * picture_m), 0.05 * picture_m)
        width = float(rng.uniform(0.12, 0.4)) * picture_m
        # built along the axes, then turned to stand square to the wall, more or less
        angle = np.arctan2(-onward[0], -onward[2]) + rng.uniform(-0.15, 0.15)
        turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        mesh = box((0, top / 2, 0), (width, top, depth)).turned(turn)
        vertices = (mesh.vertices + centre * (1, 0, 1)).astype(np.float32)
        meshes.append(vertices)
        lit = 0.75 + 0.2 * face_normals(vertices[mesh.faces]) @ np.array([0.5, 1.0, 0.0], np.float32)
        shades.append(np.clip(np.array(colour) * lit[:, None], 0, 255).astype(np.uint8))
    faces = np.concatenate([mesh.faces + len(mesh.vertices) * i for i in range(len(colours))])
    return Furniture(np.concatenate(meshes), faces, np.concatenate(shades))


def seen(
    these: Furniture, camera: Camera, t: int, size_px: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return which samples of frame `t` see furniture, `[N]` in a flattened `[H, W]`, and their colours `[N, 3]`."""
    height_px, width_px = size_px
    view = camera.view(np.broadcast_to(these.vertices, (len(camera.focal), *these.vertices.shape)))[t : t + 1]
    hits = rasterise(view, these.faces, camera.focal[t : t + 1] * height_px, height_px, width_px)
    return hits.sample, these.colours[hits.face]
