"""Small models of Wan's classes with fresh weights: what the embedded teacher is grown from."""

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from diffusers.models.autoencoders.autoencoder_kl_wan import WanAttentionBlock, WanResidualBlock
from torch import nn

from model.tiny_heads import look_across


@dataclass(frozen=True)
class TinyVae:
    """Sizes of a small `AutoencoderKLWan`: space is divided by `patch_size` and halved at each level but the last.

    The last two halvings, or the only one, halve time too: the temporal stride is 4, or 2.

    `residual` is Wan2.2's kind, with shortcuts around each level; its last level cannot widen: `dim_mult` 1, 2, 2.
    """

    z_dim: int = 16
    base_dim: int = 16
    dim_mult: tuple[int, ...] = (1, 2, 4)
    res_blocks: int = 1
    patch_size: int = 2
    residual: bool = False

    @property
    def spatial_stride(self) -> int:
        """Pixels a latent cell."""
        return self.patch_size << (len(self.dim_mult) - 1)

    @property
    def temporal_stride(self) -> int:
        """Frames a latent frame, after the first."""
        return 1 << min(len(self.dim_mult) - 1, 2)


@dataclass(frozen=True)
class TinyTransformer:
    """Sizes of a small `WanTransformer3DModel`; the width is heads times head_dim.

    Where `half_columns` says how many tokens wide a half is, some heads begin by looking across to the other half
    (`model.tiny_heads`); with 0 all look wherever chance has it.
    """

    layers: int = 8
    heads: int = 4
    head_dim: int = 64
    ffn_dim: int = 1024
    freq_dim: int = 256
    half_columns: int = 0


def new_vae(sizes: TinyVae, seed: int) -> AutoencoderKLWan:
    """Return a fresh VAE with diffusers' initial weights, drawn with `seed`.

    Residual branches begin at zero (Zhang et al. 2019, Fixup), so that a nearly linear code is learned first.
    Its latents are not yet normalised (mean 0, deviation 1): measure them once it is trained, and write them with
    `vae.register_to_config(latents_mean=..., latents_std=...)`.
    """
    levels = len(sizes.dim_mult) - 1
    pixels = 3 * sizes.patch_size**2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = AutoencoderKLWan(
            base_dim=sizes.base_dim,
            z_dim=sizes.z_dim,
            dim_mult=list(sizes.dim_mult),
            num_res_blocks=sizes.res_blocks,
            temperal_downsample=[level >= levels - 2 for level in range(levels)],
            latents_mean=[0.0] * sizes.z_dim,
            latents_std=[1.0] * sizes.z_dim,
            is_residual=sizes.residual,
            in_channels=pixels,
            out_channels=pixels,
            patch_size=None if sizes.patch_size == 1 else sizes.patch_size,
            scale_factor_temporal=sizes.temporal_stride,
            scale_factor_spatial=sizes.spatial_stride,
        )
    for block in vae.modules():
        if isinstance(block, WanResidualBlock | WanAttentionBlock):
            last = block.conv2 if isinstance(block, WanResidualBlock) else block.proj
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
    return vae


def new_transformer(
    sizes: TinyTransformer, z_dim: int, temporal_stride: int, text_dim: int, seed: int
) -> WanTransformer3DModel:
    """Return a fresh transformer for latents of `z_dim` channels and texts of `text_dim`, drawn with `seed`.

    The mask has a channel for each frame of a latent frame (`temporal_stride`).

    It predicts zero everywhere until it has learned: Wan's head starts so.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = WanTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=sizes.heads,
            attention_head_dim=sizes.head_dim,
            in_channels=2 * z_dim + temporal_stride,
            out_channels=z_dim,
            text_dim=text_dim,
            freq_dim=sizes.freq_dim,
            ffn_dim=sizes.ffn_dim,
            num_layers=sizes.layers,
        )
        _initialise(transformer)
        if sizes.half_columns:
            look_across(transformer, sizes.half_columns)
    return transformer


def _initialise(transformer: WanTransformer3DModel) -> None:
    """Draw weights as Wan's own code does for training from nothing (`WanModel.init_weights`): the head is zero."""
    for module in transformer.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.xavier_uniform_(transformer.patch_embedding.weight.flatten(1))
    embedder = transformer.condition_embedder
    for part in (embedder.text_embedder, embedder.time_embedder):
        nn.init.normal_(part.linear_1.weight, std=0.02)
        nn.init.normal_(part.linear_2.weight, std=0.02)
    nn.init.zeros_(transformer.proj_out.weight)
