"""What goes wrong in pixels: flicker, blur, pictures that stand still, and what no teacher is free of.

Each takes and gives uint8 `[T, H, W, 3]`.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

BLUR_SIGMA: Final = 0.025
"""Deviation of the blur at grade 1, in heights of the picture."""
FLICKER_GAIN: Final = 0.35
"""Deviation of the brightness from frame to frame at grade 1, as a share; colours and places of the picture go apart by
half as much."""


def flicker(frames: Pixels, grade: float, rng: np.random.Generator) -> Pixels:
    """Let brightness, colour and broad patches of the picture change at random from frame to frame."""
    count, height, width = frames.shape[:3]
    whole = 1 + grade * FLICKER_GAIN * rng.normal(size=(count, 1, 1, 1))
    colour = grade * FLICKER_GAIN / 2 * rng.normal(size=(count, 1, 1, 3))
    coarse = rng.normal(size=(count, 4, 4)).astype(np.float32)
    patches = np.stack([cv2.resize(each, (width, height), interpolation=cv2.INTER_CUBIC) for each in coarse])
    return _levels(frames * (whole + colour + grade * FLICKER_GAIN / 2 * patches[..., None]))


def blur(frames: Pixels, grade: float) -> Pixels:
    """Blur by a Gaussian whose deviation is `BLUR_SIGMA * grade` heights of the picture."""
    sigma = BLUR_SIGMA * grade * frames.shape[1]
    return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames]) if sigma > 0 else frames


def freeze(frames: Pixels, grade: float) -> Pixels:
    """Let the last share `grade` of the steps from frame to frame stand still: the clip ends in one picture."""
    last = round((1 - grade) * (len(frames) - 1))
    return frames[np.minimum(np.arange(len(frames)), last)]


def worn(frames: Pixels, rng: np.random.Generator) -> Pixels:
    """Add what every teacher adds, and nobody rejects: a slight softness, a tint, noise of one to three levels."""
    sigma_px = rng.uniform(0.2, 0.6) * frames.shape[1] / 128
    tint = 1 + rng.normal(0, 0.02, (1, 1, 1, 3))
    noise = rng.normal(0, rng.uniform(1, 3), frames.shape)
    soft = np.stack([cv2.GaussianBlur(frame, (0, 0), sigma_px) for frame in frames])
    return _levels(soft * tint + noise)


def _levels(values: NDArray[np.floating]) -> Pixels:
    return np.asarray(np.clip(values, 0, 255) + 0.5, np.uint8)
