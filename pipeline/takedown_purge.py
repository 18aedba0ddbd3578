"""Where forgotten rows would live on: old versions of tables, pages about them, and copies on this machine."""

import contextlib
import json
import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from datetime import timedelta
from typing import Any, Final

from manifests.cache import Cache
from manifests.files import Files
from manifests.keys import digest
from manifests.tables import Tables
from pipeline.takedown import pages_naming, tags_holding

PURGED: Final = ("sources", "characters", "pairs", "outcomes", "shards")
_LINES: Final = (".jsonl", ".csv")  # a line is a record: it goes as a whole
_WHOLE: Final = (".html", ".md")  # reports, which may show pictures: they go as a whole
_THRESHOLDS: Final = (0.5, *(step / 100 for step in range(101)))


def move_tags(tables: Tables, files: Files, track: str, rows: Collection[str]) -> list[str]:
    """Take the tags off versions that hold these rows, since a version cannot be changed; returns sentences.

    A tag of table outcomes goes to the newest version, and numbers that percentiles became at the old one are written
    down at the new one as they were, so that no verdict changes. A tag of another table is removed: at the newest
    version it would name rows that it never named.
    """
    told = []
    for table, tag, version in list(tags_holding(tables, track, rows)):
        dataset = tables.open(table)
        assert dataset is not None
        if table == "outcomes":
            newest = tables.version(table)
            _move_percentiles(files, version, newest)
            tables.tag(table, tag, newest)
            told.append(f"tag {tag} of table outcomes: version {version} -> {newest}, numbers of percentiles kept")
        else:
            dataset.tags.delete(tag)
            told.append(f"tag {tag} of table {table} removed: its version {version} held what was forgotten")
    return told


def _move_percentiles(files: Files, old: int, new: int) -> None:
    """Write what percentiles became at one version under the number of another (pipeline/keeping.py)."""
    for name in files.names("keep"):
        page = json.loads(files.read(f"keep/{name}"))
        if page.get("version") != old:
            continue
        percentiles = [
            {"score": limit["score"], "side": limit["side"], "percent": limit["percentile"]} for limit in page["limits"]
        ]
        moved = f"keep/{digest([percentiles, new, page['recipes']])}.json"
        files.write(moved, json.dumps({**page, "version": new}, sort_keys=True, indent=2).encode())


def write_anew(tables: Tables) -> None:
    """Write the tables without deleted rows; until then a version shows them no more, and its files still hold them."""
    for table in PURGED:
        dataset = tables.open(table)
        if dataset is not None:
            dataset.optimize.compact_files(materialize_deletions=True, materialize_deletions_threshold=0.0)
            # a version says by which condition rows were deleted: the newest must be one that names none
            tables.delete(table, f"{'item' if table == 'outcomes' else 'id'} IS NULL")


def purge_versions(tables: Tables) -> None:
    """Remove every version of the tables but the newest and those with tags, and every file that none of them needs."""
    for table in PURGED:
        dataset = tables.open(table)
        if dataset is not None:
            dataset.cleanup_old_versions(timedelta(0), delete_unverified=True, error_if_tagged_old_versions=False)


def redact(files: Files, tokens: Iterable[str], instead: str) -> list[str]:
    """Take these words out of all pages under a root; returns the places of those that were changed or removed.

    Pictures and reports about them go as a whole; of lists of records the lines that name one; in other pages the word
    is replaced by `instead`.
    """
    words = sorted(tokens, key=len, reverse=True)
    named = b"|".join(re.escape(word.encode()) for word in words)
    told = []
    for place, data in list(pages_naming(files, words)):
        told.append(place)
        if data is None or place.endswith(_WHOLE):
            files.remove(place)
        elif place.endswith(_LINES):
            kept = [line for line in data.splitlines(keepends=True) if not any(word.encode() in line for word in words)]
            files.write(place, b"".join(kept))
        else:
            files.write(place, re.sub(named, instead.encode(), data))
    return told


def remove_orphans(files: Files, known: Collection[str]) -> int:
    """Remove artifacts of keys that the ledger does not know: a killed worker published them, and nobody asked since.

    What they show cannot be told any more; who needs one makes it again. Returns how many files went.
    """
    count = 0
    for stage in files.names("artifacts"):
        for part in files.names(f"artifacts/{stage}"):
            for name in files.names(f"artifacts/{stage}/{part}"):
                if name.partition(".")[0] not in known:
                    files.remove(f"artifacts/{stage}/{part}/{name}")
                    count += 1
    return count


def forget_shots(files: Files, file_sha256: str) -> int:
    """Remove the shots of a film that an import kept (pipeline/shot_cache.py); returns how many pages went."""
    there = set(files.names("shots"))
    if not there:
        return 0
    from stages.shots import recipe

    made_by = recipe()
    mine = {f"{digest([file_sha256, threshold, made_by])}.json" for threshold in _THRESHOLDS}
    for name in there & mine:
        files.remove(f"shots/{name}")
    return len(there & mine)


def forget_copies(root: str, places: Iterable[str]) -> None:
    """Remove this machine's copies of files of a root that is a URL."""
    cache = Cache()
    for place in places:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(cache.folder / digest(f"{root}/{place}"))


def keys_known(tables: Tables) -> Iterator[str]:
    """Give the key of every outcome."""
    dataset: Any = tables.open("outcomes")
    for batch in dataset.to_batches(columns=["key"]) if dataset is not None else ():
        yield from batch["key"].to_pylist()
