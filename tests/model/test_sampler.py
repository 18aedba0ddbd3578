"""The sampler, against data that the true velocity leads to, and against diffusers' scheduler."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.flow_matching import FlowError, interpolate, velocity
from model.sampler import Branch, Guidance, SamplerError, guided, sample, sigmas


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


DATA, NOISE = normal(2, 3, 2, 2, 2), normal(2, 3, 2, 2, 2, seed=1)


def bent(latents: Tensor, sigma: Tensor) -> Tensor:
    """A velocity that depends on place and sigma, so that a wrong order or sign of steps shows."""
    return torch.sin(3 * latents) + sigma.view(-1, 1, 1, 1, 1).to(latents.dtype)


# Steps


@given(steps=st.integers(1, 40), shift=st.floats(0.2, 12))
@settings(deadline=None, max_examples=40)
def test_the_true_velocity_leads_to_the_data_for_any_steps_and_shift(steps: int, shift: float) -> None:
    levels = sigmas(steps, shift)

    def told(latents: Tensor, sigma: Tensor) -> Tensor:
        return velocity(DATA, NOISE)

    def found(latents: Tensor, sigma: Tensor) -> Tensor:
        """From where the path stands now: only right if each step is called with the sigma that it stands at."""
        return (latents - DATA) / sigma.view(-1, 1, 1, 1, 1)

    for true in (told, found):
        torch.testing.assert_close(sample(true, NOISE, levels), DATA, rtol=0, atol=1e-9)


def test_every_step_stands_on_the_path() -> None:
    levels, seen = sigmas(5, 3.0), []
    sample(lambda latents, sigma: velocity(DATA, NOISE), NOISE, levels, lambda step, x: seen.append((step, x)))
    assert [step for step, _ in seen] == [1, 2, 3, 4, 5]
    for step, latents in seen:
        torch.testing.assert_close(latents, interpolate(DATA, NOISE, levels[step].expand(2)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("steps", "shift"), [(1, 1.0), (4, 3.0), (20, 5.0)])
def test_levels_and_steps_are_those_of_diffusers_euler_scheduler(steps: int, shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.0, steps + 1)[:-1])
    ours = sigmas(steps, shift)
    torch.testing.assert_close(ours.float(), scheduler.sigmas, rtol=1e-6, atol=1e-7)
    latents = NOISE.float()
    for time in scheduler.timesteps:
        latents = scheduler.step(bent(latents, (time / 1000).expand(2)), time, latents, return_dict=False)[0]
    torch.testing.assert_close(sample(bent, NOISE.float(), ours), latents, rtol=1e-4, atol=1e-5)


@given(steps=st.integers(1, 200), shift=st.floats(0.05, 20))
@settings(deadline=None, max_examples=40)
def test_levels_fall_from_1_to_0(steps: int, shift: float) -> None:
    levels = sigmas(steps, shift)
    assert len(levels) == steps + 1
    assert levels[0] == 1
    assert levels[-1] == 0
    assert bool((levels.diff() < 0).all())


def test_the_model_is_given_one_sigma_a_sample_and_no_gradient_is_kept() -> None:
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    shapes = []

    def model(latents: Tensor, sigma: Tensor) -> Tensor:
        shapes.append(tuple(sigma.shape))
        return weight * latents

    assert not sample(model, NOISE, sigmas(3, 1.0)).requires_grad
    assert shapes == [(2,)] * 3


def test_small_steps_are_not_lost_in_half_precision() -> None:
    noise = torch.ones(1, 4, dtype=torch.bfloat16)
    made = sample(lambda latents, sigma: torch.ones_like(latents, dtype=torch.bfloat16), noise, sigmas(1000, 1.0))
    assert made.dtype == torch.float32
    torch.testing.assert_close(made, torch.zeros(1, 4), rtol=0, atol=1e-4)  # in bfloat16 it would stay at 1


# Guidance


class Model:
    """A velocity for each branch, and a count of how often each was asked for."""

    def __init__(self, all_shown: float, no_text: float, no_driving: float) -> None:
        self.values = {Branch(): all_shown, Branch(text=False): no_text, Branch(driving=False): no_driving}
        self.asked: Counter[Branch] = Counter()

    def __call__(self, latents: Tensor, sigma: Tensor, branch: Branch) -> Tensor:
        self.asked[branch] += 1
        return torch.full_like(latents, self.values[branch])


@pytest.mark.parametrize(
    ("guidance", "wanted", "branches"),
    [
        (Guidance(), 5.0, 1),
        (Guidance(text=3.0), 2.0 + 3.0 * (5.0 - 2.0), 2),
        (Guidance(driving=2.0), 1.0 + 2.0 * (5.0 - 1.0), 2),
        (Guidance(text=3.0, driving=2.0), 5.0 + 2.0 * (5.0 - 2.0) + 1.0 * (5.0 - 1.0), 3),
        (Guidance(text=0.0), 2.0, 2),
        (Guidance(text=0.5, driving=1.5), 5.0 - 0.5 * 3.0 + 0.5 * 4.0, 3),
    ],
    ids=str,
)
def test_guidance_is_its_formula_by_hand_and_computes_no_branch_it_does_not_need(
    guidance: Guidance, wanted: float, branches: int
) -> None:
    model = Model(all_shown=5.0, no_text=2.0, no_driving=1.0)
    made = guided(model, guidance)(torch.zeros(2, 3), torch.ones(2))
    assert torch.equal(made, torch.full((2, 3), wanted))
    assert model.asked == Counter([Branch(), Branch(text=False), Branch(driving=False)][:1]) + Counter(
        branch
        for scale, branch in ((guidance.text, Branch(text=False)), (guidance.driving, Branch(driving=False)))
        if scale != 1
    )
    assert model.asked.total() == branches


def test_scale_1_is_the_model_itself_to_the_bit() -> None:
    made = guided(lambda latents, sigma, branch: bent(latents, sigma), Guidance())(NOISE, torch.ones(2))
    assert torch.equal(made, bent(NOISE, torch.ones(2)))


def test_a_guided_sampling_asks_each_branch_once_a_step() -> None:
    model = Model(0.3, 0.2, 0.1)
    sample(guided(model, Guidance(text=2.0)), torch.zeros(1, 2), sigmas(7, 3.0))
    assert model.asked == {Branch(): 7, Branch(text=False): 7}


# Refusals


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [1, 3])
def test_a_velocity_that_is_no_number_ends_the_sampling_and_names_the_step(bad: float, at: int) -> None:
    steps = []

    def model(latents: Tensor, sigma: Tensor) -> Tensor:
        made = torch.zeros_like(latents)
        if len(steps) + 1 == at:
            made[0, 0] = bad
        return made

    with pytest.raises(
        SamplerError, match=rf"after step {at} of 4 \(sigma .*\) .* NaN or infinity in 8 of 48 elements"
    ):
        sample(model, NOISE, sigmas(4, 1.0), lambda step, latents: steps.append(step))
    assert steps == list(range(1, at))


def test_noise_that_is_no_number_is_refused_before_the_model_runs() -> None:
    model = Model(0.0, 0.0, 0.0)
    with pytest.raises(SamplerError, match="before step 1 the noise holds NaN or infinity in 1 of 4 elements"):
        sample(guided(model, Guidance()), torch.tensor([[0.0, math.nan, 0.0, 0.0]]), sigmas(2, 1.0))
    assert not model.asked


@pytest.mark.parametrize("steps", [0, -1, 2.5])
def test_fewer_than_one_step_is_refused(steps: int) -> None:
    with pytest.raises(SamplerError, match=rf"steps is {steps}; it must be a whole number, 1 or more"):
        sigmas(steps, 1.0)


def test_a_shift_of_0_is_refused() -> None:
    with pytest.raises(FlowError, match="shift is 0"):
        sigmas(4, 0)


@pytest.mark.parametrize(
    "levels", [[1.0], [0.0, 1.0], [1.0, 0.5, 0.5, 0.0], [1.0, math.nan, 0.0], [2.0, 0.0], [1.0, -0.5]]
)
def test_levels_that_do_not_fall_from_1_to_0_are_refused(levels: list[float]) -> None:
    with pytest.raises(SamplerError, match="wanted at least two, falling, between 1 and 0"):
        sample(bent, NOISE, torch.tensor(levels))


@pytest.mark.parametrize("scale", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["text", "driving"])
def test_a_scale_that_is_negative_or_no_number_is_refused(name: str, scale: float) -> None:
    with pytest.raises(SamplerError, match=f"the guidance scale of {name} is {scale}; it must be a number, 0 or more"):
        Guidance(**{name: scale})
