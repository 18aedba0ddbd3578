"""Samples of shards that a training can use: of the kinds it asks for, long enough, learned from or held out.

What is held out follows from the SOURCE alone: the place of its id (`manifests.shards.plan.places_of`) lies below the
share that is held out. So all samples of a source are on one side, in every cut and of every kind, and one more source
moves no other. Shards are cut and sorted by that place, so that the border in a group is found by reading two of them.
"""

import json
from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from typing import Any, Final, Literal

from manifests.errors import UserError
from manifests.files import root_of
from manifests.keys import digest
from manifests.segments import frames_in
from manifests.shards.cut import Cut
from manifests.shards.plan import Bucket, places_of
from manifests.shards.tar import ShardError
from model.geometry import Geometry

Part = Literal["train", "held_out", "all"]
VERSION: Final = "1"
"""Of which samples are taken, and in which order: a new one makes other trainings."""


class BrokenSample(Exception):
    """A sample that cannot be used: `name` is the cut's and its key or number, `detail` says why in one sentence."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name, self.detail = name, detail


class NoSamplesError(UserError):
    """The cuts hold nothing that can be learned from."""


@dataclass(frozen=True)
class CutPlace:
    """Where a cut lies: the folder or URL of its root, and its name."""

    root: str
    cut: str = "main"


@dataclass(frozen=True)
class Stored:
    """A sample's files as ending -> bytes, what its `json` says, and what its bucket says of its films."""

    name: str
    files: dict[str, bytes]
    about: dict[str, Any]
    bucket: Bucket


@dataclass(frozen=True)
class _Span:
    """Samples of a shard: `count` from `first` on, by the numbers of their cut; `number` is that of it in its group."""

    cut: int
    shard: str
    number: int
    first: int
    count: int
    bucket: Bucket


class ShardSamples:
    """Samples of some cuts, by number; an object that travels to another process, and opens the cuts there.

    Attributes:
        digest: Of the cuts' indexes, and of what is taken from them.
        left_out: What is not taken because it is too short, a sentence for each bucket.
        indexes: SHA-256 of the index of each cut.

    Raises:
        ShardError: a cut has no index, or it is not what it should be.
    """

    def __init__(
        self,
        places: Sequence[CutPlace],
        kind: str,
        geometry: Geometry,
        part: Part = "all",
        held_out_share: float = 0.0,
    ) -> None:
        self.places, self.kind, self.part, self.held_out_share = tuple(places), kind, part, held_out_share
        self._opened: dict[int, Cut] = {}
        self.indexes = [self._open(number).digest for number in range(len(self.places))]
        self._lost: dict[str, str] = {}
        self.left_out: list[str] = []
        self._spans = [span for number in range(len(self.places)) for span in self._of_cut(number, geometry)]
        self._ends = list(accumulate(span.count for span in self._spans))
        split = [part, held_out_share] if part != "all" else [part]
        self.digest = digest([VERSION, kind, self.indexes, geometry.frames, geometry.fps, *split])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def shards(self) -> tuple[int, ...]:
        """How many samples are taken of each shard, in their order."""
        return tuple(span.count for span in self._spans)

    def read(self, number: int, endings: Collection[str]) -> Stored:
        """Return the files of a sample with these endings, and its `json`.

        Raises:
            BrokenSample: its shard is missing or damaged, or a file is not among those that it has.
            StoreDown: the store does not answer (manifests/patience.py).
        """
        if not 0 <= number < len(self):
            raise IndexError(f"there are {len(self)} samples, number {number} is not among them")
        at = bisect_right(self._ends, number)
        span = self._spans[at]
        return self._read(span, span.first + number - (self._ends[at] - span.count), endings)

    def _read(self, span: _Span, number: int, endings: Collection[str]) -> Stored:
        """Return a sample by its number in its cut."""
        place = self.places[span.cut]
        name = f"{place.cut} {number}"
        if span.shard in self._lost:  # said once by the disk or the store is enough
            raise BrokenSample(name, self._lost[span.shard])
        cut = self._open(span.cut)
        try:
            files = cut.sample(number, {*endings, "json"})
        except ShardError as error:
            self._lost[span.shard] = str(error)
            raise BrokenSample(name, str(error)) from error
        key = files.pop("__key__").decode(errors="replace")
        name = f"{place.cut} {number} ({key})"
        try:
            about = json.loads(files.pop("json"))
            str(about["source"]["id"])
        except (ValueError, KeyError, TypeError) as error:
            raise BrokenSample(name, f"its json cannot be read ({type(error).__name__}: {error})") from error
        if missing := sorted(set(endings) - set(files)):
            raise BrokenSample(name, f"it has no {missing[0]}")
        return Stored(name, files, about, span.bucket)

    def _open(self, number: int) -> Cut:
        if number not in self._opened:
            place = self.places[number]
            cut = Cut(place.root, place.cut)
            if hasattr(self, "indexes") and cut.digest != self.indexes[number]:
                raise ShardError(
                    f"the cut {place.cut} under {cut.root} was packed anew while it is trained on: start the training "
                    "again, in another folder"
                )
            self._opened[number] = cut
        return self._opened[number]

    def _of_cut(self, number: int, geometry: Geometry) -> list[_Span]:
        """Return what is taken from a cut, group by group, shard by shard."""
        cut, first, spans = self._open(number), 0, []
        for line in cut.shards:
            if line.group.kind == self.kind:
                span = _Span(number, line.key, line.number, first, line.samples, line.group.bucket)
                spans.append((line.group, span))
            first += line.samples
        wanted = sorted(spans, key=lambda each: (each[0].label, each[0].recipe, each[1].number))
        taken: list[_Span] = []
        for group, members in groupby(wanted, key=lambda each: each[0]):
            of_group = [span for _, span in members]
            if too_short := _too_short(group.bucket, geometry):
                self.left_out.append(
                    f"{sum(s.count for s in of_group):,} samples {group.label} of {cut.name}: {too_short}"
                )
            else:
                taken += self._side(of_group)
        return taken

    def _side(self, spans: list[_Span]) -> list[_Span]:
        """Return of a group, whose shards are given in order, what is learned from, or what is held out."""
        if self.part == "all":
            return spans
        limit = int(self.held_out_share * 2**64)
        bits = self._bits(spans)
        border = limit >> 64 - bits  # the number of the shard in which the places reach the limit
        taken = []
        for span in spans:
            held = 0 if span.number > border else span.count if span.number < border else self._held(span, limit)
            held_out = self.part == "held_out"
            count = held if held_out else span.count - held
            taken.append(replace(span, first=span.first if held_out else span.first + held, count=count))
        return [span for span in taken if span.count]

    def _bits(self, spans: list[_Span]) -> int:
        """Return b of a group of 2^b shards: the number of a shard is the first b bits of its sources' places, so that
        it is told by one sample of any shard but the first."""
        for span in reversed(spans):
            if span.number and (place := self._place(span, range(span.count))) is not None:
                return 64 - place.bit_length() + span.number.bit_length()
        return 0

    def _held(self, span: _Span, limit: int) -> int:
        """Return how many samples of a shard, from its first on, are of sources whose places are below the limit."""
        low, high = 0, span.count
        while low < high:
            middle = (low + high) // 2
            place = self._place(span, range(middle, high))
            low, high = (low, middle) if place is None or place >= limit else (middle + 1, high)
        return low

    def _place(self, span: _Span, numbers: range) -> int | None:
        """Return the place of the source of the first of these samples of a shard that can be read."""
        for number in numbers:
            try:
                source = self._read(span, span.first + number, ()).about["source"]["id"]
            except BrokenSample:
                if span.shard in self._lost:
                    return None
            else:
                return int(places_of([source])[0])
        return None


def nothing_to_learn(samples: ShardSamples, what: str, do: str) -> NoSamplesError:
    """Return what to say where there is no sample: `what` is missing from the cuts, and what to `do`."""
    cuts = ", ".join(f"{place.cut} under {root_of(place.root)}" for place in samples.places)
    short = f"; left out are {'; '.join(samples.left_out)}" if samples.left_out else ""
    return NoSamplesError(f"{cuts}: no {what} sample that can be used{short}; {do}")


def _too_short(bucket: Bucket, geometry: Geometry) -> str | None:
    frames = frames_in(0.0, bucket.frames / bucket.fps, geometry.fps) if bucket.fps > 0 else 0
    if frames >= geometry.frames:
        return None
    return f"{bucket.frames} frames at {bucket.fps:g} a second are {frames} at {geometry.fps}, wanted {geometry.frames}"
