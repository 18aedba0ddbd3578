"""Motion at another rate: points on screen at a model's rate, and the model's frames shown at the clip's."""

import numpy as np
from numpy.typing import NDArray

from manifests.decoding import frames_on_screen
from manifests.segments import frames_in
from model.skeleton import Points


def frames_at(frames: int, own_fps: float, fps: float) -> NDArray[np.int64]:
    """Return `[N]` which of `frames` frames at `own_fps` is on screen at 0, 1 / fps, 2 / fps, ..."""
    duration_s = frames / own_fps
    return frames_on_screen(np.arange(frames) / own_fps, duration_s, 0.0, fps, frames_in(0.0, duration_s, fps))


def paced(points: Points, own_fps: float, fps: float) -> Points:
    """Return points `[T, P, 133, 3]` at `own_fps` as `[N, P, 133, 3]` at `fps`: frame i is what is seen at i / fps."""
    return points[frames_at(len(points), own_fps, fps)]


def shown(frames: int, fps: float, own_frames: int, own_fps: float) -> NDArray[np.int64]:
    """Return `[own_frames]` which of `frames` frames at `fps` is on screen at each frame of a clip at `own_fps`."""
    instants = np.arange(own_frames) / own_fps
    return np.minimum((instants * fps + 1e-6).astype(np.int64), frames - 1)
