"""The blank second: the same in training and inference, to the pixel and to the latent of Wan's VAE."""

from collections.abc import Sequence
from functools import cache

import pytest
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from model.composite import BLANK, CompositeError, composite
from model.driving import blank_prefix, cut_prefix, with_prefix
from model.geometry import Geometry

SIZES = [Geometry(16, 16, 21, 4, 8), Geometry(16, 16, 25, 8, 8), Geometry(16, 16, 13, 0, 8)]
sizes = pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size.frames} frames, prefix {size.prefix_frames}")


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def clip(size: Geometry) -> Tensor:
    return pixels(1, 3, size.frames, size.height_px, size.width_px)


@cache
def vae() -> AutoencoderKLWan:
    """The embedded VAE's kind: patched, both levels halve time too, random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoencoderKLWan(
            base_dim=4, z_dim=4, dim_mult=[1, 1, 1], num_res_blocks=1, temperal_downsample=[True, True], patch_size=2,
            in_channels=12, out_channels=12, scale_factor_spatial=8, latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
        ).eval()  # fmt: skip


@torch.no_grad()
def encode(video: Tensor) -> Tensor:
    return vae().encode(video).latent_dist.mode()


@torch.no_grad()
def decode(latents: Tensor) -> Tensor:
    return vae().decode(latents).sample


def first_change(a: Tensor, b: Tensor) -> int:
    """The first place on the axis of time at which two `[C, T, H, W]` differ by more than rounding."""
    return int(((a - b).abs() > 1e-6).any(dim=(0, 2, 3)).nonzero()[0])


def with_one_frame_turned(video: Tensor, frames: Sequence[int]) -> Tensor:
    """The video itself, and for each of these frames a copy in which it alone is another: `[1 + n, 3, T, H, W]`."""
    copies = video.repeat(1 + len(frames), 1, 1, 1, 1)
    for copy, frame in zip(copies[1:], frames, strict=True):
        copy[:, frame] *= -1
    return copies


# Pixels


@pytest.mark.parametrize("blank", BLANK)
@pytest.mark.parametrize("prefix", [0, 1, 4, 21])
def test_exactly_the_first_frames_are_blank_and_the_rest_is_untouched(prefix: int, blank: str) -> None:
    driving = pixels(2, 3, 21, 4, 4)
    before = driving.clone()
    blanked = blank_prefix(driving, prefix, blank)
    assert bool((blanked[:, :, :prefix] == BLANK[blank]).all())
    assert torch.equal(blanked[:, :, prefix:], driving[:, :, prefix:])
    assert torch.equal(driving, before)


@sizes
@pytest.mark.parametrize("blank", BLANK)
def test_training_and_inference_see_the_same_driving_video(size: Geometry, blank: str) -> None:
    whole = clip(size)
    to_follow = whole[:, :, size.prefix_frames :]
    assert to_follow.shape[2] == size.output_frames
    trained_on = blank_prefix(whole, size.prefix_frames, blank)
    inferred_on = with_prefix(to_follow, size.prefix_frames, blank)
    assert torch.equal(trained_on, inferred_on)
    for frame in range(size.output_frames):
        assert torch.equal(inferred_on[:, :, size.prefix_frames + frame], to_follow[:, :, frame])


@sizes
def test_cutting_the_prefix_leaves_one_frame_for_each_frame_to_follow(size: Geometry) -> None:
    whole = clip(size)
    cut = cut_prefix(whole, size.prefix_frames)
    assert cut.shape[2] == size.frames - size.prefix_frames == size.output_frames
    assert torch.equal(cut_prefix(with_prefix(cut, size.prefix_frames), size.prefix_frames), cut)


# Latents


@sizes
def test_latents_of_the_composite_agree_place_by_place_between_training_and_inference(size: Geometry) -> None:
    whole, reference = clip(size), pixels(1, 3, 16, 16, seed=1)
    # in training the skeleton of the blanked second is there, and must not be seen; at inference it never was
    trained_on = encode(composite(reference, blank_prefix(whole, size.prefix_frames)))
    inferred_on = encode(composite(reference, with_prefix(whole[:, :, size.prefix_frames :], size.prefix_frames)))
    assert trained_on.shape == (1, 4, size.latent_frames, size.latent_height, size.composite_latent_width)
    assert torch.equal(trained_on, inferred_on)
    if size.prefix_frames:  # and would not, were the video to follow taken from one frame earlier
        early = whole[:, :, size.prefix_frames - 1 : -1]
        moved = encode(composite(reference, with_prefix(early, size.prefix_frames)))
        assert first_change(moved[0], trained_on[0]) == size.prefix_frames // 4


@sizes
def test_a_driving_frame_first_reaches_the_latent_that_its_number_behind_the_prefix_says(size: Geometry) -> None:
    to_follow, frames = clip(size)[:, :, size.prefix_frames :], range(size.output_frames)
    base, *others = encode(with_prefix(with_one_frame_turned(to_follow, frames), size.prefix_frames))
    for frame, other in zip(frames, others, strict=True):
        number = size.prefix_frames + frame
        behind = 0 if number == 0 else (number + 3) // 4  # frame 0 alone, then four each: 1..4, 5..8, ...
        assert first_change(other, base) == behind


@sizes
def test_a_driving_frame_first_reaches_the_output_within_its_own_group_of_four(size: Geometry) -> None:
    frames = (0, 1, 4, 5, size.output_frames - 1)
    driving = with_prefix(with_one_frame_turned(clip(size)[:, :, size.prefix_frames :], frames), size.prefix_frames)
    made = decode(encode(composite(pixels(1, 3, 16, 16).repeat(len(driving), 1, 1, 1), driving)))
    assert made.shape == (len(driving), 3, size.frames, size.height_px, size.composite_width_px)
    base, *others = cut_prefix(made, size.prefix_frames)
    assert base.shape[1] == size.output_frames
    for frame, other in zip(frames, others, strict=True):
        number = size.prefix_frames + frame
        group = 0 if number == 0 else (number - 1) // 4 * 4 + 1
        assert first_change(other, base) == max(0, group - size.prefix_frames)


# Refusals


@pytest.mark.parametrize("prefix", [-1, 6])
def test_a_prefix_that_is_longer_than_the_video_or_negative_is_refused(prefix: int) -> None:
    with pytest.raises(CompositeError, match=f"prefix_frames is {prefix} and the driving video has 5 frames"):
        blank_prefix(pixels(1, 3, 5, 4, 4), prefix)


def test_a_prefix_of_fewer_than_no_frames_cannot_be_put_in_front() -> None:
    with pytest.raises(CompositeError, match="prefix_frames is -1"):
        with_prefix(pixels(1, 3, 5, 4, 4), -1)


@pytest.mark.parametrize("prefix", [-1, 5])
def test_a_cut_that_leaves_nothing_is_refused(prefix: int) -> None:
    with pytest.raises(CompositeError, match=f"a prefix of {prefix} frames cannot be cut from a video of 5"):
        cut_prefix(pixels(1, 3, 5, 4, 4), prefix)


def test_an_unknown_blank_is_refused() -> None:
    with pytest.raises(CompositeError, match="blank is 'green'; it must be one of grey, black"):
        blank_prefix(pixels(1, 3, 5, 4, 4), 4, "green")
