"""Principal components of blocks of pixels: the best linear code of its size, and a teacher for a VAE that begins.

An autoencoder that learns by itself finds its directions one after the other, the strong ones first. Components are
known at once, and have deviation one each: an encoder that is shown them learns the weak as fast as the strong, and a
decoder that is given them need not wait for the encoder.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Components:
    """The first z principal components of blocks of `time_px` x `side_px` x `side_px` pixels.

    Attributes:
        mean: `[n]`, n = 3 * time_px * side_px^2.
        basis: `[n, z]`, orthonormal, the strongest first.
        deviation: `[z]` of the blocks along them.
        frames: Frames of a block: the VAE's temporal stride; of the first frame, which stands alone, as many copies.
        side_px: Its side: the VAE's spatial stride.
    """

    mean: Tensor
    basis: Tensor
    deviation: Tensor
    frames: int
    side_px: int

    def code(self, video: Tensor) -> Tensor:
        """Return the code `[B, z, F, h, w]`, of deviation one, of pixels `[B, 3, T, H, W]`."""
        code = (blocks(video, self.frames, self.side_px) - self.mean) @ self.basis / self.deviation
        return code.permute(0, 4, 1, 2, 3)


def blocks(video: Tensor, frames: int, side_px: int) -> Tensor:
    """Return pixels `[B, 3, T, H, W]` as blocks `[B, F, h, w, 3 * frames * side_px^2]`, T = frames * k + 1."""
    whole = torch.cat([video[:, :, :1].repeat_interleave(frames - 1, dim=2), video], dim=2)
    batch, colours, time, height, width = whole.shape
    parted = whole.reshape(
        batch, colours, time // frames, frames, height // side_px, side_px, width // side_px, side_px
    )
    return parted.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)


def components(crops: Iterable[tuple[Tensor, Tensor]], count: int, frames: int, side_px: int) -> Components:
    """Return `count` components of crops `[B, 3, T, H, W]`; a block counts as its mean weight `[B, 1, T, H, W]`."""
    n = 3 * frames * side_px**2
    total, first, second = 0.0, torch.zeros(n, dtype=torch.float64), torch.zeros(n, n, dtype=torch.float64)
    for video, weight in crops:
        block = blocks(video, frames, side_px).reshape(-1, n).double()
        share = blocks(weight.expand_as(video), frames, side_px).mean(dim=-1).reshape(-1, 1).double()
        total += float(share.sum())
        first += (share * block).sum(dim=0)
        second += (share * block).T @ block
    mean = first / total
    variance, basis = torch.linalg.eigh(second / total - mean[:, None] * mean)
    strongest = basis.flip(1)[:, :count]
    deviation = variance.flip(0)[:count].clamp(min=1e-8).sqrt()
    return Components(mean.float(), strongest.float(), deviation.float(), frames, side_px)
