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
KEYS_IN_ONE_SCAN = 4000


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


def fold(tables: Tables, version: int | None = None) -> Fold:
    """Fold the log. One million rows take about two seconds and 0.5 GB."""
    log = tables.read("outcomes", columns=["key", "state", "reason", "epoch", "seq"], version=version)
    return fold_rows(log)


def fold_rows(log: pa.Table) -> Fold:
    """Fold rows with the columns key, state, reason, epoch and seq, in whatever order they lie."""
    order = np.lexsort((log["seq"].to_numpy(), log["epoch"].to_numpy()))
    if not np.array_equal(order, np.arange(len(order))):
        log = log.take(pa.array(order))
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


def results(tables: Tables, keys: Sequence[str]) -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Return key -> (columns that are no artifact, artifact records) of the keys that are done."""
    found = {}
    for start in range(0, len(keys), KEYS_IN_ONE_SCAN):
        listed = ", ".join(f"'{key}'" for key in keys[start : start + KEYS_IN_ONE_SCAN])
        for row in latest(tables, f"key IN ({listed})", ["state", "made", "artifacts"]):
            if row["state"] == DONE:
                found[row["key"]] = (json.loads(row["made"] or "{}"), row["artifacts"] or [])
    return found


class Committer:
    """The one writer of the ledger: numbers outcomes and appends them in groups, under a lease's epoch."""

    def __init__(self, tables: Tables, epoch: int, every: int = 200, every_s: float = 2.0) -> None:
        self._tables = tables
        self._epoch = epoch
        self._every = every
        self._every_s = every_s
        self._seq = 0
        self._waiting: list[dict[str, Any]] = []
        self._since = time.monotonic()
        self.commits = 0

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
        """Write what waits. After an error it still waits, and the caller may call again.

        Raises:
            OSError: the store did not take it after some tries; its message says why.
        """
        if not self._waiting:
            return
        commit_id = uuid.uuid4().hex
        rows = pa.Table.from_pylist([row | {"commit_id": commit_id} for row in self._waiting], schema=OUTCOMES)
        stages = {row["stage"] for row in self._waiting}
        faults.point("before_commit", *stages)
        self._append(rows, commit_id)
        faults.point("after_commit", *stages)
        self._waiting.clear()
        self.commits += 1
        if self.commits % COMPACT_EVERY == 0:
            self._tables.compact("outcomes")

    def _append(self, rows: pa.Table, commit_id: str) -> None:
        """Append a group once: an answer that was lost is looked for by its commit id before the next try."""
        for attempt in range(COMMIT_RETRIES):
            try:
                self._tables.append("outcomes", rows)
                return
            except OSError as error:
                if _is_full(error) or attempt == COMMIT_RETRIES - 1:
                    raise
                time.sleep(0.1 * 2**attempt)
                if self._tables.read("outcomes", columns=["key"], where=f"commit_id = '{commit_id}'", limit=1).num_rows:
                    return


def _is_full(error: OSError) -> bool:
    return "no space left" in str(error).lower() or "os error 28" in str(error).lower()
