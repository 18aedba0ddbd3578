"""The way of a list into a table: fetch, hash, decode once in a child process, cut, merge, write.

Work goes in batches, so that memory stays flat and a killed import loses little: repeated, it finds what is there by
content and goes on. A file whose SHA-256 the table knows is not decoded again. Everything is written under the lease.
"""

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import pyarrow as pa

from manifests.decoding import MediaError
from manifests.download import DownloadLimits
from manifests.entries import Entry, Given
from manifests.facts import FilmFacts, facts_of_film, facts_of_picture
from manifests.inspection import Limits, PictureFacts
from manifests.lease import Lease
from manifests.lists import MediaList
from manifests.rows import Row, character_row, contradicts, facts_in, id_of_place, merge, rejected_row, source_row
from manifests.sandbox import Sandbox
from manifests.schema import TABLES
from manifests.segments import Cutting, TimeSpan, segments_of
from manifests.tables import Tables
from pipeline.fetching import Fetched, Fetcher, clean
from pipeline.import_summary import ImportSummary

if TYPE_CHECKING:
    from pipeline.ray_import import RayHands, Reading

BATCH_PLACES: Final = 500
BATCH_S: Final = 30.0
_AHEAD: Final = 16  # places that are fetched or hashed before their turn
_COMPACT_AFTER: Final = 50  # writes
_LOOKED_UP: Final = 1000  # ids or URLs in one question to the table
_OF_KNOWN: Final = ["file", "file_sha256", "file_bytes", "origins"]

Facts = FilmFacts | PictureFacts
Item = TypeVar("Item")


@dataclass(frozen=True)
class ImportOptions:
    """How a list is imported."""

    cutting: Cutting = field(default_factory=Cutting)
    shots: bool = False
    shot_threshold: float = 0.5
    given: Given = field(default_factory=Given)  # for what a row leaves open
    limits: Limits = field(default_factory=Limits)
    downloads: DownloadLimits = field(default_factory=DownloadLimits)
    allow_private_hosts: bool = False
    refetch: bool = False  # fetch URLs again that were fetched before
    workers: int = 2
    timeout_s: float = 300.0  # to decode one file
    on: Literal["here", "ray"] = "here"


@dataclass(frozen=True)
class _Place:
    """The entries of a list that name one file, and what became of reading it."""

    entries: list[Entry]
    fetched: Fetched


class Intake:
    """One import into one root; `steps` does it and says how many entries each step took."""

    def __init__(self, found: MediaList, root: str, options: ImportOptions) -> None:
        self.found, self.options, self.kind = found, options, found.kind
        self.tables = Tables(root)
        self.summary = ImportSummary(self.kind, self.tables.root, found.path)
        self._hands: RayHands | None = None
        self._pending: dict[str, Row] = {}
        self._stale: set[str] = set()
        self._writes = 0
        self._written_s = time.monotonic()

    def steps(self) -> Iterator[int]:
        """Import the list; gives the number of entries that each step has dealt with.

        Raises:
            LeaseTaken: another process writes to this root.
        """
        started = time.monotonic()
        options = self.options
        with ExitStack() as stack:
            self._lease = stack.enter_context(Lease.take(self.tables.root, who="import"))
            clean(self.tables.root)
            limits = options.downloads
            self._fetcher = stack.enter_context(Fetcher(self.tables.root, limits, options.allow_private_hosts))
            box: Sandbox[tuple[str, Limits], Facts] = Sandbox(options.workers, timeout_s=options.timeout_s)
            self._box = stack.enter_context(box)
            if options.on == "ray":
                from pipeline.ray_import import RayHands

                self._hands = RayHands(self.tables.root, limits, options.timeout_s, self.found.size)
            for batch in _batches(self._places()):
                yield from self._take(batch)
                self._write()
            if self._writes >= _COMPACT_AFTER:
                self.tables.compact(self.kind)
        self.summary.version = self.tables.version(self.kind)
        self.summary.seconds = time.monotonic() - started

    def _places(self) -> Iterator[_Place]:
        """Give the places of the list in order, each read or fetched a little ahead of its turn."""
        grouped = (list(group) for _, group in itertools.groupby(self.found, key=lambda entry: entry.location))
        with ThreadPoolExecutor(max(4, self.options.workers), thread_name_prefix="fetch") as pool:
            coming: deque[tuple[list[Entry], Fetched | Future[Fetched] | Reading]] = deque()
            try:
                for entries, known in self._with_known(grouped):
                    coming.append((entries, known or self._coming(pool, entries[0])))
                    if len(coming) > (self._hands.ahead if self._hands else _AHEAD):
                        yield self._place(*coming.popleft())
                while coming:
                    yield self._place(*coming.popleft())
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _place(self, entries: list[Entry], fetched: "Fetched | Future[Fetched] | Reading") -> _Place:
        done = fetched if isinstance(fetched, Fetched) else fetched.result()
        return _Place(entries, self._fetcher.unless_forgotten(done))

    def _coming(self, pool: ThreadPoolExecutor, entry: Entry) -> "Fetched | Future[Fetched] | Reading":
        if entry.reject is not None:
            return Fetched(reject=entry.reject, reject_detail=entry.reject_detail)
        if self._hands is not None and entry.url is None:
            return self._hands.fetch(entry)
        return pool.submit(self._fetcher.fetch, entry)

    def _with_known(self, groups: Iterable[list[Entry]]) -> Iterator[tuple[list[Entry], Fetched | None]]:
        """Give each group with the file that an earlier import fetched from its URL, if there is one."""
        for some in _chunks(groups, _LOOKED_UP):
            urls = [] if self.options.refetch else [entries[0].location for entries in some if entries[0].url]
            known: dict[str, Fetched | None] = {}
            if urls:
                where = f"array_has_any(origins, [{_listed(urls)}]) AND reject IS NULL"
                for row in self.tables.read(self.kind, columns=_OF_KNOWN, where=where).to_pylist():
                    fetched = self._fetcher.known(row["file"], row["file_sha256"], row["file_bytes"])
                    known.update(dict.fromkeys(row["origins"], fetched))
            for entries in some:
                yield entries, known.get(entries[0].location)

    def _take(self, batch: list[_Place]) -> Iterator[int]:
        """Make the rows of a batch, decoding what the table does not know yet; gives the entries dealt with."""
        facts: dict[str, Facts | MediaError] = dict(self._known_facts(batch))
        todo: dict[str, str] = {}  # SHA-256 -> path of the first file with these bytes
        for fetched in (place.fetched for place in batch):
            if fetched.found and fetched.path and fetched.found.sha256 not in facts:
                todo.setdefault(fetched.found.sha256, fetched.path)
        inspect: Callable[[tuple[str, Limits]], Facts] = facts_of_film if self.kind == "sources" else facts_of_picture
        files = [(path, self.options.limits) for path in todo.values()]
        fetched_here = any(place.fetched.temporary for place in batch)  # where other nodes may not reach it
        looked = (self._box if self._hands is None or fetched_here else self._hands).map(inspect, files)
        for place in batch:
            sha256 = place.fetched.found.sha256 if place.fetched.found else ""
            if sha256 in todo and sha256 not in facts:  # results come in the order of `todo`: the next is this one's
                facts[sha256] = next(looked)[1]
                self.summary.decoded += 1
            self._add(place, facts.get(sha256))
            yield len(place.entries)
            if time.monotonic() - self._written_s > BATCH_S:
                self._write()

    def _known_facts(self, batch: list[_Place]) -> Iterator[tuple[str, Facts]]:
        hashes = sorted({place.fetched.found.sha256 for place in batch if place.fetched.found})
        if not hashes:
            return
        where = f"file_sha256 IN ({_listed(hashes)}) AND width IS NOT NULL"
        for row in self.tables.read(self.kind, where=where).to_pylist():
            if self.kind == "sources":
                yield row["file_sha256"], facts_in(row)
            else:
                yield row["file_sha256"], PictureFacts(row["width"], row["height"], row["has_alpha"], "")

    def _add(self, place: _Place, facts: Facts | MediaError | None) -> None:
        """Make the rows of one place."""
        entries, fetched, found = place.entries, place.fetched, place.fetched.found
        self.summary.entries += len(entries)
        self.summary.fetched += fetched.temporary
        self.summary.secrets += sum(entry.had_secret for entry in entries)
        entries = [replace(entry, given=entry.given.or_else(self.options.given)) for entry in entries]
        shots: list[TimeSpan] | None = None
        if isinstance(facts, FilmFacts) and self.options.shots and found is not None and fetched.path is not None:
            from pipeline.shot_cache import shots_in

            try:
                shots = shots_in(self.tables.root, fetched.path, found.sha256, facts, self.options.shot_threshold)
            except MediaError as error:
                facts = error
        if found is None or facts is None or isinstance(facts, MediaError):
            self._fetcher.drop(fetched)
            reason, detail = fetched.reject or "", fetched.reject_detail or ""
            if isinstance(facts, MediaError):
                reason, detail = facts.reason, facts.detail
            for entry in entries:
                self._put(rejected_row(self.kind, entry, reason, fetched.with_true_name(detail, entry.location), found))
            return
        self._fetcher.publish(fetched)
        self._stale.add(id_of_place(self.kind, entries[0].location))
        for entry in entries:
            self._stale.add(id_of_place(self.kind, f"{self.found.path}#{entry.line}"))
            if isinstance(facts, FilmFacts):
                for segment in segments_of(facts, entry.span, self.options.cutting, shots):
                    self._put(source_row(found, entry, facts, segment))
            else:
                self._put(character_row(found, entry, facts))

    def _put(self, row: Row) -> None:
        before = self._pending.get(row["id"])
        self.summary.contradictions += contradicts(before, row)
        self._pending[row["id"]] = merge(before, row, lambda _file: True)

    def _write(self) -> None:
        """Merge what is pending with what the table has, and write what that changes."""
        self._written_s = time.monotonic()
        there: dict[str, Row] = {}
        for ids in _chunks(sorted({*self._pending, *self._stale}), _LOOKED_UP):
            rows = self.tables.read(self.kind, where=f"id IN ({_listed(ids)})")
            there.update({row["id"]: row for row in rows.to_pylist()})
        changed = []
        for key, row in self._pending.items():
            old = there.get(key)
            merged = merge(old, row, self._fetcher.exists)
            if merged != old:
                changed.append(merged)
            self._count(old, merged, row)
        gone = [key for key in self._stale if key in there and key not in self._pending]
        self.summary.replaced += len(gone)
        self._pending, self._stale = {}, set()
        if changed or gone:
            self._lease.check()
            self._writes += 1
        if changed:
            self.tables.upsert(self.kind, pa.Table.from_pylist(changed, schema=TABLES[self.kind]))
        if gone:
            self.tables.delete(self.kind, f"id IN ({_listed(gone)})")

    def _count(self, old: Row | None, merged: Row, row: Row) -> None:
        summary = self.summary
        summary.new += old is None
        summary.merged += old is not None and merged != old
        summary.unchanged += merged == old
        summary.contradictions += contradicts(old, row)
        if merged["reject"] is not None:
            summary.rejected[merged["reject"]] += 1
            summary.examples.setdefault(merged["reject"], merged["reject_detail"] or merged["file"])


def _batches(places: Iterator[_Place]) -> Iterator[list[_Place]]:
    """Give places in batches that are full, or that have waited long enough."""
    batch: list[_Place] = []
    began = time.monotonic()
    for place in places:
        batch.append(place)
        if len(batch) >= BATCH_PLACES or time.monotonic() - began > BATCH_S:
            yield batch
            batch, began = [], time.monotonic()
    if batch:
        yield batch


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def _listed(values: Iterable[str]) -> str:
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)
