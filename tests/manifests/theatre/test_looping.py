import numpy as np

from manifests.theatre import capture, looping, motions
from manifests.theatre import rotations as turn
from manifests.theatre.capture import Clip
from tests.manifests.theatre.clips import needs_capture, speeds

FASTEST = 40.0  # rad/s; a fast punch of the clips reaches 27 between two of its key frames


def clip_of(angles, cyclic, translation=None):
    """A clip whose pelvis turns about the vertical by these angles, a second from one to the next."""
    turns = np.tile([1.0, 0, 0, 0], (len(angles), 22, 1))
    turns[:, 0] = turn.about(turn.Y, np.array(angles))
    moved = np.zeros((len(angles), 3)) if translation is None else np.array(translation, float)
    return Clip(np.arange(len(angles), dtype=float), turns, moved, np.full((len(angles), 2), 0.25), cyclic)


def test_between_two_key_frames_turns_go_by_slerp_and_places_straight():
    clip = clip_of([0, 1.2], False, [[0, 0, 0], [1, 2, 3]])
    turns, translation, _ = looping.at(clip, np.array([0.25]))
    np.testing.assert_allclose(turns[0, 0], turn.about(turn.Y, 0.3), atol=1e-12)
    np.testing.assert_allclose(translation[0], [0.25, 0.5, 0.75])


def test_what_is_not_cyclic_plays_to_and_fro():
    clip = clip_of([0, 1, 1.5], False)
    times = np.array([0.5, 1.5, 2.0, 2.5, 3.5, 4.0, 4.5])
    turns, _, _ = looping.at(clip, times)
    yaw = 2 * np.arctan2(turns[:, 0, 2], turns[:, 0, 0])
    np.testing.assert_allclose(yaw, [0.5, 1.25, 1.5, 1.25, 0.5, 0, 0.5], atol=1e-9)


def test_a_round_starts_where_and_facing_as_the_last_one_ended():
    """Four rounds of a quarter turn, each a step ahead, walk a square."""
    clip = clip_of([0, np.pi / 4, np.pi / 2], True, [[0, 0, 0], [0, 0, 0.5], [0, 0, 1]])
    _, translation, _ = looping.at(clip, np.array([0.0, 2, 4, 6, 8]))
    np.testing.assert_allclose(translation[:, [0, 2]], [[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]], atol=1e-9)


def test_what_does_not_meet_at_the_seam_fades_in_the_next_round():
    clip = clip_of([0, 0.1, 0.2], True)
    clip.turns[-1, 5] = turn.about(turn.X, 1.0)
    turns, _, _ = looping.at(clip, np.array([1.999999, 2.000001, 2.25, 2.5, 3.0]))
    bent = 2 * np.arctan2(turns[:, 5, 1], turns[:, 5, 0])
    np.testing.assert_allclose(bent, [1, 1, 0.5, 0, 0], atol=1e-4)


@needs_capture
def test_a_motion_at_the_files_own_times_is_the_files_poses():
    for name in ("dance_b", "getup_facedown", "spin"):
        clip = capture.clip(name)
        turns, translation, curl = looping.at(clip, clip.times_s[:-1])
        dots = np.abs((turns * clip.turns[:-1]).sum(axis=-1))
        np.testing.assert_allclose(dots, 1, atol=1e-9)
        np.testing.assert_allclose(translation, clip.translation[:-1], atol=1e-9)
        np.testing.assert_allclose(curl, clip.curl[:-1])


@needs_capture
def test_captured_motions_turn_rigidly_and_do_not_jump_at_the_seams_of_their_rounds():
    for name in capture.CLIPS:
        clip = capture.clip(name)
        motion = motions.motion(name, int(60 * 2.5 * clip.seconds), 60)
        np.testing.assert_allclose(np.linalg.det(motion.rotations), 1, atol=1e-5)
        moving, shift = speeds(motion), np.linalg.norm(np.diff(motion.translation, axis=0), axis=1) * 60
        first = int(60 * clip.seconds) - 1
        assert moving.max() < FASTEST, name
        assert moving[first:].max() < 1.35 * moving[:first].max() + 1, name
        assert shift[first:].max() < 1.35 * shift[:first].max() + 0.2, name
