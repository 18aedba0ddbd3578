"""What a training's YAML may say: the model, its size, its data, and how long.

Fields that a room of `model` owns are that room's own frozen dataclasses, so that nothing is said twice.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from model.composite import blank_value
from model.geometry import Geometry, Placement
from model.tiny import TinyTransformer
from model.training.config import TrainConfig
from model.training.driving_video import DrivingAugment
from model.training.examples import Augment
from model.training.shard_samples import CutPlace
from model.training.theatre_clips import Split, TheatreClips, World
from model.training.vae_config import VaeConfig
from pipeline.strict_yaml import read, validate

HINT = "pipeline/configs/teacher.yaml and stage_two.yaml are there to start from"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Text(_Strict):
    """Sizes of a fresh small text encoder, which learns with the transformer."""

    dim: int = Field(default=128, ge=1)
    length: int = Field(default=40, ge=1)
    words: int = Field(default=4096, ge=2)


class Fresh(_Strict):
    """A tiny backbone with random weights around a trained VAE."""

    vae: Path = Field(description="folder of the VAE, the one that holds config.json")
    tile_px: int = Field(32, ge=0, description="side of the tiles in which the VAE works: crop_px of its training")
    transformer: TinyTransformer = TinyTransformer()
    text: Text = Text()
    shift: float = Field(1.0, gt=0, description="of sigma, in sampling, and in training if training.sigma has none")
    placement: Placement = Field("aligned", description="of the driving skeleton: fitted (the paper) or aligned (ours)")
    latent_power: float = Field(
        0.0, ge=0, le=1, description="how far a latent channel's variance follows what it shows in pixels; 0: all alike"
    )
    seed: int = 0


class BackboneChoice(_Strict):
    """Which base: weights that there are, or fresh ones."""

    name: str = Field("tiny", description="tiny, wan-i2v, or my_package.mine:Backbone")
    weights: str | None = Field(None, description="folder in diffusers' layout, or hub id")
    loras: tuple[str, ...] = Field(
        (), description="files or folders of LoRAs of an earlier stage, laid over the weights"
    )
    dtype: Literal["fp32", "bf16"] = Field(default="fp32", description="of the base's weights; bf16 for a frozen one")
    fresh: Fresh | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "BackboneChoice":
        if (self.weights is None) == (self.fresh is None):
            raise ValueError("give either weights (a folder or a hub id) or fresh (sizes of a new tiny one)")
        if self.fresh is not None and self.name != "tiny":
            raise ValueError("only the backbone tiny can be made fresh")
        if self.fresh is not None and self.loras:
            raise ValueError("loras go with weights: a fresh backbone has none of an earlier stage")
        return self


class Size(_Strict):
    """Size of a clip; the width is that of one half of the composite."""

    height_px: int = Field(default=64, ge=8)
    width_px: int = Field(default=64, ge=8)
    frames: int = Field(default=21, ge=5)


class Theatre(_Strict):
    """Clips of the synthetic world."""

    seed: int = 0
    people: int = Field(2, ge=1, description="most figures in a clip")

    @model_validator(mode="after")
    def _playable(self) -> "Theatre":
        for world in self._worlds():
            if world.count < 1 or not 0 <= world.creature_share <= 1:
                raise ValueError(
                    f"the world {world.name} has count {world.count} and creature_share {world.creature_share}; wanted "
                    "1 or more, and a number from 0 to 1"
                )
            if world.name == "two" and self.people < 2:
                raise ValueError(f"people is {self.people}, and the world two shows two figures: set it to 2")
        return self

    def _worlds(self) -> tuple[World, ...]:
        return ()

    def clips(self, geometry: Geometry, worlds: tuple[World, ...], split: Split) -> TheatreClips:
        """Return the clips of these worlds."""
        return TheatreClips(geometry, worlds, split, self.seed, self.people)


class Phase(_Strict):
    """What is learned from a step on."""

    from_step: int = Field(0, ge=0)
    worlds: tuple[World, ...] = Field(min_length=1)


class Data(Theatre):
    """Which clips of theatre are learned from, and how examples are made of them."""

    variants: int = Field(1, ge=1, description="examples of each clip, with other augmentations (K)")
    phases: tuple[Phase, ...] = Field(min_length=1)
    held_out: tuple[World, ...] = Field(min_length=1)
    augment: Augment = Augment()

    @field_validator("augment")
    @classmethod
    def _drawable(cls, augment: Augment) -> Augment:
        return _usable(augment)

    def _worlds(self) -> tuple[World, ...]:
        return (*(world for phase in self.phases for world in phase.worlds), *self.held_out)


class ShardData(_Strict):
    """Cuts of shards, and how examples are made of their samples."""

    cuts: tuple[CutPlace, ...] = Field(min_length=1, description="root (a folder or URL) and cut of each")
    held_out: tuple[CutPlace, ...] = Field(
        (), description="cuts to validate on; if none, a share of the sources of cuts"
    )
    held_out_share: float = Field(0.05, ge=0, lt=1, description="share of sources that is held out, by their ids")
    seed: int = Field(0, description="of windows, augmentations and substitutes")
    forward_share: float = Field(
        0.05, ge=0, le=1, description="share of positions with forward samples, where raw video drives"
    )
    reference_frame: Literal["first", "other"] = Field(
        "first", description="of the target's window, or another of the film; where raw video drives"
    )
    encode: Literal["cached", "each_step"] = Field(
        "cached", description="latents once on a shelf (small runs), or in each step"
    )
    variants: int = Field(1, ge=1, description="epochs that are encoded where latents are kept (K)")
    shards_at_once: int = Field(
        0, ge=0, description="shards of a kind that are mixed, where a cut on S3 is larger than the cache; 0: all"
    )
    workers: int = Field(0, ge=0, le=256, description="processes that decode ahead where each step encodes; 0: none")
    broken_limit: float = Field(0.01, ge=0, le=1, description="share of samples that may be broken")
    augment: Augment = Augment()
    driving: DrivingAugment = Field(DrivingAugment(), description="how raw driving video is varied")

    @field_validator("augment")
    @classmethod
    def _drawable(cls, augment: Augment) -> Augment:
        return _usable(augment)

    @model_validator(mode="after")
    def _fitting(self) -> "ShardData":
        if self.workers and self.encode == "cached":
            raise ValueError(f"workers is {self.workers}, and latents are kept (encode: cached): use encode: each_step")
        if self.variants > 1 and self.encode == "each_step":
            raise ValueError(f"variants is {self.variants}, and each step encodes anew: use encode: cached")
        return self


def _usable(augment: Augment) -> Augment:
    for name in ("bone_share", "drop_driving", "drop_reference", "nudge_share", "nudge_shift"):
        if not 0 <= getattr(augment, name) <= 1:
            raise ValueError(f"{name} is {getattr(augment, name)}; it must be a share, from 0 to 1")
    if not 0 < augment.bone_low <= augment.bone_high:
        raise ValueError(
            f"bones are scaled from {augment.bone_low} to {augment.bone_high}; wanted 0 < bone_low <= bone_high"
        )
    if augment.nudge_scale < 1:
        raise ValueError(f"nudge_scale is {augment.nudge_scale}; it must be 1 or more: a factor either way")
    blank_value(augment.blank)
    return augment


class Samples(_Strict):
    """The sheets that are drawn while training (`training.sample_every`)."""

    count: int = Field(default=6, ge=1, description="held-out clips on a sheet")
    steps: int = Field(default=12, ge=1, description="of the sampler")


class TrainingRun(_Strict):
    """One training of a backbone on theatre."""

    folder: Path = Field(description="takes clips, latents, checkpoints, metrics and sheets")
    strategy: Literal["pose_driven"] = "pose_driven"
    backbone: BackboneChoice
    size: Size = Size()
    data: Data
    samples: Samples = Samples()
    training: TrainConfig


class ShardRun(_Strict):
    """One training of a backbone on shards: stage two, or stage one on clips of one's own."""

    folder: Path = Field(description="takes latents, checkpoints, metrics and sheets")
    strategy: Literal["pose_driven", "rgb_driven"] = "rgb_driven"
    backbone: BackboneChoice
    size: Size = Size()
    data: ShardData
    samples: Samples = Samples()
    training: TrainConfig

    @model_validator(mode="after")
    def _of_one_kind(self) -> "ShardRun":
        if self.strategy == "pose_driven" and self.data.reference_frame == "other":
            raise ValueError("data.reference_frame is other, which is for rgb_driven alone: set it to first")
        return self

    @property
    def forward_share(self) -> float:
        """Share of positions with forward samples; skeletons drive none."""
        return self.data.forward_share if self.strategy == "rgb_driven" else 0.0

    @property
    def driving(self) -> DrivingAugment | None:
        """How raw driving video is varied; None where skeletons drive."""
        return self.data.driving if self.strategy == "rgb_driven" else None


def load(path: Path, sets: Sequence[str]) -> TrainingRun | ShardRun:
    """Read and check a training's YAML: on shards where `data` names cuts, else on theatre.

    Raises:
        ConfigError: One line for each mistake.
    """
    said = read(path, sets, HINT)
    data = said.get("data")
    kind = ShardRun if isinstance(data, dict) and "cuts" in data else TrainingRun
    run: TrainingRun | ShardRun = validate(kind, said, f"{path}: ")
    return run


class VaeData(Theatre):
    """The clips of a VAE's training."""

    worlds: tuple[World, ...] = Field(min_length=1)
    held_out: tuple[World, ...] = Field(min_length=1)

    def _worlds(self) -> tuple[World, ...]:
        return (*self.worlds, *self.held_out)


class VaeRun(_Strict):
    """One training of a small VAE."""

    folder: Path = Field(description="takes clips, the state of training, and the VAE")
    accept_db: float = Field(25.0, description="least mean PSNR inside held-out figures")
    size: Size = Size()
    fps: int = Field(12, ge=1)
    prefix_frames: int = Field(4, ge=0)
    data: VaeData
    vae: VaeConfig
