"""Examples to latents, and latents to the batch that a step learns from: by one backbone's VAE, whatever they show."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from model.backbone import Backbone
from model.composite import loss_mask, mask
from model.geometry import Geometry
from model.training.examples import Example
from model.training.strategy import Batch


class Encoder:
    """Encodes examples of one size.

    Attributes:
        names: Of the arrays that it makes: target, cond, and image where the backbone takes one.
    """

    def __init__(self, backbone: Backbone, geometry: Geometry) -> None:
        self.backbone = backbone
        self.names = ("target", "cond", "image") if backbone.spec.takes_image else ("target", "cond")
        whole = mask(geometry.frames, geometry.height_px, geometry.width_px)
        self._mask, self._loss_mask = backbone.pack_mask(whole), loss_mask(geometry)

    @torch.no_grad()
    def arrays(self, examples: Sequence[Example], at_once: int = 8) -> dict[str, NDArray[np.generic]]:
        """Return `target` and `cond` float16 `[n, C, F, h, 2w]`, and `image` where the backbone takes one.

        The VAE is given `at_once` videos together; how many they are changes its rounding.
        """
        arrays: dict[str, NDArray[np.generic]] = {}
        device = next(self.backbone.transformer.parameters()).device
        for name, videos in (("target", [e.wanted for e in examples]), ("cond", [e.given for e in examples])):
            starts = range(0, len(videos), at_once)
            encoded = [self.backbone.encode(torch.cat(videos[i : i + at_once]).to(device)) for i in starts]
            arrays[name] = torch.cat(encoded).to(torch.float16).cpu().numpy()
        images = [self.backbone.image_embeds(e.reference.to(device)) for e in examples]
        if images and images[0] is not None:
            arrays["image"] = torch.cat([i for i in images if i is not None]).to(torch.float16).cpu().numpy()
        return arrays

    def batch(self, arrays: Mapping[str, NDArray[np.generic]], prompts: Sequence[str]) -> Batch:
        """Return the batch of such arrays, float32 on the CPU."""
        tensors = {name: torch.from_numpy(array).float() for name, array in arrays.items()}
        several = (len(prompts), -1, -1, -1, -1)
        masks = self._mask.expand(several), self._loss_mask.expand(several)
        return Batch(tensors["target"], tensors["cond"], *masks, prompts=prompts, image=tensors.get("image"))
