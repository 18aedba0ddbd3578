from collections import Counter

import numpy as np
import pytest

from manifests.theatre.rotations import about, matrices
from manifests.theatre.solids import Mesh, box, capsule, cone, ellipsoid, volume

FINE = 96
SOLIDS = {
    "ellipsoid": ellipsoid((1, 2, 3), (0.3, 0.5, 0.2), FINE, FINE),
    "ball": ellipsoid((0, 0, 0), 0.4, FINE, FINE),
    "capsule": capsule((0, 1, 0), (0.3, 0.4, 0.5), 0.2, sectors=FINE),
    "capsule along z": capsule((0, 0, 0), (0, 0, -1), 0.2, 0.1),
    "cone": cone((1, 0, 0), (2, 0, 0), 0.3, sectors=FINE),
    "frustum": cone((0, 0, 0), (0, 2, 0), 0.3, 0.1, FINE),
    "box": box((1, 1, 1), (0.2, 0.4, 0.6)),
    "tapered box": box((0, 0, 0), (1, 2, 1), 0.5),
}


@pytest.mark.parametrize("name", SOLIDS)
def test_every_edge_of_a_solid_is_passed_once_each_way(name: str) -> None:
    faces = SOLIDS[name].faces
    edges = Counter((int(f[i]), int(f[(i + 1) % 3])) for f in faces for i in range(3))
    assert set(edges.values()) == {1}
    assert all((end, start) in edges for start, end in edges)


@pytest.mark.parametrize("name", SOLIDS)
def test_every_face_of_a_convex_solid_has_all_its_corners_behind_it(name: str) -> None:
    mesh = SOLIDS[name]
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    ahead = mesh.vertices @ normals.T - np.einsum("fi,fi->f", corners[:, 0], normals)
    assert ahead.max() < 2e-4


@pytest.mark.parametrize(
    ("name", "true"),
    [
        ("ellipsoid", 4 / 3 * np.pi * 0.3 * 0.5 * 0.2),
        ("ball", 4 / 3 * np.pi * 0.4**3),
        ("cone", np.pi * 0.3**2 / 3),
        ("frustum", np.pi * 2 / 3 * (0.3**2 + 0.3 * 0.1 + 0.1**2)),
        ("box", 0.2 * 0.4 * 0.6),
        ("tapered box", 2 / 3 * (1 + 0.5 + 0.25)),
    ],
)
def test_a_solid_encloses_the_volume_of_its_formula(name: str, true: float) -> None:
    assert volume(SOLIDS[name]) == pytest.approx(true, rel=5e-3)


def test_a_capsule_reaches_its_radius_beyond_both_ends_and_aside() -> None:
    start, end = np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.9, -0.4])
    rod = capsule(start, end, 0.2, 0.1).vertices
    axis = (end - start) / np.linalg.norm(end - start)
    along = (rod - start) @ axis
    assert along.min() == pytest.approx(-0.2, abs=1e-5)
    assert along.max() == pytest.approx(np.linalg.norm(end - start) + 0.1, abs=1e-5)
    aside = np.linalg.norm(rod - start - along[:, None] * axis, axis=1)
    assert aside[np.abs(along) < 1e-5].max() == pytest.approx(0.2, abs=1e-5)


def test_a_solid_turned_about_a_point_leaves_that_point_and_its_volume() -> None:
    rotation = matrices(about(np.array([0.6, 0.0, 0.8]), 1.1))
    mesh = box((1, 0, 0), (0.2, 0.3, 0.4))
    turned = mesh.turned(rotation, (1, 0, 0))
    np.testing.assert_allclose(turned.vertices.mean(axis=0), (1, 0, 0), atol=1e-6)
    np.testing.assert_allclose(turned.vertices - (1, 0, 0), (mesh.vertices - (1, 0, 0)) @ rotation.T, atol=1e-6)
    assert volume(turned) == pytest.approx(volume(mesh), rel=1e-5)


def test_a_mirrored_solid_is_on_the_other_side_and_still_looks_outwards() -> None:
    mesh: Mesh = cone((1, 0, 0), (2, 0.5, 0), 0.3)
    mirrored = mesh.mirrored()
    assert volume(mirrored) == pytest.approx(volume(mesh), rel=1e-5)
    np.testing.assert_array_equal(mirrored.vertices[:, 0], -mesh.vertices[:, 0])
