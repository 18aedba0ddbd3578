import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from manifests.theatre import rotations as turn


def drawn(seed, count=50):
    """Return turns, as scipy's and as ours."""
    scipys = Rotation.random(count, rng=np.random.default_rng(seed))
    return scipys, np.roll(scipys.as_quat(), 1, axis=1)


def test_quaternions_turn_as_scipy_turns():
    rng = np.random.default_rng(1)
    first, second = Rotation.random(50, rng=rng), Rotation.random(50, rng=rng)
    one, two = (np.roll(r.as_quat(), 1, axis=1) for r in (first, second))
    vectors = rng.normal(size=(50, 3))
    np.testing.assert_allclose(turn.matrices(turn.multiply(one, two)), (first * second).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(turn.rotate(one, vectors), first.apply(vectors), atol=1e-12)
    np.testing.assert_allclose(turn.matrices(turn.from_matrices(first.as_matrix())), first.as_matrix(), atol=1e-12)
    wanted = Rotation.from_rotvec(0.3 * first.as_rotvec())
    np.testing.assert_allclose(turn.matrices(turn.share(one, 0.3)), wanted.as_matrix(), atol=1e-12)
    between = Rotation.from_rotvec(0.3 * (second * first.inv()).as_rotvec()) * first
    np.testing.assert_allclose(turn.matrices(turn.slerp(one, two, 0.3)), between.as_matrix(), atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, np.pi / 2, np.pi - 1e-9, np.pi])
def test_matrices_and_back_are_the_same_turn_at_no_turn_and_at_half_a_one(angle):
    for axis in (turn.X, turn.Y, turn.Z, np.array([0.6, 0.0, -0.8])):
        matrix = turn.matrices(turn.about(axis, angle))
        np.testing.assert_allclose(matrix, Rotation.from_rotvec(angle * axis).as_matrix(), atol=1e-12)
        np.testing.assert_allclose(turn.matrices(turn.from_matrices(matrix)), matrix, atol=1e-12)


def test_matrices_are_orthonormal_and_turn_nothing_inside_out():
    matrices = turn.matrices(drawn(2)[1])
    np.testing.assert_allclose(matrices @ matrices.transpose(0, 2, 1), np.tile(np.eye(3), (50, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-12)


def test_slerp_takes_the_short_way_whichever_sign_a_quaternion_has():
    scipys, ours = drawn(3)
    other = np.roll(ours, 1, axis=0)
    half = turn.matrices(turn.slerp(ours, other, 0.5))
    np.testing.assert_allclose(turn.matrices(turn.slerp(ours, -other, 0.5)), half, atol=1e-9)
    step = scipys.inv() * Rotation.from_matrix(half)
    whole = scipys.inv() * Rotation.from_quat(np.roll(other, -1, axis=1))
    np.testing.assert_allclose(step.magnitude(), whole.magnitude() / 2, atol=1e-9)


def test_what_is_left_without_its_heading_has_none():
    """The swing that is left turns about a level axis (swing and twist)."""
    _, ours = drawn(4)
    left = turn.multiply(turn.inverse(turn.heading(ours)), ours)
    np.testing.assert_allclose(Rotation.from_quat(np.roll(left, -1, axis=1)).as_rotvec()[:, 1], 0, atol=1e-9)
    turned = turn.multiply(turn.about(turn.Y, 0.7), ours)
    both = turn.matrices(turn.multiply(turn.about(turn.Y, 0.7), turn.heading(ours)))
    np.testing.assert_allclose(turn.matrices(turn.heading(turned)), both, atol=1e-9)


def test_a_mirrored_turn_is_the_mirror_image_of_the_turn():
    _, ours = drawn(5)
    mirror = np.diag([-1.0, 1.0, 1.0])
    np.testing.assert_allclose(turn.matrices(ours * turn.MIRRORED), mirror @ turn.matrices(ours) @ mirror, atol=1e-12)


def test_a_turn_upside_down_has_no_heading_rather_than_a_broken_one():
    np.testing.assert_array_equal(turn.heading(turn.about(turn.X, np.pi)), [1, 0, 0, 0])
