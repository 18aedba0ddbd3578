"""Lists of inputs: a folder, a glob, or a CSV, JSONL, Parquet or YAML file, as a stream of entries.

A list is looked through once when it is opened (columns, number of rows), so that what is wrong with the list as a
whole is said before anything is imported; then it is read row by row, and nothing is kept in memory.

A YAML list is a mapping with `files`, a list of rows, and optionally `defaults`, a row for what the others leave open.
"""

import csv
import difflib
import glob
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

from manifests.entries import COLUMNS, Entry, entry_of, is_under, readable, rejected
from manifests.errors import UserError

VIDEO_SUFFIXES: Final = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"),
)
PICTURE_SUFFIXES: Final = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# a first filter for folders and globs; what a file really is, the inspection finds out
MEDIA_SUFFIXES: Final = {"sources": frozenset(VIDEO_SUFFIXES), "characters": frozenset(PICTURE_SUFFIXES)}
_ALIASES: Final = {"license": "licence"}
_MAX_BATCH_ROWS: Final = 1024

_Row = Mapping[str, Any]


class ListError(UserError):
    """A list as a whole cannot be read; the message is one sentence for the user."""


@dataclass(frozen=True)
class _Broken:
    """A row that could not even be split into columns."""

    why: str


@dataclass(frozen=True)
class _Header:
    """The columns of a list, before its first row."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class MediaList:
    """A list that was looked through: `size` entries, which iterating gives one by one, in a fixed order."""

    kind: str
    path: str
    base: str
    size: int
    ignored_columns: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Entry]:
        """Give the entries; those that cannot be used carry a reason."""
        if _form(self.path) in ("folder", "glob"):
            yield from _entries_of_files(self)
            return
        folder = os.path.dirname(self.path)
        for line, row in _rows(self.path):
            place, where = f"{self.path}#{line}", f"line {line} of {os.path.basename(self.path)}"
            if isinstance(row, _Broken):
                yield rejected(place, line, "bad_line", f"{where}: {row.why}")
            elif not isinstance(row, _Header):
                known = {name: value for name, value in row.items() if name in COLUMNS[self.kind]}
                yield entry_of(known, line=line, place=place, where=where, folder=folder, base=self.base)


def open_list(path: str, kind: str, *, base: str | None = None, ignore_unknown_columns: bool = False) -> MediaList:
    """Look a list through and return it.

    `kind` is sources or characters. Relative paths begin at the list's folder. Every file must lie under `base` once
    links and `..` are resolved; `base` is the list's own folder, the folder itself, or the part of a glob before its
    first wildcard, unless another is named.

    Raises:
        ListError: there is no such list, it cannot be read, or its columns are not those of `kind`.
    """
    path = os.path.abspath(os.path.expanduser(path))
    form = _form(path)
    if form == "folder":
        root = path
    elif form == "glob":
        root = _folder_of_glob(path)
    elif os.path.isfile(path):
        root = os.path.dirname(path)
    else:
        raise ListError(
            f"there is no list at {readable(path)}; wanted a folder, a glob, or a .csv, .jsonl, .parquet or .yaml file"
        )
    if base is not None and not os.path.isdir(base):
        raise ListError(f"--base names {base}, which is no folder")
    opened = MediaList(kind, path, os.path.realpath(base or root), 0)
    if form in ("folder", "glob"):
        return replace(opened, size=sum(1 for _ in opened))
    size = 0
    columns: dict[str, None] = {}
    for _, row in _rows(path):
        size += not isinstance(row, _Header)
        if not isinstance(row, _Broken):
            columns.update(dict.fromkeys(row.names if isinstance(row, _Header) else row))
    unknown = [name for name in columns if name not in COLUMNS[kind]]
    if unknown and not ignore_unknown_columns:
        raise ListError(_unknown_columns(path, unknown, kind))
    if columns and "path" not in columns:
        raise ListError(f"{path} has no column 'path'; its columns are {', '.join(columns)}")
    return replace(opened, size=size, ignored_columns=tuple(unknown))


def _form(path: str) -> str:
    if os.path.isdir(path):
        return "folder"
    if not os.path.exists(path) and glob.has_magic(path):
        return "glob"
    return _suffix(path)


def _folder_of_glob(pattern: str) -> str:
    parts = Path(pattern).parts
    plain = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return str(Path(*parts[:plain]))


def _entries_of_files(found: MediaList) -> Iterator[Entry]:
    suffixes, base = MEDIA_SUFFIXES[found.kind], found.base
    walked = os.path.isdir(found.path)
    names = _walk(found.path, base) if walked else sorted(glob.iglob(found.path, recursive=True))
    wanted = (name for name in names if _is_outside_folder(name, base) or _suffix(name) in suffixes)
    for number, name in enumerate((name for name in wanted if walked or not os.path.isdir(name)), 1):
        where = os.path.basename(name)
        yield entry_of({"path": name}, line=number, place=name, where=where, folder=base, base=base)


def _walk(folder: str, base: str) -> Iterator[str]:
    """Give the files under a folder in order, without hidden ones, and linked folders that lead outside the base.

    Folders that are linked from inside are followed, each once, so that a circle of links ends.
    """
    seen = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen or not is_under(real, base):
            folders.clear()
            if real not in seen:
                yield here
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(here, name) for name in sorted(names) if not name.startswith("."))


def _is_outside_folder(name: str, base: str) -> bool:
    return os.path.isdir(name) and not is_under(os.path.realpath(name), base)


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _rows(path: str) -> Iterator[tuple[int, _Row | _Broken | _Header]]:
    """Give line (or row) number and row of a list file, by its ending."""
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet}
    readers |= {".yaml": _yaml, ".yml": _yaml}
    suffix = _suffix(path)
    if suffix not in readers:
        raise ListError(f"{path}: the form of a list is known by its ending, wanted one of {', '.join(readers)}")
    try:
        yield from readers[suffix](path)
    except UnicodeDecodeError as error:
        raise ListError(f"{path} is not UTF-8 (byte {error.object[error.start]:#04x}); save it as UTF-8") from error
    except OSError as error:
        raise ListError(f"{path} cannot be read: {error.strerror or error}") from error


def _csv(path: str) -> Iterator[tuple[int, _Row | _Broken | _Header]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        mark = next((mark for mark in ",\t;" if mark in first), ",")
        reader = csv.reader(file, delimiter=mark, strict=True)
        names: list[str] = []
        for at, fields in _split_rows(reader, path):
            if isinstance(fields, _Broken):
                yield at, fields
            elif not names:
                names = _names(fields, path)
                yield at, _Header(tuple(names))
            elif len(fields) != len(names):
                yield at, _Broken(f"it has {len(fields)} fields, the first line names {len(names)} columns")
            else:
                yield at, dict(zip(names, fields, strict=True))
    if not names:
        raise ListError(f"{path} is empty; a CSV list begins with a line of column names, at least 'path'")


def _split_rows(reader: Any, path: str) -> Iterator[tuple[int, list[str] | _Broken]]:
    """Give line number and fields of the rows of a `csv.reader` that are not empty."""
    while True:
        at = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "end of data" in str(error) or "limit" in str(error):  # all the lines after it would be one field
                raise ListError(f"{path}, line {at}: a quote begins that is never closed ({error})") from error
            yield at, _Broken(f"it is not CSV: {error}")
            continue
        if any(field.strip() for field in fields):
            yield at, fields


def _jsonl(path: str) -> Iterator[tuple[int, _Row | _Broken | _Header]]:
    with open(path, "rb") as file:
        for line, text in enumerate(file, 1):
            try:
                row = json.loads(text.decode("utf-8-sig" if line == 1 else "utf-8")) if text.strip() else None
            except (ValueError, RecursionError) as error:
                yield line, _Broken(f"it is not JSON: {error}")
                continue
            if row is None and not text.strip(b"\xef\xbb\xbf \t\r\n"):
                continue
            if isinstance(row, dict):
                yield line, {_name(key): value for key, value in row.items()}
            else:
                yield line, _Broken(f"wanted a JSON object, found a {type(row).__name__}")


def _parquet(path: str) -> Iterator[tuple[int, _Row | _Broken | _Header]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = _names(file.schema_arrow.names, path)
            yield 0, _Header(tuple(names))
            number = 0
            for batch in file.iter_batches(_MAX_BATCH_ROWS):
                for values in batch.to_pylist():
                    number += 1
                    yield number, dict(zip(names, values.values(), strict=True))
    except pa.ArrowException as error:
        raise ListError(f"{path} is no Parquet file that can be read: {str(error).splitlines()[0]}") from error


def _yaml(path: str) -> Iterator[tuple[int, _Row | _Broken | _Header]]:
    with open(path, encoding="utf-8-sig") as file:
        try:
            whole = yaml.safe_load(file)
        except yaml.YAMLError as error:
            raise ListError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(whole, dict) or not isinstance(whole.get("files"), list):
        raise ListError(f"{path}: wanted a mapping with `files`, a list of rows")
    strange = sorted(str(key) for key in whole if key not in ("files", "defaults", "about"))
    defaults = whole.get("defaults") or {}
    if strange or not isinstance(defaults, dict):
        raise ListError(
            f"{path}: wanted `files`, `defaults` (a mapping) and `about`, found {', '.join(strange) or 'others'}"
        )
    for number, row in enumerate(whole["files"], 1):
        if isinstance(row, dict):
            yield number, {_name(key): value for key, value in {**defaults, **row}.items()}
        else:
            yield number, _Broken(f"wanted a mapping such as `path: a.mp4`, found {str(row)[:60]!r}")


def _name(name: object) -> str:
    text = str(name).strip().lower()
    return _ALIASES.get(text, text)


def _names(fields: list[str], path: str) -> list[str]:
    names = [_name(field) for field in fields]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ListError(f"{path} names a column twice: {', '.join(twice)}")
    return names


def _unknown_columns(path: str, unknown: list[str], kind: str) -> str:
    near = difflib.get_close_matches(unknown[0], COLUMNS[kind], n=1, cutoff=0.5)
    hint = f", did you mean {near[0]!r}?" if near else ";"
    names = ", ".join(repr(name) for name in unknown[:5])
    known = ", ".join(COLUMNS[kind])
    return (
        f"{path} has unknown columns {names}{hint} Known columns: {known} (--ignore-unknown-columns passes over them)"
    )
