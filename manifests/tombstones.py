"""Tombstones: what was forgotten, so that it does not come back, and so that forgetting can be finished.

A tombstone is the one place under a root that still names a forgotten row: its ids and the SHA-256 of its file, by
which an import refuses it. It is written first, before anything is removed, in the state `begun`.
"""

import getpass
import json
import socket
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa

from manifests.keys import digest
from manifests.schema import TOMBSTONES
from manifests.tables import Tables

BEGUN: Final = "begun"
DONE: Final = "done"
PREFIX: Final = "tmb_"
REASON: Final = "forgotten"  # of rows and pairs that a tombstone keeps out


@dataclass(frozen=True)
class Tombstone:
    """One forgotten file; the fields are those of `schema.TOMBSTONES`."""

    id: str
    track: str
    items: Sequence[str]
    file_sha256: str | None
    pairs: Sequence[str]
    reason: str
    by: str
    at: datetime
    state: str = BEGUN
    indexes: Sequence[str] = ()
    slots: str = "{}"
    found: str | None = None

    @property
    def rows(self) -> frozenset[str]:
        """The ids of all rows that go: of the file, and of the pairs made of it."""
        return frozenset((*self.items, *self.pairs))


def new(
    track: str, items: Iterable[str], file_sha256: str | None, pairs: Iterable[str], reason: str, by: str | None = None
) -> Tombstone:
    """Return a tombstone of rows that are about to be forgotten."""
    listed = sorted(items)
    who = by or f"{getpass.getuser()} on {socket.gethostname()}"
    return Tombstone(
        PREFIX + digest(["tombstone", listed]),
        track,
        listed,
        file_sha256,
        sorted(pairs),
        reason,
        who,
        datetime.now(UTC),
    )


def write(tables: Tables, tombstone: Tombstone) -> None:
    """Write a tombstone, or its new state; under the lease only."""
    tables.upsert("tombstones", pa.Table.from_pylist([asdict(tombstone)], schema=TOMBSTONES))


def finished(tombstone: Tombstone, found: Mapping[str, Any]) -> Tombstone:
    """Return it as it is once all is done; `found` says what was removed."""
    return replace(tombstone, state=DONE, found=json.dumps(found, sort_keys=True))


def all_of(tables: Tables) -> list[Tombstone]:
    """Return all tombstones under a root."""
    return [Tombstone(**row) for row in tables.read("tombstones").to_pylist()]


def refused(tables: Tables) -> frozenset[str]:
    """Return the SHA-256 of the files that an import must not take."""
    return frozenset(each.file_sha256 for each in all_of(tables) if each.file_sha256)


def slots_of(tables: Tables, cut: str) -> Counter[str]:
    """Return group -> samples that were forgotten from it in a cut.

    They count when a group is divided into shards: else forgetting one sample too many would divide it anew, and
    shards that it does not concern would change.
    """
    slots: Counter[str] = Counter()
    for each in all_of(tables):
        slots.update(json.loads(each.slots or "{}").get(cut, {}))
    return slots
