"""Shards without what is forgotten: those that held it are written anew from what else they hold, and no others."""

import hashlib
import io
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import pyarrow as pa

from manifests import ledger
from manifests.files import Files
from manifests.ledger import Committer, Outcome
from manifests.schema import SHARDS
from manifests.shards.index import INDEX, Line, folder_of, index_bytes, index_from, page_from
from manifests.shards.plan import PREFIX
from manifests.shards.tar import ShardError
from manifests.shards.writing import remove_leftovers, without
from manifests.store import as_record
from manifests.tables import Tables
from manifests.tombstones import REASON
from pipeline.packing import STAGE, put_index
from pipeline.verify import SHARDS as TRACK

_COUNTED: Final = ("format", "cut", "samples", "bytes")  # of an index: what writing it anew adds


class ShardTakedown:
    """Takes rows out of all shards under a root, under the lease. Each step may be done twice."""

    def __init__(self, tables: Tables, files: Files, committer: Committer, gone: frozenset[str]) -> None:
        self._tables, self._files, self._committer, self._gone = tables, files, committer, gone
        self.rebuilt: list[str] = []
        self.damaged: list[str] = []  # could not be read: gone as a whole, until it is packed again

    def execute(self, touched: list[dict[str, Any]]) -> None:
        """Write the new shards, then the indexes that name them; then the old ones go; their rows last of all."""
        by_cut: dict[str, dict[str, Line | None]] = {}
        rows = []
        for row in touched:
            remove_leftovers(self._files, folder_of(row["cut"]))
            line = self._rebuilt(row)
            by_cut.setdefault(row["cut"], {})[row["id"].removeprefix(PREFIX)] = line
            if line is not None:
                left = [sample for sample in row["samples"] if sample not in self._gone]
                rows.append({**row, "id": PREFIX + line.key, "name": _name(line), "samples": left})
                self._committer.add(_outcome(row["cut"], line))
        if rows:
            self._tables.upsert("shards", pa.Table.from_pylist(rows, schema=SHARDS))
        self._committer.flush()
        for cut, lines in by_cut.items():
            self._write_index(cut, lines)
        self._committer.flush()
        for row in touched:
            for ending in ("tar", "json"):
                self._files.remove(f"{folder_of(row['cut'])}/{row['name']}.{ending}")
            key = row["id"].removeprefix(PREFIX)
            self._committer.add(Outcome(key, TRACK, row["id"], STAGE, ledger.FORGOTTEN, reason=REASON))
        self._committer.flush()
        # what is left of the row says later which samples a training saw that read an index of before
        old = [row | {"samples": [each for each in row["samples"] if each not in self._gone]} for row in touched]
        if old:
            self._tables.upsert("shards", pa.Table.from_pylist(old, schema=SHARDS))

    def _rebuilt(self, row: Mapping[str, Any]) -> Line | None:
        """Write a shard without the samples that go; None if none is left, or if it is not there or damaged."""
        folder = folder_of(row["cut"])
        place = f"{folder}/{row['name']}"
        try:
            page = page_from(self._files.read(f"{place}.json"), f"{place}.json")
            data = self._files.read(f"{place}.tar", page.size_bytes)
            if hashlib.sha256(data).hexdigest() != page.sha256:
                raise ShardError(f"{place}.tar has changed")
            line = without(self._files, folder, page, io.BytesIO(data), self._gone)
        except FileNotFoundError:  # pruned long ago, or removed by this very command before it was killed
            return None
        except ShardError:
            self.damaged.append(row["name"])
            return None
        if line is not None:
            self.rebuilt.append(_name(line))
        return line

    def _write_index(self, cut: str, replaced: Mapping[str, Line | None]) -> None:
        """Write the index of a cut with other lines for these keys, if it names one of them."""
        place = f"{folder_of(cut)}/{INDEX}"
        if not self._files.exists(place):
            return
        about, lines = index_from(self._files.read(place), place)
        if not any(line.key in replaced for line in lines):
            return
        kept = [replaced.get(line.key, line) for line in lines]
        about = {name: value for name, value in about.items() if name not in _COUNTED}
        data = index_bytes(cut, [line for line in kept if line is not None], about)
        put_index(self._files, self._tables, self._committer, cut, data)


def slots_in(files: Files, touched: Iterable[Mapping[str, Any]], gone: Collection[str]) -> dict[str, dict[str, int]]:
    """Return cut -> group -> samples of these rows that its index names now."""
    slots: dict[str, dict[str, int]] = {}
    by_cut: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in touched:
        by_cut.setdefault(row["cut"], {})[row["id"].removeprefix(PREFIX)] = row
    for cut, rows in by_cut.items():
        place = f"{folder_of(cut)}/{INDEX}"
        if not files.exists(place):
            continue
        for line in index_from(files.read(place), place)[1]:
            count = sum(sample in gone for sample in rows[line.key]["samples"]) if line.key in rows else 0
            if count:
                groups = slots.setdefault(cut, {})
                groups[line.group.label] = groups.get(line.group.label, 0) + count
    return slots


def _outcome(cut: str, line: Line) -> Outcome:
    made = {"samples": line.samples, "bytes": line.tar.bytes, "cut": cut}
    artifacts = [as_record(line.tar), as_record(line.page)]
    return Outcome(line.key, TRACK, PREFIX + line.key, STAGE, ledger.DONE, made=made, artifacts=artifacts)


def _name(line: Line) -> str:
    return line.page.address.rpartition("/")[2].removesuffix(".json")
