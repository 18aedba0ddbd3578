"""The layout and the drawing, against the published convention written down a second time, by names."""

import colorsys

import numpy as np
import pytest

from model.skeleton import (
    BODY,
    BODY_NAMES,
    FACE,
    FEET,
    FEET_NAMES,
    HAND_EDGES,
    LEFT_HAND,
    LIMBS,
    OPENPOSE,
    OPENPOSE_COLOURS,
    OPENPOSE_LIMBS,
    POINTS,
    RIGHT_HAND,
    Points,
    box_of,
    draw,
    frames_of,
    openpose_body,
)

# OpenPose's 18 points and the colour in which DWPose draws each and the limb of the same number, as published
# (controlnet's openpose annotator, `draw_bodypose`): limbs as pairs of the points' names.
PUBLISHED_POINTS = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye",
    "right_ear", "left_ear",
)  # fmt: skip
PUBLISHED_LIMBS = [  # limbSeq, counted from 1 as there; two more are listed there and never drawn
    [2, 3], [2, 6], [3, 4], [4, 5], [6, 7], [7, 8], [2, 9], [9, 10], [10, 11], [2, 12], [12, 13], [13, 14], [2, 1],
    [1, 15], [15, 17], [1, 16], [16, 18],
]  # fmt: skip

# `colors` there, RGB: that of the limb and of the point of this number.
PUBLISHED_COLOURS = [
    [255, 0, 0], [255, 85, 0], [255, 170, 0], [255, 255, 0], [170, 255, 0], [85, 255, 0], [0, 255, 0], [0, 255, 85],
    [0, 255, 170], [0, 255, 255], [0, 170, 255], [0, 85, 255], [0, 0, 255], [85, 0, 255], [170, 0, 255], [255, 0, 255],
    [255, 0, 170], [255, 0, 85],
]  # fmt: skip


def person() -> Points:
    """A person with every point seen, no two in one place."""
    rng = np.random.default_rng(1)
    points = np.zeros((POINTS, 3), np.float32)
    points[:, :2] = rng.uniform(20, 492, (POINTS, 2))
    points[:, 2] = 0.9
    return points


def only(*names: str) -> Points:
    """Nobody but the named body points, far apart."""
    points = np.zeros((POINTS, 3), np.float32)
    for i, name in enumerate(names):
        points[BODY_NAMES.index(name)] = (100 + 300 * i, 120 + 250 * i, 1)
    return points


def test_the_parts_cover_the_133_points_once() -> None:
    covered = np.concatenate([np.arange(POINTS)[part] for part in (BODY, FEET, FACE, LEFT_HAND, RIGHT_HAND)])
    np.testing.assert_array_equal(covered, np.arange(133))
    assert (len(BODY_NAMES), len(FEET_NAMES)) == (17, 6)


def test_the_18_points_stand_in_the_published_order() -> None:
    names = ["neck" if i < 0 else BODY_NAMES[i] for i in OPENPOSE]
    assert tuple(names) == PUBLISHED_POINTS


def test_the_limbs_stand_in_the_published_order() -> None:
    assert [[a + 1, b + 1] for a, b in OPENPOSE_LIMBS] == PUBLISHED_LIMBS


def test_the_colours_go_once_around_the_circle_of_hues() -> None:
    hues = [colorsys.rgb_to_hsv(*(c / 255 for c in colour))[0] * 360 for colour in OPENPOSE_COLOURS]
    np.testing.assert_allclose(hues, np.arange(18) * 20, atol=0.5)


def test_cocos_limbs_join_points_of_one_side_or_both() -> None:
    assert len(set(LIMBS)) == 19
    for a, b in LIMBS:
        sides = {BODY_NAMES[i].split("_")[0] for i in (a, b)} - {"nose"}
        assert len(sides) == 1 or BODY_NAMES[a].split("_")[1] == BODY_NAMES[b].split("_")[1]


def test_the_neck_is_half_way_between_the_shoulders_with_the_lower_score() -> None:
    points = only("left_shoulder", "right_shoulder")
    points[5, 2] = 0.6
    np.testing.assert_allclose(openpose_body(points, 0.3)[1], (250, 245, 0.6))


def test_there_is_no_neck_without_both_shoulders() -> None:
    points = only("left_shoulder", "nose")
    np.testing.assert_array_equal(openpose_body(points, 0.3)[1], 0)


@pytest.mark.parametrize("limb", range(17))
def test_a_limb_is_drawn_in_its_colour_at_six_tenths(limb: int) -> None:
    a, b = (OPENPOSE[i] for i in OPENPOSE_LIMBS[limb])
    points = np.zeros((POINTS, 3), np.float32)
    places = {5: (150, 150, 1), 6: (350, 150, 1)} if -1 in (a, b) else {}  # a neck needs shoulders
    far = [i for i in (a, b) if i not in places and i >= 0]
    places |= dict(zip(far, ((400, 400, 1), (120, 420, 1)), strict=False))
    for i, place in places.items():
        points[i] = place
    body = openpose_body(points, 0.3)
    middle = (body[OPENPOSE_LIMBS[limb][0], :2] + body[OPENPOSE_LIMBS[limb][1], :2]) / 2
    got = draw(points[None], 512, 512)[round(middle[1]), round(middle[0])]
    np.testing.assert_array_equal(got, [int(c * 0.6) for c in OPENPOSE_COLOURS[limb]])


@pytest.mark.parametrize("number", [i for i in range(18) if i != 1])
def test_a_point_is_drawn_in_the_colour_of_its_number(number: int) -> None:
    points = np.zeros((POINTS, 3), np.float32)
    points[OPENPOSE[number]] = (200, 300, 1)
    np.testing.assert_array_equal(draw(points[None], 512, 512)[300, 200], OPENPOSE_COLOURS[number])


def test_a_finger_is_a_chain_from_the_wrist_and_each_has_its_hue() -> None:
    fingers = [HAND_EDGES[4 * f : 4 * f + 4] for f in range(5)]
    for f, edges in enumerate(fingers):
        assert edges == tuple(zip((0, 4 * f + 1, 4 * f + 2, 4 * f + 3), range(4 * f + 1, 4 * f + 5), strict=True))
    points = np.zeros((POINTS, 3), np.float32)
    points[LEFT_HAND.start] = (100, 100, 1)
    points[LEFT_HAND.start + 5] = (300, 100, 1)  # root of the index finger: edge 4 of 20
    red, green, blue = colorsys.hsv_to_rgb(4 / 20, 1, 1)
    np.testing.assert_array_equal(
        draw(points[None], 512, 512)[100, 200], (int(red * 255), int(green * 255), int(blue * 255))
    )


def test_face_points_are_white() -> None:
    points = np.zeros((POINTS, 3), np.float32)
    points[FACE.start + 30] = (200, 300, 1)
    assert (draw(points[None], 512, 512)[300, 200] == 255).all()


@pytest.mark.parametrize("part", [BODY, FACE, LEFT_HAND, RIGHT_HAND])
def test_what_was_not_seen_is_not_drawn(part: slice) -> None:
    points = np.zeros((POINTS, 3), np.float32)
    points[part] = person()[part]
    assert draw(points[None], 512, 512).any()
    points[part, 2] = 0.29
    assert not draw(points[None], 512, 512, min_score=0.3).any()


def test_drawing_over_a_picture_leaves_the_rest_of_it_and_does_not_change_it() -> None:
    back = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    before = back.copy()
    points = np.zeros((POINTS, 3), np.float32)
    points[0] = (50, 60, 1)
    out = draw(points[None], 256, 256, back=back)
    np.testing.assert_array_equal(back, before)
    changed = (out != back).any(axis=2)
    assert changed[60, 50]
    assert not changed[80:].any()


def test_a_box_holds_the_seen_body_and_feet_only() -> None:
    points = np.zeros((POINTS, 3), np.float32)
    points[0], points[16], points[22] = (50, 20, 0.9), (80, 200, 0.9), (85, 210, 0.9)
    points[5] = (500, 500, 0.1)
    points[100] = (400, 400, 0.9)  # a hand
    np.testing.assert_array_equal(box_of(points, 0.3), (50, 20, 85, 210))
    assert box_of(points, 0.95) is None


def test_a_wrong_shape_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"wanted \[P, 133, 3\]"):
        draw(person(), 512, 512)
    with pytest.raises(ValueError, match=r"wanted \[T, P, 133, 3\]"):
        frames_of(person()[None], 512, 512)


def test_the_limbs_colours_are_those_of_the_published_table() -> None:
    drawn = [list(colour) for _, colour in zip(OPENPOSE_LIMBS, OPENPOSE_COLOURS, strict=False)]
    assert drawn == PUBLISHED_COLOURS[: len(PUBLISHED_LIMBS)]
    assert [list(colour) for colour in OPENPOSE_COLOURS] == PUBLISHED_COLOURS


def test_a_clips_frames_are_its_people_drawn_frame_by_frame() -> None:
    two = np.stack([person(), person()[::-1]])
    clip = np.stack([two, two / 2, np.zeros_like(two)]).astype(np.float32)
    clip[1, :, :, 2] = 0.9
    frames = frames_of(clip, 256, 128)
    assert (frames.shape, frames.dtype) == ((3, 256, 128, 3), np.uint8)
    for people, frame in zip(clip, frames, strict=True):
        np.testing.assert_array_equal(frame, draw(people, 256, 128))
    assert frames[0].any()
    assert not frames[2].any()
    assert frames_of(clip[:0], 256, 128).shape == (0, 256, 128, 3)
    assert not frames_of(clip[:, :0], 256, 128).any()
    assert not frames_of(clip, 256, 128, min_score=0.95).any()
