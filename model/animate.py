"""The method put to use: a reference and a driving video become the reference in that motion.

V_o = M(D, I) (Eq. 3): composite (Eq. 2), Euler steps from noise, decode, keep the left half. What stands in front of
the driving video for the prefix, and is cut afterwards, is the caller's affair (`driving.with_prefix`, `cut_prefix`).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from model.backbone import Backbone
from model.composite import composite, join, left, mask, right
from model.driving import blank_prefix
from model.flow_matching import interpolate, velocity
from model.sampler import Branch, Guidance, guided, sample, sigmas


@torch.no_grad()
def animate(
    backbone: Backbone,
    reference: Tensor,
    driving: Tensor,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    steps: int = 30,
    guidance: Guidance | None = None,
    shift: float | None = None,
    blank: str = "grey",
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Return the video `[B, 3, T, H, W]` in [-1, 1], prefix included.

    Args:
        backbone: The model.
        reference: `[B, 3, H, W]` in [-1, 1].
        driving: `[B, 3, T, H, W]`, blank for the prefix.
        prompts: One text each.
        seeds: One seed each: the noise of an item does not depend on its neighbours.
        steps: Of the sampler.
        guidance: By text and by driving; none if it is not given.
        shift: Of sigma; the backbone's if it is not given.
        blank: What "nothing" looks like, as in training.
        on_step: Called after each step with its number and the latents.

    Raises:
        SamplerError: The latents are no longer finite.
    """
    guidance = guidance or Guidance()
    frames, height, width = driving.shape[2:]
    given = {True: backbone.encode(composite(reference, driving, blank))}
    if guidance.driving != 1.0:
        given[False] = backbone.encode(composite(reference, blank_prefix(driving, frames, blank), blank))
    text = {True: backbone.text.encode(prompts).to(driving.device)}
    if guidance.text != 1.0:
        text[False] = backbone.text.encode([""] * len(prompts)).to(driving.device)
    packed = backbone.pack_mask(mask(frames, height, width)).to(driving.device)
    image = backbone.image_embeds(reference)

    noise = torch.stack([noise_of(seed, tuple(given[True].shape[1:])) for seed in seeds]).to(driving.device)
    towards_driving = right(velocity(given[True], noise))

    def velocity_of(latents: Tensor, sigma: Tensor, branch: Branch) -> Tensor:
        # training shows the right half on its way to the driving that is known, and never learns to bring it there
        known = interpolate(given[branch.driving], noise, sigma)
        seen = join(left(latents), right(known))
        predicted = backbone.velocity(seen, sigma, given[branch.driving], packed, text[branch.text], image)
        # nor is what it says of that half ever judged: it would end as anything, and be decoded with the left
        return join(left(predicted), towards_driving)

    levels = sigmas(steps, backbone.spec.shift if shift is None else shift)
    return left(backbone.decode(sample(guided(velocity_of, guidance), noise, levels, on_step)))


def noise_of(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Return the noise of one item, drawn on the CPU, so that every device starts from the same."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
