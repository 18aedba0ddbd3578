"""Clips of any length against what one window makes, against a base that gives back what drives it, and in numbers."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.animate import Animator, Known, animate, noise_of
from model.composite import left, right
from model.driving import cut_prefix, with_prefix
from model.flow_matching import interpolate
from model.geometry import Geometry
from model.sampler import Guidance, sigmas
from model.skeleton import Pixels
from model.training.examples import pixels
from model.training.samples import to_uint8
from model.wan import Wan
from model.windows import WindowError, Windows, animate_windows, joined, windows_of
from tests.model.lossless import SPEC, Lossless
from tests.model.small import HEIGHT_PX, WIDTH_PX, shared

PROMPTS = ["a grey bird, waving its wings"]
GEOMETRY = Geometry(HEIGHT_PX, WIDTH_PX, frames=21, prefix_frames=4, fps=12)  # windows of 17
SMALL = Geometry(24, 24, 21, 4, 12, spatial_stride=1, patch=(1, 1, 1))


def levels(seed: int, *shape: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def made(backbone: Any, geometry: Geometry, frames: int, steps: int = 2, **more: Any) -> tuple[Pixels, Pixels]:
    """Return the driving video, and what windows make of it, `[1, N, H, W, 3]`."""
    size = geometry.height_px, geometry.width_px, 3
    driving = levels(frames, 1, frames, *size)
    blocks = animate_windows(
        backbone, geometry, levels(1, 1, *size), driving, PROMPTS, seeds=[5], steps=steps, **more
    )  # fmt: skip
    return driving, np.concatenate(list(blocks), axis=1)


def as_one(frames: int, held: int) -> Pixels:
    """Return what `animate` itself makes of a clip whose last frame is held to the length of a window."""
    driving = levels(frames, 1, frames, HEIGHT_PX, WIDTH_PX, 3)[0]
    driving = np.concatenate([driving, np.repeat(driving[-1:], held, axis=0)])
    reference = pixels(levels(1, 1, HEIGHT_PX, WIDTH_PX, 3))[:, :, 0]
    video = animate(
        shared("tiny"), reference, with_prefix(pixels(driving), GEOMETRY.prefix_frames), PROMPTS, seeds=[5], steps=2
    )
    return to_uint8(cut_prefix(video, GEOMETRY.prefix_frames)[0])[:frames]


@pytest.mark.parametrize(("frames", "held"), [(17, 0), (10, 7), (1, 16)])
def test_a_clip_that_fits_into_one_window_is_what_animate_makes_of_it(frames: int, held: int) -> None:
    _, got = made(shared("tiny"), GEOMETRY, frames)
    np.testing.assert_array_equal(got[0], as_one(frames, held))


@pytest.mark.parametrize("frames", [1, 2, 5, 16, 17, 18, 21, 22, 29, 30, 41, 64, 100])
@pytest.mark.parametrize(("prefix", "window"), [(4, 21), (0, 9), (8, 17), (4, 29)])
def test_each_driving_frame_comes_out_exactly_once_and_in_its_place(frames: int, prefix: int, window: int) -> None:
    geometry = replace(SMALL, height_px=4, width_px=6, prefix_frames=prefix, frames=window)
    driving, got = made(Lossless(replace(SPEC, prefix_frames=prefix)), geometry, frames)
    np.testing.assert_array_equal(got, driving)


def geometries() -> Iterator[Geometry]:
    for stride, prefix, window in ((4, 4, 21), (2, 4, 21), (4, 16, 81), (1, 0, 9), (4, 0, 5), (2, 24, 49)):
        yield Geometry(32, 32, window, prefix, 12, temporal_stride=stride)


@pytest.mark.parametrize("geometry", list(geometries()), ids=str)
def test_windows_cover_the_clip_share_a_quarter_and_are_no_more_than_needed(geometry: Geometry) -> None:
    length, stride = geometry.output_frames, geometry.temporal_stride
    inner = (length - 1) // stride
    least = max(1, round(inner / 4)) if inner > 1 else 0
    for frames in range(1, 4 * length):
        windows = windows_of(frames, geometry)
        starts = np.array(windows.starts)
        assert starts[0] == 0
        assert not (starts % stride).any()
        assert windows.padded == max(length, frames + -(frames - 1) % stride)  # held no longer than needs be
        steps = np.diff(starts)
        assert ((steps > 0) & (steps <= length - 1 - stride * least)).all()
        assert len(starts) == 1 or (len(starts) - 1) * (length - 1 - stride * least) + length >= frames
        assert len(starts) == 1 or (len(starts) - 2) * (length - 1 - stride * least) + length < frames
        for number in range(1, len(starts)):
            assert windows.known(number) == (length - steps[number - 1] - 1) / stride


def test_the_weights_of_a_frame_sum_to_one_also_where_three_windows_meet() -> None:
    windows = Windows(frames=28, length=17, starts=(0, 8, 14), stride=2)  # frames 14 to 16 are in all three
    shares = torch.zeros(3, 28)
    for number in range(3):
        only = [torch.full((1, 3, 17, 2, 2), float(n == number)) for n in range(3)]
        shares[number] = torch.cat(list(joined(only, windows)), dim=2)[0, 0, :, 0, 0]
    assert torch.allclose(shares.sum(dim=0), torch.ones(28))
    assert torch.allclose(shares[1, 8:14], torch.arange(1, 7) / 10)  # nine in common with the first
    later = torch.arange(1, 12) / 12  # eleven with the third
    assert torch.allclose(shares[2, 14:25], later)
    assert torch.allclose(shares[1, 14:17], torch.arange(7, 10) / 10 * (1 - later[:3]))
    assert torch.equal(shares[0, :8], torch.ones(8))


def test_frames_are_given_as_soon_as_no_later_window_shows_them() -> None:
    backbone = Lossless()
    blocks = animate_windows(
        backbone, SMALL, levels(1, 1, 24, 24, 3), levels(2, 1, 29, 24, 24, 3), PROMPTS, seeds=[5], steps=2
    )
    assert next(blocks).shape[1] == 12
    assert backbone.calls.count("decode") == 1
    assert [block.shape[1] for block in blocks] == [17]


class Watched(Wan):
    """A small Wan that keeps what it was shown and what it decoded."""

    seen: list[Tensor]
    decoded: list[Tensor]
    counted: list[str]

    def encode(self, video: Tensor) -> Tensor:
        self.counted.append("encode")
        return super().encode(video)

    def image_embeds(self, reference: Tensor) -> Tensor | None:
        self.counted.append("image")
        return super().image_embeds(reference)

    def velocity(self, noisy: Tensor, *rest: Any) -> Tensor:
        self.seen.append(noisy)
        return super().velocity(noisy, *rest)

    def decode(self, latents: Tensor) -> Tensor:
        self.decoded.append(latents)
        return super().decode(latents)


def watched(name: str = "tiny") -> Watched:
    base = shared(name)
    backbone = Watched(name, base.transformer, base.vae, base.text, base.settings, base.image)
    backbone.seen, backbone.decoded, backbone.counted = [], [], []
    return backbone


def test_what_is_known_is_shown_at_its_own_share_of_noise_and_comes_out_as_it_was() -> None:
    backbone = watched()
    reference = pixels(levels(1, 1, HEIGHT_PX, WIDTH_PX, 3))[:, :, 0]
    driving = with_prefix(pixels(levels(2, 17, HEIGHT_PX, WIDTH_PX, 3)), 4)
    known = torch.randn(1, 20, 2, 4, 6, generator=torch.Generator().manual_seed(3))
    animator = Animator(backbone, reference, PROMPTS, seeds=[5], steps=3, guidance=Guidance(driving=2.0))
    latents = animator.latents(driving, known=Known(2, known))
    assert torch.allclose(left(latents)[:, :, 2:4], known, atol=1e-5)
    noise = noise_of(5, tuple(latents.shape[1:]))[None]
    for number, sigma in enumerate(sigmas(3, 1.0)[:-1].float()):
        for shown in backbone.seen[2 * number : 2 * number + 2]:
            wanted = interpolate(known, left(noise)[:, :, 2:4], sigma.expand(1))
            assert torch.allclose(left(shown)[:, :, 2:4], wanted, atol=1e-5)
    without = animator.latents(driving)
    assert float((left(latents) - left(without))[:, :, [0, 1, 4, 5]].abs().max()) > 1e-3  # the rest goes with it
    assert torch.allclose(right(latents), right(without))


def test_the_latent_frames_that_two_windows_make_of_the_same_frames_are_the_same() -> None:
    backbone = watched()
    made(backbone, GEOMETRY, 29)  # windows from 0 and 12: frames 13 to 16 are latent frame 5 of one, 2 of the other
    first, second = (left(each) for each in backbone.decoded)
    assert torch.allclose(second[:, :, 2], first[:, :, 5], atol=1e-5)
    assert not torch.allclose(second[:, :, 3], first[:, :, 5], atol=0.1)


@pytest.mark.parametrize(
    ("guidance", "more"), [(Guidance(), 0), (Guidance(driving=2.0), 1), (Guidance(text=2.0, driving=2.0), 1)]
)
def test_nothing_of_reference_text_or_vae_is_computed_twice(guidance: Guidance, more: int) -> None:
    backbone = watched()
    asked: list[list[str]] = []
    text = backbone.text

    class Text:
        dim, length, digest = text.dim, text.length, text.digest

        def encode(self, prompts: list[str]) -> Tensor:
            asked.append(list(prompts))
            return text.encode(prompts)

    backbone.text = Text()
    told: list[tuple[int, int]] = []
    made(backbone, GEOMETRY, 41, steps=2, guidance=guidance, on_step=lambda *at: told.append(at))
    passes = 1 + (guidance.driving != 1) + (guidance.text != 1)
    assert told == [(window, step) for window in range(3) for step in (1, 2)]
    assert len(backbone.seen) == 3 * 2 * passes
    assert backbone.counted.count("encode") == 3 + more  # a composite a window, and the one that nothing drives
    assert len(backbone.decoded) == 3
    assert backbone.counted.count("image") == 1
    assert asked == [PROMPTS, [""]][: 1 + (guidance.text != 1)]


def test_items_of_a_batch_are_what_each_is_alone() -> None:
    backbone = shared("tiny")
    reference, driving = levels(1, 2, HEIGHT_PX, WIDTH_PX, 3), levels(2, 2, 21, HEIGHT_PX, WIDTH_PX, 3)

    def of(items: slice) -> Pixels:
        prompts, seeds = [*PROMPTS, "a person"][items], [5, 6][items]
        blocks = animate_windows(
            backbone, GEOMETRY, reference[items], driving[items], prompts, seeds=seeds, steps=2
        )  # fmt: skip
        return np.concatenate(list(blocks), axis=1)

    both = of(slice(0, 2)).astype(int)
    for item in (0, 1):
        assert np.abs(both[item] - of(slice(item, item + 1))[0]).max() <= 1
    assert np.abs(both[0] - both[1]).max() > 10


def test_what_cannot_be_made_is_said_in_a_sentence() -> None:
    with pytest.raises(WindowError, match="a clip of 0 frames was to be made; give at least 1"):
        windows_of(0, GEOMETRY)
    with pytest.raises(WindowError, match="windows of 1 cannot be joined; give the backbone at least 9 frames"):
        windows_of(2, Geometry(32, 32, 5, 4, 12))
    assert windows_of(1, Geometry(32, 32, 5, 4, 12)).starts == (0,)
