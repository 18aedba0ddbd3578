"""What sampling arrives at, when what it follows is known to the last digit."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.animate import Animator, animate, noise_of
from model.composite import composite, join, joined, left, right
from model.driving import blank_prefix, cut_prefix, with_prefix
from model.flow_matching import interpolate
from model.sampler import Guidance, sigmas
from model.text import TinyText
from model.wan import Wan
from model.windows import animate_windows, windows_of
from tests.model.small import FRAMES, HEIGHT_PX, WIDTH_PX, pixels, shared

PREFIX = 4
PROMPTS = ["a grey bird, waving its wings", "a person in a red hat, sitting down"]


class Oracle(Wan):
    """A real small Wan, but for one thing: its velocity is the true one on the left, and nonsense on the right."""

    wanted: Tensor
    calls: list[dict[str, Any]]

    def velocity(
        self, noisy: Tensor, sigma: Tensor, cond: Tensor, mask: Tensor, text: Tensor, image: Tensor | None = None
    ) -> Tensor:
        self.calls.append({"noisy": noisy, "sigma": sigma, "cond": cond, "mask": mask, "text": text, "image": image})
        true = (noisy - self.wanted) / sigma.view(-1, 1, 1, 1, 1)
        return join(left(true), torch.full_like(right(true), 37.0))


def oracle(wanted: Tensor | None = None) -> Oracle:
    """Return an oracle for latents `wanted`, or for random ones."""
    base = shared("tiny")
    made = Oracle("tiny", base.transformer, base.vae, base.text, base.settings)
    made.calls = []
    made.wanted = torch.randn(2, 20, 3, 4, 12, generator=torch.Generator().manual_seed(9)) if wanted is None else wanted
    return made


@cache
def given() -> tuple[Tensor, Tensor]:
    """Return two references and two driving videos whose prefix is blank."""
    reference = pixels(1, 2, 3, HEIGHT_PX, WIDTH_PX)
    return reference, with_prefix(pixels(2, 2, 3, FRAMES - PREFIX, HEIGHT_PX, WIDTH_PX), PREFIX)


def run(backbone: Wan, reference: Tensor, driving: Tensor, **values: Any) -> Tensor:
    return animate(backbone, reference, driving, PROMPTS[: len(reference)], **{"seeds": [5, 6], "steps": 3, **values})


def test_with_the_true_velocity_the_target_comes_back() -> None:
    reference, driving = given()
    target = torch.zeros_like(driving)
    target[:, :, 0] = reference  # for this target, what is given and what is wanted are one video, so their latents too
    latents = shared("tiny").encode(joined(target, driving))
    assert torch.equal(latents, shared("tiny").encode(composite(reference, driving)))
    truth = left(shared("tiny").decode(latents))
    got = run(oracle(latents), reference, driving, guidance=Guidance(text=2.0, driving=3.0))
    assert got.shape == driving.shape
    assert torch.allclose(got, truth, atol=2e-4)
    assert float(truth.std()) > 0.05


def test_any_target_is_decoded_beside_the_driving_that_was_given() -> None:
    reference, driving = given()
    wanted = oracle().wanted
    beside = join(left(wanted), right(shared("tiny").encode(composite(reference, driving))))
    got = run(oracle(), reference, driving)
    assert torch.allclose(got, left(shared("tiny").decode(beside)), atol=2e-4)


def test_every_step_sees_the_right_half_at_its_own_share_of_noise() -> None:
    reference, driving = given()
    backbone, latents = oracle(), shared("tiny").encode(composite(reference, driving))
    after: list[Tensor] = []
    run(backbone, reference, driving, steps=4, shift=2.0, on_step=lambda _, x: after.append(x))
    noise = torch.stack([noise_of(seed, tuple(latents.shape[1:])) for seed in (5, 6)])
    levels = sigmas(4, 2.0).float()
    for call, now in zip(backbone.calls, levels[:-1], strict=True):
        assert torch.equal(call["sigma"], now.expand(2))
        assert torch.allclose(right(call["noisy"]), right(interpolate(latents, noise, call["sigma"])), atol=1e-6)
        assert torch.equal(call["cond"], latents)
    assert torch.equal(backbone.calls[0]["noisy"], noise)
    for latent, now in zip(after, levels[1:], strict=True):
        assert torch.allclose(right(latent), right(interpolate(latents, noise, now.expand(2))), atol=1e-5)
        assert torch.allclose(left(latent), left(interpolate(backbone.wanted, noise, now.expand(2))), atol=1e-5)


@pytest.mark.parametrize("frames", [5, 9, 13])
def test_the_video_has_a_frame_for_each_driving_frame_once_the_prefix_is_cut(frames: int) -> None:
    reference, _ = given()
    follow = pixels(3, 1, 3, frames, HEIGHT_PX, WIDTH_PX)
    got = run(shared("tiny"), reference[:1], with_prefix(follow, PREFIX), seeds=[1], steps=1)
    assert got.shape[2] == frames + PREFIX
    assert cut_prefix(got, PREFIX).shape == follow.shape


@pytest.mark.parametrize("guidance", [Guidance(), Guidance(text=1.5, driving=2.0)])
def test_what_an_item_becomes_does_not_depend_on_its_neighbours(guidance: Guidance) -> None:
    reference, driving = given()
    both = run(shared("tiny"), reference, driving, guidance=guidance)
    for item, seed in ((0, 5), (1, 6)):
        one = slice(item, item + 1)
        alone = animate(
            shared("tiny"), reference[one], driving[one], PROMPTS[one], seeds=[seed], steps=3, guidance=guidance
        )
        assert torch.allclose(both[one], alone, atol=1e-4)
    assert not torch.allclose(both[0], both[1], atol=0.05)


def test_the_seed_alone_decides_between_two_videos_of_the_same_inputs() -> None:
    reference, driving = (x[:1] for x in given())
    first, again, other = (run(shared("tiny"), reference, driving, seeds=[seed]) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=0.02)


@pytest.mark.parametrize(
    ("guidance", "passes"),
    [
        (None, 1),
        (Guidance(), 1),
        (Guidance(text=2.0), 2),
        (Guidance(driving=2.0), 2),
        (Guidance(text=0.0, driving=2.0), 3),
    ],
)
def test_guidance_costs_one_pass_a_step_for_each_scale_that_is_not_one(guidance: Guidance | None, passes: int) -> None:
    backbone = oracle()
    run(backbone, *given(), steps=5, guidance=guidance)
    assert len(backbone.calls) == 5 * passes


def test_guidance_by_text_costs_nothing_where_there_is_no_text() -> None:
    backbone = oracle()
    one, two = (
        animate(backbone, *given(), ["", ""], seeds=[5, 6], steps=2, guidance=guidance)
        for guidance in (Guidance(), Guidance(text=3.0))
    )
    assert len(backbone.calls) == 4
    assert torch.equal(one, two)


def without_driving(driving: Tensor) -> Sequence[dict[str, Any]]:
    """Return what the model is shown in the passes without a driving signal; the oracle steers as if it were there."""
    backbone = oracle()
    run(backbone, given()[0], driving, guidance=Guidance(driving=3.0))
    return backbone.calls[1::2]


def test_the_branch_without_driving_never_sees_the_driving() -> None:
    reference, driving = given()
    other = blank_prefix(pixels(77, *driving.shape), PREFIX)
    blank = shared("tiny").encode(composite(reference, torch.zeros_like(driving)))
    for one, two in zip(without_driving(driving), without_driving(other), strict=True):
        assert torch.equal(one["cond"], blank)
        assert torch.allclose(left(one["noisy"]), left(two["noisy"]), atol=1e-5)
        assert all(torch.equal(one[name], two[name]) for name in ("sigma", "cond", "mask", "text"))
        assert torch.equal(right(one["noisy"]), right(two["noisy"]))


def test_the_branch_without_text_is_given_the_empty_prompt_and_all_else_alike() -> None:
    backbone = oracle()
    run(backbone, *given(), guidance=Guidance(text=3.0))
    empty = backbone.text.encode(["", ""])
    for full, bare in zip(backbone.calls[0::2], backbone.calls[1::2], strict=True):
        assert torch.equal(bare["text"], empty)
        assert torch.equal(full["text"], backbone.text.encode(PROMPTS))
        assert all(torch.equal(full[name], bare[name]) for name in ("noisy", "sigma", "cond", "mask"))


def test_the_blank_is_the_one_that_is_asked_for() -> None:
    reference, driving = given()
    backbone = oracle()
    run(backbone, reference, driving, steps=1, blank="black")
    assert torch.equal(backbone.calls[0]["cond"], shared("tiny").encode(composite(reference, driving, "black")))


def test_a_base_that_takes_a_picture_is_given_the_reference() -> None:
    reference, driving = given()
    base = shared("wan-i2v")
    backbone = Oracle("wan-i2v", base.transformer, base.vae, base.text, base.settings, base.image)
    backbone.calls, backbone.wanted = [], torch.zeros(1)
    run(backbone, reference, driving, steps=1, guidance=Guidance(driving=2.0))
    assert all(torch.equal(call["image"], base.image_embeds(reference)) for call in backbone.calls)


def test_guidance_goes_beyond_what_the_model_says_by_its_scale() -> None:
    reference, driving = (x[:1] for x in given())
    steps: dict[float, Tensor] = {}
    for scale in (0.0, 1.0, 3.0):  # the first step is linear in the scale
        run(
            shared("tiny"), reference, driving, seeds=[1], steps=2, guidance=Guidance(driving=scale),
            on_step=lambda n, x, scale=scale: steps.setdefault(scale, left(x)),  # type: ignore[misc]
        )  # fmt: skip
    assert torch.allclose(steps[3.0] - steps[0.0], 3 * (steps[1.0] - steps[0.0]), atol=1e-4)
    assert float((steps[1.0] - steps[0.0]).abs().max()) > 1e-3


class Ledger(Wan):
    """A real small Wan that keeps what each of its parts was asked."""

    asked: dict[str, list[bytes]]

    def encode(self, video: Tensor) -> Tensor:
        return self._kept("encode", super().encode, video)

    def decode(self, latents: Tensor) -> Tensor:
        return self._kept("decode", super().decode, latents)

    def image_embeds(self, reference: Tensor) -> Tensor | None:
        return self._kept("image", super().image_embeds, reference)

    def velocity(self, *given: Any, **more: Any) -> Tensor:
        return self._kept("velocity", super().velocity, *given, **more)

    def _kept(self, part: str, member: Any, *given: Any, **more: Any) -> Any:
        tensors = [value for value in (*given, *more.values()) if value is not None]
        self.asked.setdefault(part, []).append(b"".join(value.numpy().tobytes() for value in tensors))
        return member(*given, **more)


class KeptText(TinyText):
    """The small encoder of texts, which keeps the prompts it was asked for."""

    prompts: list[str]

    def encode(self, prompts: Sequence[str]) -> Tensor:
        self.prompts += prompts
        return super().encode(prompts)


@pytest.mark.parametrize(
    ("name", "prompts"), [("tiny", ["a bird", "a bird"]), ("tiny", ["", "a bird"]), ("wan-i2v", ["a bird", "a bird"])]
)
def test_nothing_is_computed_twice_in_a_clip_of_several_windows(name: str, prompts: list[str]) -> None:
    base = shared(name)
    text = KeptText(base.text.dim, base.text.length)
    text.prompts = []
    backbone = Ledger(name, base.transformer, base.vae, text, base.settings, base.image)
    backbone.asked = {}
    geometry, frames, steps = backbone.geometry(HEIGHT_PX, WIDTH_PX, 13), 20, 1
    drawn = np.random.default_rng(0)
    reference, driving = (
        drawn.integers(0, 256, (2, *more, HEIGHT_PX, WIDTH_PX, 3), np.uint8) for more in ((), (frames,))
    )
    blocks = animate_windows(
        backbone, geometry, reference, driving, prompts, seeds=[5, 6], steps=steps,
        guidance=Guidance(text=2.0, driving=2.0),
    )  # fmt: skip
    assert sum(block.shape[1] for block in blocks) == frames
    windows = len(windows_of(frames, geometry).starts)
    assert windows > 2
    assert sorted(text.prompts) == sorted({"", *prompts})
    wanted = {"encode": windows + 1, "decode": windows, "image": 1, "velocity": 3 * windows * steps}
    assert {part: len(asked) for part, asked in backbone.asked.items()} == wanted
    for part in ("encode", "decode", "image"):
        assert len(set(backbone.asked[part])) == len(backbone.asked[part])


def test_latents_of_a_batch_are_those_of_its_items_alone() -> None:
    reference, driving = given()

    def latents(some: slice) -> Tensor:
        return Animator(
            shared("tiny"), reference[some], PROMPTS[some], seeds=[5, 6][some], steps=8, guidance=Guidance(text=2.0)
        ).latents(driving[some])

    together = latents(slice(0, 2))
    alone = torch.cat([latents(slice(i, i + 1)) for i in (0, 1)])
    assert torch.allclose(together, alone, rtol=0, atol=1e-5)
