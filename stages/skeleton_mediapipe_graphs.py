"""MediaPipe's graphs, put together for several people: a detector of bodies, and one body with its hands and face.

The ready-made Holistic graph follows one person and hides what its models say of presence. The same subgraphs stand
here in other company. Pictures are uint8 [H, W, 3] RGB, contiguous; all coordinates are px of the picture.
"""

import contextlib
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.skeleton import Pixels

# The C++ side writes to the terminal as it loads; these names are read once, when the library is loaded.
os.environ.setdefault("GLOG_minloglevel", "3")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from google.protobuf import text_format  # type: ignore[import-untyped]
from mediapipe.calculators.core import split_vector_calculator_pb2 as _split  # noqa: F401 - registers its options
from mediapipe.calculators.tensor import image_to_tensor_calculator_pb2 as _tensor  # noqa: F401
from mediapipe.calculators.tensor import inference_calculator_pb2 as _inference  # noqa: F401
from mediapipe.calculators.tensor import tensors_to_detections_calculator_pb2 as _boxes  # noqa: F401
from mediapipe.calculators.tflite import ssd_anchors_calculator_pb2 as _anchors  # noqa: F401
from mediapipe.calculators.util import non_max_suppression_calculator_pb2 as _nms  # noqa: F401
from mediapipe.framework import calculator_pb2
from mediapipe.framework.formats import rect_pb2
from mediapipe.python import solution_base

Array = NDArray[np.float32]

_POSE = """
input_stream: "IMAGE:image"
input_stream: "ROI:region"
output_stream: "LANDMARKS:pose"
node {
  calculator: "PoseLandmarkByRoiCpu" input_stream: "IMAGE:image" input_stream: "ROI:region"
  output_stream: "LANDMARKS:pose" output_stream: "AUXILIARY_LANDMARKS:rim"
}
"""
_PARTS = """
input_side_packet: "REFINE_LANDMARKS:refine_face"
node {
  calculator: "HandLandmarksLeftAndRightCpu" input_stream: "IMAGE:image" input_stream: "POSE_LANDMARKS:pose"
  output_stream: "LEFT_HAND_LANDMARKS:left_hand" output_stream: "RIGHT_HAND_LANDMARKS:right_hand"
}
node {
  calculator: "SplitNormalizedLandmarkListCalculator" input_stream: "pose" output_stream: "head"
  options { [mediapipe.SplitVectorCalculatorOptions.ext] { ranges { begin: 0 end: 11 } } }
}
node {
  calculator: "FaceLandmarksFromPoseCpu" input_stream: "IMAGE:image" input_stream: "FACE_LANDMARKS_FROM_POSE:head"
  output_stream: "FACE_LANDMARKS:face" input_side_packet: "REFINE_LANDMARKS:refine_face"
}
"""
# The presence that a model reports flows on streams inside these subgraphs; the names are those of version 0.10.14.
_POSE_PRESENCE = "poselandmarkbyroicpu__tensorstoposelandmarksandsegmentation__pose_presence_score"
_HAND_PRESENCE = "handlandmarksleftandrightcpu__handlandmarksfromposecpu_{}__handlandmarkcpu__hand_presence_score"
_LEFT_PRESENCE, _RIGHT_PRESENCE = _HAND_PRESENCE.format(1), _HAND_PRESENCE.format(2)
_FACE_PRESENCE = "facelandmarksfromposecpu__facelandmarkcpu__face_presence_score"
_DETECTOR = """
input_stream: "IMAGE:image"
output_stream: "DETECTIONS:candidates"
node {
  calculator: "ImageToTensorCalculator" input_stream: "IMAGE:image"
  output_stream: "TENSORS:picture" output_stream: "LETTERBOX_PADDING:padding"
  options { [mediapipe.ImageToTensorCalculatorOptions.ext] {
    output_tensor_width: 224 output_tensor_height: 224 keep_aspect_ratio: true border_mode: BORDER_ZERO
    output_tensor_float_range { min: -1 max: 1 }
  } }
}
node {
  calculator: "SsdAnchorsCalculator" output_side_packet: "anchors"
  options { [mediapipe.SsdAnchorsCalculatorOptions.ext] {
    input_size_width: 224 input_size_height: 224 min_scale: 0.1484375 max_scale: 0.75 num_layers: 5
    anchor_offset_x: 0.5 anchor_offset_y: 0.5 strides: [8, 16, 32, 32, 32] aspect_ratios: 1 fixed_anchor_size: true
  } }
}
node {
  calculator: "InferenceCalculatorCpu" input_stream: "TENSORS:picture" output_stream: "TENSORS:raw"
  options { [mediapipe.InferenceCalculatorOptions.ext] {
    model_path: "mediapipe/modules/pose_detection/pose_detection.tflite" delegate { xnnpack { } }
  } }
}
node {
  calculator: "TensorsToDetectionsCalculator" input_stream: "TENSORS:raw" output_stream: "DETECTIONS:all"
  input_side_packet: "ANCHORS:anchors"
  options { [mediapipe.TensorsToDetectionsCalculatorOptions.ext] {
    num_classes: 1 num_boxes: 2254 num_coords: 12 box_coord_offset: 0 keypoint_coord_offset: 4 num_keypoints: 4
    num_values_per_keypoint: 2 x_scale: 224 y_scale: 224 w_scale: 224 h_scale: 224 reverse_output_order: true
    sigmoid_score: true score_clipping_thresh: 100 min_score_thresh: %f
  } }
}
node {
  calculator: "NonMaxSuppressionCalculator" input_stream: "all" output_stream: "best"
  options { [mediapipe.NonMaxSuppressionCalculatorOptions.ext] {
    min_suppression_threshold: 0.3 overlap_type: INTERSECTION_OVER_UNION algorithm: WEIGHTED
  } }
}
node {
  calculator: "DetectionLetterboxRemovalCalculator" input_stream: "DETECTIONS:best"
  input_stream: "LETTERBOX_PADDING:padding" output_stream: "DETECTIONS:candidates"
}
"""

# What the C++ side says as a graph starts, which no setting of version 0.10.14 silences.
_CHATTER = re.compile(
    rb"Created TensorFlow Lite XNNPACK delegate|All log messages before absl|inference_feedback_manager"
    rb"|landmark_projection_calculator"
)


@dataclass(frozen=True)
class Region:
    """A turned square of the picture that is shown to the landmark model: middle px, side px, angle rad clockwise."""

    x: float
    y: float
    side: float
    angle: float

    @classmethod
    def around(cls, hips: Array, rim: Array) -> "Region":
        """Return the square around a circle with this middle and this point on its rim, turned so that the rim point
        is above; 1.25 times its diameter, as in MediaPipe's PoseLandmarksToRoi."""
        dx, dy = (float(v) for v in rim - hips)
        angle = np.pi / 2 - np.arctan2(-dy, dx)
        angle -= 2 * np.pi * np.floor((angle + np.pi) / (2 * np.pi))
        return cls(float(hips[0]), float(hips[1]), 2 * 1.25 * float(np.hypot(dx, dy)), float(angle))


@dataclass(frozen=True)
class Seen:
    """What the models say of one person in one picture; None and 0 where they saw nothing."""

    presence: float = 0.0  # that there is a person in the region, 0..1
    pose: Array | None = None  # [33, 4]: x, y, visibility 0..1, presence in the region 0..1
    region: Region | None = None  # where the person is, for the next frame
    left_hand: Array | None = None  # [21, 2]
    right_hand: Array | None = None
    face: Array | None = None  # [468 or 478, 2]
    left_presence: float = 0.0
    right_presence: float = 0.0
    face_presence: float = 0.0


class Detector:
    """BlazePose's detector: the people of a picture, each at least about a fifth of its side."""

    def __init__(self, min_score: float) -> None:
        self._graph = _start(_DETECTOR % min_score, ["candidates"])

    def __call__(self, picture: Pixels) -> list[tuple[float, Array, Array]]:
        """Return (score, middle of the hips, point on the circle around the person) of each candidate."""
        height, width = picture.shape[:2]
        scale = np.array([width, height], np.float32)
        out = []
        for candidate in _run(self._graph, {"image": np.ascontiguousarray(picture)}).candidates or []:
            hips, rim = (
                np.array([p.x, p.y], np.float32) * scale for p in candidate.location_data.relative_keypoints[:2]
            )
            out.append((float(candidate.score[0]), hips, rim))
        return out


class Body:
    """The landmark model on a region; with `parts`, hands and face too, which it follows from picture to picture."""

    def __init__(self, parts: bool, refine_face: bool = True) -> None:
        self._parts = parts
        outputs = ["pose", "rim", _POSE_PRESENCE]
        if parts:
            outputs += ["left_hand", "right_hand", "face", _LEFT_PRESENCE, _RIGHT_PRESENCE, _FACE_PRESENCE]
        side = {"refine_face": refine_face} if parts else None
        self._graph = _start(_POSE + _PARTS if parts else _POSE, outputs, side)

    def reset(self) -> None:
        """Forget the pictures before."""
        with _quiet():
            self._graph.reset()
            self(np.zeros((64, 64, 3), np.uint8), Region(32, 32, 64, 0))

    def __call__(self, picture: Pixels, region: Region) -> Seen:
        height, width = picture.shape[:2]
        square = rect_pb2.NormalizedRect(
            x_center=region.x / width, y_center=region.y / height, width=region.side / width,
            height=region.side / height, rotation=region.angle,
        )  # fmt: skip
        out = _run(self._graph, {"image": np.ascontiguousarray(picture), "region": square})
        presence = float(getattr(out, _POSE_PRESENCE) or 0.0)
        if out.pose is None:
            return Seen(presence)
        pose = np.array([(p.x * width, p.y * height, p.visibility, p.presence) for p in out.pose.landmark], np.float32)
        hips, rim = _places(out.rim, width, height)[:2]
        here = Region.around(hips, rim)
        if not self._parts:
            return Seen(presence, pose, here)
        left, right, face = (
            None if points is None else _places(points, width, height)
            for points in (out.left_hand, out.right_hand, out.face)
        )
        shares = [float(getattr(out, name) or 0.0) for name in (_LEFT_PRESENCE, _RIGHT_PRESENCE, _FACE_PRESENCE)]
        return Seen(presence, pose, here, left, right, face, *shares)


def _places(landmarks: Any, width: int, height: int) -> Array:
    return np.array([(p.x * width, p.y * height) for p in landmarks.landmark], np.float32)


def _start(text: str, outputs: list[str], side: dict[str, Any] | None = None) -> Any:
    config = text_format.Parse(text, calculator_pb2.CalculatorGraphConfig())
    with _quiet():
        graph = solution_base.SolutionBase(graph_config=config, outputs=outputs, side_inputs=side)
        # The models load with the first picture; a black one leaves no trace: nothing is seen in it.
        first: dict[str, Any] = {"image": np.zeros((64, 64, 3), np.uint8)}
        if "ROI:region" in text:
            first["region"] = rect_pb2.NormalizedRect(x_center=0.5, y_center=0.5, width=1, height=1)
        _run(graph, first)
    return graph


def _run(graph: Any, inputs: dict[str, Any]) -> Any:
    with warnings.catch_warnings():  # mediapipe 0.10.14 calls what protobuf 4.25 deprecates
        warnings.filterwarnings("ignore", message=r"SymbolDatabase\.GetPrototype", category=UserWarning)
        return graph.process(inputs)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what the C++ side writes to stderr, and pass on all of it but the known chatter."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            for line in held:
                if not _CHATTER.search(line):
                    os.write(2, line)
