"""From noise to data: Euler steps along the velocity, with guidance by text and by the driving video."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from manifests.errors import UserError
from model.flow_matching import shift_sigma

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(latents `[B, ...]`, sigma `[B]`) to velocity, like the latents."""


class SamplerError(UserError):
    """A sampling cannot be done, or what came of it is no number."""


@dataclass(frozen=True)
class Branch:
    """What one pass of the model is shown; where a field is false, what training showed when it dropped that signal."""

    text: bool = True
    driving: bool = True


@dataclass(frozen=True)
class Guidance:
    """How far to go beyond what the model says; 1 asks for no extra pass.

    Attributes:
        text: Away from what it would make of an empty prompt.
        driving: Away from what it would make of a blank driving video.

    Raises:
        SamplerError: A scale is not a number, 0 or more.
    """

    text: float = 1.0
    driving: float = 1.0

    def __post_init__(self) -> None:
        for name, scale in (("text", self.text), ("driving", self.driving)):
            if not (math.isfinite(scale) and scale >= 0):
                raise SamplerError(
                    f"the guidance scale of {name} is {scale}; it must be a number, 0 or more (1 is off)"
                )


def guided(velocity_of: Callable[[Tensor, Tensor, Branch], Tensor], guidance: Guidance) -> Velocity:
    """Return the guided velocity,

        v = v(all) + (s_text - 1) (v(all) - v(no text)) + (s_driving - 1) (v(all) - v(no driving)).

    With one scale at 1 this is classifier-free guidance (arXiv 2207.12598) by the other, v(no) + s (v(all) - v(no)).
    A branch is computed only if its scale is not 1: one, two or three passes a step.

    Args:
        velocity_of: The model: latents `[B, ...]`, sigma `[B]` and what it is shown, to velocity like the latents.
        guidance: The scales.
    """
    terms = []
    if guidance.text != 1.0:
        terms.append((guidance.text - 1.0, Branch(text=False)))
    if guidance.driving != 1.0:
        terms.append((guidance.driving - 1.0, Branch(driving=False)))

    def velocity(latents: Tensor, sigma: Tensor) -> Tensor:
        full = velocity_of(latents, sigma, Branch())
        result = full
        for weight, branch in terms:
            result = result + weight * (full - velocity_of(latents, sigma, branch))
        return result

    return velocity


def sigmas(steps: int, shift: float) -> Tensor:
    """Return the levels of noise from 1 to 0, `[steps + 1]` float64: 1 - i / steps, shifted (`shift_sigma`).

    As Wan's own sampler takes them.

    Raises:
        SamplerError: `steps` is not a whole number, 1 or more.
        FlowError: `shift` is not a number above 0.
    """
    if not isinstance(steps, int) or steps < 1:
        raise SamplerError(f"steps is {steps!r}; it must be a whole number, 1 or more")
    return shift_sigma(torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64), shift)


@torch.no_grad()
def sample(
    velocity: Velocity, noise: Tensor, sigmas: Tensor, on_step: Callable[[int, Tensor], None] | None = None
) -> Tensor:
    """Return the data at the end of the path: x <- x + (sigma' - sigma) v(x, sigma), for each sigma and the next one.

    Args:
        velocity: The model, or `guided`.
        noise: Latents at `sigmas[0]`, `[B, ...]`.
        sigmas: Levels of noise, falling within [0, 1], `[steps + 1]`.
        on_step: Called after each step with its number, from 1, and the latents.

    Returns:
        Latents at `sigmas[-1]`, like `noise`, in float32 or finer.

    Raises:
        SamplerError: The sigmas do not fall, or the latents are no longer finite; it names the step.
    """
    levels = _falling(sigmas)
    latents = noise.to(torch.promote_types(noise.dtype, torch.float32))  # small steps are lost in half precision
    check_finite(latents, "before step 1 the noise holds")
    for step, (now, after) in enumerate(pairwise(levels), start=1):
        sigma = latents.new_full((len(latents),), now)
        latents = latents + (after - now) * velocity(latents, sigma).to(latents.dtype)
        check_finite(latents, f"after step {step} of {len(levels) - 1} (sigma {now:.3f}) the latents hold")
        if on_step is not None:
            on_step(step, latents)
    return latents


def _falling(sigmas: Tensor) -> list[float]:
    levels: list[float] = sigmas.flatten().tolist()
    falls = all(1.0 >= now > after >= 0.0 for now, after in pairwise(levels))
    if len(levels) < 2 or not falls:
        raise SamplerError(f"the sigmas are {levels}; wanted at least two, falling, between 1 and 0: take sigmas()")
    return levels


def check_finite(latents: Tensor, what: str) -> None:
    """Raise a SamplerError that begins with `what` if anything is NaN or infinity."""
    bad = latents.numel() - int(torch.isfinite(latents).sum())
    if bad:
        raise SamplerError(
            f"{what} NaN or infinity in {bad} of {latents.numel()} elements; "
            "check the weights, or sample in a finer precision (fp32) and with less guidance"
        )
