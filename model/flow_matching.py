"""Flow matching: the straight path from data to noise, its velocity, and how much noise is drawn in training.

    x(sigma) = (1 - sigma) data + sigma noise                      sigma: 0 data, 1 noise
    v = d x / d sigma = noise - data                               hence data = x - sigma v

Rectified flow (arXiv 2209.03003), with the distribution and the shift of sigma of Stable Diffusion 3 (arXiv 2403.03206,
logit-normal and Eq. 23), as Wan is trained. The sign of the velocity is stated here and nowhere else.
"""

import math

import torch
from torch import Tensor

from manifests.errors import UserError


class FlowError(UserError):
    """A number that shapes the path or the draw of sigma cannot be used."""


def interpolate(data: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Return x(sigma) = (1 - sigma) data + sigma noise, like `data` `[B, ...]`; `sigma` is `[B]` in [0, 1]."""
    share = _beside(sigma, data)
    return (1.0 - share) * data + share * noise


def velocity(data: Tensor, noise: Tensor) -> Tensor:
    """Return v = noise - data, the derivative of the path by sigma, like `data`."""
    return noise - data


def data_from(noisy: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
    """Return the data that a velocity points back to, x - sigma v, like `noisy` `[B, ...]`; `sigma` is `[B]`."""
    return noisy - _beside(sigma, noisy) * velocity


def shift_sigma(sigma: Tensor, shift: float) -> Tensor:
    """Return s sigma / (1 + (s - 1) sigma), of any shape: more noise where s > 1, the same at s = 1; 0 and 1 stay.

    A larger video hides its content only under more noise: s = 3 at 480p, 5 at 720p.

    Raises:
        FlowError: `shift` is not a number above 0.
    """
    if not (math.isfinite(shift) and shift > 0):
        raise FlowError(f"shift is {shift}; it must be a number above 0 (1 leaves sigma as it is)")
    shifted = shift * sigma
    return shifted / (shifted + (1.0 - sigma))  # the same, written so that rounding never passes 1, and 1 gives 1


def draw_sigma(generator: torch.Generator, batch: int, shift: float, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Draw `[batch]` shares of noise in [0, 1], float32: sigmoid(n), n ~ N(mean, std^2), then shifted.

    Args:
        generator: Where the numbers come from, and on whose device they lie.
        batch: How many.
        shift: Of `shift_sigma`.
        mean: Of the logit, before the shift; above 0 is more noise.
        std: Of the logit, before the shift.

    Raises:
        FlowError: `shift` or `std` is not a number above 0, or `mean` not a number.
    """
    if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
        raise FlowError(f"sigma is drawn with mean {mean} and std {std}; both must be numbers, and std above 0")
    logit = mean + std * torch.randn(batch, generator=generator, device=generator.device)
    return shift_sigma(torch.sigmoid(logit), shift)


def masked_error(predicted: Tensor, true: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of mask (predicted - true)^2, and the sum of the mask over as many elements; float32 scalars.

    The two stay apart so that a step can divide ONCE, by the sum over all ranks and micro-batches.

    Args:
        predicted: `[B, C, ...]`, of any float type.
        true: Like `predicted`.
        mask: What `predicted`'s shape can be made of by repeating it, `[B or 1, 1, ...]`.
    """
    weight = mask.to(torch.float32).expand_as(predicted)
    error = (predicted.float() - true.float()).square() * weight
    return error.sum(), weight.sum()


def _beside(sigma: Tensor, x: Tensor) -> Tensor:
    """Return `[B]` as `[B, 1, ...]`, to go with `x` `[B, ...]`."""
    return sigma.to(x.dtype).reshape(-1, *(1,) * (x.dim() - 1))
