"""Reading shards: samples a second beside plain `webdataset`, and how soon a training at sample 100,000 goes on."""

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import webdataset

from manifests.files import files_of
from manifests.shards.cut import Cut
from manifests.shards.index import Line, index_bytes, publish_index
from manifests.shards.plan import Bucket, Group, assign, places_of
from manifests.shards.writing import write_shard
from model.geometry import Geometry
from model.training import order
from model.training.shard_samples import CutPlace, ShardSamples

Measured = dict[str, Any]
GROUP = Group("reverse", Bucket(832, 480, 81, 16.0), "recipe")
SIZE = Geometry(480, 832, 81, 16, 16)
PARTS = {"driving.mp4": 300_000, "target.mp4": 300_000, "reference.png": 100_000, "skeleton.npy": 25_000}
SAMPLES, SHARD, ROUNDS = 1024, 128, 5
MANY, AT = 110_000, 100_000
BATCH = 8


def measure() -> list[Measured]:
    """Measure both."""
    return [*reading(), resuming()]


def reading() -> list[Measured]:
    """Samples a second of all their bytes: ours in the order of a training, theirs as they lie, and shuffled as they
    shuffle. The files are in the page cache for both: what is measured is the readers."""
    with tempfile.TemporaryDirectory() as folder:
        noise = np.random.default_rng(0)
        parts = {name: noise.bytes(size) for name, size in PARTS.items()}
        write_cut(Path(folder), SAMPLES, parts)
        tars = [f"file:{path}" for path in sorted(Path(folder, "shards/main").glob("*.tar"))]
        seconds: dict[str, list[float]] = {"ours": [], "first": [], "plain": [], "shuffled": []}
        for epoch in range(ROUNDS):
            cut = Cut(folder)
            seconds["first"].append(_taken(_ours(cut, epoch)))
            seconds["ours"].append(_taken(_ours(cut, epoch)))
            seconds["plain"].append(_taken(iter(webdataset.WebDataset(tars, shardshuffle=False))))
            shuffled = webdataset.WebDataset(tars, shardshuffle=len(tars), seed=epoch).shuffle(256)
            seconds["shuffled"].append(_taken(iter(shuffled)))
    median = {name: statistics.median(taken) for name, taken in seconds.items()}
    rate = {name: f"{SAMPLES / taken:,.0f} samples/s" for name, taken in median.items()}
    what = f"reading {SAMPLES:,} samples of 0.7 MB in the order of a training ({rate['ours']})"
    names = {
        "plain": f"{what}, as a share of plain webdataset in order ({rate['plain']})",
        "shuffled": f"the same, of webdataset shuffled ({rate['shuffled']})",
    }
    rows = [_row(name, median[theirs] / median["ours"], "", at_least=1.0) for theirs, name in names.items()]
    first = f"the same in its first epoch, in which tars are checked ({rate['first']}), of plain webdataset in order"
    return [*rows, _row(first, median["plain"] / median["first"], "", at_least=1.0)]


def resuming() -> Measured:
    """Seconds from nothing but the folder to the bytes of the batch behind sample 100,000, a share of sources held out;
    the processes' own start is not counted."""
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        write_cut(
            Path(folder), MANY, {"driving.mp4": b"d" * 700, "target.mp4": b"t" * 700, "reference.png": b"r" * 300}
        )
        for seed in range(ROUNDS):
            order._permutation.cache_clear()
            began_s = time.perf_counter()
            some = ShardSamples([CutPlace(folder)], "reverse", SIZE, "train", 0.05)
            apart = ShardSamples([CutPlace(folder)], "reverse", SIZE, "held_out", 0.05)
            place = order.indices(seed, AT // BATCH, BATCH, [(0, order.Mix(len(some)))])
            some.read(place.indices[0] % len(some), ("driving.mp4", "target.mp4"))
            taken.append(time.perf_counter() - began_s)
        assert len(some) + len(apart) == MANY
    name = f"resuming at sample {AT:,} of a cut of {MANY:,}, from its index to the first sample's bytes"
    return _row(name, statistics.median(taken), "s", at_most=1.0)


def write_cut(root: Path, samples: int, parts: dict[str, bytes]) -> None:
    """Write a cut of equal samples, two of each source, dealt out to shards as `pack` does."""
    sources = [f"src_{n // 2:032x}" for n in range(samples)]
    names = [f"par_{n:032x}" for n in range(samples)]
    files, lines = files_of(root), list[Line]()
    for _, shard, members in assign(np.zeros(samples, np.int64), places_of(sources), places_of(names), SHARD):
        some = ((names[n], names[n], f"digest {n}", [*parts.items(), ("json", _json(sources[n]))]) for n in members)
        lines.append(write_shard(files, "shards/main", GROUP, shard, some))
    publish_index(files, "main", index_bytes("main", lines, {}))


def _json(source: str) -> bytes:
    return b'{"source": {"id": "%s"}, "texts": {}%s}' % (source.encode(), b" " * 1500)


def _ours(cut: Cut, seed: int) -> Iterator[dict[str, bytes]]:
    for step in range(SAMPLES // BATCH):
        yield from map(cut.sample, order.indices(seed, step, BATCH, [(0, SAMPLES)]).indices)


def _taken(samples: Iterator[dict[str, Any]]) -> float:
    """Return the seconds in which all samples are read."""
    began_s = time.perf_counter()
    count = sum(1 for sample in samples if len(sample["target.mp4"]))
    assert count == SAMPLES, count
    return time.perf_counter() - began_s


def _row(name: str, value: float, unit: str, at_least: float | None = None, at_most: float | None = None) -> Measured:
    target = f">= {at_least:g}" if at_least is not None else f"<= {at_most:g}"
    holds = value >= at_least if at_least is not None else at_most is not None and value <= at_most
    return {"name": name, "value": value, "unit": unit, "target": target, "holds": holds}


if __name__ == "__main__":
    for each in measure():
        print(each)
