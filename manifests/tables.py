"""The Lance tables under one root: open, read, append, upsert, version, tag.

Any fsspec URL may be a root. Whoever writes holds the lease of the root (manifests/lease.py); readers need nothing and
see whole versions only. Lance is not fork-safe: child processes are spawned.
"""

import difflib
import os
import re
from datetime import timedelta
from typing import Any

os.environ.setdefault("LANCE_LOG", "error")  # before the import: it would announce each new table as a warning

import lance
import pyarrow as pa

from manifests.errors import UserError
from manifests.schema import TABLES

KEEP_OLD_VERSIONS = timedelta(minutes=10)  # a reader that began before a clean-up still finds its version


class TableError(UserError):
    """A table cannot be read or written as asked; the message is one sentence for the user."""


def root_of(root: str | os.PathLike[str]) -> str:
    """Return a root as an absolute path or a URL without a trailing slash."""
    text = os.fspath(root)
    if "://" in text:
        return text.removeprefix("file://").rstrip("/")
    return os.path.abspath(os.path.expanduser(text))


class Tables:
    """The tables `sources`, `characters`, `pairs` and `outcomes` under one root."""

    def __init__(self, root: str | os.PathLike[str], storage_options: dict[str, str] | None = None) -> None:
        self.root = root_of(root)
        self._options = storage_options

    def uri(self, name: str) -> str:
        """Return where a table lies."""
        if name not in TABLES:
            raise TableError(f"there is no table {name!r}; the tables are {', '.join(TABLES)}")
        return f"{self.root}/tables/{name}.lance"

    def open(self, name: str, version: int | str | None = None) -> Any | None:
        """Return the Lance dataset at a version or tag (newest if None), or None if the table was never written."""
        uri = self.uri(name)
        try:
            newest = lance.dataset(uri, storage_options=self._options)
        except (ValueError, OSError) as error:
            if "not found" in str(error).lower() or "does not exist" in str(error).lower():
                return None
            raise TableError(f"table {name} at {uri} cannot be opened: {_first_line(error)}") from error
        if version is None:
            return newest
        try:
            return newest.checkout_version(version)
        except (ValueError, OSError) as error:
            known = ", ".join(f"{tag} ({number})" for tag, number in self.tags(name).items()) or "none"
            raise TableError(
                f"table {name} has no version or tag {version!r}: newest version is {newest.version}, tags: {known}"
            ) from error

    def read(
        self,
        name: str,
        *,
        columns: list[str] | None = None,
        where: str | None = None,
        version: int | str | None = None,
        limit: int | None = None,
    ) -> pa.Table:
        """Return rows of a table; empty if it was never written.

        `where` is an SQL condition (DataFusion's dialect), `version` a number or a tag.

        Raises:
            TableError: the condition, a column, the version or the tag is not understood.
        """
        schema = TABLES.get(name)
        for column in columns or []:
            if schema is not None and column not in schema.names:
                raise TableError(_unknown_column(name, column, schema))
        dataset = self.open(name, version)
        if dataset is None:
            empty = TABLES[name].empty_table()
            return empty.select(columns) if columns is not None else empty
        try:
            return dataset.to_table(columns=columns, filter=where, limit=limit)
        except (ValueError, OSError, pa.ArrowInvalid) as error:
            if where is None:
                raise TableError(f"table {name} cannot be read: {_first_line(error)}") from error
            raise TableError(f"the condition {where!r} does not fit table {name}: {_first_line(error)}") from error

    def count(self, name: str) -> int:
        """Return the number of rows in the newest version."""
        dataset = self.open(name)
        return 0 if dataset is None else int(dataset.count_rows())

    def append(self, name: str, rows: pa.Table) -> int:
        """Append rows and return the new version. A caller that must not append twice looks for its own mark first."""
        dataset = lance.write_dataset(
            rows.cast(TABLES[name]), self.uri(name), mode="append", storage_options=self._options
        )
        return int(dataset.version)

    def upsert(self, name: str, rows: pa.Table) -> int:
        """Insert rows, or replace those with the same id, and return the new version.

        Under the lease only: concurrent merges of one key duplicate it without an error (pylance 14, measured).
        """
        rows = rows.cast(TABLES[name])
        dataset = self.open(name)
        if dataset is None:
            return int(lance.write_dataset(rows, self.uri(name), storage_options=self._options).version)
        dataset.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)
        return self.version(name)

    def delete(self, name: str, where: str) -> None:
        """Delete the rows that fit an SQL condition."""
        dataset = self.open(name)
        if dataset is not None:
            dataset.delete(where)

    def version(self, name: str) -> int:
        """Return the newest version's number; 0 if the table was never written."""
        dataset = self.open(name)
        return 0 if dataset is None else int(dataset.version)

    def tags(self, name: str) -> dict[str, int]:
        """Return tag -> version number."""
        dataset = self.open(name)
        if dataset is None:
            return {}
        return {tag: int(about["version"]) for tag, about in sorted(dataset.tags.list().items())}

    def tag(self, name: str, tag: str, version: int | None = None) -> int:
        """Name a version (the newest if None) so that it is kept and can be read by that name; moves a tag that exists.

        Returns:
            The version's number.
        """
        dataset = self.open(name)
        if dataset is None:
            raise TableError(f"table {name} was never written, so there is nothing to tag; import something first")
        number = int(dataset.version) if version is None else version
        try:
            if tag in dataset.tags.list():
                dataset.tags.update(tag, number)
            else:
                dataset.tags.create(tag, number)
        except (ValueError, OSError) as error:
            raise TableError(
                f"version {number} of table {name} cannot be tagged {tag!r}: {_first_line(error)}"
            ) from error
        return number

    def compact(self, name: str, keep: timedelta = KEEP_OLD_VERSIONS) -> None:
        """Join small fragments and drop versions older than `keep`; tagged versions stay.

        Manifests grow quadratically without it (2,500 appends: 266 of 277 MB were manifests).
        """
        dataset = self.open(name)
        if dataset is not None:
            dataset.optimize.compact_files()
            dataset.cleanup_old_versions(keep, error_if_tagged_old_versions=False)


def _unknown_column(name: str, column: str, schema: pa.Schema) -> str:
    near = difflib.get_close_matches(column, schema.names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"table {name} has no column {column!r}{hint} Its columns are {', '.join(schema.names)}"


def _first_line(error: BaseException) -> str:
    """Return an engine's message without the place in its own source code."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r",? /\S+\.rs:\d+:\d+$", "", lines[0])[:300]
