"""A base that lies about nothing: its codec loses nothing, and it always arrives at the driving video itself.

So what comes out of windows, prefix and padding is known to the last bit: the driving video. It stands for bases from
outside this repository too: `--backbone tests.model.lossless:Lossless`.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.backbone import BackboneSpec, join_channels
from model.composite import PACKINGS, join, left, right
from model.geometry import Geometry
from model.text import TextEncoder, TinyText

SPEC = BackboneSpec(
    latent_channels=12, spatial_stride=1, temporal_stride=4, patch=(1, 1, 1), prefix_frames=4, fps=12, shift=1.0,
    channels=("noise", "mask", "cond"), mask_packing="wan", lora_targets=(), takes_image=False, max_positions=4096,
    height_px=24, width_px=24, frames=21,
)  # fmt: skip


class Lossless:
    """Four frames are one latent frame, side by side in its channels; the first frame four times is the first."""

    digest, vae_digest, image_digest = "d" * 32, "e" * 32, None

    def __init__(self, spec: BackboneSpec = SPEC) -> None:
        self.name, self.spec = "lossless", spec
        self.transformer: nn.Module = nn.Linear(1, 1)
        self.text: TextEncoder = TinyText(dim=8, length=4, words=16)
        self.calls: list[str] = []

    @classmethod
    def load(cls, name: str, source: str | Path, dtype: torch.dtype, device: Any, text: Any = None) -> "Lossless":
        return cls()

    def to(self, device: torch.device | str) -> "Lossless":
        return self

    def geometry(self, height_px: int, width_px: int, frames: int) -> Geometry:
        spec = self.spec
        return Geometry(
            height_px, width_px, frames, spec.prefix_frames, spec.fps, spec.spatial_stride, spec.temporal_stride,
            spec.patch, spec.placement,
        )  # fmt: skip

    def encode(self, video: Tensor) -> Tensor:
        self.calls.append("encode")
        stride = self.spec.temporal_stride
        whole = torch.cat([video[:, :, :1].repeat_interleave(stride, dim=2), video[:, :, 1:]], dim=2)
        return whole.unflatten(2, (-1, stride)).transpose(2, 3).flatten(1, 2)

    def decode(self, latents: Tensor) -> Tensor:
        self.calls.append("decode")
        stride = self.spec.temporal_stride
        whole = latents.unflatten(1, (3, stride)).transpose(2, 3).flatten(2, 3)
        return whole[:, :, stride - 1 :]

    def pack_mask(self, mask: Tensor) -> Tensor:
        return PACKINGS[self.spec.mask_packing](mask, self.spec)

    def model_input(self, noisy: Tensor, cond: Tensor, mask: Tensor) -> Tensor:
        return join_channels(self.spec.channels, {"noise": noisy, "mask": mask, "cond": cond})

    def image_embeds(self, reference: Tensor) -> None:
        self.calls.append("image")

    def velocity(
        self, noisy: Tensor, sigma: Tensor, cond: Tensor, mask: Tensor, text: Tensor, image: Tensor | None = None
    ) -> Tensor:
        self.calls.append("velocity")
        wanted = join(right(cond), right(cond))
        return (noisy - wanted) / sigma.view(-1, 1, 1, 1, 1)

    def gradient_checkpointing(self, on: bool) -> None: ...

    def save(self, folder: str | Path) -> None: ...


class Still(Lossless):
    """It arrives at the reference, which does not move."""

    def velocity(
        self, noisy: Tensor, sigma: Tensor, cond: Tensor, mask: Tensor, text: Tensor, image: Tensor | None = None
    ) -> Tensor:
        picture = left(cond)[:, :, :1].expand_as(left(cond))
        return (noisy - join(picture, right(cond))) / sigma.view(-1, 1, 1, 1, 1)


class Broken(Lossless):
    """What it says is no number."""

    def velocity(self, noisy: Tensor, *_: Any, **__: Any) -> Tensor:
        return torch.full_like(noisy, torch.nan)


class Aligned(Lossless):
    """The same, but it wants its driving skeletons where the figure of the reference stands."""

    def __init__(self) -> None:
        super().__init__(replace(SPEC, placement="aligned", height_px=48, width_px=48))

    @classmethod
    def load(cls, name: str, source: str | Path, dtype: torch.dtype, device: Any, text: Any = None) -> "Aligned":
        return cls()
