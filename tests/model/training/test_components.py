"""Principal components of blocks: what numpy finds, coded as a VAE of the same strides would."""

import numpy as np
import pytest
import torch
from torch import Tensor

from model.training.components import blocks, components


def film(seed: int, frames: int = 9) -> Tensor:
    """Return smooth noise `[2, 3, T, 16, 24]`: neighbours resemble each other, as in films."""
    drawn = torch.randn(2, 3, frames, 4, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(drawn, (frames, 16, 24), mode="trilinear").clamp(-1, 1)


def test_a_block_holds_the_pixels_of_its_place_and_the_first_frame_fills_its_own() -> None:
    video = torch.arange(3 * 5 * 8 * 16, dtype=torch.float32).reshape(1, 3, 5, 8, 16)
    parted = blocks(video, 2, 8)
    assert parted.shape == (1, 3, 1, 2, 384)
    first, second = (parted[0, number, 0, 1].reshape(3, 2, 8, 8) for number in (0, 1))
    assert torch.equal(first, video[0, :, [0, 0], :, 8:])
    assert torch.equal(second, video[0, :, 1:3, :, 8:])


@pytest.mark.parametrize(("frames", "side"), [(2, 8), (4, 4)])
def test_components_are_those_that_numpy_finds(frames: int, side: int) -> None:
    crops = [(film(seed), torch.ones(2, 1, 9, 16, 24)) for seed in range(6)]
    found = components(crops, 5, frames, side)
    every = torch.cat([blocks(video, frames, side).flatten(0, 3) for video, _ in crops]).double().numpy()
    _, singular, axes = np.linalg.svd(every - every.mean(0), full_matrices=False)
    assert np.allclose(found.mean, every.mean(0), atol=1e-5)
    assert np.allclose(found.deviation, singular[:5] / np.sqrt(len(every)), rtol=1e-4)
    assert np.allclose(np.abs((found.basis.double().numpy() * axes[:5].T).sum(0)), 1, atol=1e-4)
    code = torch.cat([found.code(video).flatten(2).transpose(1, 2).flatten(0, 1) for video, _ in crops])
    assert torch.allclose(code.mean(0), torch.zeros(5), atol=1e-3)
    assert torch.allclose(code.var(0, correction=0), torch.ones(5), atol=1e-3)
    assert found.code(film(9)).shape == (2, 5, 8 // frames + 1, 16 // side, 24 // side)


def test_what_weighs_nothing_is_not_seen() -> None:
    even, heavy = torch.ones(2, 1, 9, 16, 24), torch.zeros(2, 1, 9, 16, 24)
    heavy[..., :8] = 3.0
    whole = components([(film(0)[..., :8].contiguous(), even[..., :8])], 4, 2, 8)
    part = components([(film(0), heavy)], 4, 2, 8)
    assert torch.allclose(part.mean, whole.mean, atol=1e-6)
    assert torch.allclose(part.deviation, whole.deviation, rtol=1e-4)
