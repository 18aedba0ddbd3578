import importlib.util
import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from manifests.errors import UserError
from manifests.theatre import capture, grounding
from manifests.theatre.motion import JOINTS, PARENTS
from tests.manifests.theatre.clips import BALLS, HINGES, needs_capture, still, write

# the file's axes (x ahead, y up, z right) in ours (x left, y up, z ahead)
AXES = Rotation.from_matrix([[0, 0, -1], [0, 1, 0], [1, 0, 0]])


def world(clip, frame):
    """Return the turn of each joint in the world, by scipy."""
    turns = Rotation.from_quat(np.roll(clip.turns[frame], -1, axis=1))
    found = [turns[0]]
    for joint, parent in enumerate(PARENTS[1:], start=1):
        found.append(found[parent] * turns[joint])
    return dict(zip(JOINTS, found, strict=True))


def in_the_file(frame):
    """Return the turn of each of the file's joints in its world, by scipy."""
    local = {name: Rotation.from_quat(np.roll(frame[at : at + 4], -1)) for name, at in BALLS.items()}
    local |= {name: Rotation.from_rotvec([0, 0, frame[at]]) for name, at in HINGES.items()}
    found = {"root": local["root"], "chest": local["root"] * local["chest"]}
    found["neck"] = found["chest"] * local["neck"]
    for side in ("left", "right"):
        for name, parent in (("hip", "root"), ("shoulder", "chest")):
            found[f"{side}_{name}"] = found[parent] * local[f"{side}_{name}"]
        found[f"{side}_knee"] = found[f"{side}_hip"] * local[f"{side}_knee"]
        found[f"{side}_ankle"] = found[f"{side}_knee"] * local[f"{side}_ankle"]
        found[f"{side}_elbow"] = found[f"{side}_shoulder"] * local[f"{side}_elbow"]
    return found


def some_frames(seed=0, frames=4):
    rng = np.random.default_rng(seed)
    rows = still(frames)
    for at in BALLS.values():
        rows[:, at : at + 4] = np.roll(Rotation.random(frames, rng=rng).as_quat(), 1, axis=1)
    for name, at in HINGES.items():
        rows[:, at] = rng.uniform(0, 2, frames) * (-1 if "knee" in name else 1)
    return rows


BONES = {  # joint: the direction of its bone at rest, in the file's axes and in ours
    "hip": ((0, -1, 0), (0, -1, 0)), "knee": ((0, -1, 0), (0, -1, 0)), "ankle": ((1, 0, 0), (0, 0, 1)),
    "shoulder": ((0, -1, 0), (1, 0, 0)), "elbow": ((0, -1, 0), (1, 0, 0)),
}  # fmt: skip


def check_limbs(clip, frame, row):
    ours, theirs = world(clip, frame), in_the_file(row)
    for side, sign in (("left", 1), ("right", -1)):
        for joint, (file_bone, bone) in BONES.items():
            wanted = AXES.apply(theirs[f"{side}_{joint}"].apply(file_bone))
            found = ours[f"{side}_{joint}"].apply(np.array(bone) * (sign, 1, 1))
            np.testing.assert_allclose(found, wanted, atol=1e-6)
    for joint, theirs_of in (("pelvis", "root"), ("spine3", "chest"), ("head", "neck")):
        wanted = AXES * theirs[theirs_of] * AXES.inv()
        assert (ours[joint] * wanted.inv()).magnitude() < 1e-6


def test_every_limb_points_where_it_points_in_the_file(tmp_path):
    rows = some_frames()
    clip = capture.read(write(tmp_path / "clip.txt", rows))
    for frame, row in enumerate(rows):
        check_limbs(clip, frame, row)


@needs_capture
@pytest.mark.parametrize(("name", "frame"), [("kick", 20), ("walk", 5), ("cartwheel", 30), ("getup_facedown", 0)])
def test_a_frame_of_the_package_shows_the_pose_that_its_file_says(name, frame):
    rows = json.loads((capture.folder() / capture.CLIPS[name]).read_text())["Frames"]
    check_limbs(capture.clip(name), frame, np.array(rows[frame]))


def test_a_standing_figure_is_at_rest_but_for_its_hanging_arms(tmp_path):
    clip = capture.read(write(tmp_path / "clip.txt", still()))
    posture = world(clip, 1)
    for joint in ("pelvis", "head", "left_foot", "right_foot"):
        assert posture[joint].magnitude() < 1e-6
    np.testing.assert_allclose(posture["left_wrist"].apply([1, 0, 0]), [0, -1, 0], atol=1e-6)
    np.testing.assert_allclose(posture["right_wrist"].apply([-1, 0, 0]), [0, -1, 0], atol=1e-6)
    np.testing.assert_allclose(clip.translation[1], 0, atol=1e-3)


def test_ahead_in_the_file_is_ahead_here_and_its_right_is_to_our_right(tmp_path):
    rows = still(2)
    rows[1, [1, 3]] = 0.8314, 0.41570  # one leg length ahead, half of one to the right
    moved = capture.read(write(tmp_path / "clip.txt", rows)).translation
    np.testing.assert_allclose(moved[1] - moved[0], [-0.5, 0, 1], atol=1e-3)


def test_knees_bend_backwards_and_elbows_forwards(tmp_path):
    rows = still(2)
    rows[:, HINGES["left_knee"]] = -np.pi / 2
    rows[:, HINGES["right_elbow"]] = np.pi / 2
    posture = world(capture.read(write(tmp_path / "clip.txt", rows)), 0)
    np.testing.assert_allclose(posture["left_knee"].apply([0, -1, 0]), [0, 0, -1], atol=1e-6)
    np.testing.assert_allclose(posture["right_elbow"].apply([-1, 0, 0]), [0, 0, 1], atol=1e-6)


def test_a_figure_that_lies_flat_comes_to_lie_on_the_ground(tmp_path):
    rows = still(2)
    rows[:, 2] = 0.36 / 4  # the radius of the file's pelvis
    rows[:, 4:8] = np.roll(Rotation.from_rotvec([0, 0, np.pi / 2]).as_quat(), 1)  # on its back
    clip = capture.read(write(tmp_path / "clip.txt", rows))
    height = clip.translation[0, 1] + grounding.AVERAGE.height()
    assert 0.08 < height < 0.25  # the pelvis, in leg lengths: half its thickness
    lowest = height + grounding.AVERAGE.lowest(clip.turns)[0]
    assert lowest == pytest.approx(0, abs=1e-6)  # the file's thicker chest was below the ground


def test_a_figure_high_in_the_air_keeps_the_path_of_its_pelvis(tmp_path):
    rows = still(2)
    rows[1, 2] += 0.8314
    moved = capture.read(write(tmp_path / "clip.txt", rows)).translation
    assert moved[1, 1] - moved[0, 1] == pytest.approx(1, abs=0.01)


def test_key_frames_lie_where_their_durations_say(tmp_path):
    rows = still(4)
    rows[:, 0] = 0.1, 0.3, 0.2, 0.0
    clip = capture.read(write(tmp_path / "clip.txt", rows, loop="wrap"))
    np.testing.assert_allclose(clip.times_s, [0, 0.1, 0.4, 0.6])
    assert clip.seconds == pytest.approx(0.6)
    assert clip.cyclic


def spoilt(change):
    rows = still()
    change(rows)
    return json.dumps({"Loop": "none", "Frames": rows.tolist()})


def put(row, column, value):
    def change(rows):
        rows[row, column] = value

    return change


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no capture clip"),
        ("{", "no capture clip"),
        ("[]", "no capture clip"),
        ('{"Loop": "wrap"}', "Frames"),
        ('{"Frames": []}', "shape"),
        ('{"Frames": [[1, 2], [1]]}', "no capture clip"),
        ('{"Frames": [["a"]]}', "no capture clip"),
        (json.dumps({"Frames": np.zeros((5, 43)).tolist()}), r"\[5, 43\]"),
        (json.dumps({"Frames": still(3)[:1].tolist()}), r"\[1, 44\]"),
        (spoilt(put(1, 9, float("nan"))), "frame 1 holds a number that is not finite"),
        (spoilt(put(0, 0, 0.0)), "frame 0 lasts no time"),
        (spoilt(put(1, 0, -0.1)), "frame 1 lasts no time"),
        (spoilt(put(2, slice(30, 34), 0.0)), "left_hip in frame 2"),
    ],
)
def test_a_damaged_file_is_one_clear_error(tmp_path, text, said):
    path = tmp_path / "clip.txt"
    path.write_text(text)
    with pytest.raises(capture.CaptureError, match=said) as caught:
        capture.read(path)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, UserError)


def test_a_missing_or_binary_file_is_one_clear_error(tmp_path):
    with pytest.raises(capture.CaptureError, match="no capture clip"):
        capture.read(tmp_path / "none.txt")
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)))
    with pytest.raises(capture.CaptureError, match="no capture clip"):
        capture.read(tmp_path / "binary.txt")


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pybullet_data" else found(name))
    with pytest.raises(capture.CaptureError, match="pip install pybullet"):
        capture.folder()


@needs_capture
def test_every_clip_of_the_package_is_read_and_comes_down_to_the_ground():
    for name in capture.CLIPS:
        clip = capture.clip(name)
        assert clip.turns.shape == (len(clip.times_s), 22, 4)
        np.testing.assert_allclose(np.linalg.norm(clip.turns, axis=-1), 1, atol=1e-9)
        lowest = clip.translation[:, 1] + grounding.AVERAGE.height() + grounding.AVERAGE.lowest(clip.turns)
        assert -0.05 < lowest.min() < 0.03, name
        assert np.median(lowest) < 0.05, name


@needs_capture
def test_the_file_says_how_knees_and_elbows_of_a_clip_bend():
    rows = np.array(json.loads((capture.folder() / capture.CLIPS["walk"]).read_text())["Frames"])
    clip = capture.clip("walk")
    for name, at in HINGES.items():
        turns = clip.turns[:, JOINTS.index(name)]
        bent = 2 * np.arctan2(np.linalg.norm(turns[:, 1:], axis=1), np.abs(turns[:, 0]))
        np.testing.assert_allclose(bent, np.abs(rows[:, at]), atol=1e-9)
