"""`forget`: a source or a character, and all that was made of it, goes from every byte under the root.

A tombstone is written first and says what goes; each step that follows may be done twice. So a kill at any moment is
mended by the same command, and an import refuses the file from the first moment on.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final

import pyarrow as pa

from manifests import faults, ledger, tombstones
from manifests.errors import NoSpaceError, is_full
from manifests.files import files_of
from manifests.lease import Lease
from manifests.ledger import Committer
from manifests.schema import PAIRS
from manifests.shards.index import folder_of
from manifests.tables import Tables
from manifests.tombstones import REASON, Tombstone
from pipeline.takedown import TakedownError, Touched, outcomes_of, tombstone_of, touched, touched_by
from pipeline.takedown_purge import (
    forget_copies,
    forget_shots,
    keys_known,
    move_tags,
    purge_versions,
    redact,
    remove_orphans,
    write_anew,
)
from pipeline.takedown_shards import ShardTakedown, slots_in

STEPS: Final = ("begun", "shards", "artifacts", "tables", "pages", "versions")  # a test kills behind each
_AT_ONCE: Final = 1000  # ids in one condition


@dataclass
class Forgotten:
    """What was removed, and sentences on what is out of reach."""

    tombstone: str
    items: list[str]
    pairs: int
    found: dict[str, Any] = field(default_factory=dict)
    beyond: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it as `--json` prints it."""
        return vars(self)


def forget(root: str, item: str, reason: str, by: str | None = None, runs: Sequence[str] = ()) -> Forgotten:
    """Remove all rows of the file that `item` is of, and what was made of them; leave a tombstone.

    Args:
        root: Folder or URL of the tables.
        item: Id of a source or a character.
        reason: Kept in the tombstone.
        by: Who asked; the user of this machine if None.
        runs: Folders in which trainings lie: what they read cannot be taken back, and is told.

    Raises:
        TableError: No row begins so, or several do.
        TakedownError: It is no source and no character, or was forgotten before.
        LeaseTaken: A run is going on under this root.
        NoSpaceError: The disk is full.
    """
    tables = Tables(root)
    known = tombstone_of(tables, item)
    if known is not None and known.state == tombstones.DONE:
        raise TakedownError(f"{item} was forgotten already, on {known.at:%Y-%m-%d}: {known.reason} ({known.id})")
    if known is None:
        touched(tables, item)  # a wrong id ends here, before the lease
    try:
        with Lease.take(root, "bodydouble forget", above=ledger.highest_epoch(tables)) as lease:
            found = touched_by(tables, known, runs) if known else touched(tables, item, runs)
            return _Forgetting(tables, lease, known or _begun(tables, found, reason, by), found).execute()
    except OSError as error:
        if is_full(error):
            raise NoSpaceError(tables.root) from error
        raise


def _begun(tables: Tables, found: Touched, reason: str, by: str | None) -> Tombstone:
    """Return the tombstone of what is about to go, with what could not be told any more afterwards."""
    made = tombstones.new(found.track, found.items, found.file_sha256, found.pairs, reason, by)
    slots = slots_in(files_of(tables.root), found.shards, made.rows)
    return replace(made, indexes=found.indexes, slots=json.dumps(slots, sort_keys=True))


class _Forgetting:
    """One takedown under one lease."""

    def __init__(self, tables: Tables, lease: Lease, tombstone: Tombstone, found: Touched) -> None:
        self.tables, self.lease, self.tombstone, self.found = tables, lease, tombstone, found
        self.files = files_of(tables.root)
        self.gone = tombstone.rows
        self.counts: Counter[str] = Counter()
        self.told: list[str] = []

    def execute(self) -> Forgotten:
        """Do all steps in order."""
        tombstones.write(self.tables, self.tombstone)
        for name in STEPS:
            self.lease.check()
            getattr(self, f"_{name}")()
            faults.point("forget", name)
        found = {**self.counts, "notes": self.told}
        tombstones.write(self.tables, tombstones.finished(self.tombstone, found))
        return Forgotten(
            self.tombstone.id, list(self.tombstone.items), len(self.tombstone.pairs), found, list(self._beyond())
        )

    def _begun(self) -> None:
        """The tombstone stands."""

    def _shards(self) -> None:
        committer = Committer(self.tables, self.lease.epoch)
        takedown = ShardTakedown(self.tables, self.files, committer, self.gone)
        takedown.execute(self.found.shards)
        self.counts["shards_rebuilt"] = len(takedown.rebuilt)
        self.counts["shards_removed"] = len(self.found.shards) - len(takedown.rebuilt)
        if takedown.damaged:
            names = ", ".join(takedown.damaged)
            self.told.append(f"damaged shards went as a whole, `bodydouble pack` writes them anew: {names}")

    def _artifacts(self) -> None:
        """Remove the files that were made of these rows, those that no outcome names, and what was fetched."""
        places, keys = set(), set()
        for batch in outcomes_of(self.tables, self.gone):
            for row in batch.to_pylist():
                places |= {each["address"] for each in row["artifacts"] or []}
                keys.add(row["key"])
        for place in places:
            self.files.remove(place)
        others = {key for key in keys_known(self.tables) if key not in keys}
        self.counts["artifacts"] = len(places)
        self.counts["orphans"] = remove_orphans(self.files, others)
        fetched = [file.removeprefix(f"{self.tables.root}/") for file in self.found.files if self._is_ours(file)]
        for place in fetched:
            self.files.remove(place)
        self.counts["downloads"] = len(fetched)
        if self.tombstone.file_sha256:
            self.counts["shots"] = forget_shots(self.files, self.tombstone.file_sha256)
        if not self.files.is_local:
            tars = [f"{folder_of(row['cut'])}/{row['name']}.tar" for row in self.found.shards]
            forget_copies(self.tables.root, [*places, *fetched, *tars])

    def _tables(self) -> None:
        """Take the rows out: the outcomes first, the row itself last, by which a second try finds the rest."""
        for some in _chunks(sorted(self.gone)):
            self.tables.delete("outcomes", f"item IN ({_listed(some)})")
        rows = {row["id"]: row for row in self.tables.read("pairs").to_pylist() if row["id"] in self.gone}
        side = self.tombstone.track[:-1]
        said = {side: None, "reject": REASON, "reject_detail": f"its {side} was taken down ({self.tombstone.id})"}
        if rows:
            cut = [{**row, **said} for row in rows.values()]
            self.tables.upsert("pairs", pa.Table.from_pylist(cut, schema=PAIRS))
        for some in _chunks(self.tombstone.items):
            self.tables.delete(self.tombstone.track, f"id IN ({_listed(some)})")
        self.counts["outcomes"], self.counts["pairs"] = self.found.outcomes, len(rows)

    def _pages(self) -> None:
        tokens = [*self.tombstone.items, *self.tombstone.pairs]
        if self.tombstone.file_sha256:
            tokens.append(self.tombstone.file_sha256)
        changed = redact(self.files, tokens, self.tombstone.id)
        self.counts["pages"] = len(changed)

    def _versions(self) -> None:
        write_anew(self.tables)  # before a tag goes to the newest version, which is then free of deleted rows
        self.told += move_tags(self.tables, self.files, self.tombstone.track, self.gone)
        purge_versions(self.tables)

    def _is_ours(self, file: str) -> bool:
        return file.startswith(f"{self.tables.root}/downloads/")

    def _beyond(self) -> Iterator[str]:
        """Say what is out of reach."""
        for file in self.found.files:
            if not self._is_ours(file):
                yield f"the file itself lies outside the root and was left: {file}"
        for training in self.found.trainings:
            yield f"a model that was trained cannot unlearn: {training['folder']} ({training['how']})"
        for labels in self.found.labels:
            path, _, count = labels.rpartition(": ")
            yield f"labels that name its pairs were left: {path}, {count} lines"
        yield "shards, artifacts, tables and reports that lie elsewhere, backups, and caches of other machines"


def _chunks(values: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(values)
    while chunk := list(islice(iterator, _AT_ONCE)):
        yield chunk


def _listed(values: Iterable[str]) -> str:
    return ", ".join(f"'{value}'" for value in values)
