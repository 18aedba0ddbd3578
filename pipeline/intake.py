"""The way of a list into a table: fetch, hash, decode once in a child process, cut, merge, write.

Work goes in batches, so that memory stays flat and a killed import loses little: repeated, it finds what is there by
content and goes on. A file whose SHA-256 the table knows is not decoded again. Everything is written under the lease.
"""

import itertools
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import pyarrow as pa

from manifests.decoding import MediaError
from manifests.download import DownloadLimits
from manifests.entries import Entry, Given
from manifests.inspection import Limits, PictureFacts, VideoFacts, inspect_picture, inspect_video
from manifests.lease import Lease
from manifests.lists import MediaList
from manifests.rows import (
    Row,
    character_row,
    contradicts,
    facts_in,
    id_of_place,
    merge,
    rejected_row,
    source_row,
)
from manifests.sandbox import Sandbox
from manifests.schema import TABLES
from manifests.segments import Cutting, FilmFacts, TimeSpan, segments_of
from manifests.tables import Tables
from pipeline.fetching import Fetched, Fetcher, clean

BATCH_PLACES: Final = 500
BATCH_S: Final = 30.0
_AHEAD: Final = 16  # places that are fetched or hashed before their turn
_COMPACT_AFTER: Final = 50  # writes

Facts = FilmFacts | PictureFacts


@dataclass(frozen=True)
class ImportOptions:
    """How a list is imported."""

    cutting: Cutting = Cutting()
    shots: bool = False
    shot_threshold: float = 0.5
    given: Given = Given()  # for what a row leaves open
    limits: Limits = Limits()
    downloads: DownloadLimits = DownloadLimits()
    allow_private_hosts: bool = False
    refetch: bool = False  # fetch URLs again that were fetched before
    workers: int = 2
    timeout_s: float = 300.0  # to decode one file


@dataclass
class ImportSummary:
    """What an import did; `new`, `merged` and `unchanged` count rows, `rejected` those of them that cannot be used."""

    kind: str
    root: str
    list: str
    entries: int = 0
    new: int = 0
    merged: int = 0
    unchanged: int = 0
    replaced: int = 0  # rows of a place that once failed, removed because it works now
    rejected: Counter[str] = field(default_factory=Counter)
    decoded: int = 0  # files; the others were known by content
    fetched: int = 0  # URLs
    contradictions: int = 0  # rows that give another identity or domain than the one that stands
    secrets: int = 0  # URLs whose credentials were not stored
    version: int = 0
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the summary as plain values."""
        return {**asdict(self), "rejected": dict(sorted(self.rejected.items())), "seconds": round(self.seconds, 3)}


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
            coming: deque[tuple[list[Entry], Any]] = deque()
            try:
                for entries, known in self._with_known(grouped):
                    coming.append((entries, known or pool.submit(self._fetch, entries[0])))
                    if len(coming) > _AHEAD:
                        yield _place(*coming.popleft())
                while coming:
                    yield _place(*coming.popleft())
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _fetch(self, entry: Entry) -> Fetched:
        if entry.reject is not None:
            return Fetched(reject=entry.reject, reject_detail=entry.reject_detail)
        return self._fetcher.fetch(entry)

    def _with_known(self, groups: Iterable[list[Entry]]) -> Iterator[tuple[list[Entry], Fetched | None]]:
        """Give each group with the file that an earlier import fetched from its URL, if there is one."""
        for some in _chunks(groups, 100):
            urls = [] if self.options.refetch else [entries[0].location for entries in some if entries[0].url]
            known = {}
            if urls:
                wanted = ", ".join(_quoted(url) for url in urls)
                where = f"array_has_any(origins, [{wanted}]) AND reject IS NULL"
                columns = ["file", "file_sha256", "file_bytes", "origins"]
                for row in self.tables.read(self.kind, columns=columns, where=where).to_pylist():
                    if self._fetcher.exists(row["file"]):
                        known.update({url: Fetched.of_row(row, url) for url in row["origins"]})
            for entries in some:
                yield entries, known.get(entries[0].location)

    def _take(self, batch: list[_Place]) -> Iterator[int]:
        """Make the rows of a batch, decoding what the table does not know yet."""
        known: dict[str, Facts | MediaError] = dict(self._known_facts(batch))
        todo: dict[str, _Place] = {}
        for place in batch:
            if place.fetched.found and place.fetched.path and place.fetched.found.sha256 not in known:
                todo.setdefault(place.fetched.found.sha256, place)
        jobs = [(place.fetched.path or "", self.options.limits) for place in todo.values()]
        looked = self._box.map(inspect_source if self.kind == "sources" else inspect_character, jobs)
        for place in batch:
            sha256 = place.fetched.found.sha256 if place.fetched.found else None
            while sha256 is not None and sha256 not in known:
                (path, _), facts = next(looked)
                known[next(sha for sha, other in todo.items() if other.fetched.path == path)] = facts
                self.summary.decoded += 1
            self._add(place, known[sha256] if sha256 is not None else None)
            yield len(place.entries)
            if time.monotonic() - self._written_s > BATCH_S:
                self._write()

    def _known_facts(self, batch: list[_Place]) -> Iterator[tuple[str, Facts]]:
        hashes = {place.fetched.found.sha256 for place in batch if place.fetched.found}
        if not hashes:
            return
        where = f"file_sha256 IN ({', '.join(map(_quoted, sorted(hashes)))}) AND width IS NOT NULL"
        for row in self.tables.read(self.kind, where=where).to_pylist():
            if self.kind == "sources":
                yield row["file_sha256"], facts_in(row)
            else:
                yield row["file_sha256"], PictureFacts(row["width"], row["height"], row["has_alpha"], "")

    def _add(self, place: _Place, facts: Facts | MediaError | None) -> None:
        """Make the rows of one place."""
        summary, fetched = self.summary, place.fetched
        summary.entries += len(place.entries)
        summary.fetched += fetched.temporary
        summary.secrets += sum(entry.had_secret for entry in place.entries)
        spans: list[TimeSpan] | None = None
        if isinstance(facts, FilmFacts) and self.options.shots and fetched.path:
            from pipeline.shot_cache import ShotCache

            assert fetched.found is not None
            cache = ShotCache(self.tables.root, self.options.shot_threshold)
            facts_or_error = cache.spans(fetched.path, fetched.found.sha256, facts)
            if isinstance(facts_or_error, MediaError):
                facts = facts_or_error
            else:
                spans = facts_or_error
        if facts is None or isinstance(facts, MediaError):
            self._fetcher.drop(fetched)
            reason, detail = (fetched.reject, fetched.reject_detail) if facts is None else (facts.reason, facts.detail)
            for entry in place.entries:
                entry = self._completed(entry)
                self._put(rejected_row(self.kind, entry, reason or "unknown", detail or "", fetched.found))
            return
        found = self._fetcher.publish(fetched)
        self._stale.add(id_of_place(self.kind, place.entries[0].location))
        for entry in map(self._completed, place.entries):
            self._stale.add(id_of_place(self.kind, f"{self.found.path}#{entry.line}"))
            if isinstance(facts, FilmFacts):
                for segment in segments_of(facts, entry.span, self.options.cutting, spans):
                    self._put(source_row(found, entry, facts, segment))
            else:
                self._put(character_row(found, entry, facts))
