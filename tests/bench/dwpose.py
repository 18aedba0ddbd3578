"""How fast `dwpose` is against rtmlib on the same graphs, and how much of its time is not onnxruntime's (CPU time).

The graphs are hand-made, with convolutions of random weights for ballast: about a fifth of the real ones' work, so that
the share outside is rather too large than too small. 64 frames of 720 x 1280 with two people, people looked for in
every frame by both, one thread.

python -m tests.bench.dwpose
"""

import contextlib
import io
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rtmlib import YOLOX, RTMPose

from model.skeleton import Pixels
from stages.skeleton import SkeletonConfig
from stages.skeleton_dwpose import DWPose
from tests.stages.onnx_graphs import detector_graph, draw_figure, pose_graph

ROUNDS = 3
FRAMES, HEIGHT, WIDTH = 64, 720, 1280
BROAD, TALL = 200, 480
BLOCK = 16  # frames handed to the adapter at once, as the stage does if people are looked for in every frame
BALLAST = 64  # channels


class Timed:
    """A session that counts the seconds it runs."""

    def __init__(self, session: Any) -> None:
        self.session, self.seconds = session, 0.0

    def run(self, *given: Any) -> Any:
        """Run the graph."""
        start = time.process_time()
        out = self.session.run(*given)
        self.seconds += time.process_time() - start
        return out

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)


def measure() -> list[dict[str, Any]]:
    """Return rows of name, value, unit, target and holds; ratios are medians of pairs measured one after the other."""
    os.environ["OMP_NUM_THREADS"] = "1"
    frames = _walk()
    with tempfile.TemporaryDirectory() as folder:
        detector = detector_graph(Path(folder, "yolox.onnx"), (BROAD / 2, TALL / 2), size=(640, 640), ballast=BALLAST)
        pose = pose_graph(Path(folder, "pose.onnx"), ballast=BALLAST)
        sees = DWPose(SkeletonConfig(adapter="dwpose", detector_weights=str(detector), pose_weights=str(pose)))
        with contextlib.redirect_stdout(io.StringIO()):  # it tells what it loads
            boxes, points = YOLOX(str(detector), (640, 640), score_thr=0.6), RTMPose(str(pose), (288, 384))
        # by itself it would take a thread a core
        boxes.session, points.session = sees._detector.graph.session, sees._pose.graph.session
        timed = [Timed(sees._detector.graph.session), Timed(sees._pose.graph.session)]
        sees._detector.graph.session, sees._pose.graph.session = timed
        ours, theirs, off = [], [], 0.0
        for _ in range(ROUNDS):
            start = time.process_time()
            mine = _ours(sees, frames)
            ours.append(time.process_time() - start)
            start = time.process_time()
            other = _theirs(boxes, points, frames)
            theirs.append(time.process_time() - start)
            off = max(off, float(np.abs(mine - other).max()))
    outside = 1 - sum(each.seconds for each in timed) / sum(ours)
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    return [
        _row("keypoints furthest from rtmlib's, 64 frames with two people", off, "px", "<=", 0.5),
        _row("frames a second, in times of rtmlib's", ratio, "ratio", ">=", 1.0),
        _row("time outside onnxruntime", outside, "share", "<=", 0.1),
        _row("the same a frame: a search and two people", 1000 * outside * sum(ours) / ROUNDS / FRAMES, "ms", "", None),
        _row("frames a CPU second on these graphs", FRAMES / statistics.median(ours), "1/s", "", None),
    ]


def _walk() -> Pixels:
    """Two figures that walk, far enough from each other for each to have a crop of its own."""
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    back = np.repeat((70 + 40 * np.sin(xs / 90) * np.cos(ys / 70))[..., None], 3, axis=2).astype(np.uint8)
    frames = np.repeat(back[None], FRAMES, axis=0)
    for t, frame in enumerate(frames):
        for x, y in ((150 + t, 60 + t), (900 - t, 180 - t)):
            draw_figure(frame, (x, y, x + BROAD, y + TALL))
    return frames


def _ours(sees: DWPose, frames: Pixels) -> np.ndarray:
    """Return the points of both people, from left to right, [frames, 2, 133, 2]."""
    out = []
    sees.reset()
    for start in range(0, len(frames), BLOCK):
        block = frames[start : start + BLOCK]
        found = sees.people(block)
        order = [sorted(range(len(boxes)), key=lambda i, boxes=boxes: boxes[i, 0]) for boxes in found]
        wanted = [{k: boxes[i, :4] for k, i in enumerate(which)} for boxes, which in zip(found, order, strict=True)]
        out += [[people[k][:, :2] for k in sorted(people)] for people in sees.keypoints(block, wanted)]
    return np.array(out)


def _theirs(boxes: YOLOX, points: RTMPose, frames: Pixels) -> np.ndarray:
    out = []
    for frame in frames:
        found = boxes(frame)
        places, _ = points(frame, found)
        out.append(places[np.argsort(found[:, 0])])
    return np.array(out)


def _row(name: str, value: float, unit: str, sign: str, target: float | None) -> dict[str, Any]:
    holds = None if target is None else (value <= target if sign == "<=" else value >= target)
    shown = "" if target is None else f"{sign} {target:g}"
    return {"name": name, "value": value, "unit": unit, "target": shown, "holds": holds}


if __name__ == "__main__":
    for each in measure():
        print(json.dumps(each))
