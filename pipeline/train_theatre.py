"""What a training on theatre learns from: clips are rendered and encoded once, then read from shelves."""

from collections.abc import Callable, Sequence

from torch import Tensor

from manifests.keys import digest
from model.backbone import Backbone
from model.geometry import Geometry
from model.training.cache import LatentCache
from model.training.clips import Clips, KeptClips
from model.training.samples import samples
from model.training.strategy import Batch, Source, joined
from model.training.theatre_clips import Split, World
from pipeline.shelf_filling import Share, fill_shelf
from pipeline.train_config import TrainingRun


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


class TheatreMaterial:
    """Theatre's phases and held-out clips (`pipeline.train.Material`)."""

    notes: Sequence[str] = ()
    indexes: Sequence[str] = ()

    def __init__(self, run: TrainingRun, backbone: Backbone, geometry: Geometry) -> None:
        self.run, self.backbone, self.geometry = run, backbone, geometry
        self.phases = [(phase.from_step, self._source(phase.worlds, "train")) for phase in run.data.phases]
        self.held_out = self._source(run.data.held_out, "held_out")

    def prepare(self, share: Share) -> None:
        """Render and encode what is missing."""
        for _, source in [(0, self.held_out), *self.phases]:
            for cache in source.caches:
                self._fill(cache, share)

    def begin(self) -> None:
        """Make the held-out latents, by all processes: later only some of them may read them."""
        if self.run.training.validation.every or self.run.training.sample_every:
            for cache in self.held_out.caches:
                self._fill(cache)

    def few(self) -> Source:
        """Return samples enough for a step, of the first phase; nothing is written."""
        clips = self.run.data.clips(self.geometry, self.run.data.phases[0].worlds, "train")
        return Fresh(self._cache(clips, "train"), self.run.training.global_batch)

    def rows(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return driving, what the model makes, and the truth, each `[B, 3, T, H, W]`, of held-out clips."""
        clips = self.run.data.clips(self.geometry, self.run.data.held_out, "held_out")
        return samples(
            self.backbone, clips, self.geometry, numbers,
            steps=self.run.samples.steps, blank=self.run.data.augment.blank,
        )  # fmt: skip

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

    def _fill(self, cache: LatentCache, share: Share | None = None) -> None:
        share = share or Share.of_ranks()
        clips = cache.clips
        assert isinstance(clips, KeptClips)
        for shelf, make, what in (
            (clips.shelf, clips.make, "render clips"), (cache.shelf, cache.make, "encode latents")
        ):  # fmt: skip
            fill_shelf(shelf, make, what, share)
