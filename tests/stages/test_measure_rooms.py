"""Each measure against a formula or a truth that is known by construction."""

import cv2
import numpy as np
import pytest

from stages import measure_appearance, measure_flow, measure_motion, measure_sharpness
from stages.measure_figures import Figure, body_mask, chosen, figure_of, moments
from stages.measure_shape import BONES, Shape, shape
from stages.skeleton_flips import EXCHANGED

STANDING = {
    0: (50, 20), 1: (53, 18), 2: (47, 18), 3: (56, 20), 4: (44, 20), 5: (62, 38), 6: (38, 38), 7: (72, 58), 8: (28, 58),
    9: (75, 78), 10: (25, 78), 11: (57, 80), 12: (43, 80), 13: (60, 110), 14: (40, 110), 15: (60, 140), 16: (40, 140),
}  # fmt: skip


def points(frames=4, scale=1.0, at=(0.0, 0.0), **limbs):
    """Points `[frames, 133, 3]` of somebody who stands; `limbs` are bones that are longer by a factor."""
    out = np.zeros((frames, 133, 3), np.float32)
    for i, place in STANDING.items():
        out[:, i] = (*place, 0.9)
    out[:, :17, :2] = out[:, :17, :2] * scale + at
    for bone, factor in limbs.items():
        for a, b in BONES[bone]:
            shift = (factor - 1) * (out[:, b, :2] - out[:, a, :2])
            out[:, [b, *{7: [9], 8: [10], 13: [15], 14: [16]}.get(b, [])], :2] += shift[:, None]
    return out


def turned(given, degrees):
    """The same with every limb turned by so much about its upper end, the lower ends carried along."""
    out = given.copy()
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    for upper, middle, low in ((5, 7, 9), (6, 8, 10), (11, 13, 15), (12, 14, 16)):
        out[:, middle, :2] = out[:, upper, :2] + (given[:, middle, :2] - given[:, upper, :2]) @ turn.T
        out[:, low, :2] = out[:, middle, :2] + (given[:, low, :2] - given[:, middle, :2]) @ turn.T
    return out


@pytest.mark.parametrize("degrees", [0, 10, 37, 120])
def test_limbs_that_are_turned_by_an_angle_are_that_far_off(degrees):
    found = measure_motion.agreement(turned(points(), degrees), points(), 0.3)
    assert found.angle_deg == pytest.approx(degrees, abs=0.1)
    assert found.cosine == pytest.approx(np.cos(np.radians(degrees)), abs=1e-3)


def test_legs_that_stand_do_not_outvote_arms_that_do_something_else():
    seen, wanted = turned(points(), 60), points()
    seen[:, 13:17] = wanted[:, 13:17]
    assert measure_motion.agreement(seen, wanted, 0.3).angle_deg == pytest.approx(60, abs=0.1)


def test_a_mistake_in_a_few_frames_is_no_other_motion():
    seen = points(8)
    seen[:2] = turned(points(2), 90)
    assert measure_motion.agreement(seen, points(8), 0.3).angle_deg == pytest.approx(0, abs=0.1)


def test_directions_heed_neither_size_nor_place_nor_the_lengths_of_limbs():
    other = points(scale=1.7, at=(30, -9), thigh=1.4, forearm=0.7)
    assert measure_motion.agreement(other, points(), 0.3).angle_deg == pytest.approx(0, abs=0.1)
    assert measure_motion.agreement(points(scale=1.7, at=(30, -9)), points(), 0.3).pck == 1.0


def test_left_and_right_exchanged_in_a_frame_is_no_other_motion():
    seen = points()
    seen[2] = seen[2][EXCHANGED]
    assert measure_motion.agreement(seen, points(), 0.3).angle_deg == pytest.approx(0, abs=0.1)


def test_joints_out_of_place_are_counted():
    seen = points()
    seen[:, [9, 10], :2] -= (0, 50)  # both wrists of twelve joints, by half of the box
    assert measure_motion.agreement(seen, points(), 0.3).pck == pytest.approx(10 / 12)


def test_nobody_agrees_with_nothing():
    found = measure_motion.agreement(np.zeros((3, 133, 3), np.float32), points(3), 0.3)
    assert all(np.isnan(v) for v in (found.angle_deg, found.cosine, found.pck))


def test_bones_half_way_to_the_sources_have_leaked_by_half():
    source, character = points(), points(1, scale=0.8, upper_arm=1.5, thigh=0.6, shin=0.6)
    found = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        longer = {"upper_arm": 1.5 ** (1 - share), "thigh": 0.6 ** (1 - share), "shin": 0.6 ** (1 - share)}
        found.append(shape(points(scale=1.2, **longer), source, character[0], 0.3))
    leaks, margins = [each.leak() for each in found], [each.margin() for each in found]
    assert leaks == sorted(leaks)
    assert leaks[0] < 0.1
    assert leaks[2] == pytest.approx(0.5, abs=0.1)
    assert leaks[4] > 0.7
    assert margins[0] > 5
    assert margins[4] < -5


def test_what_is_said_of_a_leak_is_right_on_average():
    """Bodies and errors are drawn as the module says they are: what leaked is then what is said, but for the draw."""
    rng, told, true = np.random.default_rng(0), [], []
    for _ in range(400):
        alike, leaked = rng.random() < 0.1, rng.random()
        delta = rng.normal(0, 0.04 if alike else 0.2, 6)
        small_x, small_d = (
            np.array([0.05, 0.07, 0.04, 0.05, 0.03, 0.03]),
            np.array([0.07, 0.18, 0.04, 0.06, 0.06, 0.07]),
        )
        x = (1 - leaked) * delta + rng.normal(0, np.where(rng.random(6) < 0.1, 0.3, small_x)) + rng.normal(0, 0.15)
        d = delta + rng.normal(0, np.where(rng.random(6) < 0.25, 0.6, small_d)) + rng.normal(0, 0.15)
        told.append(Shape(x, d).leak())
        true.append(0.0 if alike else leaked)
    slope, rest = np.polyfit(told, true, 1)
    assert np.mean(told) == pytest.approx(np.mean(true), abs=0.04)
    assert slope == pytest.approx(1, abs=0.15)
    assert rest == pytest.approx(0, abs=0.08)


def test_bodies_that_are_alike_cannot_leak():
    assert shape(points(scale=1.2), points(), points(1)[0], 0.3).leak() < 0.1


def test_two_bones_tell_nothing():
    assert np.isnan(shape(points(), points(), np.zeros((133, 3), np.float32), 0.3).leak())
    arms = points(upper_arm=1.5)
    arms[:, 11:17] = 0
    assert np.isfinite(shape(arms, points(), points(1)[0], 0.3).leak())  # upper arm, forearm, shoulders
    arms[:, 9:11] = 0
    told = shape(arms, points(), points(1)[0], 0.3)
    assert np.isnan(told.leak())
    assert np.isnan(told.margin())


def dressed(colours, back=(90, 90, 90), frames=4, size=(160, 100)):
    """Pictures of who stands, each part in its colour."""
    at = points(1)[0, :, :2].round().astype(int)
    picture = np.full((*size, 3), back, np.uint8)
    for part in ("upper_arm", "forearm", "thigh", "shin"):
        for a, b in BONES[part]:
            cv2.line(picture, tuple(at[a].tolist()), tuple(at[b].tolist()), colours[part], 10)
    cv2.rectangle(picture, (36, 36), (64, 76), colours["trunk"], -1)
    cv2.rectangle(picture, (40, 76), (60, 86), colours["hips"], -1)
    cv2.circle(picture, (50, 20), 12, colours["head"], -1)
    stack = np.stack([picture] * frames)
    return figure_of(stack, stack, points(frames), 0.3, 8)


def outfit(seed):
    rng = np.random.default_rng(seed)
    return {part: tuple(int(v) for v in rng.integers(20, 230, 3)) for part in measure_appearance.PARTS}


def between(one, other, share):
    return {
        part: tuple(round((1 - share) * a + share * b) for a, b in zip(one[part], other[part], strict=True))
        for part in one
    }


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_colours_part_of_the_way_to_the_sources_have_leaked_by_that_share(share):
    one, other = outfit(1), outfit(2)
    ours, wanted, driver = (
        measure_appearance.colours(dressed(worn), 0.3) for worn in (between(one, other, share), one, other)
    )
    assert measure_appearance.colour_leak(ours, wanted, driver) == pytest.approx(share, abs=0.06)
    mean, worst = measure_appearance.colour_distance(ours, wanted)
    assert (share == 0) == (worst < 1)
    assert worst >= mean


def test_one_garment_gone_over_is_the_worst_part():
    one = outfit(1)
    other = one | {"trunk": (20, 230, 20)}
    ours, wanted = (measure_appearance.colours(dressed(worn), 0.3) for worn in (other, one))
    lab = [cv2.cvtColor(np.float32([[w["trunk"]]]) / 255, cv2.COLOR_RGB2LAB)[0, 0] for w in (one, other)]
    assert measure_appearance.colour_distance(ours, wanted)[1] == pytest.approx(
        np.linalg.norm(lab[0] - lab[1]), rel=0.05
    )


def test_two_who_wear_the_same_have_no_leak_to_tell():
    worn = measure_appearance.colours(dressed(outfit(1)), 0.3)
    assert np.isnan(measure_appearance.colour_leak(worn, worn, worn))


def test_a_cut_out_figure_stands_on_grey_whatever_was_behind_it():
    seen = [measure_appearance.cut_out(dressed(outfit(1), back), 0, 0.3) for back in ((0, 200, 0), (200, 0, 0))]
    mask = body_mask(points(1)[0], (160, 100), 0.3)
    assert 0.1 < mask.mean() < 0.5
    corner = seen[0][:3, :3]
    assert (corner == 128).all()
    assert seen[0].shape[0] == seen[0].shape[1]


def moving(frames=8, step=2, noise=0.0, gain=None):
    """A textured square on a textured wall that moves by `step` px a frame."""
    rng = np.random.default_rng(0)
    wall = cv2.GaussianBlur(rng.uniform(0, 255, (120, 160, 3)).astype(np.float32), (0, 0), 2)
    thing = cv2.GaussianBlur(rng.uniform(0, 255, (40, 40, 3)).astype(np.float32), (0, 0), 1) * 1.5
    out = []
    for t in range(frames + 1):
        picture = wall.copy()
        picture[40:80, 20 + step * t : 60 + step * t] = thing
        picture = picture * (1.0 if gain is None else gain[t]) + noise * rng.normal(size=picture.shape)
        out.append(np.clip(picture, 0, 255).astype(np.uint8))
    stack = np.stack(out)
    box = np.array([[20 + step * t, 40, 60 + step * t, 80] for t in range(frames)], np.float32)
    return Figure(stack[:-1], stack[1:], points(frames), box, np.ones(frames, bool))


def test_motion_is_no_flicker_and_flicker_grows_with_its_size():
    still, fast = measure_flow.flicker(moving(step=0)), measure_flow.flicker(moving(step=4))
    assert still < 0.5
    assert fast < 1.5
    gain = 1 + np.array([0, 1, 0, -1, 0, 1, -1, 0, 1]) * 0.1
    small = measure_flow.flicker(moving(step=2, gain=1 + (gain - 1) / 2))
    large = measure_flow.flicker(moving(step=2, gain=gain))
    assert 3 < small < large


def test_a_clip_that_stands_still_for_half_of_the_time_is_frozen_by_half():
    source, pseudo = moving(step=4, noise=2), moving(step=4, noise=2)
    frames, after = pseudo.frames.copy(), pseudo.after.copy()
    for t in range(4, 8):
        frames[t] = after[t] = pseudo.frames[4]
    stopped = Figure(frames, after, pseudo.points, pseudo.boxes, pseudo.found)
    speeds = [measure_flow.speeds(each) for each in (stopped, source)]
    assert measure_flow.frozen_share(*speeds) == 0.5
    assert measure_flow.frozen_share(speeds[1], speeds[1]) == 0
    assert measure_flow.frozen_share(speeds[0], np.zeros(8)) == 0


@pytest.mark.parametrize("contrast", [0.25, 1.0])
def test_speed_is_that_of_the_thing_whatever_its_contrast(contrast):
    moved = moving(step=1)
    frames, after = ((each * contrast + 60).astype(np.uint8) for each in (moved.frames, moved.after))
    found = measure_flow.speeds(Figure(frames, after, moved.points, moved.boxes, moved.found))
    np.testing.assert_allclose(found * 40, 1, atol=0.35)


def test_sharpness_falls_with_blur_and_does_not_rise_with_noise():
    one = dressed(outfit(1))

    def seen(sigma, noise=0.0, scale=1):
        rng = np.random.default_rng(0)
        frames = np.stack([cv2.resize(f, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC) for f in one.frames])
        frames = np.stack([cv2.GaussianBlur(f, (0, 0), sigma * scale) for f in frames]) if sigma else frames
        frames = np.clip(frames + noise * rng.normal(size=frames.shape), 0, 255).astype(np.uint8)
        return measure_sharpness.sharpness(Figure(frames, frames, one.points, one.boxes * scale, one.found))

    values = [seen(sigma) for sigma in (0, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 1.5 * values[-1]
    assert seen(2, noise=3) < seen(1)
    assert seen(2, scale=2) == pytest.approx(seen(2), abs=0.04)


def test_moments_lie_evenly_and_each_has_a_frame_after_it():
    assert moments(17, 5).tolist() == [0, 4, 8, 11, 15]
    assert moments(2, 8).tolist() == [0]
    assert moments(1, 8).tolist() == [0]
    for frames in (3, 9, 81):
        assert (moments(frames, 6) <= frames - 2).all()


def test_chosen_frames_are_those_of_their_numbers():
    class Numbered:
        def chunks(self):
            return (
                np.arange(s, s + 4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
                for s in (0, 4, 8)
            )

    assert chosen(Numbered(), np.array([0, 3, 4, 9]))[:, 0, 0, 0].tolist() == [0, 3, 4, 9]
