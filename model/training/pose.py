"""The small pose estimator: trained on the figures of theatre, whose points are known exactly.

Every draw is a pure function of (seed, step), so that a killed training goes on exactly as it would have gone.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as nnf

from manifests.errors import UserError
from model.skeleton import BODY
from model.tiny_pose import CELLS, SIDE_PX, PoseSizes, TinyPose
from model.training.clips import Clips
from model.training.metrics import Metrics
from model.training.order import keyed
from model.training.pose_pictures import varied

_SPREAD = 0.8  # cells: deviation of the peak that a map should have
_STATE = "state.safetensors"


class PoseError(UserError):
    """A pose estimator cannot be trained so, or not go on from what lies in its folder."""


@dataclass(frozen=True)
class PoseConfig:
    """Sizes and training of the small pose estimator.

    Attributes:
        sizes: Of the network.
        steps: Of training.
        clips: Clips a step.
        frames: Frames of each.
        lr: Learning rate, reached after `warmup` steps; it falls as a cosine to zero at the last.
        warmup: Steps until then.
        weight_decay: Of AdamW.
        seed: Of weights and draws.
        precision: `fp32` or `bf16`.
    """

    sizes: PoseSizes = field(default_factory=PoseSizes)
    steps: int = 2000
    clips: int = 16
    frames: int = 4
    lr: float = 2e-3
    warmup: int = 50
    weight_decay: float = 0.01
    seed: int = 0
    precision: str = "bf16"

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        if min(self.steps, self.clips, self.frames, self.warmup) < 1 or self.lr <= 0:
            raise PoseError("pose: steps, clips, frames and warmup must be 1 or more, and lr above 0")
        if any(channels % 8 or channels < 8 for channels in self.sizes.channels):
            raise PoseError(f"pose.sizes.channels: {list(self.sizes.channels)} must be multiples of 8")
        if self.precision not in ("fp32", "bf16"):
            raise PoseError(f"pose.precision: is {self.precision!r}; it must be fp32 or bf16")


def train_pose(
    config: PoseConfig,
    clips: Clips,
    folder: Path,
    *,
    save_every: int = 250,
    on_step: Callable[[int, float], None] | None = None,
) -> TinyPose:
    """Train, or go on training, and return the estimator.

    Raises:
        PoseError: The loss is no number, or what lies in the folder was trained otherwise.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        pose = TinyPose(config.sizes)
    optimizer = torch.optim.AdamW(pose.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    with Metrics(folder, tensorboard=False) as metrics:
        step = _resume(folder, config, clips.digest, pose, optimizer)
        metrics.go_on_from(step)
        while step < config.steps:
            pictures, points = batch(config, clips, step)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, step)
            with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
                maps, seen = pose(pictures)
            loss = error(maps.float(), seen.float(), points)
            if not torch.isfinite(loss):
                raise PoseError(f"the loss of step {step + 1} is no number; what was saved before it stands: lower lr")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(pose.parameters(), 1.0)
            optimizer.step()
            step += 1
            if step % 20 == 0:
                metrics.write({"step": step, "loss": loss.item()})
            if step % save_every == 0 or step == config.steps:
                _save(folder, config, clips.digest, pose, optimizer, step)
            if on_step is not None:
                on_step(step, loss.item())
    return pose.eval()


def batch(config: PoseConfig, clips: Clips, step: int) -> tuple[Tensor, Tensor]:
    """Return the pictures `[B, 3, 64, 64]` of a step and their points `[B, 17, 3]`: x px, y px, whether it is seen."""
    rng = keyed(config.seed, "pose", step)
    pictures, points = [], []
    for number in rng.integers(len(clips), size=config.clips):
        clip = clips.clip(int(number))
        frames = rng.choice(len(clip.frames), size=min(config.frames, len(clip.frames)), replace=False)
        pictures.append(clip.frames[frames])
        points.append(clip.skeleton[frames, 0, BODY])
    stacked = torch.from_numpy(np.concatenate(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return varied(stacked, torch.from_numpy(np.concatenate(points)).float(), rng)


def error(maps: Tensor, seen: Tensor, points: Tensor) -> Tensor:
    """Return the cross entropy of the maps against a peak where each seen point is, and that of whether it is seen."""
    there = points[..., 2] > 0
    cells = torch.arange(CELLS, dtype=torch.float32)
    at = (points[..., :2] + 0.5) * (CELLS / SIDE_PX) - 0.5
    x, y = (-((cells - at[..., axis, None]) ** 2) / (2 * _SPREAD**2) for axis in (0, 1))
    wanted = (y[..., :, None] + x[..., None, :]).flatten(2).softmax(dim=2)
    crossed = -(wanted * maps.flatten(2).log_softmax(dim=2)).sum(dim=2)
    found = (crossed * there).sum() / there.sum().clamp_min(1)
    return found + nnf.binary_cross_entropy_with_logits(seen, there.float())


def learning_rate(config: PoseConfig, step: int) -> float:
    """Return the rate of step `step`, from 0."""
    risen = min(1.0, (step + 1) / config.warmup)
    return config.lr * risen * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def _told(config: PoseConfig, clips: str) -> dict[str, str]:
    return {"config": json.dumps(asdict(config), sort_keys=True), "clips": clips}


def _save(
    folder: Path, config: PoseConfig, clips: str, pose: TinyPose, optimizer: torch.optim.AdamW, step: int
) -> None:
    tensors = {f"pose.{name}": value.contiguous() for name, value in pose.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value.contiguous() for name, value in state.items()}
    part = folder / "state.tmp"
    save_file(tensors, part, metadata={"step": str(step), **_told(config, clips)})
    part.replace(folder / _STATE)


def _resume(folder: Path, config: PoseConfig, clips: str, pose: TinyPose, optimizer: torch.optim.AdamW) -> int:
    path = folder / _STATE
    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as stored:
        said = stored.metadata()
    if any(said.get(name) != value for name, value in _told(config, clips).items()):
        raise PoseError(f"{path} was trained with another config or other clips: use another folder, or remove it")
    tensors = load_file(path)
    pose.load_state_dict({name[5:]: value for name, value in tensors.items() if name.startswith("pose.")})
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, what = name.split(".")
            state.setdefault(int(number), {})[what] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(said["step"])
