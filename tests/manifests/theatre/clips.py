"""Capture files for tests, made here (no file of the package is copied), and what the tests of motions measure."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

needs_capture = pytest.mark.skipif(find_spec("pybullet_data") is None, reason="the extra `demo` is not installed")

BALLS = {
    "root": 4, "chest": 8, "neck": 12, "right_hip": 16, "right_ankle": 21, "right_shoulder": 25, "left_hip": 30,
    "left_ankle": 35, "left_shoulder": 39,
}  # fmt: skip
HINGES = {"right_knee": 20, "right_elbow": 29, "left_knee": 34, "left_elbow": 43}


def still(frames=3, seconds=0.1):
    """Return frames `[frames, 44]` of a figure that stands with hanging arms."""
    rows = np.zeros((frames, 44))
    rows[:-1, 0] = seconds
    rows[:, 2] = 0.8814
    rows[:, list(BALLS.values())] = 1.0
    return rows


def write(path: Path, frames, loop="none") -> Path:
    path.write_text(json.dumps({"Loop": loop, "Frames": np.asarray(frames).tolist()}))
    return path


def speeds(motion):
    """Return `[T - 1, 22]` rad/s."""
    before, after = motion.rotations[:-1].astype(float), motion.rotations[1:].astype(float)
    between = np.swapaxes(before, -1, -2) @ after
    turned = Rotation.from_matrix(between.reshape(-1, 3, 3)).magnitude()
    return turned.reshape(between.shape[:2]) * motion.fps
