"""Wan's classes of diffusers as backbones: `tiny`, small and with our own weights, and `wan-i2v`, image to video.

Both are a `WanTransformer3DModel` that takes noise, mask and condition (2 z + 4 channels) and an `AutoencoderKLWan`.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Final, Self

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import save_file
from torch import Tensor, nn

from manifests.keys import digest
from model import wan_vae, weights
from model.backbone import BackboneError, join_channels
from model.clip import ImageEncoder
from model.composite import PACKINGS, check_video
from model.geometry import Geometry
from model.text import TextEncoder, TinyText
from model.tiles import cut, join
from model.tiny import TinyTransformer, TinyVae, new_transformer, new_vae
from model.wan_config import (
    FRAMES_AT_A_TIME,
    SETTINGS,
    SETTINGS_OF,
    Settings,
    check_configs,
    check_experts,
    settings_of,
    spec_of,
)
from model.wan_parts import PARTS, check_dims, empty_of, match_norms, own_text, preconditioning_of, read

__all__ = ["TinyTransformer", "TinyVae", "Wan", "new_tiny", "new_vae"]

_IMAGE_TEXT_LENGTH: Final = 512  # diffusers' processor finds the image's tokens by counting back from the text's


class Wan:
    """A backbone of diffusers' Wan classes; see `model.backbone.Backbone` for what its members mean."""

    def __init__(
        self,
        name: str,
        transformer: WanTransformer3DModel,
        vae: AutoencoderKLWan,
        text: TextEncoder,
        settings: Settings,
        image: ImageEncoder | None = None,
    ) -> None:
        check_configs(transformer.config, vae.config)
        check_dims(transformer.config, text, image)
        self.name = name
        self.transformer = transformer
        match_norms(transformer)
        self.vae = vae.requires_grad_(False).eval()
        self.text = text
        self.settings = settings
        self.preconditioning = preconditioning_of(settings, vae.config.z_dim)
        self.spec = spec_of(transformer.config, vae.config, settings)
        self.image = image

    @property
    def digest(self) -> str:
        return weights.digest_of(self.transformer)

    @property
    def vae_digest(self) -> str:
        config = self.vae.config
        statistics = [list(config.latents_mean), list(config.latents_std)]
        return digest([weights.digest_of(self.vae), *statistics, self.settings.tile_px, *self.settings.deviation])

    @property
    def image_digest(self) -> str | None:
        return None if self.image is None else self.image.digest

    def to(self, device: torch.device | str) -> Self:
        for part in (self.transformer, self.vae, self.text, self.image and self.image.model):
            if isinstance(part, nn.Module):
                part.to(device)
        return self

    def geometry(self, height_px: int, width_px: int, frames: int) -> Geometry:
        spec = self.spec
        geometry = Geometry(
            height_px=height_px,
            width_px=width_px,
            frames=frames,
            prefix_frames=spec.prefix_frames,
            fps=spec.fps,
            spatial_stride=spec.spatial_stride,
            temporal_stride=spec.temporal_stride,
            patch=spec.patch,
            placement=spec.placement,
        )
        if (tile := self.settings.tile_px) and (height_px % tile or width_px % tile):
            raise BackboneError(
                f"{width_px}x{height_px} px are wanted, and the VAE of {self.name} works in tiles of {tile} px: "
                f"width and height must be multiples of {tile}"
            )
        cells = (geometry.latent_frames, geometry.latent_height, geometry.composite_latent_width)
        tokens = max(cell // patch for cell, patch in zip(cells, spec.patch, strict=True))
        if tokens > spec.max_positions:
            raise BackboneError(
                f"{width_px}x{height_px} px and {frames} frames make {tokens} tokens along one axis of the composite, "
                f"and the position embedding of {self.name} knows {spec.max_positions}; take a smaller size"
            )
        return geometry

    @torch.no_grad()
    def encode(self, video: Tensor) -> Tensor:
        self._check_video(video)
        tiles = cut(video.to(self.vae.dtype), self.settings.tile_px)
        # tiles are small: all their frames at once take half the time; whole pictures would take too much memory
        code = wan_vae.encode(self.vae, tiles) if self.settings.tile_px else self.vae.encode(tiles).latent_dist.mode()
        mean, scale = self._statistics(code)
        return join((code.float() - mean) * scale, len(video), video.shape[4] // self.spec.spatial_stride)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        mean, scale = self._statistics(latents)
        stride = self.spec.spatial_stride
        tiles = cut((latents.float() / scale + mean).to(self.vae.dtype), self.settings.tile_px // stride)
        decoded = wan_vae.decode(self.vae, tiles) if self.settings.tile_px else self.vae.decode(tiles).sample
        return join(decoded.float().clamp(-1.0, 1.0), len(latents), latents.shape[4] * stride)

    def pack_mask(self, mask: Tensor) -> Tensor:
        return PACKINGS[self.spec.mask_packing](mask, self.spec)

    def model_input(self, noisy: Tensor, cond: Tensor, mask: Tensor) -> Tensor:
        return join_channels(self.spec.channels, {"noise": noisy, "mask": mask, "cond": cond})

    def image_embeds(self, reference: Tensor) -> Tensor | None:
        return None if self.image is None else self.image(reference)

    def velocity(
        self, noisy: Tensor, sigma: Tensor, cond: Tensor, mask: Tensor, text: Tensor, image: Tensor | None = None
    ) -> Tensor:
        self._check_image(text, image)
        dtype, unequal = self.transformer.patch_embedding.weight.dtype, self.preconditioning
        seen = (unequal.seen(noisy, sigma), unequal.known(cond)) if unequal else (noisy, cond)
        predicted: Tensor = self.transformer(
            hidden_states=self.model_input(*seen, mask.to(noisy.dtype)).to(dtype),
            timestep=1000.0 * sigma.float(),  # continuous: a whole number here would round the noise level
            encoder_hidden_states=text.to(dtype),
            encoder_hidden_states_image=None if image is None else image.to(dtype),
            return_dict=False,
        )[0]
        return unequal.velocity(predicted, noisy, sigma) if unequal else predicted.to(noisy.dtype)

    def gradient_checkpointing(self, on: bool) -> None:
        if on:
            self.transformer.enable_gradient_checkpointing()
        else:
            self.transformer.disable_gradient_checkpointing()

    def save(self, folder: str | Path) -> None:
        def write(fresh: Path) -> None:
            for part, module in (("transformer", self.transformer), ("vae", self.vae)):
                module.save_config(fresh / part)
                state = {name: value.contiguous() for name, value in weights.base_state(module).items()}
                save_file(state, fresh / part / weights.WEIGHTS, metadata={"format": "pt"})
            if isinstance(self.text, TinyText):
                self.text.save(fresh / "text_encoder")
            if self.image is not None:
                self.image.save(fresh)
            settings = {"name": self.name, **asdict(self.settings)}
            (fresh / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")

        weights.write_folder(Path(folder), write)

    @classmethod
    def load(
        cls,
        name: str,
        source: str | Path,
        dtype: torch.dtype,
        device: torch.device | str,
        text: TextEncoder | None = None,
    ) -> Self:
        folder = weights.find(source, configs_only=True)
        check_experts(folder)
        settings = settings_of(folder, name)
        empty = {part: empty_of(made, folder / part) for part, made in PARTS.items()}
        check_configs(empty["transformer"].config, empty["vae"].config)
        folder = weights.find(source)
        for part, module in empty.items():
            ignored = module._keys_to_ignore_on_load_unexpected or ()
            weights.check_shapes(folder / part, weights.shapes_of(module), ignored)
        takes_image = empty["transformer"].config.image_dim is not None
        image = ImageEncoder.load(folder, device) if takes_image else None
        if text is None:
            text = own_text(folder, name, device)
        check_dims(empty["transformer"].config, text, image)
        transformer = read(WanTransformer3DModel, folder / "transformer", dtype)
        vae = read(AutoencoderKLWan, folder / "vae", torch.float32)  # at bfloat16 the VAE loses detail
        return cls(name, transformer.to(device), vae.to(device), text, settings, image)

    def _statistics(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and 1 / std of the VAE's latents, `[1, C, 1, 1, 1]`, as WanImageToVideoPipeline forms them, and
        times the deviation that the channels shall have."""
        config, unequal = self.vae.config, self.preconditioning
        shape = (1, -1, 1, 1, 1)
        mean = torch.tensor(config.latents_mean, device=latents.device).view(shape)
        scale = 1.0 / torch.tensor(config.latents_std, device=latents.device).view(shape)
        return mean, scale * unequal.deviation.to(scale).view(shape) if unequal else scale

    def _check_video(self, video: Tensor) -> None:
        check_video(video)
        frames, height, width = video.shape[2:]
        stride = self.settings.tile_px or self.spec.spatial_stride
        if (frames - 1) % FRAMES_AT_A_TIME or height % stride or width % stride:
            raise BackboneError(  # the VAE itself would drop frames and rows without a word
                f"a video of {frames} frames of {width}x{height} px cannot be encoded: frames must be "
                f"{FRAMES_AT_A_TIME} k + 1, height and width multiples of {stride}"
            )

    def _check_image(self, text: Tensor, image: Tensor | None) -> None:
        if (image is not None) != self.spec.takes_image:
            wants = "wants" if self.spec.takes_image else "takes no"
            raise BackboneError(f"{self.name} {wants} embedding of the reference; give what image_embeds returns")
        if image is not None and text.shape[1] != _IMAGE_TEXT_LENGTH:
            raise BackboneError(
                f"{self.name} takes texts of {_IMAGE_TEXT_LENGTH} tokens beside an image, and this one has "
                f"{text.shape[1]}; encode it with the base's own encoder"
            )


def new_tiny(
    vae: AutoencoderKLWan | str | Path,
    text: TinyText,
    sizes: TinyTransformer,
    seed: int,
    settings: Settings = SETTINGS_OF["tiny"],
) -> Wan:
    """Return a `tiny` backbone with a fresh transformer, drawn with `seed`.

    Args:
        vae: A trained VAE, or its folder (the one that holds `config.json`).
        text: The text encoder that will learn with it.
        sizes: Of the transformer.
        seed: Of its weights.
        settings: Rate, prefix and size.

    Raises:
        UserError: The folder holds no whole VAE.
    """
    if not isinstance(vae, AutoencoderKLWan):
        folder = weights.find(vae)
        weights.check_shapes(folder, weights.shapes_of(empty_of(AutoencoderKLWan, folder)))
        vae = read(AutoencoderKLWan, folder, torch.float32)
    transformer = new_transformer(sizes, vae.config.z_dim, vae.config.scale_factor_temporal, text.dim, seed)
    return Wan("tiny", transformer, vae, text, settings)
