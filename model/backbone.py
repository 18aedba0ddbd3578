"""What a base model has to offer so that the method can be laid over it, and the table of those that do.

A backbone is a video VAE, a transformer that predicts velocity, and a text encoder. What differs between bases is data
in its `BackboneSpec`: the order of the input's channels, how the mask is packed, where a LoRA may go. The text
embedding is the affair of a backbone's own encoder and its own `velocity`: a base with two text branches joins them
along the length, the narrower one padded with zeros, and parts them again inside.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, Self, cast

import torch
from torch import Tensor, nn

from manifests.errors import UserError
from model.geometry import Geometry, Placement
from model.text import TextEncoder

BACKBONES: Final = {"tiny": "model.wan:Wan", "wan-i2v": "model.wan:Wan"}


class BackboneError(UserError):
    """Weights, or the use made of them, do not suit the backbone."""


@dataclass(frozen=True)
class BackboneSpec:
    """What is fixed about a base.

    Attributes:
        latent_channels: Channels of a latent.
        spatial_stride: Pixels a latent cell, in height and width.
        temporal_stride: Frames a latent frame (the first latent frame holds one frame).
        patch: Latent cells a token: time, height, width.
        prefix_frames: Blank driving frames in front of every clip.
        fps: Frames a second the base was trained at.
        shift: Shift of sigma, s * sigma / (1 + (s - 1) * sigma).
        channels: Order of "noise", "mask" and "cond" in the transformer's input.
        mask_packing: Key of `composite.PACKINGS`.
        lora_targets: Linear layers that a LoRA is put on: the end of a module's name, or a pattern with `*` over all
            of it. Feed-forward layers of the video branch only (METHOD: section 3.3 of the paper).
        takes_image: Whether `velocity` wants an embedding of the reference.
        max_positions: Tokens along one axis that the position embedding can tell apart.
        height_px, width_px, frames: The size the base was made for; `width_px` is of one half of the composite.
        placement: Where the driving skeleton stands in its half, as it was trained.
        halves_apart: Whether the VAE codes each half of a composite on its own, so that one can be decoded alone.
    """

    latent_channels: int
    spatial_stride: int
    temporal_stride: int
    patch: tuple[int, int, int]
    prefix_frames: int
    fps: int
    shift: float
    channels: tuple[str, ...]
    mask_packing: str
    lora_targets: tuple[str, ...]
    takes_image: bool
    max_positions: int
    height_px: int
    width_px: int
    frames: int
    placement: Placement = "fitted"
    halves_apart: bool = False


class Backbone(Protocol):
    """A base model. All tensors lie on its device; latents are `[B, C, F, h, 2w]`, normalised, float32."""

    name: str
    spec: BackboneSpec
    transformer: nn.Module
    text: TextEncoder

    @classmethod
    def load(
        cls,
        name: str,
        source: str | Path,
        dtype: torch.dtype,
        device: torch.device | str,
        text: TextEncoder | None = None,
    ) -> Self:
        """Return the backbone from a folder or a hub id; `load` of this module is the way to call it."""
        ...

    @property
    def digest(self) -> str:
        """What a LoRA is bound to: a digest of the transformer's own weights, the same at any dtype."""
        ...

    @property
    def vae_digest(self) -> str:
        """What latents are bound to: a digest of the VAE's weights and of the statistics that normalise them."""
        ...

    @property
    def image_digest(self) -> str | None:
        """What embeddings of references are bound to: a digest of their encoder; None where the base takes none."""
        ...

    def to(self, device: torch.device | str) -> Self:
        """Put all parts on a device but a text encoder that is no module: it has a device of its own."""
        ...

    def geometry(self, height_px: int, width_px: int, frames: int) -> Geometry:
        """Return the geometry of a clip of this size.

        Raises:
            UserError: The size does not fit the base.
        """
        ...

    def encode(self, video: Tensor) -> Tensor:
        """Return the latents `[B, C, F, h, w]` of pixels `[B, 3, T, H, W]` in [-1, 1]: the mode, never a sample."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Return the pixels `[B, 3, T, H, W]` in [-1, 1] of latents `[B, C, F, h, w]`."""
        ...

    def pack_mask(self, mask: Tensor) -> Tensor:
        """Return a pixel mask `[B, 1, T, H, W]` as the base wants it, `[B, M, F, h, w]`."""
        ...

    def model_input(self, noisy: Tensor, cond: Tensor, mask: Tensor) -> Tensor:
        """Return the transformer's input: the three groups joined in the order of `spec.channels`."""
        ...

    def image_embeds(self, reference: Tensor) -> Tensor | None:
        """Return the embedding of references `[B, 3, H, W]` in [-1, 1], or None where the base takes none."""
        ...

    def velocity(
        self, noisy: Tensor, sigma: Tensor, cond: Tensor, mask: Tensor, text: Tensor, image: Tensor | None = None
    ) -> Tensor:
        """Return the predicted velocity (noise - data), like `noisy`.

        Args:
            noisy: Latents at `sigma`.
            sigma: `[B]` share of noise in [0, 1].
            cond: Latents of the composite, like `noisy`.
            mask: Packed, `[B or 1, M, F, h, 2w]`.
            text: `[B, L, D]` of this backbone's own text encoder.
            image: Of `image_embeds`; needed exactly where `spec.takes_image`.
        """
        ...

    def gradient_checkpointing(self, on: bool) -> None:
        """Switch recomputing activations in the backward pass on or off: less memory, a third more time."""
        ...

    def save(self, folder: str | Path) -> None:
        """Write a folder that `load` reads back to the bit, without any LoRA and without a text encoder that is not
        trained with the base."""
        ...


def join_channels(order: tuple[str, ...], groups: Mapping[str, Tensor]) -> Tensor:
    """Return groups `[B or 1, C_i, F, h, w]` joined along the channels in `order`, as `[B, sum of C_i, F, h, w]`."""
    batch = max(group.shape[0] for group in groups.values())
    return torch.cat([groups[name].expand(batch, -1, -1, -1, -1) for name in order], dim=1)


def load(
    name: str, weights: str | Path, dtype: torch.dtype, device: torch.device | str, text: TextEncoder | None = None
) -> Backbone:
    """Return the backbone `name` with the weights of a folder in diffusers' layout, or of a hub id.

    Args:
        name: A key of `BACKBONES`, or `module:Class` of one's own (trusted: it is imported).
        weights: A folder, or `owner/name`, with an optional `@revision`.
        dtype: Of the transformer; what must stay float32 stays so.
        device: Where it is put.
        text: An encoder in place of the base's own, which may be large: one whose embeddings are cached, say.

    Raises:
        UserError: No such backbone or folder, or the weights are not this backbone's. Said before weights are read.
    """
    target = BACKBONES.get(name, name)
    if ":" not in target:
        raise BackboneError(f"no backbone {name!r}; there are {', '.join(BACKBONES)}")
    module, _, attribute = target.partition(":")
    made = cast("type[Backbone]", getattr(importlib.import_module(module), attribute))
    return made.load(name, weights, dtype, device, text)
