"""How near pictures are: PSNR and SSIM inside figures, and which of several candidates is the nearest."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

Frames = NDArray[np.uint8]  # [T, H, W, 3]
Masks = NDArray[np.bool_]  # [T, H, W]


def psnr(a: Frames, b: Frames, where: Masks) -> float:
    """Return 10 log10(255^2 / mean squared error) in dB over the pixels chosen, of the whole clip."""
    error = np.square(a[where].astype(np.float64) - b[where]).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def ssim(a: Frames, b: Frames, where: Masks) -> float:
    """Return the mean structural similarity (Wang et al. 2004; scikit-image, windows of 7 px) over what is chosen."""
    total = 0.0
    for one, two, chosen in zip(a, b, where, strict=True):
        local = structural_similarity(one, two, channel_axis=2, data_range=255, full=True)[1]
        total += float(local[chosen].sum())
    return total / max(3 * int(where.sum()), 1)


def nearest(video: Frames, candidates: Sequence[Frames], prefix_frames: int) -> int:
    """Return which candidate has the least squared error over all pixels after the prefix."""
    after = slice(prefix_frames, None)
    errors = [np.square(video[after].astype(np.float32) - each[after]).mean() for each in candidates]
    return int(np.argmin(errors))
