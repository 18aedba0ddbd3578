"""The rasteriser against rays, against outlines, and against itself."""

import numpy as np
import pytest
from numpy.typing import NDArray

from manifests.theatre.raster import Hits, rasterise
from manifests.theatre.solids import ellipsoid

FOCAL_PX = 70.0


def one(
    view: NDArray[np.floating], faces: NDArray[np.integer], height: int = 48, width: int = 64, **more: float
) -> Hits:
    return rasterise(view[None], faces, np.array([FOCAL_PX]), height, width, **more)


def covered(hits: Hits, height: int = 48, width: int = 64) -> NDArray[np.bool_]:
    mask = np.zeros(height * width, bool)
    mask[hits.sample] = True
    return mask.reshape(height, width)


def through_centres(height: int, width: int) -> NDArray[np.float64]:
    """Rays of depth 1 through the centres of all pixels, `[H * W, 3]`."""
    row, column = np.mgrid[:height, :width]
    x, y = (column + 0.5 - width / 2) / FOCAL_PX, (row + 0.5 - height / 2) / FOCAL_PX
    return np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3)


def shot(
    view: NDArray[np.float64], faces: NDArray[np.int64], rays: NDArray[np.float64], near: float
) -> tuple[NDArray, ...]:
    """Möller and Trumbore's intersection (1997) of every ray with every triangle: nearest face (-1 for none), depth,
    barycentric coordinates, and how far, in those coordinates, the ray is from the nearest edge of any triangle."""
    a, b, c = (view[faces[:, i]] for i in range(3))
    ab, ac = b - a, c - a
    across = np.cross(rays[:, None], ac[None])
    det = (ab * across).sum(axis=-1)
    back = np.abs(det) < 1e-12
    safe = np.where(back, 1.0, det)
    u = (-a * across).sum(axis=-1) / safe
    q = np.cross(-a, ab)
    v = (rays @ q.T) / safe
    depth = (ac * q).sum(axis=-1) / safe
    inside = (u >= 0) & (v >= 0) & (u + v <= 1) & (depth >= near) & ~back & (det > 0)
    edge = np.minimum(np.minimum(np.abs(u), np.abs(v)), np.abs(1 - u - v)).min(axis=1)
    depth = np.where(inside, depth, np.inf)
    face = np.where(inside.any(axis=1), depth.argmin(axis=1), -1)
    pick = np.arange(len(rays)), np.maximum(face, 0)
    return face, depth[pick], np.stack([1 - u[pick] - v[pick], u[pick], v[pick]], axis=-1), edge


def test_random_triangles_agree_with_rays_in_face_depth_and_barycentric_coordinates() -> None:
    rng = np.random.default_rng(5)
    compared = 0
    for _ in range(12):
        view = rng.normal(0, 0.8, (30, 3)) + np.array([0, 0, 2.5])
        faces = np.stack([rng.permutation(30)[:3] for _ in range(20)])
        face, depth, weights, edge = shot(view, faces, through_centres(48, 64), near=0.05)
        hits = one(view, faces)
        found = np.full(48 * 64, -1)
        found[hits.sample] = hits.face
        clear = edge > 0.004  # corners are rounded to 1/256 px
        assert (found == face)[clear].all()
        same = np.flatnonzero((found[hits.sample] == face[hits.sample]) & clear[hits.sample])
        off = (
            np.abs(hits.depth[same] / depth[hits.sample[same]] - 1),
            np.abs(hits.weights[same] - weights[hits.sample[same]]),
        )
        # rounded corners shift slivers seen edge on by more
        assert max(np.quantile(off[0], 0.98), np.quantile(off[1], 0.98)) < 0.01
        assert np.quantile(off[0], 0.5) < 0.001
        compared += len(same)
    assert compared > 5000


def test_triangles_that_reach_behind_the_eye_are_cut_and_not_lost() -> None:
    rng = np.random.default_rng(8)
    crossing, off = 0, []
    for _ in range(12):
        view = rng.normal(0, 1.0, (24, 3)) + np.array([0, 0, 0.4])
        faces = np.stack([rng.permutation(24)[:3] for _ in range(6)])
        behind = (view[faces, 2] < 0.2).sum(axis=1)
        crossing += int(((behind > 0) & (behind < 3)).sum())
        face, depth, weights, edge = shot(view, faces, through_centres(48, 64), near=0.2)
        hits = one(view, faces, near_m=0.2)
        found = np.full(48 * 64, -1)
        found[hits.sample] = hits.face
        # a ray close to the near plane may fall on either side of it
        clear = (edge > 0.01) & ~(depth < 0.201)
        assert (found == face)[clear].mean() > 0.999
        same = np.flatnonzero((hits.face == face[hits.sample]) & clear[hits.sample])
        off.append(np.abs(hits.weights[same] - weights[hits.sample[same]]))
    assert len(np.concatenate(off)) > 5000
    assert np.quantile(np.concatenate(off), 0.98) < 0.02
    assert crossing > 20


def test_a_closed_sphere_has_no_holes_and_the_outline_that_opencv_finds() -> None:
    cv2 = pytest.importorskip("cv2")
    ball = ellipsoid((0.1, -0.05, 3.0), (0.7, 0.6, 0.8), 40, 60)
    # world up is y; in the view y points down, which a half turn about x does
    view = (ball.vertices - [0, 0, 3.0]) * np.array([1, -1, -1]) + np.array([0, 0, 3.0])
    mask = covered(one(view, ball.faces, 96, 96), 96, 96)
    outline = cv2.convexHull((view[:, :2] / view[:, 2:] * FOCAL_PX + 48).astype(np.float32))
    for row, column in np.ndindex(96, 96):
        inside = cv2.pointPolygonTest(outline, (column + 0.5, row + 0.5), True)
        if abs(inside) > 0.01:
            assert mask[row, column] == (inside > 0)
    assert mask.sum() > 400


def test_no_sample_on_a_common_edge_is_left_out_or_taken_twice() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        # a square whose corners and centre lie exactly on samples, cut into four at the centre
        size, x, y = int(rng.integers(1, 9)) * 2, *rng.integers(4, 20, 2)
        square = np.array([(0, 0), (size, 0), (size, size), (0, size), (size / 2, size / 2)])
        px = square + np.array([x + 0.5, y + 0.5])
        view = np.concatenate([(px - (32, 24)) / FOCAL_PX, np.ones((5, 1))], axis=1)
        fan = np.array([(1, 0, 4), (2, 1, 4), (3, 2, 4), (0, 3, 4)])
        count = sum(covered(one(view, fan[i : i + 1])).astype(int) for i in range(4))
        assert count.sum() == size * size
        assert count.max() == 1


def test_the_back_of_a_triangle_is_not_seen() -> None:
    view = np.array([(-1, -1, 3), (1, -1, 3), (0, 1, 3.0)])
    seen = [covered(one(view, np.array([order]))).any() for order in ((0, 1, 2), (0, 2, 1))]
    assert sorted(seen) == [False, True]


def test_what_is_nearer_hides_what_is_farther_whatever_the_order() -> None:
    near = np.array([(-0.5, -0.5, 2), (0, 0.5, 2), (0.5, -0.5, 2.0)])
    view = np.concatenate([near * 2, near])
    for faces in (np.array([(0, 1, 2), (3, 4, 5)]), np.array([(3, 4, 5), (0, 1, 2)])):
        hits = one(view, faces)
        assert len(hits.sample) > 100
        np.testing.assert_allclose(hits.depth, 2.0, rtol=1e-5)


def test_frames_together_are_frames_alone() -> None:
    rng = np.random.default_rng(3)
    view = rng.normal(0, 0.6, (4, 40, 3)) + np.array([0, 0, 2.5])
    faces, focal = rng.integers(0, 40, (60, 3)), np.array([50.0, 60.0, 70.0, 80.0])
    hits = rasterise(view, faces, focal, 40, 30)
    alone = [rasterise(view[t : t + 1], faces, focal[t : t + 1], 40, 30) for t in range(4)]
    np.testing.assert_array_equal(hits.sample, np.concatenate([h.sample + 1200 * t for t, h in enumerate(alone)]))
    np.testing.assert_array_equal(hits.weights, np.concatenate([h.weights for h in alone]))


def test_nothing_in_the_picture_is_no_hit() -> None:
    view = np.array([(0, 0, -2), (1, 0, -2), (0, 1, -2), (90, 0, 1), (91, 0, 1), (90, 1, 1.0)])
    hits = one(view, np.array([(0, 1, 2), (3, 4, 5), (3, 5, 4)]))
    assert len(hits.sample) == len(hits.face) == len(hits.depth) == 0
    assert hits.weights.shape == (0, 3)
