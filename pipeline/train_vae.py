"""The small VAE: trained, measured on figures it has never seen, and accepted or not."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file
from torch import Tensor

from model import weights
from model.composite import left, right
from model.geometry import Geometry
from model.tiles import cut, join
from model.training.clips import KeptClips
from model.training.examples import Augment, example
from model.training.reconstruct import Reconstruction, interval, reconstruction
from model.training.samples import sheet
from model.training.theatre_clips import Split, World
from model.training.vae import train_vae
from model.training.vae_config import check
from pipeline.strict_yaml import read, validate
from pipeline.train import Share, fill_shelf
from pipeline.train_config import VaeRun

HINT = "pipeline/configs/vae.yaml is one to start from"
_ON_SHEET = 6


def load(path: Path, sets: Sequence[str]) -> VaeRun:
    """Read and check the YAML of a VAE's training.

    Raises:
        ConfigError: One line for each mistake.
    """
    run: VaeRun = validate(VaeRun, read(path, sets, HINT), f"{path}: ")
    return run


@dataclass(frozen=True)
class Verdict:
    """How a trained VAE did on held-out clips, and whether that is enough."""

    measured: Reconstruction
    accept_db: float

    @property
    def accepted(self) -> bool:
        """Whether the mean PSNR inside figures reaches `accept_db`."""
        return bool(np.nanmean(self.measured.figure_db) >= self.accept_db)

    def as_json(self) -> dict[str, Any]:
        """Return the means, the interval and the verdict."""
        low, high = interval(self.measured.figure_db)
        return {
            "accepted": self.accepted, "wanted_db": self.accept_db, "clips": len(self.measured.figure_db),
            "figure_db_mean": _db(np.nanmean(self.measured.figure_db)), "figure_db_interval": [_db(low), _db(high)],
            "whole_db_mean": _db(np.nanmean(self.measured.whole_db)),
        }  # fmt: skip


def _db(value: float | np.floating[Any]) -> float | None:
    """Return a number as JSON has it: NaN (a clip without a figure) and infinity are none."""
    return round(float(value), 3) if math.isfinite(value) else None


class VaeTraining:
    """A config with its data."""

    def __init__(self, run: VaeRun) -> None:
        size = run.size
        self.run = run
        self.geometry = Geometry(size.height_px, size.width_px, size.frames, run.prefix_frames, run.fps)
        check(run.vae, self.geometry)
        self.train = self._kept(run.data.worlds, "train")
        self.held_out = self._kept(run.data.held_out, "held_out")

    def _kept(self, worlds: tuple[World, ...], split: Split) -> KeptClips:
        return KeptClips(self.run.data.clips(self.geometry, worlds, split), self.run.folder / "clips")

    def prepare(self, share: Share) -> None:
        """Render what is missing."""
        for kept in (self.held_out, self.train):
            fill_shelf(kept.shelf, kept.make, "render clips", share)

    def start(self, on_step: Callable[[int, float], None] | None = None) -> Verdict:
        """Train, or go on training; write the VAE to `vae/`, figures and a sheet beside it, and return the verdict."""
        self.prepare(Share())
        run = self.run
        vae = train_vae(run.vae, self.train, self.geometry, run.folder / "training", on_step=on_step)
        vae.load_state_dict({name: value.half().float() for name, value in vae.state_dict().items()})
        return self.measure(vae)  # what is written is what is measured

    def measure(self, vae: AutoencoderKLWan) -> Verdict:
        """Write the VAE and measure it."""

        def through(video: Tensor) -> Tensor:
            tiles = cut(video, self.run.vae.crop_px)
            return join(vae.decode(vae.encode(tiles).latent_dist.mode()).sample, len(video), video.shape[4])

        folder = self.run.folder
        vae.save_config(folder / "vae")
        half = {name: value.half().contiguous() for name, value in vae.state_dict().items()}
        save_file(half, folder / "vae" / weights.WEIGHTS, metadata={"format": "pt"})
        numbers = range(len(self.held_out))
        measured = reconstruction(through, self.held_out, self.geometry, numbers)
        verdict = Verdict(measured, self.run.accept_db)
        told = verdict.as_json() | {
            "figure_db": [_db(db) for db in measured.figure_db],
            "whole_db": [_db(db) for db in measured.whole_db],
        }
        (folder / "measured.json").write_text(json.dumps(told, indent=2) + "\n")
        self._sheet(through, list(numbers)[:: max(1, len(numbers) // _ON_SHEET)][:_ON_SHEET])
        return verdict

    @torch.no_grad()
    def _sheet(self, through: Callable[[Tensor], Tensor], numbers: list[int]) -> None:
        plain = Augment(bone_share=0.0, drop_driving=0.0, drop_reference=0.0)
        clips = [self.held_out.clip(n) for n in numbers]
        wanted = torch.cat([example(clip, self.geometry, plain, np.random.default_rng(0)).wanted for clip in clips])
        got = through(wanted)
        sheet([left(wanted), left(got), right(wanted), right(got)], self.geometry).save(self.run.folder / "sheet.png")
