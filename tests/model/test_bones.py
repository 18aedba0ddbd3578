"""Bone scaling and normalisation, against formulas written down per point and against properties of any skeleton."""

from dataclasses import asdict, fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as some

from model.bones import Factors, draw_factors, normalise, scale_bones
from model.skeleton import BODY_NAMES, FACE, LEFT_HAND, LIMBS, POINTS, RIGHT_HAND, Points, frames_of

AT = BODY_NAMES.index
HIPS, SHOULDERS = (AT("left_hip"), AT("right_hip")), (AT("left_shoulder"), AT("right_shoulder"))
# Segment -> (parent, child), as anatomy says it; written apart from the tree in the code.
LIMB_OF = {
    "left_upper_arm": ("left_shoulder", "left_elbow"),
    "right_upper_arm": ("right_shoulder", "right_elbow"),
    "left_forearm": ("left_elbow", "left_wrist"),
    "right_forearm": ("right_elbow", "right_wrist"),
    "left_thigh": ("left_hip", "left_knee"),
    "right_thigh": ("right_hip", "right_knee"),
    "left_shin": ("left_knee", "left_ankle"),
    "right_shin": ("right_knee", "right_ankle"),
}
ENDS = {  # segment -> the joint it hangs on, its points
    "left_hand": (AT("left_wrist"), list(range(91, 112))),
    "right_hand": (AT("right_wrist"), list(range(112, 133))),
    "left_foot": (AT("left_ankle"), [17, 18, 19]),
    "right_foot": (AT("right_ankle"), [20, 21, 22]),
}
HEAD = [0, 1, 2, 3, 4, *range(FACE.start, FACE.stop)]

factors = st.builds(Factors, **{field.name: st.floats(0.8, 1.2) for field in fields(Factors)})
places = st.tuples(st.integers(1, 5), st.integers(1, 3)).flatmap(
    lambda tp: some.arrays(np.float32, (*tp, POINTS, 2), elements=st.floats(0, 1000, width=32))
)


def whole(place: np.ndarray) -> Points:
    """Everything seen."""
    return np.concatenate([place, np.full((*place.shape[:-1], 1), 0.9)], axis=-1).astype(np.float32)


@st.composite
def partly(draw: st.DrawFn) -> Points:
    """Skeletons in which points are unseen, some in a frame, some throughout, some known with little certainty."""
    skeleton = whole(draw(places))
    skeleton[..., 2] = draw(some.arrays(np.float32, skeleton.shape[:-1], elements=st.sampled_from([0, 0, 0.1, 0.5, 1])))
    never = draw(some.arrays(bool, skeleton.shape[1:3]))
    skeleton[:, never] = 0
    skeleton[skeleton[..., 2] == 0] = 0
    return skeleton


def walker(frames: int = 12) -> Points:
    """One person who walks through the picture: a rigid figure that shifts, with arms and legs that swing."""
    rng = np.random.default_rng(3)
    rest = np.zeros((POINTS, 2))
    rest[:17] = [
        (100, 20), (105, 15), (95, 15), (110, 18), (90, 18), (120, 50), (80, 50), (130, 90), (70, 90), (135, 125),
        (65, 125), (110, 130), (90, 130), (112, 180), (88, 180), (114, 230), (86, 230),
    ]  # fmt: skip
    rest[17:23] = [(120, 238), (124, 236), (110, 236), (80, 238), (76, 236), (90, 236)]
    rest[FACE] = rest[0] + rng.uniform(-8, 8, (68, 2))
    rest[LEFT_HAND], rest[RIGHT_HAND] = (rest[i] + rng.uniform(-9, 9, (21, 2)) for i in (9, 10))
    place = np.repeat(rest[None], frames, axis=0)
    swing = 15 * np.sin(np.arange(frames) / 2)[:, None]
    place[:, [7, 9, 14, 16], 0] += swing
    place[:, [8, 10, 13, 15], 0] -= swing
    place += (np.arange(frames) * 6)[:, None, None] * np.array([1, 0.2])
    return whole(place[:, None])


def middle(skeleton: Points, pair: tuple[int, int]) -> np.ndarray:
    return skeleton[:, :, pair, :2].astype(np.float64).mean(axis=2)


@given(places, factors)
@settings(max_examples=30, deadline=None)
def test_a_limb_keeps_its_direction_and_its_length_is_multiplied(place: np.ndarray, f: Factors) -> None:
    before = whole(place)
    after = scale_bones(before, f)
    for segment, (parent, child) in LIMB_OF.items():
        bone, scaled = (s[:, :, AT(child), :2] - s[:, :, AT(parent), :2] for s in (before, after))
        np.testing.assert_allclose(scaled, bone * getattr(f, segment), atol=2e-3)


@given(places, factors)
@settings(max_examples=30, deadline=None)
def test_the_torso_is_scaled_as_one_about_the_pelvis_which_stays(place: np.ndarray, f: Factors) -> None:
    before = whole(place)
    after = scale_bones(before, f)
    pelvis = middle(before, HIPS)
    np.testing.assert_allclose(middle(after, HIPS), pelvis, atol=1e-3)
    for i in (*HIPS, *SHOULDERS):
        expected = pelvis + f.torso * (before[:, :, i, :2] - pelvis)
        np.testing.assert_allclose(after[:, :, i, :2], expected, atol=1e-3)


@given(places, factors)
@settings(max_examples=30, deadline=None)
def test_head_hands_and_feet_move_rigidly_with_their_joint_and_scale_by_their_own_factor(
    place: np.ndarray, f: Factors
) -> None:
    before = whole(place)
    after = scale_bones(before, f)
    for segment, (joint, points) in ENDS.items():
        offset, scaled = (s[:, :, points, :2] - s[:, :, joint, None, :2] for s in (before, after))
        np.testing.assert_allclose(scaled, offset * getattr(f, segment), atol=2e-3)
    offset, scaled = (s[:, :, HEAD, :2] - middle(s, SHOULDERS)[:, :, None] for s in (before, after))
    np.testing.assert_allclose(scaled, offset * f.head, atol=2e-3)


@given(partly())
@settings(max_examples=50, deadline=None)
def test_factors_of_one_give_the_same_bits(skeleton: Points) -> None:
    before = skeleton.tobytes()
    assert scale_bones(skeleton, Factors()).tobytes() == before
    assert skeleton.tobytes() == before


@given(partly(), factors)
@settings(max_examples=50, deadline=None)
def test_what_is_unseen_stays_unseen_and_scores_and_input_stay(skeleton: Points, f: Factors) -> None:
    before = skeleton.copy()
    for after in (scale_bones(skeleton, f), normalise(skeleton, 64, 48)):
        assert after.dtype == np.float32
        np.testing.assert_array_equal(after[..., 2], before[..., 2])
        np.testing.assert_array_equal(after[before[..., 2] == 0], 0)
        assert np.isfinite(after).all()
    np.testing.assert_array_equal(skeleton, before)


@given(partly(), factors)
@settings(max_examples=50, deadline=None)
def test_a_limb_of_which_both_ends_are_seen_keeps_its_direction_whatever_else_is_missing(
    skeleton: Points, f: Factors
) -> None:
    after = scale_bones(skeleton, f)
    for segment, (parent, child) in LIMB_OF.items():
        both = (skeleton[:, :, [AT(parent), AT(child)], 2] >= 0.3).all(axis=2)
        bone, scaled = (s[both][:, AT(child), :2] - s[both][:, AT(parent), :2] for s in (skeleton, after))
        np.testing.assert_allclose(scaled, bone * getattr(f, segment), atol=2e-3)


def test_every_body_point_moves_by_the_sum_of_what_its_bones_grow() -> None:
    f = draw_factors(np.random.default_rng(0), tied=False)
    before = walker()
    after = scale_bones(before, f)
    place = before[:, 0, :, :2].astype(np.float64)
    pelvis = place[:, HIPS].mean(axis=1)
    hip, knee, ankle, toe = (place[:, i] for i in (AT("left_hip"), AT("left_knee"), AT("left_ankle"), 17))
    by_hand = (
        pelvis + f.torso * (hip - pelvis) + f.left_thigh * (knee - hip) + f.left_shin * (ankle - knee)
        + f.left_foot * (toe - ankle)
    )  # fmt: skip
    np.testing.assert_allclose(after[:, 0, 17, :2], by_hand, atol=1e-3)


def test_one_factor_for_all_is_an_enlargement_about_the_pelvis() -> None:
    before = walker()
    after = scale_bones(before, Factors(**dict.fromkeys(asdict(Factors()), 1.15)))
    pelvis = middle(before, HIPS)[:, :, None]
    np.testing.assert_allclose(after[..., :2], pelvis + 1.15 * (before[..., :2] - pelvis), atol=1e-3)


def test_the_movement_of_the_pelvis_is_kept_and_that_of_a_limb_is_scaled_with_it() -> None:
    before = walker()
    after = scale_bones(before, Factors(left_thigh=1.2, left_shin=1.2))
    np.testing.assert_allclose(np.diff(middle(after, HIPS), axis=0), np.diff(middle(before, HIPS), axis=0), atol=1e-4)
    swing_before, swing_after = (s[:, 0, AT("left_ankle"), 0] - s[:, 0, AT("left_hip"), 0] for s in (before, after))
    np.testing.assert_allclose(swing_after, 1.2 * swing_before, atol=1e-3)


@pytest.mark.parametrize(
    ("unseen", "fixed"),
    [
        (range(11, 23), SHOULDERS),  # a half body: the neck
        ([*range(5, 23)], (0, 0)),  # a close-up: the nose
        ([*range(17), *range(112, 133)], (17, 17)),  # neither: the first of the points that are seen most
        ([AT("right_hip")], (AT("left_hip"),) * 2),  # in profile
    ],
)
def test_without_a_pelvis_another_point_stays(unseen: list[int], fixed: tuple[int, int]) -> None:
    before = walker()
    before[:, :, list(unseen)] = 0
    after = scale_bones(before, draw_factors(np.random.default_rng(1)))
    np.testing.assert_allclose(middle(after, fixed), middle(before, fixed), atol=1e-3)
    assert np.abs(after - before).max() > 1


def test_a_joint_that_comes_and_goes_does_not_make_the_rest_jump() -> None:
    before = walker(24)
    flickering = before.copy()
    gone = np.arange(24) % 3 == 1
    flickering[np.ix_(gone, [0], [AT("left_elbow"), AT("left_hip"), AT("right_hip"), AT("right_shoulder")])] = 0
    f = Factors(torso=1.2, left_upper_arm=1.2, left_forearm=0.8)
    seen = flickering[..., 2] > 0
    error = np.abs(scale_bones(flickering, f) - scale_bones(before, f))[seen].max()
    assert error < 1.0, f"{error} px"  # of 24 px that the wrist moves away from its place
    assert np.abs(scale_bones(before, f) - before)[:, 0, AT("left_wrist")].max() > 10


def test_a_joint_that_is_never_seen_is_left_out_of_the_chain() -> None:
    before = walker()
    before[:, :, AT("left_elbow")] = 0
    after = scale_bones(before, Factors(left_upper_arm=1.2, left_forearm=0.9))
    arm, scaled = (s[:, :, AT("left_wrist"), :2] - s[:, :, AT("left_shoulder"), :2] for s in (before, after))
    np.testing.assert_allclose(scaled, 0.9 * arm, atol=1e-3)


def test_nothing_hangs_on_a_point_below_the_score() -> None:
    before = walker(24)
    wild = before.copy()
    wild[::2, 0, AT("left_elbow")] = (5000, -3000, 0.1)
    f = Factors(left_upper_arm=1.2, left_forearm=0.8)
    arm = [*range(LEFT_HAND.start, LEFT_HAND.stop), AT("left_wrist")]
    error = np.abs(scale_bones(wild, f) - scale_bones(before, f))[:, :, arm].max()
    assert error < 4.0, f"{error} px"  # what is lost by interpolating a swing; the point itself lies 5000 px away


def test_who_is_never_seen_well_is_left_alone() -> None:
    before = walker()
    before[..., 2] = 0.1
    np.testing.assert_array_equal(scale_bones(before, Factors(torso=1.2, head=0.8)), before)


def test_each_person_may_have_a_build_of_their_own() -> None:
    one = walker()
    two = np.concatenate([one, one + np.array([300, 0, 0], np.float32)], axis=1)
    builds = [draw_factors(np.random.default_rng(seed)) for seed in (1, 2)]
    both = scale_bones(two, builds)
    for p, build in enumerate(builds):
        np.testing.assert_array_equal(both[:, p : p + 1], scale_bones(two[:, p : p + 1], build))


def test_a_half_turn_of_the_picture_and_scaling_commute() -> None:
    before = walker()
    turned = before.copy()
    turned[..., :2] = 400 - before[..., :2]
    f = draw_factors(np.random.default_rng(5), tied=False)
    np.testing.assert_allclose(scale_bones(turned, f)[..., :2], 400 - scale_bones(before, f)[..., :2], atol=1e-3)


@given(st.integers(0, 2**32), st.floats(0.5, 1), st.floats(1, 1.5), st.booleans())
@settings(max_examples=50, deadline=None)
def test_factors_lie_between_their_bounds_and_follow_the_seed(seed: int, low: float, high: float, tied: bool) -> None:
    f = draw_factors(np.random.default_rng(seed), low, high, tied)
    assert f == draw_factors(np.random.default_rng(seed), low, high, tied)
    assert all(low <= value <= high for value in asdict(f).values())
    sides = [(getattr(f, name), getattr(f, name.replace("left", "right"))) for name in asdict(f) if "left" in name]
    assert len(sides) == 6
    if tied:
        assert all(left == right for left, right in sides)


def test_drawn_factors_are_spread_evenly_and_apart() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([list(asdict(draw_factors(rng, tied=False)).values()) for _ in range(4000)])
    np.testing.assert_allclose(drawn.mean(axis=0), 1.0, atol=0.01)
    np.testing.assert_allclose(drawn.var(axis=0), 0.4**2 / 12, rtol=0.06)
    np.testing.assert_allclose(np.corrcoef(drawn.T), np.eye(14), atol=0.07)


def test_wrong_factors_and_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="the factor of torso is 0, wanted a positive number"):
        Factors(torso=0)
    with pytest.raises(ValueError, match="head is nan"):
        replace(Factors(), head=float("nan"))
    with pytest.raises(ValueError, match=r"between 1.2 and 0.8, wanted 0 < low <= high"):
        draw_factors(np.random.default_rng(0), 1.2, 0.8)
    with pytest.raises(ValueError, match="factors for 2 people and 1 in the skeleton"):
        scale_bones(walker(), [Factors(), Factors()])
    for change in (lambda s: scale_bones(s, Factors()), lambda s: normalise(s, 64, 64)):
        with pytest.raises(ValueError, match=r"wanted \[T, P, 133, 3\]"):
            change(walker()[0])
    with pytest.raises(ValueError, match=r"below 0\.5"):
        normalise(walker(), 64, 64, margin=0.5)


@pytest.mark.parametrize("shape", [(0, 1), (3, 0), (0, 0)])
def test_clips_without_frames_or_people_pass(shape: tuple[int, int]) -> None:
    nobody = np.zeros((*shape, POINTS, 3), np.float32)
    for after in (scale_bones(nobody, draw_factors(np.random.default_rng(0))), normalise(nobody, 64, 64)):
        assert after.shape == nobody.shape


@given(partly(), st.integers(32, 512), st.integers(32, 512), st.floats(0, 0.4))
@settings(max_examples=50, deadline=None)
def test_the_box_of_the_whole_clip_touches_the_margins_and_stands_in_the_middle(
    skeleton: Points, height_px: int, width_px: int, margin: float
) -> None:
    after = normalise(skeleton, height_px, width_px, margin)
    counted = after[after[..., 2] >= 0.3][:, :2].astype(np.float64)
    if len(np.unique(counted, axis=0)) < 2:
        return
    low, high = counted.min(axis=0), counted.max(axis=0)
    size = np.array([width_px, height_px])
    np.testing.assert_allclose((low + high) / 2, size / 2, atol=0.01)
    np.testing.assert_allclose(((high - low) / size).max(), 1 - 2 * margin, atol=1e-3)


def test_the_box_is_that_of_the_clip_not_of_the_frame() -> None:
    before = walker()
    after = normalise(before, 64, 64)
    steps, scaled = (np.diff(s[:, 0, 0, :2], axis=0) for s in (before, after))
    scale = scaled[0, 0] / steps[0, 0]
    np.testing.assert_allclose(scaled, scale * steps, atol=1e-3)  # the walk is still there
    np.testing.assert_allclose(scaled.sum(axis=0), scale * (before[-1, 0, 0, :2] - before[0, 0, 0, :2]), rtol=1e-4)


@given(partly(), st.floats(0.25, 4), st.floats(-500, 500), st.floats(-500, 500))
@settings(max_examples=50, deadline=None)
def test_where_and_how_large_the_person_stood_makes_no_difference(
    skeleton: Points, scale: float, x: float, y: float
) -> None:
    counted = skeleton[skeleton[..., 2] >= 0.3][:, :2]
    if len(counted) == 0 or np.ptp(counted, axis=0).max() < 50:
        return  # nobody, or smaller than float32 can carry through such a shift
    elsewhere = skeleton.copy()
    elsewhere[..., :2][skeleton[..., 2] > 0] = (skeleton[..., :2] * scale + np.array([x, y]))[skeleton[..., 2] > 0]
    np.testing.assert_allclose(normalise(elsewhere, 96, 64), normalise(skeleton, 96, 64), atol=0.02)


@given(partly())
@settings(max_examples=50, deadline=None)
def test_to_normalise_twice_is_to_normalise_once(skeleton: Points) -> None:
    once = normalise(skeleton, 96, 64)
    np.testing.assert_allclose(normalise(once, 96, 64), once, rtol=1e-4, atol=0.01)


def test_faces_hands_and_every_person_count_for_the_box() -> None:
    skeleton = np.zeros((2, 3, POINTS, 3), np.float32)
    skeleton[0, 0, FACE.start] = (10, 20, 1)
    skeleton[1, 2, RIGHT_HAND.start] = (110, 70, 1)
    skeleton[1, 1, 0] = (900, 900, 0.2)  # too uncertain to count, moved with the rest
    after = normalise(skeleton, 100, 100, margin=0)
    np.testing.assert_allclose(after[0, 0, FACE.start], (0, 25, 1), atol=1e-4)
    np.testing.assert_allclose(after[1, 2, RIGHT_HAND.start], (100, 75, 1), atol=1e-4)
    np.testing.assert_allclose(after[1, 1, 0], (890, 905, 0.2), atol=1e-4)


def test_one_point_is_put_in_the_middle_and_a_line_takes_its_scale_from_its_length() -> None:
    skeleton = np.zeros((1, 1, POINTS, 3), np.float32)
    np.testing.assert_array_equal(normalise(skeleton, 64, 64), skeleton)
    skeleton[0, 0, 0] = (7, 9, 1)
    np.testing.assert_array_equal(normalise(skeleton, 64, 32)[0, 0, 0], (16, 32, 1))
    skeleton[0, 0, 1] = (7, 19, 1)
    np.testing.assert_allclose(normalise(skeleton, 64, 32, margin=0.25)[0, 0, :2], [(16, 16, 1), (16, 48, 1)])


def test_what_is_normalised_is_drawn_whole() -> None:
    """Nothing but black at the border, and the picture is that of the same person elsewhere."""
    before = walker()
    frames = frames_of(normalise(before, 128, 96), 128, 96)
    assert frames.shape == (12, 128, 96, 3)
    border = np.concatenate([frames[:, :3].ravel(), frames[:, -3:].ravel(), frames[:, :, :3].ravel()])
    assert frames.any(axis=(1, 2, 3)).all()
    assert not border.any()
    moved = before + np.array([77, -31, 0], np.float32)
    assert (frames_of(normalise(moved, 128, 96), 128, 96) != frames).mean() < 0.01


def test_limbs_of_coco_that_are_bones_never_turn() -> None:
    before, f = walker(), draw_factors(np.random.default_rng(7), tied=False)
    after = scale_bones(before, f)
    for a, b in LIMBS:
        if (a < 5) != (b < 5):
            continue  # COCO joins ears to shoulders, which is no bone
        bone, scaled = (s[:, 0, b, :2].astype(np.float64) - s[:, 0, a, :2] for s in (before, after))
        turned = np.cross(np.pad(bone, ((0, 0), (0, 1))), np.pad(scaled, ((0, 0), (0, 1))))[:, 2]
        np.testing.assert_allclose(turned / (bone**2).sum(axis=1), 0, atol=1e-4)
        assert ((bone * scaled).sum(axis=1) > 0).all()
