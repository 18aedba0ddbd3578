"""Small clips for tests: a person of noise who walks over noise, each a pure function of its number."""

from dataclasses import dataclass

import numpy as np

from model.geometry import Geometry
from model.training.clips import Clip

SIZE = Geometry(16, 16, 9, 4, 8)


@dataclass(frozen=True)
class Walks:
    """`count` clips of one size, with all of COCO-WholeBody's points in view."""

    count: int
    size: Geometry = SIZE
    name: str = "walks"

    @property
    def digest(self) -> str:
        return f"{self.name} {self.size}"

    def __len__(self) -> int:
        return self.count

    def clip(self, number: int) -> Clip:
        rng, size = np.random.default_rng([number, sum(self.name.encode())]), self.size
        frames = rng.integers(0, 256, (size.frames, size.height_px, size.width_px, 3), np.uint8)
        at_rest = rng.uniform(0.2, 0.8, (1, 1, 133, 2)) * (size.width_px, size.height_px)
        step = np.linspace(0, 0.2, size.frames).reshape(-1, 1, 1, 1) * size.width_px
        score = np.ones((size.frames, 1, 133, 1))
        skeleton = np.concatenate([at_rest + step, score], axis=-1).astype(np.float32)
        figure = np.zeros(frames.shape[:3], bool)
        figure[:, 4:12, 6:10] = True
        return Clip(frames, skeleton, figure, f"{self.name} number {number}")
