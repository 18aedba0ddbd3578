"""What a source or a character touches: pairs, artifacts, shards, labels, reports and trainings.

Rows of one file belong together: who asks for a film to be taken down means all of its segments, and who asks for a
picture all of its crops. So `impact` and `forget` take the id of any of them.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from manifests import tombstones
from manifests.errors import UserError
from manifests.files import Files, files_of
from manifests.shards.index import FOLDER, READING, index_from
from manifests.shards.plan import PREFIX as SHARD
from manifests.shards.tar import ShardError
from manifests.tables import TableError, Tables
from manifests.tombstones import Tombstone
from pipeline.inspecting import find

TABLES_OF_ROWS: Final = ("sources", "characters")
_MARKS_OF_TRAINING: Final = (READING, "metrics.jsonl", "checkpoints")
_DEPTH: Final = 3  # folders below the one that is named
_HEAD_BYTES: Final = 1000  # in which a report says that it is one
_LARGEST_PAGE: Final = 50_000_000  # bytes; what is larger is no page for people
REPORT_MARK: Final = '<meta name="generator" content="bodydouble report">'
"""What every page by `report` says in its head. Such a page shows pictures of many, and not all of them by name."""
_PAGES: Final = (".json", ".jsonl", ".yaml", ".yml", ".txt", ".md", ".csv", ".html")
_FLAT: Final = ("runs", "recipes", "keep", "look", "reports")  # folders of a root that is a URL


class TakedownError(UserError):
    """Nothing can be taken down by this id; the message is one sentence for the user."""


@dataclass
class Touched:
    """What the rows of one file touch."""

    track: str
    items: list[str]
    file_sha256: str | None
    files: list[str]
    pairs: list[str]
    outcomes: int = 0
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    shards: list[dict[str, Any]] = field(default_factory=list)  # rows of table `shards`
    indexes: list[str] = field(default_factory=list)  # SHA-256 of those that named one of these shards
    labels: list[str] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)
    trainings: list[dict[str, str]] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)

    @property
    def rows(self) -> frozenset[str]:
        """All ids that go."""
        return frozenset((*self.items, *self.pairs))

    def as_json(self) -> dict[str, Any]:
        """Return it as `--json` prints it."""
        shards = [{name: row[name] for name in ("id", "cut", "name", "kind")} for row in self.shards]
        artifacts = {"count": len(self.artifacts), "bytes": sum(each["bytes"] for each in self.artifacts)}
        return {**vars(self), "shards": shards, "artifacts": artifacts}


def impact(root: str, item: str, runs: Sequence[str] = ()) -> Touched:
    """Return what a source or character touches; nothing is written. `item` may be the beginning of an id.

    Args:
        root: Folder or URL of the tables.
        item: Its id.
        runs: Folders in which trainings lie.

    Raises:
        TableError: No row begins so, or several do.
        TakedownError: It is no source and no character, or was forgotten.
    """
    tables = Tables(root)
    tombstone = tombstone_of(tables, item)
    if tombstone is not None and tombstone.state == tombstones.DONE:
        raise TakedownError(f"{item} was forgotten on {tombstone.at:%Y-%m-%d}: {tombstone.reason} ({tombstone.id})")
    return touched_by(tables, tombstone, runs) if tombstone else touched(tables, item, runs)


def tombstone_of(tables: Tables, item: str) -> Tombstone | None:
    """Return the tombstone that names a row by its whole id; None if there is none."""
    return next((each for each in tombstones.all_of(tables) if item in each.items), None)


def touched(tables: Tables, item: str, runs: Sequence[str] = ()) -> Touched:
    """Find what a row that still stands touches."""
    track, row = find(tables, item)
    if track not in TABLES_OF_ROWS:
        raise TakedownError(
            f"{row['id']} is in table {track}: name the source or the character, as `bodydouble trace {row['id']}` says"
        )
    same = f"file_sha256 = '{row['file_sha256']}'" if row["file_sha256"] else f"id = '{row['id']}'"
    found = tables.read(track, columns=["id", "file"], where=same)
    items = sorted(found["id"].to_pylist())
    files = sorted(set(found["file"].to_pylist()))
    return _followed(tables, Touched(track, items, row["file_sha256"], files, _pairs_of(tables, track, items)), runs)


def touched_by(tables: Tables, tombstone: Tombstone, runs: Sequence[str] = ()) -> Touched:
    """Find what is left of what a tombstone names: forgetting was begun, and did not come to its end."""
    found = Touched(tombstone.track, list(tombstone.items), tombstone.file_sha256, [], list(tombstone.pairs))
    ids = set(tombstone.items)
    for row in tables.read(tombstone.track, columns=["id", "file"]).to_pylist():
        if row["id"] in ids:
            found.files.append(row["file"])
    found = _followed(tables, found, runs)
    found.indexes = sorted({*found.indexes, *tombstone.indexes})
    return found


def _followed(tables: Tables, found: Touched, runs: Sequence[str]) -> Touched:
    files = files_of(tables.root)
    for batch in outcomes_of(tables, found.rows):
        found.outcomes += batch.num_rows
        found.artifacts += [each for listed in batch["artifacts"].to_pylist() for each in listed or []]
    found.shards = shards_with(tables, found.rows)
    found.indexes = _indexes_with(files, {row["id"] for row in found.shards})
    found.labels = [f"{path}: {count}" for path, count in _labels(files, found.rows)]
    tokens = {*found.items, *found.pairs, *([found.file_sha256] if found.file_sha256 else [])}
    found.reports = [page for page, _ in pages_naming(files, tokens)]
    found.trainings = list(_trainings(runs, set(found.indexes), {*tokens, *(row["name"] for row in found.shards)}))
    found.tags = [f"{table} {tag}" for table, tag, _ in tags_holding(tables, found.track, found.rows)]
    return found


def _pairs_of(tables: Tables, track: str, items: Iterable[str]) -> list[str]:
    rows = tables.read("pairs", columns=["id", track[:-1]])
    chosen = rows.filter(pc.is_in(rows[track[:-1]], value_set=pa.array(list(items), pa.string())))
    return sorted(chosen["id"].to_pylist())


def outcomes_of(tables: Tables, rows: Iterable[str]) -> Iterator[Any]:
    """Give the outcomes of these rows, a batch at a time: key, stage, artifacts."""
    wanted = pa.array(sorted(rows), pa.string())
    dataset = tables.open("outcomes")
    for batch in dataset.to_batches(columns=["item", "key", "stage", "artifacts"]) if dataset is not None else ():
        yield batch.filter(pc.is_in(batch["item"], value_set=wanted))


def shards_with(tables: Tables, rows: Iterable[str]) -> list[dict[str, Any]]:
    """Return the shards, also those of earlier packs, that hold a sample of these rows."""
    gone = set(rows)
    every: list[dict[str, Any]] = tables.read("shards").to_pylist()
    return [row for row in every if not gone.isdisjoint(row["samples"])]


def _indexes_with(files: Files, shards: set[str]) -> list[str]:
    """Return the SHA-256 of every index that named one of these shards, also of earlier ones."""
    found = set()
    for place, data in indexes_of(files):
        try:
            _, lines = index_from(data, place)
        except ShardError:
            continue  # a damaged one: `verify` says so
        if any(SHARD + line.key in shards for line in lines):
            found.add(hashlib.sha256(data).hexdigest())
    return sorted(found)


def indexes_of(files: Files) -> Iterator[tuple[str, bytes]]:
    """Give place and bytes of every index that was ever published under a root."""
    for cut in files.names(FOLDER):
        for name in files.names(f"{FOLDER}/{cut}/indexes"):
            place = f"{FOLDER}/{cut}/indexes/{name}"
            yield place, files.read(place)


def _labels(files: Files, rows: frozenset[str]) -> Iterator[tuple[str, int]]:
    """Give each file of labels that a run under this root named, and how many of its lines are about these rows."""
    paths = set()
    for name in files.names("runs"):
        try:
            config = json.loads(files.read(f"runs/{name}")).get("config", {})
        except ValueError:
            continue
        paths.add((config.get("keep") or {}).get("labels"))
    for path in sorted(filter(None, paths)):
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except OSError:
            continue  # it lay on another machine
        count = sum(any(row in line for row in rows) for line in lines)
        if count:
            yield path, count


def pages_naming(files: Files, tokens: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
    """Give the pages under a root that name one of these words, and every report: their place, and their bytes.

    Of a file that names it in its own name (a picture by `look`) there are no bytes: all of it is about the row.
    Tables, artifacts and shards are not looked at: they are followed by other ways.
    """
    words = sorted(tokens)
    if not words:
        return
    for place in _places(files):
        name = place.rpartition("/")[2]
        if any(word in name for word in words):
            yield place, None
        elif place.endswith(_PAGES):
            data = files.read(place)
            is_report = REPORT_MARK.encode() in data[:_HEAD_BYTES]
            if is_report or (len(data) <= _LARGEST_PAGE and any(word.encode() in data for word in words)):
                yield place, data


def _places(files: Files) -> Iterator[str]:
    if not files.is_local:
        for folder in _FLAT:
            yield from (f"{folder}/{name}" for name in files.names(folder))
        return
    for folder, folders, names in os.walk(files.url):
        inside = os.path.relpath(folder, files.url)
        if inside == ".":
            folders[:] = sorted(set(folders) - {"tables", "artifacts", FOLDER, "downloads"})
        yield from (os.path.normpath(os.path.join(inside, name)) for name in sorted(names))


def _trainings(runs: Sequence[str], indexes: set[str], tokens: set[str]) -> Iterator[dict[str, str]]:
    """Give the trainings in these folders that read one of the indexes or name one of the words, and those that do not
    say what they read."""
    for run in (found for folder in runs for found in _folders(Path(folder), _DEPTH)):
        reading = run / READING
        if reading.exists():
            read = set(json.loads(reading.read_text())["indexes"])
            if read & indexes:
                yield {"folder": str(run), "how": f"read the index {sorted(read & indexes)[0]}"}
            continue
        pages = [page for page in run.glob("*") if page.suffix in (".json", ".yaml", ".yml") and page.is_file()]
        named = next((page for page in pages if any(word in page.read_text(errors="replace") for word in tokens)), None)
        if named is not None:
            yield {"folder": str(run), "how": f"is named in {named.name}"}
        else:
            yield {"folder": str(run), "how": f"does not say what it read: it has no {READING}"}


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """Give the folders of trainings in and below a folder."""
    if any((folder / mark).exists() for mark in _MARKS_OF_TRAINING):
        yield folder
    elif depth and folder.is_dir():
        for inner in sorted(folder.iterdir()):
            if inner.is_dir() and not inner.is_symlink():
                yield from _folders(inner, depth - 1)


def tags_holding(tables: Tables, track: str, rows: Iterable[str]) -> Iterator[tuple[str, str, int]]:
    """Give table, tag and version of each tag whose version holds one of these rows."""
    wanted = pa.array(sorted(rows), pa.string())
    for table, column in ((track, "id"), ("pairs", "id"), ("outcomes", "item")):
        for tag, version in tables.tags(table).items():
            try:
                ids = tables.read(table, columns=[column], version=version)[column]
            except TableError:
                continue  # a version that is gone
            if pc.any(pc.is_in(ids, value_set=wanted)).as_py():
                yield table, tag, version
