"""A teacher and the size at which it draws; what it makes of cases."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from model.animate import animate
from model.backbone import Backbone, load
from model.composite import join, left
from model.geometry import Geometry
from model.training.examples import pixels
from model.training.samples import to_uint8
from tests.bench.teacher.cases import Scene
from tests.bench.teacher.nearness import Frames
from tests.bench.teacher.rows import progress

BATCH = 8
DEFAULT_STEPS = 30  # of `animate` and `render`


@dataclass(frozen=True)
class Teacher:
    """A backbone in the precision that `animate` takes on a CPU, at the size it was trained at."""

    backbone: Backbone
    size: Geometry

    @classmethod
    def of(cls, weights: Path) -> "Teacher":
        """Return the teacher of a folder."""
        backbone = load("tiny", str(weights), torch.float32, "cpu")
        spec = backbone.spec
        return cls(backbone, backbone.geometry(spec.height_px, spec.width_px, spec.frames))

    def draw(self, scenes: Sequence[Scene], steps: int = DEFAULT_STEPS) -> list[Frames]:
        """Return what becomes of each scene, uint8 `[n, H, W, 3]` without the prefix."""
        made: list[Frames] = []
        for start in range(0, len(scenes), BATCH):
            some = scenes[start : start + BATCH]
            reference = torch.cat([pixels(scene.truth.frames[:1])[:, :, 0] for scene in some])
            driving = torch.cat([scene.driving for scene in some])
            seeds = list(range(start, start + len(some)))
            videos = animate(
                self.backbone, reference, driving, [scene.case.prompt for scene in some], seeds=seeds, steps=steps
            )
            made += [self.cut(to_uint8(video)) for video in videos]
            progress(f"{steps} steps: {len(made)} of {len(scenes)} clips")
        return made

    @torch.no_grad()
    def through(self, frames: Frames) -> Frames:
        """Return a clip `[T, H, W, 3]` through the VAE and back, `[n, H, W, 3]` without the prefix: the best that could
        be drawn."""
        video = pixels(frames)
        return self.cut(to_uint8(left(self.backbone.decode(self.backbone.encode(join(video, video))))[0]))

    def cut(self, frames: Frames) -> Frames:
        """Return the frames after the prefix."""
        return frames[self.size.prefix_frames :]

    def still(self, scene: Scene) -> Frames:
        """Return the floor that knows who, and not how: the reference in all frames."""
        return np.repeat(scene.truth.frames[:1], self.size.output_frames, axis=0)
