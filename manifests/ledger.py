"""Outcomes: what became of every item in every stage; exactly-once in effect.

The table is a log. The state of a key is its latest row by (lease epoch, sequence), never by a clock, so folding the
log is idempotent: a row that was appended twice, or by a driver that had already lost its lease, changes nothing.
"""

import json
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manifests import faults
from manifests.errors import is_full
from manifests.schema import OUTCOMES
from manifests.tables import Tables

DONE: Final = "done"
REJECTED: Final = "rejected"
QUARANTINED: Final = "quarantined"
FORGOTTEN: Final = "forgotten"
CRASHED: Final = "crashed"  # a worker died or hung with this item, alone or among others
STARTED: Final = "started"  # a suspect begins alone; written BEFORE it starts, so that one that kills all is found
LOST: Final = "lost"  # its artifact is missing or damaged: to be made again
REQUEUED: Final = "requeued"
SETTLED: Final = frozenset({DONE, REJECTED, QUARANTINED, FORGOTTEN})

COMMIT_RETRIES = 5
COMPACT_EVERY = 200  # commits


@dataclass(frozen=True)
class Outcome:
    """One row of the log, before the committer numbers it; the fields are those of `schema.OUTCOMES`."""

    key: str
    track: str
    item: str
    stage: str
    state: str
    reason: str | None = None
    detail: str | None = None
    made: dict[str, Any] | None = None
    artifacts: Sequence[dict[str, Any]] = ()
    seconds: float | None = None
    made_with: dict[str, Any] | None = None


@dataclass
class Fold:
    """The state of every key: the log folded at one version."""

    state: dict[str, str] = field(default_factory=dict)
    reason: dict[str, str] = field(default_factory=dict)  # of rejected and quarantined keys
    attempts: dict[str, int] = field(default_factory=dict)  # lone attempts of suspects that have not ended


def fold(tables: Tables) -> Fold:
    """Fold the log. One million rows take about two seconds and 0.5 GB."""
    log = tables.read("outcomes", columns=["key", "state", "reason", "epoch", "seq"])
    return fold_rows(log)


def highest_epoch(tables: Tables) -> int:
    """Return the highest epoch that ever wrote; a new lease must be above it, or its outcomes would not count."""
    epochs = tables.read("outcomes", columns=["epoch"])["epoch"]
    return int(pc.max(epochs).as_py() or 0)


def fold_rows(log: pa.Table) -> Fold:
    """Fold rows with the columns key, state, reason, epoch and seq, in whatever order they lie."""
    order = np.lexsort((log["seq"].to_numpy(), log["epoch"].to_numpy()))
    if not np.array_equal(order, np.arange(len(order))):
        log = log.take(pa.array(order))
    log = _without_repeats(log)
    folded = Fold()
    # a few words, shared: no million copies of "done", and no million Arrow scalars
    states = log["state"].combine_chunks().dictionary_encode()
    words = states.dictionary.to_pylist()
    folded.state = dict(zip(log["key"].to_pylist(), map(words.__getitem__, states.indices.to_numpy()), strict=True))
    for key, state, reason in _unsettled(log):
        if state == STARTED:
            folded.attempts[key] = folded.attempts.get(key, 0) + 1
        elif state in (REQUEUED, LOST):
            folded.attempts.pop(key, None)
        elif state in (REJECTED, QUARANTINED):
            folded.reason[key] = reason
    return folded


def _without_repeats(log: pa.Table) -> pa.Table:
    """Drop rows that landed twice: same epoch, same sequence, so they lie beside each other."""
    epoch, seq = log["epoch"].to_numpy(), log["seq"].to_numpy()
    fresh = np.ones(len(seq), bool)
    fresh[1:] = (epoch[1:] != epoch[:-1]) | (seq[1:] != seq[:-1])
    return log if fresh.all() else log.filter(pa.array(fresh))


def _unsettled(log: pa.Table) -> Iterable[tuple[str, str, str]]:
    few = log.filter(pc.not_equal(log["state"], DONE))
    return zip(few["key"].to_pylist(), few["state"].to_pylist(), few["reason"].to_pylist(), strict=True)


def latest(tables: Tables, where: str | None, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """Return the latest row of each key among the keys that fit `where` (SQL), oldest first.

    `where` should select whole keys (by key, item, stage or track): a condition on the state is asked of the caller
    afterwards, or an older row that fits would be taken for the latest.
    """
    wanted = None if columns is None else sorted({*columns, "key", "epoch", "seq"})
    rows = tables.read("outcomes", columns=wanted, where=where).to_pylist()
    rows.sort(key=lambda row: (row["epoch"], row["seq"]))
    newest = {row["key"]: row for row in rows}
    return sorted(newest.values(), key=lambda row: (row["epoch"], row["seq"]))


class Results:
    """What the done keys among `keys` hold, gathered in one pass over the log and kept as Arrow until asked for."""

    def __init__(self, tables: Tables, keys: Iterable[str]) -> None:
        wanted = pa.array(sorted(set(keys)), pa.string())
        columns = ["key", "made", "artifacts", "epoch", "seq"]
        found = [pa.schema([OUTCOMES.field(name) for name in columns]).empty_table()]

        def those_wanted() -> list[pa.Table]:
            dataset = tables.open("outcomes") if len(wanted) else None
            batches = dataset.to_batches(columns=columns, filter=f"state = '{DONE}'") if dataset is not None else ()
            return [pa.Table.from_batches([each.filter(pc.is_in(each["key"], value_set=wanted))]) for each in batches]

        found += tables.patiently(those_wanted)
        self._rows = pa.concat_tables(found).sort_by([("epoch", "ascending"), ("seq", "ascending")])
        self._place = {key: place for place, key in enumerate(self._rows["key"].to_pylist())}

    def __contains__(self, key: str) -> bool:
        return key in self._place

    def __getitem__(self, key: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the columns that are no artifact, and the artifact records."""
        (row,) = self._rows.slice(self._place[key], 1).to_pylist()
        return json.loads(row["made"] or "{}"), row["artifacts"] or []


class Committer:
    """The one writer of the ledger: numbers outcomes and appends them in groups, under a lease's epoch.

    One that takes over from a dead one of the same epoch numbers on from `after`.
    """

    def __init__(self, tables: Tables, epoch: int, every: int = 200, every_s: float = 2.0, after: int = 0) -> None:
        self._tables = tables
        self._epoch = epoch
        self._every = every
        self._every_s = every_s
        self._seq = after
        self._waiting: list[dict[str, Any]] = []
        self._open: tuple[str, list[dict[str, Any]]] | None = None  # a group of which it is not known whether it landed
        self._since = time.monotonic()
        self.commits = 0
        if tables.fragments("outcomes") > COMPACT_EVERY // 2:  # left by runs too short to tidy up themselves
            tables.compact("outcomes")

    def add(self, outcome: Outcome) -> None:
        """Take an outcome; it is written with the next group."""
        if not self._waiting:
            self._since = time.monotonic()
        self._seq += 1
        self._waiting.append(
            {
                **vars(outcome),
                "made": json.dumps(outcome.made, sort_keys=True) if outcome.made else None,
                "made_with": json.dumps(outcome.made_with, sort_keys=True) if outcome.made_with else None,
                "artifacts": list(outcome.artifacts),
                "epoch": self._epoch,
                "seq": self._seq,
                "written_at": datetime.now(UTC),
            }
        )

    def due(self) -> bool:
        """Say whether a group is full or old enough to be written."""
        return len(self._waiting) >= self._every or (
            bool(self._waiting) and time.monotonic() - self._since >= self._every_s
        )

    def flush(self) -> None:
        """Write what waits. After an error or an interruption nothing is lost, and the caller may call again.

        Raises:
            OSError: the disk did not take it after some tries; its message says why.
            StoreDown: the store did not.
        """
        while self._open is not None or self._waiting:
            if self._open is None:
                self._open, self._waiting = (uuid.uuid4().hex, self._waiting), []
                self._append(*self._open)
            elif not self._landed(self._open[0]):  # interrupted before: it may be there all the same
                self._append(*self._open)
            self._open = None
            self.commits += 1
            if self.commits % COMPACT_EVERY == 0:
                self._tables.compact("outcomes")

    def _append(self, commit_id: str, group: list[dict[str, Any]]) -> None:
        """Append a group once: an answer that was lost is looked for by its commit id before the next try."""
        rows = pa.Table.from_pylist([row | {"commit_id": commit_id} for row in group], schema=OUTCOMES)
        stages = {row["stage"] for row in group}
        faults.point("before_commit", *stages)
        for attempt in range(COMMIT_RETRIES):
            try:
                self._tables.append("outcomes", rows, landed=lambda: self._landed(commit_id))
                break
            except OSError as error:
                if is_full(error) or attempt == COMMIT_RETRIES - 1:
                    raise
                time.sleep(0.1 * 2**attempt)
                if self._landed(commit_id):
                    break
        faults.point("after_commit", *stages)

    def _landed(self, commit_id: str) -> bool:
        found = self._tables.read("outcomes", columns=["key"], where=f"commit_id = '{commit_id}'", limit=1)
        return bool(found.num_rows)
