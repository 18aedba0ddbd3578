"""Wan's VAE over a whole clip in two passes instead of one every four frames: the same numbers, in half the time.

diffusers walks through a clip in chunks, as inference on long ones must: one frame, then four at a time (one latent
frame at a time in the decoder). Only the first frame is treated otherwise; what the rest is cut into changes nothing,
since each causal convolution is given the frames before its chunk. So short clips take all the rest as one chunk.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanAttentionBlock,
    WanResidualBlock,
    patchify,
    unpatchify,
)
from torch import Tensor


def encode(vae: AutoencoderKLWan, video: Tensor) -> Tensor:
    """Return the mode of the latents, `[B, z, (T - 1) / t + 1, H / s, W / s]`, of pixels `[B, 3, T, H, W]` in
    [-1, 1], strides t and s; as `vae.encode(video).latent_dist.mode()`, with gradients."""
    patch = vae.config.patch_size
    pixels = video if patch is None else patchify(video, patch_size=patch)
    vae.clear_cache()
    parts = []
    for chunk in _chunks(pixels):
        vae._enc_conv_idx = [0]
        parts.append(vae.encoder(chunk, feat_cache=vae._enc_feat_map, feat_idx=vae._enc_conv_idx))
    vae.clear_cache()
    mode: Tensor = vae.quant_conv(torch.cat(parts, dim=2)).chunk(2, dim=1)[0]
    return mode


def decode(vae: AutoencoderKLWan, latent: Tensor) -> Tensor:
    """Return pixels `[B, 3, T, H, W]` of latents; as `vae.decode(latent).sample`, but for its clamp to [-1, 1]: what
    is beyond must keep its gradient while it learns."""
    vae.clear_cache()
    parts: list[Tensor] = []
    for chunk in _chunks(vae.post_quant_conv(latent)):
        vae._conv_idx = [0]
        parts.append(vae.decoder(chunk, feat_cache=vae._feat_map, feat_idx=vae._conv_idx, first_chunk=not parts))
    vae.clear_cache()
    pixels, patch = torch.cat(parts, dim=2), vae.config.patch_size
    whole: Tensor = pixels if patch is None else unpatchify(pixels, patch_size=patch)
    return whole


def _chunks(frames: Tensor) -> list[Tensor]:
    first, rest = frames[:, :, :1], frames[:, :, 1:]
    return [first, rest] if rest.shape[2] else [first]


@contextmanager
def straight(vae: AutoencoderKLWan) -> Iterator[None]:
    """Leave out every residual branch: what stays is a nearly linear code, which learns several times faster.

    Branches that begin at zero (`new_vae`) change nothing when they come back.
    """
    blocks = [block for block in vae.modules() if isinstance(block, WanResidualBlock | WanAttentionBlock)]
    for block in blocks:
        block.forward = _shortcut(block)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward  # the class's own is seen again


def _shortcut(block: WanResidualBlock | WanAttentionBlock) -> Callable[..., Tensor]:
    def forward(x: Tensor, feat_cache: list[Tensor | None] | None = None, feat_idx: list[int] | None = None) -> Tensor:
        if isinstance(block, WanAttentionBlock):
            return x
        if feat_cache is not None and feat_idx is not None:
            feat_idx[0] += 2  # two causal convolutions, whose caches stay empty
        short: Tensor = block.conv_shortcut(x)
        return short

    return forward
