"""The small pose estimator as a pose adapter: for pictures of one figure as the embedded teacher draws them.

It knows the figures of theatre and nothing else; people in photographs are for `mediapipe` and `dwpose`. There is no
detector: each picture is taken for one of one figure, and looked at as a whole.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

import model
from model.framing import framing_of
from model.skeleton import BODY, POINTS, Pixels, Points, box_of
from model.tiny_pose import SIDE_PX, STATE, TinyPose, points_of
from stages.skeleton import SkeletonConfig
from stages.tracking import Box

WEIGHTS: Final = Path(model.__file__).parent / "tiny_weights" / "pose"


class TheatrePose:
    """The adapter; see `stages.skeleton.PoseAdapter`."""

    def __init__(self, config: SkeletonConfig) -> None:
        self.config = config
        self._pose = TinyPose.load(WEIGHTS)

    @classmethod
    def weights(cls, config: Any) -> list[Path]:  # noqa: ARG003 - the protocol's signature
        """Return the file of weights that ships."""
        return [WEIGHTS / STATE]

    def reset(self) -> None:
        """Forget nothing: each picture is looked at anew."""

    def forget(self, track: int) -> None:
        """Forget nothing."""

    def people(self, frames: Pixels) -> list[NDArray[np.float32]]:
        """Find the figure of each frame: N arrays `[0 or 1, 5]`, x0, y0, x1, y1 px and the mean score of its points."""
        return [self._box(points) for points in self._points(frames)]

    def keypoints(self, frames: Pixels, boxes: Sequence[Mapping[int, Box]]) -> list[dict[int, Points]]:
        """Give the points of the figure to each track that is asked for: there is but one."""
        return [
            dict.fromkeys(wanted, points) if len(self._box(points)) else {}
            for points, wanted in zip(self._points(frames), boxes, strict=True)
        ]

    def _box(self, points: Points) -> NDArray[np.float32]:
        body = points[BODY, 2]
        box = box_of(points, self.config.min_score)
        if box is None or (body >= self.config.min_score).sum() < self.config.min_points:
            return np.zeros((0, 5), np.float32)
        return np.array([[*box, body[body >= self.config.min_score].mean()]], np.float32)

    @torch.no_grad()
    def _points(self, frames: Pixels) -> list[Points]:
        """Return the points `[133, 3]` of each frame, in its own px."""
        framing = framing_of(frames[0], SIDE_PX, SIDE_PX)
        small = np.stack([framing.fitted(frame) for frame in frames])
        found = points_of(*self._pose(torch.from_numpy(small).permute(0, 3, 1, 2).float() / 127.5 - 1)).numpy()
        scale = np.array([frames.shape[2] / framing.width_px, frames.shape[1] / framing.height_px])
        points = np.zeros((len(frames), POINTS, 3), np.float32)
        points[:, BODY, :2] = (found[..., :2] - [framing.left_px, framing.top_px] + 0.5) * scale - 0.5
        points[:, BODY, 2] = found[..., 2]
        last = np.array(frames.shape[2:0:-1]) - 1
        outside = np.any((points[..., :2] < 0) | (points[..., :2] > last), axis=-1)
        points[outside] = 0
        return list(points)
