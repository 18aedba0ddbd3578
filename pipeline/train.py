"""Training from a YAML file: the model, what it learns from, the loop, and what is left when it ends."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from manifests.keys import sha256_of_file
from manifests.shards.index import note_reading
from model import backbone as backbones
from model.backbone import Backbone
from model.lora_file import DIFFUSERS_FILE
from model.text import CachedText, TinyText
from model.training.dry_run import Estimate, dry_run
from model.training.learnable import take_back
from model.training.loop import Summary, train
from model.training.order import curriculum
from model.training.salience import latent_deviation
from model.training.samples import sheet
from model.training.shard_readers import deaths_told
from model.training.strategy import PoseDriven, RgbDriven, Source
from model.wan import new_tiny
from model.wan_config import SETTINGS_OF
from pipeline.shelf_filling import Share, fill_shelf
from pipeline.train_config import BackboneChoice, ShardRun, TrainingRun, load
from pipeline.train_shards import ShardMaterial
from pipeline.train_theatre import TheatreMaterial

__all__ = ["Share", "Training", "backbone_of", "fill_shelf", "load"]

STRATEGIES: Final = {"pose_driven": PoseDriven, "rgb_driven": RgbDriven}


def backbone_of(choice: BackboneChoice, texts: Path, fused: bool = False) -> Backbone:
    """Return the backbone that a config names, on the CPU, its LoRAs laid over it or `fused` with its weights; what a
    text encoder that does not learn gives is kept in the folder `texts`.

    Raises:
        UserError: There are no such weights or LoRAs, or they are not this backbone's.
    """
    if choice.fresh is None:
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[choice.dtype]
        backbone = backbones.load(choice.name, str(choice.weights), dtype, "cpu")
        _lay_over(backbone, choice.loras, fused)
        if not isinstance(backbone.text, TinyText):
            backbone.text = CachedText(backbone.text, texts)
        return backbone
    fresh = choice.fresh
    text = TinyText(fresh.text.dim, fresh.text.length, fresh.text.words, fresh.seed)
    given = SETTINGS_OF["tiny"]
    settings = replace(given, tile_px=fresh.tile_px, shift=fresh.shift, placement=fresh.placement)
    alike = new_tiny(fresh.vae, text, fresh.transformer, fresh.seed, settings)
    if not fresh.latent_power:
        return alike
    deviation = tuple(round(each, 3) for each in latent_deviation(alike, fresh.latent_power))
    return new_tiny(alike.vae, text, fresh.transformer, fresh.seed, replace(settings, deviation=deviation))


class Material(Protocol):
    """What a training learns from; `indexes` are those of the cuts that are read, `notes` what the user should know."""

    @property
    def held_out(self) -> Source:
        """Samples that are never learned from."""
        ...

    @property
    def notes(self) -> Sequence[str]: ...

    @property
    def indexes(self) -> Sequence[str]: ...

    @property
    def phases(self) -> Sequence[tuple[int, Source]]:
        """First steps, and the samples from there on."""
        ...

    def prepare(self, share: Share) -> None:
        """Make this process's share of all that is made before a training reads it."""
        ...

    def begin(self) -> None:
        """Make what has to be there when the training begins; called by all processes."""
        ...

    def few(self) -> Source:
        """Return samples enough for a step; nothing is written."""
        ...

    def rows(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return driving, what the model makes, and the truth, each `[B, 3, T, H, W]`, of held-out samples."""
        ...


class Training:
    """A config with its model and data.

    Raises:
        UserError: The base, the size, the phases or the cuts cannot be used; said before anything is made.
    """

    def __init__(self, run: TrainingRun | ShardRun) -> None:
        self.run = run
        self.backbone = backbone_of(run.backbone, run.folder / "texts", fused=run.training.trainable == "full")
        self.geometry = self.backbone.geometry(run.size.height_px, run.size.width_px, run.size.frames)
        self.strategy = STRATEGIES[run.strategy]()
        self.material: Material
        if isinstance(run, ShardRun):
            self.material = ShardMaterial(run, self.backbone, self.geometry)
        else:
            self.material = TheatreMaterial(run, self.backbone, self.geometry)
        self.phases, self.held_out = self.material.phases, self.material.held_out
        curriculum(self.phases)

    def prepare(self, share: Share) -> None:
        """Render and encode what is missing."""
        self._note_reading(share)
        self.material.prepare(share)

    def estimate(self) -> Estimate:
        """Return what the training will cost; a few steps are timed, and nothing is written."""
        return dry_run(self.run.training, self.backbone, self.strategy, self.material.few())

    def start(
        self,
        on_step: Callable[[Mapping[str, Any]], object] | None = None,
        on_stall: Callable[[str], None] | None = None,
    ) -> Summary:
        """Train, or go on training; the arguments are those of `model.training.loop.train`."""
        self._note_reading(Share.of_ranks())
        self.material.begin()
        with deaths_told():
            summary = train(
                self.run.training, self.backbone, self.strategy, self.phases, self.held_out, self.run.folder,
                on_sample=self.draw_samples, on_step=on_step, on_stall=on_stall,
            )  # fmt: skip
        if self.run.training.trainable == "full" and Share.of_ranks().part == 0:
            self.export(summary.checkpoint)
        return summary

    def _note_reading(self, share: Share) -> None:
        """Write down which cuts are read, so that `impact` finds this training."""
        if self.material.indexes and share.part == 0:
            note_reading(self.run.folder, self.material.indexes)

    def export(self, checkpoint: Path) -> None:
        """Write `model/`, the whole backbone with the checkpoint's mean weights, which `--weights` takes."""
        whole = self.run.folder / "model"
        take_back(self.backbone, checkpoint)
        self.backbone.save(whole)
        for part in ("transformer", "text_encoder"):
            if (checkpoint / part).exists():
                shutil.copytree(checkpoint / part, whole / part, dirs_exist_ok=True)

    def draw_samples(self, step: int) -> None:
        """Write a sheet of held-out samples: driving, what the model makes of it, and the truth."""
        count = min(self.run.samples.count, len(self.held_out))
        numbers = [i * len(self.held_out) // count for i in range(count)]
        rows = self.material.rows(numbers)  # by all processes, where weights are shared out
        if Share.of_ranks().part == 0:
            folder = self.run.folder / "samples"
            folder.mkdir(parents=True, exist_ok=True)
            sheet(rows, self.geometry).save(folder / f"step-{step:08d}.png")


def _lay_over(backbone: Backbone, loras: Sequence[str], fused: bool) -> None:
    """Put LoRAs of an earlier stage on a backbone. Their names hold their digests, so that a training that goes on
    finds out if they are others."""
    if not loras:
        return
    from model import lora  # peft takes seconds to import
    from model.training.fused import fuse

    for number, path in enumerate(map(Path, loras)):
        file = path / DIFFUSERS_FILE if path.is_dir() else path
        known = sha256_of_file(file)[:12] if file.is_file() else "missing"  # `load` says what is wrong with it
        lora.load(backbone.transformer, path, f"base{number}-{known}")
    if fused:
        fuse(backbone.transformer)
