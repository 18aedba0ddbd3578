"""How near pictures are: PSNR, whole and inside the figure.

A figure fills about a fifth of a frame, so that whole-frame PSNR measures the copying of the background: judge inside.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.composite import left
from model.geometry import Geometry
from model.training.clips import Clips
from model.training.examples import Augment, example


def psnr(a: Tensor, b: Tensor, where: Tensor | None = None) -> float:
    """Return the peak signal-to-noise ratio in dB of two tensors in [-1, 1] (peak 2), where `where` is true.

    10 log10(2^2 / mean((a - b)^2)); infinite for equal ones, NaN where nothing is chosen.
    """
    error = (a.float() - b.float()).square()
    chosen = error if where is None else error[where.expand_as(error)]
    return float(10 * torch.log10(4.0 / chosen.mean())) if chosen.numel() else float("nan")


@dataclass(frozen=True)
class Reconstruction:
    """PSNR in dB of clips through a VAE and back, one number a clip: inside the figures, and of the whole left half."""

    figure_db: NDArray[np.float64]
    whole_db: NDArray[np.float64]

    def __str__(self) -> str:
        low, high = interval(self.figure_db)
        return (
            f"{np.nanmean(self.figure_db):.2f} dB inside figures (95 % interval {low:.2f} to {high:.2f}, "
            f"n {len(self.figure_db)}), {np.nanmean(self.whole_db):.2f} dB whole"
        )


def interval(values: NDArray[np.float64], draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Return the bootstrap interval (95 %) of the mean of the finite values; NaN where there are none."""
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan"), float("nan")
    picks = np.random.default_rng(seed).integers(len(known), size=(draws, len(known)))
    low, high = np.percentile(known[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


@torch.no_grad()
def reconstruction(
    through: Callable[[Tensor], Tensor], clips: Clips, geometry: Geometry, numbers: Sequence[int]
) -> Reconstruction:
    """Measure the left half of what a VAE leaves of these clips' joined target and driving.

    Args:
        through: Pixels `[1, 3, T, H, 2W]` in [-1, 1] to what comes back, encoded and decoded.
        clips: Clips that were not trained on.
        geometry: Their size.
        numbers: Which of them.
    """
    plain = Augment(bone_share=0.0, drop_driving=0.0, drop_reference=0.0)
    figure, whole = [], []
    for number in numbers:
        clip = clips.clip(number)
        wanted = example(clip, geometry, plain, np.random.default_rng(0)).wanted
        got = left(through(wanted)).clamp(-1, 1)
        mask = torch.from_numpy(clip.figure)[None, None]
        figure.append(psnr(got, left(wanted), mask))
        whole.append(psnr(got, left(wanted)))
    return Reconstruction(np.array(figure), np.array(whole))
