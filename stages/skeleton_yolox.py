"""People in pictures by YOLOX (Ge et al., 2021), in the forms in which its graphs are exported.

The picture is laid into the upper left corner of the input, the rest is grey (114); the input is BGR, 0..255. Forms:

    raw      [N, A, 5 + classes]: per cell of the grids of strides 8, 16 and 32, in this order: the centre as offset in
             cells, log of the size in cells, objectness, classes. As Megvii publishes them; DWPose's `yolox_l.onnx`
    decoded  the same in px, if exported with `--decode_in_inference`
    picked   [N, K, 5]: x0, y0, x1, y1 px, score, overlaps already gone; labels [N, K] may come beside them. As
             mmdeploy exports them

A person is class 0, the score is objectness x class. Of boxes that overlap by more than 0.45 (IoU) the best stays.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.skeleton import Pixels
from stages.skeleton_onnx import Graph, first_shape
from stages.weights import WeightsError

USUAL_PX: Final = (640, 640)
_STRIDES: Final = (8, 16, 32)
_GREY: Final = 114
_MAX_OVERLAP: Final = 0.45
_AT_ONCE: Final = 8  # pictures
_PERSON: Final = 0

Boxes = NDArray[np.float32]  # [n, 5] = x0, y0, x1, y1 px, score


class Yolox:
    """Finds people. `min_score` is the score from which a box is taken."""

    def __init__(self, graph: Graph, min_score: float) -> None:
        """Look at an empty picture with the graph, to see of which form it is.

        Raises:
            WeightsError: of none.
        """
        self.graph, self.min_score = graph, min_score
        self._cells, self._strides = _grid(*graph.size_px)
        self._decoded = self._is_decoded()

    def __call__(self, frames: Pixels) -> list[Boxes]:
        """Find the people in each of uint8 [N, H, W, 3] RGB: N arrays [n, 5], the best first."""
        height, width = self.graph.size_px
        found: list[Boxes] = []
        for part in self.graph.chunks(len(frames), _AT_ONCE):
            chunk = frames[part]
            batch = np.full((len(chunk), 3, height, width), _GREY, np.float32)
            ratios = [_lay(frame, picture) for frame, picture in zip(chunk, batch, strict=True)]
            outputs = self.graph(batch)
            found += [self._boxes([output[i] for output in outputs], ratio) for i, ratio in enumerate(ratios)]
        return found

    def _boxes(self, outputs: list[NDArray[np.float32]], ratio: float) -> Boxes:
        """Return the people in the outputs for one picture, whose sides are `ratio` of what they were."""
        first = outputs[0]
        if first.shape[-1] == 5:
            good = first[:, 4] > self.min_score
            if len(outputs) > 1:
                good &= outputs[1] == _PERSON
            picked: Boxes = first[good][np.argsort(-first[good, 4], kind="stable")]
            picked[:, :4] /= ratio
            return picked
        scores = first[:, 4] * first[:, 5 + _PERSON]
        good = scores > self.min_score
        centre, size = first[good, :2], first[good, 2:4]
        if not self._decoded:
            stride = self._strides[good, None]
            centre, size = (centre + self._cells[good]) * stride, np.exp(size) * stride
        corners = np.concatenate([centre - size / 2, centre + size / 2], axis=1) / ratio
        boxes = np.concatenate([corners, scores[good, None]], axis=1).astype(np.float32)
        return boxes[apart(boxes)]

    def _is_decoded(self) -> bool:
        height, width = self.graph.size_px
        outputs = self.graph(np.full((1, 3, height, width), _GREY, np.float32))
        first = outputs[0]
        labelled = len(outputs) == 1 or outputs[1].shape == first.shape[:2]
        if first.ndim == 3 and first.shape[-1] == 5 and labelled:
            return True
        if first.ndim != 3 or first.shape[-1] < 6 or first.shape[1] != len(self._cells):
            raise WeightsError(
                f"{self.graph.path} gives {first_shape(outputs)}, wanted YOLOX: [N, {len(self._cells)}, 5 + classes] "
                f"for pictures of {width} x {height} px, or [N, boxes, 5]"
            )
        # centres of cells spread over the whole input, offsets in cells are about one: nothing lies in between
        return float(np.median(np.abs(first[0, :, :2]))) > min(_STRIDES)


def apart(boxes: Boxes) -> list[int]:
    """Return which of boxes [n, 5] stay when of those that overlap the best is kept; the best first, ties in order.

    Sides are counted in whole px, both ends included, as YOLOX's own code does.
    """
    order = np.argsort(-boxes[:, 4], kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    kept = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(int(best))
        inner = np.minimum(boxes[best, 2:4], boxes[rest, 2:4]) - np.maximum(boxes[best, :2], boxes[rest, :2]) + 1
        shared = np.maximum(inner, 0).prod(axis=1)
        order = rest[shared / (areas[best] + areas[rest] - shared) <= _MAX_OVERLAP]
    return kept


def _grid(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the column and row of every cell `[A, 2]`, and its stride `[A]`."""
    cells, strides = [], []
    for stride in _STRIDES:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        cells.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        strides.append(np.full(rows.size, stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _lay(frame: Pixels, out: NDArray[np.float32]) -> float:
    """Lay a picture, made smaller or larger to fit, into `out` [3, H, W], BGR; return by how much its sides changed."""
    height, width = frame.shape[:2]
    ratio: float = min(out.shape[1] / height, out.shape[2] / width)
    rows, columns = int(height * ratio), int(width * ratio)
    # bilinear between the four nearest pixels, not over all that fall into one: as the weights were trained
    fitted = cv2.resize(frame, (columns, rows), interpolation=cv2.INTER_LINEAR)
    for channel in range(3):
        out[channel, :rows, :columns] = fitted[..., 2 - channel]
    return ratio
