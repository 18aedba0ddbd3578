"""Clips to train on: pixels, skeleton and text of one motion, whatever they come from.

Theatre is one source; shards of users' clips are another, behind the same protocol.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.skeleton import Pixels, Points
from model.training.shelf import Shelf


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

    @property
    def digest(self) -> str:
        """Of all that the clips depend on."""
        ...

    def __len__(self) -> int: ...

    def clip(self, number: int) -> Clip:
        """Return one clip."""
        ...


class KeptClips:
    """Clips of another source, made once and kept on a shelf."""

    NAMES = ("frames", "skeleton", "figure")

    def __init__(self, clips: Clips, folder: Path, shard: int = 32) -> None:
        self.clips = clips
        self.digest = clips.digest
        self.shelf = Shelf(folder / clips.digest[:16], clips.digest, len(clips), shard)

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
