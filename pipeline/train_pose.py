"""The small pose estimator: trained on theatre, measured on figures it has never seen, and accepted or not."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydantic import BaseModel, ConfigDict, Field

from model.geometry import Geometry
from model.skeleton import BODY, LIMBS
from model.tiny_pose import SIDE_PX, TinyPose, points_of
from model.training.clips import KeptClips
from model.training.pose import PoseConfig, train_pose
from model.training.reconstruct import interval
from model.training.theatre_clips import Split, World
from pipeline.strict_yaml import read, validate
from pipeline.train import Share, fill_shelf
from pipeline.train_config import Size, VaeData


class PoseRun(BaseModel):
    """One training of the small pose estimator."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path = Field(description="takes clips, the state of training, and the estimator")
    accept: float = Field(0.8, ge=0, le=1, description="least share of held-out points within 0.2 trunks")
    size: Size = Size()
    fps: int = Field(12, ge=1)
    prefix_frames: int = Field(4, ge=0)
    data: VaeData
    pose: PoseConfig = PoseConfig()


HINT = "pipeline/configs/pose.yaml is one to start from"
_EVERY = 4  # frames of a held-out clip
_ON_SHEET, _LARGE = 24, 4


def load(path: Path, sets: Sequence[str]) -> PoseRun:
    """Read and check the YAML of a pose estimator's training.

    Raises:
        ConfigError: One line for each mistake.
    """
    run: PoseRun = validate(PoseRun, read(path, sets, HINT), f"{path}: ")
    return run


@dataclass(frozen=True)
class Verdict:
    """How a trained estimator did on held-out clips, and whether that is enough.

    Attributes:
        near: Share of a clip's seen points that are found within 0.2 trunks, one number a clip.
        error_px: Median distance of its points, px of 64, one number a clip.
        accept: Least mean of `near`.
    """

    near: NDArray[np.float64]
    error_px: NDArray[np.float64]
    accept: float

    @property
    def accepted(self) -> bool:
        """Whether it is enough."""
        return bool(self.near.mean() >= self.accept)

    def as_json(self) -> dict[str, Any]:
        """Return the means, the interval and the verdict."""
        low, high = interval(self.near)
        return {
            "accepted": self.accepted, "wanted": self.accept, "clips": len(self.near),
            "pck_trunk_0.2": round(float(self.near.mean()), 3), "interval": [round(low, 3), round(high, 3)],
            "median_error_px": round(float(np.median(self.error_px)), 2),
        }  # fmt: skip


class PoseTraining:
    """A config with its data."""

    def __init__(self, run: PoseRun) -> None:
        self.run = run
        self.geometry = Geometry(run.size.height_px, run.size.width_px, run.size.frames, run.prefix_frames, run.fps)
        self.train = self._kept(run.data.worlds, "train")
        self.held_out = self._kept(run.data.held_out, "held_out")

    def _kept(self, worlds: tuple[World, ...], split: Split) -> KeptClips:
        return KeptClips(self.run.data.clips(self.geometry, worlds, split), self.run.folder / "clips")

    def prepare(self, share: Share) -> None:
        """Render what is missing."""
        for kept in (self.held_out, self.train):
            fill_shelf(kept.shelf, kept.make, "render clips", share)

    def start(self, on_step: Callable[[int, float], None] | None = None) -> Verdict:
        """Train, or go on training; write the estimator to `pose/`, figures and a sheet beside it."""
        self.prepare(Share())
        folder = self.run.folder
        train_pose(self.run.pose, self.train, folder / "training", on_step=on_step).save(folder / "pose")
        return self.measure(TinyPose.load(folder / "pose"))  # what is written is what is measured

    @torch.no_grad()
    def measure(self, pose: TinyPose) -> Verdict:
        """Measure an estimator on the held-out clips."""
        near, error_px, tiles = [], [], []
        for number in range(len(self.held_out)):
            clip = self.held_out.clip(number)
            frames, truth = clip.frames[::_EVERY], clip.skeleton[::_EVERY, 0, BODY]
            pictures = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
            small = torch.nn.functional.interpolate(pictures, size=(SIDE_PX, SIDE_PX), mode="bilinear")
            found = points_of(*pose(small)).numpy() * [frames.shape[2] / SIDE_PX, frames.shape[1] / SIDE_PX, 1]
            apart, there = np.linalg.norm((found - truth)[..., :2], axis=-1), truth[..., 2] > 0
            trunk = np.linalg.norm(truth[:, [5, 6], :2].mean(1) - truth[:, [11, 12], :2].mean(1), axis=-1)
            if there.any():
                near.append(float((apart < 0.2 * trunk[:, None])[there].mean()))
                error_px.append(float(np.median(apart[there])))
            tiles.append(_drawn(frames[len(frames) // 2], found[len(frames) // 2]))
        verdict = Verdict(np.array(near), np.array(error_px), self.run.accept)
        told = verdict.as_json() | {"pck": near, "error_px": error_px}
        (self.run.folder / "measured.json").write_text(json.dumps(told, indent=2) + "\n")
        _sheet(tiles[:: max(1, len(tiles) // _ON_SHEET)][:_ON_SHEET]).save(self.run.folder / "sheet.png")
        return verdict


def _drawn(frame: NDArray[np.uint8], points: NDArray[Any]) -> Image.Image:
    """Return a frame, larger, with the limbs whose ends have a score of 0.3 or more."""
    size = (frame.shape[1] * _LARGE, frame.shape[0] * _LARGE)
    picture = Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for one, other in LIMBS:
        if min(points[one, 2], points[other, 2]) >= 0.3:
            pen.line([tuple((points[end, :2] + 0.5) * _LARGE) for end in (one, other)], (0, 255, 0), 2)
    return picture


def _sheet(tiles: Sequence[Image.Image], columns: int = 6) -> Image.Image:
    width, height = tiles[0].size
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height))
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % columns * width, number // columns * height))
    return sheet
