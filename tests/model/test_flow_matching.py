"""The path, its derivative by autograd, and the distribution of sigma against scipy's."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from torch import Tensor

from model.composite import loss_mask
from model.flow_matching import FlowError, data_from, draw_sigma, interpolate, masked_error, shift_sigma, velocity
from model.geometry import Geometry


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


DATA, NOISE = normal(4, 3, 2, 2, 2), normal(4, 3, 2, 2, 2, seed=1)


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
@settings(deadline=None, max_examples=30)
def test_the_velocity_is_the_derivative_of_the_path_by_sigma(levels: list[float]) -> None:
    sigma = torch.tensor(levels, dtype=torch.float64)
    slopes = torch.autograd.functional.jacobian(lambda at: interpolate(DATA, NOISE, at), sigma)  # [B, C, F, h, w, B]
    for sample, slope in enumerate(slopes):
        torch.testing.assert_close(slope[..., sample], velocity(DATA, NOISE)[sample], rtol=0, atol=1e-12)
        assert not slope[..., [other for other in range(4) if other != sample]].any()


def test_the_path_goes_from_the_data_to_the_noise_to_the_bit() -> None:
    assert torch.equal(interpolate(DATA, NOISE, torch.zeros(4)), DATA)
    assert torch.equal(interpolate(DATA, NOISE, torch.ones(4)), NOISE)


def test_each_sample_has_its_own_sigma() -> None:
    sigma = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    noisy = interpolate(DATA, NOISE, sigma)
    for sample, share in enumerate(sigma.tolist()):
        expected = (1 - share) * DATA[sample].numpy() + share * NOISE[sample].numpy()
        np.testing.assert_allclose(noisy[sample].numpy(), expected, rtol=0, atol=1e-15)


def test_noisy_and_velocity_point_back_to_the_data() -> None:
    sigma = torch.tensor([0.0, 0.3, 0.9, 1.0], dtype=torch.float64)
    back = data_from(interpolate(DATA, NOISE, sigma), velocity(DATA, NOISE), sigma)
    torch.testing.assert_close(back, DATA, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_path_keeps_the_type_of_the_data(dtype: torch.dtype) -> None:
    noisy = interpolate(DATA.to(dtype), NOISE.to(dtype), torch.full((4,), 0.5))
    assert noisy.dtype == data_from(noisy, noisy, torch.full((4,), 0.5)).dtype == dtype


# Sigma


@pytest.mark.parametrize(
    ("shift", "mean", "std"), [(1.0, 0.0, 1.0), (3.0, 0.0, 1.0), (5.0, 0.5, 1.4), (0.5, -1.0, 0.7)]
)
def test_sigma_is_logit_normal_and_then_shifted(shift: float, mean: float, std: float) -> None:
    drawn = draw_sigma(torch.Generator().manual_seed(11), 20_000, shift, mean, std)
    assert drawn.dtype == torch.float32
    # logit(shifted sigma) = logit(sigma) + ln(shift): a normal distribution again
    logit = special.logit(drawn.double().numpy())
    assert stats.kstest(logit, stats.norm(mean + math.log(shift), std).cdf).pvalue > 0.01
    if shift != 1:
        assert stats.kstest(logit, stats.norm(mean, std).cdf).pvalue < 1e-9


def test_the_same_generator_draws_the_same_sigmas() -> None:
    first, second = (draw_sigma(torch.Generator().manual_seed(5), 8, 3.0) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, draw_sigma(torch.Generator().manual_seed(6), 8, 3.0))


@given(sigma=st.floats(0, 1), shift=st.floats(0.05, 20), other=st.floats(0.05, 20))
@settings(deadline=None, max_examples=60)
def test_shifts_keep_the_ends_multiply_and_undo_each_other(sigma: float, shift: float, other: float) -> None:
    at = torch.tensor([0.0, sigma, 1.0], dtype=torch.float64)
    once = shift_sigma(at, shift)
    assert once[0] == 0
    assert once[2] == 1
    torch.testing.assert_close(shift_sigma(once, other), shift_sigma(at, shift * other), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(shift_sigma(once, 1 / shift), at, rtol=1e-9, atol=1e-12)


def test_half_the_noise_becomes_three_quarters_at_480p_and_five_sixths_at_720p() -> None:
    assert shift_sigma(torch.tensor(0.5), 3.0).item() == pytest.approx(3 / 4)
    assert shift_sigma(torch.tensor(0.5), 5.0).item() == pytest.approx(5 / 6)


@pytest.mark.parametrize("shift", [0.0, -1.0, math.nan, math.inf])
def test_a_shift_that_is_no_number_above_0_is_refused(shift: float) -> None:
    with pytest.raises(FlowError, match=r"shift is .*; it must be a number above 0"):
        draw_sigma(torch.Generator(), 1, shift)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.0), (0.0, -1.0), (math.nan, 1.0), (0.0, math.inf)])
def test_a_spread_that_is_no_number_above_0_is_refused(mean: float, std: float) -> None:
    with pytest.raises(FlowError, match=r"sigma is drawn with mean .* std above 0"):
        draw_sigma(torch.Generator(), 1, 1.0, mean, std)


# Error


def test_the_error_is_the_sum_over_the_left_half_and_its_number_of_elements() -> None:
    size = Geometry(16, 32, 5, 0, 8)
    shape = (3, 7, size.latent_frames, size.latent_height, size.composite_latent_width)
    predicted, true = normal(*shape), normal(*shape, seed=1)
    error, elements = masked_error(predicted, true, loss_mask(size))
    a, b = predicted.numpy()[..., : size.latent_width], true.numpy()[..., : size.latent_width]
    assert error.item() == pytest.approx(((a - b) ** 2).sum(), rel=1e-5)
    assert elements.item() == a.size


def test_the_right_half_gets_no_gradient() -> None:
    size = Geometry(16, 32, 5, 0, 8)
    predicted = normal(2, 3, 2, 2, 8, dtype=torch.float32).requires_grad_()
    masked_error(predicted, torch.zeros_like(predicted), loss_mask(size))[0].backward()
    assert predicted.grad is not None
    assert bool((predicted.grad[..., :4] != 0).all())
    assert not predicted.grad[..., 4:].any()


def test_errors_of_parts_add_up_to_the_error_of_the_whole() -> None:
    weight = (normal(4, 1, 2, 2, 2, seed=2) > 0).double()
    whole = masked_error(DATA, NOISE, weight)
    parts = [masked_error(DATA[i : i + 1], NOISE[i : i + 1], weight[i : i + 1]) for i in range(4)]
    assert sum(part[0].item() for part in parts) == pytest.approx(whole[0].item(), rel=1e-6)
    assert sum(part[1].item() for part in parts) == whole[1].item()


def test_an_error_in_half_precision_is_summed_in_full_precision() -> None:
    # neither 300 * 300 nor 70,000 is a number in float16, nor exact in bfloat16
    for dtype in (torch.float16, torch.bfloat16):
        far = torch.full((1, 1, 70_000), 300.0, dtype=dtype)
        error, elements = masked_error(far, torch.zeros_like(far), torch.ones(1, 1, 1, dtype=dtype))
        assert error.item() == pytest.approx(300 * 300 * 70_000, rel=1e-6)
        assert elements.item() == 70_000
