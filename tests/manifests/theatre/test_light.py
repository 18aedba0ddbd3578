import numpy as np
import pytest

from manifests.theatre.light import KINDS, Light, contact_shadow, corner_normals, face_normals, light, shade
from manifests.theatre.names import UnknownName
from manifests.theatre.solids import box, ellipsoid

TOWARDS_EYE = np.array([[0, 0, 1]], np.float32)
TO_VIEW = np.diag([1.0, -1.0, -1.0])  # world to view of a camera that looks along -z


def all_of(kind: str) -> list[Light]:
    return [light(f"{kind}-{number:03d}") for number in range(0, 1000, 7)]


def test_the_normals_of_a_box_look_out_along_its_axes() -> None:
    mesh = box((1.0, 2.0, 3.0), (0.4, 0.6, 0.8))
    normals = face_normals(mesh.vertices[mesh.faces])
    outwards = mesh.vertices[mesh.faces].mean(axis=1) - (1, 2, 3)
    np.testing.assert_allclose(np.sort(np.abs(normals), axis=1), np.tile((0, 0, 1), (12, 1)), atol=1e-6)
    assert (np.einsum("fx,fx->f", normals, outwards) > 0.1).all()


def test_a_triangle_without_area_has_no_normal() -> None:
    np.testing.assert_array_equal(face_normals(np.zeros((1, 3, 3))), np.zeros((1, 3)))


def test_normals_at_the_corners_of_an_ellipsoid_are_those_of_its_surface() -> None:
    radii = np.array([0.5, 0.8, 0.3])
    mesh = ellipsoid((0, 0, 0), radii, 60, 90)
    normals = corner_normals(np.stack([mesh.vertices, mesh.vertices + 5]), mesh.faces)
    true = mesh.vertices / radii**2
    true /= np.linalg.norm(true, axis=1, keepdims=True)
    for moved in normals:
        assert (np.einsum("vx,vx->v", moved, true) > np.cos(np.radians(3))).all()


def test_light_on_a_surface_is_the_sum_that_its_docstring_says() -> None:
    lit = Light(
        np.array([0.6, -0.8, 0.0], np.float32), np.full(3, 0.5, np.float32), np.full(3, 0.4, np.float32), True, 0.5
    )
    # the view's y looks down, so this sun is to the right and above
    normals = np.array([(0.6, 0.8, 0), (-0.6, -0.8, 0), (0, 1, 0), (0, 0, 1)], np.float32)
    expected = [0.5 + 0.4 * 0.95, 0.4 * 0.55, 0.5 * 0.8 + 0.4, 0.4 * 0.75]
    np.testing.assert_allclose(shade(normals, TO_VIEW, lit), np.repeat(np.array(expected)[:, None], 3, 1), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_every_light_shows_the_side_that_is_seen_and_burns_nothing_out(kind: str) -> None:
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(500, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    normals = normals[normals[:, 2] > 0]  # what the camera sees
    for lit in all_of(kind):
        assert np.linalg.norm(lit.direction) == pytest.approx(1, abs=1e-6)
        assert lit.direction[1] < 0, "the sun is above"
        assert lit.direction[2] < 0, "the sun is on the camera's side"
        shades = shade(normals, TO_VIEW, lit)
        assert shades.min() > 0.05
        assert shades.max() < 1.5
        assert 0.4 < shades.mean() < 1.2
        assert 0 < lit.shadow < 1


def test_even_light_has_the_least_contrast_and_only_tinted_light_has_a_colour() -> None:
    normals = np.array([(0, 0, 1), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0)], np.float32)

    def contrast(lit: Light) -> float:
        shades = shade(normals, TO_VIEW, lit).mean(axis=1)
        return float(shades.max() / shades.min())

    even, sun = ([contrast(lit) for lit in all_of(kind)] for kind in ("even", "sun"))
    assert max(even) < np.median(sun)
    for kind in KINDS:
        tint = [np.ptp(lit.sun) + np.ptp(lit.sky) for lit in all_of(kind)]
        assert (min(tint) > 0.005) if kind == "tinted" else (max(tint) == 0), kind


def test_names_of_lights_are_many_and_always_the_same() -> None:
    seen = {light(f"sun-{number:03d}").direction.tobytes() for number in range(50)}
    assert len(seen) == 50
    assert light("tinted-031").sky.tobytes() == light("tinted-031").sky.tobytes()
    assert {light(f"sun-{number:03d}").smooth for number in range(50)} == {True, False}


def test_a_shadow_lies_where_the_feet_touch_and_nowhere_else() -> None:
    foot = box((0.5, 0.05, -0.2), (0.1, 0.1, 0.25)).vertices
    body = np.concatenate([foot, box((2.0, 1.2, 0.0), (0.4, 0.8, 0.3)).vertices])
    ground = np.array([(0.5, -0.2), (2.0, 0.0), (0.5, 3.0), (-5.0, 0.0)])
    under_foot, under_body, aside, far = contact_shadow(body, 1.7, ground)
    assert under_foot > 0.5
    assert under_body == 0, "what is high casts no contact shadow"
    assert aside == far == 0


def test_a_shadow_fades_as_the_figure_leaves_the_ground_and_has_a_soft_edge() -> None:
    foot = np.random.default_rng(0).uniform((-0.1, 0, -0.1), (0.1, 0.05, 0.1), (400, 3)).astype(np.float32)
    line = np.stack([np.linspace(-0.5, 0.5, 201), np.zeros(201)], axis=1)
    dark = contact_shadow(foot, 1.7, line)
    assert dark.min() == 0
    assert dark.max() == 1
    assert np.abs(np.diff(dark)).max() < 0.35
    foot[:, 1] += 1.0
    np.testing.assert_array_equal(contact_shadow(foot, 1.7, line), 0)


@pytest.mark.parametrize("name", ["moon-001", "sun", "sun-1", "sun-0001", ""])
def test_an_unknown_light_is_refused_with_a_sentence_that_says_which_there_are(name: str) -> None:
    with pytest.raises(UnknownName, match=r"^there is no light .*even, sun, tinted.*000 to 999, for example even-012"):
        light(name)
