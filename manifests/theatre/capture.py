"""Captured motions: the `humanoid3d_*` clips that the package pybullet carries, retargeted to a motion's 22 joints.

The format is DeepMimic's (Peng et al. 2018): JSON with `Frames`, each of 44 numbers: seconds until the next frame; the
root's place (x, y, z m) and turn (w, x, y, z); then the local turns of chest, neck, right hip, right knee, right ankle,
right shoulder, right elbow, left hip, left knee, left ankle, left shoulder, left elbow: four numbers each, but for
knees and elbows one angle each, about z. Its figure looks along x, y is up, and its right is z; its arms hang at rest.

Nothing of the package is copied here or imported: only its folder is looked up.
"""

import importlib.util
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from manifests.errors import UserError
from manifests.theatre import grounding
from manifests.theatre import rotations as turn
from manifests.theatre.motion import JOINTS
from manifests.theatre.rotations import Quaternions, Vectors

CYCLIC: Final = "wrap"

# name here -> file under the package's data/motions, in which the last frame is the first one of the next round or not
CLIPS: Final = {
    "backflip": "humanoid3d_backflip.txt",
    "cartwheel": "humanoid3d_cartwheel.txt",
    "crawl": "humanoid3d_crawl.txt",
    "dance_a": "humanoid3d_dance_a.txt",
    "dance_b": "humanoid3d_dance_b.txt",
    "getup_facedown": "humanoid3d_getup_facedown.txt",
    "getup_faceup": "humanoid3d_getup_faceup.txt",
    "jump": "humanoid3d_jump.txt",
    "kick": "humanoid3d_kick.txt",
    "punch": "humanoid3d_punch.txt",
    "roll": "humanoid3d_roll.txt",
    "run": "humanoid3d_run.txt",
    "spin": "humanoid3d_spin.txt",
    "spinkick": "humanoid3d_spinkick.txt",
    "turn_left0": "walker/turn_left0.txt",
    "turn_left1": "walker/turn_left1.txt",
    "turn_right0": "walker/turn_right0.txt",
    "turn_right1": "walker/turn_right1.txt",
    "walk": "humanoid3d_walk.txt",
    "walk_forward": "walker/0walk_forward.txt",
}

_COLUMNS: Final = 44
# columns of the first number of each local turn; knees and elbows are one angle about z
_BALLS: Final = {
    "pelvis": 4, "chest": 8, "neck": 12, "right_hip": 16, "right_ankle": 21, "right_shoulder": 25, "left_hip": 30,
    "left_ankle": 35, "left_shoulder": 39,
}  # fmt: skip
_HINGES: Final = {"right_knee": 20, "right_elbow": 29, "left_knee": 34, "left_elbow": 43}

# the figure of the files, humanoid.urdf at a quarter: hip to knee and knee to ankle
_LEG_M: Final = (1.686184 + 1.639480) / 4

# from arms stretched out to arms hanging
_HANG: Final = {"left": turn.about(turn.Z, -np.pi / 2), "right": turn.about(turn.Z, np.pi / 2)}
_LENGTH_MIN: Final = 0.1  # the files average some quaternions without bringing them back to length one: 0.58 is met
_REST_CURL: Final = 0.25  # the files know no hands: relaxed ones


class CaptureError(UserError):
    """The capture clips are not installed, or a file of them is not what it should be."""


@dataclass(frozen=True)
class Clip:
    """Key frames of one motion, before it is cut, looped and resampled.

    Attributes:
        times_s: `[K]`, rising from 0.
        turns: `[K, 22, 4]` local quaternions in the order of `JOINTS`.
        translation: `[K, 3]` as in `Motion`, in leg lengths.
        curl: `[K, 2]` as in `Motion`.
        cyclic: Whether the last key frame is the first one of the next round.
    """

    times_s: Vectors
    turns: Quaternions
    translation: Vectors
    curl: Vectors
    cyclic: bool

    @property
    def seconds(self) -> float:
        return float(self.times_s[-1])


def folder() -> Path:
    """Return the folder of the clips.

    Raises:
        CaptureError: The package is not installed.
    """
    found = importlib.util.find_spec("pybullet_data")
    if found is None or found.origin is None:
        raise CaptureError(
            "captured motions come from the package pybullet, which is not installed: "
            "pip install pybullet==3.2.7 (extra `demo`), or use motions of our own, such as wave-042"
        )
    return Path(found.origin).parent / "data" / "motions"


@cache
def clip(name: str) -> Clip:
    """Return the clip of that name in `CLIPS`, retargeted; it is read once a process.

    Raises:
        CaptureError: The package is not installed, or its file cannot be read as a clip.
    """
    return read(folder() / CLIPS[name])


def read(path: Path) -> Clip:
    """Read one file of the format above and retarget it.

    Raises:
        CaptureError: The file is missing or is no clip.
    """
    frames, cyclic = _frames(path)
    times = np.concatenate([[0.0], np.cumsum(frames[:-1, 0])])
    moving = _moving(frames)
    turns = np.stack([moving[joint] if joint in moving else _still(len(frames)) for joint in JOINTS], axis=1)
    moved = _axes(frames[:, 1:4]) / _LEG_M
    moved[:, 1] = grounding.carried(turns, moved[:, 1])
    return Clip(times, turns, moved, np.full((len(frames), 2), _REST_CURL), cyclic)


def _frames(path: Path) -> tuple[Vectors, bool]:
    """Return the frames `[K, 44]` of a file, checked, and whether it is cyclic."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        frames = np.array(content["Frames"], np.float64)
        cyclic = content.get("Loop") == CYCLIC
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CaptureError(
            f"{path} is no capture clip ({type(error).__name__}: {error}); wanted JSON with Frames of {_COLUMNS} "
            "numbers each: install pybullet==3.2.7 anew"
        ) from None
    fault = _fault(frames)
    if fault:
        raise CaptureError(f"{path} is no capture clip: {fault}; install pybullet==3.2.7 anew")
    return frames, cyclic


def _fault(frames: Vectors) -> str:
    if frames.ndim != 2 or frames.shape[1] != _COLUMNS or len(frames) < 2:
        return f"its frames have shape {list(frames.shape)}, wanted [2 or more, {_COLUMNS}]"
    if not np.isfinite(frames).all():
        return f"frame {int(np.argmin(np.isfinite(frames).all(axis=1)))} holds a number that is not finite"
    if (frames[:-1, 0] <= 0).any():
        return f"frame {int(np.argmax(frames[:-1, 0] <= 0))} lasts no time"
    for joint, column in _BALLS.items():
        short = np.linalg.norm(frames[:, column : column + 4], axis=1) < _LENGTH_MIN
        if short.any():
            return f"the quaternion of {joint} in frame {int(np.argmax(short))} has no direction"
    return ""


def _axes(vectors: Vectors) -> Vectors:
    """Turn the file's axes into ours: its forward x is our z, its right z is our -x."""
    return np.stack([-vectors[..., 2], vectors[..., 1], vectors[..., 0]], axis=-1)


def _still(frames: int) -> Quaternions:
    return np.tile([1.0, 0.0, 0.0, 0.0], (frames, 1))


def _moving(frames: Vectors) -> dict[str, Quaternions]:
    """Return the local turns of the joints that move, in our axes and from our rest pose.

    The file's one chest is our three vertebrae, each a third of the turn; its neck is our neck and head, a half each.
    Our arm rests stretched out where the file's hangs: with H the turn from stretched to hanging, the same arm in the
    world is R H at the shoulder, and H* R H at the elbow.
    """
    found = {}
    for joint, column in _BALLS.items():
        wxyz = turn.unit(frames[:, column : column + 4])
        found[joint] = np.concatenate([wxyz[:, :1], _axes(wxyz[:, 1:])], axis=1)
    for joint, column in _HINGES.items():
        found[joint] = turn.about(_axes(turn.Z), frames[:, column])
    for side, hang in _HANG.items():
        elbow = found[f"{side}_elbow"]
        found[f"{side}_shoulder"] = turn.multiply(found[f"{side}_shoulder"], hang)
        found[f"{side}_elbow"] = turn.multiply(turn.inverse(hang), turn.multiply(elbow, hang))
    found |= dict.fromkeys(("spine1", "spine2", "spine3"), turn.share(found.pop("chest"), 1 / 3))
    found |= dict.fromkeys(("neck", "head"), turn.share(found["neck"], 1 / 2))
    return found
