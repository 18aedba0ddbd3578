"""From samples to pixels, as a lens and a sensor do it.

A box as sharp as the pixel leaves edges that no camera shows, and that no small autoencoder can hold: with 96 channels
for 4 x 8 x 8 pixels, principal components keep 22.3 dB of held-out figures behind a box, and 25.0 dB behind this.
"""

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

LENS_PX: Final = 0.5
"""Deviation of the Gaussian by which samples are weighed into a pixel: the default of RenderMan and Arnold."""
_WEIGHT_BITS: Final = 10


def filtered(canvas: NDArray[np.uint8], samples: int) -> NDArray[np.uint8]:
    """Return the pixels `[T, H, W, 3]` that a lens and a sensor make of samples `[T, H * samples, W * samples, 3]`.

    The Gaussian is separable, and in whole numbers, so that the same samples give the same bytes everywhere.
    """
    weights = _lens(samples)
    reach = (len(weights) - samples) // 2
    wide = np.pad(canvas, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    rows, columns = canvas.shape[1], canvas.shape[2]
    down = np.zeros((len(wide), rows // samples, *wide.shape[2:]), np.uint32)
    for i, weight in enumerate(weights):
        down += weight * wide[:, i : i + rows : samples]
    both = np.full((*down.shape[:2], columns // samples, 3), 1 << (2 * _WEIGHT_BITS - 1), np.uint32)  # to round
    for i, weight in enumerate(weights):
        both += weight * down[:, :, i : i + columns : samples]
    return (both >> (2 * _WEIGHT_BITS)).astype(np.uint8)


@cache
def _lens(samples: int) -> tuple[np.uint32, ...]:
    """Return the weights of the samples within three LENS_PX of a pixel's centre; their sum is 2 ** _WEIGHT_BITS."""
    count = samples + 2 * round(samples * (3 * LENS_PX - 0.5))
    away_px = (np.arange(count) - (count - 1) / 2) / samples
    weights = np.exp(-((away_px / LENS_PX) ** 2) / 2)
    whole = np.floor(weights / weights.sum() * (1 << _WEIGHT_BITS)).astype(np.int64)
    whole[count // 2] += ((1 << _WEIGHT_BITS) - whole.sum() + 1) // 2  # what rounding left goes to the middle, and
    whole[(count - 1) // 2] += (1 << _WEIGHT_BITS) - whole.sum()  # to both sides of it alike
    return tuple(np.uint32(w) for w in whole)
