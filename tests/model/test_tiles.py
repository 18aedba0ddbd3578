"""Tiles: each part by itself, as diffusers' own tiling has it."""

from dataclasses import replace

import pytest
import torch

from model.backbone import BackboneError
from model.composite import left
from model.text import TinyText
from model.tiles import cut, join
from model.tiny import TinyVae, new_vae
from model.wan import new_tiny
from model.wan_config import SETTINGS_OF
from tests.model import small

TILE_PX = 32


def test_tiles_are_the_parts_of_a_picture_row_by_row_and_joined_they_are_the_picture() -> None:
    video = torch.arange(2 * 3 * 2 * 4 * 6).reshape(2, 3, 2, 4, 6)
    tiles = cut(video, 2)
    assert tiles.shape == (12, 3, 2, 2, 2)
    assert torch.equal(tiles[1], video[0, :, :, :2, 2:4])
    assert torch.equal(tiles[3], video[0, :, :, 2:, :2])
    assert torch.equal(tiles[6], video[1, :, :, :2, :2])
    assert torch.equal(join(tiles, 2, 6), video)


def test_without_a_side_the_picture_stays_whole() -> None:
    video = torch.arange(2 * 3 * 2 * 4 * 6).reshape(2, 3, 2, 4, 6)
    assert torch.equal(cut(video, 0), video)
    assert torch.equal(join(video, 2, 6), video)


def test_a_backbone_in_tiles_gives_what_diffusers_tiling_gives() -> None:
    vae = new_vae(TinyVae(z_dim=6, base_dim=8, dim_mult=(1, 2, 2, 2), patch_size=1, residual=True), 0)
    for number, parameter in enumerate(vae.parameters()):  # branches that are zero would hide half of the VAE
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(number))
    settings = replace(SETTINGS_OF["tiny"], tile_px=TILE_PX)
    wan = new_tiny(vae, TinyText(dim=8, length=4), small.SIZES, 0, settings)
    video = small.pixels(0, 2, 3, 5, 64, 128)
    latents = wan.encode(video)
    pixels = wan.decode(latents)
    whole = new_tiny(vae, TinyText(dim=8, length=4), small.SIZES, 0, replace(settings, tile_px=0))
    assert not torch.allclose(whole.encode(video), latents, atol=1e-2)
    assert whole.vae_digest != wan.vae_digest
    vae.enable_tiling(TILE_PX, TILE_PX, TILE_PX, TILE_PX)
    torch.testing.assert_close(latents, vae.encode(video).latent_dist.mode(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pixels, vae.decode(latents).sample, rtol=1e-4, atol=1e-4)
    assert wan.spec.halves_apart
    assert not whole.spec.halves_apart
    torch.testing.assert_close(wan.decode(left(latents)), left(pixels), rtol=0, atol=1e-5)


def test_a_size_that_is_not_whole_tiles_is_refused() -> None:
    wan = new_tiny(new_vae(TinyVae(base_dim=8), 0), TinyText(dim=8, length=4), small.SIZES, 0)
    with pytest.raises(BackboneError, match="48x64 px are wanted, and the VAE of tiny works in tiles of 32 px"):
        wan.geometry(64, 48, 9)
    with pytest.raises(BackboneError, match="height and width multiples of 32"):
        wan.encode(small.pixels(0, 1, 3, 5, 32, 48))
