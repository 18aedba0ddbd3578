"""A clip in two passes is the clip in diffusers' many."""

from collections.abc import Callable

import pytest
import torch
from diffusers import AutoencoderKLWan

from model.tiny import TinyVae, new_vae
from model.training.wan_vae import decode, encode

KINDS = {
    "plain": TinyVae(z_dim=4, base_dim=8, dim_mult=(1, 2, 4)),
    "shortcuts": TinyVae(z_dim=6, base_dim=8, dim_mult=(1, 2, 2), residual=True),
    "not patched": TinyVae(z_dim=4, base_dim=8, dim_mult=(1, 2, 2), patch_size=1),
}


def video(frames: int) -> torch.Tensor:
    return torch.rand(2, 3, frames, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("frames", [1, 5, 9, 21])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_latents_and_pixels_equal_those_of_diffusers_chunks(kind: str, frames: int) -> None:
    vae, clip = new_vae(KINDS[kind], 0), video(frames)
    latent = vae.encode(clip).latent_dist.mode()
    torch.testing.assert_close(encode(vae, clip), latent, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(decode(vae, latent).clamp(-1, 1), vae.decode(latent).sample, rtol=1e-4, atol=1e-5)


def test_gradients_equal_those_through_diffusers_chunks() -> None:
    def gradients(through: Callable[[AutoencoderKLWan, torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
        vae = new_vae(KINDS["shortcuts"], 0)
        through(vae, video(9) * 0.2).square().mean().backward()  # type: ignore[no-untyped-call]
        return [torch.zeros(()) if p.grad is None else p.grad for p in vae.parameters()]

    ours = gradients(lambda vae, clip: decode(vae, encode(vae, clip)).clamp(-1, 1))
    theirs = gradients(lambda vae, clip: vae.decode(vae.encode(clip).latent_dist.mode()).sample)
    assert max(float(g.abs().max()) for g in theirs) > 1e-4
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


@torch.no_grad()
def test_pixels_beyond_the_range_are_not_cut_off() -> None:
    vae = new_vae(KINDS["plain"], 0)
    assert vae.decoder.conv_out.bias is not None
    vae.decoder.conv_out.bias += 2.0
    assert float(decode(vae, torch.zeros(1, 4, 2, 2, 2)).min()) > 1.0
