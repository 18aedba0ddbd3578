import numpy as np
import pytest
from numpy.typing import NDArray

from manifests.theatre.correspondences import CORRESPONDENCES, HANGING_RAD, driven
from manifests.theatre.creatures import KINDS, creature
from manifests.theatre.figures import figure, names, perform
from manifests.theatre.humans import average, bent
from manifests.theatre.motion import JOINTS, PARENTS, Motion
from manifests.theatre.rig import Pose, pose
from tests.manifests.theatre.poses import motion, wild

STANDING = {"left_shoulder": (0.0, 0.0, -HANGING_RAD), "right_shoulder": (0.0, 0.0, HANGING_RAD)}
RAISED = {"left_shoulder": (0.0, 0.0, 1.2)}
KICKING = STANDING | {"left_hip": (-1.3, 0.0, 0.0)}
ALL = [f"{kind}-{number:03d}" for kind in KINDS for number in (2, 77, 950)]


def posed(name: str, act: Motion) -> Pose:
    kind, number = name.split("-")
    rig = creature(name, kind, int(number))
    still = np.zeros((len(act), 3), np.float32)
    return pose(rig, driven(kind, rig, act.rotations), still)


def test_there_are_at_least_four_kinds_and_200_and_50_names_that_share_none() -> None:
    train, held_out = names("train", KINDS), names("held_out", KINDS)
    assert len(KINDS) >= 4
    assert len(train) >= 200
    assert len(held_out) >= 50
    assert not set(train) & set(held_out)


@pytest.mark.parametrize("name", ALL)
def test_the_table_of_correspondences_covers_every_joint_and_no_other(name: str) -> None:
    kind, number = name.split("-")
    table = CORRESPONDENCES[kind]
    assert set(table) == set(creature(name, kind, int(number)).joints)
    assert all(drive.joint in JOINTS and drive.against in (None, *JOINTS) for drive in table.values())


def test_what_bends_against_a_joint_bends_against_one_above_it() -> None:
    for table in CORRESPONDENCES.values():
        for drive in (d for d in table.values() if d.against is not None):
            above, index = [], JOINTS.index(drive.joint)
            while index >= 0:
                above.append(JOINTS[index])
                index = PARENTS[index]
            assert drive.against in above


def test_left_drives_left() -> None:
    for table in CORRESPONDENCES.values():
        for name, drive in table.items():
            for side in ("left", "right"):
                if drive.joint.startswith(side):
                    assert name.startswith(side), (name, drive)


@pytest.mark.parametrize("name", ALL)
def test_a_human_who_stands_with_hanging_arms_drives_the_rest_pose(name: str) -> None:
    made = figure(name)
    np.testing.assert_allclose(perform(made, motion(STANDING)).vertices[0], made.vertices, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_a_raised_left_arm_raises_what_the_table_says_and_leaves_the_other_side(name: str) -> None:
    rest, raised = (posed(name, motion(STANDING | pose)) for pose in ({}, RAISED))
    kind, number = name.split("-")
    joints = creature(name, kind, int(number)).joints
    hands = [i for i, j in enumerate(joints) if CORRESPONDENCES[kind][j].joint == "left_wrist"]
    others = [i for i, j in enumerate(joints) if j.startswith("right_")]
    assert hands
    assert (raised.places[0, hands, 1] > rest.places[0, hands, 1] + 0.1).all()
    np.testing.assert_allclose(raised.places[0, others], rest.places[0, others], atol=1e-5)


@pytest.mark.parametrize("name", [name for name in ALL if not name.startswith("octopus")])
def test_a_kick_forwards_is_a_kick_forwards_with_the_left_leg(name: str) -> None:
    kind, number = name.split("-")
    joints = creature(name, kind, int(number)).joints
    rest, kicked = (posed(name, motion(pose)).places[0] for pose in (STANDING, KICKING))
    left, right = joints.index("left_foot"), joints.index("right_foot")
    assert rest[left, 0] > 0
    assert kicked[left, 2] > rest[left, 2] + 0.1
    np.testing.assert_allclose(kicked[right], rest[right], atol=1e-5)


def test_an_octopus_kicks_with_two_tentacles_to_the_left_one_ahead_and_one_behind() -> None:
    joints = creature("octopus-002", "octopus", 2).joints
    rest, kicked = (posed("octopus-002", motion(pose)).places[0] for pose in (STANDING, KICKING))
    front, rear = (kicked[j] - rest[j] for j in (joints.index(f"left_{place}leg3") for place in ("front", "rear")))
    assert front[0] > 0.05 < front[2]
    assert rear[0] > 0.05 < -rear[2]


def test_a_robots_limbs_point_where_those_of_the_human_do() -> None:
    act = wild(21, frames=20)
    rig = average().rig
    person = pose(rig, bent(rig.joints, act.rotations, act.curl), np.zeros((20, 3), np.float32))
    machine = creature("robot-002", "robot", 2)
    robot = posed("robot-002", act)

    def direction(pose: Pose, joints: tuple[str, ...], start: str, end: str) -> NDArray[np.float64]:
        bone = pose.places[:, joints.index(end)] - pose.places[:, joints.index(start)]
        return np.asarray(bone / np.linalg.norm(bone, axis=1, keepdims=True), np.float64)

    bones = {"thigh": "hip", "shin": "knee", "foot": "ankle", "arm": "shoulder", "forearm": "elbow", "hand": "wrist"}
    for side in ("left", "right"):
        for start, end in (("thigh", "shin"), ("shin", "foot"), ("arm", "forearm"), ("forearm", "hand")):
            ours = direction(robot, machine.joints, f"{side}_{start}", f"{side}_{end}")
            theirs = direction(person, rig.joints, f"{side}_{bones[start]}", f"{side}_{bones[end]}")
            # bones of people are not quite straight: their legs stand astride, their arms slope
            assert np.degrees(np.arccos(np.clip((ours * theirs).sum(axis=1), -1, 1))).max() < 22


@pytest.mark.parametrize("kind", KINDS)
def test_a_creature_touches_the_ground_when_the_human_does_and_is_else_as_far_above_it_in_legs(kind: str) -> None:
    act, rig = wild(8, frames=12), average().rig
    leg_m = rig.length("left_hip", "left_knee", "left_ankle")
    person = pose(rig, bent(rig.joints, act.rotations, act.curl), act.translation * np.float32(leg_m))
    above = np.maximum(person.carry(rig.vertices, rig.bone)[..., 1].min(axis=1), 0) / leg_m
    made = figure(f"{kind}-002")
    lowest = perform(made, act).vertices[..., 1].min(axis=1) / made.leg_m
    assert 0 < (above > 0.05).sum() < len(above), "some frames are in the air, some are not"
    np.testing.assert_allclose(lowest, above, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_motion_without_jumps_has_none_in_a_creature_even_upside_down(kind: str) -> None:
    # a somersault by steps of two degrees, arms overhead, back bent
    flip = motion(*(
        {"pelvis": (np.deg2rad(2.0 * i), 0.02, 0.01), "spine1": (0.3, 0.1, 0), "left_shoulder": (0.1, 0, 1.3),
         "right_shoulder": (0, 0.1, -1.3), "translation": (0, 1.0, 0)} for i in range(181)
    ))  # fmt: skip
    made = figure(f"{kind}-002")
    vertices = perform(made, flip).vertices
    step = np.linalg.norm(np.diff(vertices, axis=0), axis=2).max()
    # the eased tilt of what stands on four catches up 7/4 times as fast; nothing is farther than its height from the
    # pelvis
    assert step < 2 * 7 / 4 * np.deg2rad(2.0) * 1.5 * made.height_m


def test_a_quadruped_stays_level_when_a_human_goes_down_on_all_fours() -> None:
    crawl = motion({
        "pelvis": (np.pi / 2, 0, 0), "left_hip": (-np.pi / 2, 0, 0), "right_hip": (-np.pi / 2, 0, 0),
        "left_knee": (np.pi / 2, 0, 0), "right_knee": (np.pi / 2, 0, 0),
        # arms that point ahead of the chest point at the ground
        "left_collar": (0, -np.pi / 2, 0), "right_collar": (0, np.pi / 2, 0),
    })  # fmt: skip
    name = "quadruped-002"
    joints = creature(name, "quadruped", 2).joints
    at = posed(name, crawl).places[0]
    trunk = at[joints.index("chest")] - at[joints.index("pelvis")]
    assert np.degrees(np.arctan2(abs(trunk[1]), trunk[2])) < 25
    thigh = at[joints.index("left_shin")] - at[joints.index("left_thigh")]
    assert thigh[1] / np.linalg.norm(thigh) < -0.95, "its hind legs stand"
    foreleg = at[joints.index("left_hand")] - at[joints.index("left_arm")]
    assert foreleg[1] / np.linalg.norm(foreleg) < -0.9, "so do its forelegs"


def test_a_quadruped_sits_down_when_a_human_squats() -> None:
    made = figure("quadruped-002")
    squat = STANDING | {"translation": (0.0, -0.68, 0.0), "left_hip": (-1.9, 0.0, 0.0), "right_hip": (-1.9, 0.0, 0.0),
                        "left_knee": (2.2, 0.0, 0.0), "right_knee": (2.2, 0.0, 0.0)}  # fmt: skip
    sat = perform(made, motion(squat)).vertices[0]
    front = made.vertices[:, 2] > 0.8 * made.vertices[:, 2].max()  # head and neck
    rump = made.vertices[:, 2] < 0
    assert abs((sat - made.vertices)[front, 1].mean()) < 0.12 * made.height_m
    body = made.vertices[:, 1] > made.leg_m
    assert (sat - made.vertices)[rump & body, 1].mean() < -0.35 * made.leg_m


@pytest.mark.parametrize("number", [2, 77, 950])
def test_a_quadruped_rears_when_both_arms_are_raised_and_stands_when_one_is(number: int) -> None:
    name = f"quadruped-{number:03d}"
    joints = creature(name, "quadruped", number).joints
    both = {side: (0.0, 0.0, turn) for side, turn in (("left_shoulder", 1.2), ("right_shoulder", -1.2))}
    slopes = []
    for act in (motion(STANDING), motion(STANDING | RAISED), motion(both)):
        trunk = np.subtract(*posed(name, act).places[0, [joints.index("chest"), joints.index("pelvis")]])
        slopes.append(np.degrees(np.arctan2(trunk[1], trunk[2])))
    np.testing.assert_allclose(slopes, [0, 0, np.degrees(0.9)], atol=1e-3)


@pytest.mark.parametrize("number", [2, 77, 950])
def test_a_quadruped_lies_down_when_a_human_lies_on_the_back(number: int) -> None:
    name = f"quadruped-{number:03d}"
    made, joints = figure(name), creature(name, "quadruped", number).joints
    lying = motion(STANDING | {"pelvis": (-np.pi / 2, 0.0, 0.0), "translation": (0.0, -0.9, 0.0)})
    at = posed(name, lying).places[0]
    trunk = at[joints.index("chest")] - at[joints.index("pelvis")]
    assert np.degrees(np.arctan2(abs(trunk[1]), trunk[2])) < 25
    chest, hips = at[joints.index("left_arm"), 1], at[joints.index("left_thigh"), 1]
    assert abs(chest - hips) < 0.1 * made.height_m


@pytest.mark.parametrize("kind", KINDS)
def test_its_points_are_those_of_the_average_human_at_its_leg_length(kind: str) -> None:
    made, act = figure(f"{kind}-002"), wild(9)
    rig, markers = average().rig, average().markers
    leg_m = rig.length("left_hip", "left_knee", "left_ankle")
    moved = pose(rig, bent(rig.joints, act.rotations, act.curl), act.translation * np.float32(leg_m))
    shown = perform(made, act)
    assert shown.given.all()
    np.testing.assert_allclose(shown.points, markers.carried(moved) * (made.leg_m / leg_m), atol=1e-5)
    legs = np.linalg.norm(shown.points[:, 11] - shown.points[:, 13], axis=1) + np.linalg.norm(
        shown.points[:, 13] - shown.points[:, 15], axis=1
    )
    np.testing.assert_allclose(legs, made.leg_m, rtol=1e-4)
