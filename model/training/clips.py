"""Clips to train on: pixels, skeleton and text of one motion, whatever they come from.

Theatre is one source; shards of users' clips are another, behind the same protocol.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from manifests.keys import digest
from manifests.theatre.cast import describe, draw
from manifests.theatre.scene import Take, render
from model.geometry import Geometry
from model.skeleton import Pixels, Points
from model.training.shelf import Shelf

RENDERED = "3"
"""Version of how clips are rendered for training: a new one makes all of them anew."""


@dataclass(frozen=True)
class Clip:
    """One clip of T frames.

    Attributes:
        frames: uint8 `[T, H, W, 3]` RGB.
        skeleton: float32 `[T, P, 133, 3]`: x px, y px, score.
        figure: bool `[T, H, W]` where the figures are; all true where that is not known.
        prompt: What is seen and what it does.
    """

    frames: Pixels
    skeleton: Points
    figure: NDArray[np.bool_]
    prompt: str


class Clips(Protocol):
    """Clips by number."""

    digest: str

    def __len__(self) -> int: ...

    def clip(self, number: int) -> Clip:
        """Return one clip."""
        ...


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
    split: Literal["train", "held_out"]
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
        return Clip(seen.frames, skeleton, seen.masks.any(axis=1), describe(take))


class KeptClips:
    """Clips of another source, made once and kept on a shelf."""

    NAMES = ("frames", "skeleton", "figure")

    def __init__(self, clips: Clips, folder: Path, shard: int = 32) -> None:
        self.clips = clips
        self.digest = clips.digest
        self.shelf = Shelf(folder, clips.digest, len(clips), shard)

    def __len__(self) -> int:
        return len(self.clips)

    def make(self, numbers: Sequence[int]) -> tuple[dict[str, NDArray[np.generic]], list[str]]:
        """Return the arrays of these clips, for the shelf."""
        clips = [self.clips.clip(number) for number in numbers]
        arrays = {name: np.stack([getattr(clip, name) for clip in clips]) for name in self.NAMES}
        return arrays, [clip.prompt for clip in clips]

    def clip(self, number: int) -> Clip:
        """Return one clip from the shelf; raise ShelfError if it has not been made."""
        (frames, skeleton, figure), (prompt,) = self.shelf.read([number], self.NAMES)
        return Clip(frames[0], skeleton[0], figure[0], prompt)
