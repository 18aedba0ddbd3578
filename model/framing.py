"""A picture of any size in the frame that a model was made for: the whole of it, and what came of it cut out again."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from model.skeleton import Pixels, Points


@dataclass(frozen=True)
class Framing:
    """Where a picture lies in a frame of `frame_height_px` x `frame_width_px`: as large as fits, in the middle."""

    frame_height_px: int
    frame_width_px: int
    top_px: int
    left_px: int
    height_px: int
    width_px: int

    def fitted(self, picture: Pixels) -> Pixels:
        """Return a picture, uint8 `[h, w, 3]`, in the frame, `[H, W, 3]`.

        Nothing is cropped, since a figure whose feet are missing cannot be moved as a whole one; beside the picture
        its outermost pixels go on, since a bar of one colour would be taken for a thing in the scene.
        """
        size = (self.width_px, self.height_px)
        small = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
        below = self.frame_height_px - self.top_px - self.height_px
        beside = self.frame_width_px - self.left_px - self.width_px
        return np.pad(small, ((self.top_px, below), (self.left_px, beside), (0, 0)), mode="edge")

    def points(self, points: Points, picture_height_px: int, picture_width_px: int) -> Points:
        """Return points `[..., 3]` of a picture of that size, px, where they lie in the frame."""
        moved = points.copy()
        seen = points[..., 2] > 0
        scale = np.array([self.width_px / picture_width_px, self.height_px / picture_height_px])
        moved[..., :2][seen] = (points[..., :2] * scale + np.array([self.left_px, self.top_px]))[seen]
        return moved

    def cut(self, frames: Pixels) -> Pixels:
        """Return of frames `[T, H, W, 3]` what lies where the picture was, `[T, h, w, 3]`."""
        rows = slice(self.top_px, self.top_px + self.height_px)
        return np.ascontiguousarray(frames[:, rows, self.left_px : self.left_px + self.width_px])


def framing_of(picture: Pixels, frame_height_px: int, frame_width_px: int) -> Framing:
    """Return where a picture, uint8 `[h, w, 3]`, is put in a frame of that size."""
    height, width = picture.shape[:2]
    scale = min(frame_height_px / height, frame_width_px / width)
    tall = min(frame_height_px, max(1, round(scale * height)))
    wide = min(frame_width_px, max(1, round(scale * width)))
    return Framing(
        frame_height_px, frame_width_px, (frame_height_px - tall) // 2, (frame_width_px - wide) // 2, tall, wide
    )
