"""The same graphs in rtmlib, an independent implementation (Apache-2.0; a dependency of the tests alone)."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("rtmlib", reason="rtmlib is not installed")

import rtmlib

from model.skeleton import Pixels
from stages.skeleton_onnx import Graph
from stages.skeleton_simcc import SimCC
from stages.skeleton_yolox import Yolox
from tests.stages.onnx_graphs import detector_graph, draw_figure, fixed_graph, pose_graph

SIZES = [(240, 320), (320, 240), (160, 160), (723, 1281)]


def street(height: int, width: int) -> tuple[Pixels, np.ndarray]:
    """A picture with a smooth background and two figures; and their boxes [2, 4]."""
    ys, xs = np.mgrid[:height, :width]
    back = 60 + 40 * np.sin(xs / width * 9) * np.cos(ys / height * 7)
    frame = np.repeat(back[..., None], 3, axis=2).astype(np.uint8)
    boxes = np.array([(0.1, 0.1, 0.25, 0.5), (0.65, 0.4, 0.8, 0.8)]) * (width, height, width, height)
    for box in boxes:
        draw_figure(frame, box)
    return frame, boxes.astype(np.float32)


def in_order(boxes: np.ndarray) -> np.ndarray:
    """Boxes from left to right: of two equal scores either may come first."""
    return boxes[np.argsort(boxes[:, 0]), :4]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_boxes_are_rtmlibs(tmp_path: Path, height: int, width: int) -> None:
    frame, boxes = street(height, width)
    ratio = min(160 / height, 160 / width)
    size = tuple((boxes[0, 2:] - boxes[0, :2]) * ratio)
    path = detector_graph(tmp_path / "d.onnx", size)
    theirs = rtmlib.YOLOX(str(path), (160, 160), score_thr=0.05)(frame[..., ::-1])  # takes BGR
    (ours,) = Yolox(Graph(path, "cpu", (160, 160)), 0.05)(frame[None])
    assert len(ours) >= 2
    np.testing.assert_allclose(in_order(ours), in_order(theirs), atol=1e-3)


def test_boxes_are_rtmlibs_where_many_overlap(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(0.5, 0.3, (1, 84, 6)).astype(np.float32)  # raw, one class
    values[..., 2:4] = rng.normal(0.8, 0.4, (1, 84, 2))
    values[..., 4:] = rng.uniform(0.3, 1, (1, 84, 2))
    path = fixed_graph(tmp_path / "d.onnx", {"o": values}, (64, 64))
    frame = np.zeros((200, 150, 3), np.uint8)
    theirs = rtmlib.YOLOX(str(path), (64, 64), score_thr=0.3)(frame)
    (ours,) = Yolox(Graph(path, "cpu", (64, 64)), 0.3)(frame[None])
    assert 10 < len(ours) < 70
    np.testing.assert_allclose(in_order(ours), in_order(theirs), rtol=1e-5, atol=1e-4)


def test_boxes_are_rtmlibs_where_the_graph_picks(tmp_path: Path) -> None:
    picked = np.array([[(2, 3, 30, 60, 0.9), (30, 3, 60, 60, 0.5), (1, 1, 9, 9, 0.2)]], np.float32)
    path = fixed_graph(tmp_path / "d.onnx", {"dets": picked}, (64, 64))
    frame = np.zeros((200, 150, 3), np.uint8)
    theirs = rtmlib.YOLOX(str(path), (64, 64))(frame)  # 0.3 is written in its code for this form
    (ours,) = Yolox(Graph(path, "cpu", (64, 64)), 0.3)(frame[None])
    np.testing.assert_allclose(ours[:, :4], theirs, rtol=1e-6)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_keypoints_are_rtmlibs_within_half_a_pixel(tmp_path: Path, height: int, width: int) -> None:
    frame, boxes = street(height, width)
    boxes += np.array([[-3.3, 2.1, 4.7, -1.9], [8.8, -12.5, 3.1, 9.9]], np.float32)  # as a detector's, not exact
    path = pose_graph(tmp_path / "p.onnx")
    places, scores = rtmlib.RTMPose(str(path), (288, 384), backend="onnxruntime")(frame, boxes)  # takes it as it is
    ours = SimCC(Graph(path, "cpu", (384, 288)))([frame] * 2, list(boxes))
    assert np.abs(ours[..., :2] - places).max() <= 0.5
    assert (ours[..., 2] > 0.7).all()
    # rtmlib's score is the mean of the two axes' maxima; they differ by little where there is one spot
    assert (ours[..., 2] <= scores + 0.01).all()
    assert np.abs(ours[..., 2] - scores).max() < 0.02
