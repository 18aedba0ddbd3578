"""Latents of examples, encoded once and read by number: the VAE costs more than the small backbone it feeds.

Each clip is encoded `variants` times with other augmentations; number n is variant n % variants of clip n // variants.
What a number gives is a pure function of the clips, the backbone's VAE, the augmentations and the seed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from manifests.keys import digest
from model.backbone import Backbone
from model.composite import loss_mask, mask
from model.geometry import Geometry
from model.training.clips import Clips
from model.training.examples import Augment, example
from model.training.shelf import Shelf
from model.training.strategy import Batch

EXAMPLE = "2"
"""Version of how an example is made from a clip: a new one makes all latents anew."""


class LatentCache:
    """Latents on a shelf, as a `Source` of batches.

    Args:
        clips: Where the clips come from.
        backbone: Whose VAE encodes.
        geometry: Size of the clips.
        augment: How examples are varied.
        folder: Where latents lie, each recipe in a folder of its own.
        variants: Examples of each clip (K).
        seed: Of the augmentations.
    """

    def __init__(
        self,
        clips: Clips,
        backbone: Backbone,
        geometry: Geometry,
        augment: Augment,
        folder: Path,
        *,
        variants: int = 1,
        seed: int = 0,
    ) -> None:
        self.clips, self.backbone, self.geometry, self.augment = clips, backbone, geometry, augment
        self.variants, self.seed = variants, seed
        recipe = {
            "example": EXAMPLE, "clips": clips.digest, "vae": backbone.vae_digest, "variants": variants, "seed": seed,
            "augment": vars(augment), "prefix": geometry.prefix_frames, "size": [geometry.height_px, geometry.width_px],
        }  # fmt: skip
        if backbone.image_digest is not None:  # bases share a VAE, and not each of them takes a picture
            recipe["image"] = backbone.image_digest
        self.digest = digest(recipe)
        self.shelf = Shelf(folder / self.digest[:16], self.digest, len(clips) * variants, shard=64)
        whole = mask(geometry.frames, geometry.height_px, geometry.width_px)
        self._mask, self._loss_mask = backbone.pack_mask(whole), loss_mask(geometry)

    def __len__(self) -> int:
        return self.shelf.count

    @torch.no_grad()
    def make(self, numbers: Sequence[int]) -> tuple[dict[str, NDArray[np.generic]], list[str]]:
        """Encode these examples, for the shelf: `target` and `cond` float16 `[n, C, F, h, 2w]`."""
        made = []
        for number in numbers:
            clip = self.clips.clip(number // self.variants)
            made.append(example(clip, self.geometry, self.augment, np.random.default_rng([self.seed, number])))
        arrays: dict[str, NDArray[np.generic]] = {}
        device = next(self.backbone.transformer.parameters()).device
        for name, videos in (("target", [e.wanted for e in made]), ("cond", [e.given for e in made])):
            encoded = [self.backbone.encode(torch.cat(videos[i : i + 8]).to(device)) for i in range(0, len(videos), 8)]
            arrays[name] = torch.cat(encoded).to(torch.float16).cpu().numpy()
        images = [self.backbone.image_embeds(e.reference.to(device)) for e in made]
        if images and images[0] is not None:
            arrays["image"] = torch.cat([i for i in images if i is not None]).to(torch.float16).cpu().numpy()
        return arrays, [e.prompt for e in made]

    def read(self, indices: Sequence[int]) -> Batch:
        """Return the samples of these numbers, in this order; raise ShelfError if they are not made."""
        names = ("target", "cond", "image") if self.backbone.spec.takes_image else ("target", "cond")
        arrays, prompts = self.shelf.read(indices, names)
        return self._batch(dict(zip(names, arrays, strict=True)), prompts)

    def encoded(self, indices: Sequence[int]) -> Batch:
        """Return what `read` would, encoded now, whether or not the shelf has it; nothing is written."""
        return self._batch(*self.make(indices))

    def _batch(self, arrays: Mapping[str, NDArray[np.generic]], prompts: Sequence[str]) -> Batch:
        tensors = {name: torch.from_numpy(array).float() for name, array in arrays.items()}
        several = (len(prompts), -1, -1, -1, -1)
        masks = self._mask.expand(several), self._loss_mask.expand(several)
        return Batch(tensors["target"], tensors["cond"], *masks, prompts=prompts, image=tensors.get("image"))
