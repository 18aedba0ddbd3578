"""What is given to the model and what it is to make, against the equations and against what was drawn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from model.bones import Factors, normalise, scale_bones
from model.composite import BLANK, left, right
from model.skeleton import Pixels, frames_of
from model.training.clips import Clip
from model.training.examples import Augment, Example, driving_frames, example, pixels
from model.training.samples import to_uint8
from model.training.theatre_clips import TheatreClips, World
from tests.model.training.small_clips import SIZE, Walks

PLAIN = Augment(bone_share=0.0, drop_driving=0.0, drop_reference=0.0)
CLIP = Walks(1).clip(0)


def made(augment: Augment = PLAIN, clip: Clip = CLIP, seed: int = 0) -> Example:
    return example(clip, SIZE, augment, np.random.default_rng(seed))


def drawn(clip: Clip) -> Pixels:
    """Return the clip's skeleton as it is drawn when nothing is varied, without any blank."""
    return frames_of(normalise(clip.skeleton, SIZE.height_px, SIZE.width_px), SIZE.height_px, SIZE.width_px)


def as_bytes(half: Tensor) -> Pixels:
    return to_uint8(half[0])


def test_every_level_of_a_byte_survives_the_way_to_floats_and_back() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    there = pixels(levels)
    assert (float(there.min()), float(there.max())) == (-1.0, 1.0)
    assert there.shape == (1, 3, 1, 16, 16)
    assert np.array_equal(as_bytes(there), levels)


@pytest.mark.parametrize("blank", sorted(BLANK))
def test_what_is_given_is_the_composite_of_equation_two(blank: str) -> None:
    given, level = made(replace(PLAIN, blank=blank)).given, BLANK[blank]
    assert given.shape == (1, 3, 9, 16, 32)
    identity, motion = given[..., :16], given[..., 16:]
    assert np.array_equal(as_bytes(identity)[0], CLIP.frames[0])  # I
    assert (identity[:, :, 1:] == level).all()  # 0 for t > 0
    assert (motion[:, :, :4] == level).all()  # the prefix
    assert np.array_equal(as_bytes(motion)[4:], drawn(CLIP)[4:])  # D


def test_what_is_wanted_is_the_clip_beside_the_driving_that_is_given() -> None:
    each = made(replace(PLAIN, bone_share=1.0))
    assert np.array_equal(as_bytes(left(each.wanted)), CLIP.frames)
    assert torch.equal(right(each.wanted), right(each.given))
    assert each.prompt == CLIP.prompt
    assert torch.equal(each.reference, pixels(CLIP.frames)[:, :, 0])


def test_what_theatre_plays_is_what_training_sees() -> None:
    clip = TheatreClips(SIZE, (World("turns", 1),), "train").clip(0)
    each = made(clip=clip)
    assert np.array_equal(as_bytes(left(each.wanted)), clip.frames)
    assert np.array_equal(as_bytes(right(each.given))[4:], drawn(clip)[4:])
    assert len(np.unique(drawn(clip)[4:].reshape(-1, 3), axis=0)) > 4  # a skeleton can be seen


def test_the_skeleton_is_placed_by_the_box_of_the_whole_clip_the_prefix_too() -> None:
    whole = driving_frames(CLIP.skeleton, SIZE)
    later = driving_frames(CLIP.skeleton[4:], SIZE)
    assert np.array_equal(whole, drawn(CLIP))
    assert not np.array_equal(whole[4:], later)


def test_an_aligned_skeleton_stands_where_its_figure_does_and_a_nudged_one_a_little_beside() -> None:
    size, own = replace(SIZE, placement="aligned"), frames_of(CLIP.skeleton, SIZE.height_px, SIZE.width_px)
    still = example(CLIP, size, replace(PLAIN, nudge_share=0.0), np.random.default_rng(0))
    assert np.array_equal(as_bytes(right(still.given))[4:], own[4:])
    assert not np.array_equal(own, drawn(CLIP))
    beside = [example(CLIP, size, replace(PLAIN, nudge_share=0.3), np.random.default_rng(n)) for n in range(100)]
    share = np.mean([not np.array_equal(as_bytes(right(each.given))[4:], own[4:]) for each in beside])
    assert 0.15 < share <= 0.4  # a nudge of less than half a pixel may draw the same
    assert all(torch.equal(left(each.wanted), left(still.wanted)) for each in beside)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.2])
def test_bones_are_scaled_by_what_was_drawn_and_the_target_is_not(factor: float) -> None:
    each = made(replace(PLAIN, bone_share=1.0, bone_low=factor, bone_high=factor))
    segments = dict.fromkeys(vars(Factors()), factor)
    skeleton = scale_bones(CLIP.skeleton, Factors(**segments))
    assert np.array_equal(as_bytes(right(each.given))[4:], drawn(replace(CLIP, skeleton=skeleton))[4:])
    assert np.array_equal(as_bytes(left(each.wanted)), CLIP.frames)


def test_bones_are_scaled_and_signals_dropped_as_often_as_configured() -> None:
    augment, count = Augment(bone_share=0.3, drop_driving=0.2, drop_reference=0.15), 120
    plain, kinds = right(made().given), []
    for seed in range(count):
        each = made(augment, seed=seed)
        undriven = bool((right(each.given) == 0).all())
        kinds.append((undriven, not undriven and not torch.equal(right(each.given), plain), not each.reference.any()))
    undriven, scaled, unseen = np.array(kinds).T
    for share, found, among in ((0.2, undriven, count), (0.3, scaled, (~undriven).sum()), (0.15, unseen, count)):
        assert abs(found.sum() / among - share) < 3 * (share * (1 - share) / among) ** 0.5
    assert 0.05 < unseen[scaled].mean() < 0.25  # one does not go with the other


@pytest.mark.parametrize("blank", sorted(BLANK))
def test_a_dropped_driving_is_blank_throughout_and_the_target_stays(blank: str) -> None:
    each = made(replace(PLAIN, drop_driving=1.0, blank=blank))
    assert (right(each.given) == BLANK[blank]).all()
    assert (right(each.wanted) == BLANK[blank]).all()
    assert torch.equal(left(each.wanted), left(made().wanted))
    assert torch.equal(left(each.given)[:, :, 0], each.reference)


@pytest.mark.parametrize("blank", sorted(BLANK))
def test_a_dropped_reference_is_blank_and_the_target_stays(blank: str) -> None:
    each = made(replace(PLAIN, drop_reference=1.0, blank=blank))
    assert (left(each.given) == BLANK[blank]).all()
    assert (each.reference == BLANK[blank]).all()
    assert torch.equal(left(each.wanted), left(made().wanted))


def test_the_same_seed_gives_the_same_bytes() -> None:
    augment = Augment(bone_share=1.0, drop_driving=0.0)
    one, again, other = made(augment, seed=1), made(augment, seed=1), made(augment, seed=2)
    assert torch.equal(one.given, again.given)
    assert torch.equal(one.wanted, again.wanted)
    assert not torch.equal(one.given, other.given)


def test_as_much_is_drawn_whatever_comes_of_it() -> None:
    states = set()
    for shares in ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0, 1.0)):
        rng = np.random.default_rng(5)
        example(CLIP, SIZE, Augment(shares[0], drop_driving=shares[1], drop_reference=shares[2]), rng)
        states.add(str(rng.bit_generator.state))
    assert len(states) == 1
    assert states != {str(np.random.default_rng(5).bit_generator.state)}
