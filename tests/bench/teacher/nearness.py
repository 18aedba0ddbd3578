"""How near pictures are: PSNR and SSIM inside figures, which of several candidates is the nearest, and whose limbs."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity
from torch.nn.functional import affine_grid, grid_sample

Frames = NDArray[np.uint8]  # [T, H, W, 3]
Masks = NDArray[np.bool_]  # [T, H, W]

SIZES = (0.9, 0.95, 1.0, 1.05, 1.1)
SHIFTS = (-0.12, -0.06, 0.0, 0.06, 0.12)  # of half a picture


def psnr(a: Frames, b: Frames, where: Masks) -> float:
    """Return 10 log10(255^2 / mean squared error) in dB over the pixels chosen, of the whole clip; NaN if none is."""
    if not where.any():
        return float("nan")
    error = np.square(a[where].astype(np.float64) - b[where]).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def ssim(a: Frames, b: Frames, where: Masks) -> float:
    """Return the mean structural similarity (Wang et al. 2004; scikit-image, windows of 7 px) over what is chosen."""
    if not where.any():
        return float("nan")
    total = 0.0
    for one, two, chosen in zip(a, b, where, strict=True):
        local = structural_similarity(one, two, channel_axis=2, data_range=255, full=True)[1]  # type: ignore[no-untyped-call]
        total += float(local[chosen].sum())
    return total / (3 * int(where.sum()))


def nearest(video: Frames, candidates: Sequence[Frames]) -> int:
    """Return which candidate has the least squared error over all pixels."""
    return int(np.argmin([np.square(video.astype(np.float32) - each).mean() for each in candidates]))


def nearest_aligned(video: Frames, candidates: Sequence[Frames]) -> int:
    """Return which candidate has the least squared error where each is first laid over the video: moved and made
    larger or smaller by what suits it best, the same in all frames. So it is told by its form alone."""
    wanted = torch.from_numpy(video).permute(0, 3, 1, 2).float()
    return int(np.argmin([_least_error(wanted, each) for each in candidates]))


def _least_error(wanted: torch.Tensor, candidate: Frames) -> float:
    picture = torch.from_numpy(candidate).permute(0, 3, 1, 2).float()
    errors = []
    for size, right, down in product(SIZES, SHIFTS, SHIFTS):
        laid = torch.tensor([[1 / size, 0.0, right], [0.0, 1 / size, down]]).expand(len(picture), 2, 3)
        seen = grid_sample(
            picture, affine_grid(laid, list(picture.shape), align_corners=False),
            padding_mode="border", align_corners=False,
        )  # fmt: skip
        errors.append(float((seen - wanted).square().mean()))
    return min(errors)
