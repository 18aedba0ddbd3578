"""DWPose (Yang et al., 2023) as a pose adapter: YOLOX finds the people, a SimCC graph sees their 133 points.

    finding    every frame that is asked for is looked at as a whole, once; batched over frames
    following  a box that was just found is shown as it is. Any other is where the person was, told by the points alone:
               it is shown a little larger, and if the person turns out to be elsewhere, a second time around the
               points that were seen. Batched over frames and people
    memory     none but for what the last search found

The points are in COCO-WholeBody's order, as the graph gives them. Weights and device stand in `SkeletonConfig`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.skeleton import Pixels, Points, box_of
from stages.skeleton import DWPOSE_WEIGHTS, SkeletonConfig
from stages.skeleton_onnx import Graph
from stages.skeleton_simcc import USUAL_PX as CROP_PX
from stages.skeleton_simcc import SimCC
from stages.skeleton_yolox import USUAL_PX as PICTURE_PX
from stages.skeleton_yolox import Yolox
from stages.tracking import Box, iou
from stages.weights import fetch, seal

_GROWN: Final = 1.15  # points end at eyes, wrists and toes; a detector's box ends at hair and fingertips
_MOVED: Final = 0.6  # IoU of the place shown and the place seen, below which the person is looked at again


class DWPose:
    """The adapter; see the module's docstring and `stages.skeleton.PoseAdapter`."""

    def __init__(self, config: SkeletonConfig) -> None:
        """Load both graphs.

        Raises:
            WeightsError: weights are missing, not the right ones or of another kind; or CUDA cannot be had.
        """
        self.config = config
        cv2.setNumThreads(1)  # its threads would cost more than crops so small take, and heed no OMP_NUM_THREADS
        detector, pose = self.weights(config)
        self._detector = Yolox(Graph(detector, config.device, PICTURE_PX), config.min_detection)
        self._pose = SimCC(Graph(pose, config.device, CROP_PX))
        self._found: Counter[bytes] = Counter()  # boxes of the last search that were not asked for yet

    @classmethod
    def weights(cls, config: SkeletonConfig) -> list[Path]:
        """Return the files of the detector and of the points, fetched if need be, and verified."""
        places = ((getattr(config, place), getattr(config, sha256)) for place, sha256 in DWPOSE_WEIGHTS.values())
        return [fetch(place, seal(place, sha256)) for place, sha256 in places]

    def reset(self) -> None:
        """Forget what was found: another clip begins."""
        self._found.clear()

    def forget(self, track: int) -> None:
        """Do nothing: nothing is remembered of a person."""

    def people(self, frames: Pixels) -> list[NDArray[np.float32]]:
        """Find the people of each frame on its own: N arrays [n, 5] = x0, y0, x1, y1 px, score 0..1."""
        found = self._detector(frames)
        self._found = Counter(box[:4].tobytes() for boxes in found for box in boxes)
        return found

    def keypoints(self, frames: Pixels, boxes: Sequence[Mapping[int, Box]]) -> list[dict[int, Points]]:
        """Give the points of the people in `boxes`; see the protocol."""
        asked = [(k, track, box) for k, wanted in enumerate(boxes) for track, box in sorted(wanted.items())]
        fresh = [self._is_fresh(box) for _, _, box in asked]
        shown = [box if new else _grown(box) for (_, _, box), new in zip(asked, fresh, strict=True)]
        points = self._pose([frames[k] for k, _, _ in asked], shown)
        again: dict[int, Box] = {}
        for i, new in enumerate(fresh):
            seen = box_of(points[i], self.config.min_score)
            if seen is not None and not new and iou(_grown(seen), shown[i]) < _MOVED:
                again[i] = _grown(seen, at_least=shown[i])  # what was seen may be the part that was still in view
        if again:
            points[list(again)] = self._pose([frames[asked[i][0]] for i in again], list(again.values()))
        out: list[dict[int, Points]] = [{} for _ in boxes]
        for (k, track, _), person in zip(asked, points, strict=True):
            if box_of(person, self.config.min_score) is not None:
                out[k][track] = person
        return out

    def _is_fresh(self, box: Box) -> bool:
        """Say whether the last search found this box, in as many frames as it was not asked for yet: where a person
        was found in the first frame of a block is where he was in the others."""
        key = np.asarray(box[:4], np.float32).tobytes()
        self._found[key] -= 1
        return self._found[key] >= 0


def _grown(box: Box, at_least: Box | None = None) -> Box:
    """Return a box a little larger around the same middle, and no smaller than `at_least`."""
    middle, half = (box[:2] + box[2:4]) / 2, (box[2:4] - box[:2]) / 2 * _GROWN
    if at_least is not None:
        half = np.maximum(half, (at_least[2:4] - at_least[:2]) / 2)
    return np.concatenate([middle - half, middle + half]).astype(np.float32)
