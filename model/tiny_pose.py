"""A small pose estimator for small pictures of one figure: 64 x 64 px to the 17 body points of COCO.

MediaPipe and DWPose were made for people of a hundred pixels and more: of what the embedded teacher draws they see
nobody in nine frames of ten, so that nothing could be measured on it. This one is trained on theatre, and knows nothing
else. A network of the U shape (Ronneberger et al. 2015) gives each point a map of 32 x 32 cells; the point lies at the
mean of the map around its peak (as Nibali et al. 2018, in a window), and its score is the share of the map that lies
there, times the estimated chance that the point is in the picture.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as nnf

from model import weights
from model.skeleton import BODY

SIDE_PX: Final = 64
CELLS: Final = 32
JOINTS: Final = BODY.stop
CONFIG, STATE = "config.json", "model.safetensors"
_REACH: Final = 2  # cells around the peak


@dataclass(frozen=True)
class PoseSizes:
    """Channels at 32, 16 and 8 cells a side, and residual blocks at each."""

    channels: tuple[int, int, int] = (16, 32, 96)
    blocks: int = 2


class TinyPose(nn.Module):
    """Pictures `[B, 3, 64, 64]` in [-1, 1] to maps `[B, 17, 32, 32]` and chances of being seen `[B, 17]`, as logits."""

    def __init__(self, sizes: PoseSizes) -> None:
        super().__init__()
        self.sizes = sizes
        fine, middle, coarse = sizes.channels
        self.stem = nn.Conv2d(3, fine, 4, stride=2, padding=1)
        self.down = nn.ModuleList([nn.Conv2d(fine, middle, 4, 2, 1), nn.Conv2d(middle, coarse, 4, 2, 1)])
        self.before = nn.ModuleList([_blocks(each, sizes.blocks) for each in sizes.channels])
        self.up = nn.ModuleList([nn.Conv2d(coarse, middle, 1), nn.Conv2d(middle, fine, 1)])
        self.after = nn.ModuleList([_blocks(middle, sizes.blocks), _blocks(fine, sizes.blocks)])
        self.maps = nn.Conv2d(fine, JOINTS, 1)
        self.seen = nn.Linear(coarse, JOINTS)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return maps and chances."""
        fine = self.before[0](self.stem(pictures))
        middle = self.before[1](self.down[0](fine))
        coarse = self.before[2](self.down[1](middle))
        middle = self.after[0](middle + nnf.interpolate(self.up[0](coarse), scale_factor=2.0))
        fine = self.after[1](fine + nnf.interpolate(self.up[1](middle), scale_factor=2.0))
        return self.maps(fine), self.seen(coarse.amax(dim=(2, 3)))

    def save(self, folder: Path) -> None:
        """Write config and weights, in half precision."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text(json.dumps({"kind": "TinyPose", **asdict(self.sizes)}, indent=2) + "\n")
        half = {name: value.half().contiguous() for name, value in self.state_dict().items()}
        save_file(half, folder / STATE, metadata={"format": "pt"})

    @classmethod
    def load(cls, folder: Path) -> "TinyPose":
        """Return the estimator of a folder, in float32.

        Raises:
            UserError: the folder does not hold one.
        """
        told = weights.read_json(folder / CONFIG)
        if told.pop("kind", None) != "TinyPose" or not (folder / STATE).is_file():
            raise weights.WeightsError(f"{folder} holds no small pose estimator ({CONFIG}, {STATE})")
        pose = cls(PoseSizes(tuple(told["channels"]), told["blocks"]))
        pose.load_state_dict({name: value.float() for name, value in load_file(folder / STATE).items()})
        return pose.eval()


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_Block(channels) for _ in range(count)))


class _Block(nn.Module):
    """Two convolutions beside a shortcut; it begins as nothing but the shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.one = nn.Conv2d(channels, channels, 3, padding=1)
        self.two = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.two.weight)

    def forward(self, given: Tensor) -> Tensor:
        made: Tensor = self.two(nnf.silu(self.one(nnf.silu(self.norm(given)))))
        return given + made


def points_of(maps: Tensor, seen: Tensor) -> Tensor:
    """Return points `[B, 17, 3]`: x px, y px of the picture of 64 px, score 0..1, of what a `TinyPose` gives."""
    batch, joints = maps.shape[:2]
    share = maps.flatten(2).softmax(dim=2).reshape(batch, joints, CELLS, CELLS)
    peak = share.flatten(2).argmax(dim=2)
    rows = torch.arange(CELLS, device=maps.device)
    near_y = (rows - (peak // CELLS)[..., None]).abs() <= _REACH
    near_x = (rows - (peak % CELLS)[..., None]).abs() <= _REACH
    window = share * near_y[..., :, None] * near_x[..., None, :]
    mass = window.sum(dim=(2, 3)).clamp_min(1e-9)
    middles = (rows + 0.5) * (SIDE_PX / CELLS) - 0.5  # px of the middle of each cell
    x, y = (window.sum(dim=2) * middles).sum(-1) / mass, (window.sum(dim=3) * middles).sum(-1) / mass
    return torch.stack([x, y, mass * seen.sigmoid()], dim=-1)
