"""What a training's YAML may say: the model, its size, its data, and how long.

Fields that a room of `model` owns are that room's own frozen dataclasses, so that nothing is said twice.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from model.composite import blank_value
from model.geometry import Geometry
from model.tiny import TinyTransformer
from model.training.config import TrainConfig
from model.training.examples import Augment
from model.training.theatre_clips import Split, TheatreClips, World
from model.training.vae_config import VaeConfig


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
    seed: int = 0


class BackboneChoice(_Strict):
    """Which base: weights that there are, or fresh ones."""

    name: str = Field("tiny", description="tiny, wan-i2v, or my_package.mine:Backbone")
    weights: str | None = Field(None, description="folder in diffusers' layout, or hub id")
    dtype: Literal["fp32", "bf16"] = Field(default="fp32", description="of the base's weights; bf16 for a frozen one")
    fresh: Fresh | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "BackboneChoice":
        if (self.weights is None) == (self.fresh is None):
            raise ValueError("give either weights (a folder or a hub id) or fresh (sizes of a new tiny one)")
        if self.fresh is not None and self.name != "tiny":
            raise ValueError("only the backbone tiny can be made fresh")
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
    """Where clips come from (theatre alone, so far), and how examples are made of them."""

    variants: int = Field(1, ge=1, description="examples of each clip, with other augmentations (K)")
    phases: tuple[Phase, ...] = Field(min_length=1)
    held_out: tuple[World, ...] = Field(min_length=1)
    augment: Augment = Augment()

    @field_validator("augment")
    @classmethod
    def _drawable(cls, augment: Augment) -> Augment:
        for name in ("bone_share", "drop_driving", "drop_reference"):
            if not 0 <= getattr(augment, name) <= 1:
                raise ValueError(f"{name} is {getattr(augment, name)}; it must be a share, from 0 to 1")
        if not 0 < augment.bone_low <= augment.bone_high:
            raise ValueError(
                f"bones are scaled from {augment.bone_low} to {augment.bone_high}; wanted 0 < bone_low <= bone_high"
            )
        blank_value(augment.blank)
        return augment

    def _worlds(self) -> tuple[World, ...]:
        return (*(world for phase in self.phases for world in phase.worlds), *self.held_out)


class Samples(_Strict):
    """The sheets that are drawn while training (`training.sample_every`)."""

    count: int = Field(default=6, ge=1, description="held-out clips on a sheet")
    steps: int = Field(default=12, ge=1, description="of the sampler")


class TrainingRun(_Strict):
    """One training of a backbone."""

    folder: Path = Field(description="takes clips, latents, checkpoints, metrics and sheets")
    strategy: Literal["pose_driven"] = "pose_driven"
    backbone: BackboneChoice
    size: Size = Size()
    data: Data
    samples: Samples = Samples()
    training: TrainConfig


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
