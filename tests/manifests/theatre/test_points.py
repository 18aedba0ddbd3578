import numpy as np
import pytest

from manifests.theatre.figures import figure, perform
from manifests.theatre.humans import human
from manifests.theatre.motion import JOINTS, Array, Motion
from manifests.theatre.points import BODY, FACE, FEET, LEFT_HAND, LIMB_JOINTS, RIGHT_HAND, face_layout, on_head
from manifests.theatre.solids import ellipsoid
from model import skeleton
from tests.manifests.theatre.poses import motion, wild, winding

PEOPLE = ("human-001", "human-013", "human-222", "human-930")


def mirrored_order() -> list[int]:
    """Return for each point the one on the other side, from the names in `model.skeleton` and iBUG-68's numbering."""
    order = list(range(133))
    names = skeleton.BODY_NAMES + skeleton.FEET_NAMES
    for i, name in enumerate(names):
        other = name.replace("left", "L").replace("right", "left").replace("L", "right")
        order[i] = names.index(other)
    face = [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38,
            37, 36, 41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]  # fmt: skip
    order[23:91] = [23 + i for i in face]
    order[91:133] = [*range(112, 133), *range(91, 112)]
    return order


def in_a_mirror(act: Motion) -> Motion:
    flip = np.diag([-1, 1, 1]).astype(np.float32)
    other = [JOINTS.index(j.replace("left", "L").replace("right", "left").replace("L", "right")) for j in JOINTS]
    rotations: Array = (flip @ act.rotations[:, other] @ flip).astype(np.float32)
    return Motion("mirror", act.fps, rotations, (act.translation @ flip).astype(np.float32), act.curl[:, ::-1])


def test_the_slices_are_those_of_the_skeleton() -> None:
    ours = (BODY, FEET, FACE, LEFT_HAND, RIGHT_HAND)
    assert ours == (skeleton.BODY, skeleton.FEET, skeleton.FACE, skeleton.LEFT_HAND, skeleton.RIGHT_HAND)
    assert skeleton.BODY_NAMES[5:] == LIMB_JOINTS


@pytest.mark.parametrize("name", PEOPLE)
def test_in_a_mirror_left_and_right_change_places_and_nothing_else(name: str) -> None:
    act = wild(11)
    seen = perform(figure(name), act).points * np.array([-1, 1, 1], np.float32)
    mirrored = perform(figure(name), in_a_mirror(act)).points
    off = np.linalg.norm(mirrored - seen[:, mirrored_order()], axis=2).max(axis=0)
    head = np.r_[0:5, FACE]
    assert off[head].max() < 0.015, "heads are alike on both sides to a centimetre"
    assert np.delete(off, head).max() < 2e-4


@pytest.mark.parametrize("name", PEOPLE)
def test_left_is_the_figures_own_left(name: str) -> None:
    points = perform(figure(name), motion({})).points[0]
    pairs = [(i, n) for i, n in enumerate(skeleton.BODY_NAMES + skeleton.FEET_NAMES) if n != "nose"]
    assert all((points[i, 0] > 0) == n.startswith("left") for i, n in pairs)
    assert points[LEFT_HAND, 0].min() > 0 > points[RIGHT_HAND, 0].max()
    assert points[FACE][0, 0] < 0 < points[FACE][16, 0], "the jaw begins at the figure's right"


@pytest.mark.parametrize("name", PEOPLE)
def test_the_body_points_that_are_joints_lie_inside_the_body(name: str) -> None:
    made = figure(name)
    act = perform(made, wild(2, frames=3, rad=0.4))
    for frame in range(3):
        inside = winding(act.points[frame, 5:17].astype(np.float64), act.vertices[frame][made.faces])
        assert (inside > 0.5).all()


@pytest.mark.parametrize("name", PEOPLE)
def test_a_point_is_nearest_to_its_own_part(name: str) -> None:
    made, rig = figure(name), human(name, int(name[-3:])).rig
    act = perform(made, wild(7, frames=3))
    own = {0: "head", 1: "head", 3: "head", 17: "left_foot", 19: "left_ankle", 20: "right_foot", 22: "right_ankle",
           40: "head", 68: "head", 95: "left_thumb3", 103: "left_middle3", 128: "right_ring3"}  # fmt: skip
    for point, joint in own.items():
        for frame in range(3):
            near = np.linalg.norm(act.vertices[frame] - act.points[frame, point], axis=1)
            assert rig.joints[rig.bone[near.argmin()]] == joint, (point, joint)
    for hand, side in ((LEFT_HAND, "left"), (RIGHT_HAND, "right")):
        near = np.linalg.norm(act.vertices[0][:, None] - act.points[0, hand], axis=2).argmin(axis=0)
        assert all(rig.joints[rig.bone[v]].startswith(side) for v in near)


@pytest.mark.parametrize("name", PEOPLE)
def test_every_point_is_given_and_lies_within_the_figures_box(name: str) -> None:
    act = perform(figure(name), wild(4))
    assert act.given.all()
    assert act.points.shape == (6, 133, 3)
    for frame in range(6):
        low, high = act.vertices[frame].min(axis=0), act.vertices[frame].max(axis=0)
        assert (act.points[frame] > low - 1e-4).all()
        assert (act.points[frame] < high + 1e-4).all()


def test_the_layout_of_the_face_is_that_of_a_face() -> None:
    layout = face_layout()
    assert layout.shape == (68, 2)

    def height(*points: int) -> float:
        return float(layout[list(points), 1].mean())

    brows, eyes, nose, mouth = height(*range(17, 27)), height(*range(36, 48)), height(30), height(*range(48, 68))
    assert brows > eyes > nose > mouth > height(8)
    assert layout[8, 1] == layout[:, 1].min(), "the chin is lowest"
    assert (np.diff(layout[:17, 0]) > 0).all()
    assert layout[36, 0] < layout[39, 0] < 0 < layout[42, 0] < layout[45, 0], "eyes: outer, inner, inner, outer corner"
    assert layout[48, 0] < layout[60, 0] < 0 < layout[64, 0] < layout[54, 0]
    assert layout[51, 1] > layout[62, 1] > layout[66, 1] > layout[57, 1], "lips: outer above, inner above, below"


def test_points_on_a_head_lie_on_its_surface() -> None:
    ball = ellipsoid((0.1, 1.5, -0.2), 0.1, 40, 60)
    around, up = np.array([0.0, 0.4, -1.2, 1.5]), np.array([0.5, 0.3, 0.8, 0.1])
    points = on_head(ball, around, up)
    np.testing.assert_allclose(np.linalg.norm(points - np.array([0.1, 1.5, -0.2]), axis=1), 0.1, atol=3e-4)
    sideways = points - np.array([0.1, 0, -0.2])
    np.testing.assert_allclose(np.arctan2(sideways[:, 0], sideways[:, 2]), around, atol=1e-5)
    np.testing.assert_allclose(points[:, 1], 1.4 + 0.2 * up, atol=1e-5)


def facing(points: Array) -> Array:
    """Return the direction, over the ears and the eyes, in which a head looks."""
    ahead: Array = points[1:3].mean(axis=0) - points[3:5].mean(axis=0)
    return ahead / np.linalg.norm(ahead)


def test_a_turned_head_looks_where_it_is_turned() -> None:
    straight, left = perform(figure("human-013"), motion({}, {"head": (0, np.pi / 2, 0)})).points
    assert facing(straight)[2] > 0.9
    assert facing(left)[0] > 0.9
