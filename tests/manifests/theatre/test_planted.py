"""Planted pairs: what they say of themselves is true."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from manifests.errors import UserError
from manifests.theatre import motions, scene
from manifests.theatre.planted import damage, pairs
from manifests.theatre.planted.mixing import Mix, limb_ratios, motion_between, picture
from tests.manifests.theatre.clips import needs_capture

TAKE = scene.Take("easy", ("human-012",), ("wave-042",), "plain-003", "frontal-005", "even-001")


def seen(mix: Mix, frames: int = 3):
    return picture(mix, motions.motion("wave-042", frames, 6.0), TAKE, 96, 80)


@pytest.mark.parametrize(("share", "name"), [(0.0, "human-012"), (1.0, "human-345")])
def test_the_ends_of_a_mix_are_the_two_people_to_the_byte(share, name):
    truth = scene.render(replace(TAKE, figures=(name,)), 3, 6.0, 96, 80).frames
    np.testing.assert_array_equal(seen(Mix("human-012", "human-345", share, share)), truth)


def test_a_mix_by_parts_ends_in_the_other_person_too():
    order = ("head", *pairs.REGIONS)
    truth = scene.render(replace(TAKE, figures=("human-345",)), 3, 6.0, 96, 80).frames
    np.testing.assert_array_equal(seen(Mix("human-012", "human-345", 1.0, 1.0, order)), truth)


def test_half_a_mix_has_limbs_half_way_and_colours_half_way():
    one, half, other = (limb_ratios(Mix("human-012", "human-345", build=share)) for share in (0.0, 0.5, 1.0))
    assert ((half > np.minimum(one, other) - 0.01) & (half < np.maximum(one, other) + 0.01)).all()
    np.testing.assert_allclose(half, (one + other) / 2, atol=0.06)
    pictures = [
        seen(Mix("human-012", "human-345", look=share)).astype(float).mean((0, 1, 2)) for share in (0.0, 0.5, 1.0)
    ]
    np.testing.assert_allclose(pictures[1], (pictures[0] + pictures[2]) / 2, atol=2.0)


def test_a_motion_between_two_begins_and_ends_in_them():
    one, two = (motions.motion(name, 5, 6.0) for name in ("wave-042", "squat-007"))
    for share, truth in ((0.0, one), (1.0, two)):
        between = motion_between("wave-042", "squat-007", share, 5, 6.0)
        np.testing.assert_allclose(between.rotations, truth.rotations, atol=1e-5)
        np.testing.assert_allclose(between.translation, truth.translation, atol=1e-6)
    middle = motion_between("wave-042", "squat-007", 0.5, 5, 6.0).rotations
    turned = np.arccos(np.clip((np.einsum("tjab,tjab->tj", one.rotations, middle) - 1) / 2, -1, 1))
    whole = np.arccos(np.clip((np.einsum("tjab,tjab->tj", one.rotations, two.rotations) - 1) / 2, -1, 1))
    np.testing.assert_allclose(turned, whole / 2, atol=2e-3)


def test_a_picture_without_pixels_is_refused():
    with pytest.raises(UserError, match="0 x 80 px"):
        picture(Mix("human-012", "human-345"), motions.motion("wave-042", 1, 6.0), TAKE, 80, 0)


@needs_capture
def test_forty_numbers_hold_every_kind_and_each_base_two_clean_ones():
    drawn = [pairs.draw(3, index) for index in range(40)]
    kinds = Counter((p.kind, p.grade) for p in drawn)
    assert kinds[("clean", 0.0)] == 8
    assert {key for key in kinds if key[0] != "clean"} == {(k, g) for k in pairs.KINDS for g in pairs.GRADES}
    for start in range(0, 40, pairs.PER_BASE):
        assert len({(p.source.key, p.still.key) for p in drawn[start : start + pairs.PER_BASE]}) == 1
    assert all(p.character != p.source.figures[0] for p in drawn)


@needs_capture
def test_a_pair_is_the_same_whenever_it_is_drawn_and_shown():
    pairs._base.cache_clear()
    first = pairs.draw(5, 13)
    shown = pairs.show(first, 3, 6.0, 48, 48)
    pairs._base.cache_clear()
    pairs._rendered.cache_clear()
    assert pairs.draw(5, 13) == first
    again = pairs.show(first, 3, 6.0, 48, 48)
    for name in ("source", "character", "pseudo"):
        np.testing.assert_array_equal(getattr(shown, name), getattr(again, name))


@needs_capture
def test_a_clean_pair_shows_the_character_where_the_source_was():
    """Against the true answer, rendered by the theatre itself: only wear and a few degrees lie between."""
    pair = pairs.draw(5, 0)
    truth = replace(pair.source, figures=pair.still.figures, background=pair.still.background, light=pair.still.light)
    wanted = scene.render(truth, 3, 6.0, 64, 64)
    pseudo = pairs.show(pair, 3, 6.0, 64, 64).pseudo
    apart = np.abs(pseudo.astype(float) - wanted.frames).mean(axis=-1)
    assert np.median(apart) < 6
    other = scene.render(replace(truth, figures=pair.source.figures), 3, 6.0, 64, 64).frames
    inside = wanted.masks[:, 0]
    assert apart[inside].mean() < 0.6 * np.abs(pseudo.astype(float) - other).mean(axis=-1)[inside].mean()


def test_a_frozen_clip_stands_still_for_its_share_of_the_steps():
    frames = np.arange(9, dtype=np.uint8).repeat(12).reshape(9, 2, 2, 3)
    for grade, moving in ((0.25, 6), (0.5, 4), (1.0, 0)):
        steps = np.abs(np.diff(damage.freeze(frames, grade).astype(int), axis=0)).sum(axis=(1, 2, 3)) > 0
        assert steps.tolist() == [True] * moving + [False] * (8 - moving)


def test_blur_is_a_gaussian_of_the_stated_width():
    frames = np.zeros((1, 101, 101, 3), np.uint8)
    frames[0, :, 50:] = 200
    edge = np.diff(damage.blur(frames, 1.0)[0, 50, :, 0].astype(float))
    places = np.arange(100)
    middle = (edge * places).sum() / edge.sum()
    sigma = np.sqrt((edge * (places - middle) ** 2).sum() / edge.sum())
    assert sigma == pytest.approx(damage.BLUR_SIGMA * 101, rel=0.05)


def test_flicker_changes_brightness_by_the_stated_share():
    frames = np.full((400, 8, 8, 3), 100, np.uint8)
    means = damage.flicker(frames, 0.5, np.random.default_rng(0)).mean(axis=(1, 2, 3))
    assert np.std(means) / 100 == pytest.approx(0.5 * damage.FLICKER_GAIN, rel=0.25)
