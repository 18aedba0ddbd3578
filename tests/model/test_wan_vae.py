"""A clip in two passes is the clip in diffusers' many; without its residual branches a VAE is what it began as."""

from collections.abc import Callable

import pytest
import torch
from diffusers import AutoencoderKLWan

from model.tiny import TinyVae, new_vae
from model.wan_vae import decode, encode, straight

KINDS = {
    "plain": TinyVae(z_dim=4, base_dim=8, dim_mult=(1, 2, 4)),
    "shortcuts": TinyVae(z_dim=6, base_dim=8, dim_mult=(1, 2, 2), residual=True),
    "stride 2": TinyVae(z_dim=6, base_dim=8, dim_mult=(2, 2), patch_size=4, residual=True),
    "not patched": TinyVae(z_dim=4, base_dim=8, dim_mult=(1, 2, 2), patch_size=1),
}


def grown(kind: str) -> AutoencoderKLWan:
    """Return a VAE of which no branch is zero any more."""
    vae = new_vae(KINDS[kind], 0)
    for number, parameter in enumerate(vae.parameters()):
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(number))
    return vae


def video(frames: int) -> torch.Tensor:
    return torch.rand(2, 3, frames, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("frames", [1, 5, 9, 21])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_latents_and_pixels_equal_those_of_diffusers_chunks(kind: str, frames: int) -> None:
    vae, clip = grown(kind), video(frames)
    latent = vae.encode(clip).latent_dist.mode()
    torch.testing.assert_close(encode(vae, clip), latent, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(decode(vae, latent).clamp(-1, 1), vae.decode(latent).sample, rtol=1e-4, atol=1e-5)


def test_gradients_equal_those_through_diffusers_chunks() -> None:
    def gradients(through: Callable[[AutoencoderKLWan, torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
        vae = grown("shortcuts")
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


@pytest.mark.parametrize("kind", KINDS)
def test_without_its_branches_a_vae_is_what_it_began_as_and_only_what_is_left_learns(kind: str) -> None:
    clip = video(9)
    with torch.no_grad():
        begun, living = (decode(vae, encode(vae, clip)) for vae in (new_vae(KINDS[kind], 0), grown(kind)))
    assert not torch.allclose(begun, living, atol=1e-3)
    vae = new_vae(KINDS[kind], 0)
    with straight(vae):
        bare = decode(vae, encode(vae, clip))
    torch.testing.assert_close(bare, begun)
    bare.square().mean().backward()  # type: ignore[no-untyped-call]
    still = {name for name, p in vae.named_parameters() if p.grad is None}
    assert any(name.endswith("conv1.weight") for name in still)
    assert all(".resnets." in name or ".attentions." in name or "blocks." in name for name in still)
    assert not {name for name in still if "conv_shortcut" in name or "resample" in name}
    with straight(vae), pytest.raises(ZeroDivisionError):
        raise ZeroDivisionError  # what ends it badly leaves no VAE without branches
    with torch.no_grad():
        for whole, part in zip(grown(kind).parameters(), vae.parameters(), strict=True):
            part.copy_(whole)
        torch.testing.assert_close(decode(vae, encode(vae, clip)), living)
