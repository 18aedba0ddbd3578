"""Pictures that a pose estimator learns from, varied: place, size, side, colours, and how much of them is blurred.

The blur matters most: what a small model draws is softer than what theatre renders.
"""

from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as nnf

from model.tiny_pose import SIDE_PX

MIRRORED: Final = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
"""COCO's body points of a mirrored person: left is right."""
_SCALE, _SHIFT, _COLOUR, _NOISE = 1.35, 0.15, 0.3, 0.04
_BLURRED, _COARSEST = 0.6, 24  # share of pictures; px to which they are made smaller, and back


def varied(pictures: Tensor, points: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return pictures `[B, 3, h, w]` in [-1, 1] varied, as `[B, 3, 64, 64]`, and their points `[B, 17, 3]` in px of
    these; a point that left the picture is not seen."""
    count, height, width = len(pictures), *pictures.shape[2:]
    scale = torch.from_numpy(np.exp(rng.uniform(-1, 1, count) * np.log(_SCALE))).float()
    side = torch.from_numpy(np.where(rng.random(count) < 0.5, -1.0, 1.0)).float()
    shift = torch.from_numpy(rng.uniform(-_SHIFT, _SHIFT, (count, 2)) * 2).float()
    theta = torch.zeros(count, 2, 3)  # from places of the result, -1 to 1, to places of the picture
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = side / scale, 1 / scale, shift
    grid = nnf.affine_grid(theta, [count, 3, SIDE_PX, SIDE_PX], align_corners=False)
    moved = nnf.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    size = torch.tensor([width, height]).float()
    at = (points[..., :2] + 0.5) / size * 2 - 1
    there = (at - shift[:, None]) * torch.stack([side * scale, scale], dim=1)[:, None]
    px = (there + 1) / 2 * SIDE_PX - 0.5
    seen = (points[..., 2] > 0) & (there.abs() < 1).all(dim=-1)
    turned = torch.where((side < 0)[:, None, None], torch.cat([px, seen[..., None]], -1)[:, list(MIRRORED)],
                         torch.cat([px, seen[..., None]], -1))  # fmt: skip
    return _coloured(_blurred(moved, rng), rng), turned


def _blurred(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """Return the pictures, a share of them made smaller, all of those to one size of this step, and larger again."""
    soft = torch.from_numpy(rng.random(len(pictures)) < _BLURRED)
    side = int(rng.integers(_COARSEST, SIDE_PX))
    small = nnf.interpolate(pictures, size=(side, side), mode="bilinear", antialias=True)
    back = nnf.interpolate(small, size=pictures.shape[2:], mode="bicubic")
    return torch.where(soft[:, None, None, None], back, pictures)


def _coloured(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    count = len(pictures)
    gain = torch.from_numpy(1 + rng.uniform(-_COLOUR, _COLOUR, (count, 3, 1, 1))).float()
    bias = torch.from_numpy(rng.uniform(-_COLOUR, _COLOUR, (count, 3, 1, 1))).float()
    noise = torch.from_numpy(rng.standard_normal(pictures.shape, np.float32)) * _NOISE
    return (pictures * gain + bias + noise).clamp(-1, 1)
