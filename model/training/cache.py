"""Latents of examples, encoded once and read by number: the VAE costs more than the small backbone it feeds.

Each clip is encoded `variants` times with other augmentations; number n is variant n % variants of clip n // variants.
What a number gives is a pure function of the clips, the backbone's VAE, the augmentations and the seed.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manifests.keys import digest
from model.backbone import Backbone
from model.geometry import Geometry
from model.training.clips import Clips
from model.training.encoding import Encoder
from model.training.examples import Augment, example
from model.training.shelf import Shelf
from model.training.strategy import Batch

EXAMPLE = "3"
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
        if geometry.placement != "fitted":
            recipe["placement"] = geometry.placement
        if backbone.image_digest is not None:  # bases share a VAE, and not each of them takes a picture
            recipe["image"] = backbone.image_digest
        self.digest = digest(recipe)
        self.shelf = Shelf(folder / self.digest[:16], self.digest, len(clips) * variants, shard=64)
        self.encoder = Encoder(backbone, geometry)

    def __len__(self) -> int:
        return self.shelf.count

    def make(self, numbers: Sequence[int]) -> tuple[dict[str, NDArray[np.generic]], list[str]]:
        """Encode these examples, for the shelf: `target` and `cond` float16 `[n, C, F, h, 2w]`."""
        made = []
        for number in numbers:
            clip = self.clips.clip(number // self.variants)
            made.append(example(clip, self.geometry, self.augment, np.random.default_rng([self.seed, number])))
        return self.encoder.arrays(made), [e.prompt for e in made]

    def read(self, indices: Sequence[int]) -> Batch:
        """Return the samples of these numbers, in this order; raise ShelfError if they are not made."""
        arrays, prompts = self.shelf.read(indices, self.encoder.names)
        return self.encoder.batch(dict(zip(self.encoder.names, arrays, strict=True)), prompts)

    def encoded(self, indices: Sequence[int]) -> Batch:
        """Return what `read` would, encoded now, whether or not the shelf has it; nothing is written."""
        return self.encoder.batch(*self.make(indices))
