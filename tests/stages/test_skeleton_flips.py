"""Flips of left and right, put into motions whose truth is known."""

import numpy as np
import pytest

from model.skeleton import BODY_NAMES, FEET_NAMES, LEFT_HAND, RIGHT_HAND, Points
from stages.skeleton_flips import EXCHANGED, flipped_frames

FRAMES = 40


def dancer(frame: int, turn: float = 0.0) -> Points:
    """A person 200 px tall who swings arms and legs; `turn` rad about the upright axis, 0 facing us."""
    points = np.zeros((133, 3), np.float32)
    swing = np.sin(frame / 4)
    height = {"shoulder": 40, "elbow": 75, "wrist": 105, "hip": 100, "knee": 150, "ankle": 195}
    width = {"shoulder": 22, "elbow": 35 + 10 * swing, "wrist": 40 + 25 * swing, "hip": 14, "knee": 18, "ankle": 20}
    for i, name in enumerate(BODY_NAMES):
        side, _, joint = name.partition("_")
        sign = {"left": 1, "right": -1}.get(side, 0)
        x = width.get(joint, 6) * sign * np.cos(turn)
        lift = 12 * swing * sign if joint in ("wrist", "knee", "ankle") else 0
        points[i] = (150 + x + frame, 30 + height.get(joint, 15) + lift, 0.9)
    return points


def test_each_point_is_exchanged_with_its_counterpart() -> None:
    names = [*BODY_NAMES, *FEET_NAMES]
    for i, name in enumerate(names):
        other = {"left": "right", "right": "left"}.get(name.split("_")[0])
        wanted = name if other is None else "_".join([other, *name.split("_")[1:]])
        assert names[EXCHANGED[i]] == wanted
    assert EXCHANGED[LEFT_HAND].tolist() == list(range(RIGHT_HAND.start, RIGHT_HAND.stop))
    np.testing.assert_array_equal(EXCHANGED[EXCHANGED], np.arange(133))


@pytest.mark.parametrize("flipped", [[], [13], [1], [13, 14, 15], [5, 6, 20, 33]])
def test_exactly_the_flipped_frames_are_found(flipped: list[int]) -> None:
    seen = {t: dancer(t)[EXCHANGED] if t in flipped else dancer(t) for t in range(FRAMES)}
    assert flipped_frames(seen, 0.3) == flipped


def test_a_person_who_turns_round_is_left_as_he_is() -> None:
    assert flipped_frames({t: dancer(t, turn=np.pi * t / FRAMES) for t in range(FRAMES)}, 0.3) == []


def test_a_person_seen_from_behind_all_the_time_is_left_as_he_is() -> None:
    assert flipped_frames({t: dancer(t, turn=np.pi) for t in range(FRAMES)}, 0.3) == []


def test_noise_is_no_flip() -> None:
    rng = np.random.default_rng(0)
    seen = {t: dancer(t) for t in range(FRAMES)}
    for points in seen.values():
        points[:, :2] += rng.normal(0, 4, (133, 2))
    assert flipped_frames(seen, 0.3) == []


def test_after_a_long_gap_nothing_is_held_against_the_model() -> None:
    seen = {t: dancer(t)[EXCHANGED] if t > 20 else dancer(t) for t in range(FRAMES) if not 15 < t <= 20}
    assert flipped_frames(seen, 0.3) == []


def test_nobody_is_no_flip() -> None:
    assert flipped_frames({}, 0.3) == []
