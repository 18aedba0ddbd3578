"""The two graphs of DWPose, on hand-made ones whose answers are known from a drawing or by hand."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

import onnxruntime
from onnx import TensorProto, helper

from model.skeleton import Pixels, Points
from stages.skeleton_onnx import Graph
from stages.skeleton_simcc import SimCC
from stages.skeleton_yolox import Yolox
from stages.weights import WeightsError
from tests.stages.onnx_graphs import Writer, detector_graph, draw_figure, fixed_graph, pose_graph

BOXES = ((60, 40, 180, 340), (330, 100, 410, 220), (420, 300, 630, 400), (10, 380, 70, 470))


@pytest.fixture(scope="module")
def pose_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pose_graph(tmp_path_factory.mktemp("graphs") / "pose.onnx")


def pose(path: Path) -> SimCC:
    return SimCC(Graph(path, "cpu", (384, 288)))


def detector(path: Path, min_score: float = 0.5) -> Yolox:
    return Yolox(Graph(path, "cpu", (64, 64)), min_score)


def drawn(boxes: tuple[tuple[int, int, int, int], ...] = BOXES) -> tuple[list[Pixels], np.ndarray]:
    """One frame a box with its figure, and the true places of the 133 points [n, 133, 2]."""
    frames = [np.full((480, 640, 3), 40, np.uint8) for _ in boxes]
    spots = np.stack([draw_figure(frame, box) for frame, box in zip(frames, boxes, strict=True)])
    return frames, spots[:, np.arange(133) % 6]


def boxes_of(boxes: tuple[tuple[int, int, int, int], ...] = BOXES) -> list[np.ndarray]:
    return [np.array(box, np.float32) for box in boxes]


def off(found: Points, truth: np.ndarray) -> float:
    return float(np.hypot(*np.moveaxis(found[..., :2] - truth, -1, 0)).max())


def test_points_lie_where_the_spots_are_large_or_small_tall_or_wide(pose_file: Path) -> None:
    frames, truth = drawn()
    found = pose(pose_file)(frames, boxes_of())
    assert found.dtype == np.float32
    assert off(found, truth) <= 0.5
    assert (found[..., 2] > 0.4).all()


def test_a_crop_of_a_slope_has_the_slopes_values() -> None:
    """Pixel (i, j) of the input is the frame's at middle + ((i, j) - (W, H) / 2) * scale, normalised as ImageNet is."""
    from stages.skeleton_simcc import _show, region_of

    ys, xs = np.mgrid[:480, :640]
    frame = np.stack([xs * 0.35, ys * 0.5, (xs + ys) * 0.2], axis=2)
    region = region_of(np.array([200, 100, 300, 300], np.float32), 384, 288)
    np.testing.assert_allclose(region, (250, 200, 200 * 1.25 / 384))
    seen = np.empty((3, 384, 288), np.float32)
    _show(np.round(frame).astype(np.uint8), region, seen)
    j, i = np.mgrid[:384, :288]
    x, y = 250 + (i - 144) * region[2], 200 + (j - 192) * region[2]
    truth = np.stack([x * 0.35, y * 0.5, (x + y) * 0.2])
    grey = seen * np.array([58.395, 57.12, 57.375])[:, None, None] + np.array([123.675, 116.28, 103.53])[:, None, None]
    assert np.abs(grey - truth).max() <= 1  # the frame's values are whole, and so are the crop's
    assert np.abs((grey - truth).mean()) < 0.05


def test_a_crop_over_the_edge_is_black_outside_and_what_is_inside_is_found(pose_file: Path) -> None:
    box = (-40, 200, 80, 520)  # a part outside to the left, and below
    frames, truth = drawn((box,))
    (found,) = pose(pose_file)(frames, boxes_of((box,)))
    inside = (truth[0, :, 0] >= 0) & (truth[0, :, 1] <= 479)
    assert 0 < inside.sum() < 133
    assert off(found[inside], truth[0, inside]) <= 0.5


def test_a_box_outside_the_picture_or_of_no_size_shows_nobody(pose_file: Path) -> None:
    frames, _ = drawn()
    boxes = [np.array(box, np.float32) for box in ((900, 900, 990, 1200), (600, 20, 600, 20))]
    assert not pose(pose_file)(frames[:2], boxes).any()


def test_points_outside_the_picture_were_not_seen(tmp_path: Path) -> None:
    """A graph that says where: point 0 in the middle of the crop, point 1 in its upper left corner."""
    x, y = np.zeros((1, 133, 576), np.float32), np.zeros((1, 133, 768), np.float32)
    x[0, 0, 288] = y[0, 0, 384] = x[0, 1, 0] = y[0, 1, 0] = 0.9
    x[0, 2, 300], y[0, 2, 300] = 1.4, 0.7
    x[0, 3, 300], y[0, 3, 300] = 1.4, 1.3
    graph = fixed_graph(tmp_path / "fixed.onnx", {"x": x, "y": y}, (384, 288))
    (found,) = pose(graph)([np.zeros((300, 300, 3), np.uint8)], [np.array([0, 0, 40, 80], np.float32)])
    scale = 80 * 1.25 / 384
    np.testing.assert_allclose(found[0], (20, 40, 0.9), rtol=1e-6)
    np.testing.assert_allclose(found[2], (20 + 6 * scale, 40 - 42 * scale, 0.7), rtol=1e-5)  # the lesser of the two
    assert found[3, 2] == 1  # a score is at most 1
    assert not found[[1, *range(4, 133)]].any()


@pytest.mark.parametrize("batch", [1, 3])
def test_a_graph_of_fixed_batch_gives_what_a_free_one_gives(pose_file: Path, tmp_path: Path, batch: int) -> None:
    frames, _ = drawn()
    fixed, free = pose(pose_graph(tmp_path / "fixed.onnx", batch=batch)), pose(pose_file)
    assert (fixed.graph.batch, free.graph.batch) == (batch, None)
    np.testing.assert_array_equal(fixed(frames, boxes_of()), free(frames, boxes_of()))


def test_many_at_once_give_what_each_gives_alone(pose_file: Path) -> None:
    frames, _ = drawn()
    seen = pose(pose_file)
    together = seen(frames * 9, boxes_of() * 9)  # 36: more than one batch
    for i, (frame, box) in enumerate(zip(frames, boxes_of(), strict=True)):
        np.testing.assert_array_equal(together[i::4], np.repeat(seen([frame], [box]), 9, axis=0))


def test_a_graph_that_only_claims_a_free_batch_is_run_one_by_one(tmp_path: Path) -> None:
    w = Writer()
    for name, axes in (("x", [0, 1, 2]), ("y", [0, 1, 3])):
        line = w("ReduceMax", "input", axes=axes, keepdims=0)  # over the batch too: one row
        w("Mul", w("Concat", line, line, axis=0), w.constant(np.ones((1, 133, 1))), outputs=(name,))
    outputs = {"x": (1, 133, 576), "y": (1, 133, 768)}
    graph = Graph(w.save(tmp_path / "claims.onnx", ("N", 3, 384, 288), outputs), "cpu", (384, 288))
    assert graph.batch == 1


def test_graphs_of_another_kind_are_refused_in_one_sentence(tmp_path: Path) -> None:
    box = [np.array([0, 0, 40, 80], np.float32)]
    body = pose(pose_graph(tmp_path / "body.onnx", points=17))
    with pytest.raises(
        WeightsError, match=r"gives \[1, 17, 576\], \[1, 17, 768\], wanted SimCC of whole bodies: \[N, 133"
    ):
        body([np.zeros((90, 90, 3), np.uint8)], box)
    grids = fixed_graph(tmp_path / "grids.onnx", {"o": np.zeros((1, 99, 85), np.float32)}, (64, 64))
    with pytest.raises(
        WeightsError, match=r"gives \[1, 99, 85\], wanted YOLOX: \[N, 84, 5 \+ classes\] for .* 64 x 64"
    ):
        detector(grids)
    torn = tmp_path / "torn.onnx"
    torn.write_bytes(pose_graph(tmp_path / "whole.onnx").read_bytes()[:500])
    with pytest.raises(WeightsError, match=r"torn.onnx cannot be loaded as an ONNX graph"):
        Graph(torn, "cpu", (64, 64))
    w = Writer()
    w("Relu", "input", outputs=("o",))
    with pytest.raises(WeightsError, match=r"takes input \['N', 7\], wanted one input of pictures"):
        Graph(w.save(tmp_path / "flat.onnx", ("N", 7), {"o": ("N", 7)}), "cpu", (64, 64))


def test_a_graph_in_half_precision_is_run_too(tmp_path: Path) -> None:
    given = [helper.make_tensor_value_info("i", TensorProto.FLOAT16, ("N", 3, 8, 8))]
    made = [helper.make_tensor_value_info("o", TensorProto.FLOAT16, ("N", 3, 8, 8))]
    half = helper.make_graph([helper.make_node("Relu", ["i"], ["o"])], "half", given, made)
    path = tmp_path / "half.onnx"
    path.write_bytes(
        helper.make_model(half, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )
    (out,) = Graph(path, "cpu", (8, 8))(np.full((2, 3, 8, 8), 1.5, np.float32))
    assert out.dtype == np.float32
    assert (out == 1.5).all()


def test_a_graph_uses_as_many_threads_as_the_worker_may(pose_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for said, threads in (("3", 3), ("2,1", 2), ("", 0), ("many", 0)):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        options = Graph(pose_file, "cpu", (384, 288)).session.get_session_options()
        assert options.intra_op_num_threads == threads
        assert options.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="there is CUDA here")
def test_without_cuda_auto_takes_the_cpu_and_cuda_is_refused(pose_file: Path) -> None:
    assert Graph(pose_file, "auto", (384, 288)).session.get_providers() == ["CPUExecutionProvider"]
    with pytest.raises(
        WeightsError, match=r"device is cuda, but onnxruntime .* offers .*: put onnxruntime-gpu in its place"
    ):
        Graph(pose_file, "cuda", (384, 288))


def raw(cells: dict[tuple[int, int, int], tuple[float, ...]], decoded: bool = False) -> np.ndarray:
    """YOLOX's output for 64 x 64 px: (stride, column, row) -> centre x, y, size px, objectness, two classes."""
    rows = []
    for stride in (8, 16, 32):
        for row in range(64 // stride):
            for column in range(64 // stride):
                x, y, width, height, *scores = cells.get(
                    (stride, column, row), (stride * column, stride * row, 9, 9, 0, 1, 0)
                )
                offsets = (x / stride - column, y / stride - row, np.log(width / stride), np.log(height / stride))
                rows.append([*((x, y, width, height) if decoded else offsets), *scores])
    return np.array([rows], np.float32)


PEOPLE = {
    (8, 2, 3): (20.0, 28.0, 16.0, 30.0, 0.9, 0.8, 0.1),
    (8, 3, 3): (21.0, 28.0, 16.0, 30.0, 0.9, 0.7, 0.1),  # the same person again
    (16, 2, 2): (40.0, 40.0, 20.0, 40.0, 1.0, 0.95, 0.0),
    (32, 1, 0): (50.0, 20.0, 20.0, 30.0, 0.9, 0.0, 0.9),  # no person
    (32, 0, 1): (10.0, 50.0, 12.0, 20.0, 0.7, 0.6, 0.0),  # 0.42: too unsure
}
WANTED = [(60, 40, 100, 120, 0.95), (24, 26, 56, 86, 0.72)]  # the picture is twice the input's size


@pytest.mark.parametrize("form", ["raw", "decoded", "picked", "labelled"])
def test_people_are_where_the_graph_says_in_every_form_of_export(tmp_path: Path, form: str) -> None:
    values = {"o": raw(PEOPLE, form == "decoded")}
    if form in ("picked", "labelled"):
        picked = [(12, 13, 28, 43, 0.72), (0, 0, 9, 9, 0.4), (30, 20, 50, 60, 0.95), (40, 5, 60, 35, 0.81)]
        values = {"dets": np.array([picked if form == "labelled" else picked[:3]], np.float32)}
    if form == "labelled":
        values["labels"] = np.array([[0, 0, 0, 1]], np.int64)
    found = detector(fixed_graph(tmp_path / "o.onnx", values, (64, 64), batch="N"))(np.zeros((3, 90, 128, 3), np.uint8))
    assert len(found) == 3
    for boxes in found:
        assert boxes.dtype == np.float32
        np.testing.assert_allclose(boxes, WANTED, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize(("height", "width"), [(160, 160), (480, 320), (200, 611), (97, 120)])
def test_figures_are_found_where_they_stand_in_pictures_of_any_shape(
    tmp_path: Path, height: int, width: int, decoded: bool
) -> None:
    ratio = min(160 / height, 160 / width)
    boxes = [
        (0.1 * width, 0.1 * height, 0.3 * width, 0.8 * height),
        (0.6 * width, 0.2 * height, 0.8 * width, 0.9 * height),
    ]
    size = (0.2 * width * ratio, 0.7 * height * ratio)
    seen = Yolox(Graph(detector_graph(tmp_path / "d.onnx", size, decoded=decoded), "cpu", (640, 640)), 0.05)
    frames = np.full((2, height, width, 3), 40, np.uint8)
    for box in boxes:
        draw_figure(frames[1], box)
    nobody, found = seen(frames)
    assert nobody.shape == (0, 5)
    assert len(found) == 2
    truth = np.array(boxes)
    places = found[np.argsort(found[:, 0]), :4]
    np.testing.assert_allclose(places[:, 2:] - places[:, :2], truth[:, 2:] - truth[:, :2], rtol=1e-3)
    assert np.abs(places - truth).max() <= 5 / ratio  # cells are 8 px of the input: centres are right within 4, and 1


def test_the_detector_is_shown_blue_first(tmp_path: Path) -> None:
    """As its weights were trained; a graph that takes what is first for objectness of its only large cell."""
    w = Writer()
    first = w("Slice", "input", w.constant([0], np.int64), w.constant([1], np.int64), w.constant([1], np.int64))
    score = w("Div", w("ReduceMax", first, axes=[1, 2, 3], keepdims=0), w.constant(255.0))
    values = raw({(32, 0, 0): (30, 30, 20, 20, 1, 1, 0)})
    w("Mul", w.constant(values), w("Reshape", score, w.constant([-1, 1, 1], np.int64)), outputs=("o",))
    graph = w.save(tmp_path / "blue.onnx", ("N", 3, 64, 64), {"o": ("N", 84, 7)})
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    frames[0, ..., 0] = frames[1, ..., 2] = 255
    assert [len(boxes) for boxes in detector(graph)(frames)] == [0, 1]
