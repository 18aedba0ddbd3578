"""What a training on shards learns from: samples of cuts, encoded once or in each step."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from model.animate import animate
from model.backbone import Backbone
from model.composite import left, right
from model.geometry import Geometry
from model.training.driving_video import DrivingAugment
from model.training.shard_clips import ShardClips
from model.training.shard_samples import CutPlace, Part, ShardSamples, nothing_to_learn
from model.training.shard_source import ShardSource, ShelvedSource
from model.training.strategy import Source
from pipeline.shelf_filling import Share, fill_shelf
from pipeline.train_config import ShardRun

KIND: Final = {"pose_driven": "self", "rgb_driven": "reverse"}


class ShardMaterial:
    """Samples of cuts, and those of held-out sources (`pipeline.train.Material`).

    Raises:
        ShardError: a cut has no index, or it is not what it should be.
        NoSamplesError: nothing can be learned from, or nothing is held out that is asked for.
    """

    def __init__(self, run: ShardRun, backbone: Backbone, geometry: Geometry) -> None:
        self.run, self.backbone, self.geometry = run, backbone, geometry
        data, kind = run.data, KIND[run.strategy]
        main = self._samples(data.cuts, kind, "all" if data.held_out else "train")
        if not len(main):
            raise nothing_to_learn(main, kind, f"pack with pack.kinds: [{kind}], of sources that are long enough")
        aside = self._forward()
        apart = self._samples(data.held_out or data.cuts, kind, "all" if data.held_out else "held_out")
        looks = run.training.validation.every or run.training.sample_every
        if looks and not len(apart):
            raise nothing_to_learn(
                apart, f"held-out {kind}", "raise data.held_out_share, name cuts in data.held_out, or set "
                "training.validation.every and training.sample_every to 0",
            )  # fmt: skip
        read = [some for some in (main, aside, apart) if some is not None]
        self.notes = sorted({f"left out: {each}" for some in read for each in some.left_out})
        self.indexes = sorted({index for some in read for index in some.indexes})
        self._main, self._aside = main, aside
        self.source = self._source(main, aside, run.driving, data.variants)
        self.held_out = self._source(apart, None, None, 1)
        self.phases = [(0, self.source)]

    def prepare(self, share: Share) -> None:
        """Encode what is missing, where latents are kept."""
        self.backbone.to(_device(self.run.training.device))
        for source in (self.held_out, self.source):
            if isinstance(source, ShelvedSource) and len(source):
                fill_shelf(source.shelf, source.make, "encode latents", share)

    def begin(self) -> None:
        """Make all latents that are kept, by all processes side by side."""
        self.prepare(Share.of_ranks())

    def few(self) -> Source:
        """Return the samples, encoded when they are asked for; nothing is written."""
        clips = self._clips(self._main, self._aside, self.run.driving)
        return ShardSource(clips, self.backbone, self.geometry, self.run.data.augment)

    def rows(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return driving, what the model makes, and the truth, each `[B, 3, T, H, W]`, of held-out samples."""
        plain = replace(
            self.run.data.augment, bone_share=0.0, drop_driving=0.0, drop_reference=0.0, nudge_share=0.0
        )  # fmt: skip
        made = self.held_out.examples(numbers, plain)
        device = next(self.backbone.transformer.parameters()).device
        wanted = torch.cat([each.wanted for each in made]).to(device)
        reference = torch.cat([each.reference for each in made]).to(device)
        got = animate(
            self.backbone, reference, right(wanted), [each.prompt for each in made], seeds=list(numbers),
            steps=self.run.samples.steps, blank=plain.blank,
        )  # fmt: skip
        return right(wanted), got, left(wanted)

    def _samples(self, cuts: Sequence[CutPlace], kind: str, part: Part) -> ShardSamples:
        return ShardSamples(cuts, kind, self.geometry, part, self.run.data.held_out_share)

    def _forward(self) -> ShardSamples | None:
        """Return the forward samples, where a share of positions goes to them."""
        share, data = self.run.forward_share, self.run.data
        if not share:
            return None
        samples = self._samples(data.cuts, "forward", "all" if data.held_out else "train")
        if not len(samples):
            do = f"pack with pack.kinds: [reverse, forward], or set data.forward_share (it is {share:g}) to 0"
            raise nothing_to_learn(samples, "forward", do)
        return samples

    def _clips(self, main: ShardSamples, aside: ShardSamples | None, driving: DrivingAugment | None) -> ShardClips:
        data = self.run.data
        return ShardClips(main, aside, self.geometry, data.seed, data.reference_frame, driving)

    def _source(
        self, main: ShardSamples, aside: ShardSamples | None, driving: DrivingAugment | None, variants: int
    ) -> ShardSource:
        data = self.run.data
        known = (self._clips(main, aside, driving), self.backbone, self.geometry, data.augment)
        share = self.run.forward_share if aside is not None else 0.0
        if data.encode == "cached":
            return ShelvedSource(
                *known, self.run.folder / "latents", variants=variants, forward_share=share,
                shards_at_once=data.shards_at_once, broken_limit=data.broken_limit,
            )  # fmt: skip
        return ShardSource(
            *known, forward_share=share, shards_at_once=data.shards_at_once, broken_limit=data.broken_limit,
            workers=data.workers,
        )  # fmt: skip


def _device(wanted: str) -> torch.device:
    """Return where this process encodes: where it will train."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if wanted == "cpu" or torch.cuda.device_count() <= local:
        return torch.device("cpu")
    return torch.device("cuda", local)
