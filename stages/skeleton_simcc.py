"""The 133 points of a person by SimCC (Li et al., ECCV 2022), as DWPose and RTMPose are exported.

The graph is shown the surroundings of a box, 1.25 times its size and widened to the input's shape, and gives for each
point how likely each place on either axis is, in steps of half a pixel of the input: [N, 133, 2 W] and [N, 133, 2 H].
A point lies where both are greatest. Its score is the smaller of the two maxima, as in DWPose and mmpose (rtmlib takes
their mean), cut to 0..1. A point outside the picture was not seen: (0, 0, 0).
"""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.skeleton import POINTS, Pixels, Points
from stages.skeleton_onnx import Graph, first_shape
from stages.weights import WeightsError

USUAL_PX: Final = (384, 288)
_STEPS: Final = 2  # a pixel of the input
_PADDING: Final = 1.25
_AT_ONCE: Final = 16  # crops
_MEAN, _SPREAD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet, RGB
_NORMAL: Final = ((np.arange(256) - np.array(_MEAN)[:, None]) / np.array(_SPREAD)[:, None]).astype(np.float32)


class SimCC:
    """Sees the points of people in boxes."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        height, width = graph.size_px
        self._wanted = [(POINTS, _STEPS * width), (POINTS, _STEPS * height)]

    def __call__(self, frames: Sequence[Pixels], boxes: Sequence[NDArray[np.float32]]) -> Points:
        """Return the points [n, 133, 3] of the people in `boxes` (x0, y0, x1, y1 px), each in its own frame.

        Raises:
            WeightsError: the graph gives something else.
        """
        height, width = self.graph.size_px
        out = np.zeros((len(frames), POINTS, 3), np.float32)
        for part in self.graph.chunks(len(frames), _AT_ONCE):
            batch = np.empty((part.stop - part.start, 3, height, width), np.float32)
            regions = np.stack([region_of(box, height, width) for box in boxes[part]])
            for picture, frame, region in zip(batch, frames[part], regions, strict=True):
                _show(frame, region, picture)
            outputs = self.graph(batch)
            if [output.shape[1:] for output in outputs] != self._wanted:
                x, y = self._wanted
                raise WeightsError(
                    f"{self.graph.path} gives {first_shape(outputs)}, wanted SimCC of whole bodies: "
                    f"[N, {x[0]}, {x[1]}] and [N, {y[0]}, {y[1]}] for pictures of {width} x {height} px"
                )
            for points, frame, region, *likely in zip(out[part], frames[part], regions, *outputs, strict=True):
                points[:] = _points(likely[0], likely[1], region, frame.shape[1], frame.shape[0])
        return out


def region_of(box: NDArray[np.float32], height: int, width: int) -> NDArray[np.float64]:
    """Return what of the picture is shown for a box: x, y of the middle and px of the picture a px of the input."""
    size = np.maximum(box[2:4] - box[:2], 1).astype(np.float64) * _PADDING
    return np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, max(size[0] / width, size[1] / height)])


def _show(frame: Pixels, region: NDArray[np.float64], out: NDArray[np.float32]) -> None:
    """Write the region of a frame to `out` [3, H, W]: bilinear, black outside the picture, then normalised.

    Pixel (i, j) of `out` is taken at middle + ((i, j) - (W, H) / 2) * scale of the frame.
    """
    _, height, width = out.shape
    x, y, scale = region
    to_frame = np.array([[scale, 0, x - width / 2 * scale], [0, scale, y - height / 2 * scale]])
    colours = cv2.warpAffine(frame, to_frame, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    for channel in range(3):
        np.take(_NORMAL[channel], colours[..., channel], out=out[channel], mode="clip")


def _points(
    likely_x: NDArray[np.float32], likely_y: NDArray[np.float32], region: NDArray[np.float64], width: int, height: int
) -> Points:
    """Read the points [133, 3] off the two axes [133, steps], in px of a picture of this size."""
    steps = np.stack([likely_x.argmax(axis=1), likely_y.argmax(axis=1)], axis=1)
    middle = np.array([likely_x.shape[1], likely_y.shape[1]]) / 2
    places = region[:2] + (steps - middle) / _STEPS * region[2]
    score = np.minimum(likely_x.max(axis=1), likely_y.max(axis=1))
    inside = (places >= 0).all(axis=1) & (places <= (width - 1, height - 1)).all(axis=1)
    points = np.concatenate([places, np.minimum(score, 1)[:, None]], axis=1).astype(np.float32)
    points[~inside | (score <= 0)] = 0
    return points
