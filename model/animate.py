"""The method put to use: a reference and a driving video become the reference in that motion.

V_o = M(D, I) (Eq. 3): composite (Eq. 2), Euler steps from noise, decode, keep the left half. What stands in front of
the driving video for the prefix, and is cut afterwards, is the caller's affair (`driving.with_prefix`, `cut_prefix`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.backbone import Backbone
from model.composite import composite, join, left, mask, right
from model.driving import blank_prefix
from model.flow_matching import interpolate, velocity
from model.sampler import Branch, Guidance, SamplerError, check_finite, guided, sample, sigmas

OnStep = Callable[[int, Tensor], None]


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
    on_step: OnStep | None = None,
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
    animator = Animator(
        backbone, reference, prompts, seeds=seeds, steps=steps, guidance=guidance, shift=shift, blank=blank
    )
    return animator.decode(animator.latents(driving, on_step=on_step))


@dataclass(frozen=True)
class Known:
    """Latent frames of the left half that are not to be made any more: `first`, and those after it.

    Attributes:
        first: The number of the first of them.
        latents: `[B, C, f, h, w]`.
    """

    first: int
    latents: Tensor


class Animator:
    """References and prompts, one of each an item, to follow any number of driving videos, one after the other.

    What depends on them alone (the embeddings of texts and pictures, and with guidance by driving the latents of the
    composite without a driving signal) is computed once. For the arguments see `animate`.
    """

    @torch.no_grad()
    def __init__(
        self,
        backbone: Backbone,
        reference: Tensor,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        steps: int = 30,
        guidance: Guidance | None = None,
        shift: float | None = None,
        blank: str = "grey",
    ) -> None:
        self.backbone, self.reference, self.seeds, self.blank = backbone, reference, tuple(seeds), blank
        self.guidance = guidance or Guidance()
        if not any(prompts):  # without any text all of it is the branch without text: the same pass twice
            self.guidance = replace(self.guidance, text=1.0)
        self.levels = sigmas(steps, backbone.spec.shift if shift is None else shift)
        self._text = {True: _texts(backbone, prompts).to(reference.device)}
        if self.guidance.text != 1.0:
            known = [prompts.index("")] if "" in prompts else []
            empty = self._text[True][known] if known else backbone.text.encode([""]).to(reference.device)
            self._text[False] = empty.expand(len(prompts), -1, -1)
        self._image = backbone.image_embeds(reference)
        self._undriven: dict[int, Tensor] = {}  # number of frames -> latents of the composite without driving

    @torch.no_grad()
    def latents(self, driving: Tensor, *, known: Known | None = None, on_step: OnStep | None = None) -> Tensor:
        """Return the latents `[B, C, F, h, 2w]` of result and driving video, joined.

        Args:
            driving: `[B, 3, T, H, W]` in [-1, 1], blank for the prefix.
            known: What of the result is known already. At each step it is shown at that step's share of noise, as the
                driving half is, and comes out as it was given: the rest is made to go with it.
            on_step: Called after each step with its number and the latents.

        Raises:
            SamplerError: The latents are no longer finite.
        """
        backbone = self.backbone
        frames, height, width = driving.shape[2:]
        given = {True: backbone.encode(composite(self.reference, driving, self.blank))}
        if self.guidance.driving != 1.0:
            given[False] = self._without(driving)
        packed = backbone.pack_mask(mask(frames, height, width)).to(driving.device)
        noise = torch.stack([noise_of(seed, tuple(given[True].shape[1:])) for seed in self.seeds]).to(driving.device)
        towards_driving = right(velocity(given[True], noise))

        def velocity_of(latents: Tensor, sigma: Tensor, branch: Branch) -> Tensor:
            # training shows the right half on its way to the driving that is known, and never learns to bring it there
            shown = interpolate(given[branch.driving], noise, sigma)
            seen = join(left(latents), right(shown))
            text = self._text[branch.text]
            predicted = backbone.velocity(seen, sigma, given[branch.driving], packed, text, self._image)
            # nor is what it says of that half ever judged: it would end as anything, and be decoded with the left
            return join(_towards(known, left(predicted), left(noise)), towards_driving)

        return sample(guided(velocity_of, self.guidance), noise, self.levels, on_step)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Return the video `[B, 3, T, H, W]` in [-1, 1] of latents that `latents` gave.

        Raises:
            SamplerError: The decoder gave no numbers, or a video of another size than the reference has.
        """
        apart = self.backbone.spec.halves_apart
        video = self.backbone.decode(left(latents)) if apart else left(self.backbone.decode(latents))
        check_finite(video, "the decoded video has")
        (height, width), (of_height, of_width) = video.shape[3:], self.reference.shape[2:]
        if (height, width) != (of_height, of_width):
            raise SamplerError(
                f"the decoder made frames of {width} x {height} px where the reference has {of_width} x {of_height}; "
                "the VAE is not that of these weights"
            )
        return video

    def _without(self, driving: Tensor) -> Tensor:
        frames = driving.shape[2]
        if frames not in self._undriven:
            nothing = blank_prefix(driving, frames, self.blank)
            self._undriven[frames] = self.backbone.encode(composite(self.reference, nothing, self.blank))
        return self._undriven[frames]


def _texts(backbone: Backbone, prompts: Sequence[str]) -> Tensor:
    """Return the embeddings `[B, L, D]`; a prompt that stands there more than once is encoded once."""
    places = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
    return backbone.text.encode(list(places))[[places[prompt] for prompt in prompts]]


def _towards(known: Known | None, predicted: Tensor, noise: Tensor) -> Tensor:
    """Return the velocity of the left half, which for what is known is known too."""
    if known is None:
        return predicted
    there = slice(known.first, known.first + known.latents.shape[2])
    whole = predicted.to(noise.dtype, copy=True)
    whole[:, :, there] = velocity(known.latents, noise[:, :, there])
    return whole


def noise_of(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Return the noise of one item, drawn on the CPU, so that every device starts from the same."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
