"""Composite and masks: against Eq. 2 written out by frame, and against the code of diffusers' own pipelines."""

import pytest
import torch
from diffusers import (
    AutoencoderKLHunyuanVideo15,
    AutoencoderKLWan,
    HunyuanVideo15ImageToVideoPipeline,
    WanImageToVideoPipeline,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from model import composite as module
from model.composite import BLANK, PACKINGS, CompositeError, composite, join, joined, left, loss_mask, mask, right
from model.geometry import Geometry

CPU = torch.device("cpu")
SIZE = Geometry(height_px=32, width_px=48, frames=13, prefix_frames=4, fps=8)


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def halves(batch: int = 2, frames: int = 5) -> tuple[Tensor, Tensor]:
    return pixels(batch, 3, 8, 12), pixels(batch, 3, frames, 8, 12, seed=1)


def wan_pipeline() -> WanImageToVideoPipeline:
    """The public pipeline around a small VAE with random weights and Wan's true strides, 8 and 4."""
    vae = AutoencoderKLWan(
        base_dim=4, z_dim=2, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 2, latents_std=[1.0] * 2
    )
    parts = dict.fromkeys(("tokenizer", "text_encoder", "scheduler", "transformer", "image_processor", "image_encoder"))
    return WanImageToVideoPipeline(vae=vae.eval(), **parts)


def pipeline_mask(height: int, width: int, frames: int, last: bool) -> Tensor:
    """What WanImageToVideoPipeline puts beside the condition, `[1, 4, F, h, w]`, for a first (and a last) picture."""
    image, end = pixels(1, 3, height, width), pixels(1, 3, height, width, seed=1) if last else None
    with torch.no_grad():
        _, given_to_model = wan_pipeline().prepare_latents(
            image, 1, 2, height, width, frames, torch.float32, CPU, last_image=end
        )
    return given_to_model[:, :4]


# Composite


@pytest.mark.parametrize("blank", BLANK)
def test_the_composite_is_equation_2_in_every_frame(blank: str) -> None:
    reference, driving = halves()
    made = composite(reference, driving, blank)
    assert made.shape == (2, 3, 5, 8, 24)
    for t in range(5):
        first = reference if t == 0 else torch.full_like(reference, {"grey": 0.0, "black": -1.0}[blank])
        assert torch.equal(made[:, :, t, :, :12], first)
        assert torch.equal(made[:, :, t, :, 12:], driving[:, :, t])


def test_the_composite_leaves_what_it_is_made_of_as_it_was() -> None:
    reference, driving = halves()
    before = reference.clone(), driving.clone()
    composite(reference, driving)[:] = 7
    assert torch.equal(reference, before[0])
    assert torch.equal(driving, before[1])


def test_the_halves_of_what_was_joined_are_what_was_joined() -> None:
    target, driving = pixels(1, 3, 5, 8, 12), pixels(1, 3, 5, 8, 12, seed=1)
    both = joined(target, driving)
    assert torch.equal(left(both), target)
    assert torch.equal(right(both), driving)


def test_the_width_may_become_the_time_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AXIS", -3)
    reference, driving = halves()
    made = composite(reference, driving)
    assert made.shape == (2, 3, 10, 8, 12)
    assert torch.equal(made[:, :, 0], reference)
    assert not made[:, :, 1:5].any()
    assert torch.equal(right(made), driving)
    known = mask(13, 32, 48)
    assert known.flatten(1).sum() == (1 + 13) * 32 * 48
    packed = join(PACKINGS["wan"](left(known), SIZE), PACKINGS["wan"](right(known), SIZE))
    assert packed.shape == (1, 4, 8, 4, 6)
    assert packed.mean(dim=(0, 1, 3, 4)).tolist() == [1, 0, 0, 0, 1, 1, 1, 1]
    assert loss_mask(SIZE).mean(dim=(0, 1, 3, 4)).tolist() == [1, 1, 1, 1, 0, 0, 0, 0]


# Masks


def test_the_mask_knows_frame_0_on_the_left_and_every_frame_on_the_right() -> None:
    known = mask(5, 8, 12)
    assert known.shape == (1, 1, 5, 8, 24)
    for t in range(5):
        for x in range(24):
            assert bool((known[0, 0, t, :, x] == float(x >= 12 or t == 0)).all())


@given(
    frames=st.sampled_from([1, 5, 9, 21]),
    strides=st.sampled_from([(8, 4), (16, 4), (2, 2)]),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=20)
def test_wan_s_packing_of_any_mask_is_its_definition_cell_by_cell(
    frames: int, strides: tuple[int, int], seed: int
) -> None:
    space, time = strides
    size = Geometry(2 * space, 4 * space, frames, 0, 8, spatial_stride=space, temporal_stride=time, patch=(1, 1, 1))
    known = (pixels(2, 1, frames, 2 * space, 4 * space, seed=seed) > 0).float()
    packed = PACKINGS["wan"](known, size)
    assert packed.shape == (2, time, size.latent_frames, 2, 4)
    for f in range(size.latent_frames):
        for channel in range(time):
            frame = 0 if f == 0 else (f - 1) * time + 1 + channel
            for y in range(2):
                for x in range(4):
                    assert torch.equal(packed[:, channel, f, y, x], known[:, 0, frame, y * space, x * space])


@pytest.mark.parametrize("last", [False, True], ids=["first frame given", "first and last frame given"])
def test_wan_s_packing_is_what_diffusers_pipeline_makes(last: bool) -> None:
    known = torch.zeros(1, 1, 13, 32, 48)
    known[:, :, 0] = 1
    if last:
        known[:, :, -1] = 1
    assert torch.equal(PACKINGS["wan"](known, SIZE), pipeline_mask(32, 48, 13, last))


def test_the_left_half_of_the_packed_composite_mask_is_the_pipeline_s_and_the_right_half_is_1() -> None:
    packed = PACKINGS["wan"](mask(SIZE.frames, SIZE.height_px, SIZE.width_px), SIZE)
    assert packed.shape == (1, 4, SIZE.latent_frames, SIZE.latent_height, SIZE.composite_latent_width)
    assert torch.equal(left(packed), pipeline_mask(32, 48, 13, last=False))
    assert left(packed).mean(dim=(0, 1, 3, 4)).tolist() == [1, 0, 0, 0]
    assert bool((right(packed) == 1).all())


def test_hunyuan_s_packing_is_what_diffusers_pipeline_makes_on_the_left_and_1_on_the_right() -> None:
    size = Geometry(32, 48, 13, 4, 8, spatial_stride=16, patch=(1, 1, 1))
    vae = AutoencoderKLHunyuanVideo15(latent_channels=4, block_out_channels=(8,) * 5, layers_per_block=1)
    texts = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    others = dict.fromkeys(("transformer", "scheduler", "guider", "image_encoder", "feature_extractor"))
    pipeline = HunyuanVideo15ImageToVideoPipeline(vae=vae.eval(), **texts, **others)
    with torch.no_grad():
        _, theirs = pipeline.prepare_cond_latents_and_mask(
            torch.zeros(1, 4, 4, 2, 3), Image.new("RGB", (48, 32)), 1, 32, 48, torch.float32, CPU
        )
    packed = PACKINGS["hunyuan"](mask(13, 32, 48), size)
    assert packed.shape == (1, 1, 4, 2, 6)
    assert torch.equal(left(packed), theirs)
    assert bool((right(packed) == 1).all())


def test_one_channel_says_given_only_where_all_frames_behind_it_are() -> None:
    known = torch.ones(1, 1, 13, 32, 48)
    known[:, :, 7, :, :24] = 0
    packed = PACKINGS["hunyuan"](known, SIZE)
    assert packed.shape == (1, 1, 4, 4, 6)
    assert packed[0, 0, :, 0].tolist() == [[1] * 6, [1] * 6, [0] * 3 + [1] * 3, [1] * 6]


@pytest.mark.parametrize("name", PACKINGS)
def test_halves_packed_apart_are_the_composite_packed_at_once(name: str) -> None:
    pack, first, second = PACKINGS[name], torch.zeros(1, 1, 13, 32, 48), torch.ones(1, 1, 13, 32, 48)
    first[:, :, 0] = 1
    assert torch.equal(pack(join(first, second), SIZE), join(pack(first, SIZE), pack(second, SIZE)))


def test_the_error_counts_on_the_left_in_every_latent_frame() -> None:
    where = loss_mask(SIZE)
    assert where.shape == (1, 1, 4, 4, 12)
    assert bool((where[..., :6] == 1).all())
    assert not where[..., 6:].any()


def test_masks_have_the_shape_of_the_latents_that_wan_s_vae_makes_of_the_composite() -> None:
    given_to_model = composite(pixels(1, 3, 32, 48), pixels(1, 3, 13, 32, 48))
    with torch.no_grad():
        latents = wan_pipeline().vae.encode(given_to_model).latent_dist.mode()
    assert latents.shape[2:] == PACKINGS["wan"](mask(13, 32, 48), SIZE).shape[2:]
    assert latents.shape[2:] == loss_mask(SIZE).shape[2:]


# Refusals


def test_halves_of_two_sizes_are_refused() -> None:
    reference, driving = halves()
    with pytest.raises(
        CompositeError, match=r"the reference is \[2, 3, 8, 10\] and the driving video \[2, 3, 5, 8, 12\]"
    ):
        composite(reference[..., :10], driving)
    with pytest.raises(
        CompositeError, match=r"are \[2, 3, 4, 8, 12\] and \[2, 3, 5, 8, 12\]; they must have one shape"
    ):
        joined(driving[:, :, :4], driving)


def test_an_unknown_blank_is_refused_with_those_there_are() -> None:
    with pytest.raises(CompositeError, match="blank is 'white'; it must be one of grey, black"):
        composite(*halves(), blank="white")


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(1, 3, 5, 8, 8, dtype=torch.uint8),
        torch.zeros(1, 5, 8, 8, 3),
        torch.zeros(3, 5, 8, 8),
        torch.zeros(1, 3, 0, 8, 8),
    ],
    ids=["bytes", "channels last", "no batch", "no frames"],
)
def test_what_is_no_video_of_floats_is_refused(wrong: Tensor) -> None:
    with pytest.raises(CompositeError, match=r"a video is \[.*wanted \[B, 3, T, H, W\] of floats in \[-1, 1\]"):
        joined(wrong, wrong)


def test_an_odd_width_has_no_halves() -> None:
    with pytest.raises(CompositeError, match=r"\[2, 7\] has no halves"):
        left(torch.zeros(2, 7))


@pytest.mark.parametrize("name", PACKINGS)
@pytest.mark.parametrize("shape", [(1, 1, 12, 32, 96), (1, 1, 13, 31, 96), (1, 1, 13, 32, 90), (1, 4, 13, 32, 96)])
def test_a_mask_that_does_not_fit_the_strides_is_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(CompositeError, match=r"wanted \[B, 1, T, H, W\] in pixels with T = 4k \+ 1 .* multiples of 8"):
        PACKINGS[name](torch.ones(shape), SIZE)
