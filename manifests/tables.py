"""The Lance tables under one root: open, read, append, upsert, version, tag.

Any URL that Lance knows may be a root (manifests/remote.py). Whoever writes holds the lease of the root
(manifests/lease.py); readers need nothing and see whole versions only. Lance is not fork-safe: child processes are
spawned.
"""

import contextlib
import difflib
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

os.environ.setdefault("LANCE_LOG", "error")  # before the import: it would announce each new table as a warning

import lance
import pyarrow as pa

from manifests.errors import RootError, UserError
from manifests.files import files_of, root_of
from manifests.patience import StoreDown, is_passing, patience_s, patiently, told
from manifests.schema import TABLES

_METADATA_BYTES = 64_000_000
KEEP_VERSIONS = 500  # a reader that began before a clean-up still finds its version; more make each append slower


class TableError(UserError):
    """A table cannot be read or written as asked; the message is one sentence for the user."""


P = ParamSpec("P")
T = TypeVar("T")


def _patient(method: "Callable[Concatenate[Tables, P], T]") -> "Callable[Concatenate[Tables, P], T]":
    """Repeat a method, which must be harmless to repeat, while a store's errors are of the kind that passes."""

    @functools.wraps(method)
    def call(self: "Tables", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.patiently(lambda: method(self, *args, **kwargs))

    return call


class Tables:
    """The tables `sources`, `characters`, `pairs` and `outcomes` under one root."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = root_of(root)
        self._files = files_of(self.root)
        self._session: lance.Session | None = None  # keeps the connections to a store
        self._whole: set[str] = set()  # tables known to have more than one version, so that no mark is beside them

    def uri(self, name: str) -> str:
        """Return where a table lies."""
        if name not in TABLES:
            raise TableError(f"there is no table {name!r}; the tables are {', '.join(TABLES)}")
        return f"{self.root}/tables/{name}.lance"

    def patiently(self, action: Callable[[], T]) -> T:
        """Return what `action` gives; on a store its errors of the kind that passes are waited out.

        Raises:
            StoreDown: they did not pass.
            KeyboardInterrupt: Ctrl-C, which Lance wraps into an error of its own.
        """
        try:
            if self._files.is_local:
                return action()
            self._files.knock()
            return patiently(action, self.root, patience_s())
        except (OSError, ValueError, RuntimeError) as error:
            if "KeyboardInterrupt" in str(error):
                raise KeyboardInterrupt from error
            raise

    @_patient
    def open(self, name: str, version: int | str | None = None) -> Any | None:
        """Return the Lance dataset at a version or tag (newest if None), or None if the table was never written.

        Raises:
            TableError: it is there but damaged, or there is no such version or tag.
            RootError: the root cannot be reached, or is a file.
        """
        uri = self.uri(name)
        try:
            newest = lance.dataset(uri, **self._store())
        except (ValueError, OSError) as error:
            if self._may_pass(error):
                raise
            if self._was_never_written(name):
                return None
            lost = "was not found" in str(error)
            why = "its folder is there, but no version of it" if lost else told(error)
            raise TableError(
                f"table {name} at {uri} cannot be opened ({why}); if it is damaged, restore its folder "
                "from a copy before anything else is run, since what it held would be made again"
            ) from error
        if version is None:
            return newest
        try:
            return newest.checkout_version(version)
        except (ValueError, OSError) as error:
            if self._may_pass(error):
                raise
            known = ", ".join(f"{tag} ({number})" for tag, number in self.tags(name).items()) or "none"
            raise TableError(
                f"table {name} has no version or tag {version!r}: newest version is {newest.version}, tags: {known}"
            ) from error

    @_patient
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
            if self._may_pass(error):
                raise
            if where is None:
                raise TableError(f"table {name} cannot be read: {told(error)}") from error
            raise TableError(f"the condition {where!r} does not fit table {name}: {told(error)}") from error

    @_patient
    def count(self, name: str) -> int:
        """Return the number of rows in the newest version."""
        dataset = self.open(name)
        return 0 if dataset is None else int(dataset.count_rows())

    def append(self, name: str, rows: pa.Table, landed: Callable[[], bool] = lambda: False) -> None:
        """Append rows. `landed` says by its own mark whether an earlier try, whose answer was lost, did it."""
        rows = rows.cast(TABLES[name])
        tries = 0

        def attempt() -> None:
            nonlocal tries
            tries += 1
            if tries > 1 and landed():
                return
            with self._beginning(name):
                lance.write_dataset(rows, self.uri(name), mode="append", **self._store())

        self.patiently(attempt)

    @_patient
    def upsert(self, name: str, rows: pa.Table) -> int:
        """Insert rows, or replace those with the same id, and return the new version.

        Under the lease only: concurrent merges of one key duplicate it without an error (pylance 14, measured).
        """
        rows = rows.cast(TABLES[name])
        with self._beginning(name):
            dataset = self.open(name)
            if dataset is None:
                return int(lance.write_dataset(rows, self.uri(name), **self._store()).version)
            dataset.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)
        return self.version(name)

    @_patient
    def delete(self, name: str, where: str) -> None:
        """Delete the rows that fit an SQL condition."""
        dataset = self.open(name)
        if dataset is not None:
            dataset.delete(where)

    def version(self, name: str) -> int:
        """Return the newest version's number; 0 if the table was never written."""
        dataset = self.open(name)
        return 0 if dataset is None else int(dataset.version)

    @_patient
    def tags(self, name: str) -> dict[str, int]:
        """Return tag -> version number."""
        dataset = self.open(name)
        if dataset is None:
            return {}
        return {tag: int(about["version"]) for tag, about in sorted(dataset.tags.list().items())}

    @_patient
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
            raise TableError(f"version {number} of table {name} cannot be tagged {tag!r}: {told(error)}") from error
        return number

    @_patient
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
        try:
            dataset = self.open(name)
            if dataset is not None:
                dataset.optimize.compact_files()
                dataset.cleanup_old_versions(retain_versions=keep, error_if_tagged_old_versions=False)
        except (OSError, ValueError, StoreDown) as error:
            if isinstance(error, ValueError) and not self._may_pass(error):
                raise
            return False
        return True

    def _store(self) -> dict[str, Any]:
        """Return what Lance must be told of a store; nothing of a folder."""
        if self._files.is_local:
            return {}
        from manifests.remote import storage_options

        self._session = self._session or lance.Session(metadata_cache_size_bytes=_METADATA_BYTES)
        return {"storage_options": storage_options(self.root), "session": self._session}

    def _may_pass(self, error: BaseException) -> bool:
        return not self._files.is_local and is_passing(error)

    def _was_never_written(self, name: str) -> bool:
        """Tell a table that was never written, or whose first write was interrupted, from one that is damaged."""
        try:
            there = self._files.names(f"tables/{name}.lance")
        except OSError as error:
            why = f"{error.strerror or told(error)}; a root is a folder or a URL that may be read"
            raise RootError(f"{self.root} cannot be used: {why}") from error
        return not there or self._files.exists(f"tables/{name}.beginning")

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
        mark = f"tables/{name}.beginning"
        if version == 0:
            self._files.write(mark, b"")
        yield
        self._files.remove(mark)


def _unknown_column(name: str, column: str, schema: pa.Schema) -> str:
    near = difflib.get_close_matches(column, schema.names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"table {name} has no column {column!r}{hint} Its columns are {', '.join(schema.names)}"
