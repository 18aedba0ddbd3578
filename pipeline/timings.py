"""How long items took, and how they ended: read from the ledger, in flat memory.

One pass over the log, a batch of rows at a time and few columns of it. Of each stage and recipe the pass keeps exact
counts and sums, and a random sample of at most `SAMPLE` working times.
"""

import json
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from manifests import ledger
from manifests.tables import Tables

SAMPLE: Final = 4096  # working times kept of a stage and recipe: quantiles are then right within 1.6 % of the rows
COLUMNS: Final = ("track", "stage", "state", "seconds", "made_with")
COUNTED: Final = (ledger.DONE, ledger.REJECTED, ledger.QUARANTINED)

Floats = npt.NDArray[np.float64]


@dataclass
class Timing:
    """The outcomes of one stage of one track with one recipe.

    `seconds` are working times of done and rejected items. The items of a batch share its time evenly, so the times of
    a batch are one measurement, written several times: `batches` is the number of independent ones.
    """

    ended: Counter[str] = field(default_factory=Counter)  # state -> rows of the log
    devices: Counter[str] = field(default_factory=Counter)
    count: int = 0
    total_s: float = 0.0
    batches: float = 0.0
    last: int = -1  # place in the log of its newest row
    seconds: Floats = field(default_factory=lambda: np.empty(0))  # the sample
    _lots: Floats = field(default_factory=lambda: np.empty(0))  # those with the smallest lots stay in the sample

    @property
    def mean_s(self) -> float:
        """Return the mean working time of all items, not of the sample alone."""
        return self.total_s / self.count

    def add(self, seconds: Floats, batch: int, device: str, chance: np.random.Generator) -> None:
        """Take working times that were measured in batches of one size on one device."""
        self.devices[device] += len(seconds)
        self.count += len(seconds)
        self.total_s += float(seconds.sum())
        self.batches += len(seconds) / batch
        lots = np.concatenate([self._lots, chance.random(len(seconds))])
        self.seconds = np.concatenate([self.seconds, seconds])
        if len(lots) > SAMPLE:
            kept = np.argpartition(lots, SAMPLE)[:SAMPLE]
            lots, self.seconds = lots[kept], self.seconds[kept]
        self._lots = lots


@dataclass(frozen=True)
class _Work:
    """What a row's `made_with` says, as far as it matters here."""

    recipe: str | None
    batch: int
    device: str
    adopted: bool


def read_timings(
    tables: Tables, stages: Collection[tuple[str, str]]
) -> dict[tuple[str, str], dict[str | None, Timing]]:
    """Return (track, stage) -> digest of the recipe -> its timing, for the stages asked for.

    An adopted outcome says again what was measured when the artifact was made, so adopted ones are left out, unless a
    recipe has no others (the ledger was lost and found its artifacts again). Rows without a recipe (a worker that died
    says nothing) count under None.
    """
    dataset = tables.open("outcomes")
    found: dict[tuple[str, str], dict[str | None, Timing]] = {stage: {} for stage in stages}
    if dataset is None or not stages:
        return found
    adopted: dict[tuple[str, str], dict[str | None, Timing]] = {stage: {} for stage in stages}
    chance = np.random.default_rng(0)  # which times are kept is chance, but the same at each reading
    condition = f"state IN ({', '.join(repr(state) for state in COUNTED)})"
    rows = 0
    for batch in dataset.to_batches(columns=list(COLUMNS), filter=condition):
        if batch.num_rows:
            _add_batch(batch, rows, found, adopted, chance)
        rows += batch.num_rows
    for stage, timings in adopted.items():
        for recipe, timing in timings.items():
            known = found[stage].get(recipe)
            if known is None or not known.count:
                found[stage][recipe] = timing
    return found


def _add_batch(
    batch: pa.RecordBatch,
    before: int,
    found: dict[tuple[str, str], dict[str | None, Timing]],
    adopted: dict[tuple[str, str], dict[str | None, Timing]],
    chance: np.random.Generator,
) -> None:
    """Sort a batch of rows into groups that say the same in all columns but `seconds`."""
    names = ("track", "stage", "state", "made_with")
    codes, words = zip(*(_codes(batch[name]) for name in names), strict=True)
    seconds = batch["seconds"].to_numpy(zero_copy_only=False)
    sizes = tuple(len(known) for known in words)
    member = np.ravel_multi_index(codes, sizes)  # counted, not sorted: sorting took most of the time
    for group in np.flatnonzero(np.bincount(member)):
        track, stage, state, made_with = (
            known[code] for known, code in zip(words, np.unravel_index(group, sizes), strict=True)
        )
        work = _work(made_with)
        timings = (adopted if work.adopted else found).get((track, stage))
        if timings is None:
            continue
        places = np.flatnonzero(member == group)
        timing = timings.setdefault(work.recipe, Timing())
        timing.ended[state] += len(places)
        timing.last = max(timing.last, before + int(places[-1]))
        known = seconds[places]
        known = known[np.isfinite(known)]
        if state != ledger.QUARANTINED and len(known):
            timing.add(known, work.batch, work.device, chance)


def _codes(column: pa.Array) -> tuple[npt.NDArray[np.int64], list[Any]]:
    """Return a column as numbers, and what each means: a log says few different things very often."""
    encoded = column.dictionary_encode(null_encoding="encode")
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()


def _work(made_with: str | None) -> _Work:
    told = json.loads(made_with) if made_with else {}
    batch, device = int(told.get("batch") or 1), str(told.get("device") or "unknown")
    return _Work(told.get("recipe"), max(1, batch), device, bool(told.get("adopted")))
