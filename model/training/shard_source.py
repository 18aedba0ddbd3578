"""Samples of shards as a source of batches: encoded in each step, decoded ahead of it, or from latents on a shelf.

All three give the same batch for a number, to the bit: each video is encoded by itself. A shelf holds the first
`variants` epochs of every sample, and goes through them again and again; without one each epoch is drawn anew.
"""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from manifests.keys import digest
from model.backbone import Backbone
from model.driving import blank_prefix
from model.geometry import Geometry
from model.training.broken import Tally
from model.training.cache import EXAMPLE
from model.training.clips import Clip
from model.training.encoding import Encoder
from model.training.examples import Augment, Example, assembled, example, pixels
from model.training.order import Mix, keyed
from model.training.shard_clips import DrivenClip, ShardClips
from model.training.shard_readers import Readers
from model.training.shelf import Shelf
from model.training.strategy import Batch

VERSION: Final = "1"
"""Of how an example is made from a clip of a shard: a new one makes all latents anew."""


class ShardSource:
    """Samples of shards by number (`order.Mix`), encoded when they are read.

    Args:
        clips: Where they come from.
        backbone: Whose VAE encodes.
        geometry: Size of the clips.
        augment: Shares without driving or reference, what blank looks like, and other bodies where skeletons drive.
        forward_share: Share of positions that go to the second kind.
        shards_at_once: Shards of a kind that are mixed (`order.Mix`); 0: all.
        broken_limit: Share of samples that may be broken.
        workers: Processes that decode ahead; 0: this one does, when a batch is read.
    """

    def __init__(
        self,
        clips: ShardClips,
        backbone: Backbone,
        geometry: Geometry,
        augment: Augment,
        *,
        forward_share: float = 0.0,
        shards_at_once: int = 0,
        broken_limit: float = 0.01,
        workers: int = 0,
    ) -> None:
        self.clips, self.geometry, self.augment, self.workers = clips, geometry, augment, workers
        self.encoder = Encoder(backbone, geometry)
        self.mix: Mix = clips.mix._replace(share=forward_share, at_once=shards_at_once)
        self.tally = Tally(broken_limit)
        recipe = {
            "example": VERSION, "clips": clips.recipe, "vae": backbone.vae_digest, "augment": vars(augment),
            "prefix": geometry.prefix_frames, "image": backbone.image_digest,
        }  # fmt: skip
        if clips.main.kind == "self":  # skeletons are drawn, as in theatre's examples
            recipe |= {"skeletons": EXAMPLE, "placement": geometry.placement}
        self.latents = digest(recipe)
        self.digest = digest([self.latents, forward_share, shards_at_once])
        self._ahead = Readers(clips, workers) if workers else None

    def __len__(self) -> int:
        return len(self.clips)

    def expect(self, batches: Iterator[list[int]]) -> None:
        """Decode these batches ahead, from the first read on; one that is read out of turn is decoded then."""
        if self._ahead:
            self._ahead.expect(batches)

    def read(self, indices: Sequence[int]) -> Batch:
        """Return the samples of these numbers, or of their substitutes.

        Raises:
            AllBrokenError: a sample is broken, and so are its substitutes.
            ReaderDiedError: a process that decodes died.
        """
        began_s = time.perf_counter()
        read = (self._ahead.taken(list(indices)) if self._ahead else None) or list(map(self.clips.read, indices))
        broken = [name for each in read for name in each.broken]
        self.tally.add(len(read) + len(broken), broken, time.perf_counter() - began_s)
        made = [self._example(each.clip, number) for each, number in zip(read, indices, strict=True)]
        return self.encoder.batch(self.encoder.arrays(made, at_once=1), [each.prompt for each in made])

    def examples(self, indices: Sequence[int], augment: Augment) -> list[Example]:
        """Return the examples of these numbers, varied otherwise than in training."""
        return [self._example(self.clips.read(number).clip, number, augment) for number in indices]

    def _example(self, clip: Clip | DrivenClip, number: int, augment: Augment | None = None) -> Example:
        chosen = augment or self.augment
        rng = keyed(self.clips.seed, "example", number)
        if isinstance(clip, Clip):
            return example(clip, self.geometry, chosen, rng)
        return driven_example(clip, self.geometry, chosen, rng)


class ShelvedSource(ShardSource):
    """The same, from latents on a shelf.

    Args:
        folder: Where latents lie, each recipe in a folder of its own.
        variants: Epochs that are encoded.
    """

    def __init__(
        self,
        clips: ShardClips,
        backbone: Backbone,
        geometry: Geometry,
        augment: Augment,
        folder: Path,
        *,
        variants: int = 1,
        forward_share: float = 0.0,
        shards_at_once: int = 0,
        broken_limit: float = 0.01,
    ) -> None:
        super().__init__(
            clips, backbone, geometry, augment, forward_share=forward_share, shards_at_once=shards_at_once,
            broken_limit=broken_limit,
        )  # fmt: skip
        name = digest([self.latents, variants])
        self.digest = digest([self.digest, variants])
        self.shelf = Shelf(folder / name[:16], name, len(clips) * variants, shard=64)
        self._filled = Tally(broken_limit)

    def make(self, numbers: Sequence[int]) -> tuple[dict[str, NDArray[np.generic]], list[str]]:
        """Encode these samples, for the shelf, with a note of each: its prompt, and what was broken.

        Raises:
            TooManyBrokenError: more of them than the limit allows.
        """
        parts, notes = [], []
        for number in numbers:
            read = self.clips.read(number)
            self._filled.judge(1 + len(read.broken), len(read.broken), read.broken)
            made = self._example(read.clip, number)
            parts.append(self.encoder.arrays([made]))
            notes.append(json.dumps({"prompt": made.prompt, "broken": read.broken}))
        return {name: np.concatenate([part[name] for part in parts]) for name in self.encoder.names}, notes

    def read(self, indices: Sequence[int]) -> Batch:
        """Return the samples of these numbers; raise ShelfError if they are not made."""
        began_s = time.perf_counter()
        arrays, notes = self.shelf.read([index % self.shelf.count for index in indices], self.encoder.names)
        told = [json.loads(note) for note in notes]
        broken = [name for each in told for name in each["broken"]]
        self.tally.add(len(told) + len(broken), broken, time.perf_counter() - began_s)
        return self.encoder.batch(
            dict(zip(self.encoder.names, arrays, strict=True)), [each["prompt"] for each in told]
        )  # fmt: skip


def driven_example(clip: DrivenClip, geometry: Geometry, augment: Augment, rng: np.random.Generator) -> Example:
    """Make the example of a clip that another video drives: always two draws from `rng`."""
    undriven, unseen = rng.random(2) < (augment.drop_driving, augment.drop_reference)
    blank_frames = geometry.frames if undriven else geometry.prefix_frames
    driving = blank_prefix(pixels(clip.driving), blank_frames, augment.blank)
    reference = pixels(clip.reference[None])[:, :, 0]
    return assembled(reference, pixels(clip.target), driving, clip.prompt, bool(unseen), augment.blank)
