import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from manifests.errors import UserError
from manifests.theatre import capture, legs, motions, procedural
from manifests.theatre import rotations as turn
from manifests.theatre.grounding import AVERAGE
from manifests.theatre.motion import JOINTS, PARENTS
from tests.manifests.theatre.clips import needs_capture, speeds

FAMILIES = tuple(procedural.FAMILIES)
OWN = tuple(f"{family}-{number:03d}" for family in FAMILIES for number in (0, 7, 907))
FASTEST = 18.0  # rad/s


def places(motion):
    """Return `[T, 22, 3]`, where the joints of the average person are, in leg lengths, by matrices."""
    world, where = [motion.rotations[:, 0]], [motion.translation + np.array([0, AVERAGE.height(), 0])]
    for joint, parent in enumerate(PARENTS[1:], start=1):
        where.append(where[parent] + world[parent] @ AVERAGE.offsets[joint])
        world.append(world[parent] @ motion.rotations[:, joint])
    return np.stack(where, axis=1)


def heading_deg(motion, frame=0):
    ahead = motion.rotations[frame, 0] @ [0, 0, 1]
    return np.degrees(np.arctan2(ahead[0], ahead[2]))


def spread(names, count):
    return [names[i] for i in np.linspace(0, len(names) - 1, count).astype(int)]


@pytest.mark.parametrize("name", OWN)
def test_our_own_motions_turn_rigidly_and_within_a_persons_speed(name):
    motion = motions.motion(name, 90, 30)
    product = motion.rotations @ np.swapaxes(motion.rotations, -1, -2)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(3), product.shape), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(motion.rotations), 1, atol=1e-5)
    assert speeds(motion).max() < FASTEST
    assert np.linalg.norm(np.diff(motion.translation, axis=0), axis=1).max() * motion.fps < 3
    assert motion.curl.shape == (90, 2)
    assert motion.curl.min() >= 0
    assert motion.curl.max() <= 1


@pytest.mark.parametrize("family", FAMILIES)
def test_our_own_motions_stand_on_the_ground(family):
    for number in (3, 950):
        motion = motions.motion(f"{family}-{number:03d}", 60, 15)
        turns = turn.from_matrices(motion.rotations)
        lowest = motion.translation[:, 1] + AVERAGE.height() + AVERAGE.lowest(turns)
        assert lowest.min() > -0.05, "sinks"
        assert np.percentile(lowest, 25) < 0.05, "floats"
        assert lowest.max() < 0.35, "flies"


@pytest.mark.parametrize("family", ["wave", "point", "squat", "bow", "twist", "talk", "stretch"])
def test_feet_that_are_planted_stay_where_they_are(family):
    """By forward kinematics of the leg's bones, which the solver does not use."""
    motion = motions.motion(f"{family}-004", 60, 15)
    for side, sign in (("left", 1), ("right", -1)):
        mirror = np.array([sign, 1, 1])
        at, world = motion.translation.astype(float), motion.rotations[:, 0].astype(float)
        for joint, bone in (("hip", legs._HIP), ("knee", legs._THIGH), ("ankle", legs._SHIN)):
            at = at + world @ (bone * mirror)
            world = world @ motion.rotations[:, JOINTS.index(f"{side}_{joint}")]
        assert np.ptp(at, axis=0).max() < 2e-3  # leg lengths


@pytest.mark.parametrize("name", OWN)
def test_knees_and_elbows_bend_one_way_and_not_too_far(name):
    motion = motions.motion(name, 45, 15)
    for joint, axis, furthest in (("knee", (1, 0, 0), 2.6), ("elbow", (0, -1, 0), 2.6)):
        for side, sign in (("left", 1), ("right", 1 if joint == "knee" else -1)):
            turns = Rotation.from_matrix(motion.rotations[:, JOINTS.index(f"{side}_{joint}")]).as_rotvec()
            bent = turns @ np.array(axis) * sign
            np.testing.assert_allclose(np.linalg.norm(turns, axis=1), np.abs(bent), atol=1e-4)
            assert bent.min() > -0.12
            assert bent.max() < furthest


@needs_capture
@pytest.mark.parametrize(("name", "legs_a_second"), [("walk", 1), ("run", 3.5), ("walk_forward", 1), ("walk~m", 1)])
def test_who_walks_goes_on_walking_ahead(name, legs_a_second):
    motion = motions.motion(name, 50, 10)
    ahead = np.diff(motion.translation[:, 2]) * 10
    assert ahead.min() > 0.5 * legs_a_second
    assert ahead.mean() > legs_a_second
    assert abs(motion.translation[-1, 0]) < 0.25 * motion.translation[-1, 2]


@needs_capture
def test_the_feet_of_a_walk_go_ahead_in_turn():
    at = places(motions.motion("walk", 26, 20))
    left, right = (at[:, JOINTS.index(f"{side}_ankle"), 2] for side in ("left", "right"))
    apart = left - right
    assert apart.max() > 0.4
    assert apart.min() < -0.4


@pytest.mark.parametrize("name", ["wave-042", "turn-003", pytest.param("cartwheel", marks=needs_capture)])
def test_mirrored_twice_is_the_motion_itself(name):
    motion = motions.motion(name, 20, 8)
    frames = turn.from_matrices(motion.rotations), motion.translation.astype(float), motion.curl.astype(float)
    once = motions.mirrored(*frames)
    turns, translation, curl = motions.mirrored(*once)
    assert np.abs(once[0] - frames[0]).max() > 0.01
    np.testing.assert_array_equal(turns, frames[0])
    np.testing.assert_array_equal(translation, frames[1])
    np.testing.assert_array_equal(curl, frames[2])


def test_a_mirrored_motion_puts_every_joint_at_its_mirror_image():
    other = [JOINTS.index(j.replace("left", "*").replace("right", "left").replace("*", "right")) for j in JOINTS]
    straight, mirrored = (places(motions.motion(name, 20, 8)) for name in ("dance-011", "dance-011~m"))
    np.testing.assert_allclose(mirrored, straight[:, other] * [-1, 1, 1], atol=1e-5)


@pytest.mark.parametrize("degrees", [0, 90, -135, 180])
@pytest.mark.parametrize("name", ["turn-010", pytest.param("turn_left1@0.9", marks=needs_capture)])
def test_the_first_frame_faces_where_the_name_says_over_the_origin(name, degrees):
    motion, straight = motions.motion(f"{name}^{degrees}", 12, 8), motions.motion(name, 12, 8)
    assert abs((heading_deg(motion) - degrees + 180) % 360 - 180) < 2
    np.testing.assert_allclose(motion.translation[0, [0, 2]], 0, atol=1e-6)
    turned = Rotation.from_rotvec([0, np.radians(degrees), 0]).apply(straight.translation)
    np.testing.assert_allclose(motion.translation, turned, atol=1e-5)


def test_90_degrees_are_to_the_figures_left():
    ahead = motions.motion("bow-001^90", 1, 8).rotations[0, 0] @ [0, 0, 1]
    assert ahead[0] > 0.95


@pytest.mark.parametrize("base", ["march-020", pytest.param("run", marks=needs_capture)])
def test_tempo_start_and_frame_rate_only_say_when(base):
    rate = motions.motion(base, 9, 16)
    np.testing.assert_array_equal(motions.motion(base + "*2", 9, 32).rotations, rate.rotations)
    np.testing.assert_array_equal(motions.motion(base, 5, 8).rotations, rate.rotations[::2])
    later = motions.motion(base + "@0.25", 5, 16)
    np.testing.assert_allclose(later.rotations[:, 1:], rate.rotations[4:, 1:], atol=1e-6)


def test_a_name_is_taken_apart_in_one_way():
    assert motions.parse("walk@0.6~m*1.3^-90") == motions.Name("walk", 0.6, True, 1.3, -90.0)
    assert motions.parse("wave-042") == motions.Name("wave-042")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "no motion's name"), ("walk~m@3", "no motion's name"), ("walk@-1", "no motion's name"),
        ("walk*nan", "no motion's name"), ("walk@1e3", "no motion's name"), ("Walk", "no motion's name"),
        ("walk ", "no motion's name"), ("../walk", "no motion's name"), ("walk*0", "tempo 0"),
        ("walk*9", "0.25 to 4"), ("fly", "walk_forward"), ("fly-001", "wave"), ("wave", "wave-042"),
        ("wave-42", "wave-042"), ("walk-001", "no motion 'walk-001'"),
    ],
)  # fmt: skip
def test_a_wrong_name_is_one_clear_error_that_says_what_there_is(name, said):
    with pytest.raises(motions.MotionNameError) as caught:
        motions.motion(name, 4, 8)
    assert said in str(caught.value)
    assert isinstance(caught.value, UserError)


def test_a_lead_in_starts_in_the_other_pose_and_ends_exactly_on_the_motions_frame():
    motion, other = motions.motion("dance-005", 21, 8), motions.motion("sit-017", 21, 8)
    led = motions.with_lead_in(motion, other, 4)
    np.testing.assert_array_equal(led.rotations[4:], motion.rotations[4:])
    np.testing.assert_array_equal(led.translation[4:], motion.translation[4:])
    np.testing.assert_array_equal(led.curl[4:], motion.curl[4:])
    np.testing.assert_allclose(led.rotations[0, 1:], other.rotations[0, 1:], atol=1e-6)
    np.testing.assert_allclose(led.translation[0, 1], other.translation[0, 1], atol=1e-6)
    np.testing.assert_allclose(led.translation[:4, [0, 2]], motion.translation[[4, 4, 4, 4]][:, [0, 2]], atol=1e-6)
    assert len(led) == 21
    assert led.name == motion.name


def test_a_lead_in_goes_evenly_and_keeps_the_heading_of_the_motion():
    motion, other = motions.motion("turn-005", 40, 8), motions.motion("wave-017^150", 21, 8)
    led = motions.with_lead_in(motion, other, 30)
    assert abs(heading_deg(led) - heading_deg(motion, 30)) < 3
    between = Rotation.from_matrix(other.rotations[0, 16]).inv() * Rotation.from_matrix(motion.rotations[30, 16])
    half = Rotation.from_matrix(other.rotations[0, 16]).inv() * Rotation.from_matrix(led.rotations[15, 16])
    assert half.magnitude() == pytest.approx(between.magnitude() / 2, abs=1e-4)
    steps = speeds(led)[:30]
    assert steps.max() < 1.55 * np.pi / 30 * 8  # a soft path is at most half as fast again as an even one


@pytest.mark.parametrize("frames", [0, -1, 21, 30])
def test_a_lead_in_longer_than_the_motion_is_refused(frames):
    motion = motions.motion("sway-001", 21, 8)
    with pytest.raises(UserError, match="wanted 1 to 20"):
        motions.with_lead_in(motion, motion, frames)


def test_a_name_gives_the_same_bytes_in_every_process():
    names = ["dance-123~m*1.1", "combo-900@1.5", "pose-044", "turn-321^45"]
    script = (
        "import hashlib, json, sys\nfrom manifests.theatre import motions\n"
        "made = [motions.motion(n, 21, 8) for n in json.loads(sys.argv[1])]\n"
        "parts = b''.join(p.tobytes() for m in made for p in (m.rotations, m.translation, m.curl))\n"
        "print(hashlib.sha256(parts).hexdigest())"
    )
    made = [motions.motion(name, 21, 8) for name in names]
    here = hashlib.sha256(b"".join(p.tobytes() for m in made for p in (m.rotations, m.translation, m.curl))).hexdigest()
    for seed in ("0", "12345"):
        there = subprocess.run(
            [sys.executable, "-c", script, json.dumps(names)], env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert there.stdout.strip() == here


def base_of(name):
    return motions.parse(name).base


@needs_capture
def test_the_splits_share_no_clip_no_family_that_is_held_out_and_no_number():
    train, held_out = ({base_of(name) for name in motions.names(split)} for split in ("train", "held_out"))
    assert not train & held_out
    assert {"dance_a", "punch"} <= held_out
    assert {name for name in capture.CLIPS if name not in held_out} <= train
    families = {name.partition("-")[0] for name in train if "-" in name}
    assert families == set(procedural.TRAIN)
    assert {"clap", "lunge"} <= {name.partition("-")[0] for name in held_out} - families


@needs_capture
@pytest.mark.parametrize("split", ["train", "held_out"])
def test_every_name_of_a_split_is_there_once_and_makes_a_motion(split):
    names = motions.names(split)
    assert len(set(names)) == len(names)
    for name in spread(names, 60):
        motion = motions.motion(name, 21, 8)
        assert motion.name == name
        assert np.isfinite(motion.rotations).all()
        assert np.isfinite(motion.translation).all()


@needs_capture
def test_no_two_names_give_the_same_motion():
    names = spread(motions.names("train"), 400)
    seen = {motions.motion(name, 3, 8).rotations.tobytes() for name in names}
    assert len(seen) == len(names)


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_easy_motions_face_the_front_upright_and_stay_where_they_are(split):
    names = motions.names(split, easy=True)
    assert not {base_of(name) for name in names} & set(capture.CLIPS)
    for name in spread(names, 80):
        motion = motions.motion(name, 21, 8)
        assert max(abs(heading_deg(motion, frame)) for frame in range(21)) < 60, name
        assert motion.rotations[:, 0, 1, 1].min() > 0.7, name
        assert np.abs(motion.translation[:, [0, 2]]).max() < 0.5, name


def test_an_unknown_split_is_refused_by_name():
    with pytest.raises(UserError, match="train and held_out"):
        motions.names("test")


def test_easy_motions_and_our_own_need_no_package(monkeypatch):
    def absent():
        raise capture.CaptureError("not installed")

    monkeypatch.setattr(capture, "folder", absent)
    capture.clip.cache_clear()
    assert len(motions.names("train", easy=True)) > 1000
    assert len(motions.motion("box-001", 5, 8)) == 5
    with pytest.raises(capture.CaptureError):
        motions.motion("walk", 5, 8)
    capture.clip.cache_clear()
