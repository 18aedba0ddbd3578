import numpy as np
import pytest
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped]

from manifests.theatre.motion import Array, Paint
from manifests.theatre.rig import Assembly, Rig, pose
from manifests.theatre.solids import box
from tests.manifests.theatre.poses import Floats

RED, BLUE = Paint((1, 0, 0), (1, 0, 0)), Paint((0, 0, 1), (0, 0, 1))


def arm() -> Rig:
    """An upright trunk with an upper arm of 0.3 m and a forearm of 0.2 m to its left."""
    assembly = Assembly()
    assembly.joint("trunk", None, (0.2, 1.0, 0.1))
    assembly.joint("shoulder", "trunk", (0.4, 1.5, 0.1))
    assembly.joint("elbow", "shoulder", (0.7, 1.5, 0.1))
    assembly.joint("wrist", "elbow", (0.9, 1.5, 0.1))
    assembly.add("trunk", box((0.2, 1.0, 0.1), (0.2, 1.0, 0.2)), RED)
    assembly.add("shoulder", box((0.55, 1.5, 0.1), (0.3, 0.1, 0.1)), BLUE)
    assembly.add("elbow", box((0.8, 1.5, 0.1), (0.2, 0.1, 0.1)), RED)
    return assembly.rig()


def turns(rig: Rig, frames: int, **local: Rotation) -> Array:
    """Return `[T, J, 3, 3]`, the identity but for the joints named."""
    rotations = np.broadcast_to(np.eye(3, dtype=np.float32), (frames, len(rig.joints), 3, 3)).copy()
    for name, rotation in local.items():
        rotations[:, rig.joints.index(name)] = rotation.as_matrix()
    return rotations


def test_a_rig_is_set_down_with_its_root_above_the_origin_and_its_lowest_corner_on_the_ground() -> None:
    rig = arm()
    at = rig.places()
    np.testing.assert_allclose(at[0], (0, 0.5, 0), atol=1e-6)
    assert (rig.vertices + at[rig.bone])[:, 1].min() == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(at[3] - at[0], (0.7, 0.5, 0), atol=1e-6)


def test_the_length_of_a_chain_is_that_of_its_bones() -> None:
    assert arm().length("shoulder", "elbow", "wrist") == pytest.approx(0.5)


def test_parts_of_one_paint_share_it() -> None:
    rig = arm()
    assert rig.paints == (RED, BLUE)
    assert [int(rig.part[12 * i]) for i in range(3)] == [0, 1, 0]


def test_without_turns_a_rig_is_where_it_rests_and_a_shift_moves_all_of_it() -> None:
    rig = arm()
    shift = np.array([[0, 0, 0], [0.1, 0.2, 0.3]], np.float32)
    moved = pose(rig, turns(rig, 2), shift)
    np.testing.assert_allclose(moved.places, rig.places() + shift[:, None], atol=1e-6)
    rest = rig.vertices + rig.places()[rig.bone]
    np.testing.assert_allclose(moved.carry(rig.vertices, rig.bone), rest + shift[:, None], atol=1e-6)


def test_a_turn_of_the_elbow_moves_the_forearm_alone_about_the_elbow() -> None:
    rig = arm()
    moved = pose(rig, turns(rig, 1, elbow=Rotation.from_euler("z", 90, degrees=True)), np.zeros((1, 3), np.float32))
    at = rig.places()
    np.testing.assert_allclose(moved.places[0, :3], at[:3], atol=1e-6)
    np.testing.assert_allclose(moved.places[0, 3], at[2] + (0, 0.2, 0), atol=1e-6)  # from its left to upwards


def test_places_and_corners_are_those_of_a_chain_of_transforms() -> None:
    rig, rng = arm(), np.random.default_rng(4)
    local = Rotation.random(5 * 4, random_state=4).as_matrix().reshape(5, 4, 3, 3).astype(np.float32)
    shift = rng.uniform(-1, 1, (5, 3)).astype(np.float32)
    moved = pose(rig, local, shift)
    carried = moved.carry(rig.vertices, rig.bone)
    for frame in range(5):
        world: list[Floats] = []  # 4x4 matrices, multiplied from the root on
        for joint, parent in enumerate(rig.parents):
            matrix = np.eye(4)
            matrix[:3, :3] = local[frame, joint]
            matrix[:3, 3] = rig.offsets[joint] + (shift[frame] if parent < 0 else 0)
            world.append(matrix if parent < 0 else world[parent] @ matrix)
        np.testing.assert_allclose(moved.places[frame], [m[:3, 3] for m in world], atol=1e-5)
        corners = [(world[bone] @ (*corner, 1.0))[:3] for corner, bone in zip(rig.vertices, rig.bone, strict=True)]
        np.testing.assert_allclose(carried[frame], corners, atol=1e-5)
