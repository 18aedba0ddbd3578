"""The Lance tables under one root: open, read, append, upsert, version, tag.

Any fsspec URL may be a root. Whoever writes holds the lease of the root (manifests/lease.py); readers need nothing and
see whole versions only. Lance is not fork-safe: child processes are spawned.
"""

import contextlib
import difflib
import os
import re
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("LANCE_LOG", "error")  # before the import: it would announce each new table as a warning

import fsspec
import lance
import pyarrow as pa

from manifests.errors import RootError, UserError
from manifests.schema import TABLES

KEEP_VERSIONS = 500  # a reader that began before a clean-up still finds its version; more make each append slower


class TableError(UserError):
    """A table cannot be read or written as asked; the message is one sentence for the user."""


def root_of(root: str | os.PathLike[str]) -> str:
    """Return a root as an absolute path or a URL without a trailing slash."""
    text = os.fspath(root)
    if "://" in text:
        return text.removeprefix("file://").rstrip("/")
    return os.path.abspath(os.path.expanduser(text))


def open_root(root: str) -> tuple[Any, str]:
    """Return the fsspec file system of a root and the root's path in it; listings are never cached.

    Raises:
        RootError: nothing that is installed can reach it.
    """
    try:
        fs, path = fsspec.core.url_to_fs(root, use_listings_cache=False)
    except (ImportError, ValueError, OSError) as error:
        raise RootError(
            f"{root} cannot be reached from here ({_first_line(error)}); "
            "install the driver that this names, or take a root that is a folder"
        ) from error
    return fs, path


class Tables:
    """The tables `sources`, `characters`, `pairs` and `outcomes` under one root."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = root_of(root)
        self._whole: set[str] = set()  # tables known to have more than one version, so that no mark is beside them

    def uri(self, name: str) -> str:
        """Return where a table lies."""
        if name not in TABLES:
            raise TableError(f"there is no table {name!r}; the tables are {', '.join(TABLES)}")
        return f"{self.root}/tables/{name}.lance"

    def open(self, name: str, version: int | str | None = None) -> Any | None:
        """Return the Lance dataset at a version or tag (newest if None), or None if the table was never written.

        Raises:
            TableError: it is there but damaged, or there is no such version or tag.
            RootError: the root cannot be reached, or is a file.
        """
        uri = self.uri(name)
        try:
            newest = lance.dataset(uri)
        except (ValueError, OSError) as error:
            if self._was_never_written(name):
                return None
            lost = "was not found" in str(error)
            why = "its folder is there, but no version of it" if lost else _first_line(error)
            raise TableError(
                f"table {name} at {uri} cannot be opened ({why}); if it is damaged, restore its folder "
                "from a copy before anything else is run, since what it held would be made again"
            ) from error
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
        rows = rows.cast(TABLES[name])
        with self._beginning(name):
            return int(lance.write_dataset(rows, self.uri(name), mode="append").version)

    def upsert(self, name: str, rows: pa.Table) -> int:
        """Insert rows, or replace those with the same id, and return the new version.

        Under the lease only: concurrent merges of one key duplicate it without an error (pylance 14, measured).
        """
        rows = rows.cast(TABLES[name])
        with self._beginning(name):
            dataset = self.open(name)
            if dataset is None:
                return int(lance.write_dataset(rows, self.uri(name)).version)
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

    def fragments(self, name: str) -> int:
        """Return the number of fragments that the newest version is made of: one an append since `compact`."""
        dataset = self.open(name)
        return 0 if dataset is None else len(dataset.get_fragments())

    def compact(self, name: str, keep: int = KEEP_VERSIONS) -> bool:
        """Join small fragments and drop all but the newest `keep` versions; tagged ones stay.

        Manifests grow quadratically without it (2,500 appends: 266 of 277 MB were manifests). It only tidies: where the
        store does not let it (a full disk), the rows are as safe as before, and a later call does it.

        Returns:
            Whether it was done.
        """
        dataset = self.open(name)
        if dataset is None:
            return True
        try:
            dataset.optimize.compact_files()
            dataset.cleanup_old_versions(retain_versions=keep, error_if_tagged_old_versions=False)
        except OSError:
            return False
        return True

    def _was_never_written(self, name: str) -> bool:
        """Tell a table that was never written, or whose first write was interrupted, from one that is damaged."""
        fs, base = open_root(self.root)
        try:
            there = fs.ls(f"{base}/tables/{name}.lance", detail=False)
        except FileNotFoundError:
            return True
        except OSError as error:
            why = error.strerror or _first_line(error)
            raise RootError(
                f"{self.root} cannot be used: {why}; a root is a folder or a URL that may be read"
            ) from error
        return not there or fs.exists(f"{base}/tables/{name}.beginning")

    @contextlib.contextmanager
    def _beginning(self, name: str) -> Iterator[None]:
        """Leave a mark beside a table while its first version is written.

        A first write that was killed leaves files without a version, as a table does whose versions are lost; the mark
        tells them apart. One that was killed behind its commit leaves the mark: the second write takes it away.
        """
        version = None if name in self._whole else self.version(name)
        if version is None or version > 1:
            self._whole.add(name)
            yield
            return
        fs, base = open_root(self.root)
        mark = f"{base}/tables/{name}.beginning"
        if version == 0:
            fs.makedirs(f"{base}/tables", exist_ok=True)
            fs.pipe_file(mark, b"")
        yield
        with contextlib.suppress(FileNotFoundError):
            fs.rm_file(mark)


def _unknown_column(name: str, column: str, schema: pa.Schema) -> str:
    near = difflib.get_close_matches(column, schema.names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"table {name} has no column {column!r}{hint} Its columns are {', '.join(schema.names)}"


def _first_line(error: BaseException) -> str:
    """Return an engine's message without the place in its own source code."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r",? /\S+\.rs:\d+:\d+", "", lines[0])[:300]
