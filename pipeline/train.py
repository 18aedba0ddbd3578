"""Training from a YAML file: clips are rendered and encoded once, then the loop learns from the latents."""

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from manifests.keys import digest
from model import backbone as backbones
from model.backbone import Backbone
from model.text import CachedText, TinyText
from model.training.cache import LatentCache
from model.training.clips import Clips, KeptClips
from model.training.dry_run import Estimate, dry_run
from model.training.loop import Summary, train
from model.training.order import curriculum
from model.training.samples import samples, sheet
from model.training.shelf import Make, Shelf
from model.training.strategy import Batch, PoseDriven, joined
from model.training.theatre_clips import Split, World
from model.wan import new_tiny
from model.wan_config import SETTINGS_OF
from pipeline.strict_yaml import read, validate
from pipeline.train_config import BackboneChoice, TrainingRun

_WAIT_S = 0.5
HINT = "pipeline/configs/teacher.yaml is one to start from"


def load(path: Path, sets: Sequence[str]) -> TrainingRun:
    """Read and check a training's YAML.

    Raises:
        ConfigError: One line for each mistake.
    """
    run: TrainingRun = validate(TrainingRun, read(path, sets, HINT), f"{path}: ")
    return run


def backbone_of(choice: BackboneChoice, texts: Path) -> Backbone:
    """Return the backbone that a config names, on the CPU; what a text encoder that does not learn gives is kept in
    the folder `texts`."""
    if choice.fresh is None:
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[choice.dtype]
        backbone = backbones.load(choice.name, str(choice.weights), dtype, "cpu")
        if not isinstance(backbone.text, TinyText):
            backbone.text = CachedText(backbone.text, texts)
        return backbone
    fresh = choice.fresh
    text = TinyText(fresh.text.dim, fresh.text.length, fresh.text.words, fresh.seed)
    settings = replace(SETTINGS_OF["tiny"], tile_px=fresh.tile_px)
    return new_tiny(fresh.vae, text, fresh.transformer, fresh.seed, settings)


class Prepared:
    """Latents of some worlds, each on a shelf of its own, which phases share; numbers run through them in order.

    They are made when they are first asked for: a later phase costs nothing before it begins.
    """

    def __init__(self, caches: Sequence[LatentCache], fill: Callable[[LatentCache], None]) -> None:
        self.caches = caches
        self.digest = caches[0].digest if len(caches) == 1 else digest([cache.digest for cache in caches])
        self._fill, self._ready = fill, False

    def __len__(self) -> int:
        return sum(map(len, self.caches))

    def read(self, indices: Sequence[int]) -> Batch:
        """Return these samples; make first what is missing on any of the shelves."""
        if not self._ready:
            for cache in self.caches:
                self._fill(cache)
            self._ready = True
        return joined([cache.read([number]) for cache, number in map(self._place, indices)])

    def _place(self, number: int) -> tuple[LatentCache, int]:
        for cache in self.caches:
            if number < len(cache):
                return cache, number
            number -= len(cache)
        raise IndexError(f"there are {len(self)} samples")


class Fresh:
    """The first few samples of a cache, encoded in memory when they are asked for: enough to say what a step costs."""

    def __init__(self, cache: LatentCache, count: int) -> None:
        self.cache, self.digest = cache, cache.digest
        self.count = min(count, len(cache))

    def __len__(self) -> int:
        return self.count

    def read(self, indices: Sequence[int]) -> Batch:
        """Return these samples."""
        return self.cache.encoded(indices)


class Training:
    """A config with its model and data.

    Raises:
        UserError: The base, the size or the phases cannot be used; said before anything is rendered.
    """

    def __init__(self, run: TrainingRun) -> None:
        self.run = run
        self.backbone = backbone_of(run.backbone, run.folder / "texts")
        self.geometry = self.backbone.geometry(run.size.height_px, run.size.width_px, run.size.frames)
        self.strategy = PoseDriven()
        self.phases = [(phase.from_step, self._source(phase.worlds, "train")) for phase in run.data.phases]
        self.held_out = self._source(run.data.held_out, "held_out")
        curriculum(self.phases)

    def _source(self, worlds: tuple[World, ...], split: Split) -> Prepared:
        clips = [self.run.data.clips(self.geometry, (world,), split) for world in worlds]
        folder = self.run.folder / "clips"
        return Prepared([self._cache(KeptClips(each, folder), split) for each in clips], self._fill)

    def _cache(self, clips: Clips, split: Split) -> LatentCache:
        data = self.run.data
        return LatentCache(
            clips, self.backbone, self.geometry, data.augment, self.run.folder / "latents",
            variants=data.variants if split == "train" else 1, seed=data.seed,
        )  # fmt: skip

    def prepare(self, share: "Share") -> None:
        """Render and encode what is missing."""
        for _, source in [(0, self.held_out), *self.phases]:
            for cache in source.caches:
                self._fill(cache, share)

    def _fill(self, cache: LatentCache, share: "Share | None" = None) -> None:
        share = share or Share.of_ranks()
        clips = cache.clips
        assert isinstance(clips, KeptClips)
        for shelf, make, what in (
            (clips.shelf, clips.make, "render clips"), (cache.shelf, cache.make, "encode latents")
        ):  # fmt: skip
            fill_shelf(shelf, make, what, share)

    def estimate(self) -> Estimate:
        """Return what the training will cost; a few steps are timed, and nothing is written."""
        clips = self.run.data.clips(self.geometry, self.run.data.phases[0].worlds, "train")
        few = Fresh(self._cache(clips, "train"), self.run.training.global_batch)
        return dry_run(self.run.training, self.backbone, self.strategy, few)

    def start(self, on_step: Callable[[Mapping[str, Any]], None] | None = None) -> Summary:
        """Train, or go on training."""
        if self.run.training.validation.every or self.run.training.sample_every:
            for cache in self.held_out.caches:  # by all processes: later only some of them may read it
                self._fill(cache)
        summary = train(
            self.run.training, self.backbone, self.strategy, self.phases, self.held_out, self.run.folder,
            on_sample=self.draw_samples, on_step=on_step,
        )  # fmt: skip
        if self.run.training.trainable == "full" and Share.of_ranks().part == 0:
            self.export(summary.checkpoint)
        return summary

    def export(self, checkpoint: Path) -> None:
        """Write `model/`, the whole backbone with the checkpoint's mean weights, which `--weights` takes."""
        whole = self.run.folder / "model"
        self.backbone.save(whole)
        for part in ("transformer", "text_encoder"):
            if (checkpoint / part).exists():
                shutil.copytree(checkpoint / part, whole / part, dirs_exist_ok=True)

    def draw_samples(self, step: int) -> None:
        """Write a sheet of held-out samples: driving, what the model makes of it, and the truth."""
        count = min(self.run.samples.count, len(self.held_out))
        numbers = [i * len(self.held_out) // count for i in range(count)]
        clips = self.run.data.clips(self.geometry, self.run.data.held_out, "held_out")
        rows = samples(
            self.backbone, clips, self.geometry, numbers,
            steps=self.run.samples.steps, blank=self.run.data.augment.blank,
        )  # fmt: skip
        folder = self.run.folder / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        sheet(rows, self.geometry).save(folder / f"step-{step:08d}.png")


@dataclass(frozen=True)
class Share:
    """Which of several processes this is: they fill a shelf side by side."""

    part: int = 0
    parts: int = 1

    @classmethod
    def of_ranks(cls) -> "Share":
        """Return this process's share under torchrun; all of it where there is none."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def fill_shelf(shelf: Shelf, make: Make, what: str, share: Share) -> None:
    """Make this process's share of the missing shards, with a bar, and wait until the others have made theirs."""
    missing = shelf.missing()
    if not missing:
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=share.part > 0) as bar:
        mine = [number for number in missing if number % share.parts == share.part]
        task = bar.add_task(what, total=sum(min(shelf.shard, shelf.count - n * shelf.shard) for n in mine))
        for made in shelf.fill(make, part=share.part, parts=share.parts):
            bar.advance(task, made)
        if left := len(shelf.missing()):
            bar.add_task(f"wait for {left} shards of the other parts", total=None)
        while shelf.missing():
            time.sleep(_WAIT_S)
