"""Clips of the synthetic world, to train on."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from manifests.keys import digest
from manifests.theatre.cast import describe, draw
from manifests.theatre.scene import Take, render
from model.geometry import Geometry
from model.training.clips import Clip

Split = Literal["train", "held_out"]
RENDERED = "3"
"""Version of how clips are rendered for training: a new one makes all of them anew."""


@dataclass(frozen=True)
class World:
    """A share of theatre: `count` clips of the world `name`, with this share of figures that are not human."""

    name: Literal["easy", "turns", "clutter", "two"]
    count: int
    creature_share: float = 0.0


@dataclass(frozen=True)
class TheatreClips:
    """Clips of the synthetic world, rendered when they are asked for.

    Attributes:
        geometry: Size, frames and rate; the first `prefix_frames` are a lead-in from another pose in half of the clips.
        worlds: What is played, in order: numbers run through the first world, then the second.
        split: `train` or `held_out`: other figures, motions and backgrounds.
        seed: Of the draws.
        people: Size of the person axis; scenes with fewer figures are filled up with unseen ones.
    """

    geometry: Geometry
    worlds: tuple[World, ...]
    split: Split
    seed: int = 0
    people: int = 2
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        recipe = {
            "clips": RENDERED, "seed": self.seed, "split": self.split, "people": self.people,
            "size": [self.geometry.height_px, self.geometry.width_px, self.geometry.frames],
            "fps": self.geometry.fps, "prefix": self.geometry.prefix_frames,
            "worlds": [[w.name, w.count, w.creature_share] for w in self.worlds],
        }  # fmt: skip
        object.__setattr__(self, "digest", digest(recipe))

    def __len__(self) -> int:
        return sum(world.count for world in self.worlds)

    def take(self, number: int) -> Take:
        """Return what is played in clip `number`."""
        for world in self.worlds:
            if number < world.count:
                return draw(self.seed, number, self.split, world.name, creature_share=world.creature_share)
            number -= world.count
        raise IndexError(f"there are {len(self)} clips")

    def clip(self, number: int) -> Clip:
        """Render one clip."""
        take, size = self.take(number), self.geometry
        seen = render(take, size.frames, size.fps, size.height_px, size.width_px, lead_in_frames=size.prefix_frames)
        skeleton = np.zeros((size.frames, self.people, *seen.skeleton.shape[2:]), np.float32)
        skeleton[:, : seen.skeleton.shape[1]] = seen.skeleton
        return Clip(seen.frames, skeleton, np.asarray(seen.masks.any(axis=1)), describe(take))
