"""Latents of unequal strength, and a transformer that sees and predicts all of them at unit strength.

A VAE hands its latents out with deviation 1 in each channel. Of the 64 of our small VAE one carries two thirds of what
pixels show and 56 together an eighth: with equal noise on all, detail that nobody sees is as far along at each sigma as
the body it lies on, and most of what a model learns is about that. With deviation a in a channel, a^2 in proportion
to what the channel shows, noise covers detail first and bodies last, as in pixels, and an error counts as it shows.

The transformer sees and predicts numbers of deviation 1 at every sigma all the same (Karras et al. 2022, section 5 and
appendix B.6, here for the straight path x = (1 - s) data + s noise and its velocity):

    var = (1 - s)^2 a^2 + s^2                                             of x
    seen = x / sqrt(var)
    velocity = (s - (1 - s) a^2) / var x  +  a / sqrt(var) predicted

The first term is the best linear guess from x alone. Without it a token must carry all of its noise through to the end:
256 numbers in a stream of 384.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class Preconditioning:
    """Of latents `[B, C, ...]` with a deviation for each channel."""

    def __init__(self, deviation: Sequence[float]) -> None:
        self.deviation = torch.tensor(deviation)

    def seen(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """Return what the transformer sees of noisy latents, like them; `sigma` is `[B]`."""
        _, _, variance = self._parts(noisy, sigma)
        return noisy / variance.sqrt()

    def known(self, latents: Tensor) -> Tensor:
        """Return what the transformer sees of latents without noise, like them."""
        return latents / self._beside(latents)

    def velocity(self, predicted: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        """Return the velocity that the transformer's prediction stands for, like `noisy`; `sigma` is `[B]`."""
        deviation, share, variance = self._parts(noisy, sigma)
        linear = (share - (1.0 - share) * deviation.square()) / variance
        return linear * noisy + deviation / variance.sqrt() * predicted.to(noisy.dtype)

    def _parts(self, latents: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return deviation, sigma and the variance of noisy latents, each so that it stands beside them."""
        deviation = self._beside(latents)
        share = sigma.to(latents).view(-1, *[1] * (latents.ndim - 1))
        return deviation, share, ((1.0 - share) * deviation).square() + share.square()

    def _beside(self, latents: Tensor) -> Tensor:
        return self.deviation.to(latents).view(1, -1, *[1] * (latents.ndim - 2))
