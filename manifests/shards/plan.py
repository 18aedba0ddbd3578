"""Which sample goes into which shard: a pure function of the samples' names, stable when some come or go.

Samples of one kind and one bucket (size, frames, rate) are a group. A group has 2^n shards, and the place of a sample
follows from the digest of its SOURCE's id: one more pair changes one shard and not those behind it, all pairs of a
source lie side by side in one shard (its film is cut once, and taking it down touches one shard of a group), and their
order is as good as shuffled. Only when a group outgrows 2^n shards, or shrinks below, all of it is cut anew.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from manifests.keys import digest

FORMAT: Final = 1  # of tars, pages and index: raise it when their bytes change
PREFIX: Final = "shd_"


@dataclass(frozen=True, order=True)
class Bucket:
    """What all targets of a shard have in common: width and height in px, frames, frames a second."""

    width_px: int
    height_px: int
    frames: int
    fps: float

    @property
    def name(self) -> str:
        """The bucket as part of a file's name."""
        return f"{self.width_px}x{self.height_px}-{self.frames}f-{self.fps:.6g}fps".replace(".", "p")

    def as_list(self) -> list[Any]:
        """Return width, height, frames, fps."""
        return [self.width_px, self.height_px, self.frames, self.fps]


@dataclass(frozen=True)
class Group:
    """Samples of one kind in one bucket; `recipe` is the digest of all that shapes every sample alike."""

    kind: str
    bucket: Bucket
    recipe: str

    @property
    def label(self) -> str:
        """Kind and bucket as a name."""
        return f"{self.kind}-{self.bucket.name}"

    def key(self, digests: Sequence[str]) -> str:
        """Return the key of a shard of this group that holds samples of these digests, in this order."""
        return digest([FORMAT, self.kind, self.bucket.as_list(), self.recipe, list(digests)])

    def name(self, number: int, key: str) -> str:
        """Return the name, without its ending, of the files of a shard."""
        return f"{self.label}-{number:05d}-{key[:16]}"


def places_of(names: Sequence[str]) -> NDArray[np.uint64]:
    """Return the first 64 bits of each name's SHA-256, [n]."""
    found = b"".join(hashlib.sha256(name.encode()).digest()[:8] for name in names)
    return np.frombuffer(found, ">u8").astype(np.uint64)


def bits_of(count: int, per_shard: int) -> int:
    """Return n such that 2^n shards hold `count` samples, on average more than half of `per_shard` and at most all."""
    shards = -(-count // per_shard)
    return max(0, shards - 1).bit_length()


def assign(
    groups: NDArray[np.int64],
    sources: NDArray[np.uint64],
    samples: NDArray[np.uint64],
    per_shard: int,
    forgotten: Sequence[int] = (),
) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
    """Give group, number of the shard, and the samples in it, in their order; shards without a sample are left out.

    Args:
        groups: [n] the group of each sample, from 0 on.
        sources: [n] the place of its source (`places_of`).
        samples: [n] its own place.
        per_shard: samples in a shard, at most on average.
        forgotten: samples of each group that were taken down: they count in the number of its shards.
    """
    order = np.lexsort((samples, sources, groups))
    ends = np.cumsum(np.bincount(groups)) if len(groups) else np.zeros(0, np.int64)
    for group, end in enumerate(ends.tolist()):
        members = order[(0 if group == 0 else int(ends[group - 1])) : end]
        if not len(members):
            continue
        bits = bits_of(len(members) + (forgotten[group] if forgotten else 0), per_shard)
        numbers = (sources[members] >> np.uint64(64 - bits)).astype(np.int64) if bits else np.zeros(len(members), int)
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], len(members)], strict=True):
            yield group, int(numbers[start]), members[start:stop]
