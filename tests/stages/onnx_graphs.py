"""Hand-made ONNX graphs that truly see, and the figures that they see.

A figure is a grey body with six spots of pure colour and a white one in its middle. The graph of points says where each
colour is strongest: point k of the 133 lies in the spot of colour k % 6. The detector says where white is, and gives
the box of a figure's size around it, in the raw form of YOLOX or decoded. So every answer is known from the drawing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from model.skeleton import Pixels

POINTS = 133
# in R, G, B: each spot is found by how far the channels that it has stand out from those that it has not
COLOURS = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1))
SPOTS = np.array([(0.5, 0.04), (0.2, 0.3), (0.85, 0.25), (0.1, 0.6), (0.3, 0.95), (0.75, 0.9)])  # shares of the box
MEAN, SPREAD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
STRIDES = (8, 16, 32)


def draw_figure(frame: Pixels, box: Sequence[float], grey: int = 90) -> NDArray[np.float32]:
    """Draw a figure into x0, y0, x1, y1 px; return its spots [6, 2] px."""
    x0, y0, x1, y1 = box
    body = (slice(max(round(y0), 0), max(round(y1), 0)), slice(max(round(x0), 0), max(round(x1), 0)))
    frame[body] = grey
    spots = np.round(np.array([x0, y0]) + SPOTS * (x1 - x0, y1 - y0))  # brightest at a whole pixel
    size = (y1 - y0) / 40
    middle = np.array([[(x0 + x1) / 2, (y0 + y1) / 2]])
    ys, xs = np.mgrid[: frame.shape[0], : frame.shape[1]]
    for (x, y), colour in zip(np.concatenate([spots, middle]), [*COLOURS, (1, 1, 1)], strict=True):
        near = (
            slice(max(int(y - 4 * size), 0), int(y + 4 * size) + 1),
            slice(max(int(x - 4 * size), 0), int(x + 4 * size) + 1),
        )
        share = np.exp(-((xs[near] - x) ** 2 + (ys[near] - y) ** 2) / (2 * size**2))[..., None]
        frame[near] = np.round(frame[near] * (1 - share) + 255 * share * np.array(colour)).astype(np.uint8)
    return spots.astype(np.float32)


class Writer:
    """Nodes and constants on their way to a graph."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any, kind: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def __call__(self, op: str, *inputs: str, outputs: Sequence[str] = (), **attributes: Any) -> str:
        names = list(outputs) or [f"n{len(self.nodes)}"]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names[0]

    def save(
        self, path: Path, shape: Sequence[Any], outputs: dict[str, Sequence[Any]], kinds: Sequence[int] = ()
    ) -> Path:
        given = [helper.make_tensor_value_info("input", TensorProto.FLOAT, list(shape))]
        kinds = kinds or [TensorProto.FLOAT] * len(outputs)
        made = [helper.make_tensor_value_info(n, k, list(s)) for (n, s), k in zip(outputs.items(), kinds, strict=True)]
        graph = helper.make_graph(self.nodes, "hand_made", given, made, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)
        return path


def pose_graph(
    path: Path, batch: int | str = "N", points: int = POINTS, size: tuple[int, int] = (384, 288), ballast: int = 0
) -> Path:
    """Write SimCC's graph for inputs [batch, 3, H, W] normalised as RGB."""
    (height, width), w = size, Writer()
    pixels = w("Add", w("Mul", "input", w.constant(SPREAD.reshape(1, 3, 1, 1))), w.constant(MEAN.reshape(1, 3, 1, 1)))
    w("Split", pixels, w.constant([1, 1, 1], np.int64), outputs=("r", "g", "b"), axis=1)
    stronger = []
    for colour in COLOURS:
        has = [name for name, share in zip("rgb", colour, strict=True) if share]
        lacks = [name for name, share in zip("rgb", colour, strict=True) if not share]
        stronger.append(w("Relu", w("Sub", w("Min", *has), w("Max", *lacks))))
    likely = w("Div", w("Concat", *stronger, axis=1), w.constant(255.0))
    if ballast:
        likely = w("Add", likely, _ballast(w, ballast))
    outputs = {}
    for name, axis, length in (("simcc_x", 2, width), ("simcc_y", 3, height)):
        line = w("ReduceMax", likely, axes=[axis], keepdims=0)
        # smoothed, so that a peak of rounded grey values has one highest place
        window = np.exp(-(np.arange(-15, 16) ** 2) / (2 * 5**2))
        smooth = w.constant(np.tile(window / window.sum(), (len(COLOURS), 1, 1)))
        line = w("Conv", line, smooth, group=len(COLOURS), pads=[15, 15])
        # two steps a pixel: pixel i at step 2 i, between two pixels their mean
        kernel = w.constant(np.tile([0.5, 1, 0.5], (len(COLOURS), 1, 1)))
        steps = w("ConvTranspose", line, kernel, group=len(COLOURS), strides=[2], pads=[1, 0])
        w("Gather", steps, w.constant(np.arange(points) % len(COLOURS), np.int64), outputs=(name,), axis=1)
        outputs[name] = (batch, points, 2 * length)
    return w.save(path, (batch, 3, height, width), outputs)


def detector_graph(
    path: Path, figure: tuple[float, float], batch: int | str = "N", size: tuple[int, int] = (160, 160),
    decoded: bool = False, ballast: int = 0,
) -> Path:  # fmt: skip
    """Write YOLOX's graph for figures of width x height px of the input; whiteness 200 to 255 is a score of 0 to 1."""
    (height, width), w = size, Writer()
    white = w("ReduceMin", "input", axes=[1], keepdims=1)
    score = w("Relu", w("Div", w("Sub", white, w.constant(200.0)), w.constant(55.0)))
    if ballast:
        score = w("Add", score, _ballast(w, ballast))
    flat = w.constant([0, 1, -1], np.int64)
    objects, cells = [], []
    for stride in STRIDES:
        best = w("Reshape", w("MaxPool", score, kernel_shape=[stride] * 2, strides=[stride] * 2), flat)
        objects.append(best if stride == STRIDES[0] else w("Mul", best, w.constant(0.0)))
        rows, columns = np.mgrid[: height // stride, : width // stride]
        at = np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5
        sides = np.full_like(at, 1) * figure
        cells.append(np.concatenate([at * stride, sides] if decoded else [at % 1, np.log(sides / stride)], axis=1))
    known = np.concatenate(cells)[None]
    found = w("Transpose", w("Concat", *objects, axis=2), perm=[0, 2, 1])
    rest = w("Mul", found, w.constant(0.0))
    box = w("Add", w("Concat", *[rest] * 4, axis=2), w.constant(known))
    person = w("Add", rest, w.constant(1.0))
    w("Concat", box, found, person, rest, outputs=("output",), axis=2)
    return w.save(path, (batch, 3, height, width), {"output": (batch, known.shape[1], 7)})


def fixed_graph(path: Path, values: dict[str, NDArray[Any]], size: tuple[int, int], batch: int | str = 1) -> Path:
    """Write a graph that gives the same arrays [1, ...] whatever it is shown; a row for each picture."""
    w = Writer()
    nothing = w("Mul", w("ReduceMean", "input", axes=[1, 2, 3], keepdims=0), w.constant(0.0))  # [N]
    for name, value in values.items():
        shape = w.constant([-1, *[1] * (value.ndim - 1)], np.int64)
        zeros = w("Cast", w("Reshape", nothing, shape), to=helper.np_dtype_to_tensor_dtype(value.dtype))
        w("Add", zeros, w.constant(value, value.dtype), outputs=(name,))
    kinds = [helper.np_dtype_to_tensor_dtype(value.dtype) for value in values.values()]
    shapes = {name: (batch, *value.shape[1:]) for name, value in values.items()}
    return w.save(path, (batch, 3, *size), shapes, kinds)


def _ballast(w: Writer, channels: int) -> str:
    """Add convolutions with random weights, of which next to nothing reaches the result [N, 1, 1, 1]."""
    rng = np.random.default_rng(7)
    seen = w("Div", "input", w.constant(255.0))
    for before, after, stride in ((3, channels, 4), *[(channels, channels, 1)] * 4, (channels, channels, 2)):
        weights = rng.normal(0, (2 / (9 * before)) ** 0.5, (after, before, 3, 3))
        seen = w("Relu", w("Conv", seen, w.constant(weights), strides=[stride] * 2, pads=[1] * 4))
    mean = w("ReduceMean", seen, axes=[1, 2, 3], keepdims=1)
    return w("Mul", mean, w.constant(1e-9))
